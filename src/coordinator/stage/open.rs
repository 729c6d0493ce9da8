//! The tasks that are not done, and the eye that is kept on silent and slow ones.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::Job;
use crate::error::Result;
use crate::queue::Topic;
use crate::task::{TaskId, Work, WorkerId};

/// How often the open tasks are looked through for silent and slow ones.
pub(super) const CHECK: Duration = Duration::from_secs(2);

/// What a stage keeps an eye on.
pub(super) struct Watch {
    pub(super) check: Instant,
    /// When anything was last heard of the job.
    pub(super) heard: Instant,
    /// Until then, what is heard goes onto one page.
    pub(super) page: Instant,
    /// Seconds that finished tasks took.
    pub(super) took: Vec<f64>,
    /// How often each worker has declined a task since the last one was done.
    pub(super) declined: BTreeMap<WorkerId, u32>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { check: now + CHECK, heard: now, page: now, took: Vec::new(), declined: BTreeMap::new() }
    }

    /// Whether it is time to look through the open tasks.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.check
    }

    fn twice_the_median(&self) -> Option<Duration> {
        let mut took = self.took.clone();
        took.sort_by(f64::total_cmp);
        took.get(took.len() / 2).map(|s| Duration::from_secs_f64(2.0 * s))
    }
}

/// A task that is not done.
pub(super) struct Open {
    pub(super) work: Work,
    /// Images reported so far, by attempt: of every one that was heard of.
    pub(super) images: BTreeMap<String, u64>,
    /// When a worker first said that it had begun.
    pub(super) started: Option<Instant>,
    /// When a worker last said something about it.
    pub(super) heard: Option<Instant>,
    /// A second worker has been asked for it.
    copied: bool,
    /// The exit code of its last failure.
    pub(super) code: u8,
    /// No further attempt could fare better.
    pub(super) hopeless: bool,
    /// The job cannot go on without it.
    pub(super) needed: bool,
}

impl Open {
    pub(super) fn new(work: Work, needed: bool) -> Self {
        let images = BTreeMap::new();
        Self { work, images, started: None, heard: None, copied: false, code: 0, hopeless: false, needed }
    }

    /// Nobody works on it any more.
    pub(super) fn rest(&mut self) {
        (self.started, self.heard) = (None, None);
    }
}

impl Job {
    /// Hands out again what nobody seems to work on any more.
    pub(super) async fn look_after(&self, open: &mut BTreeMap<TaskId, Open>, watch: &mut Watch) -> Result<()> {
        let now = Instant::now();
        // Nobody was listened to meanwhile, while the log was written say: what was said comes first.
        let held_up = now - watch.check > CHECK;
        watch.check = now + CHECK;
        let flying = open.values().filter(|t| t.started.is_some()).count();
        self.metrics.in_flight(&self.spec.id, self.spec.settings.job.priority, flying as u64);
        if held_up {
            return Ok(());
        }
        let silence = Duration::from_secs(self.policy.silence);
        let mut again: Vec<TaskId> = Vec::new();
        for (id, task) in open.iter_mut() {
            if task.heard.is_some_and(|h| now - h > silence) {
                warn!(task = %id, "no sign of life for {} s; handed out again", self.policy.silence);
                task.heard = Some(now);
                self.metrics.missed(task.work.kind(), "lost");
                again.push(id.clone());
            }
        }
        let quiet = now - watch.heard > silence;
        let speculating = self.policy.speculation && open.values().all(|t| t.started.is_some());
        if (quiet || speculating) && self.queue.backlog(Topic::Tasks(self.spec.settings.job.priority)).await? == 0 {
            if quiet {
                // Nothing waits and nobody reports: what was never started has been lost, with its broker say.
                watch.heard = now;
                again.extend(open.iter().filter(|(_, t)| t.heard.is_none()).map(|(id, _)| id.clone()));
            } else {
                let slow = watch.twice_the_median();
                for (id, task) in open.iter_mut().filter(|(_, t)| !t.copied) {
                    if let (Some(slow), Some(started)) = (slow, task.started)
                        && now - started > slow
                    {
                        task.copied = true;
                        again.push(id.clone());
                    }
                }
            }
        }
        self.metrics.again(again.len());
        self.publish(open, again.iter()).await
    }
}
