//! A data set that grows: what becomes of the photos that came since the last time.
//!
//! What was decided stays decided: a photo keeps its side for as long as it is there, and the frozen test
//! set never changes. Only new photos are looked at.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::duplicates::{self, Index};
use super::plan::{Candidate, drop_identical, rank, shards, sift};
use super::{Duplicate, Finding, Inspected, Photo, Quarantined, ShardPlan, Split};
use crate::config::{DataSettings, NightlySettings};
use crate::error::{Error, Result};

/// A photo that a night has dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its size in bytes.
    pub size: u64,
    /// See [`Photo::stamp`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
    /// What became of it.
    pub fate: Fate,
}

impl Known {
    /// `photo`, with which this was done.
    pub fn new(photo: &Photo, fate: Fate) -> Self {
        Self { size: photo.size, stamp: photo.stamp.clone(), fate }
    }

    /// Whether a listing shows it as it was. A file of the same size may be another one where the stamp differs, and
    /// where nobody took note of one it is taken for the same.
    pub fn looks_like(&self, photo: &Photo) -> bool {
        let stamps = self.stamp.as_ref().zip(photo.stamp.as_ref());
        self.size == photo.size && stamps.is_none_or(|(known, listed)| known == listed)
    }

    /// Whether another look at it, which finds `finding`, would come to the same.
    pub fn is_still(&self, finding: &Finding) -> bool {
        match (&self.fate, finding) {
            (Fate::Packed(packed), Finding::Usable { sha256, .. }) => packed.sha256 == *sha256,
            (Fate::Quarantined, Finding::Unusable(_)) | (Fate::Reserved, _) => true,
            _ => false,
        }
    }
}

/// What became of a photo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It is in a shard.
    Packed(Packed),
    /// It is (nearly) the same as another one and was dropped.
    Duplicate,
    /// It could not be used.
    Quarantined,
    /// Its source has it on a measured side, and the test set was frozen before it came.
    Reserved,
}

/// What is remembered of a photo in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Index into the classes.
    pub label: usize,
    /// The side it is on.
    pub split: Split,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Perceptual hash.
    pub phash: u64,
    /// Mean brightness in thousandths.
    pub brightness: u16,
}

/// What is known of a data set: every photo by its path.
pub type Photos = BTreeMap<String, Known>;

/// What a night does with the photos that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// Shards to be made.
    pub shards: Vec<ShardPlan>,
    /// What became of each new photo that was looked at.
    pub fates: Photos,
    /// Photos set aside.
    pub quarantined: Vec<Quarantined>,
    /// Photos dropped.
    pub duplicates: Vec<Duplicate>,
}

/// How photos become a part of a data set.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Class names, sorted; they were fixed in the first night.
    pub classes: &'a [String],
    /// How photos become shards.
    pub data: &'a DataSettings,
    /// What an unwatched night may bring.
    pub nightly: &'a NightlySettings,
    /// The job's seed.
    pub seed: u64,
    /// The training side gets a multiple of so many shards, where there are photos for it.
    pub replicas: u32,
}

