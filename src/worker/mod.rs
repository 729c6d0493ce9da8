//! A worker: receives a task, fetches its objects, computes, stores, reports, acknowledges.
//!
//! The async side keeps the broker and the store happy; one thread of its own computes, so that a
//! long step never delays a heartbeat.

mod attempt;
mod cache;
mod compute;
mod evaluation;
mod features;
mod lab;
mod message;
mod photos;
mod progress;
mod tally;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod thread;
mod training;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, field, info, info_span, warn};

use crate::config::StoreSettings;
use crate::coordinator::JobSpec;
use crate::error::{Context, Error, Kind, Result};
use crate::health::Pulse;
use crate::jobs::Jobs;
use crate::metrics::WorkerMetrics;
use crate::model;
use crate::queue::{Delivery, Queue, Topic};
use crate::store::{Blob, Store};
use crate::task::{Envelope, Event, JobId, Report, Success, Task, TaskId, VERSION, WorkerId};
use crate::trace;

use attempt::{Attempt, Setback};
use cache::Cache;
use message::{Message, parse};
use progress::{HEARTBEAT, Progress, signs_of_life};
use tally::Tally;
use thread::Thread;

/// How long a worker keeps away from tasks after it has declined one; twice as long after each further one in a row.
const TROUBLE: Duration = Duration::from_secs(20);

/// But no longer than this: what is wrong with it may have been mended.
const LONGEST_TROUBLE: Duration = Duration::from_secs(120);

/// How long a worker that leaves may take to give its task back.
const PROMPT: Duration = Duration::from_secs(10);

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
    /// A task of which nothing is done for so long hangs.
    pub stall: Duration,
}

/// One worker; it has one compute thread.
#[derive(Debug)]
pub struct Worker {
    setup: Setup,
    cache: Cache,
    thread: Thread,
    progress: Arc<Progress>,
    specs: BTreeMap<String, Arc<JobSpec>>,
    /// Jobs that had not ended, and when that was asked.
    running: BTreeMap<JobId, Instant>,
    /// What was reported of tasks done lately, by the hash of their job's settings: one that took longer than the
    /// broker waits comes again although it is done.
    finished: VecDeque<(String, TaskId, Event)>,
}

/// What was made of a message.
enum Answer {
    /// All that there is to say of it.
    Given,
    /// It was left to other workers.
    Declined,
}

impl Worker {
    /// Prepares a worker and starts its thread.
    pub fn new(setup: Setup) -> Result<Self> {
        Ok(Self {
            cache: Cache::new(&setup.cache)?,
            thread: Thread::start(&setup.id)?,
            setup,
            progress: Arc::default(),
            specs: BTreeMap::new(),
            running: BTreeMap::new(),
            finished: VecDeque::new(),
        })
    }

