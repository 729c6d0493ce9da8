//! The photos of a night: only new ones are decoded and packed, and the test set stays as it was.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::changes::{Changes, Repack};
use super::embedding::Compared;
use super::lease::Lease;
use super::ledger::{Frozen, Ledger, Page, Stored};
use super::shards;
use crate::config::{Balance, StoreSettings};
use crate::coordinator::preparation::{inspect, list, one_side, remembered};
use crate::coordinator::source;
use crate::coordinator::stage::Job;
use crate::coordinator::training::Shards;
use crate::dataset::drift::{self, Drift};
use crate::dataset::grow::{self, Fate, Known, Packed, Photos, Terms};
use crate::dataset::{Duplicate, Finding, Inspected, Plan, Quarantined, ShardPlan, Split, plan};
use crate::error::{Error, Kind, Result};
use crate::registry::Registry;
use crate::report::LeftOut;

/// What is remembered of a night's photos.
const LIMIT: u64 = 1 << 30;

/// The data set of a night.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Data {
    /// Class names, sorted.
    pub classes: Vec<String>,
    /// What is measured.
    pub frozen: Frozen,
    /// What is trained on.
    train: Vec<Stored>,
    /// What is held.
    held: Vec<Stored>,
    /// Photos trained on and held, per class.
    counts: [Vec<u64>; 2],
    /// See [`Ledger::dataset_sha256`].
    pub dataset_sha256: String,
    /// Photos known before this night.
    pub known: u64,
    /// Photos that came.
    pub new: u64,
    /// Photos that went.
    pub removed: Vec<String>,
    /// Photos in whose place others are now.
    #[serde(default)]
    pub replaced: Vec<String>,
    /// Photos of the frozen test set that are gone from the source.
    pub missing: u64,
    /// New or replaced photos set aside.
    pub quarantined: Vec<Quarantined>,
    /// New or replaced photos dropped.
    pub duplicates: Vec<Duplicate>,
    /// How the new ones differ.
    pub drift: Drift,
    /// The photos on which it is seen how they differ to the model.
    #[serde(default)]
    pub compared: Compared,
    /// What it went on without.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

impl Data {
    /// What training needs.
    pub fn for_training(&self, balance: Balance) -> Shards {
        let blobs = |shards: &[Stored]| shards.iter().map(|s| s.blob.clone()).collect();
        let counts = &self.counts[0];
        let total: u64 = counts.iter().sum();
        let mean = total as f64 / counts.len().max(1) as f64;
        Shards {
            train: blobs(&self.train),
            train_images: total,
            held: blobs(&self.held),
            repeats: match balance {
                Balance::None => Vec::new(),
                Balance::Classes => counts.iter().map(|&n| mean / n.max(1) as f64).collect(),
            },
        }
    }

    /// Photos per side and class.
    pub fn counts(&self) -> Vec<(String, Vec<u64>)> {
        let frozen = (self.frozen.split.name().to_string(), self.frozen.counts(self.classes.len()));
        let [train, held] = self.counts.clone();
        vec![(Split::Train.name().into(), train), (Split::Held.name().into(), held), frozen]
    }
}

/// Finds what is new, decodes and packs it, and writes it down. A night that goes on reads what it found.
pub async fn prepare(job: &mut Job, access: &StoreSettings, registry: &Registry, lease: &Lease) -> Result<Data> {
    let (key, night) = (job.key("plan/night.json"), &lease.night);
    match job.store.get_json::<Data>(&key, LIMIT).await {
        Err(e) if e.kind() == Kind::NotFound => {}
        known => {
            job.left_out.extend(known.iter().flat_map(|data| data.left_out.clone()));
            return known;
        }
    }
    let store = job.store.clone();
    let mut ledger = Ledger::before(&*store, registry, &job.spec.id).await?;
    let first = ledger.is_empty();
    let source = source::open(job, access).await?;
    let here: &Job = job;
    let photos = remembered(here, "plan/photos.json", || list(here, &*source, first)).await?;
    let mut changes = Changes::new(&ledger, photos);
    let inspected = inspect(job, &changes.unseen()).await?;
    let inspected = changes.settle(&ledger.photos, inspected);
    let repack = Repack::new(&ledger.shards, &changes.gone(), &job.spec.settings);
    let before = ledger.summary();
    let known = ledger.photos.len() as u64;
    let found = match first {
        true => start(job, inspected)?,
        false => add(job, inspected, &ledger, &changes, &repack)?,
    };
    let replaced = changes.reported(&ledger.photos, &found.fates);
    let shards = shards::store(job, registry, night, &found.classes, &found.shards).await?;
    let mut page = Page::new(&job.spec.id, night, found.classes.clone());
    if let Some(split) = found.freeze {
        let (frozen, kept) = shards.into_iter().partition(|s| s.split == split);
        page.frozen = Some(Frozen::new(&found.classes, split, frozen));
        page.shards = kept;
    } else {
        page.shards = shards;
    }
    let came = found.fates.values().filter_map(grow::packed).filter(|p| matches!(p.split, Split::Train | Split::Held));
    let came = drift::Photos::of(came.map(|p| (p.label, p.brightness)), found.classes.len());
    let compared = Compared::draw(&ledger.shards, &page.shards, &found.fates, job.spec.settings.job.seed, night);
    (page.fates, page.removed, page.dropped) = (found.fates, changes.removed.clone(), repack.dropped);
    page.fates.extend(changes.unchanged);
    lease.confirm(&*store, registry).await?;
    ledger.append(&*store, registry, page).await?;
    let side = |split| ledger.shards.iter().filter(|s| s.split == split).cloned().collect::<Vec<_>>();
    let data = Data {
        frozen: ledger.frozen.clone().ok_or_else(|| Error::internal("there is no frozen test set"))?,
        train: side(Split::Train),
        held: side(Split::Held),
        counts: [ledger.counts(Split::Train), ledger.counts(Split::Held)],
        dataset_sha256: ledger.dataset_sha256(),
        known,
        new: changes.new.len() as u64,
        removed: changes.removed,
        replaced,
        missing: changes.missing as u64,
        quarantined: found.quarantined,
        duplicates: found.duplicates,
        drift: Drift::new(&found.classes, before, came),
        compared,
        left_out: job.left_out.clone(),
        classes: found.classes,
    };
    if data.train.is_empty() || data.held.is_empty() {
        let empty = if data.train.is_empty() { "train on" } else { "hold back" };
        return Err(Error::data(format!("no photos are left to {empty}: {} were removed", data.removed.len())));
    }
    job.store.put_json(&key, &data).await?;
    Ok(data)
}

