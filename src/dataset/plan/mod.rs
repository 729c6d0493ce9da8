//! What becomes of each photo: set aside, dropped as a duplicate, or put on a side and into a shard.

mod copies;
mod shards;
mod sides;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use rand::Rng;
use sha2::{Digest, Sha256};

use super::{Finding, Inspected, Plan, Quarantined, Split};
use crate::config::DataSettings;
use crate::error::{Error, Result};
use crate::seed::{Purpose, stream};

pub(super) use copies::drop_identical;
pub use shards::shard_count;
pub(super) use shards::shards;

use copies::drop_straddling;
use sides::assign;

/// A usable photo on its way through the plan.
pub(super) struct Candidate {
    pub(super) path: String,
    pub(super) class: usize,
    pub(super) split: Option<Split>,
    pub(super) sha256: String,
    pub(super) phash: u64,
    /// Its place in the drawing of lots: from the seed and its path alone.
    pub(super) rank: u64,
}

/// Decides about all photos; the same photos, settings and seed give the same plan in whatever
/// order they come.
///
/// 1. Photos that cannot be used are set aside; a larger share than `quarantine_limit` is an error.
/// 2. Duplicates. An existing split is kept: a training photo that is (nearly) the same as one in
///    `val` or `test` is dropped, while those two sides stay as their author made them. Without one,
///    (nearly) the same photos are put on one side together. Of byte-identical files on the training
///    side, and anywhere in a source that is not split, one is kept.
/// 3. Split, per class: `test_fraction` and `val_fraction` of its photos where the source is not
///    split (a `train` folder alone is no split), then `held_fraction` of what remains; each share
///    rounded, and one photo at least where it is not 0.
/// 4. Shards of at most `shard_images`; the training side gets a multiple of `replicas`.
///
/// # Errors
/// Of kind `Data`: too many unusable photos, or a class with fewer distinct photos than sides.
pub fn plan(photos: Vec<Inspected>, settings: &DataSettings, seed: u64, replicas: u32) -> Result<Plan> {
    let total = photos.len();
    let mut classes: Vec<String> = photos.iter().map(|p| p.photo.class.clone()).collect();
    classes.sort();
    classes.dedup();

    let (mut usable, quarantined) = sift(photos, &classes, seed);
    check_quarantine(&quarantined, total, settings)?;

    let mut duplicates = Vec::new();
    if usable.iter().any(|c| matches!(c.split, Some(Split::Val | Split::Test))) {
        drop_straddling(&mut usable, &mut duplicates, settings.near_duplicate_bits);
    } else {
        usable.iter_mut().for_each(|c| c.split = None);
    }
    drop_identical(&mut usable, &mut duplicates);
    duplicates.sort_by(|a, b| a.path.cmp(&b.path));

    assign(&mut usable, &classes, settings)?;
    let shards = shards(usable, settings.shard_images, replicas as usize)?;
    Ok(Plan { classes, shards, quarantined, duplicates })
}

/// Puts every usable photo into a shard, duplicates too, on the side its source has it on (`test`
/// where there are none), labelled by its place in `classes`: for measuring and attacking with a
/// model that exists already. `classes` are the model's. A photo of no known class, whose class is empty, is
/// labelled by their number, which is no class.
///
/// # Errors
/// Of kind `Data`: too many unusable photos, or a class that the model does not know.
pub fn every_photo(photos: Vec<Inspected>, classes: &[String], settings: &DataSettings) -> Result<Plan> {
    let total = photos.len();
    let mut place: HashMap<&str, usize> = classes.iter().enumerate().map(|(i, c)| (c.as_str(), i)).collect();
    place.entry("").or_insert(classes.len());
    if let Some(stranger) = photos.iter().find(|p| !place.contains_key(p.photo.class.as_str())) {
        return Err(Error::data(format!(
            "the photos have a class {:?} that the model does not know; it knows {}",
            stranger.photo.class,
            classes.iter().take(10).map(|c| format!("{c:?}")).collect::<Vec<_>>().join(", "),
        )));
    }
    let mut sorted: Vec<String> = classes.to_vec();
    sorted.push(String::new());
    sorted.sort();
    let (mut usable, quarantined) = sift(photos, &sorted, 0);
    check_quarantine(&quarantined, total, settings)?;
    for photo in &mut usable {
        photo.class = place[sorted[photo.class].as_str()];
        photo.split = photo.split.or(Some(Split::Test));
    }
    let shards = shards(usable, settings.shard_images, 1)?;
    Ok(Plan { classes: classes.to_vec(), shards, quarantined, duplicates: Vec::new() })
}

