//! The source as it is now beside what is known of it: photos that came, went and were replaced, and which shards
//! are packed anew.

use std::collections::BTreeSet;

use super::ledger::{Ledger, Stored};
use crate::config::Settings;
use crate::dataset::grow::{self, Fate, Known, Photos};
use crate::dataset::{Finding, Inspected, Photo, Split, plan};
use crate::store::Key;

/// What has changed in the source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Photos that came.
    pub new: Vec<Photo>,
    /// Photos that may be other ones now: their size differs, or they were written again. With them duplicates whose
    /// original may be gone.
    pub suspects: Vec<Photo>,
    /// Suspects that are other ones, once [`settle`](Self::settle) has seen what was found.
    pub replaced: Vec<String>,
    /// Suspects that are duplicates whose original may be gone.
    pub copies: BTreeSet<String>,
    /// Photos that went, those of the frozen test set left out.
    pub removed: Vec<String>,
    /// Photos of the frozen test set that went; it keeps its copies.
    pub missing: usize,
    /// Photos that are what they were, with what the source says of them now.
    pub unchanged: Photos,
}

impl Changes {
    /// Compares the photos that the source has now with `ledger`. Whatever lies now where a photo of the frozen test
    /// set did is left alone.
    pub fn new(ledger: &Ledger, photos: Vec<Photo>) -> Self {
        let is_frozen =
            |known: &Known| grow::packed(known).is_some_and(|p| matches!(p.split, Split::Val | Split::Test));
        let mut changes = Self::default();
        let mut there: BTreeSet<String> = BTreeSet::new();
        let mut copies: Vec<Photo> = Vec::new();
        for photo in photos {
            there.insert(photo.path.clone());
            match ledger.photos.get(&photo.path) {
                None => changes.new.push(photo),
                Some(known) if is_frozen(known) => {}
                Some(known) if !known.looks_like(&photo) => changes.suspects.push(photo),
                Some(known) if known.fate == Fate::Duplicate => copies.push(photo),
                Some(known) => changes.note(&photo, known),
            }
        }
        for (path, known) in ledger.photos.iter().filter(|(path, _)| !there.contains(*path)) {
            match is_frozen(known) {
                true => changes.missing += 1,
                false => changes.removed.push(path.clone()),
            }
        }
        changes.look_again(ledger, copies);
        changes
    }

    /// A duplicate takes the place of its original once that goes. Which one that was is not remembered: as soon as any
    /// photo of a shard goes or may be another one, all duplicates are looked at.
    fn look_again(&mut self, ledger: &Ledger, copies: Vec<Photo>) {
        let is_packed = |path: &String| ledger.photos.get(path).and_then(grow::packed).is_some();
        if self.removed.iter().chain(self.suspects.iter().map(|photo| &photo.path)).any(is_packed) {
            self.copies = copies.iter().map(|photo| photo.path.clone()).collect();
            self.suspects.extend(copies);
            return;
        }
        for photo in &copies {
            if let Some(known) = ledger.photos.get(&photo.path) {
                self.note(photo, known);
            }
        }
    }

    /// The photos to be decoded.
    pub fn unseen(&self) -> Vec<Photo> {
        self.new.iter().chain(&self.suspects).cloned().collect()
    }

    /// Tells suspects that were replaced from those that were merely written again or that nobody has looked at, and
    /// leaves the latter out of `inspected`.
    pub fn settle(&mut self, known: &Photos, mut inspected: Vec<Inspected>) -> Vec<Inspected> {
        inspected.retain(|found| match (known.get(&found.photo.path), &found.finding) {
            (None, _) => true,
            (Some(before), Finding::Unseen(_)) => {
                self.put_off(&found.photo, before);
                false
            }
            (Some(before), finding) if before.is_still(finding) => {
                self.keep(&found.photo, before);
                false
            }
            (Some(_), _) => {
                self.replaced.push(found.photo.path.clone());
                true
            }
        });
        inspected
    }

