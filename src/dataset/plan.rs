//! What becomes of each photo: set aside, dropped as a duplicate, or put on a side and into a shard.

use std::collections::{BTreeMap, HashMap, HashSet};

use rand::Rng;
use sha2::{Digest, Sha256};

use super::duplicates::{self, Index};
use super::{Duplicate, Finding, Inspected, Plan, Quarantined, Sample, ShardPlan, Split};
use crate::config::DataSettings;
use crate::error::{Error, Result};
use crate::seed::{Purpose, stream};

/// A usable photo on its way through the plan.
struct Candidate {
    path: String,
    class: usize,
    split: Option<Split>,
    sha256: String,
    phash: u64,
    /// Its place in the drawing of lots: from the seed and its path alone.
    rank: u64,
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
/// model that exists already. `classes` are the model's.
///
/// # Errors
/// Of kind `Data`: too many unusable photos, or a class that the model does not know.
pub fn every_photo(photos: Vec<Inspected>, classes: &[String], settings: &DataSettings) -> Result<Plan> {
    let total = photos.len();
    let place: HashMap<&str, usize> = classes.iter().enumerate().map(|(i, c)| (c.as_str(), i)).collect();
    if let Some(stranger) = photos.iter().find(|p| !place.contains_key(p.photo.class.as_str())) {
        return Err(Error::data(format!(
            "the photos have a class {:?} that the model does not know; it knows {}",
            stranger.photo.class,
            classes.iter().take(10).map(|c| format!("{c:?}")).collect::<Vec<_>>().join(", "),
        )));
    }
    let mut sorted: Vec<String> = classes.to_vec();
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
            shard.samples.iter().for_each(|sample| side[sample.label] += 1);
        }
        counts
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
                add(&self.classes[sample.label]);
                add(&sample.sha256);
            }
        }
        hex::encode(hash.finalize())
    }
}

