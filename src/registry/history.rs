//! The history of a model: numbered entries, each created once. The newest one says what is current.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{LIMIT, Registry};
use crate::error::{Context, Error, Kind, Result};
use crate::gate::Decision;
use crate::store::Key;
use crate::task::VersionId;

/// Entries that are read at the same time.
const AT_ONCE: usize = 16;

/// Tries to append an entry that says nothing about what is current.
const TRIES: usize = 100;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// A version was put there by hand.
    Added,
    /// A version became current.
    Promoted,
    /// A version did not pass the gate.
    Rejected,
    /// A night found nothing new.
    Skipped,
    /// A night failed.
    Failed,
    /// An earlier version became current again.
    RolledBack,
    /// A version was removed since it was old and was never current.
    Removed,
}

impl Happening {
    /// As it is written in files.
    pub fn name(self) -> &'static str {
        match self {
            Happening::Added => "added",
            Happening::Promoted => "promoted",
            Happening::Rejected => "rejected",
            Happening::Skipped => "skipped",
            Happening::Failed => "failed",
            Happening::RolledBack => "rolled-back",
            Happening::Removed => "removed",
        }
    }
}

/// What is to be remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// What happened.
    pub what: Happening,
    /// To which version.
    pub version: Option<VersionId>,
    /// The night it happened in, if it was one.
    #[serde(default)]
    pub night: Option<VersionId>,
    /// Why, in one sentence.
    pub reason: String,
    /// The gate had not let it pass, or could not judge it.
    #[serde(default)]
    pub forced: bool,
    /// What the gate said of a version that was rejected: it goes one day, and its figures with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Decision>,
}

impl Note {
    /// That something happened, to no version and in no night yet.
    pub fn new(what: Happening, reason: impl Into<String>) -> Self {
        Self { what, version: None, night: None, reason: reason.into(), forced: false, gate: None }
    }
}

/// An entry of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place, from 0.
    pub number: u64,
    /// RFC 3339, UTC.
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub note: Note,
    /// The current version from here on.
    pub current: Option<VersionId>,
    /// The one before.
    pub previous: Option<VersionId>,
    /// Tells two writers of the same words apart.
    token: String,
}

impl Registry {
    /// All entries, the oldest first.
    pub async fn history(&self) -> Result<Vec<Entry>> {
        let keys = self.entries().await?;
        stream::iter(keys).map(|key| async move { self.entry(&key).await }).buffered(AT_ONCE).try_collect().await
    }

    /// The current version.
    pub async fn current(&self) -> Result<Option<VersionId>> {
        Ok(self.head().await?.and_then(|entry| entry.current))
    }

    /// The newest entry.
    pub async fn head(&self) -> Result<Option<Entry>> {
        match self.entries().await?.last() {
            Some(key) => self.entry(key).await.map(Some),
            None => Ok(None),
        }
    }

    /// Remembers something that leaves the current version as it is.
    pub async fn note(&self, note: Note) -> Result<Entry> {
        for _ in 0..TRIES {
            let head = self.head().await?;
            let current = head.as_ref().and_then(|h| h.current.clone());
            if let Some(entry) = self.write_after(head.as_ref(), note.clone(), current).await? {
                return Ok(entry);
            }
        }
        Err(Error::storage(format!("the history of {} is written to by too many at once", self.model())))
    }

    /// Makes `version` current, provided that `expected` is until then.
    ///
    /// # Errors
    /// [`Kind::Rejected`] when another one is or becomes current first, [`Kind::NotFound`] when it is being removed.
    pub(super) async fn make_current(
        &self,
        version: &VersionId,
        expected: Option<&VersionId>,
        note: Note,
    ) -> Result<Entry> {
        for _ in 0..TRIES {
            let history = self.history().await?;
            let head = history.last();
            if head.and_then(|h| h.current.as_ref()) != expected {
                return Err(self.overtaken(version, expected, head));
            }
            if is_removed(&history, version) {
                return Err(Error::not_found(format!("version {version} of {} was removed", self.model())));
            }
            if let Some(entry) = self.write_after(head, note.clone(), Some(version.clone())).await? {
                self.point_to(&entry).await?;
                return Ok(entry);
            }
        }
        Err(Error::storage(format!("the history of {} is written to by too many at once", self.model())))
    }

