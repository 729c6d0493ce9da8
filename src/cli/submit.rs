//! `hardy submit`: puts a job where the coordinators of a cluster find it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::SettingsArgs;
use super::jobs::{print_json, verdict};
use super::watch::follow;
use super::{cluster, weights};
use crate::config::Settings;
use crate::coordinator::{JobSpec, Night, Place, Program, now, tonight};
use crate::dataset;
use crate::error::{Context, Error, Kind, Result};
use crate::jobs::{self, Jobs};
use crate::model;
use crate::store::{Blob, Key, LocalStore, Store};
use crate::task::{JobId, VERSION, VersionId};

/// Photos that are pushed at the same time.
const AT_ONCE: usize = 16;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy submit --config configs/flowers.toml --data flower_photos --name nightly-2026-11-22
  hardy submit --data s3://bucket/photos --name first --wait && hardy fetch first --out results
  hardy submit --config configs/nightly.toml --data s3://bucket/photos --night --wait

Submitted twice under one name it is one job. Prints its name.")]
pub(super) struct SubmitArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The photos: a folder, tar or list, which are copied to the store, or s3://bucket/prefix of class folders.
    #[arg(long, value_name = "PHOTOS", required_unless_present = "rehearse", default_value = "")]
    data: String,
    /// Instead of a real job, one of so many empty tasks: measures the cluster itself.
    #[arg(long, value_name = "TASKS", conflicts_with = "data")]
    rehearse: Option<u32>,
    /// The job's name. Default: job.name and a part made of its settings.
    #[arg(long)]
    name: Option<JobId>,
    /// A night of the model job.name, which is retrained, judged and promoted or not; with no name, today's (UTC).
    #[arg(long, value_name = "NIGHT", num_args = 0..=1, conflicts_with_all = ["rehearse", "name"])]
    night: Option<Option<VersionId>>,
    /// Wait for its end; exit code 7 when it fails, 8 when the gate rejects it.
    #[arg(long)]
    wait: bool,
}

pub(super) fn run(args: SubmitArgs, as_json: bool, quiet: bool) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    let end = cluster::block_on(async {
        let store = cluster::store(&settings).await?;
        let queue = cluster::queue(&settings).await?;
        let photos = if args.rehearse.is_some() { Photos::None } else { Photos::find(&args.data)? };
        let weights = match (args.rehearse, &args.night) {
            (None, None) => weights::starting(&settings)?.as_ref().map(model::checkpoint::write).transpose()?,
            _ => None,
        };
        let spec = match &args.night {
            Some(night) => tonight_or(night, &store, &settings, &photos).await?,
            None => spec(&args, &settings, &photos, weights.as_deref())?,
        };
        let jobs = Jobs::new(store.clone());
        if jobs.spec(&spec.id).await.is_err_and(|e| e.kind() == Kind::NotFound) {
            if let Some(folder) = photos.folder() {
                push(folder, &store, &JobSpec::prefix(&spec.id).join("photos"), quiet).await?;
            }
            if let (Some(blob), Some(bytes)) = (&spec.weights, weights) {
                store.put_bytes(&blob.key, bytes).await?;
            }
        }
        let fresh = jobs.submit(&spec).await?;
        jobs::wake(&*queue, &spec.id).await?;
        if as_json {
            print_json(&json!({ "job": spec.id, "submitted": fresh }))?;
        } else {
            println!("{}", spec.id);
        }
        match args.wait {
            true => follow(&jobs, &spec.id, as_json, quiet).await.map(Some),
            false => Ok(None),
        }
    })?;
    end.as_ref().map_or(Ok(()), verdict)
}

/// Where the photos are now.
enum Photos {
    /// Nowhere: none are needed.
    None,
    /// On a store that workers reach too.
    Remote(String),
    /// Here.
    Local(PathBuf),
    /// Unpacked from a tar or gathered from a list.
    Unpacked(tempfile::TempDir),
}

