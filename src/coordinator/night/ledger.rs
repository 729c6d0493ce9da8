//! The photos of a model over the nights: an append-only list of what each night added and removed.

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dataset::drift;
use crate::dataset::grow::{self, Photos};
use crate::dataset::{Sample, Split};
use crate::error::{Error, Result};
use crate::registry::Registry;
use crate::store::{Blob, Key, Store};
use crate::task::{JobId, VersionId};

/// The format of a page.
const FORMAT: u32 = 1;

/// Pages are refused above this size.
const LIMIT: u64 = 1 << 30;

/// A shard that stays over the nights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The side of its photos.
    pub split: Split,
    /// Its photos, in order.
    pub samples: Vec<Sample>,
    /// Where it lies.
    pub blob: Blob,
}

/// The test set, frozen in the first night. It has its own copies of its photos.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// SHA-256 over classes, photos and shards.
    pub sha256: String,
    /// `test`, or `val` where there was none.
    pub split: Split,
    /// Its shards.
    pub shards: Vec<Stored>,
}

/// What one night did to the data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    version: u32,
    /// The job that wrote it.
    pub job: JobId,
    /// Its night.
    pub night: VersionId,
    /// Class names, sorted; the same on every page.
    pub classes: Vec<String>,
    /// On the first page.
    pub frozen: Option<Frozen>,
    /// What became of each photo that came or was looked at again.
    pub fates: Photos,
    /// Photos that went.
    pub removed: Vec<String>,
    /// Shards that were made.
    pub shards: Vec<Stored>,
    /// Shards that are no longer used: photos of them went or were replaced, or they were packed together.
    pub dropped: Vec<Key>,
}

/// All pages together.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Class names; empty before the first night.
    pub classes: Vec<String>,
    /// The test set; none before the first night.
    pub frozen: Option<Frozen>,
    /// Every photo by its path.
    pub photos: Photos,
    /// Shards to train on and to hold, in the order of the nights.
    pub shards: Vec<Stored>,
    pages: u64,
}

impl Frozen {
    /// Freezes shards.
    pub fn new(classes: &[String], split: Split, shards: Vec<Stored>) -> Self {
        Self { sha256: digest(classes, &shards), split, shards }
    }

    /// Images of each class.
    pub fn counts(&self, classes: usize) -> Vec<u64> {
        counts(&self.shards, classes)
    }

    fn check(&self, classes: &[String], at: &Key) -> Result<()> {
        let found = digest(classes, &self.shards);
        match found == self.sha256 {
            true => Ok(()),
            false => Err(Error::data(format!(
                "the frozen test set was changed: {at} describes one with SHA-256 {found} and calls it {}; restore it, or \
                 begin another model (job.name)",
                self.sha256
            ))),
        }
    }
}

fn digest(classes: &[String], shards: &[Stored]) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    classes.iter().for_each(|class| add(class));
    for shard in shards {
        add(&shard.blob.sha256);
        for sample in &shard.samples {
            add(&sample.key);
            add(&sample.label.to_string());
            add(&sample.sha256);
        }
    }
    hex::encode(hash.finalize())
}

fn counts(shards: &[Stored], classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    for sample in shards.iter().flat_map(|s| &s.samples) {
        if let Some(count) = counts.get_mut(sample.label) {
            *count += 1;
        }
    }
    counts
}

impl Ledger {
    /// Reads what all nights but that of `job` wrote.
    ///
    /// # Errors
    /// Of kind `Data` when the frozen test set is not what it says to be.
    pub async fn before(store: &dyn Store, registry: &Registry, job: &JobId) -> Result<Self> {
        let root = pages(registry);
        let entries: Vec<_> = store.list(Some(&root)).await?.try_collect().await?;
        let mut ledger = Self::default();
        for entry in entries {
            let page: Page = store.get_json(&entry.key, LIMIT).await?;
            if page.version != FORMAT {
                let found = page.version;
                return Err(Error::data(format!("{} has format {found}, this program reads {FORMAT}", entry.key)));
            }
            if page.job == *job {
                break;
            }
            if let Some(frozen) = &page.frozen {
                frozen.check(&page.classes, &entry.key)?;
            }
            ledger.absorb(page);
        }
        Ok(ledger)
    }

    /// Adds a page.
    pub fn absorb(&mut self, page: Page) {
        self.pages += 1;
        self.classes = page.classes;
        self.frozen = self.frozen.take().or(page.frozen);
        for path in &page.removed {
            self.photos.remove(path);
        }
        self.photos.extend(page.fates);
        self.shards.retain(|s| !page.dropped.contains(&s.blob.key));
        self.shards.extend(page.shards);
    }

    /// Whether no night has been yet.
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// Writes the page that follows.
    ///
    /// # Errors
    /// Of kind `Job` when another job wrote it meanwhile, or the same one with other photos.
    pub async fn append(&mut self, store: &dyn Store, registry: &Registry, page: Page) -> Result<()> {
        let key = pages(registry).join(format!("{:06}.json", self.pages));
        let body = serde_json::to_vec(&page).map_err(|e| Error::internal("a page has no JSON form").because(e))?;
        if !store.create(&key, body.into()).await? {
            let found: Page = store.get_json(&key, LIMIT).await?;
            if found.job != page.job {
                return Err(Error::job(format!(
                    "night {} of {} added photos at the same time as this one; two nights of one model overlap",
                    found.night,
                    registry.model()
                )));
            }
            // A job that goes on finds what it wrote. One that begins anew under its name may not change what others
            // build on.
            if found != page {
                return Err(Error::job(format!(
                    "night {} of {} was run before, with other photos, and its job is gone; give another --night",
                    page.night,
                    registry.model()
                )));
            }
        }
        self.absorb(page);
        Ok(())
    }

    /// Photos of each class on one side.
    pub fn counts(&self, split: Split) -> Vec<u64> {
        let side: Vec<Stored> = self.shards.iter().filter(|s| s.split == split).cloned().collect();
        counts(&side, self.classes.len())
    }

    /// SHA-256 over what is trained on and held: the same photos on the same sides give the same, however
    /// they are packed.
    pub fn dataset_sha256(&self) -> String {
        let mut lines: Vec<String> = self.classes.clone();
        let mut photos: Vec<String> = Vec::new();
        for shard in &self.shards {
            let side = shard.split.name();
            photos.extend(shard.samples.iter().map(|s| format!("{side} {} {}", s.label, s.sha256)));
        }
        photos.sort();
        lines.extend(photos);
        hex::encode(Sha256::digest(lines.join("\n")))
    }

    /// The photos that are trained on and held, summed up.
    pub fn summary(&self) -> drift::Photos {
        let packed = self.photos.values().filter_map(grow::packed);
        let trained = packed.filter(|p| matches!(p.split, Split::Train | Split::Held));
        drift::Photos::of(trained.map(|p| (p.label, p.brightness)), self.classes.len())
    }
}

impl Page {
    /// A page of the present format that changes nothing yet.
    pub fn new(job: &JobId, night: &VersionId, classes: Vec<String>) -> Self {
        Self {
            version: FORMAT,
            job: job.clone(),
            night: night.clone(),
            classes,
            frozen: None,
            fates: Photos::new(),
            removed: Vec::new(),
            shards: Vec::new(),
            dropped: Vec::new(),
        }
    }
}

fn pages(registry: &Registry) -> Key {
    registry.root().join("data/pages")
}
