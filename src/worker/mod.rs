//! A worker: receives a task, fetches its objects, computes, stores, reports, acknowledges.
//!
//! The async side keeps the broker and the store happy; one thread of its own computes, so that a
//! long step never delays a heartbeat.

mod cache;
mod compute;
mod evaluation;
mod features;
mod lab;
mod memory;
mod photos;
mod thread;
mod training;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, error, field, info, info_span, warn};

use crate::config::StoreSettings;
use crate::coordinator::JobSpec;
use crate::error::{Context, Error, Kind, Result};
use crate::health::Pulse;
use crate::jobs::Jobs;
use crate::metrics::WorkerMetrics;
use crate::queue::{Delivery, Queue, Topic};
use crate::store::{Blob, Key, Reader, Store};
use crate::task::{Envelope, Event, JobId, Report, Success, Task, TaskId, VERSION, WorkerId};
use crate::trace;

use cache::Cache;
use thread::Thread;

/// How often a running task says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A task that takes longer says that it was begun. The others need no more than their end to be known.
const BEGUN: Duration = Duration::from_millis(200);

/// How long a worker keeps away from tasks after its disk has failed it, or its release.
const TROUBLE: Duration = Duration::from_secs(20);

/// Finished tasks that a worker remembers.
const REMEMBERED: usize = 256;

/// For how long a job that had not ended is taken to be running.
const NEWS: Duration = Duration::from_secs(5);

/// What a worker needs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its name.
    pub id: WorkerId,
    /// Where tasks come from and reports go.
    pub queue: Arc<dyn Queue>,
    /// Where objects lie.
    pub store: Arc<dyn Store>,
    /// How other stores, those of photos, are reached.
    pub access: StoreSettings,
    /// Fetched objects are kept here.
    pub cache: PathBuf,
    /// What it counts.
    pub metrics: WorkerMetrics,
    /// Its sign of life.
    pub pulse: Pulse,
}

/// One worker; it has one compute thread.
#[derive(Debug)]
pub struct Worker {
    setup: Setup,
    cache: Cache,
    thread: Thread,
    specs: BTreeMap<String, Arc<JobSpec>>,
    /// Jobs that had not ended, and when that was asked.
    running: BTreeMap<JobId, Instant>,
    /// What was reported of tasks done lately, by the hash of their job's settings: one that took longer than the
    /// broker waits comes again although it is done.
    finished: VecDeque<(String, TaskId, Event)>,
}

/// Counts a try at a task when it has ended, and says in its span how. One that is dropped before was handed back.
struct Tally {
    metrics: WorkerMetrics,
    kind: &'static str,
    images: Arc<AtomicU64>,
    began: Instant,
    outcome: &'static str,
}

impl Tally {
    fn begin(metrics: &WorkerMetrics, kind: &'static str) -> Self {
        let (metrics, images) = (metrics.clone(), Arc::new(AtomicU64::new(0)));
        Self { metrics, kind, images, began: Instant::now(), outcome: "handed_back" }
    }

    fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let images = self.images.load(Ordering::Relaxed);
        self.metrics.ended(self.kind, self.outcome, self.began.elapsed().as_secs_f64(), images);
        Span::current().record("outcome", self.outcome);
    }
}

/// One try at a task: everything the work needs.
pub(crate) struct Attempt<'a> {
    pub(crate) spec: Arc<JobSpec>,
    /// The network's description, once the classes are known.
    pub(crate) model: Option<Blob>,
    pub(crate) store: &'a Arc<dyn Store>,
    /// How a store of photos is reached.
    pub(crate) access: &'a StoreSettings,
    pub(crate) cache: &'a Cache,
    pub(crate) thread: &'a Thread,
    /// Images dealt with so far, for the heartbeat.
    pub(crate) images: Arc<AtomicU64>,
    /// Outputs go below this key.
    prefix: Key,
}

impl Attempt<'_> {
    /// Stores an output under a key of this attempt's own.
    pub(crate) async fn put(&self, name: &str, extension: &str, bytes: impl Into<Bytes>) -> Result<(String, Blob)> {
        let key = self.prefix.join(format!("{name}.{extension}"));
        Ok((name.to_string(), self.store.put_bytes(&key, bytes).await?))
    }

    /// The same from a stream.
    pub(crate) async fn put_stream(&self, name: &str, extension: &str, body: Reader) -> Result<(String, Blob)> {
        let key = self.prefix.join(format!("{name}.{extension}"));
        Ok((name.to_string(), self.store.put(&key, body).await?))
    }

    /// Runs `work` on the compute thread.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut compute::Compute) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.thread.run(work).await
    }
}