/// What is to be packed, and what became of each new photo.
struct Found {
    classes: Vec<String>,
    shards: Vec<ShardPlan>,
    fates: Photos,
    quarantined: Vec<Quarantined>,
    duplicates: Vec<Duplicate>,
    /// The side that is the test set from now on.
    freeze: Option<Split>,
}

/// The first night: everything is new.
fn start(job: &Job, inspected: Vec<Inspected>) -> Result<Found> {
    let s = &job.spec.settings;
    // What nobody has looked at has no fate: to the next night it is new.
    let seen = inspected.iter().filter(|i| !grow::is_unseen(i));
    let seen: BTreeMap<String, Inspected> = seen.map(|i| (i.photo.path.clone(), i.clone())).collect();
    let Plan { classes, shards, quarantined, duplicates } =
        plan::plan(inspected, &one_side(&s.data), s.job.seed, s.train.replicas)?;
    let sides: BTreeSet<Split> = shards.iter().map(|s| s.split).collect();
    let freeze = [Split::Test, Split::Val].into_iter().find(|s| sides.contains(s)).ok_or_else(|| {
        Error::data("there is no test or val side to freeze; set data.test_fraction or data.val_fraction")
    })?;
    let mut fates = Photos::new();
    let mut fate = |path: &str, fate: Fate| {
        fates.extend(seen.get(path).map(|i| (path.to_string(), Known::new(&i.photo, fate))));
    };
    for shard in &shards {
        for sample in &shard.samples {
            let (phash, brightness) = match seen.get(&sample.path).map(|i| &i.finding) {
                Some(Finding::Usable { phash, brightness, .. }) => (*phash, *brightness),
                _ => (0, 0),
            };
            let (label, split, sha256) = (sample.label, shard.split, sample.sha256.clone());
            fate(&sample.path, Fate::Packed(Packed { label, split, sha256, phash, brightness }));
        }
    }
    quarantined.iter().for_each(|q| fate(&q.path, Fate::Quarantined));
    duplicates.iter().for_each(|d| fate(&d.path, Fate::Duplicate));
    Ok(Found { classes, shards, fates, quarantined, duplicates, freeze: Some(freeze) })
}

/// A later night.
fn add(job: &Job, inspected: Vec<Inspected>, ledger: &Ledger, changes: &Changes, repack: &Repack) -> Result<Found> {
    let s = &job.spec.settings;
    let mut known = ledger.photos.clone();
    changes.gone().into_iter().for_each(|path| drop(known.remove(path)));
    let terms = Terms {
        classes: &ledger.classes,
        data: &s.data,
        nightly: &s.nightly,
        seed: s.job.seed,
        replicas: s.train.replicas,
    };
    let growth = grow::grow(inspected, &known, &repack.again, &terms)?;
    Ok(Found {
        classes: ledger.classes.clone(),
        shards: growth.shards,
        fates: growth.fates,
        quarantined: growth.quarantined,
        duplicates: growth.duplicates,
        freeze: None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Layers;
    use crate::store::{LocalStore, Store};
    use crate::task::VersionId;

    #[tokio::test]
    async fn a_night_that_goes_on_knows_what_it_was_without() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let registry = Registry::new(store.clone(), &"flowers".parse().unwrap());
        let settings = Layers::new().unwrap().resolve().unwrap().settings;
        let mut job = Job::for_tests(&store, settings.clone()).await;
        let lost = LeftOut { task: "inspect-00001".into(), why: "failed".into() };
        let classes = ["daisy".to_string(), "rose".to_string()];
        let data = Data {
            classes: classes.to_vec(),
            frozen: Frozen::new(&classes, Split::Test, Vec::new()),
            train: Vec::new(),
            held: Vec::new(),
            counts: Default::default(),
            dataset_sha256: String::new(),
            known: 0,
            new: 1,
            removed: Vec::new(),
            replaced: Vec::new(),
            missing: 0,
            quarantined: Vec::new(),
            duplicates: Vec::new(),
            drift: Drift::new(&classes, drift::Photos::default(), drift::Photos::default()),
            compared: Compared::default(),
            left_out: vec![lost.clone()],
        };
        store.put_json(&job.key("plan/night.json"), &data).await.unwrap();
        let lease = Lease::take(&*store, &registry, &job.spec.id, &VersionId("n1".into()), 60).await.unwrap();
        prepare(&mut job, &settings.store, &registry, &lease).await.unwrap();
        assert_eq!(job.left_out, [lost]);
    }
}
