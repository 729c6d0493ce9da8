//! A store in a local folder: a key is a path below it.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{self, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::{Blob, Entry, Key, Reader, Store};
use crate::error::{Context, Error, Kind, Result};

/// Unfinished writes lie here, on the same file system as the objects, and are never listed.
const PARTIAL: &str = ".partial";

/// Objects as files below a folder.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// A store in `root`, which is created if need be.
    pub fn create(root: &Path) -> Result<Self> {
        let partial = root.join(PARTIAL);
        std::fs::create_dir_all(&partial)
            .context(Kind::Storage, || format!("the folder {} cannot be created or written", root.display()))?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// Removes what writers that were killed left unfinished. Nobody may be writing.
    pub fn discard_unfinished(&self) -> Result<()> {
        let failed = || format!("{} cannot be rid of what an earlier run left", self.root.display());
        for entry in std::fs::read_dir(self.root.join(PARTIAL)).context(Kind::Storage, failed)? {
            let entry = entry.context(Kind::Storage, failed)?;
            std::fs::remove_file(entry.path()).context(Kind::Storage, failed)?;
        }
        Ok(())
    }

    /// A store in a folder that exists and is only read.
    pub fn open(root: &Path) -> Result<Self> {
        std::fs::read_dir(root).context(Kind::Data, || format!("the folder {} cannot be read", root.display()))?;
        Ok(Self { root: root.to_path_buf() })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn put(&self, key: &Key, body: Reader) -> Result<Blob> {
        let refused = || format!("{key} cannot be written below {}", self.root.display());
        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.root);
        tokio::fs::create_dir_all(parent).await.context(Kind::Storage, refused)?;
        // Dropped before it is persisted, the file removes itself.
        let partial = tempfile::NamedTempFile::new_in(self.root.join(PARTIAL)).context(Kind::Storage, refused)?;
        let file = partial.reopen().context(Kind::Storage, refused)?;
        let mut file = tokio::fs::File::from_std(file);
        let mut body = Hashing::new(body);
        tokio::io::copy(&mut body, &mut file).await.context(Kind::Storage, refused)?;
        file.flush().await.context(Kind::Storage, refused)?;
        file.sync_data().await.context(Kind::Storage, refused)?;
        partial.persist(&path).map_err(|e| e.error).context(Kind::Storage, refused)?;
        let (sha256, size) = body.finish();
        Ok(Blob { key: key.clone(), sha256, size })
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<bool> {
        let refused = || format!("{key} cannot be written below {}", self.root.display());
        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.root);
        tokio::fs::create_dir_all(parent).await.context(Kind::Storage, refused)?;
        let mut partial = tempfile::NamedTempFile::new_in(self.root.join(PARTIAL)).context(Kind::Storage, refused)?;
        partial.write_all(&body).context(Kind::Storage, refused)?;
        partial.as_file().sync_data().context(Kind::Storage, refused)?;
        match partial.persist_noclobber(&path) {
            Ok(_) => Ok(true),
            Err(e) if e.error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e.error).context(Kind::Storage, refused),
        }
    }

    async fn get(&self, key: &Key) -> Result<Reader> {
        match tokio::fs::File::open(self.path(key)).await {
            Ok(file) => Ok(Box::new(file)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory) => {
                Err(Error::not_found(format!("there is no object {key} in {}", self.root.display())))
            }
            Err(e) => Err(Error::storage(format!("{key} cannot be read")).because(e)),
        }
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<Entry>>> {
        let (root, start) = (self.root.clone(), prefix.map_or(self.root.clone(), |p| self.path(p)));
        let walk = move || {
            let mut entries: Vec<Result<Entry>> = walkdir::WalkDir::new(&start)
                .follow_links(true)
                .into_iter()
                .filter_entry(|e| e.file_name() != PARTIAL)
                .filter_map(|entry| entry_of(&root, &start, entry).transpose())
                .collect();
            entries.sort_by(|a, b| a.as_ref().ok().map(|e| &e.key).cmp(&b.as_ref().ok().map(|e| &e.key)));
            entries
        };
        let entries =
            tokio::task::spawn_blocking(walk).await.context(Kind::Internal, || "a listing was broken off".into())?;
        Ok(stream::iter(entries).boxed())
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        match tokio::fs::remove_file(self.path(key)).await {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(Error::storage(format!("{key} cannot be deleted")).because(e))
            }
            _ => Ok(()),
        }
    }
}

fn entry_of(
    root: &Path,
    start: &Path,
    entry: std::result::Result<walkdir::DirEntry, walkdir::Error>,
) -> Result<Option<Entry>> {
    let entry = match entry {
        Ok(entry) => entry,
        // A prefix that does not exist holds nothing.
        Err(e) if e.depth() == 0 && e.io_error().is_some_and(|io| io.kind() == ErrorKind::NotFound) => return Ok(None),
        Err(e) if e.loop_ancestor().is_some() => {
            let path = e.path().unwrap_or(start).display().to_string();
            return Err(Error::data(format!("the link {path} leads back to a folder above it")).because(e));
        }
        Err(e) => return Err(Error::storage(format!("{} cannot be listed", start.display())).because(e)),
    };
    if !entry.file_type().is_file() {
        return Ok(None);
    }
    let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
    let name = path
        .to_str()
        .ok_or_else(|| Error::data(format!("the file name {} is not valid UTF-8", entry.path().display())))?;
    let meta = entry.metadata().context(Kind::Storage, || format!("{name} cannot be examined"))?;
    let written = meta.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    Ok(Some(Entry { key: Key::new(name)?, size: meta.len(), stamp: written.map(|time| time.to_string()) }))
}

/// Hashes what passes through.
pub(super) struct Hashing<R> {
    inner: R,
    hash: Sha256,
    size: u64,
}

impl<R> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    /// SHA-256 in hexadecimal and the number of bytes.
    pub(super) fn finish(self) -> (String, u64) {
        (hex::encode(self.hash.finalize()), self.size)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Hashing<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        let new = &buf.filled()[before..];
        self.hash.update(new);
        self.size += new.len() as u64;
        poll
    }
}
