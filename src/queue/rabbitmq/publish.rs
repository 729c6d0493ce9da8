//! Publishing: many messages on their way at once, each confirmed by the broker before the end.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use futures_util::poll;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connection::{Line, Link};
use super::fault::Fault;
use crate::error::{Context, Error, Kind, Result};

/// Messages on their way at once, and channels that carry them.
const WINDOW: usize = 512;
const CHANNELS: usize = 32;

/// How often a message may be refused before that is an error.
const REFUSALS: u32 = 5;

/// Survives a restart of the broker.
const PERSISTENT: u8 = 2;

pub(super) struct Publisher {
    /// A connection of its own: a broker short of memory or disk stops those that publish, and
    /// answers to messages must still reach it.
    link: Link,
    idle: Mutex<Vec<Line>>,
    channels: Semaphore,
}

/// The messages that the broker has not confirmed yet, by their number.
struct Batch<'a> {
    queue: &'a str,
    bodies: &'a [Bytes],
    open: BTreeSet<usize>,
    /// Confirmed as received, but sent back: no queue took it.
    returned: BTreeSet<usize>,
    refused: bool,
}

impl Publisher {
    pub fn new(link: Link) -> Self {
        Self { link, idle: Mutex::default(), channels: Semaphore::new(CHANNELS) }
    }

    /// Returns when the broker has stored all `bodies`. `main` can declare a queue that is gone.
    pub async fn publish(&self, main: &Link, queue: &str, bodies: &[Bytes]) -> Result<()> {
        let _channel = self.channels.acquire().await.context(Kind::Internal, || "the publisher is closed".into())?;
        let open = (0..bodies.len()).collect();
        let mut batch = Batch { queue, bodies, open, returned: BTreeSet::new(), refused: false };
        let mut trial = self.link.trial();
        let mut refusals = 0;
        while !batch.open.is_empty() {
            let fault = match trial.left() {
                Some(left) => timeout(left, self.attempt(&mut batch)).await.unwrap_or_else(|_| Err(unconfirmed())),
                None => self.attempt(&mut batch).await,
            };
            let Err(mut fault) = fault else { continue };
            refusals += u32::from(batch.refused);
            if refusals >= REFUSALS {
                fault = Fault::Final(fault.into_error());
            }
            main.again(&mut trial, fault).await?;
        }
        Ok(())
    }

    async fn attempt(&self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        batch.open.append(&mut batch.returned);
        batch.refused = false;
        let line = self.line().await?;
        batch.send(&line).await?;
        self.idle().push(line);
        if !batch.returned.is_empty() {
            batch.refused = true;
            batch.open.append(&mut batch.returned);
            return Err(Fault::Missing(Error::queue(format!("the broker has no queue {}", batch.queue))));
        }
        if batch.refused {
            return Err(Fault::Passing(Error::queue(format!("the broker refuses messages for {}", batch.queue))));
        }
        Ok(())
    }

    async fn line(&self) -> Result<Line, Fault> {
        let idle = {
            let mut idle = self.idle();
            idle.retain(Line::connected);
            idle.pop()
        };
        if let Some(line) = idle {
            return Ok(line);
        }
        let line = self.link.line().await?;
        line.channel().confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(line)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch<'_> {
    async fn send(&mut self, line: &Line) -> Result<(), Fault> {
        let (queue, bodies) = (self.queue, self.bodies);
        let mut numbers = self.open.clone().into_iter();
        let mut on_their_way = VecDeque::new();
        loop {
            while on_their_way.len() < WINDOW
                && let Some(number) = numbers.next()
            {
                let mut sending = Box::pin(async move {
                    let properties = BasicProperties::default()
                        .with_delivery_mode(PERSISTENT)
                        .with_message_id(number.to_string().into());
                    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                    let channel = line.channel();
                    channel.basic_publish("".into(), queue.into(), options, &bodies[number], properties).await?.await
                });
                // The first poll puts the message in line, so they leave in order.
                match poll!(sending.as_mut()) {
                    Poll::Ready(outcome) => self.settle(number, outcome?),
                    Poll::Pending => on_their_way.push_back((number, sending)),
                }
            }
            let Some((number, sending)) = on_their_way.pop_front() else { return Ok(()) };
            self.settle(number, sending.await?);
        }
    }

    /// A message sent back comes with whichever confirmation is next, so it carries its number.
    fn settle(&mut self, number: usize, confirmation: Confirmation) {
        if confirmation.is_ack() {
            self.open.remove(&number);
        } else {
            self.refused = true;
        }
        if let Some(back) = confirmation.take_message() {
            let id = back.properties.message_id().as_ref().and_then(|id| id.as_str().parse().ok());
            self.returned.insert(id.filter(|n| *n < self.bodies.len()).unwrap_or(number));
        }
    }
}

fn unconfirmed() -> Fault {
    Fault::Final(Error::queue(
        "the broker did not confirm the messages in time: check its log, and whether an alarm for memory or disk blocks it",
    ))
}
