//! The current version, with which the gate compares the retrained one.

use super::data::Data;
use super::ledger::Frozen;
use crate::coordinator::measuring;
use crate::coordinator::stage::Job;
use crate::error::{Error, Kind, Result};
use crate::outcome::Outcomes;
use crate::registry::{Registry, Version, WEIGHTS};
use crate::task::VersionId;

/// Refuses before the training what the gate could only refuse after it: a test set that cannot be read, and a current
/// version, `against`, that knows other classes or was measured on another test set.
pub(super) async fn comparable(
    job: &Job,
    registry: &Registry,
    against: Option<&VersionId>,
    classes: &[String],
    frozen: &Frozen,
) -> Result<()> {
    for shard in &frozen.shards {
        job.store.get_blob(&shard.blob).await.map_err(|e| match e.kind() {
            Kind::NotFound | Kind::Data => {
                Error::data("the frozen test set is damaged; bring its shards back, or begin another model (job.name)")
                    .because(e)
            }
            _ => e,
        })?;
    }
    let Some(id) = against else { return Ok(()) };
    let version = registry.version(id).await?;
    let refused = |why: String| {
        Err(Error::data(format!(
            "the current version {id} of {} cannot be compared: {why}; go back to one that can (hardy models rollback), or \
             begin another model (job.name)",
            registry.model()
        )))
    };
    if version.spec.classes != classes {
        return refused(format!("it knows {}, the test set {}", version.spec.classes.join(", "), classes.join(", ")));
    }
    // One that was measured on none, since it was added by hand, is measured in this night.
    if !version.test_sha256.is_empty() && version.test_sha256 != frozen.sha256 {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let (theirs, ours) = (short(&version.test_sha256), short(&frozen.sha256));
        return refused(format!("it was measured on the test set {theirs}, and the frozen one is {ours}"));
    }
    Ok(())
}

/// The current version and what it says of each image of the test set: as it was written down, or measured
/// again where the attacks are others now.
pub(super) async fn measured(
    job: &mut Job,
    registry: &Registry,
    id: &VersionId,
    data: &Data,
    like: &Outcomes,
) -> Result<(Version, Outcomes)> {
    let version = registry.version(id).await?;
    if version.test_sha256 == data.frozen.sha256
        && let Some(known) = registry.outcomes(&version).await?
        && known.conditions == like.conditions
    {
        return Ok((version, known));
    }
    let weights = version.files.get(WEIGHTS).cloned();
    let weights = weights.ok_or_else(|| Error::data(format!("version {id} has no {WEIGHTS}")))?;
    let ours = job.model.take();
    job.model = Some(job.store.put_json(&job.key("model-current.json"), &version.spec).await?);
    let shards: Vec<_> = data.frozen.shards.iter().map(|s| s.blob.clone()).collect();
    let measured = measuring::measure(job, "current", &weights, &[], &shards, &like.conditions).await;
    job.model = ours;
    Ok((Version { test_sha256: data.frozen.sha256.clone(), ..version }, measured?.outcomes))
}
