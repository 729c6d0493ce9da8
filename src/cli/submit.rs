//! `hardy submit`: puts a job where the coordinators of a cluster find it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::SettingsArgs;
use super::jobs::{print_json, verdict};
use super::meter::{Meter, PHOTOS, digest};
use super::model::{Contest, Files, Models, ScriptArgs, place, sha256, surrogate};
use super::watch::follow;
use super::{cluster, weights};
use crate::config::{JobKind, Settings};
use crate::coordinator::{JobSpec, Night, Place, Program, tonight};
use crate::dataset;
use crate::error::{Context, Error, Kind, Result};
use crate::jobs::{self, Jobs};
use crate::lab::Plan;
use crate::model;
use crate::signal;
use crate::store::{Key, LocalStore, Store};
use crate::task::{JobId, VersionId};

/// Photos that are pushed at the same time.
const AT_ONCE: usize = 16;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy submit --config configs/flowers.toml --data flower_photos --name nightly-2026-11-22
  hardy submit --config configs/attack.toml --data flower_photos --name broken --wait
  hardy submit --data s3://bucket/photos --name first --wait && hardy fetch first --out results
  hardy submit --config configs/nightly.toml --data s3://bucket/photos --night --wait

  hardy submit --data s3://bucket/photos --name 'nightly-{date}'

  hardy submit --config configs/nightly.toml --data s3://bucket/photos --night '{date}'

Submitted twice under one name it is one job. Prints its name. In a CronJob's pod set HARDY_SCHEDULED to the name
of the run, from its label batch.kubernetes.io/job-name: {date} is then the scheduled date in the time zone TZ,
however late or often the run is tried.")]
pub(super) struct SubmitArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The photos: a folder, tar or list, which are copied to the store, or s3://bucket/prefix of class folders.
    #[arg(long, value_name = "PHOTOS", required_unless_present = "rehearse", default_value = "")]
    data: String,
    /// Instead of a real job, one of so many empty tasks: measures the cluster itself.
    #[arg(long, value_name = "TASKS", conflicts_with = "data")]
    rehearse: Option<u32>,
    /// Each of the empty tasks stores an object.
    #[arg(long, requires = "rehearse")]
    stored: bool,
    /// The job's name; {date} in it is today's date, or the one that HARDY_SCHEDULED says. Default: job.name and a
    /// part made of its settings.
    #[arg(long)]
    name: Option<String>,
    /// A night of the model job.name, which is retrained, judged and promoted or not; {date} in its name is as in
    /// that of a job. With no name, today's (UTC).
    #[arg(long, value_name = "NIGHT", num_args = 0..=1, conflicts_with_all = ["rehearse", "name"])]
    night: Option<Option<String>>,
    #[command(flatten)]
    script: ScriptArgs,
    /// Wait for its end; exit code 7 when it fails, 8 when the gate rejects it.
    #[arg(long)]
    wait: bool,
}

