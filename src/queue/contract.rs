//! What every queue must do. Each implementation runs this suite.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{MemoryQueue, Queue, Topic};

const LIMIT: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(20);

async fn next(queue: &Arc<dyn Queue>, topic: Topic) -> Box<dyn super::Delivery> {
    let mut consumer = queue.consume(topic).await.unwrap();
    timeout(PATIENCE, consumer.next()).await.expect("a message in time").unwrap()
}

async fn put(queue: &Arc<dyn Queue>, text: &'static str) {
    queue.publish(Topic::Tasks, Bytes::from_static(text.as_bytes())).await.unwrap();
}

async fn delivers_once_when_acknowledged(queue: Arc<dyn Queue>) {
    for text in ["a", "b", "c"] {
        put(&queue, text).await;
    }
    let mut consumer = queue.consume(Topic::Tasks).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let delivery = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.redelivered(), 0);
        seen.push(delivery.body().clone());
        delivery.ack().await.unwrap();
    }
    assert_eq!(seen, ["a", "b", "c"].map(Bytes::from));
}

async fn redelivers_what_is_dropped_or_handed_back(queue: Arc<dyn Queue>) {
    put(&queue, "again").await;
    drop(next(&queue, Topic::Tasks).await);
    let second = next(&queue, Topic::Tasks).await;
    assert_eq!((second.body().as_ref(), second.redelivered()), (b"again".as_ref(), 1));
    second.hand_back().await.unwrap();
    let third = next(&queue, Topic::Tasks).await;
    assert_eq!(third.redelivered(), 2);
    third.ack().await.unwrap();
}

async fn buries_what_is_never_answered(queue: Arc<dyn Queue>) {
    put(&queue, "poison").await;
    put(&queue, "sound").await;
    let mut sound = 0;
    for _ in 0..=LIMIT {
        let delivery = next(&queue, Topic::Tasks).await;
        if delivery.body().as_ref() == b"sound" {
            sound += 1;
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!(sound, 1);
    let dead = next(&queue, Topic::Dead).await;
    assert_eq!(dead.body().as_ref(), b"poison");
    dead.ack().await.unwrap();
}

async fn shares_work_between_consumers(queue: Arc<dyn Queue>) {
    let count = 200u32;
    let consumers: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut consumer = queue.consume(Topic::Tasks).await.unwrap();
                let mut seen = Vec::new();
                while let Ok(delivery) = timeout(Duration::from_secs(2), consumer.next()).await {
                    let delivery = delivery.unwrap();
                    seen.push(String::from_utf8(delivery.body().to_vec()).unwrap());
                    delivery.ack().await.unwrap();
                }
                seen
            })
        })
        .collect();
    for number in 0..count {
        queue.publish(Topic::Tasks, Bytes::from(number.to_string())).await.unwrap();
    }
    let mut all = Vec::new();
    for consumer in consumers {
        all.extend(consumer.await.unwrap());
    }
    assert_eq!(all.len(), count as usize, "each message once");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), count as usize);
}

async fn keeps_topics_apart(queue: Arc<dyn Queue>) {
    put(&queue, "task").await;
    queue.publish(Topic::Events, Bytes::from_static(b"event")).await.unwrap();
    let event = next(&queue, Topic::Events).await;
    assert_eq!(event.body().as_ref(), b"event");
    event.ack().await.unwrap();
}

macro_rules! suite {
    ($name:ident, $make:expr, [$($case:ident),* $(,)?]) => {
        mod $name {
            use super::*;
            $(#[tokio::test] async fn $case() { super::$case($make).await; })*
        }
    };
}

macro_rules! contract {
    ($name:ident, $make:expr) => {
        suite!(
            $name,
            $make,
            [
                delivers_once_when_acknowledged,
                redelivers_what_is_dropped_or_handed_back,
                buries_what_is_never_answered,
                shares_work_between_consumers,
                keeps_topics_apart,
            ]
        );
    };
}

contract!(memory, Arc::new(MemoryQueue::new(LIMIT)));
