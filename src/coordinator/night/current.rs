//! The current version, with which the gate compares the retrained one.

use super::data::Data;
use crate::coordinator::measuring;
use crate::coordinator::stage::Job;
use crate::error::{Error, Result};
use crate::outcome::Outcomes;
use crate::registry::{Registry, Version, WEIGHTS};
use crate::task::VersionId;

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
    // Of another test set, or of none: the gate refuses the one, and measures anew for the other.
    let foreign = !version.test_sha256.is_empty() && version.test_sha256 != data.frozen.sha256;
    if foreign || version.spec.classes != data.classes {
        let outcomes = registry.outcomes(&version).await?.unwrap_or_else(|| like.clone());
        return Ok((version, outcomes));
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
