//! The queue on RabbitMQ (3.10 and later), by AMQP 0-9-1.
//!
//! One connection declares, consumes and leads, so that whoever loses it loses all three at once; a
//! second one publishes. Everything is durable: quorum queues, persistent messages, confirmed by the broker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::sync::Mutex;

use self::address::Address;
use self::connection::Link;
use self::fault::Fault;
use self::publish::Publisher;
use self::pull::PullConsumer;
use self::push::PushConsumer;
use self::topology::Topology;
use super::{Consumer, Lead, Queue, Topic};
use crate::config::QueueSettings;
use crate::error::Result;

mod address;
mod connection;
mod delivery;
mod fault;
mod lead;
mod publish;
mod pull;
mod push;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
mod topology;

/// Queues on a broker.
pub struct RabbitQueue {
    place: String,
    topology: Topology,
    main: Arc<Link>,
    publisher: Publisher,
    leading: Arc<Mutex<()>>,
}

impl RabbitQueue {
    /// Connects and declares the queues. Whatever fails on the way to the broker is tried again for as
    /// long as `patience` says, without it for ever; what cannot mend by itself is an error at once:
    /// a refused login, a virtual host that does not exist, queues declared otherwise.
    pub async fn connect(settings: &QueueSettings, patience: Option<Duration>) -> Result<Self> {
        let address = Address::new(settings)?;
        let topology = Topology::new(&settings.prefix, settings.delivery_limit)?;
        let main = Link::new(address.clone(), "main", patience, Some(topology.clone()));
        main.connection().await?;
        Ok(Self {
            place: address.place(),
            topology,
            main: Arc::new(main),
            publisher: Publisher::new(Link::new(address, "publisher", patience, None)),
            leading: Arc::default(),
        })
    }

    /// What the broker says of a queue; goes on asking for as long as patience lasts.
    async fn look(&self, topic: Topic) -> Result<lapin::Queue> {
        let queue = self.topology.queue(topic);
        let mut trial = self.main.trial();
        loop {
            match self.found(&queue).await {
                Ok(found) => return Ok(found),
                Err(fault) => self.main.again(&mut trial, fault).await?,
            }
        }
    }

    async fn found(&self, queue: &str) -> Result<lapin::Queue, Fault> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let line = self.main.line().await?;
        Ok(line.channel().queue_declare(queue.into(), passive, FieldTable::default()).await?)
    }
}

impl fmt::Debug for RabbitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitQueue").field("broker", &self.place).field("queues", &self.topology).finish()
    }
}

#[async_trait]
impl Queue for RabbitQueue {
    async fn publish(&self, topic: Topic, bodies: Vec<Bytes>) -> Result<()> {
        self.publisher.publish(&self.main, &self.topology.queue(topic), &bodies).await
    }

    async fn consume(&self, topics: &[Topic], unanswered: u16) -> Result<Box<dyn Consumer>> {
        let link = self.main.clone();
        Ok(match topics {
            [topic] => Box::new(PushConsumer::new(link, *topic, self.topology.queue(*topic), unanswered)),
            several => {
                let queues = several.iter().map(|t| (*t, self.topology.queue(*t))).collect();
                Box::new(PullConsumer::new(link, queues))
            }
        })
    }

    async fn lead(&self) -> Result<Box<dyn Lead>> {
        Ok(Box::new(lead::lead(&self.main, &self.topology.leader(), self.leading.clone()).await?))
    }

    async fn backlog(&self, topic: Topic) -> Result<u64> {
        Ok(self.look(topic).await?.message_count().into())
    }

    async fn idle(&self) -> Result<u64> {
        // A worker subscribes to all classes while it waits and to none while it works.
        Ok(self.look(Topic::TASKS[0]).await?.consumer_count().into())
    }
}
