//! A queue inside the process, with the broker's promises as long as the process lives.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Consumer, Delivery, Lead, Queue, Topic};
use crate::error::{Context, Kind, Result};

/// Topics as lists in memory. Clones share them.
#[derive(Debug, Clone)]
pub struct MemoryQueue {
    topics: Arc<Topics>,
    leader: Arc<tokio::sync::Mutex<()>>,
    delivery_limit: u32,
    durable: bool,
}

#[derive(Debug, Default)]
struct Topics {
    waiting: Mutex<HashMap<Topic, VecDeque<Message>>>,
    arrived: Notify,
    /// Consumers of tasks that wait.
    idle: AtomicU64,
}

/// Counts a consumer of tasks for as long as it waits.
struct Idle<'a>(&'a AtomicU64);

impl<'a> Idle<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Message {
    body: Bytes,
    delivered: u32,
    /// Dropped with the message once it is answered; whoever published it may wait for that.
    answered: Option<oneshot::Sender<Infallible>>,
}

impl Message {
    fn new(body: Bytes) -> Self {
        Self { body, delivered: 0, answered: None }
    }
}

impl MemoryQueue {
    /// An empty queue. A task delivered `delivery_limit` times unanswered is given up.
    pub fn new(delivery_limit: u32) -> Self {
        Self { topics: Arc::default(), leader: Arc::default(), delivery_limit, durable: false }
    }

    /// The same, taken for a broker by those who ask.
    #[cfg(test)]
    pub fn like_a_broker(delivery_limit: u32) -> Self {
        Self { durable: true, ..Self::new(delivery_limit) }
    }
}

impl Topics {
    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, VecDeque<Message>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, topic: Topic, message: Message, front: bool) {
        let mut waiting = self.lock();
        let list = waiting.entry(topic).or_default();
        if front {
            list.push_front(message)
        } else {
            list.push_back(message)
        }
        drop(waiting);
        self.arrived.notify_waiters();
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    /// What a worker reports is lost with this process until it is written down. Waiting for that, a worker has at most
    /// one task that a kill makes undone.
    async fn publish(&self, topic: Topic, bodies: Vec<Bytes>) -> Result<()> {
        let mut answers = Vec::new();
        for body in bodies {
            let mut message = Message::new(body);
            if topic == Topic::Events && !self.durable {
                let (sender, answer) = oneshot::channel();
                message.answered = Some(sender);
                answers.push(answer);
            }
            self.topics.push(topic, message, false);
        }
        for answer in answers {
            let Err(_gone) = answer.await;
        }
        Ok(())
    }

    async fn consume(&self, topics: &[Topic], unanswered: u16) -> Result<Box<dyn Consumer>> {
        let answered = Arc::new(Semaphore::new(if topics.len() > 1 { 1 } else { unanswered.into() }));
        Ok(Box::new(MemoryConsumer { queue: self.clone(), topics: topics.to_vec(), answered }))
    }

    async fn lead(&self) -> Result<Box<dyn Lead>> {
        Ok(Box::new(MemoryLead { _guard: self.leader.clone().lock_owned().await }))
    }

    fn durable(&self) -> bool {
        self.durable
    }

    async fn backlog(&self, topic: Topic) -> Result<u64> {
        Ok(self.topics.lock().get(&topic).map_or(0, |l| l.len() as u64))
    }

    async fn idle(&self) -> Result<u64> {
        Ok(self.topics.idle.load(Ordering::Relaxed))
    }
}

struct MemoryLead {
    _guard: OwnedMutexGuard<()>,
}

#[async_trait]
impl Lead for MemoryLead {
    async fn lost(&mut self) {
        std::future::pending().await
    }
}

struct MemoryConsumer {
    queue: MemoryQueue,
    topics: Vec<Topic>,
    /// A permit for each message that may yet be delivered.
    answered: Arc<Semaphore>,
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self) -> Result<Box<dyn Delivery>> {
        let permit = self.answered.clone().acquire_owned().await;
        let permit = permit.context(Kind::Internal, || "the consumer is closed".into())?;
        loop {
            let arrived = self.queue.topics.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let found = {
                let mut waiting = self.queue.topics.lock();
                self.topics.iter().find_map(|&t| Some((t, waiting.get_mut(&t)?.pop_front()?)))
            };
            if let Some((topic, message)) = found {
                let queue = self.queue.clone();
                return Ok(Box::new(MemoryDelivery { queue, topic, message: Some(message), _permit: permit }));
            }
            let _idle = self.topics.contains(&Topic::TASKS[0]).then(|| Idle::new(&self.queue.topics.idle));
            arrived.await;
        }
    }
}

struct MemoryDelivery {
    queue: MemoryQueue,
    topic: Topic,
    message: Option<Message>,
    _permit: OwnedSemaphorePermit,
}

#[async_trait]
impl Delivery for MemoryDelivery {
    fn body(&self) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        self.message.as_ref().map_or(&EMPTY, |m| &m.body)
    }

    fn redelivered(&self) -> u32 {
        self.message.as_ref().map_or(0, |m| m.delivered)
    }

    fn topic(&self) -> Topic {
        self.topic
    }

    async fn ack(mut self: Box<Self>) -> Result<()> {
        self.message = None;
        Ok(())
    }
}

/// What was never answered is delivered again, as by a broker whose connection closes.
impl Drop for MemoryDelivery {
    fn drop(&mut self) {
        let Some(mut message) = self.message.take() else { return };
        message.delivered += 1;
        let given_up = message.delivered >= self.queue.delivery_limit && matches!(self.topic, Topic::Tasks(_));
        self.queue.topics.push(if given_up { Topic::Undelivered } else { self.topic }, message, !given_up);
    }
}
