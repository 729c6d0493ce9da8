//! One try at a task.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::cache::Cache;
use super::compute::Compute;
use super::progress::Progress;
use super::thread::Thread;
use crate::config::StoreSettings;
use crate::coordinator::JobSpec;
use crate::error::{Error, Kind, Result};
use crate::store::{Blob, Key, Reader, Store};

/// Everything the work needs.
pub(crate) struct Attempt<'a> {
    pub(crate) spec: Arc<JobSpec>,
    /// The network's description, once the classes are known.
    pub(crate) model: Option<Blob>,
    pub(crate) store: &'a Arc<dyn Store>,
    /// How a store of photos is reached.
    pub(crate) access: &'a StoreSettings,
    pub(crate) cache: &'a Cache,
    pub(crate) thread: &'a Thread,
    pub(crate) progress: Arc<Progress>,
    /// Outputs go below this key.
    pub(crate) prefix: Key,
}

impl Attempt<'_> {
    /// The file that holds an object of the cluster's store.
    pub(crate) async fn fetch(&self, blob: &Blob) -> Result<PathBuf> {
        let path = self.cache.fetch(self.store, blob).await?;
        self.progress.step();
        Ok(path)
    }

    /// Stores an output under a key of this attempt's own.
    pub(crate) async fn put(&self, name: &str, extension: &str, bytes: impl Into<Bytes>) -> Result<(String, Blob)> {
        self.put_stream(name, extension, Box::new(std::io::Cursor::new(bytes.into()))).await
    }

    /// The same from a stream.
    pub(crate) async fn put_stream(&self, name: &str, extension: &str, body: Reader) -> Result<(String, Blob)> {
        let key = self.prefix.join(format!("{name}.{extension}"));
        let blob = self.store.put(&key, body).await?;
        self.progress.step();
        Ok((name.to_string(), blob))
    }

    /// Runs `work` on the compute thread.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Compute) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.thread.run(work).await
    }
}

/// Why a try came to nothing.
#[derive(Debug)]
pub(super) enum Setback {
    /// The task is at fault, as far as this worker can tell.
    Failed(Error),
    /// This worker is: another one may fare better.
    Unfit(Error),
}

impl From<Error> for Setback {
    /// An object that is missing or damaged says so itself. Whatever else is wrong with a store or a disk is wrong with
    /// this machine's: its credentials, its network, its room.
    fn from(error: Error) -> Self {
        match error.kind() {
            Kind::Storage => Self::Unfit(error),
            _ => Self::Failed(error),
        }
    }
}
