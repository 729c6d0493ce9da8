//! `hardy models diff`: two versions side by side.

use clap::Args;
use serde_json::json;

use super::StoreArgs;
use super::words::{judgement, percent};
use crate::cli::jobs::print_json;
use crate::error::{Context, Kind, Result};
use crate::registry::{Registry, Version};
use crate::report::Report;
use crate::task::{ModelName, VersionId};

#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model.
    model: ModelName,
    /// The version before.
    before: VersionId,
    /// The version after.
    after: VersionId,
}

pub(super) async fn diff(args: DiffArgs, json: bool) -> Result<()> {
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
