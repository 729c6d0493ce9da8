//! Fetched objects on the worker's disk, by their hash.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt;

use crate::error::{Context, Kind, Result};
use crate::store::{Blob, LocalStore, Store};

/// What is left of earlier tasks goes, least recently fetched first, while there are more bytes than this.
pub(super) const LIMIT: u64 = 4 << 30;

/// Bytes that a healthy disk has room for.
const PROBE: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    kept: Mutex<Kept>,
}

/// What lies there, least recently fetched first.
#[derive(Debug, Default)]
struct Kept {
    /// Of earlier tasks.
    earlier: VecDeque<Blob>,
    /// Fetched by the task that goes on.
    now: Vec<Blob>,
}

impl Kept {
    fn all(&self) -> impl Iterator<Item = &Blob> {
        self.earlier.iter().chain(&self.now)
    }

    fn note(&mut self, blob: &Blob) {
        self.earlier.retain(|b| b.sha256 != blob.sha256);
        self.now.retain(|b| b.sha256 != blob.sha256);
        self.now.push(blob.clone());
    }
}

impl Cache {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .context(Kind::Storage, || format!("the cache folder {} cannot be created", folder.display()))?;
        Ok(Self { folder: folder.to_path_buf(), kept: Mutex::default() })
    }

    /// The file that holds `blob`, fetched and checked unless it is there already.
    pub(crate) async fn fetch(&self, store: &Arc<dyn Store>, blob: &Blob) -> Result<PathBuf> {
        let path = self.folder.join(&blob.sha256);
        let known = self.lock().all().any(|b| b.sha256 == blob.sha256) && path.is_file();
        if !known {
            self.copy(store, blob).await?;
        }
        self.lock().note(blob);
        Ok(path)
    }

    async fn copy(&self, store: &Arc<dyn Store>, blob: &Blob) -> Result<()> {
        let local = LocalStore::create(&self.folder)?;
        let key = crate::store::Key::new(blob.sha256.clone())?;
        // Whatever lies there now, no more is copied than was promised.
        let body = store.get(&blob.key).await?.take(blob.size.saturating_add(1));
        let copy = local.put(&key, Box::new(body)).await?;
        if let Err(e) = blob.check(copy.size, &copy.sha256) {
            local.delete(&key).await?;
            return Err(e);
        }
        Ok(())
    }

    /// Tells that a task begins. What it fetches stays until it ends, however large.
    pub(super) fn begin(&self, limit: u64) {
        let mut kept = self.lock();
        let fetched = std::mem::take(&mut kept.now);
        kept.earlier.extend(fetched);
        drop(kept);
        self.make_room(limit);
    }

    /// Removes what earlier tasks left while there are more bytes of it than `limit`; whether there was any to remove.
    pub(super) fn make_room(&self, limit: u64) -> bool {
        let mut kept = self.lock();
        let mut total: u64 = kept.earlier.iter().map(|b| b.size).sum();
        let mut removed = false;
        while total > limit
            && let Some(old) = kept.earlier.pop_front()
        {
            total -= old.size;
            // A file that cannot be removed costs disk, not correctness.
            removed |= std::fs::remove_file(self.folder.join(old.sha256)).is_ok();
        }
        removed
    }

    /// Whether this machine's disk takes a file. Others may have room for what does not fit here.
    pub(super) fn is_writable(&self) -> bool {
        let probe = self.folder.join("probe");
        let written = std::fs::write(&probe, vec![0; PROBE]).is_ok();
        let removed = std::fs::remove_file(&probe).is_ok();
        written && removed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_keeps_all_it_fetched_and_the_oldest_go_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(&folder.path().join("store")).unwrap());
        let cache = Cache::new(&folder.path().join("cache")).unwrap();
        let mut blobs = Vec::new();
        for number in 0..20_u8 {
            let key = crate::store::Key::new(format!("shard-{number}")).unwrap();
            blobs.push(store.put(&key, Box::new(std::io::Cursor::new(vec![number; 100]))).await.unwrap());
        }
        let mut paths = Vec::new();
        for blob in &blobs {
            paths.push(cache.fetch(&store, blob).await.unwrap());
        }
        assert!(paths.iter().all(|path| path.is_file()));

        cache.begin(u64::MAX);
        cache.fetch(&store, &blobs[0]).await.unwrap();
        cache.begin(350);
        let left: Vec<usize> = (0..20).filter(|&i| paths[i].is_file()).collect();
        assert_eq!(left, [0, 18, 19]);
        let again = cache.fetch(&store, &blobs[5]).await.unwrap();
        assert_eq!(std::fs::read(again).unwrap(), [5; 100]);
    }
}
