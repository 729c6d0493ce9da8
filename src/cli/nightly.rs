//! `hardy nightly`: a night of a model in this process, and two weeks of them as a rehearsal.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::audience::{Audience, observer};
use super::jobs::print_json;
use super::run::{keep_apart, lock, source};
use super::{SettingsArgs, cluster, simulate, weights};
use crate::coordinator::{JobSpec, Night, Outcome, Place, export, tonight};
use crate::embedded::Home;
use crate::error::{Context, Error, Kind, Result};
use crate::store::{self, Store};
use crate::task::VersionId;

/// Outcomes are refused above this size.
const LIMIT: u64 = 1 << 20;

#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  hardy nightly run --help\n  hardy nightly simulate --nights 14 --out nights"
)]
pub(super) struct NightlyArgs {
    #[command(subcommand)]
    command: NightlyCommand,
}

#[derive(Debug, Subcommand)]
enum NightlyCommand {
    /// Retrain a model on the photos that are there now, judge the result, and promote it or not.
    #[command(after_help = "\
Examples:
  hardy nightly run --config configs/nightly.toml --data photos --store models
  HARDY_STORE__URL=s3://bucket/hardy hardy nightly run --config configs/nightly.toml --data s3://bucket/photos

The model's name is job.name. The same command goes on where an interrupted night stopped, and tells how a
night ended that is over. Exit code 0: promoted, or nothing to do; 8: rejected by the gate; others: failed.
On a cluster: hardy submit --night.")]
    Run(RunArgs),
    /// Play two weeks on synthetic flowers: photos come, labels are shuffled, a night is killed.
    #[command(after_help = "\
Example:
  hardy nightly simulate --nights 14 --out two-weeks

Exit code 7 when a night went otherwise than it must: the poisoned one promoted, say.")]
    Simulate(simulate::SimulateArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The photos: a folder of class folders, a tar of one, a list, or s3://bucket/prefix.
    #[arg(long, value_name = "PHOTOS")]
    data: String,
    /// The store with the registry, instead of store.url: a folder or s3://bucket/prefix.
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// The night's name, that of the version it makes. Default: today's date (UTC).
    #[arg(long)]
    night: Option<VersionId>,
    /// Also put report and model into this folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Threads of work; the result does not depend on it. Default: one per core.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

pub(super) fn run(args: NightlyArgs, json: bool, quiet: bool) -> Result<()> {
    match args.command {
        NightlyCommand::Run(args) => night(args, json, quiet),
        NightlyCommand::Simulate(args) => simulate::run(args, json, quiet),
    }
}

fn night(args: RunArgs, json: bool, quiet: bool) -> Result<()> {
    let mut settings = args.settings.resolve()?.settings;
    if let Some(url) = args.store {
        settings.store.url = url;
    }
    let url = settings.store.url.clone();
    if url.is_empty() {
        return Err(Error::usage("store.url is empty: a night needs a store for its models; give --store FOLDER"));
    }
    let night = args.night.unwrap_or_else(tonight);
    let scratch = tempfile::tempdir().context(Kind::Storage, || "no temporary folder can be made".into())?;
    let local = (!url.contains("://")).then(|| PathBuf::from(&url));
    for folder in local.iter().chain(&args.out) {
        keep_apart(folder, Path::new(&args.data))?;
    }
    if let Some(folder) = &local {
        std::fs::create_dir_all(folder)
            .context(Kind::Storage, || format!("the store {} cannot be written", folder.display()))?;
    }
    let _lock = local.as_ref().map(|folder| lock(folder, folder).map_err(|e| overlap(folder, e))).transpose()?;
    let photos = photos(&args.data, local.as_deref(), quiet)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = match args.workers.unwrap_or(settings.worker.count) {
        0 => cores,
        count => count,
    };
    let audience = match (quiet, json) {
        (true, _) => Audience::Nobody,
        (_, true) => Audience::Program,
        _ => Audience::Person,
    };
    let ended = cluster::block_on(async {
        let store = store::create(&url, &settings.store).await?;
        let place = Place { source: photos, digest: None };
        let spec = Night::submission(&store, &settings, &night, place, || weights::starting(&settings)).await?;
        let id = spec.id.clone();
        let ended = match over(&store, &spec).await? {
            Some(ended) => ended,
            None => {
                let cache = local.as_deref().unwrap_or(scratch.path());
                Home::over(store.clone(), cache, workers, &settings)?.run(spec.clone(), observer(audience)).await?;
                let missing = || Error::internal("the night left no outcome");
                over(&store, &spec).await?.ok_or_else(missing)?
            }
        };
        if let Some(out) = &args.out {
            export(&*store, &id, out).await?;
        }
        Ok(ended)
    })?;
    match json {
        true => print_json(&ended)?,
        false => println!("{}", ended.line()),
    }
    ended.verdict()
}

/// Where the photos are. What is unpacked lies in the store, so that the same command finds it again.
fn photos(data: &str, store: Option<&Path>, quiet: bool) -> Result<String> {
    let path = Path::new(data);
    match store {
        _ if data.contains("://") => Ok(data.to_string()),
        None if path.is_file() => Err(Error::usage(format!(
            "{data} is no folder, and with a store in S3 there is no place to unpack it to at which an interrupted night \
             would find it again; unpack it, or have a cluster do the night: hardy submit --night"
        ))),
        _ => source(path, store.unwrap_or(path), quiet),
    }
}

/// Of two nights on one folder the second one is told what two on a cluster are told.
fn overlap(store: &Path, e: Error) -> Error {
    match e.kind() {
        Kind::Usage => Error::job(format!(
            "another night is going on in {}; two nights must not overlap: wait for its end",
            store.display()
        )),
        _ => e,
    }
}

/// How the night ended, if it has.
async fn over(store: &Arc<dyn Store>, spec: &JobSpec) -> Result<Option<Outcome>> {
    let key = JobSpec::prefix(&spec.id).join("result/night.json");
    match store.get_json(&key, LIMIT).await {
        Ok(ended) => Ok(Some(ended)),
        Err(e) if e.kind() == Kind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unpacked_lies_where_the_same_night_finds_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("photos.tar");
        let mut tar = tar::Builder::new(std::fs::File::create(&archive).unwrap());
        for name in ["daisy/1.jpg", "rose/1.jpg"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(4);
            header.set_mode(0o644);
            header.set_mtime(1_700_000_000);
            tar.append_data(&mut header, name, &b"JPEG"[..]).unwrap();
        }
        tar.finish().unwrap();
        let (archive, store) = (archive.to_str().unwrap(), folder.path().join("store"));
        let first = photos(archive, Some(&store), true).unwrap();
        assert!(Path::new(&first).starts_with(&store) && Path::new(&first).join("rose/1.jpg").exists(), "{first}");
        assert_eq!(photos(archive, Some(&store), true).unwrap(), first);

        let error = photos(archive, None, true).unwrap_err();
        assert!(error.kind() == Kind::Usage && error.to_string().contains("hardy submit --night"), "{error}");
        assert_eq!(photos(&first, None, true).unwrap(), Path::new(&first).canonicalize().unwrap().to_str().unwrap());
        assert_eq!(photos("s3://bucket/photos", None, true).unwrap(), "s3://bucket/photos");
        assert_eq!(photos("nothing", None, true).unwrap_err().kind(), Kind::NotFound);
    }
}
