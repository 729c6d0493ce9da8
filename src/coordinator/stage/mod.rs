//! One stage of a job: all its tasks are published at once, and each distinct task is counted once.

mod events;
mod lost;
mod open;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;
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
        self.run(name, tasks, true).await
    }

    /// The same for tasks of which some may be missing: with `job.poison = "skip"`, `None` stands for one that
    /// failed for good. That all of them do is an error still.
    pub async fn parts(&mut self, name: &str, tasks: Vec<(TaskId, Work)>) -> Result<Vec<Option<Success>>> {
        let needed = self.spec.settings.job.poison == Poison::Fail;
        // What is lost from here on is told when that happens.
        let ids: Vec<_> = tasks.iter().map(|(id, _)| (id.clone(), self.log.get(id).is_some())).collect();
        let brought = self.run(name, tasks, needed).await?;
        let mut parts = Vec::with_capacity(brought.len());
        for ((task, known), success) in ids.into_iter().zip(brought) {
            parts.push(match success.facts.get(LEFT_OUT) {
                Some(why) => {
                    let lost = LeftOut { task: task.to_string(), why: why.clone() };
                    if known {
                        self.tell(Progress::LeftOut(lost.clone()));
                    }
                    self.left_out.push(lost);
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
        let mut watch = Watch::new();
        let label = if name.ends_with("guard") { "guard" } else { tasks.first().map_or("", |(_, work)| work.kind()) };
        while !open.is_empty() {
            self.collect(label, &mut open, &mut watch).await?;
        }
        self.metrics.in_flight(&self.spec.id, self.spec.settings.job.priority, 0);
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
            queue: Arc::new(MemoryQueue::new(5)),
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
