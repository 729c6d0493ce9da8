//! A consumer of one queue: the broker sends, up to a number of unanswered messages.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicCancelOptions, BasicNackOptions, BasicQosOptions};
use tokio::task::JoinHandle;

use super::connection::{Line, Link};
use super::delivery::RabbitDelivery;
use super::fault::{Fault, Trial};
use crate::error::{Error, Result};
use crate::queue::{Consumer, Delivery, Topic};

pub(super) struct PushConsumer {
    source: Arc<Source>,
    subscription: Option<Subscription>,
    /// A task of its own: one cut short by a caller who stops waiting would have taken a message and
    /// returned it, which counts towards its delivery limit.
    subscribing: Option<JoinHandle<Result<Subscription, Fault>>>,
}

struct Source {
    link: Arc<Link>,
    topic: Topic,
    queue: String,
    unanswered: u16,
}

struct Subscription {
    line: Arc<Line>,
    messages: lapin::Consumer,
}

impl PushConsumer {
    pub fn new(link: Arc<Link>, topic: Topic, queue: String, unanswered: u16) -> Self {
        let source = Arc::new(Source { link, topic, queue, unanswered: unanswered.max(1) });
        Self { source, subscription: None, subscribing: None }
    }

    async fn attempt(&mut self) -> Result<RabbitDelivery, Fault> {
        let subscription = match &mut self.subscription {
            Some(subscription) => subscription,
            none => {
                let source = self.source.clone();
                let subscribing =
                    self.subscribing.get_or_insert_with(|| tokio::spawn(async move { source.subscribe().await }));
                let outcome = subscribing.await;
                self.subscribing = None;
                let ended = |_| Fault::Passing(Error::queue("subscribing was cut short"));
                none.insert(outcome.map_err(ended)??)
            }
        };
        match subscription.messages.next().await {
            Some(Ok(delivery)) => Ok(RabbitDelivery::new(delivery, self.source.topic, subscription.line.clone(), None)),
            Some(Err(error)) => Err(error.into()),
            // The broker ended it: the queue was deleted, or an answer took too long.
            None => Err(Fault::Passing(Error::queue("the broker cancelled a consumer"))),
        }
    }
}

impl Source {
    async fn subscribe(&self) -> Result<Subscription, Fault> {
        let line = self.link.line().await?;
        line.channel().basic_qos(self.unanswered, BasicQosOptions::default()).await?;
        let messages = line.consume(&self.queue).await?;
        Ok(Subscription { line: Arc::new(line), messages })
    }
}

impl Drop for PushConsumer {
    fn drop(&mut self) {
        if let Some(subscribing) = self.subscribing.take() {
            subscribing.abort();
        }
    }
}

#[async_trait]
impl Consumer for PushConsumer {
    async fn next(&mut self) -> Result<Box<dyn Delivery>> {
        let mut trial: Option<Trial> = None;
        loop {
            match self.attempt().await {
                Ok(delivery) => return Ok(Box::new(delivery)),
                Err(fault) => {
                    self.subscription = None;
                    let link = &self.source.link;
                    link.again(trial.get_or_insert_with(|| link.trial()), fault).await?;
                }
            }
        }
    }
}

/// What was sent ahead goes back at once, even while earlier messages are still being worked on.
impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.line.connected() {
            return;
        }
        let (line, mut messages) = (self.line.clone(), self.messages.clone());
        let runtime = line.runtime().clone();
        let mut tidying = Box::pin(async move {
            if line.channel().basic_cancel(messages.tag(), BasicCancelOptions::default()).await.is_err() {
                return;
            }
            while let Some(Ok(delivery)) = messages.next().await {
                let _ = delivery.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await;
            }
        });
        // The first poll sends the cancellation, so that a message handed back next does not return here.
        let _ = (&mut tidying).now_or_never();
        runtime.spawn(tidying);
    }
}