    /// Works until `stop`, or until no task came for `idle` (zero: for ever). A task in progress at `stop` has
    /// `grace` to come to its end before it is handed back.
    pub async fn run(mut self, stop: CancellationToken, grace: Duration, idle: Duration) -> Result<()> {
        let mut tasks = self.setup.queue.consume(&Topic::TASKS, 1).await?;
        info!(worker = %self.setup.id, "ready");
        let (pulse, progress, stall) = (self.setup.pulse.clone(), self.progress.clone(), self.setup.stall);
        let mut declined = 0;
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
            progress.begin();
            let (body, redelivered) = (delivery.body().clone(), delivery.redelivered());
            let answer = tokio::select! {
                () = late => {
                    warn!(worker = %self.setup.id, "hands its task back: it did not end in time");
                    return self.hand_back(delivery).await;
                }
                handled = pulse.during_while(self.handle(&body, redelivered), || progress.goes_on(stall)) => handled?,
            };
            delivery.ack().await?;
            declined = match answer {
                Answer::Given => 0,
                Answer::Declined => declined + 1,
            };
            if declined > 0 {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = pulse.during(tokio::time::sleep(trouble(declined))) => {}
                }
            }
        }
    }

    /// Gives a sound task back. One that is returned to the broker would count as one that killed its worker.
    async fn hand_back(&self, delivery: Box<dyn Delivery>) -> Result<()> {
        let anew = self.setup.queue.publish(delivery.topic(), vec![delivery.body().clone()]);
        match tokio::time::timeout(PROMPT, anew).await {
            Ok(Ok(())) => delivery.ack().await,
            // Whatever the broker has not taken it delivers once more when this connection is gone.
            _ => Ok(()),
        }
    }

    async fn handle(&mut self, body: &Bytes, redelivered: u32) -> Result<Answer> {
        let task = match parse(body) {
            Message::Task(task) => *task,
            Message::OtherVersion(envelope) => return self.refuse(envelope).await,
            Message::Unreadable(why) => {
                // Nobody to report to: the message itself is all there is to keep.
                error!("a message that is no task was set aside: {why}");
                self.setup.queue.publish(Topic::Dead, vec![body.clone()]).await?;
                return Ok(Answer::Given);
            }
        };
        if redelivered > 0
            && let Some(event) = self.reported(&task)
        {
            debug!(task = %task.id, "reported again: it was done here, and the broker did not wait for the answer");
            event.send(&*self.setup.queue).await?;
            return Ok(Answer::Given);
        }
        if self.has_ended(&task.job).await {
            debug!(task = %task.id, "left out: its job has ended");
            return Ok(Answer::Given);
        }
        let attempt = format!("{}-{:08x}", self.setup.id, rand::rng().next_u32());
        let (job, id, worker) = (&task.job, &task.id, &self.setup.id);
        let kind = task.work.kind();
        let span = info_span!("task", %job, task = %id, attempt, %worker, kind, outcome = field::Empty);
        trace::of_job(&span, &task.job);
        self.work(task, attempt).instrument(span).await
    }

    /// Does a task and reports on it.
    async fn work(&mut self, task: Task, attempt: String) -> Result<Answer> {
        let worker = self.setup.id.clone();
        let report = |report| Event {
            version: VERSION,
            job: task.job.clone(),
            task: task.id.clone(),
            attempt: attempt.clone(),
            worker: worker.clone(),
            report,
        };
        let (queue, progress, stall) = (self.setup.queue.clone(), self.progress.clone(), self.setup.stall);
        debug!("started");
        let _busy = self.setup.metrics.busy();
        let tally = Tally::begin(&self.setup.metrics, task.work.kind(), &progress);
        let outcome = {
            let (queue, report) = (&queue, &report);
            let tell = move |sign| async move {
                if let Err(e) = report(sign).send(&**queue).await {
                    warn!("a sign of life was not sent: {}", e.chain());
                }
            };
            tokio::select! {
                outcome = self.attempt(&task, &attempt) => outcome,
                never = signs_of_life(&progress, stall, HEARTBEAT, tell) => match never {},
            }
        };
        let last = match outcome {
            Ok(mut success) => {
                success.metrics.insert("seconds".into(), tally.seconds());
                success.metrics.entry("images".into()).or_insert(progress.images() as f64);
                tally.end("done");
                Report::Done(success)
            }
            Err(Setback::Unfit(e)) if queue.durable() => {
                tally.end("handed_back");
                let disk = !self.cache.is_writable();
                let what = if disk { "this machine's disk is in trouble" } else { "this worker cannot do it" };
                let error = format!("{what}: {}", e.chain());
                error!("declined, for another worker to take: {error}");
                self.tell(&report(Report::Declined { error })).await?;
                return Ok(Answer::Declined);
            }
            Err(Setback::Failed(e) | Setback::Unfit(e)) => {
                tally.end("failed");
                Report::Failed { error: e.chain(), code: e.kind().exit_code() }
            }
        };
        let done = matches!(last, Report::Done(_));
        let last = report(last);
        self.tell(&last).await?;
        if done {
            self.finished.truncate(REMEMBERED - 1);
            self.finished.push_front((task.spec.sha256, task.id, last));
        }
        Ok(Answer::Given)
    }

    /// Hands the last report on a task to the coordinators. Nothing hangs while the broker is away, however long.
    async fn tell(&self, event: &Event) -> Result<()> {
        self.setup.pulse.during(event.send(&*self.setup.queue)).await
    }

    /// What this worker reported when it did the task. Only for a message that was delivered before: a coordinator
    /// that asks anew has no use for the last answer.
    fn reported(&self, task: &Task) -> Option<&Event> {
        let mut finished = self.finished.iter();
        finished.find(|(spec, id, _)| *spec == task.spec.sha256 && *id == task.id).map(|(_, _, event)| event)
    }

    /// Says that a task cannot be read, then leaves it to others for a while: they may be of its release.
    async fn refuse(&self, envelope: Envelope) -> Result<Answer> {
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
        Ok(Answer::Declined)
    }

    async fn attempt(&mut self, task: &Task, attempt: &str) -> Result<Success, Setback> {
        let spec = self.spec(&task.spec).await?;
        if spec.id != task.job {
            return Err(Error::data(format!("task {} names the settings of job {}", task.id, spec.id)).into());
        }
        if task.work.needs_device() {
            let settings = spec.settings.model.clone();
            let checked = self.thread.run(move |_| model::check_device(&settings));
            checked.await.map_err(Setback::Unfit)?;
        }
        self.cache.begin(cache::LIMIT);
        let attempt = Attempt {
            prefix: JobSpec::prefix(&task.job).join("attempts").join(&task.id).join(attempt),
            spec,
            model: task.model.clone(),
            store: &self.setup.store,
            access: &self.setup.access,
            cache: &self.cache,
            thread: &self.thread,
            progress: self.progress.clone(),
        };
        match compute::perform(&attempt, &task.work).await {
            // There may be room for it without what earlier tasks left.
            Err(e) if e.is_full_disk() && self.cache.make_room(0) => {
                warn!("begins anew without what earlier tasks left in the cache: {}", e.chain());
                Ok(compute::perform(&attempt, &task.work).await?)
            }
            ended => Ok(ended?),
        }
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

/// How long to keep away from tasks after so many were declined in a row.
fn trouble(declined: u32) -> Duration {
    TROUBLE.saturating_mul(1 << declined.saturating_sub(1).min(10)).min(LONGEST_TROUBLE)
}
