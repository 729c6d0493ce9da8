//! A store that fails where a test wants it to.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::error::{Error, Result};
use crate::store::{Blob, Entry, Key, Reader, Store};

/// What is asked of the store. It is always listed soundly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Put,
    Create,
    Get,
    Delete,
}

/// What becomes of it.
pub(crate) enum Fate {
    Sound,
    Fails(Error),
    Hangs,
}

/// Asks for the fate of everything before it is done.
pub(crate) struct Faulty<F> {
    store: Arc<dyn Store>,
    fate: F,
}

impl<F: Fn(Act, &Key) -> Fate + Send + Sync + 'static> Faulty<F> {
    pub(crate) fn over(store: &Arc<dyn Store>, fate: F) -> Arc<dyn Store> {
        Arc::new(Self { store: store.clone(), fate })
    }

    async fn check(&self, act: Act, key: &Key) -> Result<()> {
        match (self.fate)(act, key) {
            Fate::Sound => Ok(()),
            Fate::Fails(error) => Err(error),
            Fate::Hangs => std::future::pending().await,
        }
    }
}

/// Objects that have `below` in their keys are out of reach.
pub(crate) fn away(store: &Arc<dyn Store>, below: &'static str) -> Arc<dyn Store> {
    Faulty::over(store, move |_, key| match key.as_str().contains(below) {
        true => Fate::Fails(Error::storage(format!("{key} is out of reach"))),
        false => Fate::Sound,
    })
}

/// Whoever changes something dies over it, after `left` changes that succeeded.
pub(crate) fn dying(store: &Arc<dyn Store>, left: usize) -> Arc<dyn Store> {
    let done = AtomicUsize::new(0);
    Faulty::over(store, move |act, key| match act {
        Act::Get => Fate::Sound,
        _ if done.fetch_add(1, Ordering::Relaxed) < left => Fate::Sound,
        _ => Fate::Fails(Error::storage(format!("died before {key}"))),
    })
}

impl<F> fmt::Debug for Faulty<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.store)
    }
}

#[async_trait]
impl<F: Fn(Act, &Key) -> Fate + Send + Sync + 'static> Store for Faulty<F> {
    async fn put(&self, key: &Key, body: Reader) -> Result<Blob> {
        self.check(Act::Put, key).await?;
        self.store.put(key, body).await
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<bool> {
        self.check(Act::Create, key).await?;
        self.store.create(key, body).await
    }

    async fn get(&self, key: &Key) -> Result<Reader> {
        self.check(Act::Get, key).await?;
        self.store.get(key).await
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<Entry>>> {
        self.store.list(prefix).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.check(Act::Delete, key).await?;
        self.store.delete(key).await
    }
}
