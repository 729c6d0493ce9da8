//! What is heard of the tasks: taken in, written down, and only then acknowledged.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant, timeout_at};
use tracing::{info, warn};

use super::lost::is_final;
use super::open::{Open, Watch};
use super::{Job, Message, pictures};
use crate::coordinator::log::{Done, Failure, Page};
use crate::coordinator::progress::Progress;
use crate::error::{Error, Result};
use crate::task::{Event, Report, TaskId};

/// What arrives within so long of the last page goes onto one page: many short tasks must not keep the store busy.
const PAGE: Duration = Duration::from_millis(50);

/// What comes of the messages that arrived together.
#[derive(Default)]
struct Harvest {
    /// To be written down.
    page: Page,
    /// To be handed out again.
    again: Vec<TaskId>,
    /// Tasks that no worker will ever do, and why.
    given_up: Vec<(TaskId, String)>,
}

impl Job {
    /// Takes the messages that have arrived, writes down what they say, then acknowledges them. Now and then it looks
    /// after the open tasks, however many messages come.
    pub(super) async fn collect(
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
            () = tokio::time::sleep_until(watch.check) => return self.look_after(open, watch).await,
        };
        let mut messages = vec![first];
        // The last ones of a stage need not wait for more, and without a broker workers wait for their answers.
        while self.queue.durable()
            && messages.len() < open.len()
            && let Ok(Some(message)) = timeout_at(watch.page, self.inbox.recv()).await
        {
            messages.push(message);
        }
        while let Ok(message) = self.inbox.try_recv() {
            messages.push(message);
        }
        watch.heard = Instant::now();
        watch.page = watch.heard + PAGE;
        let (mut harvest, mut answered) = (Harvest::default(), Vec::new());
        for message in messages {
            match message {
                Message::Event(event, delivery) => {
                    self.take_in(event, stage, open, watch, &mut harvest).await;
                    answered.push(delivery);
                }
                Message::Undelivered(id, delivery) => {
                    if let Some(task) = open.get(&id) {
                        self.metrics.missed(task.work.kind(), "buried");
                        let times = delivery.redelivered().max(self.policy.delivery_limit);
                        harvest.given_up.push((id.clone(), format!("its worker died or vanished {times} times")));
                    }
                    answered.push(delivery);
                }
            }
        }
        let Harvest { page, again, mut given_up } = harvest;
        let failed: Vec<(TaskId, String)> = page.failed.iter().map(|(id, f)| (id.clone(), f.error.clone())).collect();
        self.log.append(page).await?;
        for (id, error) in failed {
            let hopeless = open.get(&id).is_some_and(|t| t.hopeless);
            if hopeless || self.log.failures(&id).len() >= self.policy.failures as usize {
                given_up.push((id, error));
            }
        }
        for (id, why) in given_up {
            match open.get(&id) {
                // Another attempt at it has just been done, or it has been left out.
                None => {}
                Some(task) if task.needed => {
                    self.gave_up = true;
                    return Err(self.give_up(&id, open, &why, answered).await);
                }
                Some(_) => self.leave_out(id, open, why).await?,
            }
        }
        self.metrics.again(again.len());
        self.publish(open, again.iter()).await?;
        for delivery in answered {
            delivery.ack().await?;
        }
        if watch.is_due() { self.look_after(open, watch).await } else { Ok(()) }
    }

    /// What one event means for the open tasks.
    async fn take_in(
        &self,
        event: Event,
        stage: &'static str,
        open: &mut BTreeMap<TaskId, Open>,
        watch: &mut Watch,
        harvest: &mut Harvest,
    ) {
        self.tell(Progress::Heard(event.worker.clone()));
        let Some(task) = open.get_mut(&event.task) else {
            if let Report::Done(success) = event.report
                && self.is_beaten(&event.task, &event.attempt, &harvest.page)
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
                task.images.entry(event.attempt).or_insert(0);
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
                watch.declined.clear();
                open.remove(&event.task);
                harvest.page.done.push(Done { task: event.task, attempt: event.attempt, success });
            }
            Report::Failed { error, code } => {
                let known = self.log.failures(&event.task).iter().any(|f| f.attempt == event.attempt);
                if known {
                    return;
                }
                task.code = code;
                task.rest();
                let count = self.log.failures(&event.task).len() + 1;
                warn!(task = %event.task, attempt = event.attempt, worker = %event.worker, failures = count, "{error}");
                self.metrics.missed(task.work.kind(), "failed");
                self.tell(Progress::Failure { task: event.task.clone(), error: error.clone() });
                let failure = Failure { attempt: event.attempt, worker: event.worker, error };
                harvest.page.failed.push((event.task.clone(), failure));
                task.hopeless = is_final(code);
                harvest.again.push(event.task);
            }
            Report::Declined { error } => {
                task.rest();
                warn!(task = %event.task, worker = %event.worker, "declined: {error}");
                self.metrics.missed(task.work.kind(), "declined");
                self.tell(Progress::Declined { worker: event.worker.clone(), error: error.clone() });
                // One worker that can do nothing must not end a job that others do: what counts is that none does.
                let others_work = open.values().any(|task| task.started.is_some());
                let times = watch.declined.entry(event.worker.clone()).or_insert(0);
                *times += 1;
                if *times >= self.policy.delivery_limit && !others_work {
                    let why = format!(
                        "worker {} declined {times} tasks, none was done meanwhile and nobody is at one; the last time: {error}",
                        event.worker
                    );
                    harvest.given_up.push((event.task.clone(), why));
                }
                harvest.again.push(event.task);
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
}
