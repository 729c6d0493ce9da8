//! A message from the broker, and its answer.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use lapin::types::AMQPValue;
use lapin::{Acker, BasicProperties};
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use super::connection::Line;
use crate::error::Result;
use crate::queue::{Delivery, Topic};

/// A rejection counts towards the delivery limit with every version of the broker, a negative
/// acknowledgement not with the newest.
const RETURN: BasicRejectOptions = BasicRejectOptions { requeue: true };

pub(super) struct RabbitDelivery {
    body: Bytes,
    redelivered: u32,
    topic: Topic,
    acker: Option<Acker>,
    /// Keeps the channel open until the answer is given.
    _line: Arc<Line>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl RabbitDelivery {
    pub fn new(
        delivery: lapin::message::Delivery,
        topic: Topic,
        line: Arc<Line>,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let redelivered = deliveries_before(&delivery.properties, delivery.redelivered);
        Self { body: delivery.data.into(), redelivered, topic, acker: Some(delivery.acker), _line: line, _turn: turn }
    }
}

/// Quorum queues count; since 4.0 they count returns that cost nothing apart.
fn deliveries_before(properties: &BasicProperties, redelivered: bool) -> u32 {
    let count = |name: &str| {
        let value = properties.headers().as_ref()?.inner().get(name)?;
        match *value {
            AMQPValue::LongLongInt(n) => u32::try_from(n).ok(),
            AMQPValue::LongInt(n) => u32::try_from(n).ok(),
            AMQPValue::LongUInt(n) => Some(n),
            AMQPValue::ShortInt(n) => u32::try_from(n).ok(),
            AMQPValue::ShortUInt(n) => Some(n.into()),
            AMQPValue::ShortShortInt(n) => u32::try_from(n).ok(),
            AMQPValue::ShortShortUInt(n) => Some(n.into()),
            _ => None,
        }
    };
    count("x-delivery-count").max(count("x-acquired-count")).unwrap_or(0).max(redelivered.into())
}

#[async_trait]
impl Delivery for RabbitDelivery {
    fn body(&self) -> &Bytes {
        &self.body
    }

    fn redelivered(&self) -> u32 {
        self.redelivered
    }

    fn topic(&self) -> Topic {
        self.topic
    }

    async fn ack(mut self: Box<Self>) -> Result<()> {
        if let Some(acker) = self.acker.take() {
            let answered = acker.ack(BasicAckOptions::default()).await;
            if !matches!(answered, Ok(true)) {
                debug!(topic = ?self.topic, ?answered, "the channel is gone: the message will come again");
            }
        }
        Ok(())
    }
}

impl Drop for RabbitDelivery {
    fn drop(&mut self) {
        if let Some(acker) = self.acker.take() {
            // The first poll gives the order to lapin; the rest would wait until it is sent.
            let _ = acker.reject(RETURN).now_or_never();
        }
    }
}
