//! `hardy doctor`: tries everything a cluster needs and says what to do about what fails.

use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::jobs::print_json;
use super::{SettingsArgs, cluster, compute, weights};
use crate::config::{ModelSettings, Settings};
use crate::error::{Error, Kind, Result};
use crate::queue::{self, Topic};
use crate::store::{Key, S3Store, Store};

/// How long a broker or a store may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy doctor --config configs/cluster.toml
  hardy doctor --json | jq '.[] | select(.ok | not)'

The exit code is 0 when all is well, else that of the first thing that is not.")]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Leave out what only workers need: device and weights.
    #[arg(long)]
    client: bool,
}

struct Finding {
    what: String,
    result: Result<String>,
    /// What to do when it failed.
    advice: &'static str,
}

pub(super) fn run(args: DoctorArgs, as_json: bool) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    let mut findings = cluster::block_on(async {
        let mut findings = broker(&settings).await;
        findings.extend(store(&settings).await);
        Ok(findings)
    })?;
    if !args.client {
        findings.push(device(&settings.model));
        findings.push(Finding {
            what: "starting weights".into(),
            result: weights::starting(&settings).map(|found| match found {
                Some(w) => format!("{} ({} tensors)", settings.model.weights, w.len()),
                None => "fresh ones, as model.weights = none asks for".into(),
            }),
            advice: "run deploy/setup.sh, set HARDY_WEIGHTS_DIR, or name a file in model.weights",
        });
    }
    if as_json {
        let rows = findings.iter().map(|f| {
            let (ok, text) = match &f.result {
                Ok(text) => (true, text.clone()),
                Err(e) => (false, e.chain()),
            };
            json!({ "check": f.what, "ok": ok, "found": text, "advice": if ok { None } else { Some(f.advice) } })
        });
        print_json(&rows.collect::<Vec<_>>())?;
    } else {
        for finding in &findings {
            match &finding.result {
                Ok(text) => println!("ok      {:<28} {text}", finding.what),
                Err(e) => println!("FAILED  {:<28} {}\n        {:<28} {}", finding.what, e.chain(), "", finding.advice),
            }
        }
    }
    let failed: Vec<&Finding> = findings.iter().filter(|f| f.result.is_err()).collect();
    match failed.first().map(|f| &f.result) {
        Some(Err(e)) => Err(Error::new(e.kind(), format!("{} of {} checks failed", failed.len(), findings.len()))),
        _ => Ok(()),
    }
}

async fn broker(settings: &Settings) -> Vec<Finding> {
    let advice = "check queue.url (HARDY_QUEUE__URL), the vhost, the user's permissions and queue.prefix";
    let found = async {
        let queue = queue::connect(&settings.queue, Some(PATIENCE)).await?;
        let mut waiting = 0;
        for topic in Topic::TASKS {
            waiting += queue.backlog(topic).await?;
        }
        let dead = queue.backlog(Topic::Dead).await?;
        Ok(format!("queues are as they should be; {waiting} tasks wait, {dead} dead letters"))
    };
    vec![Finding { what: "broker".into(), result: found.await, advice }]
}

async fn store(settings: &Settings) -> Vec<Finding> {
    let advice =
        "check store.url, store.endpoint, store.region and the credentials (AWS_ACCESS_KEY_ID, a profile, or a role)";
    let url = &settings.store.url;
    if url.starts_with("s3://") {
        let checks = match S3Store::open(url, &settings.store, PATIENCE).await {
            Ok(store) => store.probe().await,
            Err(e) => return vec![Finding { what: "store".into(), result: Err(e), advice }],
        };
        return checks
            .into_iter()
            .map(|c| Finding { what: format!("store: {}", c.name), result: c.result, advice })
            .collect();
    }
    let found = async {
        let store = cluster::store(settings).await?;
        let key = Key::new(format!("probe-{:016x}", rand::random::<u64>()))?;
        let store: &dyn Store = &*store;
        let blob = store.put_bytes(&key, "probe").await?;
        store.get_blob(&blob).await?;
        store.delete(&key).await?;
        Ok(format!("{url} can be written, read and tidied"))
    };
    vec![Finding { what: "store".into(), result: found.await, advice: "the folder must exist and be writable" }]
}

/// Starts the program that computes and asks it what it would compute with, given these settings.
fn device(settings: &ModelSettings) -> Finding {
    let advice = "libtorch must be found: run deploy/setup.sh and make build, or use the worker's image; and model.device \
                  and model.bf16 must name what this machine has";
    let result = compute::beside().and_then(|program| {
        let failed = |why: String| Error::new(Kind::Model, format!("{} does not work: {why}", program.display()));
        let asked = [format!("model.device={}", settings.device), format!("model.bf16={}", settings.bf16)];
        let asked = asked.iter().flat_map(|setting| ["--set", setting]);
        let output = Command::new(&program).arg("device").args(asked).output().map_err(|e| failed(e.to_string()))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_string()),
            false => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_string())),
        }
    });
    Finding { what: "device".into(), result, advice }
}