impl Photos {
    fn find(data: &str) -> Result<Self> {
        if data.contains("://") {
            return Ok(Self::Remote(data.to_string()));
        }
        let path = Path::new(data);
        let whole = path.canonicalize().context(Kind::Data, || format!("the photos {data} cannot be found"))?;
        if whole.is_dir() {
            return Ok(Self::Local(whole));
        }
        let folder = tempfile::tempdir().context(Kind::Storage, || "no temporary folder can be made".into())?;
        dataset::import::import(&whole, &folder.path().join("photos"))?;
        Ok(Self::Unpacked(folder))
    }

    fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::None | Self::Remote(_) => None,
            Self::Local(folder) => Some(folder.clone()),
            Self::Unpacked(folder) => Some(folder.path().join("photos")),
        }
    }

    /// The URL under which workers find them once they are pushed for the job below `prefix`.
    fn source(&self, settings: &Settings, prefix: &Key) -> String {
        match self {
            Self::None => String::new(),
            Self::Remote(url) => url.clone(),
            _ => format!("{}/{prefix}/photos", settings.store.url.trim_end_matches('/')),
        }
    }

    /// What tells one set of photos from another: names and sizes.
    fn digest(&self) -> Result<Option<String>> {
        let Some(folder) = self.folder() else { return Ok(None) };
        let mut digest = Sha256::new();
        for (name, size) in dataset::folder::list(&folder)? {
            digest.update(format!("{size} {name}\n"));
        }
        Ok(Some(hex::encode(digest.finalize())))
    }
}

/// The night that is submitted.
async fn tonight_or(
    night: &Option<VersionId>,
    store: &Arc<dyn Store>,
    settings: &Settings,
    photos: &Photos,
) -> Result<JobSpec> {
    let night = night.clone().unwrap_or_else(tonight);
    let id: JobId = format!("{}-{night}", settings.job.name).parse()?;
    let place = Place { source: photos.source(settings, &JobSpec::prefix(&id)), digest: photos.digest()? };
    Night::submission(store, settings, &night, place, || weights::starting(settings)).await
}

/// What is submitted.
fn spec(args: &SubmitArgs, settings: &Settings, photos: &Photos, weights: Option<&[u8]>) -> Result<JobSpec> {
    let of_job = settings.of_job();
    let sha256 = weights.map(|bytes| hex::encode(Sha256::digest(bytes)));
    let digest = photos.digest()?;
    let id: JobId = match &args.name {
        Some(name) => name.clone(),
        None => {
            let identity = json!({ "settings": of_job, "data": args.data, "tasks": args.rehearse, "photos": digest, "weights": sha256 });
            let digest = hex::encode(Sha256::digest(identity.to_string()));
            format!("{}-{}", of_job.job.name, &digest[..8]).parse()?
        }
    };
    let prefix = JobSpec::prefix(&id);
    let source = photos.source(settings, &prefix);
    let key = prefix.join("weights.safetensors");
    let size = weights.map_or(0, |bytes| bytes.len() as u64);
    Ok(JobSpec {
        version: VERSION,
        id,
        program: args.rehearse.map_or(Program::Train, |tasks| Program::Rehearse { tasks }),
        settings: of_job,
        source,
        photos: digest,
        weights: sha256.map(|sha256| Blob { key, sha256, size }),
        model: None,
        night: None,
        created: now(),
    })
}

/// Copies a folder of photos to the store.
async fn push(folder: PathBuf, store: &Arc<dyn Store>, to: &Key, quiet: bool) -> Result<()> {
    let from: Arc<dyn Store> = Arc::new(LocalStore::open(&folder)?);
    let files = dataset::folder::list(&folder)?;
    if files.is_empty() {
        return Err(Error::data(format!("{} holds no photos", folder.display())));
    }
    let bar = super::terminal::bar(files.len() as u64, "copying photos", quiet);
    stream::iter(files)
        .map(|(name, _)| {
            let (from, bar) = (from.clone(), bar.clone());
            async move {
                let body = from.get(&Key::new(name.clone())?).await?;
                let key = Key::new(format!("{}/{name}", to.as_str()))?;
                store.put(&key, body).await?;
                bar.inc(1);
                Ok::<_, Error>(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    bar.finish_and_clear();
    Ok(())
}
