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
use crate::registry::Happening;
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
            metrics.last_success(last_success(&all));
        }
        Ok(())
    }

    /// Reads the report of the training job that was done last, once.
    async fn results(&self, ends: &Ends, all: &[Arc<Status>], metrics: &CoordinatorMetrics) -> Result<()> {
        let done = telling(all).filter(|s| s.state == State::Done && !s.rounds.is_empty());
        let done = done.max_by(|a, b| a.updated.cmp(&b.updated));
        let Some(status) = done else {
            metrics.last_results(None);
            return Ok(());
        };
        let end = (status.job.clone(), status.updated.clone());
        if metrics.tells_of(&end) {
            return Ok(());
        }
        let key = JobSpec::prefix(&status.job).join("result/report.json");
        let report = match ends.store.get_bytes(&key, REPORT_LIMIT).await {
            Ok(bytes) => Report::from_json(&bytes).map_err(|e| warn!(job = %status.job, "{}", e.chain())).ok(),
            Err(e) if e.kind() == crate::error::Kind::NotFound => None,
            Err(e) => return Err(e),
        };
        metrics.last_results(Some((end, report.as_ref())));
        Ok(())
    }
}

/// The jobs that figures of success and accuracy are about: nights, where there are any. Whatever else is tried on the
/// same cluster must neither hide that they fail nor look like their model.
fn telling(all: &[Arc<Status>]) -> impl Iterator<Item = &Arc<Status>> {
    let nights = all.iter().any(|status| status.is_night);
    all.iter().filter(move |status| status.is_night || !nights)
}

/// When the last success ended, in seconds after 1970.
fn last_success(all: &[Arc<Status>]) -> Option<i64> {
    let good = telling(all).filter(|status| succeeded(status));
    let ended = good.filter_map(|status| status.updated.parse::<jiff::Timestamp>().ok());
    ended.max().map(|at| at.as_second())
}

/// A night must end with a model that is good enough, its own or the one there was. A rehearsal is no success to be
/// proud of.
fn succeeded(status: &Status) -> bool {
    let good = match &status.night {
        Some(night) => matches!(night.outcome, Happening::Promoted | Happening::Skipped),
        None => !status.is_night && !status.rounds.is_empty(),
    };
    status.state == State::Done && good
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::coordinator::Outcome;
    use crate::report::RoundRecord;

    fn done(updated: &str, rounds: usize, night: Option<Happening>) -> Status {
        let mut status = Status::waiting(&"j".parse().unwrap(), updated);
        status.state = State::Done;
        status.rounds = vec![RoundRecord::for_tests(0); rounds];
        status.is_night = night.is_some();
        status.night = night.map(|outcome| Outcome::for_tests("2026-01-02", outcome));
        status
    }

    /// A night that came to no outcome.
    fn failed_night(updated: &str) -> Status {
        Status { state: State::Failed, is_night: true, ..done(updated, 2, None) }
    }

    #[test]
    fn a_night_succeeds_with_a_good_model_and_another_job_with_any() {
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let failed = Status { state: State::Failed, ..done(late, 2, None) };
        for (what, last, counts) in [
            ("a training job", done(late, 2, None), true),
            ("one that failed", failed, false),
            ("a rehearsal", done(late, 0, None), false),
            ("a night whose model was promoted", done(late, 2, Some(Happening::Promoted)), true),
            ("a night without new photos", done(late, 0, Some(Happening::Skipped)), true),
            ("a night whose model was rejected", done(late, 2, Some(Happening::Rejected)), false),
            ("a night that failed", failed_night(late), false),
        ] {
            let before = done(early, 2, last.is_night.then_some(Happening::Promoted));
            let found = last_success(&[Arc::new(last), Arc::new(before)]);
            let wanted = if counts { late } else { early };
            assert_eq!(found, Some(wanted.parse::<jiff::Timestamp>().unwrap().as_second()), "{what}");
        }
        assert_eq!(last_success(&[Arc::new(done(late, 0, None))]), None);
    }

    #[test]
    fn where_there_are_nights_no_other_job_speaks_for_them() {
        let night = Arc::new(done("2026-01-01T00:00:00Z", 2, Some(Happening::Promoted)));
        let rejected = Arc::new(done("2026-01-02T00:00:00Z", 2, Some(Happening::Rejected)));
        let other = Arc::new(done("2026-01-03T00:00:00Z", 2, None));
        let first = night.updated.parse::<jiff::Timestamp>().unwrap().as_second();
        assert_eq!(last_success(&[night.clone(), rejected.clone(), other.clone()]), Some(first));
        assert_eq!(last_success(&[rejected.clone(), other.clone()]), None);
        assert_eq!(last_success(&[failed_night("2026-01-01T00:00:00Z").into(), other.clone()]), None);
        let all = [night, rejected.clone(), other];
        assert_eq!(telling(&all).last(), Some(&rejected));
    }
}
