//! How far a task has come, and whether it still goes on.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, info};

use crate::task::Report;

/// How often a running task says that it is alive.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);

/// A task that takes longer says that it was begun. The others need no more than their end to be known.
const BEGUN: Duration = Duration::from_millis(200);

/// The progress of the task that a worker has; shared with whoever works on it.
#[derive(Debug)]
pub(crate) struct Progress {
    images: AtomicU64,
    /// Whatever was done: a photo, a step, a look of a model at a batch, an object that was fetched.
    steps: Arc<AtomicU64>,
    /// How many steps there were when they were last seen to be more, and when that was.
    seen: Mutex<(u64, Instant)>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { images: AtomicU64::new(0), steps: Arc::default(), seen: Mutex::new((0, Instant::now())) }
    }
}

impl Progress {
    /// A new task.
    pub(super) fn begin(&self) {
        self.images.store(0, Ordering::Relaxed);
        self.step();
    }

    /// Images dealt with so far.
    pub(super) fn images(&self) -> u64 {
        self.images.load(Ordering::Relaxed)
    }

    /// So many images have been dealt with by now.
    pub(super) fn reach(&self, images: u64) {
        self.images.store(images, Ordering::Relaxed);
        self.step();
    }

    /// So many more images have been dealt with.
    pub(super) fn add(&self, images: u64) {
        self.images.fetch_add(images, Ordering::Relaxed);
        self.step();
    }

    /// Something was done.
    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Where steps are counted, for those who know of nothing else.
    pub(super) fn steps(&self) -> Arc<AtomicU64> {
        self.steps.clone()
    }

    /// Whether anything was done in the last `stall`, as far as this has been asked often enough.
    pub(super) fn goes_on(&self, stall: Duration) -> bool {
        let steps = self.steps.load(Ordering::Relaxed);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if steps != seen.0 {
            *seen = (steps, Instant::now());
        }
        seen.1.elapsed() < stall
    }
}

/// Tells every now and then that the task is in work, for as long as it goes on: of one that hangs nothing is heard, so
/// that the coordinator hands it out again.
pub(super) async fn signs_of_life<F: Future<Output = ()>>(
    progress: &Progress,
    stall: Duration,
    every: Duration,
    tell: impl Fn(Report) -> F,
) -> Infallible {
    tokio::time::sleep(BEGUN.min(every)).await;
    let (mut sign, mut silent) = (Report::Started, false);
    loop {
        let goes_on = progress.goes_on(stall);
        if goes_on {
            tell(sign).await;
        }
        if silent && goes_on {
            info!("goes on after all");
        } else if !silent && !goes_on {
            error!("hangs: nothing was done for {} s (worker.stall); gives no more signs of life", stall.as_secs());
        }
        silent = !goes_on;
        tokio::time::sleep(every).await;
        sign = Report::Progress { images: progress.images() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signs of life until `end`.
    async fn signs(progress: &Progress, stall: Duration, end: Duration) -> u64 {
        let told = AtomicU64::new(0);
        let count = &told;
        let tell = move |_| async move { count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed) };
        let all = signs_of_life(progress, stall, Duration::from_millis(5), tell);
        assert!(tokio::time::timeout(end, all).await.is_err());
        told.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn nothing_is_heard_of_a_task_that_hangs_until_it_goes_on() {
        let (progress, long, short) = (Progress::default(), Duration::from_secs(60), Duration::from_millis(300));
        progress.begin();
        assert!(signs(&progress, long, short).await > 5);
        while progress.goes_on(short) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(signs(&progress, short, 2 * short).await, 0, "nothing was done for that long");
        progress.reach(7);
        assert!(signs(&progress, short, short / 2).await > 1, "alive again");
        let told = signs(&progress, short, 4 * short).await;
        assert!(told < 60, "it fell silent: {told}");
        progress.steps().fetch_add(1, Ordering::Relaxed);
        assert!(progress.goes_on(short), "a step is progress, too");
        assert_eq!(progress.images(), 7);
    }
}
