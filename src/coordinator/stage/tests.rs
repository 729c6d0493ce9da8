//! How a stage listens.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::config::Layers;
use crate::coordinator::post::Post;
use crate::store::LocalStore;
use crate::task::{Report, WorkerId};

/// What is handed out again when a message waits and it has been time to look after the tasks for so long.
async fn handed_out_again(overdue: Duration) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
    let mut job = Job::for_tests(&store, Layers::new().unwrap().resolve().unwrap().settings).await;
    job.policy.silence = 0;
    let queue = job.queue.clone();
    let post = Post::default();
    job.inbox = post.open(&job.spec.id);
    let event = Event {
        version: VERSION,
        job: job.spec.id.clone(),
        task: TaskId("another".into()),
        attempt: "a".into(),
        worker: WorkerId("w".into()),
        report: Report::Started,
    };
    event.send(&*queue).await.unwrap();
    let sorting = tokio::time::timeout(Duration::from_millis(100), post.sort(&*queue)).await;
    assert!(sorting.is_err(), "the message lies in the inbox");

    let mut silent = Open::new(Work::Nothing { stored: false }, true);
    silent.heard = Some(Instant::now());
    let mut open = BTreeMap::from([(TaskId("silent".into()), silent)]);
    let mut watch = Watch::new();
    watch.check = Instant::now() - overdue;
    job.collect("nothing", &mut open, &mut watch).await.unwrap();
    assert!(!watch.is_due());
    queue.backlog(Topic::Tasks(job.spec.settings.job.priority)).await.unwrap()
}

#[tokio::test]
async fn silent_tasks_are_looked_after_however_much_is_told() {
    assert_eq!(handed_out_again(Duration::from_millis(1)).await, 1);
}

#[tokio::test]
async fn a_coordinator_that_was_held_up_listens_before_it_calls_a_task_silent() {
    assert_eq!(handed_out_again(Duration::from_secs(10)).await, 0);
}
