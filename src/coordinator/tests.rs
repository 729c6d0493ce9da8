//! Coordinators with workers that compute nothing, over the in-process queue.

mod trouble;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::post::Post;
use super::preparation::pack_all;
use super::training::{Phase, Shards};
use super::{Coordinator, Job, JobSpec, Lease, Night, Observer, Outcome, Program};
use crate::config::{Epsilon, Layers, Settings};
use crate::dataset::{ShardPlan, Split};
use crate::error::{Kind, Result};
use crate::faulty::away;
use crate::jobs::{Jobs, State, Status};
use crate::outcome::{ImageOutcome, Outcomes};
use crate::queue::{Delivery, MemoryQueue, Queue, Topic};
use crate::registry::{Happening, Registry};
use crate::store::{Key, LocalStore, Store};
use crate::task::{
    Condition, Event, JobId, ModelName, Report, Success, Task, TaskId, VERSION, VersionId, Work, WorkerId,
};

const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    _folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    settings: Settings,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let mut settings = Layers::new().unwrap().resolve().unwrap().settings;
        settings.queue.silence = 1;
        Self { _folder: folder, store, queue: Arc::new(MemoryQueue::new(5)), settings }
    }

    fn coordinator(&self, id: &str) -> Coordinator {
        Coordinator {
            store: self.store.clone(),
            queue: self.queue.clone(),
            id: id.into(),
            access: self.settings.store.clone(),
            policy: self.settings.queue.clone(),
            metrics: Default::default(),
            pulse: Default::default(),
            webhook: self.settings.webhook.clone(),
        }
    }

    fn job(&self, id: &str, tasks: u32) -> JobSpec {
        let program = Program::Rehearse { tasks, stored: false };
        let created = "2026-01-01T00:00:00Z".into();
        JobSpec { created, ..JobSpec::new(id.parse().unwrap(), program, &self.settings, "") }
    }

    /// A worker that reports what `answer` says, which is given the number of the attempt at the task; where it
    /// says nothing the worker hangs for good.
    fn worker(&self, name: &str, answer: impl Fn(&Task, usize) -> Option<Report> + Send + 'static) -> JoinHandle<()> {
        let (queue, name) = (self.queue.clone(), WorkerId(name.into()));
        tokio::spawn(async move {
            let mut tries: BTreeMap<TaskId, usize> = BTreeMap::new();
            let mut held: Vec<Box<dyn Delivery>> = Vec::new();
            let mut tasks = queue.consume(&Topic::TASKS, 1).await.unwrap();
            loop {
                let delivery = tasks.next().await.unwrap();
                let task: Task = serde_json::from_slice(delivery.body()).unwrap();
                let number = tries.entry(task.id.clone()).or_default();
                *number += 1;
                let attempt = format!("{name}-{number}");
                report(&*queue, &task, &attempt, &name, Report::Started).await;
                match answer(&task, *number) {
                    Some(last) => {
                        report(&*queue, &task, &attempt, &name, last).await;
                        delivery.ack().await.unwrap();
                    }
                    None => {
                        held.push(delivery);
                        std::future::pending::<()>().await;
                    }
                }
            }
        })
    }
}

async fn report(queue: &dyn Queue, task: &Task, attempt: &str, worker: &WorkerId, report: Report) {
    let event = Event {
        version: VERSION,
        job: task.job.clone(),
        task: task.id.clone(),
        attempt: attempt.into(),
        worker: worker.clone(),
        report,
    };
    queue.publish(Topic::Events, vec![serde_json::to_vec(&event).unwrap().into()]).await.unwrap();
}

fn done() -> Option<Report> {
    Some(Report::Done(Success::default()))
}

fn failed(kind: Kind) -> Option<Report> {
    Some(Report::Failed { error: "the shard is corrupt".into(), code: kind.exit_code() })
}

fn result_of(job: &str) -> crate::store::Key {
    crate::store::Key::new(format!("jobs/{job}/result/rehearsal.json")).unwrap()
}

async fn run(world: &World, tasks: u32) -> Result<()> {
    let coordinator = world.coordinator("c");
    let run = coordinator.run(world.job("j", tasks), Observer::new(|_| {}));
    tokio::time::timeout(PATIENCE, run).await.expect("an end in time")
}

#[tokio::test]
async fn a_task_that_fails_is_tried_again() {
    let world = World::new();
    world.worker("w", |_, number| if number < 3 { failed(Kind::Data) } else { done() });
    run(&world, 20).await.unwrap();
}

