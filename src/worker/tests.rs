//! Workers whose machine is in trouble, over the in-process queue.

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::config::{Layers, Settings};
use crate::coordinator::Program;
use crate::faulty::{Act, Fate, Faulty};
use crate::queue::MemoryQueue;
use crate::store::{Key, LocalStore};
use crate::task::Work;

const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    settings: Settings,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(&folder.path().join("store")).unwrap());
        let settings = Layers::new().unwrap().resolve().unwrap().settings;
        Self { folder, store, queue: Arc::new(MemoryQueue::like_a_broker(5)), settings }
    }

    async fn put(&self, key: &str) -> Blob {
        self.store.put_bytes(&Key::new(key).unwrap(), "[]").await.unwrap()
    }

    /// Asks for a task.
    async fn ask(&self, id: &str, work: Work) {
        let spec =
            JobSpec::new("j".parse().unwrap(), Program::Train, &self.settings, self.folder.path().to_str().unwrap());
        let key = JobSpec::prefix(&spec.id).join("spec.json");
        let job = spec.id.clone();
        let spec = self.store.put_json(&key, &spec).await.unwrap();
        let task = Task { version: VERSION, job, id: id.parse().unwrap(), spec, model: None, work };
        let body = serde_json::to_vec(&task).unwrap();
        self.queue.publish(Topic::TASKS[1], vec![body.into()]).await.unwrap();
    }

    fn worker(&self, store: Arc<dyn Store>, stall: Duration, stop: &CancellationToken) -> JoinHandle<Result<()>> {
        let setup = Setup {
            id: "w".parse().unwrap(),
            queue: self.queue.clone(),
            store,
            access: self.settings.store.clone(),
            cache: self.folder.path().join("cache"),
            metrics: WorkerMetrics::default(),
            pulse: Pulse::default(),
            stall,
        };
        tokio::spawn(Worker::new(setup).unwrap().run(stop.clone(), Duration::ZERO, Duration::ZERO))
    }

    /// What is said of a task in the end.
    async fn answer(&self) -> Event {
        loop {
            let event = self.told(PATIENCE).await.unwrap();
            if !matches!(event.report, Report::Started | Report::Progress { .. }) {
                return event;
            }
        }
    }

    /// The next report, if one comes in time.
    async fn told(&self, within: Duration) -> Option<Event> {
        let mut events = self.queue.consume(&[Topic::Events], 1).await.unwrap();
        let delivery = timeout(within, events.next()).await.ok()?.unwrap();
        let event = serde_json::from_slice(delivery.body()).unwrap();
        delivery.ack().await.unwrap();
        Some(event)
    }
}

fn hanging(store: &Arc<dyn Store>) -> Arc<dyn Store> {
    Faulty::over(store, |act, key| match act {
        Act::Get if key.as_str() == "photos" => Fate::Hangs,
        _ => Fate::Sound,
    })
}

#[tokio::test]
async fn a_task_for_a_device_that_is_not_there_is_left_to_others() {
    let mut world = World::new();
    world.settings.model.device = "cuda:255".into();
    let blob = world.put("anything").await;
    let work = Work::Features { shard: blob.clone(), photos: blob.clone(), checkpoint: blob };
    world.ask("t", work).await;
    let worker = world.worker(world.store.clone(), PATIENCE, &CancellationToken::new());
    let told = world.answer().await.report;
    assert!(matches!(&told, Report::Declined { error } if error.contains("cuda:255")), "{told:?}");
    for topic in Topic::TASKS.into_iter().chain([Topic::Undelivered]) {
        assert_eq!(world.queue.backlog(topic).await.unwrap(), 0, "the coordinator hands it out again");
    }
    worker.abort();
}

#[tokio::test]
async fn a_store_that_refuses_is_the_workers_trouble_and_a_missing_or_damaged_object_the_tasks() {
    let world = World::new();
    let sound = world.put("photos").await;
    let missing = Blob { key: Key::new("missing").unwrap(), ..sound.clone() };
    let damaged = Blob { sha256: "0".repeat(64), ..world.put("damaged").await };
    for (id, photos) in [("missing", missing), ("damaged", damaged), ("refused", sound)] {
        world.ask(id, Work::Inspect { photos }).await;
    }
    let store = Faulty::over(&world.store, |act, key| match act {
        Act::Get if key.as_str() == "photos" => Fate::Fails(Error::storage("403 AccessDenied")),
        _ => Fate::Sound,
    });
    let worker = world.worker(store, PATIENCE, &CancellationToken::new());
    for (id, code) in [("missing", Kind::NotFound), ("damaged", Kind::Data)] {
        let told = world.answer().await;
        assert_eq!(told.task.0, id);
        assert!(matches!(&told.report, Report::Failed { code: c, .. } if *c == code.exit_code()), "{told:?}");
    }
    let told = world.answer().await.report;
    assert!(matches!(&told, Report::Declined { error } if error.contains("AccessDenied")), "{told:?}");
    worker.abort();
}

#[tokio::test]
async fn nothing_is_heard_of_a_worker_whose_task_hangs() {
    for (stall, heard) in [(PATIENCE, true), (Duration::from_millis(50), false)] {
        let world = World::new();
        let photos = world.put("photos").await;
        world.ask("t", Work::Inspect { photos }).await;
        let worker = world.worker(hanging(&world.store), stall, &CancellationToken::new());
        let told = world.told(Duration::from_secs(3)).await;
        assert_eq!(told.map(|event| event.report), heard.then_some(Report::Started));
        worker.abort();
    }
}

#[tokio::test]
async fn a_task_that_is_handed_back_counts_as_one_that_nobody_died_over() {
    let world = World::new();
    let photos = world.put("photos").await;
    world.ask("t", Work::Inspect { photos }).await;
    let stop = CancellationToken::new();
    let worker = world.worker(hanging(&world.store), PATIENCE, &stop);
    assert_eq!(world.told(PATIENCE).await.unwrap().report, Report::Started);
    stop.cancel();
    timeout(PATIENCE, worker).await.unwrap().unwrap().unwrap();
    let mut tasks = world.queue.consume(&Topic::TASKS, 1).await.unwrap();
    let again = timeout(PATIENCE, tasks.next()).await.unwrap().unwrap();
    assert_eq!(again.redelivered(), 0);
}

#[test]
fn a_worker_in_trouble_keeps_away_longer_and_longer_but_not_for_ever() {
    assert_eq!([1, 2, 3, 4, 99].map(trouble).map(|pause| pause.as_secs()), [20, 40, 80, 120, 120]);
}
