//! What a coordinator counts, and what it finds on broker and store while it leads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Alone, Real, Tasks};
use crate::jobs::State;
use crate::queue::Priority;
use crate::report::{Report, Trend};
use crate::task::JobId;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    model: String,
    attack: String,
    epsilon: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    model: String,
    decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

/// The figures of a coordinator. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct CoordinatorMetrics {
    tasks: Tasks,
    images: Family<StageLabel, Counter>,
    retries: Counter,
    leader: Gauge,
    queues: Family<QueueLabels, Gauge>,
    dead: Family<Alone, Gauge>,
    workers: Family<Alone, Gauge>,
    busy: Family<Alone, Gauge>,
    jobs: Family<StateLabel, Gauge>,
    accuracy: Family<ConditionLabels, Real>,
    success: Family<Alone, Gauge>,
    decisions: Family<DecisionLabels, Counter>,
    promoted: Family<ModelLabel, Gauge>,
    in_flight: Arc<Mutex<BTreeMap<JobId, (Priority, u64)>>>,
    told: Arc<Mutex<Option<End>>>,
}

/// A job and when it ended.
pub(crate) type End = (JobId, String);

/// What is seen of the cluster from outside its jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// Messages that wait, by queue of tasks.
    pub waiting: Vec<(Priority, u64)>,
    /// Dead letters.
    pub dead: u64,
    /// Workers that wait for a task.
    pub idle: u64,
    /// Workers heard of lately.
    pub busy: u64,
    /// Jobs by state.
    pub jobs: BTreeMap<&'static str, u64>,
}

