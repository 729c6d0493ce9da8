//! `hardy worker`: does tasks until told to stop.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::SettingsArgs;
use super::cluster::{self, host_and_chance};
use crate::error::{Context, Error, Kind, Result};
use crate::health::Health;
use crate::http;
use crate::metrics::{Gpu, WorkerMetrics};
use crate::signal::interrupted;
use crate::task::WorkerId;
use crate::worker::{Setup, Worker};

/// How often the GPUs are asked how they are.
const GPUS: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
#[command(after_help = "Example:
  HARDY_QUEUE__URL=amqp://user:password@broker/vhost HARDY_STORE__URL=s3://bucket/hardy hardy worker --workers 2

On SIGTERM it takes no new task and finishes the one it has; after worker.grace seconds it hands it back.
With worker.idle it leaves by itself when no task came for so many seconds.")]
pub(super) struct WorkerArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Worker threads of this process. Default: worker.count, or one per core.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Its name in logs and states. Default: host name and a random part.
    #[arg(long)]
    name: Option<WorkerId>,
}

pub(super) fn run(args: WorkerArgs) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    let name = args.name.unwrap_or_else(host_and_chance);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = args.workers.unwrap_or(settings.worker.count);
    let count = if count == 0 { cores } else { count };
    let scratch = match settings.worker.cache.as_str() {
        "" => tempfile::Builder::new().prefix("hardy-cache-").tempdir(),
        folder => tempfile::Builder::new().prefix("hardy-cache-").tempdir_in(folder),
    };
    let scratch = scratch.context(Kind::Storage, || {
        format!("no cache can be made in '{}' (worker.cache; empty: the temporary folder)", settings.worker.cache)
    })?;
    cluster::block_on(async {
        let (health, metrics) = (Arc::new(Health::default()), WorkerMetrics::default());
        metrics.threads(count);
        if let Some(listener) = http::listen(&settings.http).await? {
            let mut registry = Registry::default();
            metrics.register(&mut registry);
            cluster::serve_http(listener, http::probes(health.clone(), registry));
            tokio::spawn(watch_gpus(metrics.clone()));
        }
        // One and the same from here on, so that no signal falls between two of them.
        let mut told = Box::pin(interrupted());
        let (store, queue) = tokio::select! {
            ends = cluster::stay(&settings) => ends?,
            () = &mut told => return Ok(()),
        };
        health.connected(&store, &queue);
        let (stop, grace) = (CancellationToken::new(), Duration::from_secs(settings.worker.grace));
        let idle = Duration::from_secs(settings.worker.idle);
        let mut workers = tokio::task::JoinSet::new();
        for number in 0..count {
            let id: WorkerId = format!("{name}.{number}").parse()?;
            let setup = Setup {
                cache: scratch.path().join(&id.0),
                pulse: health.pulse(format!("worker {id}")),
                stall: Duration::from_secs(settings.worker.stall),
                metrics: metrics.clone(),
                id,
                queue: queue.clone(),
                store: store.clone(),
                access: settings.store.clone(),
            };
            workers.spawn(Worker::new(setup)?.run(stop.clone(), grace, idle));
        }
        info!(worker = %name, threads = count, "works");
        let stopping = stop.clone();
        tokio::spawn(async move {
            told.await;
            info!("told to stop; finishing what is in progress");
            stopping.cancel();
        });
        while let Some(ended) = workers.join_next().await {
            match ended {
                Ok(Ok(())) if stop.is_cancelled() || !idle.is_zero() => {}
                Ok(Err(e)) => return Err(e),
                Ok(Ok(())) => return Err(Error::internal("a worker ended by itself")),
                Err(e) => return Err(Error::internal("a worker broke down").because(e)),
            }
        }
        Ok(())
    })
}

/// Asks after the GPUs for ever, unless there is nothing to ask.
async fn watch_gpus(metrics: WorkerMetrics) {
    while let Ok(Some(found)) = tokio::task::spawn_blocking(Gpu::all).await {
        metrics.gpus(&found);
        tokio::time::sleep(GPUS).await;
    }
}