/// Decides about photos that came since the last time. `again` are photos of `known` whose shards lost a
/// member and are packed anew; they keep their sides.
///
/// New photos train, but `held_fraction` of them are held, drawn by each photo's path alone; one that nearly
/// equals a known photo goes to the same side. Photos that are the same as known ones, or nearly the same as
/// those of a measured side, are dropped. One that nobody has looked at is set aside, but has no fate: it is new again
/// the next time.
///
/// # Errors
/// Of kind `Data`: a class that is not among `classes`, and unusable photos that are suddenly many.
pub fn grow(new: Vec<Inspected>, known: &Photos, again: &[String], terms: &Terms) -> Result<Growth> {
    let classes = terms.classes;
    if let Some(stranger) = new.iter().find(|p| classes.binary_search(&p.photo.class).is_err()) {
        return Err(Error::data(format!(
            "photo {:?} has a class that the frozen test set does not know, {:?}; it knows {}. A model with other classes \
             needs another job.name",
            stranger.photo.path,
            stranger.photo.class,
            classes.join(", ")
        )));
    }
    let mut fates: Photos = Photos::new();
    let seen: HashMap<String, Photo> = new.iter().map(|p| (p.photo.path.clone(), p.photo.clone())).collect();
    let brightness: HashMap<String, u16> = new.iter().map(|p| (p.photo.path.clone(), brightness(p))).collect();
    let mut fate = |path: &str, fate: Fate| {
        fates.extend(seen.get(path).map(|photo| (path.to_string(), Known::new(photo, fate))));
    };
    let unseen: HashSet<String> = new.iter().filter(|p| is_unseen(p)).map(|p| p.photo.path.clone()).collect();
    let looked_at = new.len() - unseen.len();
    let (mut fresh, quarantined) = sift(new, classes, terms.seed);
    let unusable: Vec<&Quarantined> = quarantined.iter().filter(|q| !unseen.contains(&q.path)).collect();
    sudden(&unusable, looked_at, known, terms.nightly)?;
    unusable.iter().for_each(|q| fate(&q.path, Fate::Quarantined));
    fresh.retain(|photo| {
        let reserved = matches!(photo.split, Some(Split::Val | Split::Test));
        if reserved {
            fate(&photo.path, Fate::Reserved);
        }
        !reserved
    });
    let mut duplicates = Vec::new();
    drop_known(&mut fresh, &mut duplicates, known, terms.data.near_duplicate_bits);
    drop_identical(&mut fresh, &mut duplicates);
    duplicates.sort_by(|a, b| a.path.cmp(&b.path));
    duplicates.iter().for_each(|d| fate(&d.path, Fate::Duplicate));
    place(&mut fresh, known, terms);
    for photo in &fresh {
        let packed = Packed {
            label: photo.class,
            split: photo.split.unwrap_or(Split::Train),
            sha256: photo.sha256.clone(),
            phash: photo.phash,
            brightness: brightness.get(&photo.path).copied().unwrap_or(0),
        };
        fate(&photo.path, Fate::Packed(packed));
    }
    fresh.extend(again.iter().filter_map(|path| survivor(path, known, terms.seed)));
    fresh.sort_by(|a, b| a.path.cmp(&b.path));
    let training = fresh.iter().filter(|p| p.split == Some(Split::Train)).count();
    let replicas = if training < terms.replicas as usize { 1 } else { terms.replicas as usize };
    let shards = shards(fresh, terms.data.shard_images, replicas)?;
    Ok(Growth { shards, fates, quarantined, duplicates })
}

fn brightness(photo: &Inspected) -> u16 {
    match photo.finding {
        Finding::Usable { brightness, .. } => brightness,
        Finding::Unusable(_) | Finding::Unseen(_) => 0,
    }
}

/// Whether nobody has looked at a photo.
pub fn is_unseen(photo: &Inspected) -> bool {
    matches!(photo.finding, Finding::Unseen(_))
}

/// Refuses a night in which photos cannot be used far more often than before.
fn sudden(quarantined: &[&Quarantined], came: usize, known: &Photos, settings: &NightlySettings) -> Result<()> {
    let before = known.values().filter(|k| k.fate == Fate::Quarantined).count() as f64 / known.len().max(1) as f64;
    let now = quarantined.len() as f64 / came.max(1) as f64;
    if quarantined.len() < settings.quarantine_least.max(1) || now <= before + settings.quarantine_growth {
        return Ok(());
    }
    let first: Vec<String> = quarantined.iter().take(3).map(|q| format!("{:?}: {}", q.path, q.reason)).collect();
    Err(Error::data(format!(
        "{} of {came} new photos cannot be used ({:.1} %, {:.1} % until now; nightly.quarantine_growth allows {:.1} points \
         more), the first: {}",
        quarantined.len(),
        100.0 * now,
        100.0 * before,
        100.0 * settings.quarantine_growth,
        first.join("; "),
    )))
}

/// Drops new photos that are the same as a known one, or nearly the same as a measured one.
fn drop_known(fresh: &mut Vec<Candidate>, dropped: &mut Vec<Duplicate>, known: &Photos, bits: u32) {
    let mut by_sha256: HashMap<&str, &String> = HashMap::new();
    let mut measured: BTreeMap<u64, &String> = BTreeMap::new();
    for (path, photo) in known.iter().filter_map(|(path, k)| packed(k).map(|p| (path, p))) {
        by_sha256.entry(&photo.sha256).or_insert(path);
        if matches!(photo.split, Split::Val | Split::Test) {
            measured.entry(photo.phash).or_insert(path);
        }
    }
    let index = Index::new(measured.keys().copied(), bits);
    fresh.retain(|photo| {
        let identical = by_sha256.get(photo.sha256.as_str());
        let same = identical.or_else(|| index.closest(photo.phash).and_then(|hash| measured.get(&hash)));
        if let Some(of) = same {
            let (path, of) = (photo.path.clone(), of.to_string());
            dropped.push(Duplicate { path, of, identical: identical.is_some() });
        }
        same.is_none()
    });
}

