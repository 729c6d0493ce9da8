//! `hardy models`: the versions of models and which one is current.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::jobs::print_json;
use super::{SettingsArgs, cluster};
use crate::config::Settings;
use crate::coordinator::now;
use crate::error::{Context, Error, Kind, Result};
use crate::gate::{Comparison, Decision};
use crate::model::{self, checkpoint};
use crate::registry::{Entry, Forced, Happening, Note, Registry, Version, WEIGHTS};
use crate::report::Report;
use crate::store::Store;
use crate::task::{ModelName, VersionId};

#[derive(Debug, Subcommand)]
pub(super) enum ModelsCommand {
    /// List all models, or the versions of one.
    #[command(after_help = "Examples:\n  hardy models list --store models\n  hardy models list flowers --json")]
    List(ListArgs),
    /// Say what a version is and what happened to it; without one, the current version.
    #[command(after_help = "Example:\n  hardy models show flowers 2026-11-22 --store models")]
    Show(OneArgs),
    /// Compare two versions image by image: figures, gate, settings.
    #[command(after_help = "Example:\n  hardy models diff flowers 2026-11-21 2026-11-22 --store models")]
    Diff(DiffArgs),
    /// Make a version current, if the gate lets it.
    #[command(after_help = "\
Examples:
  hardy models promote flowers 2026-11-22 --store models
  hardy models promote flowers 2026-11-22 --store models --force --reason \"roses matter less now\"

The gate compares it with the version that is current, from what both said of each image of the frozen test
set. Exit code 8 when it does not pass, or when another promotion came first; the reason of a forced
promotion is kept in the history.")]
    Promote(PromoteArgs),
    /// Make an earlier version current again.
    #[command(after_help = "\
Examples:
  hardy models rollback flowers --store models
  hardy models rollback flowers --store models --to 2026-11-20 --reason \"customers complain\"")]
    Rollback(RollbackArgs),
    /// Write a version's files into a folder.
    #[command(
        after_help = "Example:\n  hardy models export flowers --store models --out model   # the current version"
    )]
    Export(ExportArgs),
    /// Put the model of a finished run into the registry. It is not promoted by this.
    #[command(after_help = "Example:\n  hardy models add flowers 1.0 --from flowers-run --store models")]
    Add(AddArgs),
}

#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The store with the registry, instead of store.url: a folder or s3://bucket/prefix.
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model; without it, all models.
    model: Option<ModelName>,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model.
    model: ModelName,
    /// The version.
    version: Option<VersionId>,
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model.
    model: ModelName,
    /// The version before.
    before: VersionId,
    /// The version after.
    after: VersionId,
}

#[derive(Debug, Args)]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model.
    model: ModelName,
    /// The version.
    version: VersionId,
    /// Promote it although the gate does not let it.
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why; kept in the history.
    #[arg(long, requires = "force", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model.
    model: ModelName,
    /// The version to go back to. Default: the one that was current before.
    #[arg(long, value_name = "VERSION")]
    to: Option<VersionId>,
    /// Why; kept in the history.
    #[arg(long, default_value = "by hand")]
    reason: String,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
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
pub(super) struct AddArgs {
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

impl StoreArgs {
    /// Settings with the store they name.
    pub(super) fn resolve(&self) -> Result<Settings> {
        let mut settings = self.settings.resolve()?.settings;
        if let Some(url) = &self.store {
            settings.store.url.clone_from(url);
        }
        Ok(settings)
    }

