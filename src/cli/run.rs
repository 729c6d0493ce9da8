//! `hardy run`, `hardy evaluate`, `hardy augment`: a job in this process.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::TryStreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::model::ScriptArgs;
use super::terminal::{Audience, observer};
use super::{SettingsArgs, cluster, weights};
use crate::config::{JobKind, Settings};
use crate::coordinator::{JobSpec, Program, export, now};
use crate::dataset;
use crate::embedded::Home;
use crate::error::{Context, Error, Kind, Result};
use crate::model::{self, Brought, Described};
use crate::report::{Report, headline};
use crate::store::{Key, Store};
use crate::task::{JobId, VERSION};

/// Flags of every job in this process.
#[derive(Debug, Args)]
pub(super) struct JobArgs {
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
    /// Threads of work; the result does not depend on it. Default: one per core.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy dataset synth --out photos --per-class 80 && hardy run --data photos --out first-run
  hardy run --config configs/flowers.toml --data flower_photos --out flowers-run
  hardy run --data photos.tgz --out run --set train.rounds=5 --set adversary.epsilon=8/255

The same command goes on where an interrupted run stopped.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The photos: a folder of class folders (or of train/, val/, test/ with class folders), a tar of one, or a list.
    #[arg(long, value_name = "PHOTOS")]
    data: PathBuf,
    /// Where everything goes.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy evaluate --model flowers-run/model --data photos/val
  hardy evaluate --model flowers-run/model --data photos --out figures --set evaluate.epsilons=[0.03]")]
pub(super) struct EvaluateArgs {
    #[command(flatten)]
    job: JobArgs,
    /// A model's folder or file, TorchScript too, or `imagenet`.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    script: ScriptArgs,
    /// The photos: class folders, or sides of them, of which test or else val is measured.
    #[arg(long, value_name = "PHOTOS")]
    data: PathBuf,
    /// Where report and page go; without it only the figures are printed.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  hardy augment photos --model flowers-run/model --out photos-fgsm --set evaluate.static_epsilon=4/255

Writes <out>/[train|val|test/]<class>/<name>.png at the network's size and <out>/manifest.jsonl.")]
pub(super) struct AugmentArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The photos.
    data: PathBuf,
    /// A model's folder or file, TorchScript too, or `imagenet`.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    script: ScriptArgs,
    /// Where the pictures go.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(super) fn run(args: RunArgs, json: bool, quiet: bool) -> Result<()> {
    let settings = args.job.settings.resolve()?.settings;
    if settings.job.kind != JobKind::Train {
        let kind = settings.job.kind;
        return Err(Error::usage(format!("job.kind = \"{kind}\" is for hardy submit; here it is hardy {kind}")));
    }
    let start = weights::starting(&settings)?;
    let bytes = start.as_ref().map(model::checkpoint::write).transpose()?;
    let request = Request { program: Program::Train, settings, data: &args.data, bytes, model: None };
    perform(request, &args.out, &args.job, json, quiet)?;
    show(&args.out, json)
}

pub(super) fn evaluate(args: EvaluateArgs, json: bool, quiet: bool) -> Result<()> {
    let brought = args.script.bring(&args.model)?;
    let settings = args.job.settings.resolve()?.settings;
    let scratch = tempfile::tempdir().context(Kind::Storage, || "no temporary folder can be made".into())?;
    let out = args.out.as_deref().unwrap_or(scratch.path());
    let request = Request::of(Program::Evaluate, settings, &args.data, brought);
    perform(request, out, &args.job, json, quiet)?;
    show(out, json)
}

pub(super) fn augment(args: AugmentArgs, json: bool, quiet: bool) -> Result<()> {
    let brought = args.script.bring(&args.model)?;
    let settings = args.job.settings.resolve()?.settings;
    let request = Request::of(Program::Augment, settings, &args.data, brought);
    perform(request, &args.out, &args.job, json, quiet)?;
    let manifest = args.out.join("manifest.jsonl");
    let text = std::fs::read_to_string(&manifest)
        .context(Kind::Storage, || format!("{} cannot be read", manifest.display()))?;
    let pictures = text.lines().count();
    if json {
        println!("{}", json!({ "pictures": pictures, "manifest": manifest }));
    } else {
        println!("{pictures} adversarial pictures in {}, listed in {}", args.out.display(), manifest.display());
    }
    Ok(())
}

/// What is to be done.
pub(super) struct Request<'a> {
    program: Program,
    settings: Settings,
    data: &'a Path,
    /// Weights to start from, or the model as it was brought.
    bytes: Option<Vec<u8>>,
    model: Option<Described>,
}

impl<'a> Request<'a> {
    /// To look at a model that was brought.
    pub(super) fn of(program: Program, settings: Settings, data: &'a Path, brought: Brought) -> Self {
        let settings = brought.spec.fit(settings);
        Self { program, settings, data, bytes: Some(brought.bytes), model: Some(brought.spec) }
    }
}

