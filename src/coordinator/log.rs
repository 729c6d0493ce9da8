//! The job's memory: an append-only log of finished and failed tasks with snapshots.
//!
//! Each coordinator that takes a job over writes to a folder of its own, named by an epoch one above
//! the highest there is and by its own id, and begins it with a snapshot. Readers follow the highest
//! folder, so that whatever a stale coordinator still writes is never read. Snapshots are taken when
//! the log has grown as long as the last one: the total cost stays linear in the number of tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::error::{Context, Error, Kind, Result};
use crate::store::{Key, Store};
use crate::task::{Success, TaskId, VERSION, WorkerId};

/// Objects of the log are refused above this size.
const LIMIT: u64 = 1 << 30;

/// A finished task: the attempt that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done<S = Success> {
    /// The task.
    pub task: TaskId,
    /// The attempt whose outputs count.
    pub attempt: String,
    /// What it brought.
    pub success: S,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The attempt.
    pub attempt: String,
    /// Who tried.
    pub worker: WorkerId,
    /// What went wrong, for a person.
    pub error: String,
}

/// What is written at once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Page<S = Success> {
    /// Set when it is written.
    pub version: u32,
    /// Finished tasks.
    pub done: Vec<Done<S>>,
    /// Failed attempts by task.
    #[serde(default)]
    pub failed: Vec<(TaskId, Failure)>,
    /// Stages whose tasks the queue has taken over.
    #[serde(default)]
    pub published: Vec<String>,
}

/// A [`Page`] that holds everything, without copying it.
#[derive(Debug, Serialize)]
struct Snapshot<'a> {
    version: u32,
    done: Vec<Known<'a>>,
    failed: Vec<(&'a TaskId, &'a Failure)>,
    published: &'a BTreeSet<String>,
}

/// A [`Done`] as it is written, without copying it.
#[derive(Debug, Serialize)]
struct Known<'a> {
    task: &'a TaskId,
    attempt: &'a str,
    success: &'a RawValue,
}

/// What is kept of a finished task. As text a [`Success`] takes a fifth of the memory that its maps take, and there
/// may be a hundred thousand.
#[derive(Debug)]
struct Kept {
    attempt: Box<str>,
    success: Box<RawValue>,
}

impl Page {
    fn is_empty(&self) -> bool {
        self.done.is_empty() && self.failed.is_empty() && self.published.is_empty()
    }

    /// The same with what was brought as text.
    fn into_text(self) -> Result<Page<Box<RawValue>>> {
        let text = |Done { task, attempt, success }: Done| {
            let success = to_raw_value(&success);
            let success = success.context(Kind::Internal, || format!("what task {task} brought has no JSON form"))?;
            Ok(Done { task, attempt, success })
        };
        let done = self.done.into_iter().map(text).collect::<Result<_>>()?;
        Ok(Page { version: self.version, done, failed: self.failed, published: self.published })
    }
}

/// What the log of a job says.
#[derive(Debug, Default)]
pub struct Memory {
    /// The folder of the coordinator that took the job over last; empty when none did.
    folder: String,
    done: BTreeMap<TaskId, Kept>,
    failed: BTreeMap<TaskId, Vec<Failure>>,
    published: BTreeSet<String>,
}

impl Memory {
    /// Reads it.
    pub async fn of(store: &dyn Store, prefix: &Key) -> Result<Self> {
        let mut memory = Self::default();
        let Some((folder, mut pages)) = folders(store, &prefix.join("log")).await?.pop_last() else {
            return Ok(memory);
        };
        pages.sort();
        let start = pages.iter().rposition(|k| k.name().ends_with(".snapshot.json")).unwrap_or(0);
        for key in &pages[start..] {
            let page: Page<Box<RawValue>> = store.get_json(key, LIMIT).await?;
            if page.version != VERSION {
                return Err(Error::data(format!(
                    "{key} has format version {}, this program reads version {VERSION}",
                    page.version
                )));
            }
            for done in &page.done {
                let sound: serde_json::Result<Success> = serde_json::from_str(done.success.get());
                sound.context(Kind::Data, || format!("{key} does not say what task {} brought", done.task))?;
            }
            memory.absorb(page);
        }
        memory.folder = folder;
        Ok(memory)
    }

    /// The attempt at `task` that counts.
    pub fn winner(&self, task: &TaskId) -> Option<&str> {
        self.done.get(task).map(|kept| &*kept.attempt)
    }

    /// Whether this attempt has failed.
    pub fn failed(&self, attempt: &str) -> bool {
        self.failed.values().flatten().any(|f| f.attempt == attempt)
    }

