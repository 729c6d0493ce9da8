//! Ways to the broker and the store of a cluster, for every command that needs them.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tracing::error;

use crate::config::Settings;
use crate::error::{Context, Error, Kind, Result};
use crate::http;
use crate::queue::{self, Queue};
use crate::store::{self, Store};
use crate::task::WorkerId;

/// How long a command at a prompt waits for a broker or a store that does not answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs `work` on an async runtime of this process.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context(Kind::Internal, || "the async runtime cannot be started".into())?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

/// Answers HTTP requests beside everything else for as long as the process lives.
pub(super) fn serve_http(listener: tokio::net::TcpListener, router: axum::Router) {
    tokio::spawn(async move {
        if let Err(e) = http::serve(listener, router).await {
            error!("{}", e.chain());
        }
    });
}

/// The cluster's store, for a command at a prompt.
pub(super) async fn store(settings: &Settings) -> Result<Arc<dyn Store>> {
    named(settings)?;
    store::open_within(&settings.store.url, &settings.store, PATIENCE).await
}

/// The cluster's queue, for a command at a prompt.
pub(super) async fn queue(settings: &Settings) -> Result<Arc<dyn Queue>> {
    queue::connect(&settings.queue, Some(PATIENCE)).await
}

/// Both, for a process that outlives outages of either.
pub(super) async fn stay(settings: &Settings) -> Result<(Arc<dyn Store>, Arc<dyn Queue>)> {
    named(settings)?;
    let store = store::create(&settings.store.url, &settings.store).await?;
    Ok((store, queue::connect(&settings.queue, None).await?))
}

fn named(settings: &Settings) -> Result<()> {
    if settings.store.url.is_empty() {
        return Err(Error::usage(
            "store.url is empty: a cluster needs s3://bucket/prefix or a shared folder, from HARDY_STORE__URL, --config or --set",
        ));
    }
    Ok(())
}

/// `host-1a2b3c4d`, with what no id may hold replaced.
pub(super) fn host_and_chance() -> WorkerId {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let sound = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let host: String = host.trim().chars().map(sound).take(40).collect();
    let host = host.trim_matches('-');
    let host = if host.is_empty() { "host" } else { host };
    WorkerId(format!("{host}-{:08x}", rand::rng().next_u32()))
}