    /// Remembers that `version` is removed, unless it ever was current: whoever promotes it at the same time is first or
    /// finds it removed.
    pub(super) async fn give_up(&self, version: &VersionId, reason: &str) -> Result<bool> {
        for _ in 0..TRIES {
            let history = self.history().await?;
            if history.iter().any(|e| e.current.as_ref() == Some(version)) {
                return Ok(false);
            }
            let head = history.last();
            let note = Note { version: Some(version.clone()), ..Note::new(Happening::Removed, reason) };
            if self.write_after(head, note, head.and_then(|h| h.current.clone())).await?.is_some() {
                return Ok(true);
            }
        }
        Err(Error::storage(format!("the history of {} is written to by too many at once", self.model())))
    }

    fn overtaken(&self, version: &VersionId, expected: Option<&VersionId>, head: Option<&Entry>) -> Error {
        let name = |id: Option<&VersionId>| id.map_or("no version".to_string(), ToString::to_string);
        let since = head.map(|h| format!(" (since {})", h.at)).unwrap_or_default();
        Error::new(
            Kind::Rejected,
            format!(
                "version {version} of {} was not promoted: it was compared with {}, but {} is current now{since}; another \
                 promotion came first, look at it and promote again",
                self.model(),
                name(expected),
                name(head.and_then(|h| h.current.as_ref())),
            ),
        )
    }

    /// Writes the entry that follows `head`; none when somebody else did.
    async fn write_after(&self, head: Option<&Entry>, note: Note, current: Option<VersionId>) -> Result<Option<Entry>> {
        let entry = Entry {
            number: head.map_or(0, |h| h.number + 1),
            at: crate::coordinator::now(),
            note,
            current,
            previous: head.and_then(|h| h.current.clone()),
            token: hex::encode(rand::random::<u128>().to_be_bytes()),
        };
        if head.is_none() {
            self.store.put_bytes(&Key::new("registry")?.join(self.model()), Bytes::new()).await?;
        }
        let key = self.root().join("history").join(format!("{:08}.json", entry.number));
        let body = serde_json::to_vec_pretty(&entry).context(Kind::Internal, || "an entry has no JSON form".into())?;
        if !self.store.create(&key, body.into()).await? {
            return Ok(None);
        }
        // On servers that ignore the condition two may both have been told that they were the first.
        match self.entry(&key).await? {
            found if found.token == entry.token => Ok(Some(entry)),
            _ => Ok(None),
        }
    }

    /// Writes `current.json` once more: whoever promoted last may have died before it did.
    pub async fn point(&self) -> Result<()> {
        match self.head().await? {
            Some(head) => self.point_to(&head).await,
            None => Ok(()),
        }
    }

    /// Writes `current.json`. Whoever is late writes what is true by then.
    async fn point_to(&self, entry: &Entry) -> Result<()> {
        let key = self.root().join("current.json");
        let mut entry = entry.clone();
        loop {
            let pointer = serde_json::json!({ "version": entry.current, "since": entry.at, "entry": entry.number });
            self.store.put_json(&key, &pointer).await?;
            match self.head().await? {
                Some(head) if head.current != entry.current => entry = head,
                _ => return Ok(()),
            }
        }
    }

    async fn entries(&self) -> Result<Vec<Key>> {
        let entries: Vec<_> = self.store.list(Some(&self.root().join("history"))).await?.try_collect().await?;
        Ok(entries.into_iter().map(|e| e.key).collect())
    }

    async fn entry(&self, key: &Key) -> Result<Entry> {
        self.store.get_json(key, LIMIT).await
    }
}

/// Whether `version` was removed, and not added again since.
pub(super) fn is_removed(history: &[Entry], version: &VersionId) -> bool {
    let mut of_it = history.iter().rev().filter(|e| e.note.version.as_ref() == Some(version)).map(|e| e.note.what);
    of_it.find(|what| matches!(what, Happening::Added | Happening::Removed)) == Some(Happening::Removed)
}