    /// The folder of the coordinator that took the job over last.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    fn absorb(&mut self, page: Page<Box<RawValue>>) {
        for Done { task, attempt, success } in page.done {
            self.failed.remove(&task);
            self.done.insert(task, Kept { attempt: attempt.into(), success });
        }
        for (task, failure) in page.failed {
            self.failed.entry(task).or_default().push(failure);
        }
        self.published.extend(page.published);
    }
}

/// The pages below `root` by the folder they lie in.
async fn folders(store: &dyn Store, root: &Key) -> Result<BTreeMap<String, Vec<Key>>> {
    let mut folders: BTreeMap<String, Vec<Key>> = BTreeMap::new();
    let mut entries = store.list(Some(root)).await?;
    while let Some(entry) = entries.try_next().await? {
        let below = entry.key.as_str()[root.as_str().len()..].trim_start_matches('/').to_string();
        if let Some((folder, _)) = below.split_once('/') {
            folders.entry(folder.to_string()).or_default().push(entry.key);
        }
    }
    Ok(folders)
}

/// The log of one job, open for appending.
#[derive(Debug)]
pub struct Log {
    store: Arc<dyn Store>,
    /// Below it lie the folders of all coordinators.
    root: Key,
    folder: Key,
    next: u64,
    memory: Memory,
    since_snapshot: usize,
    at_snapshot: usize,
}

impl Log {
    /// Reads what is known of the job below `prefix` and takes it over as `coordinator`.
    pub async fn take_over(store: Arc<dyn Store>, prefix: &Key, coordinator: &str) -> Result<Self> {
        let memory = Memory::of(&*store, prefix).await?;
        let epoch = if memory.folder.is_empty() { 0 } else { epoch_of(&memory.folder)? + 1 };
        let root = prefix.join("log");
        let folder = root.join(format!("{epoch:08}-{coordinator}"));
        let mut log = Self { store, root, folder, next: 0, memory, since_snapshot: 0, at_snapshot: 0 };
        log.snapshot().await?;
        Ok(log)
    }

    /// What `task` brought, if it is done.
    pub fn get(&self, task: &TaskId) -> Result<Option<Success>> {
        let kept = self.memory.done.get(task).map(|kept| serde_json::from_str(kept.success.get()));
        kept.transpose().context(Kind::Internal, || format!("the log of task {task} cannot be read back"))
    }

