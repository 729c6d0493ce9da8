//! The object store: bytes under keys. The trait is the seam between the job and where its objects lie.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config::StoreSettings;
use crate::error::{Context, Error, Kind, Result};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod contract;
mod key;
mod local;
pub mod s3;

pub use key::Key;
pub use local::LocalStore;
pub use s3::S3Store;

/// How long a worker or a coordinator goes on trying while the store is out of reach.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// How long a command does, at which a person waits.
pub const COMMAND_PATIENCE: Duration = Duration::from_secs(10);

/// The body of an object, read as a stream.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// A reference to an object whose content is known: whoever reads it checks size and hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// Where it lies.
    pub key: Key,
    /// SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: String,
    /// Its length in bytes.
    pub size: u64,
}

impl Blob {
    /// Of `bytes` that are to lie at `key`.
    pub fn of(key: Key, bytes: &[u8]) -> Self {
        Self { key, sha256: hex::encode(Sha256::digest(bytes)), size: bytes.len() as u64 }
    }
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The object's key.
    pub key: Key,
    /// Its length in bytes.
    pub size: u64,
    /// What differs once the object was written again, as finely as the store can tell: its ETag, or the time when it
    /// was last written. None where the store says neither.
    pub stamp: Option<String>,
}

/// An object store. Every implementation passes the suite in `contract.rs`.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Writes an object from a stream. Atomic: a reader sees the old bytes or the new ones, whole;
    /// when this fails or is dropped half-way, nothing lies under the key that did not before.
    async fn put(&self, key: &Key, body: Reader) -> Result<Blob>;

    /// Writes an object where there is none yet; false when there is one, which is left as it is. Of several
    /// writers at once exactly one succeeds. On S3 servers that ignore `If-None-Match` the last one does, and
    /// all of them believe so: say something unique in the body and read it back where that matters.
    async fn create(&self, key: &Key, body: Bytes) -> Result<bool>;

    /// Opens an object for reading. [`Kind::NotFound`] when there is none.
    async fn get(&self, key: &Key) -> Result<Reader>;

    /// All objects whose key is `prefix` or lies below it, in the order of their keys.
    /// `None` lists everything.
    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<Entry>>>;

    /// Removes an object. Removing one that does not exist is no error.
    async fn delete(&self, key: &Key) -> Result<()>;
}

/// What every store can do on top of the trait.
impl dyn Store + '_ {
    /// Writes an object from memory.
    pub async fn put_bytes(&self, key: &Key, bytes: impl Into<Bytes>) -> Result<Blob> {
        self.put(key, Box::new(std::io::Cursor::new(bytes.into()))).await
    }

    /// Writes a value as JSON.
    pub async fn put_json<T: Serialize + Sync>(&self, key: &Key, value: &T) -> Result<Blob> {
        self.put_bytes(key, json(key, value)?).await
    }

    /// Writes a value as JSON where there is no such object yet, see [`Store::create`].
    pub async fn create_json<T: Serialize + Sync>(&self, key: &Key, value: &T) -> Result<bool> {
        self.create(key, json(key, value)?.into()).await
    }

    /// Reads an object of at most `limit` bytes into memory.
    pub async fn get_bytes(&self, key: &Key, limit: u64) -> Result<Bytes> {
        let mut bytes = Vec::new();
        let mut reader = self.get(key).await?.take(limit.saturating_add(1));
        reader.read_to_end(&mut bytes).await.context(Kind::Storage, || format!("{key} broke off while it was read"))?;
        if bytes.len() as u64 > limit {
            return Err(Error::data(format!("{key} is larger than the {limit} bytes allowed for it")));
        }
        Ok(bytes.into())
    }

    /// Reads a JSON object of at most `limit` bytes.
    pub async fn get_json<T: DeserializeOwned>(&self, key: &Key, limit: u64) -> Result<T> {
        let bytes = self.get_bytes(key, limit).await?;
        serde_json::from_slice(&bytes).context(Kind::Data, || format!("{key} is not the JSON it should be"))
    }

    /// Reads a referenced object into memory and checks its length and hash.
    pub async fn get_blob(&self, blob: &Blob) -> Result<Bytes> {
        let bytes = self.get_bytes(&blob.key, blob.size).await?;
        blob.check(bytes.len() as u64, &hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes)))?;
        Ok(bytes)
    }
}

fn json<T: Serialize>(key: &Key, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).context(Kind::Internal, || format!("{key} cannot be written as JSON"))
}

impl Blob {
    /// Compares what was read with what was promised.
    pub fn check(&self, size: u64, sha256: &str) -> Result<()> {
        if size != self.size || sha256 != self.sha256 {
            return Err(Error::data(format!(
                "{} is corrupt: {} bytes with SHA-256 {} were written, {size} bytes with {sha256} were read",
                self.key, self.size, self.sha256
            )));
        }
        Ok(())
    }
}

/// Opens the store that `url` names, a folder or `s3://bucket/prefix`, with the endpoint and region of
/// `access`. It must exist; nothing is created.
pub async fn open(url: &str, access: &StoreSettings) -> Result<Arc<dyn Store>> {
    open_within(url, access, PATIENCE).await
}

/// Like [`open`], with a store that goes on trying for `patience` while it is out of reach.
pub async fn open_within(url: &str, access: &StoreSettings, patience: Duration) -> Result<Arc<dyn Store>> {
    match in_s3(url)? {
        true => Ok(Arc::new(S3Store::open(url, access, patience).await?)),
        false => Ok(Arc::new(LocalStore::open(Path::new(url))?)),
    }
}

/// Opens the store that `url` names for writing. A folder is created if need be, a bucket must exist.
pub async fn create(url: &str, access: &StoreSettings) -> Result<Arc<dyn Store>> {
    create_within(url, access, PATIENCE).await
}

/// Like [`create`], with a store that goes on trying for `patience` while it is out of reach.
pub async fn create_within(url: &str, access: &StoreSettings, patience: Duration) -> Result<Arc<dyn Store>> {
    match in_s3(url)? {
        true => Ok(Arc::new(S3Store::open(url, access, patience).await?)),
        false => Ok(Arc::new(LocalStore::create(Path::new(url))?)),
    }
}

/// Whether `url` names a place in S3 and not a folder.
fn in_s3(url: &str) -> Result<bool> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("s3") => Ok(true),
        None if url.is_empty() => Err(Error::usage("store.url is empty: it takes a folder or s3://bucket/prefix")),
        None if url.starts_with("s3:") => {
            Err(Error::usage(format!("'{}' is no store.url: it must look like s3://bucket/prefix", url.escape_debug())))
        }
        // The rest may hold a password.
        Some(other) if other.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => Err(Error::usage(
            format!("store.url takes a folder or s3://bucket/prefix, not {}://", other.escape_debug()),
        )),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_urls_that_are_no_place() {
        let access = StoreSettings { url: "".into(), endpoint: "".into(), region: "".into(), path_style: true };
        for url in ["", "gs://bucket/x", "S3://bucket", "https://me:secret@host/bucket", "s3:bucket", "s3://"] {
            for error in [open(url, &access).await.unwrap_err(), create(url, &access).await.unwrap_err()] {
                assert_eq!(error.kind(), Kind::Usage, "{url}");
                assert!(error.chain().contains("store.url") && !error.chain().contains("secret"), "{error:?}");
            }
        }
    }
}
