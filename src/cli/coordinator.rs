//! `hardy coordinator`: plans jobs, hands out their tasks and gathers what they bring, until told to stop.

use std::sync::Arc;

use clap::Args;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::SettingsArgs;
use super::cluster::{self, host_and_chance};
use crate::coordinator::Coordinator;
use crate::error::Result;
use crate::health::Health;
use crate::http::{self, Site};
use crate::metrics::CoordinatorMetrics;
use crate::signal::interrupted;
use crate::task::WorkerId;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  HARDY_QUEUE__URL=amqp://user:password@broker/vhost HARDY_STORE__URL=s3://bucket/hardy hardy coordinator

Any number may run; one leads, the others stand by. SIGTERM ends it; another one goes on with its jobs.")]
pub(super) struct CoordinatorArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Its name in logs and states. Default: host name and a random part.
    #[arg(long)]
    name: Option<WorkerId>,
}

pub(super) fn run(args: CoordinatorArgs) -> Result<()> {
    let layers = args.settings.layers()?;
    let settings = layers.clone().resolve()?.settings;
    let id = args.name.unwrap_or_else(host_and_chance).0;
    cluster::block_on(async {
        let (health, metrics) = (Arc::new(Health::default()), CoordinatorMetrics::default());
        if let Some(listener) = http::listen(&settings.http).await? {
            let mut registry = Registry::default();
            metrics.register(&mut registry);
            let site = Site::new(&id, &settings, layers, health.clone(), metrics.clone());
            let router = site.router().merge(http::probes(health.clone(), registry));
            cluster::serve_http(listener, router);
            tokio::spawn(async move { site.count().await });
        }
        // One and the same from here on, so that no signal falls between two of them.
        let mut told = Box::pin(interrupted());
        let (store, queue) = tokio::select! {
            ends = cluster::stay(&settings) => ends?,
            () = &mut told => return Ok(()),
        };
        health.connected(&store, &queue);
        let pulse = health.pulse("the coordinator");
        let (access, policy, webhook) = (settings.store.clone(), settings.queue.clone(), settings.webhook.clone());
        let coordinator = Coordinator { store, queue, id, access, policy, webhook, metrics, pulse };
        let stop = CancellationToken::new();
        tokio::select! {
            outcome = coordinator.serve(stop.clone()) => outcome,
            () = told => {
                info!("told to stop; another coordinator goes on");
                Ok(())
            }
        }
    })
}
