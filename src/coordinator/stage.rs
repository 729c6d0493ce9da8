//! One stage of a job: all its tasks are published at once, and each distinct task is counted once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::log::{Done, Failure, Log, Page};
use super::post::Inbox;
use super::progress::{Observer, Progress};
use super::spec::JobSpec;
use crate::config::{Poison, QueueSettings};
use crate::error::{Context, Error, Kind, Result};
use crate::metrics::CoordinatorMetrics;
use crate::queue::{Delivery, Queue, Topic};
use crate::report::LeftOut;
use crate::store::{Blob, Key, Store};
use crate::task::{Event, Report, Success, Task, TaskId, VERSION, Work};

/// How often the open tasks are looked through for silent and slow ones.
const CHECK: Duration = Duration::from_secs(2);

/// In place of an attempt and as the name of a fact: the task failed for good, and the job went on.
const LEFT_OUT: &str = "left-out";

/// Tasks that are put into messages at once.
const BATCH: usize = 1000;

/// What the coordinator hears about a job. The message is acknowledged once what it says is written down.
pub(super) enum Message {
    /// From a worker.
    Event(Event, Box<dyn Delivery>),
    /// From the queue: the workers that took this task died over it, too often.
    Undelivered(TaskId, Box<dyn Delivery>),
}

/// A running job: what its program needs to ask for work.
pub struct Job {
    /// What was submitted.
    pub spec: JobSpec,
    /// The object `spec` lies in.
    pub spec_blob: Blob,
    /// The `ModelSpec`, once the classes are known.
    pub model: Option<Blob>,
    /// Where everything lies.
    pub store: Arc<dyn Store>,
    pub(super) queue: Arc<dyn Queue>,
    /// How patient to be; the coordinator's own settings, not the job's.
    pub(super) policy: QueueSettings,
    pub(super) metrics: CoordinatorMetrics,
    pub(super) log: Log,
    pub(super) inbox: Inbox,
    pub(super) observer: Observer,
    pub(super) cancelled: CancellationToken,
    /// A task of it failed for good.
    pub(super) gave_up: bool,
    /// What the job went on without (`job.poison = "skip"`).
    pub left_out: Vec<LeftOut>,
}

impl Job {
    /// The key of an object that the coordinator itself writes.
    pub fn key(&self, name: impl std::fmt::Display) -> Key {
        JobSpec::prefix(&self.spec.id).join(name)
    }

    /// Tells whoever watches.
    pub fn tell(&self, progress: Progress) {
        (self.observer)(&progress);
    }

    /// Deletes objects that no later stage will read. What stays behind after a failure costs space only.
    pub async fn forget(&self, blobs: impl IntoIterator<Item = Blob>) {
        for blob in blobs {
            if let Err(e) = self.store.delete(&blob.key).await {
                warn!(key = %blob.key, "left behind: {}", e.chain());
            }
        }
    }

    /// Has `tasks` done, each exactly once as far as the result goes, and returns what they brought in
    /// the order given. Tasks that the log knows are not asked for again: this is what makes a job
    /// resumable, since its program runs again from the start and passes through finished stages.
    pub async fn stage(&mut self, name: &str, tasks: Vec<(TaskId, Work)>) -> Result<Vec<Success>> {
        self.run(name, tasks, true).await
    }

    /// The same for tasks of which some may be missing: with `job.poison = "skip"`, `None` stands for one that
    /// failed for good. That all of them do is an error still.
    pub async fn parts(&mut self, name: &str, tasks: Vec<(TaskId, Work)>) -> Result<Vec<Option<Success>>> {
        let needed = self.spec.settings.job.poison == Poison::Fail;
        let ids: Vec<TaskId> = tasks.iter().map(|(id, _)| id.clone()).collect();
        let brought = self.run(name, tasks, needed).await?;
        let mut parts = Vec::with_capacity(brought.len());
        for (task, success) in ids.into_iter().zip(brought) {
            parts.push(match success.facts.get(LEFT_OUT) {
                Some(why) => {
                    self.left_out.push(LeftOut { task: task.to_string(), why: why.clone() });
                    None
                }
                None => Some(success),
            });
        }
        if let (Some(lost), true) = (self.left_out.last(), !parts.is_empty() && parts.iter().all(Option::is_none)) {
            return Err(Error::job(format!(
                "all tasks of stage {name} failed; the last one, {}: {}",
                lost.task, lost.why
            )));
        }
        Ok(parts)
    }