impl Plan {
    /// Photos per class on each side that has any.
    pub fn counts(&self) -> BTreeMap<Split, Vec<usize>> {
        let mut counts = BTreeMap::new();
        for shard in &self.shards {
            let side = counts.entry(shard.split).or_insert_with(|| vec![0; self.classes.len()]);
            shard.samples.iter().for_each(|sample| side.get_mut(sample.label).into_iter().for_each(|n| *n += 1));
        }
        counts
    }

    /// Sets the photos of the shards aside that `lost` marks.
    pub fn leave_out(&mut self, lost: &[bool], reason: &str) {
        let mut lost = lost.iter();
        for shard in self.shards.extract_if(.., |_| lost.next().copied().unwrap_or(false)) {
            let photos = shard.samples.into_iter();
            self.quarantined.extend(photos.map(|s| Quarantined { path: s.path, reason: reason.into() }));
        }
        self.quarantined.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// SHA-256 over classes, sides and photos in their order: two plans with the same one train and
    /// measure on the same files in the same order.
    pub fn dataset_sha256(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        self.classes.iter().for_each(|class| add(class));
        for shard in &self.shards {
            add(shard.split.name());
            for sample in &shard.samples {
                add(&sample.key);
                add(self.classes.get(sample.label).map_or("", String::as_str));
                add(&sample.sha256);
            }
        }
        hex::encode(hash.finalize())
    }
}

/// The usable photos, and the others with the reason.
pub(super) fn sift(photos: Vec<Inspected>, classes: &[String], seed: u64) -> (Vec<Candidate>, Vec<Quarantined>) {
    let (mut usable, mut quarantined) = (Vec::new(), Vec::new());
    for Inspected { photo, finding } in photos {
        match finding {
            Finding::Unusable(reason) | Finding::Unseen(reason) => {
                quarantined.push(Quarantined { path: photo.path, reason });
            }
            Finding::Usable { sha256, phash, .. } => usable.push(Candidate {
                class: classes.binary_search(&photo.class).unwrap_or_default(),
                split: photo.split,
                sha256,
                phash,
                rank: rank(seed, &photo.path),
                path: photo.path,
            }),
        }
    }
    usable.sort_by(|a, b| a.path.cmp(&b.path));
    quarantined.sort_by(|a, b| a.path.cmp(&b.path));
    (usable, quarantined)
}

pub(super) fn rank(seed: u64, path: &str) -> u64 {
    stream(seed, Purpose::Split, 0, path).next_u64()
}

fn check_quarantine(quarantined: &[Quarantined], total: usize, settings: &DataSettings) -> Result<()> {
    let share = quarantined.len() as f64 / total.max(1) as f64;
    if share <= settings.quarantine_limit {
        return Ok(());
    }
    let first: Vec<String> = quarantined.iter().take(3).map(|q| format!("{:?}: {}", q.path, q.reason)).collect();
    Err(Error::data(format!(
        "{} of {total} photos cannot be used ({:.1} %, data.quarantine_limit allows {:.1} %), the first: {}",
        quarantined.len(),
        100.0 * share,
        100.0 * settings.quarantine_limit,
        first.join("; "),
    )))
}