pub(super) fn run(mut args: SubmitArgs, as_json: bool, quiet: bool) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    let given = Given::find(&mut args, &settings)?;
    let settings = given.models.model.as_ref().map_or(settings.clone(), |model| model.fit(settings));
    let end = cluster::block_on(async {
        let store = cluster::store(&settings).await?;
        let queue = cluster::queue(&settings).await?;
        let photos = if args.rehearse.is_some() { Photos::None } else { Photos::find(&args.data, quiet)? };
        let (spec, files) = match &args.night {
            Some(night) => (tonight_or(night, &store, &settings, &photos).await?, Vec::new()),
            None => spec(&args, &settings, &photos, given)?,
        };
        let jobs = Jobs::new(store.clone());
        if jobs.spec(&spec.id).await.is_err_and(|e| e.kind() == Kind::NotFound) {
            if let Some((folder, to)) = photos.pushed(&JobSpec::prefix(&spec.id)) {
                push(folder, &store, &to, quiet).await?;
            }
            for (key, bytes) in files {
                store.put_bytes(&key, bytes).await?;
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

/// What the job starts from, or looks at.
struct Given {
    program: Program,
    models: Models,
}

impl Given {
    /// Of a job that looks at no model.
    fn start(program: Program, bytes: Option<Vec<u8>>) -> Self {
        Self { program, models: Models { bytes, ..Models::default() } }
    }

    fn find(args: &mut SubmitArgs, settings: &Settings) -> Result<Self> {
        if let Some(tasks) = args.rehearse {
            return Ok(Self::start(Program::Rehearse { tasks, stored: args.stored }, None));
        }
        if args.night.is_some() {
            // It finds its own start: the current model, or these weights the first night.
            return Ok(Self::start(Program::Night, None));
        }
        let program = match settings.job.kind {
            JobKind::Train if args.script != ScriptArgs::default() => {
                return Err(Error::usage(
                    "flags for TorchScript files are for jobs that look at one; job.kind is \"train\"",
                ));
            }
            JobKind::Train => {
                let bytes = weights::starting(settings)?.as_ref().map(model::checkpoint::write).transpose()?;
                return Ok(Self::start(Program::Train, bytes));
            }
            JobKind::Evaluate => Program::Evaluate,
            JobKind::Augment => Program::Augment,
            JobKind::Attack => Program::Attack,
        };
        let path = Path::new(&settings.job.model);
        let measured = program == Program::Evaluate;
        let brought =
            std::mem::take(&mut args.script).bring(&if measured { place(settings, path)? } else { path.into() })?;
        let contest = if measured { Contest::of(settings, path, &brought.spec)? } else { None };
        let mut other = None;
        if program == Program::Attack {
            // What cannot be done is refused here, not on the cluster.
            Plan::new(&settings.attack, brought.spec.classes())?;
            other = surrogate(settings, &brought.spec)?;
        }
        Ok(Self { program, models: Models { surrogate: other, contest, ..Models::of(brought) } })
    }
}

/// Where the photos are now.
enum Photos {
    /// Nowhere: none are needed.
    None,
    /// On a store that workers reach too.
    Remote(String),
    /// In this folder, which is given up at the end where they were unpacked into it.
    Here { folder: PathBuf, digest: String, _unpacked: Option<tempfile::TempDir> },
}

impl Photos {
    fn find(data: &str, quiet: bool) -> Result<Self> {
        if data.contains("://") {
            return Ok(Self::Remote(data.to_string()));
        }
        let path = Path::new(data);
        let whole = path.canonicalize().context(Kind::NotFound, || format!("the photos {data} cannot be found"))?;
        if whole.is_dir() {
            return Self::here(whole, None, quiet);
        }
        let unpacked = tempfile::tempdir().context(Kind::Storage, || "no temporary folder can be made".into())?;
        let folder = unpacked.path().join("photos");
        dataset::import::import(&whole, &folder, Meter::importing(quiet))?;
        signal::check()?;
        Self::here(folder, Some(unpacked), quiet)
    }

    fn here(folder: PathBuf, unpacked: Option<tempfile::TempDir>, quiet: bool) -> Result<Self> {
        Ok(Self::Here { digest: digest(&folder, quiet)?, folder, _unpacked: unpacked })
    }

    /// The URL under which workers find them once they are pushed for the job below `prefix`.
    fn source(&self, settings: &Settings, prefix: &Key) -> String {
        match (self, self.pushed(prefix)) {
            (Self::Remote(url), _) => url.clone(),
            (_, Some((_, to))) => format!("{}/{to}", settings.store.url.trim_end_matches('/')),
            (_, None) => String::new(),
        }
    }

    /// The folder to push and where to. Other photos go elsewhere: what a push that was cut off left must not mix with
    /// them.
    fn pushed(&self, prefix: &Key) -> Option<(&Path, Key)> {
        match self {
            Self::None | Self::Remote(_) => None,
            Self::Here { folder, digest, .. } => Some((folder, prefix.join(format!("photos/{}", &digest[..16])))),
        }
    }

    /// What tells one set of photos from another: names and contents.
    fn digest(&self) -> Option<String> {
        match self {
            Self::None | Self::Remote(_) => None,
            Self::Here { digest, .. } => Some(digest.clone()),
        }
    }
}

/// The night that is submitted.
async fn tonight_or(
    night: &Option<String>,
    store: &Arc<dyn Store>,
    settings: &Settings,
    photos: &Photos,
) -> Result<JobSpec> {
    let night: VersionId = match night {
        Some(name) => dated(name, scheduled().as_deref()).parse()?,
        None => tonight(),
    };
    let id: JobId = format!("{}-{night}", settings.job.name).parse()?;
    let place = Place { source: photos.source(settings, &JobSpec::prefix(&id)), digest: photos.digest() };
    Night::submission(store, settings, &night, place, || weights::starting(settings)).await
}

/// What is submitted, and the files that go with it.
fn spec(args: &SubmitArgs, settings: &Settings, photos: &Photos, given: Given) -> Result<(JobSpec, Files)> {
    let (of_job, models) = (settings.of_job(), given.models);
    let digest = photos.digest();
    let id: JobId = match &args.name {
        Some(name) => dated(name, scheduled().as_deref()).parse()?,
        None => {
            let identity = json!({
                "settings": of_job, "data": args.data, "tasks": args.rehearse, "stored": args.stored, "photos": digest,
                "weights": models.bytes.as_ref().map(sha256),
                "surrogate": models.surrogate.as_ref().map(|other| sha256(&other.bytes)),
                "compared": models.contest.as_ref().map(Contest::identity),
            });
            format!("{}-{}", of_job.job.name, &sha256(identity.to_string())[..8]).parse()?
        }
    };
    let source = photos.source(settings, &JobSpec::prefix(&id));
    let mut spec = JobSpec { photos: digest, ..JobSpec::new(id, given.program, &of_job, source) };
    let files = models.name_in(&mut spec);
    Ok((spec, files))
}

/// The name of the CronJob's run that this is a part of.
fn scheduled() -> Option<String> {
    std::env::var("HARDY_SCHEDULED").ok()
}

/// The name with its `{date}` filled in.
///
/// A CronJob names its runs `name-MINUTES`, the scheduled time in minutes since 1970; a run that somebody started
/// by hand has another name and counts as today's.
fn dated(name: &str, scheduled: Option<&str>) -> String {
    let minutes = scheduled.and_then(|run| run.rsplit('-').next()).filter(|end| end.len() >= 8);
    let seconds = minutes.and_then(|end| end.parse::<i64>().ok()).and_then(|minutes| minutes.checked_mul(60));
    let time = seconds.and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_else(Timestamp::now);
    let date = time.to_zoned(TimeZone::system()).date();
    name.replace("{date}", &date.to_string())
}

/// Copies a folder of photos to the store.
async fn push(folder: &Path, store: &Arc<dyn Store>, to: &Key, quiet: bool) -> Result<()> {
    let from: Arc<dyn Store> = Arc::new(LocalStore::open(folder)?);
    let files = dataset::folder::visible(folder)?;
    if files.is_empty() {
        return Err(Error::data(format!("{} holds no photos", folder.display())));
    }
    let (meter, total) = (Meter::new("push", PHOTOS, quiet), files.len() as u64);
    let done = Cell::new(0);
    stream::iter(files)
        .map(|(name, _)| {
            let (from, meter, done) = (from.clone(), &meter, &done);
            async move {
                let body = from.get(&Key::new(name.clone())?).await?;
                let key = Key::new(format!("{}/{name}", to.as_str()))?;
                store.put(&key, body).await?;
                done.set(done.get() + 1);
                meter.show(done.get(), Some(total));
                Ok::<_, Error>(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_late_run_keeps_the_scheduled_date() {
        let minutes = Timestamp::now().as_second() / 60 - 3 * 24 * 60;
        let wanted = Timestamp::from_second(minutes * 60).unwrap().to_zoned(TimeZone::system()).date();
        let run = format!("hardy-nightly-{minutes}");
        assert_eq!(dated("nightly-{date}", Some(&run)), format!("nightly-{wanted}"));
        assert_eq!(dated("{date}", Some(&run)).parse::<VersionId>().unwrap().0, wanted.to_string(), "of a night");
        let today = || Timestamp::now().to_zoned(TimeZone::system()).date();
        for by_hand in [None, Some("again"), Some("hardy-nightly-2"), Some("")] {
            let (before, name, after) = (today(), dated("n-{date}", by_hand), today());
            assert!([before, after].iter().any(|day| name == format!("n-{day}")), "{by_hand:?}: {name}");
        }
        assert_eq!(dated("first", None), "first");
    }

    #[test]
    fn other_photos_are_pushed_to_another_place() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(one.path().join("a.png"), "one").unwrap();
        std::fs::write(other.path().join("a.png"), "two").unwrap();
        let prefix = Key::new("jobs/j").unwrap();
        let below = |folder: &tempfile::TempDir| {
            Photos::here(folder.path().into(), None, true).unwrap().pushed(&prefix).unwrap().1
        };
        assert_eq!(below(&one), below(&one), "a push that was cut off goes on where it was");
        assert_ne!(below(&one), below(&other), "what it left does not mix with other photos");
    }

    #[test]
    fn a_night_takes_a_date_as_its_name_or_none() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: SubmitArgs,
        }
        let night = |more: &[&str]| {
            let words = ["submit", "--data", "s3://b/p"].iter().chain(more);
            <Line as clap::Parser>::try_parse_from(words).map(|line| line.args.night)
        };
        assert_eq!(night(&[]).unwrap(), None);
        assert_eq!(night(&["--night"]).unwrap(), Some(None));
        assert_eq!(night(&["--night", "{date}"]).unwrap(), Some(Some("{date}".into())));
        assert!(night(&["--night", "{date}", "--name", "x"]).is_err());
        for name in ["../{date}", "{dates}", "a b"] {
            assert_eq!(dated(name, None).parse::<JobId>().unwrap_err().kind(), Kind::Usage, "{name}");
        }
    }
}