impl Worker {
    /// Prepares a worker and starts its thread.
    pub fn new(setup: Setup) -> Result<Self> {
        let cache = Cache::new(&setup.cache)?;
        let thread = Thread::start(&setup.id)?;
        Ok(Self { setup, cache, thread, specs: BTreeMap::new(), running: BTreeMap::new(), finished: VecDeque::new() })
    }

    /// Works until `stop`, or until no task came for `idle` (zero: for ever). A task in progress at `stop` has
    /// `grace` to come to its end before it is handed back.
    pub async fn run(mut self, stop: CancellationToken, grace: Duration, idle: Duration) -> Result<()> {
        let mut tasks = self.setup.queue.consume(&Topic::TASKS, 1).await?;
        info!(worker = %self.setup.id, "ready");
        let pulse = self.setup.pulse.clone();
        loop {
            let delivery = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                delivery = pulse.during(tasks.next()) => delivery?,
                () = tokio::time::sleep(idle), if !idle.is_zero() => {
                    info!(worker = %self.setup.id, "leaves: no task came");
                    return Ok(());
                }
            };
            let late = async {
                stop.cancelled().await;
                tokio::time::sleep(grace).await;
            };
            tokio::select! {
                () = late => {
                    warn!(worker = %self.setup.id, "hands its task back: it did not end in time");
                    return Ok(());
                }
                handled = pulse.during(self.handle(delivery)) => handled?,
            }
        }
    }

    async fn handle(&mut self, delivery: Box<dyn Delivery>) -> Result<()> {
        let task = match parse(delivery.body()) {
            Message::Task(task) => *task,
            Message::OtherVersion(envelope) => return self.decline(envelope, delivery).await,
            Message::Unreadable(why) => {
                // Nobody to report to: the message itself is all there is to keep.
                error!("a message that is no task was set aside: {why}");
                self.setup.queue.publish(Topic::Dead, vec![delivery.body().clone()]).await?;
                return delivery.ack().await;
            }
        };
        if delivery.redelivered() > 0
            && let Some(event) = self.reported(&task)
        {
            debug!(task = %task.id, "reported again: it was done here, and the broker did not wait for the answer");
            event.send(&*self.setup.queue).await?;
            return delivery.ack().await;
        }
        if self.has_ended(&task.job).await {
            debug!(task = %task.id, "left out: its job has ended");
            return delivery.ack().await;
        }
        let attempt = format!("{}-{:08x}", self.setup.id, rand::rng().next_u32());
        let (job, id, worker) = (&task.job, &task.id, &self.setup.id);
        let kind = task.work.kind();
        let span = info_span!("task", %job, task = %id, attempt, %worker, kind, outcome = field::Empty);
        trace::of_job(&span, &task.job);
        self.work(task, attempt, delivery).instrument(span).await
    }

    /// Does a task and reports on it.
    async fn work(&mut self, task: Task, attempt: String, delivery: Box<dyn Delivery>) -> Result<()> {
        let worker = self.setup.id.clone();
        let report = |report| Event {
            version: VERSION,
            job: task.job.clone(),
            task: task.id.clone(),
            attempt: attempt.clone(),
            worker: worker.clone(),
            report,
        };
        let queue = self.setup.queue.clone();
        debug!("started");
        let _busy = self.setup.metrics.busy();
        let tally = Tally::begin(&self.setup.metrics, task.work.kind());
        let images = tally.images.clone();
        let outcome = {
            let heartbeat = async {
                tokio::time::sleep(BEGUN).await;
                let mut sign = Report::Started;
                loop {
                    if let Err(e) = report(sign).send(&*queue).await {
                        warn!("a sign of life was not sent: {}", e.chain());
                    }
                    tokio::time::sleep(HEARTBEAT).await;
                    sign = Report::Progress { images: images.load(Ordering::Relaxed) };
                }
            };
            tokio::select! {
                outcome = self.attempt(&task, &attempt, images.clone()) => outcome,
                () = heartbeat => Err(Error::internal("the heartbeat ended")),
            }
        };
        let last = match outcome {
            Ok(mut success) => {
                success.metrics.insert("seconds".into(), tally.began.elapsed().as_secs_f64());
                tally.end("done");
                success.metrics.entry("images".into()).or_insert(images.load(Ordering::Relaxed) as f64);
                Report::Done(success)
            }
            Err(e) if e.kind() == Kind::Storage && self.setup.queue.durable() && !self.cache.is_writable() => {
                tally.end("handed_back");
                error!("this machine's disk is in trouble, the task goes to another: {}", e.chain());
                delivery.hand_back().await?;
                tokio::time::sleep(TROUBLE).await;
                return Ok(());
            }
            Err(e) => {
                tally.end("failed");
                Report::Failed { error: e.chain(), code: e.kind().exit_code() }
            }
        };
        let done = matches!(last, Report::Done(_));
        let last = report(last);
        last.send(&*queue).await?;
        if done {
            self.finished.truncate(REMEMBERED - 1);
            self.finished.push_front((task.spec.sha256, task.id, last));
        }
        delivery.ack().await
    }

    /// What this worker reported when it did the task. Only for a message that was delivered before: a coordinator
    /// that asks anew has no use for the last answer.
    fn reported(&self, task: &Task) -> Option<&Event> {
        let mut finished = self.finished.iter();
        finished.find(|(spec, id, _)| *spec == task.spec.sha256 && *id == task.id).map(|(_, _, event)| event)
    }

    /// Says that a task cannot be read, then leaves it to others for a while: they may be of its release.
    async fn decline(&self, envelope: Envelope, delivery: Box<dyn Delivery>) -> Result<()> {
        let Envelope { version, job, task, .. } = envelope;
        let worker = self.setup.id.clone();
        let error = format!(
            "worker {worker} reads messages of version {VERSION}, this one has version {version}; run coordinators \
             and workers of one release"
        );
        error!(%task, "{error}");
        let attempt = format!("{worker}-{:08x}", rand::rng().next_u32());
        let report = Report::Failed { error, code: Kind::Job.exit_code() };
        Event { version: VERSION, job, task, attempt, worker, report }.send(&*self.setup.queue).await?;
        delivery.ack().await?;
        tokio::time::sleep(TROUBLE).await;
        Ok(())
    }

    async fn attempt(&mut self, task: &Task, attempt: &str, images: Arc<AtomicU64>) -> Result<Success> {
        let spec = self.spec(&task.spec).await?;
        if spec.id != task.job {
            return Err(Error::data(format!("task {} names the settings of job {}", task.id, spec.id)));
        }
        let prefix = JobSpec::prefix(&task.job).join("attempts").join(&task.id).join(attempt);
        let store = &self.setup.store;
        let model = task.model.clone();
        let access = &self.setup.access;
        let attempt = Attempt { spec, model, store, access, cache: &self.cache, thread: &self.thread, images, prefix };
        compute::perform(&attempt, &task.work).await
    }

    /// Whether nobody waits for tasks of this job any more: it was cancelled, or failed.
    async fn has_ended(&mut self, job: &JobId) -> bool {
        self.running.retain(|_, asked| asked.elapsed() < NEWS);
        if !self.setup.queue.durable() || self.running.contains_key(job) {
            return false;
        }
        match Jobs::new(self.setup.store.clone()).end(job).await {
            Ok(Some(_)) => true,
            // In doubt the task is done, for nothing at worst.
            Ok(None) | Err(_) => {
                self.running.insert(job.clone(), Instant::now());
                false
            }
        }
    }

    async fn spec(&mut self, blob: &Blob) -> Result<Arc<JobSpec>> {
        if let Some(spec) = self.specs.get(&blob.sha256) {
            return Ok(spec.clone());
        }
        let bytes = self.setup.store.get_blob(blob).await?;
        let spec: JobSpec = serde_json::from_slice(&bytes)
            .context(Kind::Data, || format!("{} does not hold a job's settings", blob.key))?;
        let spec = Arc::new(spec);
        self.specs.insert(blob.sha256.clone(), spec.clone());
        Ok(spec)
    }
}

