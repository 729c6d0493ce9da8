//! Fetched objects on the worker's disk, by their hash.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt;

use crate::error::{Context, Kind, Result};
use crate::store::{Blob, LocalStore, Store};

/// Least recently fetched files go when the cache holds more than this many bytes.
const LIMIT: u64 = 4 << 30;

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
        self.touch(blob);
        Ok(path)
    }

    /// Whether this machine's disk takes a file. Others may have room for what does not fit here.
    pub(super) fn is_writable(&self) -> bool {
        let probe = self.folder.join("probe");
        let written = std::fs::write(&probe, vec![0; PROBE]).is_ok();
        let removed = std::fs::remove_file(&probe).is_ok();
        written && removed
    }

    fn touch(&self, blob: &Blob) {
        let mut kept = self.lock();
        kept.retain(|b| b.sha256 != blob.sha256);
        kept.push_back(blob.clone());
        let mut total: u64 = kept.iter().map(|b| b.size).sum();
        // What this task has just fetched stays, however large.
        while total > LIMIT && kept.len() > 8 {
            if let Some(old) = kept.pop_front() {
                total -= old.size;
                // A file that cannot be removed costs disk, not correctness.
                let _ = std::fs::remove_file(self.folder.join(old.sha256));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Blob>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