#[tokio::test]
async fn a_task_that_goes_on_failing_ends_the_job_and_is_put_aside() {
    let world = World::new();
    let bad = "nothing-0000007";
    world.worker("w", move |task, _| if task.id.0 == bad { failed(Kind::Data) } else { done() });
    let error = run(&world, 20).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    for part in [bad, "w-1, w-2, w-3", "the shard is corrupt"] {
        assert!(error.chain().contains(part), "{}", error.chain());
    }
    let dead = world.queue.consume(&[Topic::Dead], 1).await.unwrap().next().await.unwrap();
    let task: Task = serde_json::from_slice(dead.body()).unwrap();
    assert_eq!(task.id.0, bad);
}

#[tokio::test]
async fn a_job_that_may_goes_on_without_what_keeps_failing_and_remembers_it() {
    let mut world = World::new();
    world.settings.job.poison = crate::config::Poison::Skip;
    let bad = "nothing-0000007";
    world.worker("w", move |task, _| if task.id.0 == bad { failed(Kind::Data) } else { done() });
    run(&world, 20).await.unwrap();
    let found = world.store.get_json::<serde_json::Value>(&result_of("j"), 1 << 20).await.unwrap();
    assert_eq!(found["left_out"][0]["task"], bad);
    for part in ["w-1, w-2, w-3", "the shard is corrupt"] {
        assert!(found["left_out"][0]["why"].as_str().unwrap().contains(part), "{found:#}");
    }
    let dead = world.queue.consume(&[Topic::Dead], 1).await.unwrap().next().await.unwrap();
    assert_eq!(serde_json::from_slice::<Task>(dead.body()).unwrap().id.0, bad);
    run(&world, 20).await.expect("a coordinator that takes it over knows that nothing is to be done");
}

#[tokio::test]
async fn a_job_of_which_everything_fails_fails_whatever_its_policy() {
    let mut world = World::new();
    world.settings.job.poison = crate::config::Poison::Skip;
    world.worker("w", move |_, _| failed(Kind::Data));
    assert!(run(&world, 3).await.unwrap_err().chain().contains("all tasks of stage rehearse failed"));
}

#[tokio::test]
async fn a_shard_that_a_night_needs_is_not_left_out_and_may_be_packed_the_next_time() {
    let mut world = World::new();
    world.settings.job.poison = crate::config::Poison::Skip;
    world.worker("w", |_, number| if number <= 3 { failed(Kind::Data) } else { done() });
    let mut job = Job::for_tests(&world.store, world.settings.clone()).await;
    job.queue = world.queue.clone();
    let post = Post::default();
    job.inbox = post.open(&job.spec.id);
    let shards = [ShardPlan { split: Split::Train, index: 0, samples: Vec::new() }];
    let work = async {
        let error = pack_all(&mut job, &[], &shards).await.unwrap_err();
        assert!(error.kind() == Kind::Data && error.chain().contains("the shard is corrupt"), "{}", error.chain());
        assert!(job.gave_up && job.left_out.is_empty());
        job.log.reopen().await.unwrap();
        assert_eq!(pack_all(&mut job, &[], &shards).await.unwrap().len(), 1);
    };
    let sorted = async {
        tokio::select! {
            () = work => {}
            broken = post.sort(&*world.queue) => panic!("{broken:?}"),
        }
    };
    tokio::time::timeout(PATIENCE, sorted).await.expect("an end in time");
}

/// The state after each round is named after it; what it is right about is given.
#[tokio::test]
async fn training_stops_when_nothing_gets_better_and_keeps_what_was_best() {
    let mut world = World::new();
    (world.settings.train.patience, world.settings.train.replicas) = (2, 1);
    let (mut states, mut found) = (Vec::new(), Vec::new());
    for (round, correct) in [60, 80, 20, 30, 95].into_iter().enumerate() {
        let images =
            (0..100).map(|n| ImageOutcome { key: n.to_string(), label: 1, predicted: vec![usize::from(n < correct)] });
        let clean = vec![Condition { attack: "clean".into(), epsilon: Epsilon::ZERO }];
        let outcomes = Outcomes { conditions: clean, images: images.collect() };
        let key = |name: &str| Key::new(format!("{name}-{round}")).unwrap();
        states.push(world.store.put_json(&key("state"), &round).await.unwrap());
        found.push(world.store.put_json(&key("outcomes"), &outcomes).await.unwrap());
    }
    let start = world.store.put_json(&Key::new("start").unwrap(), &"start").await.unwrap();
    let kept = states[1].clone();
    world.worker("w", move |task, _| {
        let round: usize = task.id.0["baseline-r".len()..][..4].parse().unwrap();
        let outputs = match &task.work {
            Work::Evaluate { .. } => [("outcomes".to_string(), found[round].clone())].into(),
            _ => ["checkpoint", "optimizer"].map(|name| (name.to_string(), states[round].clone())).into(),
        };
        Some(Report::Done(Success { outputs, ..Success::default() }))
    });
    let mut job = Job::for_tests(&world.store, world.settings.clone()).await;
    job.queue = world.queue.clone();
    let post = Post::default();
    job.inbox = post.open(&job.spec.id);
    let shards =
        Shards { train: vec![start.clone()], train_images: 100, held: vec![start.clone()], repeats: Vec::new() };
    let phase = Phase { name: "baseline", rounds: 5, rate: 0.1, adversarial: false, origin: start.clone() };
    let trained = tokio::select! {
        trained = phase.run(&mut job, &shards, &start) => trained.unwrap(),
        broken = post.sort(&*world.queue) => panic!("{broken:?}"),
        () = tokio::time::sleep(PATIENCE) => panic!("no end in time"),
    };
    assert_eq!((trained.checkpoint, trained.rounds.len()), (kept, 4));
    let said: Vec<&str> = trained.events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(said, ["stopped early: nothing better on the held slice since round 2"]);
    let best: Vec<bool> = trained.rounds.iter().map(|round| round.best).collect();
    assert_eq!(best, [false, true, false, false]);
}

