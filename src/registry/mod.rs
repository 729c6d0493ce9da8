//! Versions of models on the store, which one is current, and how it came to be.
//!
//! ```text
//! registry/<model>                            a marker per model
//! models/<model>/versions/<v>/…               the files of a version; version.json last: without it there is none
//! models/<model>/history/00000000.json, …     what happened, each entry created once and never changed
//! models/<model>/current.json                 the current version once more, for readers that are not Hardy
//! models/<model>/data/…                       the photos of a model that is retrained nightly
//! ```
//!
//! The newest entry of the history says what is current. Two promotions at once both try to create the
//! same next entry: one succeeds, the other is told. So there is no moment at which history and `current`
//! differ, or at which a reader could find half a model.

mod history;
mod promotion;
mod retention;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod trend;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;

pub use history::{Entry, Happening, Note};
pub use promotion::Forced;
pub use version::{OUTCOMES, Version, WEIGHTS};

use crate::error::{Error, Kind, Result};
use crate::store::{Key, Store};
use crate::task::{ModelName, VersionId};

/// The description of a version; it is written last.
const DESCRIPTION: &str = "version.json";

/// Descriptions are refused above this size.
const LIMIT: u64 = 16 << 20;

/// The registry of one model.
#[derive(Debug, Clone)]
pub struct Registry {
    store: Arc<dyn Store>,
    model: ModelName,
}

impl Registry {
    /// That of `model` on `store`; nothing needs to be there yet.
    pub fn new(store: Arc<dyn Store>, model: &ModelName) -> Self {
        Self { store, model: model.clone() }
    }

    /// Every model that has a registry on `store`.
    pub async fn models(store: &dyn Store) -> Result<Vec<ModelName>> {
        let entries: Vec<_> = store.list(Some(&Key::new("registry")?)).await?.try_collect().await?;
        entries.into_iter().map(|e| e.key.name().parse()).collect()
    }

    /// The model.
    pub fn model(&self) -> &ModelName {
        &self.model
    }

    /// Everything of the model lies below this key.
    pub fn root(&self) -> Key {
        #[expect(clippy::expect_used, reason = "model names are made of the letters of a checked name")]
        Key::new(format!("models/{}", self.model)).expect("a sound model name")
    }

    fn folder(&self, version: &VersionId) -> Key {
        self.root().join("versions").join(version)
    }

    /// Every complete version, the oldest first.
    pub async fn versions(&self) -> Result<Vec<Version>> {
        let mut all = Vec::new();
        for (id, keys) in self.listed().await? {
            if keys.iter().any(|k| k.name() == DESCRIPTION) {
                match self.version(&id).await {
                    // It was removed while the others were read.
                    Err(e) if e.kind() == Kind::NotFound => {}
                    version => all.push(version?),
                }
            }
        }
        all.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
        Ok(all)
    }

    /// The keys of every version, also of those that are not complete.
    async fn listed(&self) -> Result<BTreeMap<VersionId, Vec<Key>>> {
        let root = self.root().join("versions");
        let mut found: BTreeMap<VersionId, Vec<Key>> = BTreeMap::new();
        let mut entries = self.store.list(Some(&root)).await?;
        while let Some(entry) = entries.try_next().await? {
            let below = entry.key.as_str()[root.as_str().len()..].trim_start_matches('/');
            if let Some((id, _)) = below.split_once('/') {
                found.entry(id.parse()?).or_default().push(entry.key);
            }
        }
        Ok(found)
    }

    /// The description of a version.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such version, or only a part of one.
    pub async fn version(&self, id: &VersionId) -> Result<Version> {
        let found: Version = match self.store.get_json(&self.folder(id).join(DESCRIPTION), LIMIT).await {
            Err(e) if e.kind() == Kind::NotFound => return Err(self.missing(id).await?),
            found => found?,
        };
        found.check(id)
    }

    /// What to say of a version that is not there.
    async fn missing(&self, id: &VersionId) -> Result<Error> {
        let listed = self.listed().await?;
        if listed.contains_key(id) {
            return Ok(Error::not_found(format!(
                "version {id} of {} is not complete: it has no {DESCRIPTION}, so whoever wrote it broke off",
                self.model
            )));
        }
        let names: Vec<&str> = listed.keys().rev().take(5).map(|v| v.0.as_str()).collect();
        let known =
            if names.is_empty() { "it has none".into() } else { format!("the newest are {}", names.join(", ")) };
        Ok(Error::not_found(format!("there is no version {id} of {}; {known}", self.model)))
    }

    /// A file of a version, checked against its hash.
    pub async fn file(&self, version: &Version, name: &str) -> Result<Bytes> {
        let blob = version
            .files
            .get(name)
            .ok_or_else(|| Error::not_found(format!("version {} of {} has no file {name}", version.id, self.model)))?;
        self.store.get_blob(blob).await
    }

    /// Writes a version, its description last. The same version written twice is one; `files` are `(name, bytes)`.
    ///
    /// # Errors
    /// [`Kind::Usage`] when another version has this name already.
    pub async fn publish(&self, draft: Version, files: Vec<(String, Bytes)>) -> Result<Version> {
        match self.version(&draft.id).await {
            Ok(known) if known.job == draft.job && known.checkpoint_sha256 == draft.checkpoint_sha256 => {
                return Ok(known);
            }
            Ok(known) => {
                return Err(Error::usage(format!(
                    "there is a version {} of {} already, made by {}; choose another name",
                    known.id, self.model, known.job
                )));
            }
            Err(e) if e.kind() == Kind::NotFound => {}
            Err(e) => return Err(e),
        }
        self.store.put_bytes(&Key::new("registry")?.join(&self.model), Bytes::new()).await?;
        let mut version = draft;
        for (name, bytes) in files {
            let key = Key::new(format!("{}/{name}", self.folder(&version.id).as_str()))?;
            let blob = self.store.put_bytes(&key, bytes).await?;
            version.files.insert(name, blob);
        }
        let key = self.folder(&version.id).join(DESCRIPTION);
        let body = version.to_json()?;
        if !self.store.create(&key, body).await? {
            return Err(Error::usage(format!(
                "version {} of {} was written by somebody else at the same time",
                version.id, self.model
            )));
        }
        Ok(version)
    }
}
