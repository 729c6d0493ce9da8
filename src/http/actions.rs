//! What may be changed by whoever has the token.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::info;

use super::Site;
use super::access::Authorised;
use super::answer::{Answer, Refusal, SLOW, within};
use crate::config::Settings;
use crate::coordinator::{JobSpec, Program};
use crate::error::{Error, Kind, Result};
use crate::jobs::{self, Jobs};
use crate::model::{self, import};
use crate::task::JobId;

/// A job that somebody wants.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// Its name.
    job: JobId,
    /// Its photos: `s3://bucket/prefix` of class folders.
    #[serde(default)]
    data: String,
    /// Instead of a real job, one of so many empty tasks.
    rehearse: Option<u32>,
    /// Values by `section.key`; what is not given is as the coordinator has it.
    #[serde(default)]
    settings: Map<String, Value>,
}

pub(super) fn router() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/jobs", post(submit))
        .route("/api/jobs/{job}/cancel", post(cancel))
        .route("/api/jobs/{job}/retry", post(retry))
}

async fn submit(
    _: Authorised,
    State(site): State<Arc<Site>>,
    body: axum::body::Bytes,
) -> Answer<(StatusCode, Json<Value>)> {
    let wish: Wish = serde_json::from_slice(&body)
        .map_err(|e| Refusal::new(StatusCode::BAD_REQUEST, format!("the request does not describe a job: {e}")))?;
    let ends = site.ends()?;
    let settings = site.settings.clone().values(wish.settings.clone(), "the request")?.resolve()?.settings;
    let (spec, weights) = spec(&wish, &settings)?;
    let jobs = Jobs::new(ends.store.clone());
    let submitting = async {
        if let (Some(blob), Some(bytes)) = (&spec.weights, weights)
            && jobs.spec(&spec.id).await.is_err_and(|e| e.kind() == Kind::NotFound)
        {
            ends.store.put_bytes(&blob.key, bytes).await?;
        }
        let fresh = jobs.submit(&spec).await?;
        jobs::wake(&*ends.queue, &spec.id).await?;
        Ok(fresh)
    };
    let fresh = within(4 * SLOW, submitting).await?;
    info!(job = %spec.id, fresh, "submitted over HTTP");
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(json!({ "job": spec.id, "submitted": fresh }))))
}

async fn cancel(_: Authorised, State(site): State<Arc<Site>>, Path(job): Path<String>) -> Answer<Json<Value>> {
    change(&site, &job, "cancelled", async |jobs, id| jobs.cancel(id).await).await
}

async fn retry(_: Authorised, State(site): State<Arc<Site>>, Path(job): Path<String>) -> Answer<Json<Value>> {
    change(&site, &job, "opened again", async |jobs, id| jobs.retry(id).await).await
}

async fn change(
    site: &Site,
    job: &str,
    what: &str,
    act: impl AsyncFnOnce(&Jobs, &JobId) -> Result<()>,
) -> Answer<Json<Value>> {
    let id: JobId = job.parse()?;
    let ends = site.ends()?;
    let jobs = Jobs::new(ends.store.clone());
    let changing = async {
        act(&jobs, &id).await?;
        jobs::wake(&*ends.queue, &id).await
    };
    within(SLOW, changing).await?;
    info!(job = %id, "{what} over HTTP");
    Ok(Json(json!({ "job": id })))
}

/// What is submitted, and the weights that go with it.
fn spec(wish: &Wish, settings: &Settings) -> Result<(JobSpec, Option<Vec<u8>>)> {
    let program = match (wish.rehearse, wish.data.split_once("://")) {
        (Some(tasks), None) if wish.data.is_empty() => Program::Rehearse { tasks, stored: false },
        (None, Some(("s3", _))) => Program::Train,
        _ => {
            return Err(Error::usage(
                "a request names either data, s3://bucket/prefix of class folders, or rehearse, a number of tasks",
            ));
        }
    };
    let weights = match (program, settings.model.weights.as_str()) {
        (Program::Rehearse { .. }, _) | (_, "none") => None,
        (_, "imagenet") => {
            let architecture = settings.model.architecture;
            let folded = model::fold(architecture, &import::imagenet(architecture)?)?;
            Some(model::checkpoint::write(&folded)?)
        }
        // A path would be one on the coordinator's machine.
        (_, other) => {
            return Err(Error::usage(format!(
                "model.weights = {}: over HTTP only imagenet and none can be asked for; `hardy submit` takes files",
                other.escape_debug()
            )));
        }
    };
    let blob = weights.as_ref().map(|bytes| JobSpec::given(&wish.job, "weights", bytes));
    let spec = JobSpec { weights: blob, ..JobSpec::new(wish.job.clone(), program, settings, wish.data.clone()) };
    Ok((spec, weights))
}