#[tokio::test]
async fn a_night_without_a_cluster_that_fails_on_the_store_says_so_and_gives_its_lease_back() {
    let world = World::new();
    let store = away(&world.store, "/plan/");
    let coordinator = Coordinator { store, ..world.coordinator("c") };
    let model: ModelName = "flowers".parse().unwrap();
    let night = Night { model: model.clone(), night: "n1".parse().unwrap(), against: None, asked: String::new() };
    let spec = JobSpec { program: Program::Night, night: Some(night), ..world.job("flowers-n1", 0) };
    let error = coordinator.run(spec, Observer::new(|_| {})).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Storage);
    let head = Registry::new(world.store.clone(), &model).head().await.unwrap().unwrap();
    assert_eq!(head.note.what, Happening::Failed);
    assert!(head.note.reason.contains("is out of reach"), "{}", head.note.reason);
    let lease = world.store.get(&Key::new("models/flowers/night.json").unwrap()).await;
    assert_eq!(lease.err().map(|e| e.kind()), Some(Kind::NotFound));
}

#[tokio::test]
async fn a_night_that_died_after_its_end_is_over_also_when_the_next_one_has_begun() {
    let world = World::new();
    let (model, night): (ModelName, VersionId) = ("flowers".parse().unwrap(), "n1".parse().unwrap());
    let ended = Outcome::for_tests("n1", Happening::Skipped);
    let key = Key::new("jobs/flowers-n1/result/night.json").unwrap();
    world.store.put_json(&key, &ended).await.unwrap();
    let registry = Registry::new(world.store.clone(), &model);
    let next: JobId = "flowers-n2".parse().unwrap();
    let lease = Lease::take(&*world.store, &registry, &next, &"n2".parse().unwrap(), 60).await.unwrap();
    let night = Night { model, night, against: None, asked: String::new() };
    let spec = JobSpec { program: Program::Night, night: Some(night), ..world.job("flowers-n1", 0) };
    world.coordinator("c").run(spec, Observer::new(|_| {})).await.unwrap();
    assert_eq!(registry.head().await.unwrap(), None, "it has not failed");
    lease.confirm(&*world.store, &registry).await.unwrap();
}

