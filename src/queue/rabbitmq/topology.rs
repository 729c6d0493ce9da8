//! The queues on the broker: their names, what they are, and the check that they are so.

use lapin::options::QueueDeclareOptions;
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};

use super::connection::Line;
use super::fault::{Fault, soft};
use crate::error::{Error, Result};
use crate::queue::{Priority, Topic};

/// As good as never. Brokers before 4.0 know no word for it, and since 4.0 no word means 20.
const NEVER: i64 = i32::MAX as i64;

/// The broker allows 255 bytes for the name of a queue.
const LONGEST_PREFIX: usize = 200;

/// All queues of one prefix.
#[derive(Debug, Clone)]
pub(super) struct Topology {
    prefix: String,
    delivery_limit: u32,
}

impl Topology {
    const TOPICS: [Topic; 6] = [
        Topic::Dead,
        Topic::Undelivered,
        Topic::Events,
        Topic::Tasks(Priority::High),
        Topic::Tasks(Priority::Normal),
        Topic::Tasks(Priority::Low),
    ];

    pub fn new(prefix: &str, delivery_limit: u32) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if prefix.is_empty()
            || prefix.len() > LONGEST_PREFIX
            || !prefix.chars().all(plain)
            || prefix.starts_with("amq.")
        {
            return Err(Error::usage(format!(
                "queue.prefix must be 1 to {LONGEST_PREFIX} letters, digits, -, _, . or :, and not begin with amq."
            )));
        }
        Ok(Self { prefix: prefix.to_owned(), delivery_limit })
    }

    /// The name of the queue for `topic`.
    pub fn queue(&self, topic: Topic) -> String {
        let name = match topic {
            Topic::Tasks(Priority::High) => "tasks.high",
            Topic::Tasks(Priority::Normal) => "tasks.normal",
            Topic::Tasks(Priority::Low) => "tasks.low",
            Topic::Events => "events",
            Topic::Undelivered => "undelivered",
            Topic::Dead => "dead",
        };
        format!("{}.{name}", self.prefix)
    }

    /// The name of the queue whose owner leads.
    pub fn leader(&self) -> String {
        format!("{}.leader", self.prefix)
    }

    /// Creates the queues that are missing and checks the others.
    pub async fn declare(&self, line: &Line) -> Result<(), Fault> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        for topic in Self::TOPICS {
            let queue = self.queue(topic);
            let declared = line.channel().queue_declare(queue.as_str().into(), options, self.arguments(topic)).await;
            declared.map_err(|error| match soft(&error) {
                Some(AMQPSoftError::PRECONDITIONFAILED) => Fault::Final(self.mismatch(&queue, error)),
                _ => Fault::from(error),
            })?;
        }
        Ok(())
    }

    fn arguments(&self, topic: Topic) -> FieldTable {
        let text = |value: &str| AMQPValue::LongString(value.into());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum"));
        if let Topic::Tasks(_) = topic {
            // The broker counts returns and gives up when they exceed its limit.
            arguments.insert("x-delivery-limit".into(), (i64::from(self.delivery_limit) - 1).max(0).into());
            arguments.insert("x-dead-letter-exchange".into(), text(""));
            arguments.insert("x-dead-letter-routing-key".into(), text(&self.queue(Topic::Undelivered)));
            arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
            arguments.insert("x-overflow".into(), text("reject-publish"));
        } else {
            arguments.insert("x-delivery-limit".into(), NEVER.into());
        }
        arguments
    }

    fn mismatch(&self, queue: &str, error: lapin::Error) -> Error {
        let cause = if error.to_string().contains("x-delivery-limit") {
            format!(
                "queue.delivery_limit is {} here (the broker's x-delivery-limit is one less); give it the value it \
                 had when the queue was made",
                self.delivery_limit
            )
        } else {
            "it was made by something else".to_owned()
        };
        let message = format!(
            "the queue {queue} exists with other properties: {cause}, or delete the queues of this prefix once they are \
             empty, or choose another queue.prefix"
        );
        Error::queue(message).because(error)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn takes_only_plain_prefixes() {
        assert_eq!(Topology::new("a.b-c", 2).unwrap().queue(Topic::TASKS[0]), "a.b-c.tasks.high");
        for prefix in ["", "amq.x", "a b", "a\n", &"x".repeat(201)] {
            assert!(Topology::new(prefix, 2).is_err(), "{prefix:?}");
        }
    }
}
