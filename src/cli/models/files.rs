//! `hardy models export` and `add`: the files of a version, out of the registry and into it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{StoreArgs, one};
use crate::cli::jobs::print_json;
use crate::coordinator::now;
use crate::error::{Error, Result};
use crate::model::{self, checkpoint};
use crate::registry::{Happening, Note, Registry, Version, WEIGHTS};
use crate::report::Report;
use crate::task::{ModelName, VersionId};

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model.
    model: ModelName,
    /// The version. Default: the current one.
    version: Option<VersionId>,
    /// Where its files go.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AddArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model.
    model: ModelName,
    /// What the version is to be called.
    version: VersionId,
    /// The `--out` folder of a run, or a model's folder.
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
}

pub(super) async fn export(args: ExportArgs, json: bool) -> Result<()> {
    let settings = args.at.resolve()?;
    let registry = Registry::new(args.at.open(&settings).await?, &args.model);
    let version = one(&registry, args.version).await?;
    registry.verify(&version).await?;
    // The description last: where it is, everything is.
    let names = version.files.keys().filter(|n| *n != model::SPEC_FILE && *n != WEIGHTS);
    for name in names.chain(version.files.keys().filter(|n| *n == model::SPEC_FILE)) {
        model::write_whole(&args.out.join(name), &registry.file(&version, name).await?)?;
    }
    if json {
        return print_json(&json!({ "model": version.model, "version": version.id, "out": args.out }));
    }
    println!("version {} of {} in {}", version.id, version.model, args.out.display());
    Ok(())
}

pub(super) async fn add(args: AddArgs, json: bool) -> Result<()> {
    let settings = args.at.resolve()?;
    let store =
        crate::store::create_within(&settings.store.url, &settings.store, crate::store::COMMAND_PATIENCE).await?;
    let registry = Registry::new(store, &args.model);
    let folder = if args.from.join("model").is_dir() { args.from.join("model") } else { args.from.clone() };
    let (spec, weights) = model::load_model(&folder)?;
    let report = report_of(&args.from)?;
    let folded = checkpoint::write(&weights)?;
    let mut files = vec![(WEIGHTS.to_string(), folded.clone().into())];
    for name in [model::WEIGHTS_FILE, model::SPEC_FILE, "README.md"] {
        if let Some(bytes) = read(&folder.join(name))? {
            files.push((name.to_string(), bytes.into()));
        }
    }
    for name in ["report.html", "report.json"] {
        if let Some(bytes) = read(&args.from.join(name))? {
            files.push((name.to_string(), bytes.into()));
        }
    }
    let trained = |model: &str| model == "trained";
    let draft = Version {
        version: Version::format(),
        model: args.model,
        id: args.version,
        created: now(),
        job: "added by hand".into(),
        hardy: env!("CARGO_PKG_VERSION").into(),
        spec,
        checkpoint_sha256: hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&folded)),
        parent: None,
        dataset_sha256: report.as_ref().map(|r| r.provenance.dataset_sha256.clone()).unwrap_or_default(),
        test_sha256: String::new(),
        results: report.iter().flat_map(|r| r.results.clone()).filter(|r| trained(&r.model)).collect(),
        worst_case: report.iter().flat_map(|r| r.worst_case.clone()).filter(|w| trained(&w.model)).collect(),
        checks: report.iter().flat_map(|r| r.checks.clone()).filter(|c| c.name.starts_with("trained:")).collect(),
        gate: None,
        files: Default::default(),
    };
    let version = registry.publish(draft, files).await?;
    let reason = format!("from {}", args.from.display());
    registry.note(Note { version: Some(version.id.clone()), ..Note::new(Happening::Added, reason) }).await?;
    if json {
        return print_json(&version);
    }
    println!("version {} of {} is there; `hardy models promote` makes it current", version.id, version.model);
    Ok(())
}

fn report_of(folder: &Path) -> Result<Option<Report>> {
    read(&folder.join("report.json"))?.map(|bytes| Report::from_json(&bytes)).transpose()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::storage(format!("{} cannot be read", path.display())).because(e)),
    }
}
