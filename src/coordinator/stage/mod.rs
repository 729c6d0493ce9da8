//! One stage of a job: all its tasks are published at once, and each distinct task is counted once.

mod events;
mod lost;
mod open;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::log::{Log, Page};
use super::post::Inbox;
use super::progress::{Observer, Progress};
use super::spec::JobSpec;
#[cfg(test)]
use super::spec::Program;
use crate::config::{Poison, QueueSettings};
use crate::error::{Context, Error, Kind, Result};
use crate::metrics::CoordinatorMetrics;
use crate::queue::{Delivery, Queue, Topic};
use crate::report::LeftOut;
use crate::store::{Blob, Key, Store};
use crate::task::{Event, Success, Task, TaskId, VERSION, Work};
#[cfg(test)]
use crate::{config::Settings, queue::MemoryQueue};

use open::{Open, Watch};

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
        let ids = self.run(name, tasks, true).await?;
        ids.iter().map(|id| self.brought(id)).collect()
    }

    /// The same for tasks of which some may be missing: with `job.poison = "skip"`, `None` stands for one that
    /// failed for good. That all of them do is an error still.
    pub async fn parts(&mut self, name: &str, tasks: Vec<(TaskId, Work)>) -> Result<Vec<Option<Success>>> {
        let ids = self.settle(name, tasks).await?;
        ids.iter().map(|id| if self.is_left_out(id) { Ok(None) } else { self.brought(id).map(Some) }).collect()
    }

    /// The same where nobody asks what they brought; returns their ids.
    pub async fn settle(&mut self, name: &str, tasks: Vec<(TaskId, Work)>) -> Result<Vec<TaskId>> {
        let needed = self.spec.settings.job.poison == Poison::Fail;
        // What is lost from here on is told when that happens.
        let lost_before: BTreeSet<TaskId> =
            tasks.iter().map(|(id, _)| id).filter(|id| self.is_left_out(id)).cloned().collect();
        let ids = self.run(name, tasks, needed).await?;
        let lost: Vec<&TaskId> = ids.iter().filter(|id| self.is_left_out(id)).collect();
        for id in &lost {
            let why = self.brought(id)?.facts.remove(LEFT_OUT).unwrap_or_default();
            let lost = LeftOut { task: id.to_string(), why };
            if lost_before.contains(*id) {
                self.tell(Progress::LeftOut(lost.clone()));
            }
            self.left_out.push(lost);
        }
        match self.left_out.last() {
            Some(last) if !ids.is_empty() && lost.len() == ids.len() => {
                Err(Error::job(format!("all tasks of stage {name} failed; the last one, {}: {}", last.task, last.why)))
            }
            _ => Ok(ids),
        }
    }

    fn is_left_out(&self, id: &TaskId) -> bool {
        self.log.attempt(id) == Some(LEFT_OUT)
    }

    /// What a finished task brought.
    fn brought(&self, id: &TaskId) -> Result<Success> {
        self.log.get(id)?.ok_or_else(|| Error::internal(format!("a stage ended without its task {id}")))
    }

    async fn run(&mut self, name: &str, tasks: Vec<(TaskId, Work)>, needed: bool) -> Result<Vec<TaskId>> {
        // Their ids tell tasks apart, so a stage is named by its first one.
        let label = tasks.first().map(|(id, _)| id.to_string()).unwrap_or_default();
        let kind = if name.ends_with("guard") { "guard" } else { tasks.first().map_or("", |(_, work)| work.kind()) };
        let (mut ids, mut open, mut shown) = (Vec::with_capacity(tasks.len()), BTreeMap::new(), None);
        for (id, work) in tasks {
            if let Some(success) = self.log.get(&id)? {
                shown = pictures(&work, &success).map(|blob| (id.clone(), blob.clone())).or(shown);
            } else {
                self.metrics.expect(work.kind());
                open.insert(id.clone(), Open::new(work, needed));
            }
            ids.push(id);
        }
        self.tell(Progress::Stage { name: name.to_string(), tasks: ids.len(), done: ids.len() - open.len() });
        if let Some((task, blob)) = shown {
            self.tell(Progress::Pictures { task, blob });
        }
        let waiting = self.queue.durable() && self.log.published(&label);
        if !open.is_empty() && !waiting {
            self.publish(&open, open.keys()).await?;
            self.log.append(Page { published: vec![label], ..Page::default() }).await?;
        }
        let mut watch = Watch::new();
        while !open.is_empty() {
            self.collect(kind, &mut open, &mut watch).await?;
        }
        self.metrics.in_flight(&self.spec.id, self.spec.settings.job.priority, 0);
        self.log.confirm().await?;
        self.tell(Progress::StageDone { name: name.to_string() });
        Ok(ids)
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
}

/// The adversarial pictures among what a task brought.
fn pictures<'a>(work: &Work, success: &'a Success) -> Option<&'a Blob> {
    let name = if matches!(work, Work::Augment { .. }) { "shard" } else { "examples" };
    success.outputs.get(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Job {
    /// A job on `store` for which nobody works.
    pub(super) async fn for_tests(store: &Arc<dyn Store>, settings: Settings) -> Self {
        let spec = JobSpec::new("j".parse().unwrap(), Program::Night, &settings, "s3://nowhere/photos");
        let prefix = JobSpec::prefix(&spec.id);
        let (_, inbox) = tokio::sync::mpsc::unbounded_channel();
        Self {
            spec_blob: store.put_json(&prefix.join("spec.json"), &spec).await.unwrap(),
            spec,
            model: None,
            store: store.clone(),
            queue: Arc::new(MemoryQueue::like_a_broker(5)),
            policy: settings.queue,
            metrics: CoordinatorMetrics::default(),
            log: Log::take_over(store.clone(), &prefix, "c").await.unwrap(),
            inbox,
            observer: Observer::new(|_| {}),
            cancelled: CancellationToken::new(),
            gave_up: false,
            left_out: Vec::new(),
        }
    }
}
