//! What a night leaves: a version in the registry, the same as the job's results, and how it ended.

use bytes::Bytes;
use serde_json::json;

use super::{Night, Outcome};
use crate::coordinator::results::put;
use crate::coordinator::stage::Job;
use crate::error::{Context, Kind, Result};
use crate::model::{self, ModelSpec};
use crate::outcome::Outcomes;
use crate::registry::{OUTCOMES, Registry, Version, WEIGHTS};
use crate::report::{self, Report, RunRecord};
use crate::store::Blob;
use crate::task::VersionId;

/// Outcomes are refused above this size.
const LIMIT: u64 = 1 << 20;

/// Writes the version with its report; it is not promoted by this.
pub(super) async fn version(
    job: &Job,
    registry: &Registry,
    night: &Night,
    spec: &ModelSpec,
    checkpoint: &Blob,
    record: &RunRecord,
    outcomes: &Outcomes,
) -> Result<Version> {
    let report = Report::new(record)?;
    let folded = job.store.get_blob(checkpoint).await?;
    let weights = model::checkpoint::read(&folded)?;
    let metrics = serde_json::to_value(&report.results).context(Kind::Internal, || "results have no JSON".into())?;
    let about = json!({ "id": job.spec.id, "seed": job.spec.settings.job.seed, "report": record.provenance });
    let (weights, description) = model::files(spec, &weights, metrics, about)?;
    let card = report::model_card(&report, spec)?;
    let said = serde_json::to_vec(outcomes).context(Kind::Internal, || "outcomes have no JSON form".into())?;
    let page = report::page(&report, &record.examples)?;
    let files: Vec<(String, Bytes)> = vec![
        (model::WEIGHTS_FILE.into(), weights.into()),
        (model::SPEC_FILE.into(), description.into()),
        ("README.md".into(), card.into()),
        (WEIGHTS.into(), folded),
        (OUTCOMES.into(), said.into()),
        ("report.html".into(), page.into()),
        ("report.json".into(), report.to_json()?.into()),
    ];
    for (name, bytes) in &files {
        let place = match name.as_str() {
            model::WEIGHTS_FILE | model::SPEC_FILE | "README.md" => format!("model/{name}"),
            "report.html" | "report.json" => name.clone(),
            // The registry's own.
            _ => continue,
        };
        put(job, &place, bytes.clone()).await?;
    }
    let draft = Version {
        version: Version::format(),
        model: night.model.clone(),
        id: night.night.clone(),
        created: crate::coordinator::now(),
        job: job.spec.id.to_string(),
        hardy: env!("CARGO_PKG_VERSION").into(),
        spec: spec.clone(),
        checkpoint_sha256: checkpoint.sha256.clone(),
        parent: parent(job, night),
        dataset_sha256: record.provenance.dataset_sha256.clone(),
        test_sha256: record.night.as_ref().map(|n| n.gate.test_sha256.clone()).unwrap_or_default(),
        results: report.results.clone(),
        worst_case: report.worst_case.clone(),
        checks: report.checks.clone(),
        gate: record.night.as_ref().map(|n| n.gate.clone()),
        files: Default::default(),
    };
    registry.publish(draft, files).await
}

fn parent(job: &Job, night: &Night) -> Option<VersionId> {
    job.spec.model.as_ref().and(night.against.clone())
}

/// How the night ended, if that is written down: then nothing is left to do.
pub(super) async fn ended(job: &Job) -> Result<Option<Outcome>> {
    match job.store.get_json(&job.key("result/night.json"), LIMIT).await {
        Ok(ended) => Ok(Some(ended)),
        Err(e) if e.kind() == Kind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes how the night ended, `night.json`; it comes after everything else.
pub(super) async fn outcome(job: &Job, ended: &Outcome) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(ended).context(Kind::Internal, || "an outcome has no JSON form".into())?;
    text.push(b'\n');
    put(job, "night.json", text).await
}
