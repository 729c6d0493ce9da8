//! The message queue: small bodies, delivered at least once. The trait is the seam between the job
//! and what carries its messages.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::QueueSettings;
use crate::error::Result;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod contract;
mod memory;
mod rabbitmq;

pub use memory::MemoryQueue;
pub use rabbitmq::RabbitQueue;

/// Which tasks go first. Classes of tasks that wait together, not numbers: within one, first come, first served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    High,
    /// As usual.
    Normal,
    /// When nothing else is to be done.
    Low,
}

/// What a message is about; each is a queue of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Work for any worker.
    Tasks(Priority),
    /// What workers report to the coordinator.
    Events,
    /// Tasks that were delivered too often without an answer; the coordinator decides on them.
    Undelivered,
    /// What nobody could deal with, kept for people.
    Dead,
}

impl Topic {
    /// All tasks, the most urgent first.
    pub const TASKS: [Topic; 3] =
        [Topic::Tasks(Priority::High), Topic::Tasks(Priority::Normal), Topic::Tasks(Priority::Low)];
}

/// A message queue. Every implementation passes the suite in `contract.rs`.
#[async_trait]
pub trait Queue: Send + Sync + Debug {
    /// Appends messages in their order. When this returns, the queue is answerable for all of them.
    async fn publish(&self, topic: Topic, bodies: Vec<Bytes>) -> Result<()>;

    /// Starts to consume: each message goes to one consumer at a time. A waiting message of an earlier
    /// topic is delivered before one of a later topic. With several topics at most one message is
    /// delivered before it is answered, with a single one at most `unanswered`.
    async fn consume(&self, topics: &[Topic], unanswered: u16) -> Result<Box<dyn Consumer>>;

    /// Waits until no other process leads and leads from then on, until what is returned is dropped
    /// or lost.
    async fn lead(&self) -> Result<Box<dyn Lead>>;

    /// Whether its messages outlive this process.
    fn durable(&self) -> bool {
        true
    }

    /// How many messages wait; those delivered and not answered do not count.
    async fn backlog(&self, topic: Topic) -> Result<u64>;

    /// How many consumers of tasks wait for one.
    async fn idle(&self) -> Result<u64>;
}

/// The right to be the one coordinator that acts. Dropping it gives it up.
#[async_trait]
pub trait Lead: Send {
    /// Returns once the right is lost, with the connection say.
    async fn lost(&mut self);
}

/// One reader. Dropping it drops what it has not answered.
#[async_trait]
pub trait Consumer: Send {
    /// The next message; waits for one.
    async fn next(&mut self) -> Result<Box<dyn Delivery>>;
}

/// A message to be answered. Dropped without an answer, it is delivered again, to anyone; after the queue's delivery
/// limit a task goes to [`Topic::Undelivered`] instead. Whoever gives a sound task back publishes it anew and
/// acknowledges this one: nobody died over it.
#[async_trait]
pub trait Delivery: Send {
    /// The message.
    fn body(&self) -> &Bytes;

    /// How often it has been delivered before.
    fn redelivered(&self) -> u32;

    /// Where it came from.
    fn topic(&self) -> Topic;

    /// Done: the queue may forget it. Where the connection was lost in between the message comes again,
    /// which is no error: whoever consumes must bear that anyway.
    async fn ack(self: Box<Self>) -> Result<()>;
}

/// Connects to the broker that `settings` name. With `patience`, gives up after so long without an answer;
/// without, tries for ever.
pub async fn connect(settings: &QueueSettings, patience: Option<Duration>) -> Result<Arc<dyn Queue>> {
    Ok(Arc::new(RabbitQueue::connect(settings, patience).await?))
}
