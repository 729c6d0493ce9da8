//! What is on the broker and in the ledger, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::warn;

use super::ledger::Ledger;
use crate::coordinator::JobSpec;
use crate::error::{Error, Result};
use crate::health::Ends;
use crate::jobs::{State, Status};
use crate::metrics::{CoordinatorMetrics, Sight};
use crate::queue::{Priority, Queue, Topic};
use crate::report::Report;
use crate::task::{JobId, WorkerId};

/// For how long a count of the broker's queues is told again.
const FRESH: Duration = Duration::from_secs(2);

/// How long the broker may take to answer.
const PROMPT: Duration = Duration::from_secs(3);

/// A worker that a job has not heard of for so long is none of its workers any more, whatever its status says.
const ALIVE: i64 = 30;

/// Reports are refused above this size.
const REPORT_LIMIT: u64 = 256 << 20;

/// What waits on the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Broker {
    pub waiting: Vec<(Priority, u64)>,
    pub dead: u64,
    /// Workers that wait for a task.
    pub idle: u64,
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Census {
    broker: Mutex<Option<(Instant, Broker)>>,
    /// The job whose results are among the figures.
    last: Mutex<Option<(JobId, String)>>,
}

impl Census {
    /// What waits on the broker.
    ///
    /// # Errors
    /// When it does not answer soon.
    pub async fn broker(&self, queue: &dyn Queue) -> Result<Broker> {
        let mut known = self.broker.lock().await;
        if let Some((_, broker)) = known.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(broker.clone());
        }
        let counting = async {
            let mut waiting = Vec::new();
            for priority in [Priority::High, Priority::Normal, Priority::Low] {
                waiting.push((priority, queue.backlog(Topic::Tasks(priority)).await?));
            }
            Ok(Broker { waiting, dead: queue.backlog(Topic::Dead).await?, idle: queue.idle().await? })
        };
        let broker: Broker =
            timeout(PROMPT, counting).await.map_err(|_| Error::queue("the broker does not answer"))??;
        *known = Some((Instant::now(), broker.clone()));
        Ok(broker)
    }

    /// Counts everything for the figures of the coordinator that leads.
    pub async fn take(&self, ends: &Ends, ledger: &Ledger, metrics: &CoordinatorMetrics) -> Result<()> {
        let broker = self.broker(&*ends.queue).await?;
        let all = ledger.all(&ends.store).await?;
        let mut jobs = BTreeMap::new();
        for status in &all {
            *jobs.entry(status.state.name()).or_default() += 1;
        }
        let busy = busy(&all).len() as u64;
        // The lead may have been lost meanwhile.
        if metrics.leads() {
            let Broker { waiting, dead, idle } = broker;
            metrics.seen(&Sight { waiting, dead, idle, busy, jobs });
            self.results(ends, &all, metrics).await?;
        }
        Ok(())
    }

    /// Another coordinator tells of the results from now on.
    pub async fn forget(&self) {
        *self.last.lock().await = None;
    }

    /// Reads the report of the job that was done last, once.
    async fn results(&self, ends: &Ends, all: &[Arc<Status>], metrics: &CoordinatorMetrics) -> Result<()> {
        // A rehearsal is no success to be proud of.
        let done = all.iter().filter(|s| s.state == State::Done && !s.rounds.is_empty());
        let done = done.max_by(|a, b| a.updated.cmp(&b.updated));
        let Some(status) = done else { return Ok(()) };
        let id = (status.job.clone(), status.updated.clone());
        let mut last = self.last.lock().await;
        if last.as_ref() == Some(&id) {
            return Ok(());
        }
        let key = JobSpec::prefix(&status.job).join("result/report.json");
        let report = match ends.store.get_bytes(&key, REPORT_LIMIT).await {
            Ok(bytes) => Report::from_json(&bytes).map_err(|e| warn!(job = %status.job, "{}", e.chain())).ok(),
            Err(e) if e.kind() == crate::error::Kind::NotFound => None,
            Err(e) => return Err(e),
        };
        if let Ok(ended) = status.updated.parse::<jiff::Timestamp>() {
            metrics.last(report.as_ref(), ended.as_second());
        }
        *last = Some(id);
        Ok(())
    }
}

/// The workers that were heard of lately, each with a job it works for.
pub(super) fn busy(all: &[Arc<Status>]) -> Vec<(WorkerId, JobId)> {
    let now = jiff::Timestamp::now();
    let fresh = |status: &Status| {
        let updated = status.updated.parse::<jiff::Timestamp>().ok();
        status.state == State::Running && updated.is_some_and(|at| now.duration_since(at).as_secs() < ALIVE)
    };
    let mut seen = BTreeSet::new();
    let running = all.iter().filter(|status| fresh(status));
    let workers = running.flat_map(|status| status.workers.iter().map(|w| (w.clone(), status.job.clone())));
    workers.filter(|(worker, _)| seen.insert(worker.clone())).collect()
}
