//! What every queue must do. Each implementation runs this suite.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{MemoryQueue, Priority, Queue, Topic};

const LIMIT: u32 = 3;
const TASKS: Topic = Topic::Tasks(Priority::Normal);
const PATIENCE: Duration = Duration::from_secs(20);

async fn next(queue: &Arc<dyn Queue>, topic: Topic) -> Box<dyn super::Delivery> {
    let mut consumer = queue.consume(&[topic], 1).await.unwrap();
    timeout(PATIENCE, consumer.next()).await.expect("a message in time").unwrap()
}

/// Events may be answered for only when they are taken in.
fn report(queue: &Arc<dyn Queue>, bodies: Vec<Bytes>) -> tokio::task::JoinHandle<()> {
    let queue = queue.clone();
    tokio::spawn(async move { queue.publish(Topic::Events, bodies).await.unwrap() })
}

async fn put(queue: &Arc<dyn Queue>, text: &'static str) {
    queue.publish(TASKS, vec![Bytes::from_static(text.as_bytes())]).await.unwrap();
}

async fn delivers_once_when_acknowledged(queue: Arc<dyn Queue>) {
    for text in ["a", "b", "c"] {
        put(&queue, text).await;
    }
    let mut consumer = queue.consume(&Topic::TASKS, 1).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let delivery = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.redelivered(), 0);
        seen.push(delivery.body().clone());
        delivery.ack().await.unwrap();
    }
    assert_eq!(seen, ["a", "b", "c"].map(Bytes::from));
}

async fn redelivers_what_is_dropped_and_counts(queue: Arc<dyn Queue>) {
    put(&queue, "again").await;
    drop(next(&queue, TASKS).await);
    let second = next(&queue, TASKS).await;
    assert_eq!((second.body().as_ref(), second.redelivered()), (b"again".as_ref(), 1));
    drop(second);
    let third = next(&queue, TASKS).await;
    assert_eq!(third.redelivered(), 2);
    third.ack().await.unwrap();
}

/// A worker that is told to stop in the middle of a task has not died over it.
async fn forgets_the_count_of_what_is_published_anew(queue: Arc<dyn Queue>) {
    put(&queue, "sound").await;
    for _ in 0..2 * LIMIT {
        let delivery = next(&queue, TASKS).await;
        assert_eq!((delivery.body().as_ref(), delivery.redelivered()), (b"sound".as_ref(), 0));
        queue.publish(delivery.topic(), vec![delivery.body().clone()]).await.unwrap();
        delivery.ack().await.unwrap();
    }
    assert_eq!(queue.backlog(Topic::Undelivered).await.unwrap(), 0);
}

async fn buries_what_is_never_answered(queue: Arc<dyn Queue>) {
    put(&queue, "poison").await;
    put(&queue, "sound").await;
    let mut sound = 0;
    for _ in 0..=LIMIT {
        let delivery = next(&queue, TASKS).await;
        if delivery.body().as_ref() == b"sound" {
            sound += 1;
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!(sound, 1);
    let dead = next(&queue, Topic::Undelivered).await;
    assert_eq!(dead.body().as_ref(), b"poison");
    dead.ack().await.unwrap();
}

async fn shares_work_between_consumers(queue: Arc<dyn Queue>) {
    let count = 200u32;
    let consumers: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut consumer = queue.consume(&Topic::TASKS, 1).await.unwrap();
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
        queue.publish(TASKS, vec![Bytes::from(number.to_string())]).await.unwrap();
    }
    let mut all = Vec::new();
    for consumer in consumers {
        all.extend(consumer.await.unwrap());
    }
    assert_eq!(all.len(), count as usize, "each message once");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), count as usize);
}

