//! What tasks brought: the blobs they name, and the outcomes in them.

use crate::coordinator::stage::Job;
use crate::error::{Error, Result};
use crate::outcome::Outcomes;
use crate::store::Blob;
use crate::task::Success;

/// The output that the kind of task is bound to have.
pub(in crate::coordinator) fn output(success: &Success, name: &str) -> Result<Blob> {
    success.outputs.get(name).cloned().ok_or_else(|| Error::internal(format!("a task brought no output '{name}'")))
}

/// Reads and joins the outcomes of evaluation tasks, in their order.
pub(in crate::coordinator) async fn merged_outcomes(job: &Job, parts: &[Success]) -> Result<Outcomes> {
    let mut all = Vec::with_capacity(parts.len());
    for part in parts {
        let bytes = job.store.get_blob(&output(part, "outcomes")?).await?;
        let outcomes: Outcomes = serde_json::from_slice(&bytes)
            .map_err(|e| Error::data("outcomes are not the JSON they should be").because(e))?;
        all.push(outcomes);
    }
    Outcomes::merge(all)
}