    pub(super) async fn open(&self, settings: &Settings) -> Result<Arc<dyn Store>> {
        cluster::store(settings).await
    }
}

pub(super) fn run(command: ModelsCommand, json: bool) -> Result<()> {
    cluster::block_on(async {
        match command {
            ModelsCommand::List(args) => list(args, json).await,
            ModelsCommand::Show(args) => show(args, json).await,
            ModelsCommand::Diff(args) => diff(args, json).await,
            ModelsCommand::Promote(args) => promote(args, json).await,
            ModelsCommand::Rollback(args) => rollback(args, json).await,
            ModelsCommand::Export(args) => export(args, json).await,
            ModelsCommand::Add(args) => add(args, json).await,
        }
    })
}

async fn list(args: ListArgs, json: bool) -> Result<()> {
    let settings = args.at.resolve()?;
    let store = args.at.open(&settings).await?;
    let Some(model) = args.model else {
        let mut rows = Vec::new();
        for model in Registry::models(&*store).await? {
            let registry = Registry::new(store.clone(), &model);
            let current = registry.current().await?;
            rows.push((model, current, registry.versions().await?.len()));
        }
        if json {
            let rows = rows.iter().map(|(m, c, n)| json!({ "model": m, "current": c, "versions": n }));
            return print_json(&rows.collect::<Vec<_>>());
        }
        if rows.is_empty() {
            println!("no models");
        }
        for (model, current, count) in rows {
            println!("{:<32} {count:>4} versions, current {}", model.0, or_none(current.as_ref()));
        }
        return Ok(());
    };
    let registry = Registry::new(store, &model);
    let (versions, current) = (registry.versions().await?, registry.current().await?);
    if versions.is_empty() && registry.head().await?.is_none() {
        return Err(unknown(&model));
    }
    let epsilon = settings.gate.epsilon.value();
    if json {
        let rows = versions.iter().map(|v| {
            json!({ "version": v.id, "created": v.created, "current": current.as_ref() == Some(&v.id),
                    "clean": v.clean(), "robust": v.robust(epsilon), "epsilon": epsilon,
                    "gate": v.gate.as_ref().map(|g| g.passed) })
        });
        return print_json(&rows.collect::<Vec<_>>());
    }
    println!("{:<2}{:<24} {:<21} {:>8} {:>8}  GATE", "", "VERSION", "CREATED", "CLEAN", "ROBUST");
    for v in &versions {
        let mark = if current.as_ref() == Some(&v.id) { "*" } else { "" };
        let gate = v.gate.as_ref().map_or("not judged", |g| if g.passed { "passed" } else { "failed" });
        let (clean, robust) = (percent(v.clean()), percent(v.robust(epsilon)));
        println!("{mark:<2}{:<24} {:<21} {clean:>8} {robust:>8}  {gate}", v.id.0, v.created);
    }
    println!("* current; robust: under all attacks at once at {}", settings.gate.epsilon);
    Ok(())
}

async fn show(args: OneArgs, json: bool) -> Result<()> {
    let settings = args.at.resolve()?;
    let registry = Registry::new(args.at.open(&settings).await?, &args.model);
    let version = one(&registry, args.version).await?;
    let history = registry.history().await?;
    let history: Vec<&Entry> = history.iter().filter(|e| e.note.version.as_ref() == Some(&version.id)).collect();
    if json {
        return print_json(&json!({ "version": version, "history": history }));
    }
    let current = registry.current().await? == Some(version.id.clone());
    println!("version    {} of {}{}", version.id, version.model, if current { ", current" } else { "" });
    println!("created    {} by {} (hardy {})", version.created, version.job, version.hardy);
    println!("network    {} at {} pixels", version.spec.architecture, version.spec.input_size);
    println!("classes    {}", version.spec.classes.join(", "));
    println!("from       {}", version.parent.as_ref().map_or("the beginning", |p| p.0.as_str()));
    println!("clean      {}", percent(version.clean()));
    for w in &version.worst_case {
        println!("robust     {} at {:.4} under {}", percent(Some(w.figure.accuracy)), w.epsilon, w.attacks.join(", "));
    }
    let failed = version.checks.iter().filter(|c| !c.passed).count();
    println!("checks     {} of {} passed", version.checks.len() - failed, version.checks.len());
    if let Some(gate) = &version.gate {
        print!("{}", judgement(gate));
    }
    for (name, blob) in &version.files {
        println!("file       {name}, {} bytes, SHA-256 {}", blob.size, &blob.sha256[..12.min(blob.sha256.len())]);
    }
    for entry in history {
        println!("{}  {}: {}", entry.at, entry.note.what.name(), entry.note.reason);
    }
    Ok(())
}

async fn diff(args: DiffArgs, json: bool) -> Result<()> {
    let settings = args.at.resolve()?;
    let registry = Registry::new(args.at.open(&settings).await?, &args.model);
    let (before, after) = (registry.version(&args.before).await?, registry.version(&args.after).await?);
    let decision = registry.compared(&after, &before, &settings.gate).await?;
    let changed = changed_settings(&registry, &before, &after).await?;
    let figures: Vec<_> = after
        .results
        .iter()
        .map(|a| {
            let same = |b: &&crate::report::Measured| b.attack == a.attack && (b.epsilon - a.epsilon).abs() < 1e-9;
            let b = before.results.iter().find(same).map(|b| b.figure.accuracy);
            (a.attack.clone(), a.epsilon, b, a.figure.accuracy)
        })
        .collect();
    if json {
        let figures = figures.iter().map(|(attack, epsilon, before, after)| {
            json!({ "attack": attack, "epsilon": epsilon, "before": before, "after": after })
        });
        return print_json(&json!({ "before": before.id, "after": after.id, "gate": decision,
            "figures": figures.collect::<Vec<_>>(), "settings": changed }));
    }
    println!("{:<24} {:>12} {:>12} {:>8}", "", before.id.0, after.id.0, "points");
    for (attack, epsilon, b, a) in figures {
        let name = if epsilon > 0.0 { format!("{attack} at {epsilon:.4}") } else { attack };
        let points = b.map_or("-".into(), |b| format!("{:+.1}", 100.0 * (a - b)));
        println!("{name:<24} {:>12} {:>12} {points:>8}", percent(b), percent(Some(a)));
    }
    match &decision {
        Some(decision) => print!("{}", judgement(decision)),
        None => println!("gate       cannot say: what they said of each image was not kept"),
    }
    let same = |what: &str, equal: bool| println!("{what:<10} {}", if equal { "the same" } else { "others" });
    same("photos", before.dataset_sha256 == after.dataset_sha256);
    same("test set", before.test_sha256 == after.test_sha256);
    for (key, old, new) in changed {
        println!("setting    {key}: {old} -> {new}");
    }
    Ok(())
}

/// Settings that differ, as the two reports have them.
async fn changed_settings(
    registry: &Registry,
    before: &Version,
    after: &Version,
) -> Result<Vec<(String, serde_json::Value, serde_json::Value)>> {
    let mut both = Vec::new();
    for version in [before, after] {
        if !version.files.contains_key("report.json") {
            return Ok(Vec::new());
        }
        let report = Report::from_json(&registry.file(version, "report.json").await?)?;
        let tree =
            serde_json::to_value(&report.settings).context(Kind::Internal, || "settings have no JSON form".into())?;
        both.push(tree);
    }
    let mut changed = Vec::new();
    for (section, table) in both[1].as_object().into_iter().flatten() {
        for (key, new) in table.as_object().into_iter().flatten() {
            let old = &both[0][section][key];
            if old != new {
                changed.push((format!("{section}.{key}"), old.clone(), new.clone()));
            }
        }
    }
    Ok(changed)
}

async fn promote(args: PromoteArgs, json: bool) -> Result<()> {
    let settings = args.at.resolve()?;
    let registry = Registry::new(args.at.open(&settings).await?, &args.model);
    let forced = args.force.then(|| Forced { reason: args.reason.unwrap_or_default() });
    let entry = registry.promote(&args.version, &settings.gate, forced).await?;
    said(&entry, json)
}

async fn rollback(args: RollbackArgs, json: bool) -> Result<()> {
    let settings = args.at.resolve()?;
    let registry = Registry::new(args.at.open(&settings).await?, &args.model);
    let entry = registry.roll_back(args.to.as_ref(), &args.reason).await?;
    said(&entry, json)
}

fn said(entry: &Entry, json: bool) -> Result<()> {
    if json {
        return print_json(entry);
    }
    println!(
        "{} is current, before it was {}; {}",
        or_none(entry.current.as_ref()),
        or_none(entry.previous.as_ref()),
        entry.note.reason
    );
    Ok(())
}

async fn export(args: ExportArgs, json: bool) -> Result<()> {
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

async fn add(args: AddArgs, json: bool) -> Result<()> {
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
    let (what, id) = (Happening::Added, Some(version.id.clone()));
    registry.note(Note { what, version: id, night: None, reason, forced: false }).await?;
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

async fn one(registry: &Registry, version: Option<VersionId>) -> Result<Version> {
    let id = match version {
        Some(id) => id,
        None => registry.current().await?.ok_or_else(|| unknown_current(registry.model()))?,
    };
    registry.version(&id).await
}

fn unknown(model: &ModelName) -> Error {
    Error::not_found(format!("there is no model {model}; `hardy models list` lists them"))
}

fn unknown_current(model: &ModelName) -> Error {
    Error::not_found(format!("{model} has no current version; `hardy models list {model}` lists what it has"))
}

fn or_none(version: Option<&VersionId>) -> String {
    version.map_or("none".into(), ToString::to_string)
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |s| format!("{:.1} %", 100.0 * s))
}

/// The gate's words, rule by rule.
fn judgement(gate: &Decision) -> String {
    let verdict = if gate.passed { "passed" } else { "failed" };
    let against = gate.against.as_deref().unwrap_or("nothing");
    let mut text = format!("gate       {verdict} against {against}: {}\n", gate.reason);
    for rule in &gate.rules {
        let mark = if rule.passed { "ok    " } else { "FAILED" };
        text += &format!("           {mark} {}: {}\n", rule.name, rule.figure);
    }
    let paired = |name: &str, c: &Comparison| match c.p_value {
        Some(p) => format!("paired     {name}: {} images won, {} lost, p = {p:.3}\n", c.gained, c.lost),
        None => String::new(),
    };
    text += &paired("clean", &gate.clean);
    if let Some(robust) = &gate.robust {
        text += &paired("robust", robust);
    }
    text
}