/// Runs or resumes the job of `request` in `out` and leaves its results there.
pub(super) fn perform(request: Request, out: &Path, args: &JobArgs, json: bool, quiet: bool) -> Result<()> {
    let home = out.join(".hardy");
    std::fs::create_dir_all(&home)
        .context(Kind::Storage, || format!("the output folder {} cannot be written", out.display()))?;
    let _lock = lock(&home, out)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = args.workers.unwrap_or(request.settings.worker.count);
    let workers = if count == 0 { cores } else { count };
    let audience = match (quiet, json) {
        (true, _) => Audience::Nobody,
        (_, true) => Audience::Program,
        _ => Audience::Person,
    };
    // A computation that is still going on is given up: its task was not reported and will be done again.
    cluster::block_on(async {
        let local = Home::open(&home, workers, &request.settings)?;
        let spec = submit(&*local.store, &request, &home, out).await?;
        let store = local.store.clone();
        let id = spec.id.clone();
        local.run(spec, observer(audience)).await?;
        export(&*store, &id, out).await
    })
}

/// The job of `request`: that of an earlier run in `out` if it is the same one.
async fn submit(store: &dyn Store, request: &Request<'_>, home: &Path, out: &Path) -> Result<JobSpec> {
    let source = source(request.data, home)?;
    let settings = request.settings.of_job();
    let identity = json!({
        "settings": settings, "source": source, "program": request.program, "model": request.model,
        "weights": request.bytes.as_ref().map(|b| hex::encode(Sha256::digest(b))),
    });
    let digest = hex::encode(Sha256::digest(identity.to_string()));
    let id = JobId(format!("{}-{}", settings.job.name, &digest[..8]));
    let jobs = Key::new("jobs")?;
    let mut entries = store.list(Some(&jobs)).await?;
    while let Some(entry) = entries.try_next().await? {
        let other = entry.key.as_str().split('/').nth(1).unwrap_or_default();
        if other != id.0 {
            if abandoned(store, other).await? {
                continue;
            }
            return Err(Error::usage(format!(
                "{} holds another run, {other}, with other settings, photos or weights; choose another --out or remove it",
                out.display()
            )));
        }
    }
    let weights = match &request.bytes {
        Some(bytes) => Some(store.put_bytes(&JobSpec::prefix(&id).join("weights.safetensors"), bytes.clone()).await?),
        None => None,
    };
    let created = now();
    let program = request.program;
    Ok(JobSpec {
        version: VERSION,
        id,
        program,
        settings,
        source,
        photos: None,
        weights,
        model: request.model.clone(),
        night: None,
        created,
    })
}

/// Whether a job ended before any task of it left something, on bad photos say. Its traces are removed.
async fn abandoned(store: &dyn Store, job: &str) -> Result<bool> {
    let prefix = Key::new(format!("jobs/{job}"))?;
    let entries: Vec<_> = store.list(Some(&prefix)).await?.try_collect().await?;
    if entries.iter().any(|e| e.key.as_str().starts_with(prefix.join("attempts").as_str())) {
        return Ok(false);
    }
    for entry in entries {
        store.delete(&entry.key).await?;
    }
    Ok(true)
}

/// The folder of photos: as given, or unpacked from a tar.
pub(super) fn source(data: &Path, home: &Path) -> Result<String> {
    let whole = data.canonicalize().context(Kind::Data, || format!("the photos {} cannot be found", data.display()))?;
    let folder = if whole.is_dir() {
        whole
    } else {
        let unpacked = home.join("photos");
        if !unpacked.is_dir() {
            dataset::import::import(&whole, &unpacked)?;
        }
        unpacked
    };
    let text =
        folder.to_str().ok_or_else(|| Error::data(format!("the path {} is not valid UTF-8", folder.display())))?;
    Ok(text.to_string())
}

/// Keeps other runs out of the same folder for as long as the file lives.
pub(super) fn lock(home: &Path, out: &Path) -> Result<File> {
    let path = home.join("lock");
    let file = File::create(&path).context(Kind::Storage, || format!("{} cannot be written", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Error::usage(format!("another run is using {}; wait for it or choose another --out", out.display())))
        }
        Err(std::fs::TryLockError::Error(e)) => {
            Err(Error::storage(format!("{} cannot be locked", path.display())).because(e))
        }
    }
}

/// Prints what was found.
fn show(out: &Path, json: bool) -> Result<()> {
    let path = out.join("report.json");
    let bytes = std::fs::read(&path).context(Kind::Storage, || format!("{} cannot be read", path.display()))?;
    let report = Report::from_json(&bytes)?;
    if json {
        println!(
            "{}",
            serde_json::to_string(&report.results).context(Kind::Internal, || "results have no JSON".into())?
        );
    } else {
        println!("{}", headline(&report));
        println!("report: {}", out.join("report.html").display());
    }
    Ok(())
}