/// Two consumers empty the most urgent class; who finds it empty goes on with the next one, and touches no other.
async fn takes_the_urgent_first_and_returns_nothing(queue: Arc<dyn Queue>) {
    for (priority, count) in [(Priority::Low, 2), (Priority::Normal, 3), (Priority::High, 3)] {
        let bodies = vec![Bytes::from(format!("{priority:?}")); count];
        queue.publish(Topic::Tasks(priority), bodies).await.unwrap();
    }
    let mut consumers =
        [queue.consume(&Topic::TASKS, 1).await.unwrap(), queue.consume(&Topic::TASKS, 1).await.unwrap()];
    let mut seen = Vec::new();
    for turn in 0..8 {
        let delivery = timeout(PATIENCE, consumers[turn % 2].next()).await.unwrap().unwrap();
        assert_eq!(delivery.redelivered(), 0);
        seen.push(String::from_utf8(delivery.body().to_vec()).unwrap());
        delivery.ack().await.unwrap();
    }
    assert_eq!(seen, ["High", "High", "High", "Normal", "Normal", "Normal", "Low", "Low"]);
}

async fn keeps_topics_apart(queue: Arc<dyn Queue>) {
    put(&queue, "task").await;
    let reported = report(&queue, vec![Bytes::from_static(b"event")]);
    let event = next(&queue, Topic::Events).await;
    assert_eq!(event.body().as_ref(), b"event");
    event.ack().await.unwrap();
    timeout(PATIENCE, reported).await.expect("an answered event is reported").unwrap();
}

async fn delivers_urgent_tasks_first(queue: Arc<dyn Queue>) {
    for (priority, text) in [(Priority::Low, "low"), (Priority::Normal, "normal"), (Priority::High, "high")] {
        queue.publish(Topic::Tasks(priority), vec![Bytes::from_static(text.as_bytes())]).await.unwrap();
    }
    let mut consumer = queue.consume(&Topic::TASKS, 1).await.unwrap();
    for (priority, text) in [(Priority::High, "high"), (Priority::Normal, "normal"), (Priority::Low, "low")] {
        let delivery = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        assert_eq!((delivery.topic(), delivery.body().as_ref()), (Topic::Tasks(priority), text.as_bytes()));
        delivery.ack().await.unwrap();
    }
}

/// A worker that holds a task takes no second one, of whatever class: others could do it.
async fn leaves_tasks_to_idle_consumers(queue: Arc<dyn Queue>) {
    let (mut busy, mut idle) =
        (queue.consume(&Topic::TASKS, 1).await.unwrap(), queue.consume(&Topic::TASKS, 1).await.unwrap());
    put(&queue, "first").await;
    let first = timeout(PATIENCE, async {
        tokio::select! { d = busy.next() => (d.unwrap(), true), d = idle.next() => (d.unwrap(), false) }
    });
    let (first, was_busy) = first.await.unwrap();
    let other = if was_busy { &mut idle } else { &mut busy };
    for priority in [Priority::Low, Priority::High] {
        queue.publish(Topic::Tasks(priority), vec![Bytes::from_static(b"more")]).await.unwrap();
        let delivery = timeout(PATIENCE, other.next()).await.expect("the idle consumer gets it").unwrap();
        delivery.ack().await.unwrap();
    }
    first.ack().await.unwrap();
}

async fn delivers_several_events_before_an_answer(queue: Arc<dyn Queue>) {
    let bodies = (0..50u32).map(|n| Bytes::from(n.to_string())).collect();
    let reported = report(&queue, bodies);
    let all = async {
        while queue.backlog(Topic::Events).await.unwrap() < 50 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("50 events wait");
    let mut consumer = queue.consume(&[Topic::Events], 64).await.unwrap();
    let mut open = Vec::new();
    for number in 0..50u32 {
        let delivery = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.body().as_ref(), number.to_string().as_bytes());
        open.push(delivery);
    }
    assert_eq!(queue.backlog(Topic::Events).await.unwrap(), 0);
    for delivery in open {
        delivery.ack().await.unwrap();
    }
    timeout(PATIENCE, reported).await.expect("answered events are reported").unwrap();
}

