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

pub(super) fn sift(photos: Vec<Inspected>, classes: &[String], seed: u64) -> (Vec<Candidate>, Vec<Quarantined>) {
    let (mut usable, mut quarantined) = (Vec::new(), Vec::new());
    for Inspected { photo, finding } in photos {
        match finding {
            Finding::Unusable(reason) => quarantined.push(Quarantined { path: photo.path, reason }),
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
pub(super) fn drop_identical(photos: &mut Vec<Candidate>, dropped: &mut Vec<Duplicate>) {
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

pub(super) fn shards(photos: Vec<Candidate>, shard_images: usize, replicas: usize) -> Result<Vec<ShardPlan>> {
    let mut sides: BTreeMap<Split, Vec<Candidate>> = BTreeMap::new();
    for photo in photos {
        if let Some(split) = photo.split {
            sides.entry(split).or_default().push(photo);
        }
    }
    let (mut shards, mut keys) = (Vec::new(), HashSet::new());
    for (split, photos) in sides {
        let count = shard_count(split, photos.len(), shard_images, replicas);
        if count == 0 {
            let photos = photos.len();
            return Err(Error::data(format!("{photos} photos to train on are too few for {replicas} replicas")));
        }
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

/// Shards of at most `shard_images` that `photos` of a side become: on the training side a multiple of `replicas`, and 0
/// where there are fewer photos than that.
pub fn shard_count(split: Split, photos: usize, shard_images: usize, replicas: usize) -> usize {
    let replicas = if split == Split::Train { replicas.max(1) } else { 1 };
    let count = photos.div_ceil(shard_images.max(1)).next_multiple_of(replicas).min(photos);
    count - count % replicas
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dataset::Photo;
    use crate::dataset::fixtures::settings;
    use proptest::prelude::*;

    fn inspected(path: &str, split: Option<Split>, content: u64, phash: u64) -> Inspected {
        let class = path.rsplit('/').nth(1).unwrap().to_owned();
        let photo = Photo { path: path.into(), class, split, size: 1, stamp: None };
        let finding =
            Finding::Usable { sha256: format!("{content:064x}"), phash, width: 9, height: 9, brightness: 500 };
        Inspected { photo, finding }
    }

    /// Photos `class/n.jpg` that look like no other.
    fn different(counts: &[(&str, usize)]) -> Vec<Inspected> {
        let paths = counts.iter().flat_map(|(class, count)| (0..*count).map(move |i| format!("{class}/{i}.jpg")));
        let unlike = |path: &str| u64::from_be_bytes(Sha256::digest(path)[..8].try_into().unwrap());
        paths.map(|path| inspected(&path, None, unlike(&path), unlike(&path))).collect()
    }

    fn on(split: Split, photos: Vec<Inspected>) -> impl Iterator<Item = Inspected> {
        photos.into_iter().map(move |mut p| {
            p.photo.path = format!("{}/{}", split.name(), p.photo.path);
            p.photo.split = Some(split);
            p
        })
    }

    fn sides_of(plan: &Plan) -> HashMap<String, Split> {
        plan.shards.iter().flat_map(|s| s.samples.iter().map(move |p| (p.path.clone(), s.split))).collect()
    }

    #[test]
    fn the_split_is_stratified_and_depends_on_the_seed_alone() {
        let photos = different(&[("a", 100), ("b", 37)]);
        let mut shuffled = photos.clone();
        shuffled.reverse();
        let first = plan(photos.clone(), &settings(), 1, 2).unwrap();
        assert_eq!(first, plan(shuffled, &settings(), 1, 2).unwrap());
        let other = plan(photos, &settings(), 2, 2).unwrap();
        assert_ne!(sides_of(&first), sides_of(&other));
        assert_ne!(first.dataset_sha256(), other.dataset_sha256());
        // 15 % of 100 and 37, then 10 % of what remains, rounded.
        for plan in [first, other] {
            let expected =
                [(Split::Train, [63, 22]), (Split::Held, [7, 3]), (Split::Val, [15, 6]), (Split::Test, [15, 6])];
            assert_eq!(plan.counts(), expected.map(|(side, counts)| (side, counts.to_vec())).into());
        }
    }

    #[test]
    fn an_existing_split_is_kept_but_for_training_copies_of_what_is_measured() {
        let mut photos: Vec<Inspected> = on(Split::Train, different(&[("a", 20), ("b", 20)])).collect();
        photos.extend(on(Split::Val, different(&[("c", 5), ("d", 5)])).map(|mut p| {
            p.photo.class = if p.photo.class == "c" { "a".into() } else { "b".into() };
            p
        }));
        photos.push(inspected("val/a/new.jpg", Some(Split::Val), 1, 0b0000));
        photos.push(inspected("val/a/near.jpg", Some(Split::Val), 2, 0b0001));
        photos.push(inspected("train/a/same.jpg", Some(Split::Train), 1, 0b0000));
        photos.push(inspected("train/b/similar.jpg", Some(Split::Train), 3, 0b0110));
        photos.push(inspected("train/b/other.jpg", Some(Split::Train), 4, 0xFF00));
        photos.push(inspected("train/b/other again.jpg", Some(Split::Train), 4, 0xFF00));
        let plan = plan(photos, &settings(), 1, 1).unwrap();
        let duplicate = |path: &str, of: &str, identical| Duplicate { path: path.into(), of: of.into(), identical };
        let expected = [
            duplicate("train/a/same.jpg", "val/a/new.jpg", true),
            duplicate("train/b/other.jpg", "train/b/other again.jpg", true),
            duplicate("train/b/similar.jpg", "val/a/new.jpg", false),
        ];
        assert_eq!(plan.duplicates, expected);
        assert_eq!(plan.counts()[&Split::Val], [7, 5]);
        assert_eq!(plan.counts()[&Split::Held], [2, 2]);
        assert_eq!(plan.counts()[&Split::Train], [18, 19]);
        assert!(!plan.counts().contains_key(&Split::Test));
    }

    #[test]
    fn a_train_folder_alone_is_split_like_any_other_source() {
        let photos: Vec<Inspected> = on(Split::Train, different(&[("a", 20), ("b", 20)])).collect();
        assert_eq!(plan(photos, &settings(), 1, 1).unwrap().counts()[&Split::Val], [3, 3]);
    }

    #[test]
    fn too_few_photos_are_refused_with_how_many_are_needed() {
        let message = plan(different(&[("a", 20), ("b", 1)]), &settings(), 1, 1).unwrap_err().to_string();
        let expected = "class \"b\" has 1 usable, distinct photos, and at least 4 are needed: \
                        one for train, one for test, one for val, one for held";
        assert_eq!(message, expected);
        assert!(plan(different(&[("a", 4), ("b", 4)]), &settings(), 1, 1).is_ok());
        let message = plan(different(&[("a", 4), ("b", 4)]), &settings(), 1, 3).unwrap_err().to_string();
        assert!(message.contains("too few for 3 replicas"), "{message}");

        let split = on(Split::Train, different(&[("a", 5), ("b", 1)])).chain(on(Split::Val, different(&[("a", 1)])));
        let split = split.enumerate().map(|(i, mut p)| {
            if let Finding::Usable { sha256, phash, .. } = &mut p.finding {
                *sha256 = i.to_string();
                *phash = u64::from_be_bytes(Sha256::digest([i as u8])[..8].try_into().unwrap());
            }
            p
        });
        let message = plan(split.collect(), &settings(), 1, 1).unwrap_err().to_string();
        assert!(message.contains("in train/, and at least 2 are needed: one for train, one for held"), "{message}");
    }

    #[test]
    fn unusable_photos_are_set_aside_up_to_the_limit() {
        let mut photos = different(&[("a", 20), ("b", 20)]);
        photos.iter_mut().step_by(10).for_each(|p| p.finding = Finding::Unusable("the file is empty".into()));
        let found = plan(photos.clone(), &settings(), 1, 1).unwrap();
        assert_eq!(found.quarantined.len(), 4);
        photos[1].finding = Finding::Unusable("it has no pixels".into());
        let message = plan(photos, &settings(), 1, 1).unwrap_err().to_string();
        let start = "5 of 40 photos cannot be used (12.5 %, data.quarantine_limit allows 10.0 %), the first: \
                     \"a/0.jpg\": the file is empty; \"a/1.jpg\": it has no pixels; \"a/10.jpg\"";
        assert!(message.starts_with(start), "{message}");
    }

    #[test]
    fn keys_are_plain_and_unique() {
        let mut taken = HashSet::new();
        let keys: Vec<String> = ["a/my photo.v2.jpg", "b/my photo.v2.jpg", "a/日本\n.png", "a/.x"]
            .iter()
            .map(|p| key(p, &mut taken))
            .collect();
        assert!(keys[0].starts_with("my_photo_v2-") && keys[0] != keys[1] && keys[2].starts_with("___-"));
        assert!(keys.iter().flat_map(|k| k.chars()).all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        let again = key("a/my photo.v2.jpg", &mut taken);
        assert!(again.len() == keys[0].len() + 8 && again.starts_with(&keys[0]));
    }

    proptest! {
        /// Few distinct files and looks, so that many photos are alike, over random sides.
        #[test]
        fn nothing_straddles_and_nothing_is_lost(
            looks in prop::collection::vec((0u64..30, 0usize..8, any::<bool>()), 60..160),
            is_split in any::<bool>(), seed in any::<u64>(), replicas in 1u32..5, shard_images in 1usize..40)
        {
            let photos: Vec<Inspected> = looks.iter().enumerate().map(|(i, &(look, noise, measured))| {
                let class = if look % 2 == 0 { "a" } else { "b" };
                let split = is_split.then_some(if measured { Split::Val } else { Split::Train });
                let phash = u64::from_be_bytes(Sha256::digest(look.to_le_bytes())[..8].try_into().unwrap());
                let side = split.map_or("all", Split::name);
                inspected(&format!("{side}/{class}/{i}.jpg"), split, 100 * look + noise as u64, phash ^ (noise as u64 % 3))
            }).collect();
            let settings = DataSettings { shard_images, ..settings() };
            let Ok(plan) = plan(photos.clone(), &settings, seed, replicas) else { return Ok(()) };

            let sides = sides_of(&plan);
            prop_assert_eq!(sides.len() + plan.duplicates.len(), photos.len());
            let usable: Vec<(Split, &str, u64)> = photos.iter().filter_map(|p| {
                let Finding::Usable { sha256, phash, .. } = &p.finding else { return None };
                sides.get(&p.photo.path).map(|side| (*side, sha256.as_str(), *phash))
            }).collect();
            for a in &usable {
                for b in usable.iter().filter(|b| b.0 != a.0) {
                    prop_assert!(a.1 != b.1 && (a.2 ^ b.2).count_ones() > settings.near_duplicate_bits);
                }
            }

            let keys: HashSet<&str> = plan.shards.iter().flat_map(|s| &s.samples).map(|s| s.key.as_str()).collect();
            prop_assert_eq!(keys.len(), sides.len());
            for (split, counts) in plan.counts() {
                let shards: Vec<&ShardPlan> = plan.shards.iter().filter(|s| s.split == split).collect();
                let sizes: Vec<usize> = shards.iter().map(|s| s.samples.len()).collect();
                let (least, most) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
                prop_assert!(least > 0 && most - least <= 1 && shards.iter().enumerate().all(|(i, s)| s.index == i));
                prop_assert!(split != Split::Train || shards.len().is_multiple_of(replicas as usize));
                // Every shard has its share of every class, to within two photos.
                for shard in &shards {
                    for (label, count) in counts.iter().enumerate() {
                        let has = shard.samples.iter().filter(|s| s.label == label).count() as f64;
                        let fair = shard.samples.len() as f64 * *count as f64 / counts.iter().sum::<usize>() as f64;
                        prop_assert!((has - fair).abs() <= 2.0, "{} of {}", has, fair);
                    }
                }
            }
        }
    }
}
