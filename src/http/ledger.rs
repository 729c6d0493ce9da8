//! The state of every job, read from the store and remembered for a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use super::answer::{SLOW, within};
use crate::error::{Kind, Result};
use crate::jobs::{Jobs, State, Status};
use crate::store::Store;
use crate::task::JobId;

/// For how long what was read is told again: many may look at once.
const FRESH: Duration = Duration::from_secs(1);

/// For how long a job that ended without results is taken to have done so: it may have been retried.
const SETTLED: Duration = Duration::from_secs(30);

/// States that are read at the same time.
const AT_ONCE: usize = 16;

/// A memory of jobs.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    read: Option<Instant>,
    known: BTreeMap<JobId, (Instant, Arc<Status>)>,
}

impl Ledger {
    /// All jobs, those submitted last first. Jobs that are done are read once.
    pub async fn all(&self, store: &Arc<dyn Store>) -> Result<Vec<Arc<Status>>> {
        let mut pages = self.0.lock().await;
        if pages.read.is_none_or(|at| at.elapsed() > FRESH) {
            within(SLOW, pages.refresh(&Jobs::new(store.clone()))).await?;
            pages.read = Some(Instant::now());
        }
        let mut all: Vec<_> = pages.known.values().map(|(_, status)| status.clone()).collect();
        all.sort_by(|a, b| b.submitted.cmp(&a.submitted).then_with(|| a.job.cmp(&b.job)));
        Ok(all)
    }
}

impl Pages {
    async fn refresh(&mut self, jobs: &Jobs) -> Result<()> {
        let names: BTreeSet<JobId> = jobs.names().await?.into_iter().collect();
        self.known.retain(|job, (at, status)| {
            let settled = match status.state {
                State::Done => true,
                State::Failed | State::Cancelled => at.elapsed() < SETTLED,
                State::Waiting | State::Running => false,
            };
            settled && names.contains(job)
        });
        let missing: Vec<JobId> = names.into_iter().filter(|job| !self.known.contains_key(job)).collect();
        let found = stream::iter(missing)
            .map(|job| async move {
                match jobs.status(&job).await {
                    // Collected at this moment.
                    Err(e) if e.kind() == Kind::NotFound => Ok(None),
                    status => status.map(|status| Some((job, status))),
                }
            })
            .buffer_unordered(AT_ONCE);
        let found: Vec<_> = found.try_collect().await?;
        let now = Instant::now();
        self.known.extend(found.into_iter().flatten().map(|(job, status)| (job, (now, Arc::new(status)))));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::{Key, LocalStore};

    #[tokio::test]
    async fn reads_finished_jobs_once_and_running_ones_again() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let jobs = Jobs::new(store.clone());
        for (name, state) in [("old", State::Done), ("new", State::Running)] {
            let id: JobId = name.parse().unwrap();
            let mut status = Status::waiting(&id, if name == "old" { "2026-01-01" } else { "2026-01-02" });
            status.state = state;
            store.put_bytes(&Key::new(format!("index/{name}")).unwrap(), "").await.unwrap();
            if status.has_ended() { jobs.close(&status).await } else { jobs.tell(&status).await }.unwrap();
        }
        let ledger = Ledger::default();
        let seen = |all: Vec<Arc<Status>>| all.iter().map(|s| (s.job.0.clone(), s.stages_done)).collect::<Vec<_>>();
        assert_eq!(seen(ledger.all(&store).await.unwrap()), [("new".into(), 0), ("old".into(), 0)]);
        for name in ["old", "new"] {
            let mut status = jobs.status(&name.parse().unwrap()).await.unwrap();
            status.stages_done = 5;
            if status.has_ended() { jobs.close(&status).await } else { jobs.tell(&status).await }.unwrap();
        }
        ledger.0.lock().await.read = None;
        assert_eq!(seen(ledger.all(&store).await.unwrap()), [("new".into(), 5), ("old".into(), 0)]);
        store.delete(&Key::new("index/old").unwrap()).await.unwrap();
        ledger.0.lock().await.read = None;
        assert_eq!(seen(ledger.all(&store).await.unwrap()), [("new".into(), 5)]);
    }
}