    /// The ids of every finished task, in order.
    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.memory.done.keys().map(|task| task.0.as_str())
    }

    /// The attempt at `task` that counts.
    pub fn attempt(&self, task: &TaskId) -> Option<&str> {
        self.memory.winner(task)
    }

    /// Attempts at `task` that failed.
    pub fn failures(&self, task: &TaskId) -> &[Failure] {
        self.memory.failed.get(task).map_or(&[], Vec::as_slice)
    }

    /// Whether the queue has taken over the tasks of `stage`.
    pub fn published(&self, stage: &str) -> bool {
        self.memory.published.contains(stage)
    }

    /// Writes down what happened. When this returns, finished tasks will never be asked for again.
    pub async fn append(&mut self, page: Page) -> Result<()> {
        if page.is_empty() {
            return Ok(());
        }
        let page = Page { version: VERSION, ..page }.into_text()?;
        let key = self.folder.join(format!("{:08}.json", self.next));
        self.store.put_json(&key, &page).await?;
        self.next += 1;
        self.since_snapshot += page.done.len() + page.failed.len() + page.published.len();
        self.memory.absorb(page);
        if self.since_snapshot > self.at_snapshot.max(64) {
            self.snapshot().await?;
        }
        Ok(())
    }

    /// Fails once readers follow another folder than this one. The coordinator that wrote it need not lead: where the
    /// right to lead changed hands in the middle of a take-over, both may have chosen the same epoch.
    pub async fn confirm(&self) -> Result<()> {
        let root = &self.root;
        match folders(&*self.store, root).await?.pop_last() {
            Some((last, _)) if last.as_str() > self.folder.name() => {
                Err(Error::storage(format!("the job was taken over meanwhile ({root}/{last})")))
            }
            _ => Ok(()),
        }
    }

    /// Forgets failures and what was published, so that a job that is tried again starts its open tasks afresh.
    pub async fn reopen(&mut self) -> Result<()> {
        self.memory.failed.clear();
        self.memory.published.clear();
        self.snapshot().await
    }

    async fn snapshot(&mut self) -> Result<()> {
        let key = self.folder.join(format!("{:08}.snapshot.json", self.next));
        let failures = self.memory.failed.iter().flat_map(|(task, list)| list.iter().map(move |f| (task, f)));
        let done = self.memory.done.iter();
        let page = Snapshot {
            version: VERSION,
            done: done.map(|(task, kept)| Known { task, attempt: &kept.attempt, success: &kept.success }).collect(),
            failed: failures.collect(),
            published: &self.memory.published,
        };
        self.store.put_json(&key, &page).await?;
        self.next += 1;
        self.since_snapshot = 0;
        self.at_snapshot = self.memory.done.len();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Memory {
    /// A coordinator takes a job over and writes down `done`.
    pub async fn write_for_tests(store: &Arc<dyn Store>, prefix: &Key, coordinator: &str, done: &[Done]) {
        let mut log = Log::take_over(store.clone(), prefix, coordinator).await.unwrap();
        log.append(Page { done: done.to_vec(), ..Page::default() }).await.unwrap();
    }
}

#[cfg(test)]
impl Done {
    /// A finished task without outputs.
    pub fn of(task: &str, attempt: &str) -> Self {
        Self { task: TaskId(task.into()), attempt: attempt.into(), success: Success::default() }
    }
}

fn epoch_of(folder: &str) -> Result<u64> {
    let digits = folder.split('-').next().unwrap_or_default();
    digits.parse().map_err(|_| Error::data(format!("'{folder}' is no folder of a job's log")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::LocalStore;

    fn done(number: usize) -> Done {
        Done {
            task: TaskId(format!("t{number:05}")),
            attempt: "a".into(),
            success: Success { metrics: [("n".to_string(), number as f64)].into(), ..Success::default() },
        }
    }

    fn page(numbers: &[usize]) -> Page {
        Page { done: numbers.iter().map(|&n| done(n)).collect(), ..Page::default() }
    }

    async fn open(store: &Arc<dyn Store>, who: &str) -> Log {
        Log::take_over(store.clone(), &Key::new("jobs/j").unwrap(), who).await.unwrap()
    }

    #[tokio::test]
    async fn remembers_across_coordinators_and_ignores_stale_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let mut first = open(&store, "a").await;
        first.append(page(&[1, 2])).await.unwrap();
        let mut second = open(&store, "b").await;
        assert_eq!(second.get(&done(2).task).unwrap(), Some(done(2).success));
        first.append(page(&[3])).await.unwrap();
        second.append(page(&[4])).await.unwrap();
        let third = open(&store, "a").await;
        let known: Vec<_> = third.all().collect();
        assert_eq!(known, ["t00001", "t00002", "t00004"]);
    }

    #[tokio::test]
    async fn a_coordinator_notices_that_it_is_not_the_one_that_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let prefix = Key::new("jobs/j").unwrap();
        let mut leader = open(&store, "a").await;
        leader.append(page(&[1])).await.unwrap();
        leader.confirm().await.unwrap();
        // Both listed the folders before the other one wrote.
        let stale = prefix.join("log/00000000-b/00000000.snapshot.json");
        store.put_json(&stale, &Page { version: VERSION, ..<Page>::default() }).await.unwrap();
        assert!(leader.confirm().await.unwrap_err().to_string().contains("00000000-b"));
        let again = open(&store, "a").await;
        again.confirm().await.unwrap();
    }

    #[tokio::test]
    async fn remembers_failures_until_the_task_is_done_or_the_job_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let failure = |attempt: &str| Failure {
            attempt: attempt.into(),
            worker: WorkerId("w".into()),
            error: "the disk is full".into(),
        };
        let (first, second) = (done(1).task, done(2).task);
        let mut log = open(&store, "a").await;
        let failed = vec![(first.clone(), failure("x")), (second.clone(), failure("y"))];
        log.append(Page { failed, published: vec!["round 0".into()], ..Page::default() }).await.unwrap();
        let mut log = open(&store, "b").await;
        assert_eq!((log.failures(&first).len(), log.published("round 0")), (1, true));
        log.append(page(&[1])).await.unwrap();
        assert!(log.failures(&first).is_empty());
        log.reopen().await.unwrap();
        let log = open(&store, "c").await;
        assert_eq!((log.failures(&second).len(), log.published("round 0"), log.attempt(&first)), (0, false, Some("a")));
    }

    #[tokio::test]
    async fn its_size_grows_linearly() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let mut log = open(&store, "a").await;
        let mut sizes = Vec::new();
        for number in 0..2000 {
            log.append(page(&[number])).await.unwrap();
            if [999, 1999].contains(&number) {
                let entries: Vec<_> = store.list(None).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
                sizes.push(entries.iter().map(|e| e.size).sum::<u64>());
            }
        }
        assert!(sizes[1] < sizes[0] * 3, "{sizes:?}");
        assert_eq!(open(&store, "b").await.all().count(), 2000);
    }
}
