//! A store in S3 or a server that speaks its protocol.
//!
//! - `location`: what `s3://bucket/prefix` means.
//! - `client`: one SDK client for each server.
//! - `retry`: requests are repeated for as long as the store's patience lasts.
//! - `failure`: what the SDK's errors mean.
//! - `upload`, `download`, `listing`: the operations that are more than one request.
//! - `probe`: what `hardy doctor` asks a server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::{Blob, Entry, Key, Reader, Store};
use crate::config::StoreSettings;
use crate::error::{Error, Result};

mod client;
mod download;
mod failure;
mod listing;
mod location;
mod probe;
mod retry;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
mod upload;

pub use probe::Check;

use failure::Failure;
use location::Location;
use retry::{Limits, insist};

/// Objects in a bucket, below a prefix.
#[derive(Clone)]
pub struct S3Store {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    location: Location,
    /// The server, for messages.
    server: String,
    /// How long an operation goes on trying while the server is out of reach or ill.
    patience: Duration,
}

impl S3Store {
    /// The store at `url`, `s3://bucket/prefix`. The bucket must exist and be open to the credentials,
    /// which come from AWS's default chain: environment, profile, web identity, container, instance.
    pub async fn open(url: &str, settings: &StoreSettings, patience: Duration) -> Result<Self> {
        let location = Location::parse(url)?;
        let (client, server) = client::shared(settings).await?;
        let store = Self::new(client, location, server, patience);
        store.check().await?;
        Ok(store)
    }

    fn new(client: Client, location: Location, server: String, patience: Duration) -> Self {
        Self { inner: Arc::new(Inner { client, location, server, patience }) }
    }

    /// Lists one key, which every server answers and which needs the least permission.
    async fn check(&self) -> Result<()> {
        let Inner { client, location, .. } = &*self.inner;
        let request = || client.list_objects_v2().bucket(&location.bucket).prefix(location.root()).max_keys(1).send();
        insist("opening the bucket", self.small(), request)
            .await
            .map_err(|e| self.error(format!("{location} cannot be opened"), &e))?;
        Ok(())
    }

    fn small(&self) -> Limits {
        Limits::small(self.inner.patience)
    }

    /// `what` names the operation and its key.
    fn error(&self, what: String, failure: &Failure) -> Error {
        Error::storage(format!("{what} at {}", self.inner.server)).because(failure.text())
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Store({} at {})", self.inner.location, self.inner.server)
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put(&self, key: &Key, body: Reader) -> Result<Blob> {
        upload::put(self, key, body).await
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<bool> {
        upload::create(self, key, body).await
    }

    async fn get(&self, key: &Key) -> Result<Reader> {
        download::get(self, key).await
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<Entry>>> {
        Ok(listing::list(self, prefix))
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let Inner { client, location, .. } = &*self.inner;
        let request = || client.delete_object().bucket(&location.bucket).key(location.name(key)).send();
        match insist("deleting an object", self.small(), request).await {
            Err(e) if !e.no_such_key() => Err(self.error(format!("{key} cannot be deleted in {location}"), &e)),
            _ => Ok(()),
        }
    }
}
