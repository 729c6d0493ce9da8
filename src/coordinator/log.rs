//! The job's memory: an append-only log of finished tasks with snapshots.
//!
//! Each coordinator that takes a job over writes to a folder of its own, named by an epoch one above
//! the highest there is and by its own id, and begins it with a snapshot. Readers follow the highest
//! folder, so that whatever a stale coordinator still writes is never read. Snapshots are taken when
//! the log has grown as long as the last one: the total cost stays linear in the number of tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::{Key, Store};
use crate::task::{Success, TaskId, VERSION};

/// Objects of the log are refused above this size.
const LIMIT: u64 = 1 << 30;

/// A finished task: the attempt that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The task.
    pub task: TaskId,
    /// The attempt whose outputs count.
    pub attempt: String,
    /// What it brought.
    pub success: Success,
}

#[derive(Debug, Serialize, Deserialize)]
struct Page {
    version: u32,
    done: Vec<Done>,
}

/// The log of one job, open for appending.
#[derive(Debug)]
pub struct Log {
    store: Arc<dyn Store>,
    folder: Key,
    next: u64,
    done: BTreeMap<TaskId, Done>,
    since_snapshot: usize,
    at_snapshot: usize,
}

impl Log {
    /// Reads what is known of the job below `prefix` and takes it over as `coordinator`.
    pub async fn take_over(store: Arc<dyn Store>, prefix: &Key, coordinator: &str) -> Result<Self> {
        let root = prefix.join("log");
        let mut folders: BTreeMap<String, Vec<Key>> = BTreeMap::new();
        let mut entries = store.list(Some(&root)).await?;
        while let Some(entry) = entries.try_next().await? {
            let below = entry.key.as_str()[root.as_str().len()..].trim_start_matches('/').to_string();
            if let Some((folder, _)) = below.split_once('/') {
                folders.entry(folder.to_string()).or_default().push(entry.key);
            }
        }
        let highest = folders.pop_last();
        let epoch = match &highest {
            Some((folder, _)) => epoch_of(folder)? + 1,
            None => 0,
        };
        let mut done = BTreeMap::new();
        if let Some((_, mut pages)) = highest {
            pages.sort();
            let start = pages.iter().rposition(|k| k.name().ends_with(".snapshot.json")).unwrap_or(0);
            for key in &pages[start..] {
                let page: Page = store.get_json(key, LIMIT).await?;
                if page.version != VERSION {
                    return Err(Error::data(format!(
                        "{key} has format version {}, this program reads version {VERSION}",
                        page.version
                    )));
                }
                done.extend(page.done.into_iter().map(|d| (d.task.clone(), d)));
            }
        }
        let folder = root.join(format!("{epoch:08}-{coordinator}"));
        let mut log = Self { store, folder, next: 0, done, since_snapshot: 0, at_snapshot: 0 };
        log.snapshot().await?;
        Ok(log)
    }

    /// What is known of `task`.
    pub fn get(&self, task: &TaskId) -> Option<&Success> {
        self.done.get(task).map(|d| &d.success)
    }

    /// Every finished task, in the order of their ids.
    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = &Done> {
        self.done.values()
    }

    /// Writes finished tasks down. When this returns they will never be asked for again.
    pub async fn append(&mut self, done: Vec<Done>) -> Result<()> {
        let key = self.folder.join(format!("{:08}.json", self.next));
        self.store.put_json(&key, &Page { version: VERSION, done: done.clone() }).await?;
        self.next += 1;
        self.since_snapshot += done.len();
        self.done.extend(done.into_iter().map(|d| (d.task.clone(), d)));
        if self.since_snapshot > self.at_snapshot.max(64) {
            self.snapshot().await?;
        }
        Ok(())
    }

    async fn snapshot(&mut self) -> Result<()> {
        let key = self.folder.join(format!("{:08}.snapshot.json", self.next));
        let page = Page { version: VERSION, done: self.done.values().cloned().collect() };
        self.store.put_json(&key, &page).await?;
        self.next += 1;
        self.since_snapshot = 0;
        self.at_snapshot = self.done.len();
        Ok(())
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

    async fn open(store: &Arc<dyn Store>, who: &str) -> Log {
        Log::take_over(store.clone(), &Key::new("jobs/j").unwrap(), who).await.unwrap()
    }

    #[tokio::test]
    async fn remembers_across_coordinators_and_ignores_stale_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let mut first = open(&store, "a").await;
        first.append(vec![done(1), done(2)]).await.unwrap();
        let mut second = open(&store, "b").await;
        assert_eq!(second.get(&done(2).task), Some(&done(2).success));
        first.append(vec![done(3)]).await.unwrap();
        second.append(vec![done(4)]).await.unwrap();
        let third = open(&store, "a").await;
        let known: Vec<_> = third.all().map(|d| d.task.0.as_str()).collect();
        assert_eq!(known, ["t00001", "t00002", "t00004"]);
    }

    #[tokio::test]
    async fn its_size_grows_linearly() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let mut log = open(&store, "a").await;
        let mut sizes = Vec::new();
        for number in 0..2000 {
            log.append(vec![done(number)]).await.unwrap();
            if [999, 1999].contains(&number) {
                let entries: Vec<_> = store.list(None).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
                sizes.push(entries.iter().map(|e| e.size).sum::<u64>());
            }
        }
        assert!(sizes[1] < sizes[0] * 3, "{sizes:?}");
        assert_eq!(open(&store, "b").await.all().count(), 2000);
    }
}
