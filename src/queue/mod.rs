//! The message queue: small bodies, delivered at least once. In-process here; the trait is the seam.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod contract;
mod memory;

pub use memory::MemoryQueue;

/// What a message is about; each is a queue of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Work for any worker.
    Tasks,
    /// What workers report to the coordinator.
    Events,
    /// Messages that were delivered too often.
    Dead,
}

/// A message queue. Every implementation passes the suite in `contract.rs`.
#[async_trait]
pub trait Queue: Send + Sync + Debug {
    /// Appends a message. When this returns, the queue is answerable for it.
    async fn publish(&self, topic: Topic, body: Bytes) -> Result<()>;

    /// Starts to consume: each message goes to one consumer at a time, one unanswered message per consumer.
    async fn consume(&self, topic: Topic) -> Result<Box<dyn Consumer>>;
}

/// One reader of a topic. Dropping it hands back what it has not answered.
#[async_trait]
pub trait Consumer: Send {
    /// The next message; waits for one.
    async fn next(&mut self) -> Result<Box<dyn Delivery>>;
}

/// A message to be answered. Dropped without an answer, it is delivered again; after the
/// queue's delivery limit it goes to [`Topic::Dead`] instead.
#[async_trait]
pub trait Delivery: Send {
    /// The message.
    fn body(&self) -> &Bytes;

    /// How often it has been delivered before.
    fn redelivered(&self) -> u32;

    /// Done: the queue may forget it.
    async fn ack(self: Box<Self>) -> Result<()>;

    /// Not done: deliver it again, to anyone. Counts as a delivery.
    async fn hand_back(self: Box<Self>) -> Result<()>;
}
