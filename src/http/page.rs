//! The page and its parts, and the reports of finished jobs.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName};
use axum::response::IntoResponse;
use axum::routing::get;

use super::Site;
use super::answer::{Answer, SLOW, within};
use super::results::NAMES;
use crate::coordinator::JobSpec;
use crate::error::{Error, Kind};
use crate::report;
use crate::task::{JobId, ModelName};

/// Reports are refused above this size.
const REPORT_LIMIT: u64 = 256 << 20;

/// A report holds its style and its pictures, and no script.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                             form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";

/// The page itself.
pub(super) fn router() -> Router<Arc<Site>> {
    let file = |media: &'static str, text: &'static str| get(move || async move { ([(CONTENT_TYPE, media)], text) });
    Router::new()
        .route("/", file(HTML, include_str!("page.html")))
        .route("/page.css", file("text/css; charset=utf-8", include_str!("page.css")))
        .route("/page.js", file("text/javascript; charset=utf-8", include_str!("page.js")))
        .route("/report.css", file("text/css; charset=utf-8", report::STYLE))
        .route("/jobs/{job}/{file}", get(result))
        .route("/models/{model}/history.html", get(history))
}

async fn history(State(site): State<Arc<Site>>, Path(model): Path<String>) -> Answer<impl IntoResponse> {
    let name: ModelName = model.parse()?;
    let all = site.models().await?;
    let trend = all.iter().find(|trend| trend.model == name.0);
    let trend = trend.ok_or_else(|| Error::not_found(format!("there is no model {name}")))?;
    let headers: [(HeaderName, &str); 2] = [(CONTENT_TYPE, HTML), (CONTENT_SECURITY_POLICY, REPORT_POLICY)];
    Ok((headers, report::history_page(trend)?))
}

async fn result(State(site): State<Arc<Site>>, Path((job, file)): Path<(String, String)>) -> Answer<impl IntoResponse> {
    let id: JobId = job.parse()?;
    let media = match file.as_str() {
        "report.html" => HTML,
        name if NAMES.contains(&name) => "application/json",
        _ => return Err(Error::not_found(format!("no '{}' of a job is shown here", file.escape_debug())).into()),
    };
    let store = &site.ends()?.store;
    let key = JobSpec::prefix(&id).join("result").join(&file);
    let bytes = within(4 * SLOW, store.get_bytes(&key, REPORT_LIMIT)).await.map_err(|e| match e.kind() {
        Kind::NotFound => Error::not_found(format!("job {id} has no {file}, or not yet")),
        _ => e,
    })?;
    let headers: [(HeaderName, &str); 2] = [(CONTENT_TYPE, media), (CONTENT_SECURITY_POLICY, REPORT_POLICY)];
    Ok((headers, bytes))
}
