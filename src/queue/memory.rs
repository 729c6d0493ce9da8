//! A queue inside the process, with the broker's promises as long as the process lives.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::{Consumer, Delivery, Queue, Topic};
use crate::error::Result;

/// Topics as lists in memory. Clones share them.
#[derive(Debug, Clone)]
pub struct MemoryQueue {
    topics: Arc<Topics>,
    delivery_limit: u32,
}

#[derive(Debug, Default)]
struct Topics {
    waiting: Mutex<HashMap<Topic, VecDeque<Message>>>,
    arrived: Notify,
}

#[derive(Debug, Clone)]
struct Message {
    body: Bytes,
    delivered: u32,
}

impl MemoryQueue {
    /// An empty queue. A message that was delivered `delivery_limit` times unanswered is dead.
    pub fn new(delivery_limit: u32) -> Self {
        Self { topics: Arc::default(), delivery_limit }
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
    async fn publish(&self, topic: Topic, body: Bytes) -> Result<()> {
        self.topics.push(topic, Message { body, delivered: 0 }, false);
        Ok(())
    }

    async fn consume(&self, topic: Topic) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(MemoryConsumer { queue: self.clone(), topic }))
    }
}

struct MemoryConsumer {
    queue: MemoryQueue,
    topic: Topic,
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self) -> Result<Box<dyn Delivery>> {
        loop {
            let arrived = self.queue.topics.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let message = self.queue.topics.lock().entry(self.topic).or_default().pop_front();
            if let Some(message) = message {
                return Ok(Box::new(MemoryDelivery {
                    queue: self.queue.clone(),
                    topic: self.topic,
                    message: Some(message),
                }));
            }
            arrived.await;
        }
    }
}

struct MemoryDelivery {
    queue: MemoryQueue,
    topic: Topic,
    message: Option<Message>,
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

    async fn ack(mut self: Box<Self>) -> Result<()> {
        self.message = None;
        Ok(())
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// An answer that was never given is a hand-back, as with a broker whose connection closes.
impl Drop for MemoryDelivery {
    fn drop(&mut self) {
        let Some(mut message) = self.message.take() else { return };
        message.delivered += 1;
        let dead = message.delivered >= self.queue.delivery_limit && self.topic != Topic::Dead;
        self.queue.topics.push(if dead { Topic::Dead } else { self.topic }, message, !dead);
    }
}
