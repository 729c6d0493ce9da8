//! `hardy models list` and `show`: what models and versions there are, and what happened to each.

use clap::Args;
use serde_json::json;

use super::words::{judgement, or_none, percent};
use super::{StoreArgs, one};
use crate::cli::jobs::print_json;
use crate::error::{Error, Result};
use crate::registry::{Entry, Registry};
use crate::task::{ModelName, VersionId};

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model; without it, all models.
    model: Option<ModelName>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct OneArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model.
    model: ModelName,
    /// The version.
    version: Option<VersionId>,
}

pub(super) async fn list(args: ListArgs, json: bool) -> Result<()> {
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

pub(super) async fn show(args: OneArgs, json: bool) -> Result<()> {
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

fn unknown(model: &ModelName) -> Error {
    Error::not_found(format!("there is no model {model}; `hardy models list` lists them"))
}