    async fn run(&mut self, name: &str, tasks: Vec<(TaskId, Work)>, needed: bool) -> Result<Vec<Success>> {
        let mut open: BTreeMap<TaskId, Open> = BTreeMap::new();
        let fresh = tasks.iter().filter(|(id, _)| self.log.get(id).is_none());
        open.extend(fresh.map(|(id, work)| (id.clone(), Open::new(work.clone(), needed))));
        self.tell(Progress::Stage { name: name.to_string(), tasks: tasks.len(), done: tasks.len() - open.len() });
        let known = |(id, work): &(TaskId, Work)| Some((id.clone(), pictures(work, self.log.get(id)?)?.clone()));
        if let Some((task, blob)) = tasks.iter().rev().find_map(known) {
            self.tell(Progress::Pictures { task, blob });
        }
        // Their ids tell tasks apart, so a stage is named by its first one.
        let label = tasks.first().map(|(id, _)| id.to_string()).unwrap_or_default();
        let waiting = self.queue.durable() && self.log.published(&label);
        if !open.is_empty() && !waiting {
            self.publish(&open, open.keys()).await?;
            self.log.append(Page { published: vec![label], ..Page::default() }).await?;
        }
        let mut watch = Watch { check: Instant::now() + CHECK, heard: Instant::now(), took: Vec::new() };
        let label = if name.ends_with("guard") { "guard" } else { tasks.first().map_or("", |(_, work)| work.kind()) };
        while !open.is_empty() {
            self.collect(label, &mut open, &mut watch).await?;
            let flying = open.values().filter(|t| t.started.is_some()).count();
            self.metrics.in_flight(&self.spec.id, self.spec.settings.job.priority, flying as u64);
        }
        self.log.confirm().await?;
        self.tell(Progress::StageDone { name: name.to_string() });
        let known = |id: &TaskId| self.log.get(id).cloned();
        let missing = || Error::internal(format!("stage {name} ended without all its tasks"));
        tasks.iter().map(|(id, _)| known(id).ok_or_else(missing)).collect()
    }

    /// Publishes those of the open tasks.
    async fn publish(&self, open: &BTreeMap<TaskId, Open>, ids: impl Iterator<Item = &TaskId>) -> Result<()> {
        let topic = Topic::Tasks(self.spec.settings.job.priority);
        let mut ids = ids.filter_map(|id| Some((id, open.get(id)?))).peekable();
        while ids.peek().is_some() {
            let bodies = ids.by_ref().take(BATCH).map(|(id, task)| self.body(id, &task.work)).collect::<Result<_>>()?;
            self.queue.publish(topic, bodies).await?;
        }
        Ok(())
    }

    /// The message that asks for a task.
    fn body(&self, id: &TaskId, work: &Work) -> Result<Bytes> {
        let task = Task {
            version: VERSION,
            job: self.spec.id.clone(),
            id: id.clone(),
            spec: self.spec_blob.clone(),
            model: self.model.clone(),
            work: work.clone(),
        };
        let body = serde_json::to_vec(&task).context(Kind::Internal, || format!("task {id} has no JSON form"))?;
        Ok(body.into())
    }

