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
    kept: Mutex<VecDeque<Blob>>,
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
        let known = self.lock().iter().any(|b| b.sha256 == blob.sha256) && path.is_file();
        if !known {
            let local = LocalStore::create(&self.folder)?;
            let key = crate::store::Key::new(blob.sha256.clone())?;
            // Whatever lies there now, no more is copied than was promised.
            let body = store.get(&blob.key).await?.take(blob.size.saturating_add(1));
            let copy = local.put(&key, Box::new(body)).await?;
            if let Err(e) = blob.check(copy.size, &copy.sha256) {
                local.delete(&key).await?;
                return Err(e);
            }
        }
        let mut kept = self.lock();
        kept.retain(|b| b.sha256 != blob.sha256);
        kept.push_back(blob.clone());
        Ok(path)
    }

    /// Makes room between tasks: what a task has fetched stays until it ends, however large.
    pub(super) fn trim(&self, limit: u64) {
        let mut kept = self.lock();
        let mut total: u64 = kept.iter().map(|b| b.size).sum();
        while total > limit
            && let Some(old) = kept.pop_front()
        {
            total -= old.size;
            // A file that cannot be removed costs disk, not correctness.
            let _ = std::fs::remove_file(self.folder.join(old.sha256));
        }
    }

    /// Whether this machine's disk takes a file. Others may have room for what does not fit here.
    pub(super) fn is_writable(&self) -> bool {
        let probe = self.folder.join("probe");
        let written = std::fs::write(&probe, vec![0; PROBE]).is_ok();
        let removed = std::fs::remove_file(&probe).is_ok();
        written && removed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Blob>> {
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

        cache.fetch(&store, &blobs[0]).await.unwrap();
        cache.trim(350);
        let left: Vec<usize> = (0..20).filter(|&i| paths[i].is_file()).collect();
        assert_eq!(left, [0, 18, 19]);
        let again = cache.fetch(&store, &blobs[5]).await.unwrap();
        assert_eq!(std::fs::read(again).unwrap(), [5; 100]);
    }
}