    /// A suspect that nobody has looked at is what it was, and a suspect again the next night: so is a duplicate with a
    /// stamp that no listing has.
    fn put_off(&mut self, photo: &Photo, known: &Known) {
        if self.copies.contains(&photo.path) {
            self.unchanged.insert(photo.path.clone(), Known { stamp: Some(String::new()), ..known.clone() });
        }
    }

    /// A ledger of an older program has no times.
    fn note(&mut self, photo: &Photo, known: &Known) {
        if known.stamp.is_none() && photo.stamp.is_some() {
            self.keep(photo, known);
        }
    }

    fn keep(&mut self, photo: &Photo, known: &Known) {
        self.unchanged.insert(photo.path.clone(), Known::new(photo, known.fate.clone()));
    }

    /// The photos that no longer are what they were.
    pub fn gone(&self) -> BTreeSet<&str> {
        self.removed.iter().chain(&self.replaced).map(String::as_str).collect()
    }

    /// For the report: the photos that were replaced. Of a duplicate the content is not remembered, so that one which
    /// was written again is decided about again; as long as it is a duplicate nothing has happened. Nor was one replaced
    /// that was looked at for its original's sake.
    pub fn reported(&self, known: &Photos, fates: &Photos) -> Vec<String> {
        let is_duplicate = |photos: &Photos, path: &str| photos.get(path).is_some_and(|k| k.fate == Fate::Duplicate);
        let replaced = self.replaced.iter().filter(|path| !self.copies.contains(*path));
        replaced.filter(|path| !is_duplicate(known, path) || !is_duplicate(fates, path)).cloned().collect()
    }
}

/// Shards that are given up, and their photos that stay.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Repack {
    /// The shards.
    pub dropped: Vec<Key>,
    /// The photos.
    pub again: Vec<String>,
}

impl Repack {
    /// Of `shards` those that had a photo that is `gone`, and the small ones of a side once they are many.
    pub fn new(shards: &[Stored], gone: &BTreeSet<&str>, settings: &Settings) -> Self {
        let is_gone = |path: &str| gone.contains(path);
        let (mut chosen, whole): (Vec<&Stored>, Vec<&Stored>) =
            shards.iter().partition(|shard| shard.samples.iter().any(|s| is_gone(&s.path)));
        for split in [Split::Train, Split::Held] {
            chosen.extend(small(&whole, split, settings));
        }
        let photos = chosen.iter().flat_map(|shard| &shard.samples).map(|s| s.path.clone());
        Self {
            again: photos.filter(|path| !is_gone(path)).collect(),
            dropped: chosen.iter().map(|shard| shard.blob.key.clone()).collect(),
        }
    }
}