    /// Takes all messages that have arrived, writes down what they say, then acknowledges them.
    async fn collect(
        &mut self,
        stage: &'static str,
        open: &mut BTreeMap<TaskId, Open>,
        watch: &mut Watch,
    ) -> Result<()> {
        let first = tokio::select! {
            biased;
            () = self.cancelled.cancelled() => return Err(Error::job("the job was cancelled")),
            message = self.inbox.recv() => {
                message.ok_or_else(|| Error::internal("the event stream of the job ended"))?
            }
            () = tokio::time::sleep_until(watch.check) => {
                watch.check = Instant::now() + CHECK;
                return self.look_after(open, watch).await;
            }
        };
        let mut messages = vec![first];
        while let Ok(message) = self.inbox.try_recv() {
            messages.push(message);
        }
        watch.heard = Instant::now();
        let (mut page, mut again, mut answered) = (Page::default(), Vec::new(), Vec::new());
        let mut given_up: Vec<(TaskId, String)> = Vec::new();
        for message in messages {
            match message {
                Message::Event(event, delivery) => {
                    self.take_in(event, stage, open, watch, &mut page, &mut again).await;
                    answered.push(delivery);
                }
                Message::Undelivered(id, delivery) => {
                    if let Some(task) = open.get(&id) {
                        self.metrics.missed(task.work.kind(), "buried");
                        let times = delivery.redelivered().max(self.policy.delivery_limit);
                        given_up.push((id.clone(), format!("its worker died or vanished {times} times")));
                    }
                    answered.push(delivery);
                }
            }
        }
        let failed: Vec<(TaskId, String)> = page.failed.iter().map(|(id, f)| (id.clone(), f.error.clone())).collect();
        self.log.append(page).await?;
        for (id, error) in failed {
            let hopeless = open.get(&id).is_some_and(|t| t.hopeless);
            if hopeless || self.log.failures(&id).len() >= self.policy.failures as usize {
                given_up.push((id, error));
            }
        }
        for (id, why) in given_up {
            if open.get(&id).is_none_or(|task| task.needed) {
                self.gave_up = true;
                return Err(self.give_up(&id, open, &why, answered).await);
            }
            self.leave_out(id, open, why).await?;
        }
        self.metrics.again(again.len());
        self.publish(open, again.iter()).await?;
        for delivery in answered {
            delivery.ack().await?;
        }
        Ok(())
    }

    /// What one event means for the open tasks.
    async fn take_in(
        &self,
        event: Event,
        stage: &'static str,
        open: &mut BTreeMap<TaskId, Open>,
        watch: &mut Watch,
        page: &mut Page,
        again: &mut Vec<TaskId>,
    ) {
        self.tell(Progress::Heard(event.worker.clone()));
        let Some(task) = open.get_mut(&event.task) else {
            if let Report::Done(success) = event.report
                && self.is_beaten(&event.task, &event.attempt, page)
            {
                info!(task = %event.task, attempt = event.attempt, "came second");
                self.forget(success.outputs.into_values()).await;
            }
            return;
        };
        let now = Instant::now();
        task.heard = Some(now);
        match event.report {
            Report::Started => {
                task.started.get_or_insert(now);
            }
            Report::Progress { images } => {
                task.started.get_or_insert(now);
                let before = task.images.insert(event.attempt, images).unwrap_or(0);
                self.tell(Progress::Images(images.saturating_sub(before)));
                self.metrics.images(stage, images.saturating_sub(before));
            }
            Report::Done(success) => {
                let total = success.metrics.get("images").copied().unwrap_or(0.0) as u64;
                let before = task.images.get(&event.attempt).copied().unwrap_or(0);
                self.tell(Progress::Images(total.saturating_sub(before)));
                self.metrics.images(stage, total.saturating_sub(before));
                self.tell(Progress::TaskDone);
                self.metrics.done(task.work.kind(), success.metrics.get("seconds").copied().unwrap_or(0.0));
                if let Some(blob) = pictures(&task.work, &success) {
                    self.tell(Progress::Pictures { task: event.task.clone(), blob: blob.clone() });
                }
                watch.took.extend(success.metrics.get("seconds"));
                open.remove(&event.task);
                page.done.push(Done { task: event.task, attempt: event.attempt, success });
            }
            Report::Failed { error, code } => {
                let known = self.log.failures(&event.task).iter().any(|f| f.attempt == event.attempt);
                if known {
                    return;
                }
                task.code = code;
                task.heard = None;
                task.started = None;
                let count = self.log.failures(&event.task).len() + 1;
                warn!(task = %event.task, attempt = event.attempt, worker = %event.worker, failures = count, "{error}");
                self.metrics.missed(task.work.kind(), "failed");
                self.tell(Progress::Failure { task: event.task.clone(), error: error.clone() });
                let failure = Failure { attempt: event.attempt, worker: event.worker, error };
                page.failed.push((event.task.clone(), failure));
                task.hopeless = is_final(code);
                again.push(event.task);
            }
            Report::Changed => {}
        }
    }

