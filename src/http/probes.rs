//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;

use super::answer::{Answer, Refusal};
use crate::error::Error;
use crate::health::Health;
use crate::metrics;

struct Probed {
    health: Arc<Health>,
    registry: Registry,
}

/// What Kubernetes and Prometheus ask of a process.
pub fn probes(health: Arc<Health>, registry: Registry) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .with_state(Arc::new(Probed { health, registry }))
}

async fn alive(State(probed): State<Arc<Probed>>) -> Answer<&'static str> {
    probed.health.alive().map_err(unavailable)?;
    Ok("alive\n")
}

async fn ready(State(probed): State<Arc<Probed>>) -> Answer<&'static str> {
    probed.health.ready().await.map_err(unavailable)?;
    Ok("ready\n")
}

async fn figures(State(probed): State<Arc<Probed>>) -> Answer<impl IntoResponse> {
    Ok(([(CONTENT_TYPE, metrics::MEDIA_TYPE)], metrics::text(&probed.registry)?))
}

fn unavailable(error: Error) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.chain())
}