/// What the queue can bring a worker.
#[derive(Debug)]
enum Message {
    Task(Box<Task>),
    /// From a coordinator of another release.
    OtherVersion(Envelope),
    Unreadable(String),
}

fn parse(body: &[u8]) -> Message {
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) if envelope.version != VERSION => Message::OtherVersion(envelope),
        Ok(_) => match serde_json::from_slice(body) {
            Ok(task) => Message::Task(task),
            Err(e) => Message::Unreadable(e.to_string()),
        },
        Err(e) => Message::Unreadable(e.to_string()),
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
        Tally::begin(&metrics, "train").end("done");
        let dropped = Tally::begin(&metrics, "train");
        dropped.images.store(7, Ordering::Relaxed);
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

    #[test]
    fn a_task_of_another_version_can_be_answered_and_garbage_cannot() {
        let next = br#"{"version": 2, "job": "j", "id": "train-r0000-0-train-0", "work": {"kind": "dream"}}"#;
        assert!(matches!(parse(next), Message::OtherVersion(e) if e.version == 2 && e.task.0.starts_with("train")));
        for garbage in [&b""[..], b"hello", b"{}", br#"{"version": 1, "job": "../x", "id": "t"}"#] {
            assert!(matches!(parse(garbage), Message::Unreadable(_)), "{garbage:?}");
        }
    }
}