/// Gives every new photo its side.
fn place(fresh: &mut [Candidate], known: &Photos, terms: &Terms) {
    let sides: BTreeMap<u64, Split> =
        known.values().filter_map(packed).map(|photo| (photo.phash, photo.split)).collect();
    let index = Index::new(sides.keys().copied(), terms.data.near_duplicate_bits);
    let hashes: Vec<u64> = fresh.iter().map(|p| p.phash).collect();
    let groups = duplicates::groups(&hashes, terms.data.near_duplicate_bits);
    let mut decided: HashMap<usize, Split> = HashMap::new();
    for (photo, group) in fresh.iter_mut().zip(groups) {
        let side = *decided.entry(group).or_insert_with(|| {
            let near = index.closest(photo.phash).and_then(|hash| sides.get(&hash)).copied();
            let held = photo.rank as f64 / u64::MAX as f64 <= terms.data.held_fraction;
            near.unwrap_or(if held { Split::Held } else { Split::Train })
        });
        photo.split = Some(side);
    }
}

/// What is remembered of a photo in a shard.
pub fn packed(known: &Known) -> Option<&Packed> {
    match &known.fate {
        Fate::Packed(packed) => Some(packed),
        _ => None,
    }
}

fn survivor(path: &str, known: &Photos, seed: u64) -> Option<Candidate> {
    let photo = packed(known.get(path)?)?;
    Some(Candidate {
        path: path.to_string(),
        class: photo.label,
        split: Some(photo.split),
        sha256: photo.sha256.clone(),
        phash: photo.phash,
        rank: rank(seed, path),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use proptest::prelude::*;

    fn classes() -> Vec<String> {
        ["daisy".to_string(), "rose".to_string()].into()
    }

    /// A photo whose hashes are made of `content`; an odd one is a rose.
    fn photo(path: &str, content: u64) -> Inspected {
        let (class, rest) = path.split_once('/').unwrap();
        let split = rest.starts_with("val-").then_some(Split::Val);
        // Far apart from one another, as perceptual hashes of different photos are.
        let phash = content.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let sha256 = format!("{content:064x}");
        let finding = Finding::Usable { sha256, phash, width: 9, height: 9, brightness: 400 };
        let photo = Photo { path: path.into(), class: class.into(), split, size: 10 + content, stamp: None };
        Inspected { photo, finding }
    }

    fn broken(path: &str) -> Inspected {
        let class = path.split('/').next().unwrap().to_string();
        let finding = Finding::Unusable("the file is empty".into());
        Inspected { photo: Photo { path: path.into(), class, split: None, size: 0, stamp: None }, finding }
    }

    fn grown(new: Vec<Inspected>, known: &Photos, again: &[String]) -> Result<Growth> {
        let settings = Layers::new().unwrap().resolve().unwrap().settings;
        let classes = classes();
        let (data, nightly) = (&settings.data, &settings.nightly);
        grow(new, known, again, &Terms { classes: &classes, data, nightly, seed: 7, replicas: 2 })
    }

    fn known(photos: &[(&str, u64, Split)]) -> Photos {
        let packed = |content: u64, split| Packed {
            label: 0,
            split,
            sha256: format!("{content:064x}"),
            phash: content.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            brightness: 500,
        };
        photos
            .iter()
            .map(|&(path, content, split)| {
                let fate = Fate::Packed(packed(content, split));
                (path.to_string(), Known { size: 1, stamp: None, fate })
            })
            .collect()
    }

    #[test]
    fn what_is_known_already_is_dropped_and_a_measured_photo_never_trains() {
        let known = known(&[("daisy/1", 1, Split::Train), ("daisy/t", 2, Split::Test)]);
        let mut near = photo("rose/near-the-test-set", 2);
        if let Finding::Usable { sha256, phash, .. } = &mut near.finding {
            *sha256 = "f".repeat(64);
            *phash ^= 0b11;
        }
        let new = vec![photo("rose/copy", 1), near, photo("rose/test-copy", 2), photo("rose/fresh", 9)];
        let growth = grown(new, &known, &[]).unwrap();
        let dropped: Vec<_> = growth.duplicates.iter().map(|d| (d.path.as_str(), d.of.as_str(), d.identical)).collect();
        assert_eq!(
            dropped,
            [
                ("rose/copy", "daisy/1", true),
                ("rose/near-the-test-set", "daisy/t", false),
                ("rose/test-copy", "daisy/t", true)
            ]
        );
        let packed: Vec<_> = growth.shards.iter().flat_map(|s| &s.samples).map(|s| s.path.as_str()).collect();
        assert_eq!(packed, ["rose/fresh"]);
        assert!(matches!(growth.fates["rose/copy"].fate, Fate::Duplicate));
    }

    #[test]
    fn photos_that_came_too_late_for_the_test_set_are_left_alone() {
        let growth = grown(vec![photo("daisy/val-1", 3)], &Photos::new(), &[]).unwrap();
        assert!(growth.shards.is_empty() && growth.fates["daisy/val-1"].fate == Fate::Reserved);
    }

    #[test]
    fn a_new_class_is_refused() {
        let error = grown(vec![photo("tulip/1", 3)], &Photos::new(), &[]).unwrap_err();
        assert!(error.to_string().contains("\"tulip\"") && error.to_string().contains("daisy, rose"), "{error}");
    }

    #[test]
    fn broken_photos_fail_a_night_only_when_they_are_suddenly_many() {
        let mut new: Vec<_> = (0..40).map(|i| photo(&format!("daisy/{i}"), 100 + i)).collect();
        new.extend((0..4).map(|i| broken(&format!("rose/bad-{i}"))));
        let few = grown(new.clone(), &Photos::new(), &[]).unwrap();
        assert_eq!(few.quarantined.len(), 4);
        new.push(broken("rose/bad-4"));
        let error = grown(new.clone(), &Photos::new(), &[]).unwrap_err();
        assert!(error.to_string().contains("5 of 45 new photos"), "{error}");
        let mut usual = known(&[("daisy/old", 1, Split::Train)]);
        usual.insert("rose/old".into(), Known { size: 0, stamp: None, fate: Fate::Quarantined });
        assert!(grown(new, &usual, &[]).is_ok(), "half of them always were broken");
    }

    #[test]
    fn what_nobody_has_looked_at_is_told_and_not_remembered() {
        let mut new: Vec<_> = (0..40).map(|i| photo(&format!("daisy/{i}"), 100 + i)).collect();
        let unseen = |path: &str| Inspected { finding: Finding::Unseen("its task failed".into()), ..broken(path) };
        new.extend((0..20).map(|i| unseen(&format!("rose/{i}"))));
        let growth = grown(new.clone(), &Photos::new(), &[]).unwrap();
        assert_eq!((growth.quarantined.len(), growth.fates.len()), (20, 40));
        assert_eq!(growth.quarantined[0].reason, "its task failed");
        assert!(!growth.fates.keys().any(|path| path.starts_with("rose/")));
        // Nor does it count among those of which some are broken.
        new.extend((0..5).map(|i| broken(&format!("rose/bad-{i}"))));
        let error = grown(new, &Photos::new(), &[]).unwrap_err();
        assert!(error.to_string().contains("5 of 45 new photos"), "{error}");
    }

    #[test]
    fn photos_of_a_shard_that_lost_a_member_are_packed_again_on_their_sides() {
        let known = known(&[("daisy/1", 1, Split::Train), ("daisy/2", 2, Split::Held), ("daisy/3", 3, Split::Train)]);
        let again = ["daisy/1".to_string(), "daisy/2".to_string()];
        let growth = grown(vec![photo("rose/new", 9)], &known, &again).unwrap();
        let mut packed: Vec<_> =
            growth.shards.iter().flat_map(|s| s.samples.iter().map(|p| (p.path.as_str(), s.split))).collect();
        packed.sort();
        assert_eq!(packed[..2], [("daisy/1", Split::Train), ("daisy/2", Split::Held)]);
        assert_eq!(growth.fates.len(), 1, "only new photos get a fate");
    }

    proptest! {
        #[test]
        fn every_photo_has_one_fate_and_its_side_does_not_depend_on_the_company(
            contents in prop::collection::btree_set(10u64..10_000, 1..40), cut in any::<prop::sample::Index>())
        {
            let new: Vec<_> = contents.iter().map(|&c| photo(&format!("daisy/{c}"), c)).collect();
            let all = grown(new.clone(), &Photos::new(), &[]).unwrap();
            prop_assert_eq!(all.fates.len(), new.len());
            let (first, second) = new.split_at(cut.index(new.len()));
            let mut known = grown(first.to_vec(), &Photos::new(), &[]).unwrap().fates;
            let then = grown(second.to_vec(), &known, &[]).unwrap();
            let packed: usize = then.shards.iter().map(|s| s.samples.len()).sum();
            prop_assert_eq!(packed, then.fates.values().filter(|k| packed_side(k).is_some()).count());
            known.extend(then.fates);
            for (path, one) in &all.fates {
                if let (Some(a), Some(b)) = (packed_side(one), packed_side(&known[path])) {
                    prop_assert_eq!(a, b);
                }
            }
        }
    }

    fn packed_side(known: &Known) -> Option<Split> {
        packed(known).map(|p| p.split)
    }
}
