//! Against a real broker. One test, since the broker takes long to start and each test has a process of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::*;
use crate::config::Layers;
use crate::error::{Error, Kind};
use crate::queue::{Delivery, Priority, contract};
use crate::servers::rabbitmq::{PASSWORD, RabbitMq};

const TASKS: Topic = Topic::Tasks(Priority::Normal);
const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

fn settings(url: String, prefix: &str) -> QueueSettings {
    QueueSettings { url, prefix: prefix.into(), ..default_settings() }
}

fn default_settings() -> QueueSettings {
    Layers::new().unwrap().resolve().unwrap().settings.queue
}

async fn connect(broker: &RabbitMq, prefix: &str) -> RabbitQueue {
    RabbitQueue::connect(&settings(broker.url(), prefix), PATIENCE).await.unwrap()
}

async fn refusal(settings: &QueueSettings) -> Error {
    let started = std::time::Instant::now();
    let error = RabbitQueue::connect(settings, Some(Duration::from_secs(20))).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10), "tried on in vain: {}", error.chain());
    assert!(!error.chain().contains(PASSWORD) && !format!("{error:?}").contains(PASSWORD));
    assert_eq!(error.kind(), Kind::Queue);
    error
}

async fn next(consumer: &mut dyn Consumer) -> Box<dyn Delivery> {
    timeout(Duration::from_secs(60), consumer.next()).await.expect("a message in time").unwrap()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<Bytes> {
    range.map(|n| Bytes::from(n.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract_on_a_real_broker() {
    let mut broker = RabbitMq::start();
    contract::everything(async |name, delivery_limit| {
        let settings = QueueSettings { delivery_limit, ..settings(broker.url(), name) };
        Arc::new(RabbitQueue::connect(&settings, PATIENCE).await.unwrap()) as Arc<dyn Queue>
    })
    .await;
    eprintln!("refusals");
    explains_refusals(&broker).await;
    eprintln!("tls");
    speaks_tls(&broker).await;
    eprintln!("slow answers");
    survives_slow_answers(&broker).await;
    eprintln!("deleted queues");
    restores_deleted_queues(&broker).await;
    eprintln!("leaders");
    passes_leadership_on(&broker).await;
    eprintln!("restarts");
    survives_restarts(&mut broker).await;
}

async fn explains_refusals(broker: &RabbitMq) {
    let made = connect(broker, "refusals").await;
    assert!(!format!("{made:?}").contains(PASSWORD));
    let other = QueueSettings { delivery_limit: 7, ..settings(broker.url(), "refusals") };
    let text = refusal(&other).await.chain();
    assert!(text.contains("refusals.tasks.high") && text.contains("queue.delivery_limit"), "{text}");

    let text = refusal(&settings(broker.url().replace("hardy:", "nobody:"), "p")).await.chain();
    assert!(text.contains("refused the login"), "{text}");
    let text = refusal(&settings(format!("{}/nowhere", broker.url()), "p")).await.chain();
    assert!(text.contains("virtual host"), "{text}");

    let nobody = settings(format!("amqp://u:{PASSWORD}@127.0.0.1:1/"), "p");
    let error = RabbitQueue::connect(&nobody, Some(Duration::from_secs(1))).await.unwrap_err();
    let text = error.chain();
    assert!(text.contains("127.0.0.1:1") && text.contains("gave up") && !text.contains(PASSWORD), "{text}");
}

async fn speaks_tls(broker: &RabbitMq) {
    let file = |name: &str| broker.certificate(name).display().to_string();
    let trusting = QueueSettings { ca: file("ca.pem"), ..settings(broker.tls_url(), "tls") };
    let known = QueueSettings { certificate: file("client.pem"), key: file("client.key"), ..trusting.clone() };
    let queue = RabbitQueue::connect(&known, PATIENCE).await.unwrap();
    queue.publish(TASKS, numbers(0..1)).await.unwrap();
    assert_eq!(queue.backlog(TASKS).await.unwrap(), 1);

    let text = refusal(&trusting).await.chain();
    assert!(text.contains("queue.certificate"), "{text}");
    let text = refusal(&QueueSettings { ca: file("server.pem"), ..known }).await.chain();
    assert!(text.contains("queue.ca"), "{text}");
}

/// The broker closes the channel of whoever takes too long to answer.
async fn survives_slow_answers(broker: &RabbitMq) {
    let set =
        "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 300).";
    broker.ctl(&["eval", set]);
    let queue = connect(broker, "slow").await;
    queue.publish(TASKS, numbers(0..2)).await.unwrap();
    for topics in [&Topic::TASKS[..], &[TASKS]] {
        let mut consumer = queue.consume(topics, 1).await.unwrap();
        let slow = next(&mut *consumer).await;
        let body = slow.body().clone();
        let mut other = queue.consume(&Topic::TASKS, 1).await.unwrap();
        next(&mut *other).await.ack().await.unwrap();
        let again = next(&mut *other).await;
        assert_eq!(again.body(), &body, "the broker gave up waiting for the first answer");
        slow.ack().await.unwrap();
        again.ack().await.unwrap();
        queue.publish(TASKS, numbers(7..8)).await.unwrap();
        drop(other);
        let after = next(&mut *consumer).await;
        assert_eq!(after.body().as_ref(), b"7");
        after.ack().await.unwrap();
        queue.publish(TASKS, numbers(0..2)).await.unwrap();
    }
    broker.ctl(&["eval", "application:set_env(rabbit, consumer_timeout, 1800000)."]);
}

async fn restores_deleted_queues(broker: &RabbitMq) {
    let queue = connect(broker, "deleted").await;
    let mut consumer = queue.consume(&Topic::TASKS, 1).await.unwrap();
    let mut events = queue.consume(&[Topic::Events], 10).await.unwrap();
    let waiting = tokio::spawn(async move {
        let task = next(&mut *consumer).await;
        let event = next(&mut *events).await;
        (task.body().clone(), event.body().clone())
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    for name in ["tasks.normal", "events"] {
        broker.ctl(&["delete_queue", &format!("deleted.{name}")]);
    }
    queue.publish(TASKS, numbers(1..2)).await.unwrap();
    queue.publish(Topic::Events, numbers(2..3)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), (Bytes::from("1"), Bytes::from("2")));
}

async fn passes_leadership_on(broker: &RabbitMq) {
    let (first, second) = (connect(broker, "lead").await, connect(broker, "lead").await);
    let mut lead = first.lead().await.unwrap();
    let mut events = first.consume(&[Topic::Events], 10).await.unwrap();
    first.publish(Topic::Events, numbers(0..1)).await.unwrap();
    let unanswered = next(&mut *events).await;
    let waiting = tokio::spawn(async move {
        let lead = second.lead().await.unwrap();
        (second, lead)
    });
    assert!(timeout(Duration::from_secs(3), lead.lost()).await.is_err(), "lost without a reason");
    assert!(!waiting.is_finished(), "two leaders");

    // Only the connection that leads: the waiting one has to stay.
    let owner = broker.ctl(&["list_queues", "name", "owner_pid"]);
    let owner = owner.lines().find(|l| l.starts_with("lead.leader")).unwrap().split('\t').nth(1).unwrap().to_owned();
    broker.ctl(&["close_connection", &owner, "test"]);
    timeout(Duration::from_secs(10), lead.lost()).await.expect("notices the loss");
    let (second, next_lead) = timeout(Duration::from_secs(20), waiting).await.expect("leads now").unwrap();
    drop(events);
    let mut events = second.consume(&[Topic::Events], 10).await.unwrap();
    assert_eq!(next(&mut *events).await.body().as_ref(), b"0", "what was unanswered goes to the next leader");
    unanswered.ack().await.unwrap();
    drop(lead);
    drop(next_lead);
    timeout(Duration::from_secs(20), first.lead()).await.expect("leads again").unwrap();
}

async fn survives_restarts(broker: &mut RabbitMq) {
    let count = 3000;
    let queue = Arc::new(connect(broker, "restarts").await);
    let publishing = tokio::spawn({
        let queue = queue.clone();
        async move {
            for start in (0..count).step_by(100) {
                queue.publish(TASKS, numbers(start..start + 100)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    let consuming = tokio::spawn({
        let queue = queue.clone();
        async move {
            let mut consumer = queue.consume(&Topic::TASKS, 1).await.unwrap();
            let mut seen = std::collections::BTreeSet::new();
            while seen.len() < count as usize {
                let delivery = next(&mut *consumer).await;
                seen.insert(delivery.body().clone());
                delivery.ack().await.unwrap();
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    tokio::task::block_in_place(|| {
        broker.ctl(&["close_all_connections", "test"]);
        broker.stop();
        broker.restart();
        broker.kill();
        broker.restart();
    });
    publishing.await.unwrap();
    consuming.await.unwrap();

    queue.publish(Topic::Dead, numbers(0..10)).await.unwrap();
    tokio::task::block_in_place(|| broker.restart());
    // A queue that has just found its leader counts from nothing for a moment.
    let counted = async {
        while queue.backlog(Topic::Dead).await.unwrap() != 10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(60), counted).await.expect("messages outlive the broker");
}
