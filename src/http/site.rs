//! What a coordinator shows to browsers, and what it needs for that.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tracing::warn;

use super::album::Album;
use super::census::Census;
use super::ledger::Ledger;
use super::models::Models;
use super::results::Results;
use super::{actions, api, page};
use crate::config::{Layers, Secret, Settings};
use crate::error::{Error, Result};
use crate::health::{Ends, Health};
use crate::metrics::CoordinatorMetrics;
use crate::report::Trend;

/// How often the leader counts what is on broker and store for its figures.
const COUNT: Duration = Duration::from_secs(10);

/// The page of a coordinator. Everything on it comes from the store and the broker, so that a coordinator
/// that stands by shows the same as the one that leads.
pub struct Site {
    pub(super) coordinator: String,
    token: Secret,
    /// The budget of the robust accuracy that is shown of models.
    epsilon: f64,
    /// What a job is submitted with where the request says nothing else.
    pub(super) settings: Layers,
    health: Arc<Health>,
    pub(super) metrics: CoordinatorMetrics,
    pub(super) ledger: Ledger,
    pub(super) census: Census,
    pub(super) album: Album,
    pub(super) results: Results,
    models: Models,
}

impl Site {
    /// The page of the coordinator named `coordinator`, which was given `layers` and made `settings` of them.
    pub fn new(
        coordinator: &str,
        settings: &Settings,
        layers: Layers,
        health: Arc<Health>,
        metrics: CoordinatorMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            coordinator: coordinator.to_owned(),
            token: settings.http.token.clone(),
            epsilon: settings.gate.epsilon.value(),
            settings: layers,
            health,
            metrics,
            ledger: Ledger::default(),
            census: Census::default(),
            album: Album::default(),
            results: Results::default(),
            models: Models::default(),
        })
    }

    /// Everything below `/` but the probes.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().merge(page::router()).merge(api::router()).merge(actions::router()).with_state(self.clone())
    }

    /// Keeps the figures of the cluster up to date while this coordinator leads, for ever.
    pub async fn count(&self) {
        loop {
            tokio::time::sleep(COUNT).await;
            if !self.metrics.leads() {
                // What was found while the lead was lost.
                self.metrics.forget();
                continue;
            }
            let Ok(ends) = self.ends() else { continue };
            let counted = async {
                self.census.take(ends, &self.ledger, &self.metrics).await?;
                self.metrics.models(&self.models().await?);
                Ok::<_, Error>(())
            };
            if let Err(e) = counted.await {
                warn!("the cluster was not counted: {}", e.chain());
            }
        }
    }

    /// Every model of the registry with its history; robust accuracy at this coordinator's `gate.epsilon`.
    pub(super) async fn models(&self) -> Result<Vec<Arc<Trend>>> {
        self.models.all(&self.ends()?.store, self.epsilon).await
    }

    pub(super) fn token(&self) -> &Secret {
        &self.token
    }

    pub(super) fn ends(&self) -> Result<&Ends> {
        self.health.ends()
    }
}