impl CoordinatorMetrics {
    /// Names everything to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry;
        r.register("hardy_tasks", "Attempts at tasks by outcome", self.tasks.outcomes.clone());
        r.register(
            "hardy_task_duration_seconds",
            "Seconds that finished tasks took on their workers",
            self.tasks.seconds.clone(),
        );
        r.register("hardy_images", "Images that tasks have dealt with", self.images.clone());
        r.register("hardy_task_retries", "Tasks that were handed out again", self.retries.clone());
        r.register("hardy_leader", "1 where this coordinator leads", self.leader.clone());
        r.register("hardy_queue_messages", "Tasks that wait or are in progress", self.queues.clone());
        r.register("hardy_dead_letters", "Messages that nobody could deal with", self.dead.clone());
        r.register("hardy_workers", "Workers that are idle or were heard of lately", self.workers.clone());
        r.register("hardy_workers_busy", "Workers that were heard of lately", self.busy.clone());
        r.register("hardy_jobs", "Jobs on the store by state", self.jobs.clone());
        r.register(
            "hardy_job_accuracy_ratio",
            "Accuracy of the night or training job that was done last; epsilon on the pixel scale",
            self.accuracy.clone(),
        );
        r.register(
            "hardy_last_success_timestamp_seconds",
            "When the last night or training job that succeeded ended",
            self.success.clone(),
        );
        r.register("hardy_gate_decisions", "Nights that the gate promoted or rejected", self.decisions.clone());
        r.register(
            "hardy_current_model_timestamp_seconds",
            "When the version of a model that is current became so",
            self.promoted.clone(),
        );
    }

    /// Tasks of this kind are handed out: what may go wrong with them is counted from 0, for whoever asks how a count rose.
    pub fn expect(&self, kind: &'static str) {
        for outcome in ["failed", "declined", "lost", "buried"] {
            self.tasks.expect(kind, outcome);
        }
    }

    /// A task is done.
    pub fn done(&self, kind: &'static str, seconds: f64) {
        self.tasks.ended(kind, "done");
        self.tasks.took(kind, seconds);
    }

    /// An attempt ended otherwise: `failed`, `declined` by a worker that cannot do it, `lost` without a sign of life, or
    /// `buried` with its workers.
    pub fn missed(&self, kind: &'static str, outcome: &'static str) {
        self.tasks.ended(kind, outcome);
    }

    /// So many tasks are handed out again.
    pub fn again(&self, tasks: usize) {
        self.retries.inc_by(tasks as u64);
    }

    /// Images were dealt with.
    pub fn images(&self, stage: &'static str, images: u64) {
        self.images.get_or_create(&StageLabel { stage }).inc_by(images);
    }

    /// So many tasks of `job` are in progress.
    pub fn in_flight(&self, job: &JobId, priority: Priority, tasks: u64) {
        match tasks {
            0 => drop(lock(&self.in_flight).remove(job)),
            some => drop(lock(&self.in_flight).insert(job.clone(), (priority, some))),
        }
    }

    /// Whether this coordinator leads. What only a leader knows is forgotten with the lead.
    pub fn lead(&self, leads: bool) {
        self.leader.set(leads.into());
        lock(&self.in_flight).clear();
        if !leads {
            self.forget();
        }
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        self.leader.get() == 1
    }

    /// Takes down what was seen.
    pub fn seen(&self, sight: &Sight) {
        let flying = lock(&self.in_flight).clone();
        for (priority, waiting) in &sight.waiting {
            let queue = queue_name(*priority);
            let unacked: u64 = flying.values().filter(|(p, _)| p == priority).map(|(_, n)| n).sum();
            self.queues.get_or_create(&QueueLabels { queue, state: "ready" }).set(whole(*waiting));
            self.queues.get_or_create(&QueueLabels { queue, state: "unacked" }).set(whole(unacked));
        }
        self.dead.get_or_create(&[]).set(whole(sight.dead));
        self.workers.get_or_create(&[]).set(whole(sight.idle + sight.busy));
        self.busy.get_or_create(&[]).set(whole(sight.busy));
        for state in [State::Waiting, State::Running, State::Done, State::Failed, State::Cancelled] {
            let count = sight.jobs.get(state.name()).copied().unwrap_or(0);
            self.jobs.get_or_create(&StateLabel { state: state.name() }).set(whole(count));
        }
    }

    /// Whether the results are those of this job.
    pub(crate) fn tells_of(&self, end: &End) -> bool {
        lock(&self.told).as_ref() == Some(end)
    }

    /// Takes down the results of the training job that was done last, if there was any and it left some.
    pub(crate) fn last_results(&self, last: Option<(End, Option<&Report>)>) {
        self.accuracy.clear();
        let (end, report) = last.unzip();
        *lock(&self.told) = end;
        for found in report.flatten().map_or(&[][..], |r| &r.results) {
            let labels = ConditionLabels {
                model: found.model.clone(),
                attack: found.attack.clone(),
                epsilon: crate::report::epsilon(found.epsilon),
            };
            self.accuracy.get_or_create(&labels).set(found.figure.accuracy);
        }
    }

    /// The last success was `ended` seconds after 1970, if there was any.
    pub fn last_success(&self, ended: Option<i64>) {
        match ended {
            Some(ended) => drop(self.success.get_or_create(&[]).set(ended)),
            None => self.success.clear(),
        }
    }

    /// Takes down what the histories of all models say.
    pub fn models(&self, trends: &[Arc<Trend>]) {
        self.promoted.clear();
        for trend in trends {
            let model = trend.model.clone();
            for decision in ["promoted", "rejected"] {
                let nights = trend.nights.iter().filter(|n| !n.by_hand && n.what == decision).count() as u64;
                let labels = DecisionLabels { model: model.clone(), decision };
                // Histories only grow, and a counter only rises.
                let counter = self.decisions.get_or_create(&labels);
                counter.inc_by(nights.saturating_sub(counter.get()));
            }
            let changed = trend.nights.iter().rev().find(|n| n.what == "promoted" || n.what == "rolled-back");
            if let Some(at) = changed.and_then(|n| n.at.parse::<jiff::Timestamp>().ok()) {
                self.promoted.get_or_create(&ModelLabel { model }).set(at.as_second());
            }
        }
    }

    /// Another coordinator tells of the cluster from now on.
    pub(crate) fn forget(&self) {
        *lock(&self.told) = None;
        self.decisions.clear();
        self.promoted.clear();
        self.queues.clear();
        self.dead.clear();
        self.workers.clear();
        self.busy.clear();
        self.jobs.clear();
        self.accuracy.clear();
        self.success.clear();
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The part of its name that tells a queue of tasks apart.
pub(crate) fn queue_name(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metrics::text;

    fn lines(metrics: &CoordinatorMetrics) -> Vec<String> {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let text = text(&registry).unwrap();
        text.lines().filter(|l| !l.starts_with('#')).map(String::from).collect()
    }

    #[test]
    fn only_a_leader_tells_of_the_cluster() {
        let metrics = CoordinatorMetrics::default();
        assert_eq!(lines(&metrics), ["hardy_task_retries_total 0", "hardy_leader 0"]);
        metrics.lead(true);
        metrics.in_flight(&"night".parse().unwrap(), Priority::Normal, 3);
        metrics.in_flight(&"day".parse().unwrap(), Priority::Normal, 2);
        let waiting = vec![(Priority::High, 0), (Priority::Normal, 7)];
        metrics.seen(&Sight { waiting, dead: 1, idle: 2, busy: 5, jobs: [("running", 2)].into() });
        metrics.last_results(None);
        metrics.last_success(Some(1_790_000_000));
        let told = lines(&metrics);
        for line in [
            "hardy_leader 1",
            "hardy_queue_messages{queue=\"normal\",state=\"ready\"} 7",
            "hardy_queue_messages{queue=\"normal\",state=\"unacked\"} 5",
            "hardy_queue_messages{queue=\"high\",state=\"unacked\"} 0",
            "hardy_dead_letters{} 1",
            "hardy_workers{} 7",
            "hardy_workers_busy{} 5",
            "hardy_jobs{state=\"running\"} 2",
            "hardy_jobs{state=\"failed\"} 0",
            "hardy_last_success_timestamp_seconds{} 1790000000",
        ] {
            assert!(told.iter().any(|l| l == line), "{line}: {told:#?}");
        }
        metrics.last_success(None);
        assert!(lines(&metrics).iter().all(|l| !l.contains("last_success")), "a night came, and it failed");
        let end = ("night".parse().unwrap(), "2026-01-01T00:00:00Z".to_string());
        metrics.last_results(Some((end.clone(), None)));
        assert!(metrics.tells_of(&end));
        metrics.lead(false);
        assert_eq!(lines(&metrics), ["hardy_task_retries_total 0", "hardy_leader 0"]);
        assert!(!metrics.tells_of(&end), "whoever leads again reads its report again");
    }

    #[test]
    fn what_the_gate_decided_is_counted_by_model() {
        let night = |what: &str, at: &str, by_hand: bool| crate::report::TrendNight {
            at: at.into(),
            name: "n".into(),
            what: what.into(),
            by_hand,
            forced: false,
            reason: String::new(),
            clean: None,
            robust: None,
            current: None,
            current_clean: None,
            current_robust: None,
            gate: None,
        };
        let mut nights = vec![
            night("promoted", "2026-01-01T02:00:00Z", false),
            night("rejected", "2026-01-02T02:00:00Z", false),
            night("promoted", "2026-01-02T09:00:00Z", true),
        ];
        let metrics = CoordinatorMetrics::default();
        let tell = |nights: &[crate::report::TrendNight]| {
            let trend = Trend { model: "flowers".into(), epsilon: 0.01, current: None, nights: nights.to_vec() };
            metrics.models(&[Arc::new(trend)]);
            lines(&metrics)
        };
        tell(&nights);
        nights.push(night("rejected", "2026-01-03T02:00:00Z", false));
        let told = tell(&nights);
        for line in [
            "hardy_gate_decisions_total{model=\"flowers\",decision=\"promoted\"} 1",
            "hardy_gate_decisions_total{model=\"flowers\",decision=\"rejected\"} 2",
            "hardy_current_model_timestamp_seconds{model=\"flowers\"} 1767344400",
        ] {
            assert!(told.iter().any(|l| l == line), "{line}: {told:#?}");
        }
    }

    #[test]
    fn tasks_are_counted_by_kind_and_outcome() {
        let metrics = CoordinatorMetrics::default();
        metrics.expect("train");
        metrics.done("train", 3.0);
        metrics.done("train", 4000.0);
        metrics.missed("train", "failed");
        metrics.again(1);
        metrics.images("guard", 12);
        let told = lines(&metrics);
        for line in [
            "hardy_tasks_total{kind=\"train\",outcome=\"done\"} 2",
            "hardy_tasks_total{kind=\"train\",outcome=\"failed\"} 1",
            "hardy_tasks_total{kind=\"train\",outcome=\"declined\"} 0",
            "hardy_task_duration_seconds_count{kind=\"train\"} 2",
            "hardy_images_total{stage=\"guard\"} 12",
            "hardy_task_retries_total 1",
        ] {
            assert!(told.iter().any(|l| l == line), "{line}: {told:#?}");
        }
        let class = |l: &&String| l.starts_with("hardy_task_duration_seconds_bucket{") && l.contains("le=\"5.0\"");
        assert!(told.iter().find(class).unwrap().ends_with(" 1"), "{told:#?}");
    }
}