    /// Whether another attempt at `task` counts.
    fn is_beaten(&self, task: &TaskId, attempt: &str, page: &Page) -> bool {
        let winner = self.log.attempt(task);
        let winner = winner.or_else(|| page.done.iter().find(|d| d.task == *task).map(|d| d.attempt.as_str()));
        winner.is_some_and(|w| w != attempt)
    }

    /// Hands out again what nobody seems to work on any more.
    async fn look_after(&self, open: &mut BTreeMap<TaskId, Open>, watch: &mut Watch) -> Result<()> {
        let now = Instant::now();
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

    /// Puts a task among the dead letters and says why the job ends.
    async fn give_up(
        &self,
        id: &TaskId,
        open: &BTreeMap<TaskId, Open>,
        why: &str,
        answered: Vec<Box<dyn Delivery>>,
    ) -> Error {
        let code = open.get(id).map_or(0, |task| task.code);
        let tried = self.tried(id);
        let buried = async {
            if let Some(task) = open.get(id) {
                self.queue.publish(Topic::Dead, vec![self.body(id, &task.work)?]).await?;
            }
            for delivery in answered {
                delivery.ack().await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(e) = buried.await {
            warn!(task = %id, "not put among the dead letters: {}", e.chain());
        }
        Error::new(kind_of(code), format!("task {id} failed{tried}: {why}"))
    }

    /// Puts a task among the dead letters and goes on without what it would have brought.
    async fn leave_out(&mut self, id: TaskId, open: &mut BTreeMap<TaskId, Open>, why: String) -> Result<()> {
        let why = format!("failed{}: {why}", self.tried(&id));
        warn!(task = %id, "left out: {why}");
        if let Some(task) = open.remove(&id) {
            self.queue.publish(Topic::Dead, vec![self.body(&id, &task.work)?]).await?;
        }
        self.tell(Progress::TaskDone);
        let success = Success { facts: [(LEFT_OUT.to_string(), why)].into(), ..Success::default() };
        let done = vec![Done { task: id, attempt: LEFT_OUT.into(), success }];
        self.log.append(Page { done, ..Page::default() }).await
    }

    /// The attempts at a task, for a message.
    fn tried(&self, id: &TaskId) -> String {
        let attempts: Vec<&str> = self.log.failures(id).iter().map(|f| f.attempt.as_str()).collect();
        if attempts.is_empty() { String::new() } else { format!(" (attempts {})", attempts.join(", ")) }
    }
}

/// What a stage keeps an eye on.
struct Watch {
    check: Instant,
    /// When anything was last heard of the job.
    heard: Instant,
    /// Seconds that finished tasks took.
    took: Vec<f64>,
}

impl Watch {
    fn twice_the_median(&self) -> Option<Duration> {
        let mut took = self.took.clone();
        took.sort_by(f64::total_cmp);
        took.get(took.len() / 2).map(|s| Duration::from_secs_f64(2.0 * s))
    }
}

/// A task that is not done.
struct Open {
    work: Work,
    /// Images reported so far, by attempt.
    images: BTreeMap<String, u64>,
    /// When a worker first said that it had begun.
    started: Option<Instant>,
    /// When a worker last said something about it.
    heard: Option<Instant>,
    /// A second worker has been asked for it.
    copied: bool,
    /// The exit code of its last failure.
    code: u8,
    /// No further attempt could fare better.
    hopeless: bool,
    /// The job cannot go on without it.
    needed: bool,
}

impl Open {
    fn new(work: Work, needed: bool) -> Self {
        let images = BTreeMap::new();
        Self { work, images, started: None, heard: None, copied: false, code: 0, hopeless: false, needed }
    }
}

/// The adversarial pictures among what a task brought.
fn pictures<'a>(work: &Work, success: &'a Success) -> Option<&'a Blob> {
    let name = if matches!(work, Work::Augment { .. }) { "shard" } else { "examples" };
    success.outputs.get(name)
}

/// Bad settings and unusable models do not mend themselves between two attempts.
fn is_final(code: u8) -> bool {
    [Kind::Usage, Kind::Model].iter().any(|k| k.exit_code() == code)
}

fn kind_of(code: u8) -> Kind {
    use Kind::*;
    [Usage, Data, Model, Storage, Queue, Job, Internal].into_iter().find(|k| k.exit_code() == code).unwrap_or(Job)
}
