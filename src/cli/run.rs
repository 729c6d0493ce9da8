//! `hardy run`, `hardy evaluate`, `hardy augment`: a job in this process.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use futures_util::TryStreamExt;
use serde_json::{Value, json};

use super::audience::{Audience, observer};
use super::dataset::draw;
use super::meter::{Meter, digest};
use super::model::{Contest, Models, ScriptArgs, place, sha256};
use super::{SettingsArgs, cluster, weights};
use crate::config::{JobKind, Layers, Settings};
use crate::coordinator::{JobSpec, Program, export};
use crate::dataset::{import, scan, synth};
use crate::embedded::Home;
use crate::error::{Context, Error, Kind, Result};
use crate::model::{self, Brought};
use crate::report::{Report, headline};
use crate::signal;
use crate::store::{Key, Store};
use crate::task::JobId;

/// Flags of every job in this process.
#[derive(Debug, Args)]
pub(super) struct JobArgs {
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
    /// Threads of work; the result does not depend on it. Default: one per core.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

impl JobArgs {
    /// All layers of settings, the flags of every job last.
    pub(super) fn layers(&self) -> Result<Layers> {
        let layers = self.settings.layers()?;
        match self.workers {
            Some(workers) => layers.flag("worker.count", workers.into(), "--workers"),
            None => Ok(layers),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy dataset synth --out photos --per-class 80 && hardy run --data photos --out first-run
  hardy run --config configs/demo.toml                  # on flowers that are drawn for it, into hardy-run/
  hardy run --config configs/flowers.toml --data flower_photos --out flowers-run
  hardy run --data photos.tgz --out run --set train.rounds=5 --set adversary.epsilon=8/255

The same command goes on where an interrupted run stopped.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The photos: a folder of class folders (or of train/, val/, test/ with class folders), a tar of one, or a list.
    /// Default: flowers that are drawn for it.
    #[arg(long, value_name = "PHOTOS")]
    data: Option<PathBuf>,
    /// Where everything goes.
    #[arg(long, value_name = "FOLDER", default_value = "hardy-run")]
    out: PathBuf,
    /// Keep the network-size PNGs that are measured.
    #[arg(long)]
    keep_images: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy evaluate --model flowers-run/model --data photos/val
  hardy evaluate --model flowers-run/model --data photos --out figures --set evaluate.epsilons=[0.03]
  hardy evaluate --model robust=flowers-run/model --beside plain=other-run/model --data photos --out compared")]
pub(super) struct EvaluateArgs {
    #[command(flatten)]
    job: JobArgs,
    /// A model's folder or file, TorchScript too, or `imagenet`; beside others it may have a name, NAME=MODEL.
    #[arg(long)]
    model: PathBuf,
    /// A model to compare it with, MODEL or NAME=MODEL: curves, transfer, McNemar's test. May be repeated.
    #[arg(long, value_name = "MODEL")]
    beside: Vec<String>,
    #[command(flatten)]
    script: ScriptArgs,
    /// The photos: class folders, or sides of them, of which test or else val is measured.
    #[arg(long, value_name = "PHOTOS")]
    data: PathBuf,
    /// Where report and page go; without it only the figures are printed.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Keep the network-size PNGs that are measured.
    #[arg(long, requires = "out")]
    keep_images: bool,
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
    let settings = measuring(&args.job, args.keep_images)?.resolve()?.settings;
    if settings.job.kind != JobKind::Train {
        let kind = settings.job.kind;
        return Err(Error::usage(format!("job.kind = \"{kind}\" is for hardy submit; here it is hardy {kind}")));
    }
    if let Some(photos) = &args.data {
        keep_apart(&args.out, photos)?;
    }
    let start = weights::starting(&settings)?;
    let bytes = start.as_ref().map(model::checkpoint::write).transpose()?;
    let models = Models { bytes, ..Models::default() };
    let request = Request { program: Program::Train, settings, data: args.data.as_deref(), models };
    perform(request, &args.out, json, quiet)?;
    show(&args.out, json, quiet)
}

/// The settings of a job that measures.
fn measuring(job: &JobArgs, keep_images: bool) -> Result<Layers> {
    let layers = job.layers()?;
    if keep_images { layers.flag("evaluate.keep_images", true.into(), "--keep-images") } else { Ok(layers) }
}

pub(super) fn evaluate(args: EvaluateArgs, json: bool, quiet: bool) -> Result<()> {
    let mut layers = measuring(&args.job, args.keep_images)?;
    if !args.beside.is_empty() {
        layers = layers.flag("evaluate.beside", args.beside.clone().into(), "--beside")?;
    }
    let settings = layers.resolve()?.settings;
    let brought = args.script.bring(&place(&settings, &args.model)?)?;
    let contest = Contest::of(&settings, &args.model, &brought.spec)?;
    if let Some(out) = &args.out {
        keep_apart(out, &args.data)?;
    }
    let scratch = tempfile::tempdir().context(Kind::Storage, || "no temporary folder can be made".into())?;
    let out = args.out.as_deref().unwrap_or(scratch.path());
    let mut request = Request::of(Program::Evaluate, settings, &args.data, brought);
    request.models.contest = contest;
    perform(request, out, json, quiet)?;
    show(out, json, quiet)
}

pub(super) fn augment(args: AugmentArgs, json: bool, quiet: bool) -> Result<()> {
    keep_apart(&args.out, &args.data)?;
    let brought = args.script.bring(&args.model)?;
    let settings = args.job.layers()?.resolve()?.settings;
    let request = Request::of(Program::Augment, settings, &args.data, brought);
    perform(request, &args.out, json, quiet)?;
    let manifest = args.out.join("manifest.jsonl");
    let text = std::fs::read_to_string(&manifest)
        .context(Kind::Storage, || format!("{} cannot be read", manifest.display()))?;
    let has = |line: &str, key: &str| serde_json::from_str::<Value>(line).is_ok_and(|entry| !entry[key].is_null());
    let pictures = text.lines().filter(|line| has(line, "picture")).count();
    let set_aside = text.lines().filter(|line| has(line, "set_aside")).count();
    if json {
        println!("{}", json!({ "pictures": pictures, "set_aside": set_aside, "manifest": manifest }));
    } else if !quiet {
        let aside = if set_aside > 0 { format!(", {set_aside} photos set aside") } else { String::new() };
        println!("{pictures} adversarial pictures in {}{aside}, listed in {}", args.out.display(), manifest.display());
    }
    Ok(())
}

/// What is to be done.
pub(super) struct Request<'a> {
    program: Program,
    settings: Settings,
    /// None: flowers are drawn.
    data: Option<&'a Path>,
    pub(super) models: Models,
}

impl<'a> Request<'a> {
    /// To look at a model that was brought.
    pub(super) fn of(program: Program, settings: Settings, data: &'a Path, brought: Brought) -> Self {
        let settings = brought.spec.fit(settings);
        Self { program, settings, data: Some(data), models: Models::of(brought) }
    }
}

/// Runs or resumes the job of `request` in `out` and leaves its results there.
pub(super) fn perform(request: Request, out: &Path, json: bool, quiet: bool) -> Result<()> {
    model::check_device(&request.settings.model)?;
    let home = out.join(".hardy");
    std::fs::create_dir_all(&home)
        .context(Kind::Storage, || format!("the output folder {} cannot be written", out.display()))?;
    let _lock = lock(&home, out)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = match request.settings.worker.count {
        0 => cores,
        count => count,
    };
    let audience = match (quiet, json) {
        (true, _) => Audience::Nobody,
        (_, true) => Audience::Program,
        _ => Audience::Person,
    };
    // A computation that is still going on is given up: its task was not reported and will be done again.
    cluster::block_on(async {
        let local = Home::open(&home, workers, &request.settings)?;
        let spec = submit(&*local.store, request, &home, out, quiet || json).await?;
        let store = local.store.clone();
        let id = spec.id.clone();
        if let Err(e) = local.run(spec, observer(audience)).await {
            // What was noted of photos that were refused must not keep the mended ones from being looked at.
            if e.kind() == Kind::Data {
                abandoned(&*store, &id.0).await?;
            }
            return Err(e);
        }
        export(&*store, &id, out).await
    })
}

/// The job of `request`: that of an earlier run in `out` if it is the same one.
async fn submit(store: &dyn Store, request: Request<'_>, home: &Path, out: &Path, quiet: bool) -> Result<JobSpec> {
    let source = match request.data {
        Some(data) => source(data, home, quiet)?,
        None => drawn(home, quiet)?,
    };
    let settings = request.settings.of_job();
    let models = &request.models;
    let identity = json!({
        "settings": settings, "source": source, "program": request.program, "model": models.model,
        "photos": digest(Path::new(&source), quiet)?,
        "weights": models.bytes.as_ref().map(sha256),
        "surrogate": models.surrogate.as_ref().map(|other| sha256(&other.bytes)),
        "compared": models.contest.as_ref().map(Contest::identity),
    });
    let digest = sha256(identity.to_string());
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
    let mut spec = JobSpec::new(id, request.program, &settings, source);
    for (key, bytes) in request.models.name_in(&mut spec) {
        store.put_bytes(&key, bytes).await?;
    }
    Ok(spec)
}

/// Whether a job did no more than look at its photos: it ended on bad ones, say. Its traces are removed.
async fn abandoned(store: &dyn Store, job: &str) -> Result<bool> {
    let prefix = Key::new(format!("jobs/{job}"))?;
    let entries: Vec<_> = store.list(Some(&prefix)).await?.try_collect().await?;
    let attempts = prefix.join("attempts");
    let mut tasks = entries.iter().filter_map(|e| e.key.as_str().strip_prefix(attempts.as_str()));
    if tasks.any(|task| !task.starts_with("/inspect-")) {
        return Ok(false);
    }
    for entry in entries {
        store.delete(&entry.key).await?;
    }
    Ok(true)
}

/// A folder of synthetic flowers, the same whenever it is drawn.
fn drawn(home: &Path, quiet: bool) -> Result<String> {
    let folder = home.join("flowers");
    if !folder.is_dir() {
        draw(&synth::Request::default(), &folder, quiet)?;
    }
    source(&folder, home, quiet)
}

/// What is written among the photos would be taken for photos, and the same command would find other ones than before.
pub(super) fn keep_apart(out: &Path, photos: &Path) -> Result<()> {
    let (Ok(whole), Ok(photos)) = (std::path::absolute(out), photos.canonicalize()) else { return Ok(()) };
    // What does not exist yet lies where the first folder above it does that exists.
    let real = whole.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, real)) = real else { return Ok(()) };
    // Where nothing is yet, nothing leads elsewhere.
    let rest = whole.strip_prefix(above).unwrap_or(Path::new(""));
    let whole = rest.components().fold(real, |mut whole, part| {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
        whole
    });
    match whole.strip_prefix(&photos) {
        Ok(inside) if photos.is_dir() && !scan::is_hidden(&inside.to_string_lossy()) => Err(Error::usage(format!(
            "{} lies in the folder of photos, {}: choose a place beside it",
            out.display(),
            photos.display()
        ))),
        _ => Ok(()),
    }
}

/// The folder of photos: as given, or unpacked from a tar, or copied as a list says.
pub(super) fn source(data: &Path, home: &Path, quiet: bool) -> Result<String> {
    let missing = || format!("the photos {} cannot be found", data.display());
    let whole = data.canonicalize().context(Kind::NotFound, missing)?;
    let folder = if whole.is_dir() {
        whole
    } else {
        // Another archive, or a mended one, is unpacked to another place.
        let about = std::fs::metadata(&whole).context(Kind::NotFound, missing)?;
        let identity = format!("{} {} {:?}", whole.display(), about.len(), about.modified().ok());
        let unpacked = home.join(format!("photos-{}", &sha256(identity)[..8]));
        if import::is_list(&whole) && unpacked.is_dir() {
            std::fs::remove_dir_all(&unpacked)
                .context(Kind::Storage, || format!("{} cannot be made anew", unpacked.display()))?;
        }
        if !unpacked.is_dir() {
            import::import(&whole, &unpacked, Meter::importing(quiet))?;
            signal::check()?;
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
fn show(out: &Path, json: bool, quiet: bool) -> Result<()> {
    let path = out.join("report.json");
    let bytes = std::fs::read(&path).context(Kind::Storage, || format!("{} cannot be read", path.display()))?;
    let report = Report::from_json(&bytes)?;
    if json {
        println!("{}", report.brief());
    } else if !quiet {
        println!("{}", headline(&report));
        println!("report: {}", out.join("report.html").display());
    }
    Ok(())
}
