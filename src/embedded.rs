//! The whole job in one process: the coordinator and its workers over the in-process queue and a
//! local folder. The same code as on a cluster, with other ends plugged into the two seams.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::coordinator::{Coordinator, JobSpec, Observer};
use crate::dataset::STAGED;
use crate::error::{Context, Error, Kind, Result};
use crate::health::Pulse;
use crate::metrics::{CoordinatorMetrics, WorkerMetrics};
use crate::queue::{MemoryQueue, Queue};
use crate::signal::Orderly;
use crate::store::{LocalStore, Store};
use crate::task::WorkerId;
use crate::worker::{Setup, Worker};

/// How the names of caches begin.
const CACHE: &str = "hardy-cache-";

/// A queue, a store and running workers.
#[derive(Debug)]
pub struct Home {
    /// Where everything of the job lies.
    pub store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    workers: JoinSet<Result<()>>,
    stop: CancellationToken,
    settings: Settings,
    _cache: tempfile::TempDir,
}

/// Removes the folders that a run that was killed left in `folder`, which this process has locked, by how their names begin.
fn clean(folder: &Path, left: &str) -> Result<()> {
    let failed = || format!("{} cannot be rid of what an earlier run left", folder.display());
    for entry in std::fs::read_dir(folder).context(Kind::Storage, failed)? {
        let entry = entry.context(Kind::Storage, failed)?;
        if entry.file_name().to_string_lossy().starts_with(left) {
            std::fs::remove_dir_all(entry.path()).context(Kind::Storage, failed)?;
        }
    }
    Ok(())
}

impl Home {
    /// Starts `workers` workers on a store in `folder`, which is all theirs and which this process has locked.
    pub fn open(folder: &Path, workers: usize, settings: &Settings) -> Result<Self> {
        let store = LocalStore::create(folder)?;
        store.discard_unfinished()?;
        clean(folder, STAGED)?;
        Self::over(Arc::new(store), folder, workers, settings)
    }

    /// Starts `workers` workers on `store`, with their caches in `folder`, which this process has locked.
    pub fn over(store: Arc<dyn Store>, folder: &Path, workers: usize, settings: &Settings) -> Result<Self> {
        let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new(settings.queue.delivery_limit));
        clean(folder, CACHE)?;
        let cache = tempfile::Builder::new()
            .prefix(CACHE)
            .tempdir_in(folder)
            .map_err(|e| Error::storage(format!("no cache can be made in {}", folder.display())).because(e))?;
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        for number in 0..workers {
            let id = WorkerId(format!("local-{number}"));
            let worker = Worker::new(Setup {
                cache: cache.path().join(&id.0),
                id,
                queue: queue.clone(),
                store: store.clone(),
                access: settings.store.clone(),
                metrics: WorkerMetrics::default(),
                pulse: Pulse::default(),
                stall: Duration::from_secs(settings.worker.stall),
            })?;
            running.spawn(worker.run(stop.clone(), Duration::ZERO, Duration::ZERO));
        }
        Ok(Self { store, queue, workers: running, stop, settings: settings.clone(), _cache: cache })
    }

    /// Runs a job to its end, or until a signal.
    pub async fn run(mut self, spec: JobSpec, observer: Observer) -> Result<()> {
        let coordinator = Coordinator {
            store: self.store.clone(),
            queue: self.queue.clone(),
            id: "local".into(),
            access: self.settings.store.clone(),
            policy: self.settings.queue.clone(),
            metrics: CoordinatorMetrics::default(),
            pulse: Pulse::default(),
            webhook: self.settings.webhook.clone(),
        };
        let orderly = Orderly::begin();
        let outcome = tokio::select! {
            outcome = coordinator.run(spec, observer) => outcome,
            ended = self.workers.join_next() => match ended {
                Some(Ok(Err(e))) => Err(e),
                _ => Err(Error::internal("a worker ended before its job did")),
            },
            () = orderly.asked() => {
                Err(Error::new(Kind::Interrupted, "interrupted; the same command goes on where this one stopped"))
            }
        };
        self.stop.cancel();
        outcome
    }
}
