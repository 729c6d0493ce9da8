//! Tasks that failed for good: the job ends, or goes on without them.

use std::collections::BTreeMap;

use tracing::warn;

use super::open::Open;
use super::{Job, LEFT_OUT};
use crate::coordinator::log::{Done, Page};
use crate::coordinator::progress::Progress;
use crate::error::{Error, Kind, Result};
use crate::queue::{Delivery, Topic};
use crate::report::LeftOut;
use crate::task::{Success, TaskId};

impl Job {
    /// Puts a task among the dead letters and says why the job ends.
    pub(super) async fn give_up(
        &self,
        id: &TaskId,
        open: &BTreeMap<TaskId, Open>,
        why: &str,
        answered: Vec<Box<dyn Delivery>>,
    ) -> Error {
        let code = open.get(id).map_or(0, |task| task.code);
        let tried = self.tried(id, open.get(id));
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
    pub(super) async fn leave_out(&mut self, id: TaskId, open: &mut BTreeMap<TaskId, Open>, why: String) -> Result<()> {
        let task = open.remove(&id);
        let why = format!("failed{}: {why}", self.tried(&id, task.as_ref()));
        warn!(task = %id, "left out: {why}");
        if let Some(task) = task {
            self.queue.publish(Topic::Dead, vec![self.body(&id, &task.work)?]).await?;
        }
        self.tell(Progress::TaskDone);
        self.tell(Progress::LeftOut(LeftOut { task: id.to_string(), why: why.clone() }));
        let success = Success { facts: [(LEFT_OUT.to_string(), why)].into(), ..Success::default() };
        let done = vec![Done { task: id, attempt: LEFT_OUT.into(), success }];
        self.log.append(Page { done, ..Page::default() }).await
    }

    /// What a task was about and the attempts at it, for a message. Those that failed have said so; of workers that
    /// died nothing is known but that they began.
    fn tried(&self, id: &TaskId, task: Option<&Open>) -> String {
        let mut text = String::new();
        match task.map_or(&[][..], |task| task.work.shards()) {
            [] => {}
            [shard] => text += &format!(" on {}", shard.key),
            [first, rest @ ..] => text += &format!(" on {} and {} more", first.key, rest.len()),
        }
        let failed: Vec<&str> = self.log.failures(id).iter().map(|f| f.attempt.as_str()).collect();
        let begun = task.into_iter().flat_map(|task| task.images.keys().map(String::as_str));
        let vanished: Vec<&str> = begun.filter(|attempt| !failed.contains(attempt)).collect();
        let attempts = [failed, vanished].concat();
        if !attempts.is_empty() {
            text += &format!(" (attempts {})", attempts.join(", "));
        }
        text
    }
}

/// Bad settings and unusable models do not mend themselves between two attempts.
pub(super) fn is_final(code: u8) -> bool {
    [Kind::Usage, Kind::Model].iter().any(|k| k.exit_code() == code)
}

fn kind_of(code: u8) -> Kind {
    use Kind::*;
    [Usage, Data, Model, Storage, Queue, Job, Internal].into_iter().find(|k| k.exit_code() == code).unwrap_or(Job)
}
