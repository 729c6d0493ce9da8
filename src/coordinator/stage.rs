//! One stage of a job: all its tasks are published at once, and each distinct task is counted once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::warn;

use super::log::{Done, Log};
use super::progress::{Observer, Progress};
use super::spec::JobSpec;
use crate::error::{Context, Error, Kind, Result};
use crate::queue::{Queue, Topic};
use crate::store::{Blob, Key, Store};
use crate::task::{Event, Report, Success, Task, TaskId, VERSION, Work};

/// A task that failed this often by itself ends the job.
const ATTEMPTS: u32 = 3;

/// A running job: what its program needs to ask for work.
#[derive(Debug)]
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
    pub(super) log: Log,
    pub(super) inbox: mpsc::UnboundedReceiver<Event>,
    pub(super) observer: Observer,
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
        let mut open: BTreeMap<TaskId, Open> = BTreeMap::new();
        for (id, work) in &tasks {
            if self.log.get(id).is_none() {
                let task = Task {
                    version: VERSION,
                    job: self.spec.id.clone(),
                    id: id.clone(),
                    spec: self.spec_blob.clone(),
                    model: self.model.clone(),
                    work: work.clone(),
                };
                let body =
                    serde_json::to_vec(&task).context(Kind::Internal, || format!("task {id} has no JSON form"))?;
                open.insert(id.clone(), Open { body: body.into(), failures: 0, images: BTreeMap::new() });
            }
        }
        self.tell(Progress::Stage { name: name.to_string(), tasks: tasks.len(), done: tasks.len() - open.len() });
        let topic = Topic::Tasks(self.spec.settings.job.priority);
        self.queue.publish(topic, open.values().map(|t| t.body.clone()).collect()).await?;
        while !open.is_empty() {
            self.collect(&mut open).await?;
        }
        self.tell(Progress::StageDone { name: name.to_string() });
        let known = |id: &TaskId| self.log.get(id).cloned();
        let missing = || Error::internal(format!("stage {name} ended without all its tasks"));
        tasks.iter().map(|(id, _)| known(id).ok_or_else(missing)).collect()
    }

    /// Takes all events that have arrived, writes the finished tasks down together.
    async fn collect(&mut self, open: &mut BTreeMap<TaskId, Open>) -> Result<()> {
        let gone = || Error::internal("the event stream of the job ended");
        let mut events = vec![self.inbox.recv().await.ok_or_else(gone)?];
        while let Ok(event) = self.inbox.try_recv() {
            events.push(event);
        }
        let mut finished: Vec<Done> = Vec::new();
        let mut again: BTreeSet<TaskId> = BTreeSet::new();
        for event in events {
            let Some(task) = open.get_mut(&event.task) else { continue };
            match event.report {
                Report::Started => {}
                Report::Progress { images } => {
                    let before = task.images.insert(event.attempt, images).unwrap_or(0);
                    self.tell(Progress::Images(images.saturating_sub(before)));
                }
                Report::Done(success) => {
                    let total = success.metrics.get("images").copied().unwrap_or(0.0) as u64;
                    let before = task.images.get(&event.attempt).copied().unwrap_or(0);
                    self.tell(Progress::Images(total.saturating_sub(before)));
                    self.tell(Progress::TaskDone);
                    open.remove(&event.task);
                    finished.push(Done { task: event.task, attempt: event.attempt, success });
                }
                Report::Failed { error, code } => {
                    task.failures += 1;
                    warn!(task = %event.task, worker = %event.worker, failures = task.failures, "{error}");
                    if task.failures >= ATTEMPTS || is_final(code) {
                        return Err(Error::new(
                            kind_of(code),
                            format!("task {} failed (attempt {}): {error}", event.task, task.failures),
                        ));
                    }
                    again.insert(event.task);
                }
            }
        }
        if !finished.is_empty() {
            self.log.append(finished).await?;
        }
        let topic = Topic::Tasks(self.spec.settings.job.priority);
        let again = again.iter().filter_map(|id| open.get(id)).map(|t| t.body.clone()).collect();
        self.queue.publish(topic, again).await
    }
}

/// A published task.
struct Open {
    body: Bytes,
    failures: u32,
    /// Images reported so far, by attempt.
    images: BTreeMap<String, u64>,
}

/// Bad settings and full disks do not mend themselves between two attempts.
fn is_final(code: u8) -> bool {
    [Kind::Usage, Kind::Model, Kind::Storage].iter().any(|k| k.exit_code() == code)
}

fn kind_of(code: u8) -> Kind {
    use Kind::*;
    [Usage, Data, Model, Storage, Queue, Job].into_iter().find(|k| k.exit_code() == code).unwrap_or(Internal)
}
