//! What can be read, as JSON. Documented in docs/http.md.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};

use super::Site;
use super::answer::{Answer, SLOW, within};
use super::census::busy;
use crate::error::{Context, Error, Kind, Result};
use crate::jobs::{Jobs, StageStatus, State as JobState, Status};
use crate::metrics::queue_name;
use crate::report::{LeftOut, curve};
use crate::task::JobId;

/// Jobs that a list holds at most.
const LISTED: usize = 200;

/// A line in the list of jobs.
#[derive(Debug, Serialize)]
struct Line<'a> {
    job: &'a JobId,
    state: JobState,
    submitted: &'a str,
    updated: &'a str,
    stage: Option<&'a StageStatus>,
    stages_done: usize,
    images_per_second: f64,
    stage_seconds_left: Option<f64>,
    workers: usize,
    failures: usize,
    rounds: usize,
    left_out: &'a [LeftOut],
    error: Option<&'a str>,
}

impl<'a> From<&'a Status> for Line<'a> {
    fn from(s: &'a Status) -> Self {
        Self {
            job: &s.job,
            state: s.state,
            submitted: &s.submitted,
            updated: &s.updated,
            stage: s.stage.as_ref(),
            stages_done: s.stages_done,
            images_per_second: s.images_per_second,
            stage_seconds_left: s.stage_seconds_left,
            workers: s.workers.len(),
            failures: s.failures,
            rounds: s.rounds.len(),
            left_out: &s.left_out,
            error: s.error.as_ref().map(|(_, why)| why.as_str()),
        }
    }
}

/// All that is read below `/api`.
pub(super) fn router() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/cluster", get(cluster))
        .route("/api/models", get(models))
        .route("/api/jobs", get(jobs))
        .route("/api/jobs/{job}", get(job))
        .route("/api/jobs/{job}/curves", get(curves))
        .route("/api/jobs/{job}/pictures", get(pictures))
        .route("/api/jobs/{job}/pictures/{set}/{file}", get(picture))
}

async fn cluster(State(site): State<Arc<Site>>) -> Answer<Json<Value>> {
    let ends = site.ends()?;
    let all = site.ledger.all(&ends.store).await?;
    let workers: Vec<_> = busy(&all).into_iter().map(|(worker, job)| json!({ "worker": worker, "job": job })).collect();
    let running = all.iter().filter(|s| s.state == JobState::Running && !s.coordinator.is_empty());
    // The page is of use without the broker, too.
    let (broker, trouble) = match site.census.broker(&*ends.queue).await {
        Ok(broker) => (Some(broker), None),
        Err(e) => (None, Some(e.chain())),
    };
    let queues = broker.as_ref().map(|b| {
        b.waiting
            .iter()
            .map(|(priority, count)| (queue_name(*priority), *count))
            .collect::<std::collections::BTreeMap<_, _>>()
    });
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "coordinator": site.coordinator,
        "leads": site.metrics.leads(),
        "leader": running.max_by(|a, b| a.updated.cmp(&b.updated)).map(|s| s.coordinator.as_str()),
        "writable": !site.token().is_empty(),
        "workers": workers,
        "idle": broker.as_ref().map(|b| b.idle),
        "waiting": queues,
        "dead_letters": broker.as_ref().map(|b| b.dead),
        "trouble": trouble,
    })))
}

/// Each model with what happened to it last; its whole history is a page of its own.
async fn models(State(site): State<Arc<Site>>) -> Answer<Json<Value>> {
    let lines = site.models().await?.into_iter().map(|trend| {
        let judged = trend.nights.iter().rev().find(|n| !n.by_hand);
        let now = trend.nights.last();
        json!({
            "model": trend.model,
            "epsilon": trend.epsilon,
            "current": trend.current,
            "clean": now.and_then(|n| n.current_clean),
            "robust": now.and_then(|n| n.current_robust),
            "night": judged.map(|n| &n.name),
            "outcome": judged.map(|n| &n.what),
            "reason": judged.map(|n| &n.reason),
            "at": judged.map(|n| &n.at),
        })
    });
    Ok(Json(Value::Array(lines.collect())))
}

async fn jobs(State(site): State<Arc<Site>>) -> Answer<Json<Value>> {
    let all = site.ledger.all(&site.ends()?.store).await?;
    let lines: Vec<Line<'_>> = all.iter().take(LISTED).map(|s| Line::from(&**s)).collect();
    Ok(Json(json!({ "total": all.len(), "jobs": lines })))
}

async fn job(State(site): State<Arc<Site>>, Path(job): Path<String>) -> Answer<Json<Value>> {
    let status = status(&site, &job).await?;
    let results = site.results.of(&site.ends()?.store, &status).await?;
    let mut told =
        serde_json::to_value(&status).context(Kind::Internal, || "the status of a job has no JSON form".into())?;
    told["results"] = json!(results);
    Ok(Json(told))
}

async fn curves(State(site): State<Arc<Site>>, Path(job): Path<String>) -> Answer<Json<Value>> {
    let status = status(&site, &job).await?;
    let mut curves = serde_json::Map::new();
    for phase in ["baseline", "train"] {
        if let Some(svg) = curve(&status.rounds, &status.guard, phase)? {
            curves.insert(phase.into(), svg.into());
        }
    }
    Ok(Json(Value::Object(curves)))
}

async fn pictures(State(site): State<Arc<Site>>, Path(job): Path<String>) -> Answer<Json<Value>> {
    let status = status(&site, &job).await?;
    let store = &site.ends()?.store;
    let Some((set, task, found)) = within(SLOW, site.album.newest(store, &status)).await? else {
        return Ok(Json(json!({ "task": null, "pictures": [] })));
    };
    let pictures = found.iter().enumerate().map(|(number, picture)| {
        let address = |which| format!("/api/jobs/{job}/pictures/{set}/{number}-{which}.png");
        json!({
            "key": picture.key,
            "class": picture.class,
            "before": picture.before,
            "after": picture.after,
            "attack": picture.attack,
            "epsilon": picture.epsilon,
            "original": picture.original.as_ref().map(|_| address("original")),
            "adversarial": address("adversarial"),
        })
    });
    Ok(Json(json!({ "task": task, "pictures": pictures.collect::<Vec<_>>() })))
}

async fn picture(
    State(site): State<Arc<Site>>,
    Path((job, set, file)): Path<(String, String, String)>,
) -> Answer<impl IntoResponse> {
    let status = status(&site, &job).await?;
    let missing = || Error::not_found(format!("job {job} has no such picture"));
    let store = &site.ends()?.store;
    let found = within(SLOW, site.album.set(store, &status, &set)).await?.ok_or_else(missing)?;
    let (number, which) = file.strip_suffix(".png").and_then(|f| f.split_once('-')).ok_or_else(missing)?;
    let picture = number.parse().ok().and_then(|n: usize| found.get(n)).ok_or_else(missing)?;
    let png = match which {
        "original" => picture.original.clone(),
        "adversarial" => Some(picture.adversarial.clone()),
        _ => None,
    };
    // Its address holds the hash of what it is taken from.
    let headers = [(CONTENT_TYPE, "image/png"), (CACHE_CONTROL, "private, max-age=3600, immutable")];
    Ok((headers, png.ok_or_else(missing)?))
}

/// How the job goes that an address names.
pub(super) async fn status(site: &Site, job: &str) -> Result<Status> {
    let id: JobId = job.parse()?;
    let jobs = Jobs::new(site.ends()?.store.clone());
    within(SLOW, jobs.status(&id)).await
}