#[tokio::test]
async fn an_error_that_no_second_attempt_mends_ends_the_job_at_once() {
    let world = World::new();
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    world.worker("w", move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        failed(Kind::Model)
    });
    assert_eq!(run(&world, 1).await.unwrap_err().kind(), Kind::Model);
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_task_whose_worker_falls_silent_is_handed_out_again() {
    let world = World::new();
    world.worker("hangs", |_, _| None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.worker("works", |_, _| done());
    run(&world, 5).await.unwrap();
}

#[tokio::test]
async fn a_copy_of_the_slowest_task_goes_to_an_idle_worker_where_that_is_wanted() {
    let mut world = World::new();
    world.settings.queue.silence = 3600;
    world.settings.queue.speculation = true;
    let quick =
        || Some(Report::Done(Success { metrics: [("seconds".to_string(), 0.01)].into(), ..Success::default() }));
    world.worker("hangs", |_, _| None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.worker("works", move |_, _| quick());
    run(&world, 9).await.unwrap();
}

#[tokio::test]
async fn what_comes_second_is_removed_and_changes_nothing() {
    let world = World::new();
    let key = |who: &str| crate::store::Key::new(format!("jobs/j/attempts/{who}")).unwrap();
    let success = async |who: &str| {
        let blob = world.store.put_bytes(&key(who), who.to_string()).await.unwrap();
        Report::Done(Success { outputs: [("o".to_string(), blob)].into(), ..Success::default() })
    };
    let (first, second) = (success("first").await, success("second").await);
    let queue = world.queue.clone();
    tokio::spawn(async move {
        let mut tasks = queue.consume(&Topic::TASKS, 1).await.unwrap();
        let worker = WorkerId("w".into());
        for number in 0.. {
            let delivery = tasks.next().await.unwrap();
            let task: Task = serde_json::from_slice(delivery.body()).unwrap();
            if number == 0 {
                for (attempt, outcome) in [("a", &first), ("a", &first), ("b", &second)] {
                    report(&*queue, &task, attempt, &worker, outcome.clone()).await;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            } else {
                report(&*queue, &task, "a", &worker, Report::Done(Success::default())).await;
            }
            delivery.ack().await.unwrap();
        }
    });
    run(&world, 2).await.unwrap();
    assert!(world.store.get(&key("first")).await.is_ok(), "reported twice, it still counts");
    assert!(world.store.get(&key("second")).await.is_err());
}

/// A coordinator that serves, and what it is to be asked.
struct Serving {
    jobs: Jobs,
    stop: CancellationToken,
}

impl Serving {
    async fn until(&self, job: &str, state: State) -> Status {
        let job: JobId = job.parse().unwrap();
        let wait = async {
            loop {
                let status = self.jobs.status(&job).await.unwrap();
                if status.state == state {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the state in time")
    }
}

/// Runs `script` beside a serving coordinator.
async fn beside_a_coordinator(world: &World, script: impl AsyncFnOnce(&Serving)) {
    let serving = Serving { jobs: Jobs::new(world.store.clone()), stop: CancellationToken::new() };
    let coordinator = world.coordinator("c");
    tokio::select! {
        ended = coordinator.serve(serving.stop.clone()) => panic!("the coordinator ended: {ended:?}"),
        () = script(&serving) => {}
    }
}

#[tokio::test]
async fn several_jobs_run_at_once_and_each_has_its_own_end() {
    let world = World::new();
    world.worker("w", |task, _| if task.job.0 == "bad" { failed(Kind::Data) } else { done() });
    beside_a_coordinator(&world, async |serving| {
        for name in ["good", "bad"] {
            let spec = world.job(name, 30);
            assert!(serving.jobs.submit(&spec).await.unwrap(), "new");
            assert!(!serving.jobs.submit(&spec).await.unwrap(), "known");
            crate::jobs::wake(&*world.queue, &spec.id).await.unwrap();
        }
        let other = serving.jobs.submit(&world.job("good", 31)).await.unwrap_err();
        assert!(other.kind() == Kind::Usage && other.chain().contains("a job named good was submitted"));
        let good = serving.until("good", State::Done).await;
        assert_eq!(good.stage.map(|s| (s.done, s.tasks)), Some((30, 30)));
        let bad = serving.until("bad", State::Failed).await;
        assert_eq!(bad.error.map(|e| e.0), Some(Kind::Data.exit_code()));
        assert!(serving.jobs.open().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_job_ends_and_a_retried_one_goes_on() {
    let world = World::new();
    let held = CancellationToken::new();
    let gate = held.clone();
    world.worker("w", move |task, _| {
        let last = task.id.0.ends_with('9');
        if last && !gate.is_cancelled() { failed(Kind::Data) } else { done() }
    });
    let mut patient = World { settings: world.settings.clone(), ..world };
    patient.settings.queue.failures = 1_000_000;
    let id: JobId = "j".parse().unwrap();
    beside_a_coordinator(&patient, async |serving| {
        serving.jobs.submit(&patient.job("j", 10)).await.unwrap();
        crate::jobs::wake(&*patient.queue, &id).await.unwrap();
        serving.until("j", State::Running).await;
        serving.jobs.cancel(&id).await.unwrap();
        crate::jobs::wake(&*patient.queue, &id).await.unwrap();
        serving.until("j", State::Cancelled).await;
        assert_eq!(serving.jobs.cancel(&id).await.unwrap_err().kind(), Kind::Usage);
        held.cancel();
        serving.jobs.retry(&id).await.unwrap();
        crate::jobs::wake(&*patient.queue, &id).await.unwrap();
        serving.until("j", State::Done).await;
        assert_eq!(serving.jobs.retry(&id).await.unwrap_err().kind(), Kind::Usage);
    })
    .await;
}
