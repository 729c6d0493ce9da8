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
    pub(super) async fn leave_out(&mut self, id: TaskId, open: &mut BTreeMap<TaskId, Open>, why: String) -> Result<()> {
        let why = format!("failed{}: {why}", self.tried(&id));
        warn!(task = %id, "left out: {why}");
        if let Some(task) = open.remove(&id) {
            self.queue.publish(Topic::Dead, vec![self.body(&id, &task.work)?]).await?;
        }
        self.tell(Progress::TaskDone);
        self.tell(Progress::LeftOut(LeftOut { task: id.to_string(), why: why.clone() }));
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

/// Bad settings and unusable models do not mend themselves between two attempts.
pub(super) fn is_final(code: u8) -> bool {
    [Kind::Usage, Kind::Model].iter().any(|k| k.exit_code() == code)
}

fn kind_of(code: u8) -> Kind {
    use Kind::*;
    [Usage, Data, Model, Storage, Queue, Job, Internal].into_iter().find(|k| k.exit_code() == code).unwrap_or(Job)
}
