//! Jobs whose clients die, meet and find strange things.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::Layers;
use crate::coordinator::Program;
use crate::faulty::{Act, Fate, Faulty, dying};
use crate::store::LocalStore;

struct World {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    jobs: Jobs,
    id: JobId,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let jobs = Jobs::new(store.clone());
        Self { folder, store, jobs, id: "night".parse().unwrap() }
    }

    fn spec(&self, photos: &str) -> JobSpec {
        let settings = Layers::new().unwrap().resolve().unwrap().settings;
        JobSpec { created: "now".into(), ..JobSpec::new(self.id.clone(), Program::Train, &settings, photos) }
    }

    async fn put(&self, key: &str, text: &'static str) {
        self.store.put_bytes(&Key::new(key).unwrap(), text).await.unwrap();
    }

    /// A job that ended as failed.
    async fn failed() -> Self {
        let world = Self::new();
        world.jobs.submit(&world.spec("photos")).await.unwrap();
        let end = Status::failed(&world.id, &Error::data("a bad photo"));
        world.jobs.tell(&end).await.unwrap();
        world.jobs.close(&end).await.unwrap();
        world
    }
}

#[tokio::test]
async fn a_retry_that_dies_anywhere_can_be_repeated() {
    for left in 0.. {
        let world = World::failed().await;
        let died = Jobs::new(dying(&world.store, left)).retry(&world.id).await.is_err();
        if died {
            let state = world.jobs.status(&world.id).await.unwrap().state;
            assert!(world.jobs.open().await.unwrap().is_empty(), "open too early, after {left} changes ({state})");
            world.jobs.retry(&world.id).await.unwrap();
        }
        assert_eq!(world.jobs.open().await.unwrap(), std::slice::from_ref(&world.id), "{left}");
        assert!(world.jobs.end(&world.id).await.unwrap().is_none(), "{left}");
        let again = world.jobs.retry(&world.id).await.unwrap_err();
        assert!(again.kind() == Kind::Usage && again.to_string().contains("is waiting"), "{again}");
        if !died {
            assert!(left > 3, "it was cut nowhere");
            return;
        }
    }
}

#[tokio::test]
async fn a_submission_that_dies_anywhere_can_be_repeated() {
    for left in 0..4 {
        let world = World::new();
        let spec = world.spec("photos");
        let outcome = Jobs::new(dying(&world.store, left)).submit(&spec).await;
        assert_eq!(outcome.is_ok(), left == 3, "{left}");
        assert_eq!(world.jobs.submit(&spec).await.unwrap(), left == 0, "{left}");
        assert_eq!(world.jobs.names().await.unwrap(), world.jobs.open().await.unwrap());
        assert_eq!(world.jobs.open().await.unwrap(), std::slice::from_ref(&world.id), "{left}");
    }
}

#[tokio::test]
async fn of_two_that_submit_at_once_one_wins() {
    for (other, wins) in [("photos", true), ("others", false)] {
        let world = World::new();
        // Both look before either has written anything.
        let looks = AtomicUsize::new(0);
        let jobs = Jobs::new(Faulty::over(&world.store, move |act, key| match act {
            Act::Get if key.name() == "spec.json" && looks.fetch_add(1, Ordering::Relaxed) < 2 => {
                Fate::Fails(Error::not_found("nothing yet"))
            }
            _ => Fate::Sound,
        }));
        assert!(jobs.submit(&world.spec("photos")).await.unwrap(), "new");
        match jobs.submit(&world.spec(other)).await {
            Ok(fresh) => assert!(wins && !fresh, "{other}"),
            Err(e) => assert!(!wins && e.kind() == Kind::Usage && e.chain().contains("was submitted on"), "{e}"),
        }
        assert_eq!(world.jobs.spec(&world.id).await.unwrap().source, "photos");
    }
}

#[tokio::test]
async fn what_marks_no_job_is_left_alone() {
    let world = World::new();
    world.jobs.submit(&world.spec("photos")).await.unwrap();
    for list in ["index", "open", "cancel"] {
        for stranger in ["not a job", "folder/night", ".DS_Store"] {
            world.put(&format!("{list}/{stranger}"), "").await;
        }
        let no_key = std::ffi::OsStr::from_bytes(b"\xff");
        std::fs::write(world.folder.path().join(list).join(no_key), "").unwrap();
    }
    for _ in 0..2 {
        assert_eq!(world.jobs.open().await.unwrap(), std::slice::from_ref(&world.id));
        assert_eq!(world.jobs.names().await.unwrap(), std::slice::from_ref(&world.id));
        assert_eq!(world.jobs.to_cancel().await.unwrap(), []);
    }
    assert_eq!(world.jobs.strangers.lock().unwrap().len(), 12, "each is mentioned once");
}

#[tokio::test]
async fn a_job_whose_end_is_damaged_has_failed_and_can_be_retried() {
    let world = World::failed().await;
    world.put("jobs/night/end.json", "{").await;
    let end = world.jobs.status(&world.id).await.unwrap();
    assert_eq!(end.state, State::Failed);
    assert!(end.error.unwrap().1.contains("end.json"));
    world.jobs.retry(&world.id).await.unwrap();
    world.put("jobs/night/status.json", "{").await;
    assert_eq!(world.jobs.status(&world.id).await.unwrap().state, State::Waiting);
}

#[tokio::test]
async fn a_job_that_lies_under_the_name_of_another_is_damaged() {
    let world = World::new();
    let other = JobSpec { id: "day".parse().unwrap(), ..world.spec("photos") };
    world.store.put_json(&spec_key(&world.id), &other).await.unwrap();
    let error = world.jobs.spec(&world.id).await.unwrap_err();
    assert!(error.kind() == Kind::Data && error.to_string().contains("is job day"), "{error}");
}