/// The rest of the contract is every queue's; that a report is lost with the process is this one's alone.
#[tokio::test]
async fn in_memory_a_report_is_handed_over_once_it_is_answered() {
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new(LIMIT));
    let reported = report(&queue, vec![Bytes::from_static(b"event")]);
    drop(next(&queue, Topic::Events).await);
    let again = next(&queue, Topic::Events).await;
    assert_eq!((again.redelivered(), reported.is_finished()), (1, false));
    again.ack().await.unwrap();
    timeout(PATIENCE, reported).await.expect("it is answered").unwrap();
}

/// Whoever waits for a message may stop at any moment, in a select say.
async fn loses_nothing_when_nobody_waits_any_longer(queue: Arc<dyn Queue>) {
    for topics in [&Topic::TASKS[..], &[TASKS]] {
        let mut consumer = queue.consume(topics, 1).await.unwrap();
        let publishing = tokio::spawn({
            let queue = queue.clone();
            async move {
                for number in 0..20u32 {
                    queue.publish(TASKS, vec![Bytes::from(number.to_string())]).await.unwrap();
                }
            }
        });
        let mut seen = Vec::new();
        let started = std::time::Instant::now();
        for turn in 0u64.. {
            assert!(started.elapsed() < PATIENCE, "lost some: {seen:?}");
            if let Ok(delivery) = timeout(Duration::from_millis(turn % 4), consumer.next()).await {
                let delivery = delivery.unwrap();
                seen.push(String::from_utf8(delivery.body().to_vec()).unwrap().parse::<u32>().unwrap());
                delivery.ack().await.unwrap();
            }
            if seen.len() == 20 {
                break;
            }
        }
        publishing.await.unwrap();
        seen.sort();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
    }
}

async fn has_one_leader_at_a_time(queue: Arc<dyn Queue>) {
    let first = timeout(PATIENCE, queue.lead()).await.unwrap().unwrap();
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.lead().await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "two leaders");
    drop(first);
    timeout(PATIENCE, waiting).await.expect("the next one leads").unwrap().unwrap();
}

async fn counts_consumers_that_wait_for_a_task(queue: Arc<dyn Queue>) {
    let until = async |idle: u64| {
        let same = async {
            while queue.idle().await.unwrap() != idle {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, same).await.unwrap_or_else(|_| panic!("never were {idle} idle"));
    };
    until(0).await;
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut consumer = queue.consume(&Topic::TASKS, 1).await.unwrap();
                let delivery = consumer.next().await.unwrap();
                (consumer, delivery)
            })
        })
        .collect();
    until(2).await;
    put(&queue, "first").await;
    until(1).await;
    put(&queue, "second").await;
    until(0).await;
    for worker in workers {
        let (_consumer, delivery) = worker.await.unwrap();
        delivery.ack().await.unwrap();
    }
}

/// Hands the list of all cases to `$each`.
macro_rules! cases {
    ($each:ident) => {
        $each!(
            delivers_once_when_acknowledged,
            redelivers_what_is_dropped_and_counts,
            forgets_the_count_of_what_is_published_anew,
            buries_what_is_never_answered,
            shares_work_between_consumers,
            takes_the_urgent_first_and_returns_nothing,
            keeps_topics_apart,
            delivers_urgent_tasks_first,
            leaves_tasks_to_idle_consumers,
            delivers_several_events_before_an_answer,
            has_one_leader_at_a_time,
            counts_consumers_that_wait_for_a_task,
            loses_nothing_when_nobody_waits_any_longer,
        );
    };
}

macro_rules! in_memory {
    ($($case:ident),* $(,)?) => {
        mod memory {
            use super::*;
            $(#[tokio::test] async fn $case() { super::$case(Arc::new(MemoryQueue::new(LIMIT))).await; })*
        }
    };
}

macro_rules! one_after_another {
    ($($case:ident),* $(,)?) => {
        /// The whole suite in one test, for a broker that takes long to start. `make` gets the case's name
        /// and the delivery limit.
        pub(super) async fn everything(make: impl AsyncFn(&str, u32) -> Arc<dyn Queue>) {
            $(
                eprintln!("{}", stringify!($case));
                $case(make(stringify!($case), LIMIT).await).await;
            )*
        }
    };
}

cases!(in_memory);
cases!(one_after_another);