/// The shards of a side that are less than half full: none as long as they are at most `nightly.small_shards`, or
/// would not become fewer.
fn small<'a>(shards: &[&'a Stored], split: Split, settings: &Settings) -> Vec<&'a Stored> {
    let full = settings.data.shard_images;
    let is_small = |shard: &&&Stored| shard.split == split && 2 * shard.samples.len() < full;
    let small: Vec<&Stored> = shards.iter().filter(is_small).copied().collect();
    let photos = small.iter().map(|shard| shard.samples.len()).sum();
    let fewer = plan::shard_count(split, photos, full, settings.train.replicas as usize) < small.len();
    if small.len() > settings.nightly.small_shards && fewer { small } else { Vec::new() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::dataset::grow::{Terms, grow};
    use crate::dataset::{Sample, ShardPlan};
    use crate::store::Blob;

    fn settings(small_shards: usize, replicas: u32) -> Settings {
        let mut settings = Layers::new().unwrap().resolve().unwrap().settings;
        (settings.data.shard_images, settings.data.held_fraction, settings.train.replicas) = (20, 0.3, replicas);
        settings.nightly.small_shards = small_shards;
        settings
    }

    fn stored(split: Split, name: &str, samples: Vec<Sample>) -> Stored {
        let key = Key::new(format!("shards/{}-{name}", split.name())).unwrap();
        Stored { split, samples, blob: Blob { key, sha256: name.into(), size: 1 } }
    }

    fn shard(split: Split, name: &str, photos: usize) -> Stored {
        let sample = |i: usize| {
            let path = format!("daisy/{}-{name}-{i}", split.name());
            Sample { key: path.replace('/', "-"), label: 0, sha256: path.clone(), path }
        };
        stored(split, name, (0..photos).map(sample).collect())
    }

    fn dropped(shards: &[Stored], gone: &[&str], settings: &Settings) -> Vec<String> {
        let repack = Repack::new(shards, &gone.iter().copied().collect(), settings);
        repack.dropped.iter().map(|key| key.name().to_string()).collect()
    }

    #[test]
    fn small_shards_are_packed_together_once_they_are_many() {
        let mut shards = vec![shard(Split::Train, "full", 20), shard(Split::Train, "half", 10)];
        shards.extend(["a", "b", "c"].map(|name| shard(Split::Train, name, 3)));
        shards.extend(["a", "b"].map(|name| shard(Split::Held, name, 3)));
        assert_eq!(dropped(&shards, &[], &settings(2, 1)), ["train-a", "train-b", "train-c"]);
        assert_eq!(dropped(&shards, &[], &settings(1, 2)), ["train-a", "train-b", "train-c", "held-a", "held-b"]);
        assert_eq!(dropped(&shards, &[], &settings(3, 1)), [""; 0], "three are not more than three");
        assert_eq!(dropped(&shards, &[], &settings(2, 3)), [""; 0], "three replicas would make three of them again");
        // One of the three is made again anyway.
        assert_eq!(dropped(&shards, &["daisy/train-b-0"], &settings(2, 1)), ["train-b"]);
    }

    /// Shards after nights that brought four photos each.
    fn nights(count: u64, settings: &Settings) -> Vec<Stored> {
        let classes = ["daisy".to_string()];
        let (data, nightly, replicas) = (&settings.data, &settings.nightly, settings.train.replicas);
        let terms = Terms { classes: &classes, data, nightly, seed: 7, replicas };
        let (mut shards, mut known) = (Vec::<Stored>::new(), Photos::new());
        for night in 0..count {
            let came = (0..4).map(|i| {
                let (path, class) = (format!("daisy/{night}-{i}"), classes[0].clone());
                let sha256 = path.clone();
                let phash = (4 * night + i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let finding = Finding::Usable { sha256, phash, width: 9, height: 9, brightness: 400 };
                Inspected { photo: Photo { path, class, split: None, size: 1, stamp: None }, finding }
            });
            let repack = Repack::new(&shards, &BTreeSet::new(), settings);
            let growth = grow(came.collect(), &known, &repack.again, &terms).unwrap();
            known.extend(growth.fates);
            shards.retain(|shard| !repack.dropped.contains(&shard.blob.key));
            let name = |plan: &ShardPlan| format!("{night}-{}", plan.index);
            shards.extend(growth.shards.into_iter().map(|plan| stored(plan.split, &name(&plan), plan.samples)));
        }
        shards
    }

    #[test]
    fn many_nights_of_few_photos_leave_few_shards_with_every_photo_once() {
        let few = settings(6, 2);
        let shards = nights(100, &few);
        assert_eq!(shards, nights(100, &few), "the same nights leave the same shards");
        let mut photos: Vec<&str> = shards.iter().flat_map(|s| &s.samples).map(|s| s.path.as_str()).collect();
        photos.sort();
        photos.dedup();
        assert_eq!((photos.len(), shards.iter().map(|s| s.samples.len()).sum::<usize>()), (400, 400));
        // At least half full, but for the small ones of either side and what the last night brought.
        assert!(shards.len() <= 400 / 10 + 2 * (6 + 2), "{}", shards.len());
        assert!(nights(100, &settings(1000, 2)).len() > 150, "left alone they would be many");
    }
}
