//! What a try at a task comes to, for the figures.

use std::sync::Arc;
use std::time::Instant;

use tracing::Span;

use super::progress::Progress;
use crate::metrics::WorkerMetrics;

/// Counts a try at a task when it has ended, and says in its span how. One that is dropped before was handed back.
pub(super) struct Tally {
    metrics: WorkerMetrics,
    kind: &'static str,
    progress: Arc<Progress>,
    began: Instant,
    outcome: &'static str,
}

impl Tally {
    pub(super) fn begin(metrics: &WorkerMetrics, kind: &'static str, progress: &Arc<Progress>) -> Self {
        let (metrics, progress) = (metrics.clone(), progress.clone());
        Self { metrics, kind, progress, began: Instant::now(), outcome: "handed_back" }
    }

    /// Seconds so far.
    pub(super) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(super) fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.metrics.ended(self.kind, self.outcome, self.seconds(), self.progress.images());
        Span::current().record("outcome", self.outcome);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::text;

    #[test]
    fn an_attempt_that_is_dropped_was_handed_back() {
        let (metrics, mut registry) = (WorkerMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let progress = Arc::new(Progress::default());
        Tally::begin(&metrics, "train", &progress).end("done");
        let dropped = Tally::begin(&metrics, "train", &progress);
        progress.reach(7);
        drop(dropped);
        let told = text(&registry).unwrap();
        for line in [
            "hardy_worker_tasks_total{kind=\"train\",outcome=\"done\"} 1",
            "hardy_worker_tasks_total{kind=\"train\",outcome=\"handed_back\"} 1",
            "hardy_worker_task_duration_seconds_count{kind=\"train\"} 2",
            "hardy_worker_images_total 7",
        ] {
            assert!(told.lines().any(|l| l == line), "{line}: {told}");
        }
    }
}
