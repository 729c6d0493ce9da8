//! What goes wrong outside a job's own work: damaged objects, workers that cannot work, leaders that were succeeded.

use std::sync::Mutex;

use super::*;
use crate::coordinator::Progress;

impl World {
    async fn put(&self, key: &str, text: &'static str) {
        self.store.put_bytes(&Key::new(key).unwrap(), text).await.unwrap();
    }

    /// A worker that dies over every task it begins.
    fn mortal(&self) -> JoinHandle<()> {
        let queue = self.queue.clone();
        tokio::spawn(async move {
            let mut tasks = queue.consume(&Topic::TASKS, 1).await.unwrap();
            for number in 1.. {
                let delivery = tasks.next().await.unwrap();
                let task: Task = serde_json::from_slice(delivery.body()).unwrap();
                report(&*queue, &task, &format!("w-{number}"), &WorkerId("w".into()), Report::Started).await;
                // It is heard of before it dies.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    }
}

fn declined() -> Option<Report> {
    Some(Report::Declined { error: "there is no CUDA device".into() })
}

#[tokio::test]
async fn a_damaged_job_fails_with_the_cause_and_holds_up_no_other() {
    let world = World::new();
    world.worker("w", |_, _| done());
    let jobs = Jobs::new(world.store.clone());
    let damaged = [
        ("page", "log/00000000-c/00000000.snapshot.json", "{", "snapshot.json"),
        ("folder", "log/zzz/00000000.json", r#"{"version": 1, "done": []}"#, "zzz"),
        ("end", "end.json", "{", "end.json"),
        ("spec", "spec.json", "{", "spec.json"),
    ];
    for (name, ..) in damaged {
        jobs.submit(&world.job(name, 3)).await.unwrap();
    }
    for (name, key, text, _) in damaged {
        world.put(&format!("jobs/{name}/{key}"), text).await;
    }
    for list in ["open", "index", "cancel"] {
        world.put(&format!("{list}/no job"), "").await;
    }
    world.put("open/ghost", "").await;
    jobs.submit(&world.job("sound", 3)).await.unwrap();
    beside_a_coordinator(&world, async |serving| {
        let closed = async {
            while !jobs.open().await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.expect("an end of all jobs in time");
        serving.until("sound", State::Done).await;
        for (name, _, _, cause) in damaged {
            let (_, error) = serving.until(name, State::Failed).await.error.unwrap();
            assert!(error.contains(cause), "{name}: {error}");
        }
        let (code, _) = serving.until("ghost", State::Failed).await.error.unwrap();
        assert_eq!(code, Kind::NotFound.exit_code());
    })
    .await;
}

#[tokio::test]
async fn a_coordinator_that_was_succeeded_ends_no_job() {
    let world = World::new();
    let folder = world._folder.path().join("jobs/j/log/00000007-other");
    world.worker("w", move |_, _| {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("00000000.snapshot.json"), r#"{"version": 1, "done": []}"#).unwrap();
        failed(Kind::Model)
    });
    let error = run(&world, 1).await.unwrap_err();
    assert!(error.kind() == Kind::Storage && error.chain().contains("taken over meanwhile"), "{}", error.chain());
}

#[tokio::test]
async fn a_worker_that_declines_costs_nothing_as_long_as_others_work() {
    let mut world = World::new();
    world.settings.queue.delivery_limit = 3;
    world.settings.queue.failures = 1;
    // Two in a row, again and again.
    let taken = AtomicUsize::new(0);
    world.worker("w", move |_, _| if taken.fetch_add(1, Ordering::SeqCst) % 3 < 2 { declined() } else { done() });
    let (told, failures) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let observer = Observer::new({
        let (told, failures) = (told.clone(), failures.clone());
        move |progress| match progress {
            Progress::Declined { error, .. } if error.contains("CUDA") => *told.lock().unwrap() += 1,
            Progress::Failure { .. } => *failures.lock().unwrap() += 1,
            _ => {}
        }
    });
    let coordinator = world.coordinator("c");
    tokio::time::timeout(PATIENCE, coordinator.run(world.job("j", 4), observer)).await.unwrap().unwrap();
    assert_eq!((*told.lock().unwrap(), *failures.lock().unwrap()), (8, 0));
}

#[tokio::test]
async fn a_job_that_no_worker_can_do_ends_with_the_reason() {
    let mut world = World::new();
    world.settings.queue.delivery_limit = 3;
    world.worker("w", |_, _| declined());
    let error = run(&world, 2).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Job);
    for part in ["worker w declined 3 tasks", "there is no CUDA device"] {
        assert!(error.chain().contains(part), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_task_that_kills_its_workers_is_named_with_its_shard_and_the_attempts() {
    let mut world = World::new();
    world.settings.queue.delivery_limit = 5;
    world.mortal();
    let mut job = Job::for_tests(&world.store, world.settings.clone()).await;
    job.queue = world.queue.clone();
    let post = Post::default();
    job.inbox = post.open(&job.spec.id);
    let shards = [ShardPlan { split: Split::Train, index: 0, samples: Vec::new() }];
    let error = tokio::select! {
        packed = pack_all(&mut job, &[], &shards) => packed.unwrap_err(),
        broken = post.sort(&*world.queue) => panic!("{broken:?}"),
    };
    for part in [" on jobs/j/", "attempts w-1, w-2, w-3, w-4, w-5", "died or vanished 5 times"] {
        assert!(error.chain().contains(part), "{}", error.chain());
    }
}
