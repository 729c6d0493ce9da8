//! A consumer of several queues: one message at a time, the first queue's before the next one's.
//!
//! A busy worker fetches its next message when it has answered the last; an idle one subscribes to all
//! queues, so that it need not ask again and again, and ends that before it starts to work. No message
//! waits at a worker that is busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{self, StreamExt};
use lapin::message::Delivery as Message;
use lapin::options::{BasicCancelOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::connection::{Line, Link};
use super::delivery::RabbitDelivery;
use super::fault::Fault;
use crate::error::{Context, Error, Kind, Result};
use crate::queue::{Consumer, Delivery, Topic};

pub(super) struct PullConsumer {
    source: Arc<Source>,
    /// A permit for the one message that may be unanswered.
    answered: Arc<Semaphore>,
    /// The fetching of the next message. A task of its own, so that a caller may stop waiting at any
    /// moment and what has arrived is there when it asks again.
    turn: Option<JoinHandle<Result<RabbitDelivery>>>,
}

struct Source {
    link: Arc<Link>,
    queues: Vec<(Topic, String)>,
    line: Mutex<Option<Arc<Line>>>,
    /// The queue whose last message left others behind; past the last queue when there is none.
    stocked: AtomicUsize,
}

impl PullConsumer {
    /// `queues`: the most urgent first.
    pub fn new(link: Arc<Link>, queues: Vec<(Topic, String)>) -> Self {
        let stocked = AtomicUsize::new(queues.len());
        let source = Arc::new(Source { link, queues, line: Mutex::default(), stocked });
        Self { source, answered: Arc::new(Semaphore::new(1)), turn: None }
    }
}

#[async_trait]
impl Consumer for PullConsumer {
    async fn next(&mut self) -> Result<Box<dyn Delivery>> {
        let turn = self.turn.get_or_insert_with(|| {
            let (source, answered) = (self.source.clone(), self.answered.clone());
            tokio::spawn(async move {
                let permit = answered.acquire_owned().await;
                let permit = permit.context(Kind::Internal, || "the consumer is closed".into())?;
                source.take(permit).await
            })
        });
        let outcome = turn.await;
        self.turn = None;
        Ok(Box::new(outcome.context(Kind::Internal, || "fetching a message was cut short".into())??))
    }
}

impl Drop for PullConsumer {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            turn.abort();
        }
    }
}

impl Source {
    async fn take(&self, permit: OwnedSemaphorePermit) -> Result<RabbitDelivery> {
        let mut trial = self.link.trial();
        loop {
            match self.attempt().await {
                Ok((line, topic, message)) => return Ok(RabbitDelivery::new(message, topic, line, Some(permit))),
                Err(fault) => {
                    *self.line.lock().await = None;
                    self.link.again(&mut trial, fault).await?;
                }
            }
        }
    }

    async fn attempt(&self) -> Result<(Arc<Line>, Topic, Message), Fault> {
        let line = self.line().await?;
        let (topic, message) = match self.fetch(&line).await? {
            Some(found) => found,
            None => self.wait(&line).await?,
        };
        Ok((line, topic, message))
    }

    async fn line(&self) -> Result<Arc<Line>, Fault> {
        let mut held = self.line.lock().await;
        if let Some(line) = held.as_ref().filter(|l| l.connected()) {
            return Ok(line.clone());
        }
        let line = self.link.line().await?;
        line.channel().basic_qos(1, BasicQosOptions::default()).await?;
        Ok(held.insert(Arc::new(line)).clone())
    }

    /// What waits already.
    async fn fetch(&self, line: &Line) -> Result<Option<(Topic, Message)>, Fault> {
        let stocked = self.stocked.swap(self.queues.len(), Ordering::Relaxed);
        match self.fetch_up_to(stocked, line).await? {
            // Others emptied it meanwhile.
            None if stocked < self.queues.len() => self.fetch_up_to(self.queues.len(), line).await,
            found => Ok(found),
        }
    }

    /// To ask how much there is costs the broker less than to fetch in vain, which goes through the log of a quorum
    /// queue. The `stocked` queue had more the last time: neither it is asked, nor those after it.
    async fn fetch_up_to(&self, stocked: usize, line: &Line) -> Result<Option<(Topic, Message)>, Fault> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = self.queues[..stocked]
            .iter()
            .map(|(_, q)| line.channel().queue_declare(q.as_str().into(), passive, FieldTable::default()));
        let counts = try_join_all(asked).await?;
        let filled = |rank: &usize| counts.get(*rank).is_none_or(|found| found.message_count() > 0);
        for rank in (0..self.queues.len().min(stocked + 1)).filter(filled) {
            let (topic, queue) = &self.queues[rank];
            let got = line.channel().basic_get(queue.as_str().into(), BasicGetOptions::default()).await?;
            if let Some(got) = got {
                if got.message_count > 0 {
                    self.stocked.store(rank, Ordering::Relaxed);
                }
                return Ok(Some((*topic, got.delivery)));
            }
        }
        Ok(None)
    }

    /// The next message that arrives in any of the queues.
    async fn wait(&self, line: &Line) -> Result<(Topic, Message), Fault> {
        let consumers = try_join_all(self.queues.iter().map(|(_, queue)| line.consume(queue))).await?;
        let tags: Vec<_> = consumers.iter().map(lapin::Consumer::tag).collect();
        let mut arriving = stream::select_all(consumers.into_iter().enumerate().map(|(rank, messages)| {
            // Each stream says when it ends, which the selection of all would keep to itself.
            messages.map(Some).chain(stream::iter([None])).map(move |event| (rank, event)).boxed()
        }));
        let mut arrived = vec![match arriving.next().await {
            Some((rank, Some(message))) => (rank, message?),
            _ => return Err(Fault::Passing(Error::queue("the broker cancelled a consumer"))),
        }];
        let cancelled = tags.into_iter().map(|tag| line.channel().basic_cancel(tag, BasicCancelOptions::default()));
        for outcome in join_all(cancelled).await {
            outcome?;
        }
        while let Some((rank, event)) = arriving.next().await {
            if let Some(message) = event {
                arrived.push((rank, message?));
            }
        }
        line.forget();
        arrived.sort_by_key(|(rank, _)| *rank);
        let mut arrived = arrived.into_iter();
        let first = arrived.next();
        for (_, spare) in arrived {
            spare.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await?;
        }
        let (rank, message) = first.ok_or_else(|| Fault::Passing(Error::queue("no message came")))?;
        Ok((self.queues[rank].0, message))
    }
}