fn sift(photos: Vec<Inspected>, classes: &[String], seed: u64) -> (Vec<Candidate>, Vec<Quarantined>) {
    let (mut usable, mut quarantined) = (Vec::new(), Vec::new());
    for Inspected { photo, finding } in photos {
        match finding {
            Finding::Unusable(reason) => quarantined.push(Quarantined { path: photo.path, reason }),
            Finding::Usable { sha256, phash, .. } => usable.push(Candidate {
                class: classes.binary_search(&photo.class).unwrap_or_default(),
                split: photo.split,
                sha256,
                phash,
                rank: stream(seed, Purpose::Split, 0, &photo.path).next_u64(),
                path: photo.path,
            }),
        }
    }
    usable.sort_by(|a, b| a.path.cmp(&b.path));
    quarantined.sort_by(|a, b| a.path.cmp(&b.path));
    (usable, quarantined)
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

/// Drops training photos that are (nearly) the same as a photo that is measured.
fn drop_straddling(photos: &mut Vec<Candidate>, dropped: &mut Vec<Duplicate>, bits: u32) {
    let measured = |c: &Candidate| matches!(c.split, Some(Split::Val | Split::Test));
    let (mut by_sha256, mut by_phash) = (HashMap::new(), HashMap::new());
    for photo in photos.iter().filter(|c| measured(c)) {
        by_sha256.entry(photo.sha256.clone()).or_insert_with(|| photo.path.clone());
        by_phash.entry(photo.phash).or_insert_with(|| photo.path.clone());
    }
    let index = Index::new(by_phash.keys().copied(), bits);
    photos.retain(|photo| {
        if measured(photo) {
            return true;
        }
        let identical = by_sha256.get(&photo.sha256);
        let same = identical.or_else(|| index.closest(photo.phash).and_then(|hash| by_phash.get(&hash)));
        if let Some(of) = same {
            let (path, of) = (photo.path.clone(), of.clone());
            dropped.push(Duplicate { path, of, identical: identical.is_some() });
        }
        same.is_none()
    });
}

/// Drops all but the first of byte-identical photos that are not on a measured side.
fn drop_identical(photos: &mut Vec<Candidate>, dropped: &mut Vec<Duplicate>) {
    let mut first: HashMap<String, String> = HashMap::new();
    photos.retain(|photo| {
        if matches!(photo.split, Some(Split::Val | Split::Test)) {
            return true;
        }
        match first.get(&photo.sha256) {
            Some(of) => {
                dropped.push(Duplicate { path: photo.path.clone(), of: of.clone(), identical: true });
                false
            }
            None => {
                first.insert(photo.sha256.clone(), photo.path.clone());
                true
            }
        }
    });
}

/// Gives every photo that has no final side one, class by class, near-identical photos together.
fn assign(photos: &mut [Candidate], classes: &[String], settings: &DataSettings) -> Result<()> {
    let is_split = photos.iter().any(|c| c.split.is_some());
    let open: Vec<usize> =
        (0..photos.len()).filter(|&i| matches!(photos[i].split, None | Some(Split::Train))).collect();
    let hashes: Vec<u64> = open.iter().map(|&i| photos[i].phash).collect();
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (&photo, group) in open.iter().zip(duplicates::groups(&hashes, settings.near_duplicate_bits)) {
        groups.entry(group).or_default().push(photo);
    }
    let mut of_class: Vec<Vec<Vec<usize>>> = vec![Vec::new(); classes.len()];
    for group in groups.into_values() {
        of_class[photos[group[0]].class].push(group);
    }
    for (class, groups) in classes.iter().zip(of_class) {
        for (side, group) in sides(class, groups, photos, is_split, settings)? {
            group.iter().for_each(|&photo| photos[photo].split = Some(side));
        }
    }
    Ok(())
}

/// The side of each group of photos of one class.
fn sides(
    class: &str,
    mut groups: Vec<Vec<usize>>,
    photos: &[Candidate],
    is_split: bool,
    settings: &DataSettings,
) -> Result<Vec<(Split, Vec<usize>)>> {
    let share = |fraction: f64, of: usize| match fraction {
        f if f > 0.0 => ((of as f64 * f).round() as usize).max(1),
        _ => 0,
    };
    let total: usize = groups.iter().map(Vec::len).sum();
    let (test, val) = match is_split {
        true => (0, 0),
        false => (share(settings.test_fraction, total), share(settings.val_fraction, total)),
    };
    let held = share(settings.held_fraction, total.saturating_sub(test + val));
    let mut wanted = vec![(Split::Test, test), (Split::Val, val), (Split::Held, held)];
    wanted.retain(|(_, count)| *count > 0);
    let needed = wanted.len() + 1;
    if groups.len() < needed {
        let found = groups.len();
        let names: Vec<&str> = wanted.iter().map(|(side, _)| side.name()).collect();
        return Err(Error::data(format!(
            "class {class:?} has {found} usable, distinct photos{}, and at least {needed} are needed: one for train{}",
            if is_split { " in train/" } else { "" },
            names.iter().map(|name| format!(", one for {name}")).collect::<String>(),
        )));
    }
    groups.sort_by_key(|group| photos[group[0]].rank);
    // The largest group trains, so that a crowd of near-identical photos cannot fill a measured side.
    let largest = (0..groups.len()).max_by_key(|&i| (groups[i].len(), std::cmp::Reverse(i))).unwrap_or_default();
    let mut assigned = vec![(Split::Train, groups.remove(largest))];
    for ((side, left), first) in wanted.iter_mut().zip(groups.drain(..needed - 1)) {
        *left = left.saturating_sub(first.len());
        assigned.push((*side, first));
    }
    for group in groups {
        let fitting = wanted.iter_mut().find(|(_, left)| *left >= group.len());
        let side = fitting.map_or(Split::Train, |(side, left)| {
            *left -= group.len();
            *side
        });
        assigned.push((side, group));
    }
    Ok(assigned)
}

fn shards(photos: Vec<Candidate>, shard_images: usize, replicas: usize) -> Result<Vec<ShardPlan>> {
    let mut sides: BTreeMap<Split, Vec<Candidate>> = BTreeMap::new();
    for photo in photos {
        if let Some(split) = photo.split {
            sides.entry(split).or_default().push(photo);
        }
    }
    let (mut shards, mut keys) = (Vec::new(), HashSet::new());
    for (split, photos) in sides {
        let replicas = if split == Split::Train { replicas.max(1) } else { 1 };
        if photos.len() < replicas {
            let photos = photos.len();
            return Err(Error::data(format!("{photos} photos to train on are too few for {replicas} replicas")));
        }
        let count = photos.len().div_ceil(shard_images.max(1)).next_multiple_of(replicas).min(photos.len());
        let count = count - count % replicas;
        let photos = spread(photos);
        let total = photos.len();
        let mut photos = photos.into_iter();
        for index in 0..count {
            let size = (index + 1) * total / count - index * total / count;
            let samples = photos.by_ref().take(size).map(|photo| Sample {
                key: key(&photo.path, &mut keys),
                label: photo.class,
                path: photo.path,
                sha256: photo.sha256,
            });
            shards.push(ShardPlan { split, index, samples: samples.collect() });
        }
    }
    Ok(shards)
}

/// An order in which every stretch has the classes in about their overall shares.
fn spread(mut photos: Vec<Candidate>) -> Vec<Candidate> {
    photos.sort_by_key(|photo| (photo.class, photo.rank));
    let mut totals = HashMap::new();
    photos.iter().for_each(|photo| *totals.entry(photo.class).or_insert(0usize) += 1);
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut placed: Vec<(f64, Candidate)> = photos
        .into_iter()
        .map(|photo| {
            let nth = seen.entry(photo.class).or_default();
            let place = (*nth as f64 + 0.5) / totals[&photo.class] as f64;
            *nth += 1;
            (place, photo)
        })
        .collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.class.cmp(&b.1.class)));
    placed.into_iter().map(|(_, photo)| photo).collect()
}

/// A key that is unique in the data set: the file's stem in ASCII letters, digits, `_` and `-`, and
/// eight hexadecimal digits of the SHA-256 of its path (more where two would be alike).
fn key(path: &str, taken: &mut HashSet<String>) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let clean = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    let stem: String = stem.chars().take(40).map(clean).collect();
    let hash = hex::encode(Sha256::digest(path));
    let mut digits = 8;
    loop {
        let key = format!("{stem}-{}", &hash[..digits]);
        if digits == hash.len() || !taken.contains(&key) {
            taken.insert(key.clone());
            return key;
        }
        digits += 8;
    }
}
