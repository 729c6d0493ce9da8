//! Sorts what comes from the queue into the inboxes of the jobs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tracing::{error, warn};

use super::stage::Message;
use crate::error::{Kind, Result};
use crate::queue::{Delivery, Queue, Topic};
use crate::task::{Envelope, Event, JobId, Report, Task, VERSION};

/// Messages that may wait to be written down before the queue sends more.
const UNANSWERED: u16 = 512;

/// What a job hears.
pub(super) type Inbox = mpsc::UnboundedReceiver<Message>;

/// The inboxes of the jobs that run here.
#[derive(Debug, Default)]
pub(super) struct Post {
    inboxes: Mutex<HashMap<JobId, mpsc::UnboundedSender<Message>>>,
    /// Rung when a job was submitted, cancelled or retried.
    pub(super) bell: Notify,
}

impl Post {
    /// Opens the inbox of `job`. It closes by itself when the receiver is dropped.
    pub(super) fn open(&self, job: &JobId) -> Inbox {
        let (sender, inbox) = mpsc::unbounded_channel();
        self.lock().insert(job.clone(), sender);
        inbox
    }

    /// Sorts until the queue fails.
    pub(super) async fn sort(&self, queue: &dyn Queue) -> Result<()> {
        let mut events = queue.consume(&[Topic::Events], UNANSWERED).await?;
        let mut undelivered = queue.consume(&[Topic::Undelivered], UNANSWERED).await?;
        loop {
            tokio::select! {
                delivery = events.next() => self.event(delivery?).await?,
                delivery = undelivered.next() => self.undelivered(queue, delivery?).await?,
            }
        }
    }

    async fn event(&self, delivery: Box<dyn Delivery>) -> Result<()> {
        let Some(event) = read(delivery.body()) else { return delivery.ack().await };
        if event.report == Report::Changed {
            self.bell.notify_one();
            return delivery.ack().await;
        }
        let job = event.job.clone();
        self.put(&job, |delivery| Message::Event(event, delivery), delivery).await
    }

    async fn undelivered(&self, queue: &dyn Queue, delivery: Box<dyn Delivery>) -> Result<()> {
        match serde_json::from_slice::<Task>(delivery.body()) {
            Ok(task) => self.put(&task.job.clone(), |d| Message::Undelivered(task.id, d), delivery).await,
            Err(e) => {
                error!("a message that is no task was set aside: {e}");
                queue.publish(Topic::Dead, vec![delivery.body().clone()]).await?;
                delivery.ack().await
            }
        }
    }

    /// A job that has ended no longer wants to know.
    async fn put(
        &self,
        job: &JobId,
        message: impl FnOnce(Box<dyn Delivery>) -> Message,
        delivery: Box<dyn Delivery>,
    ) -> Result<()> {
        let inbox = self.lock().get(job).filter(|i| !i.is_closed()).cloned();
        match inbox {
            Some(inbox) => {
                // Closed in between: the message is dropped with its delivery, and comes again.
                let _ = inbox.send(message(delivery));
                Ok(())
            }
            None => delivery.ack().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, mpsc::UnboundedSender<Message>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event. One of another version says nothing but that its worker is of another release.
fn read(body: &[u8]) -> Option<Event> {
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(body)
        && envelope.version != VERSION
    {
        let Envelope { version, job, task, attempt, worker } = envelope;
        let worker = worker?;
        let error = format!(
            "worker {worker} writes messages of version {version}, this coordinator reads version {VERSION}; run \
             coordinators and workers of one release"
        );
        let report = Report::Failed { error, code: Kind::Job.exit_code() };
        return Some(Event { version: VERSION, job, task, attempt, worker, report });
    }
    serde_json::from_slice(body).inspect_err(|e| warn!("a message that is no event: {e}")).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_of_another_release_is_told_apart_from_garbage() {
        let other = br#"{"version": 7, "job": "j", "task": "t", "attempt": "a", "worker": "w", "report": "new"}"#;
        let Report::Failed { error, .. } = read(other).unwrap().report else { panic!("it fails the attempt") };
        assert!(error.contains("worker w writes messages of version 7"), "{error}");
        assert!(read(b"{}").is_none() && read(br#"{"version": 1, "job": "j", "task": "t"}"#).is_none());
    }
}
