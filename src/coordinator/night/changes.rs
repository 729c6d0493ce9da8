//! The source as it is now beside what is known of it: photos that came, went and were replaced, and the shards
//! that are packed anew for it.

use std::collections::BTreeSet;

use super::ledger::{Ledger, Stored};
use crate::dataset::grow::{self, Fate, Known, Photos};
use crate::dataset::{Inspected, Photo, Split};
use crate::store::Key;

/// What has changed in the source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Photos that came.
    pub new: Vec<Photo>,
    /// Photos that may be other ones now: their size differs, or they were written again.
    pub suspects: Vec<Photo>,
    /// Those of them that are, once [`settle`](Self::settle) has seen what was found.
    pub replaced: Vec<String>,
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
        for photo in photos {
            there.insert(photo.path.clone());
            match ledger.photos.get(&photo.path) {
                None => changes.new.push(photo),
                Some(known) if is_frozen(known) => {}
                Some(known) if !known.looks_like(&photo) => changes.suspects.push(photo),
                Some(known) if known.stamp.is_none() && photo.stamp.is_some() => changes.keep(&photo, known),
                Some(_) => {}
            }
        }
        for (path, known) in ledger.photos.iter().filter(|(path, _)| !there.contains(*path)) {
            match is_frozen(known) {
                true => changes.missing += 1,
                false => changes.removed.push(path.clone()),
            }
        }
        changes
    }

    /// The photos to be decoded.
    pub fn unseen(&self) -> Vec<Photo> {
        self.new.iter().chain(&self.suspects).cloned().collect()
    }

    /// Tells suspects that were replaced from those that were merely written again, and leaves the latter out of
    /// `inspected`.
    pub fn settle(&mut self, known: &Photos, mut inspected: Vec<Inspected>) -> Vec<Inspected> {
        inspected.retain(|found| match known.get(&found.photo.path) {
            Some(before) if before.is_still(&found.finding) => {
                self.keep(&found.photo, before);
                false
            }
            Some(_) => {
                self.replaced.push(found.photo.path.clone());
                true
            }
            None => true,
        });
        inspected
    }

    fn keep(&mut self, photo: &Photo, known: &Known) {
        self.unchanged.insert(photo.path.clone(), Known::new(photo, known.fate.clone()));
    }

    /// The photos that no longer are what they were.
    pub fn gone(&self) -> BTreeSet<&str> {
        self.removed.iter().chain(&self.replaced).map(String::as_str).collect()
    }

    /// For the report: the photos that were replaced. Of a duplicate the content is not remembered, so that one which
    /// was written again is decided about again; as long as it is a duplicate nothing has happened.
    pub fn reported(&self, known: &Photos, fates: &Photos) -> Vec<String> {
        let is_duplicate = |photos: &Photos, path: &str| photos.get(path).is_some_and(|k| k.fate == Fate::Duplicate);
        let replaced = self.replaced.iter().filter(|path| !is_duplicate(known, path) || !is_duplicate(fates, path));
        replaced.cloned().collect()
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
    /// Of `shards` those that had a photo that is `gone`.
    pub fn new(shards: &[Stored], gone: &BTreeSet<&str>) -> Self {
        let is_gone = |path: &str| gone.contains(path);
        let mut repack = Self::default();
        for shard in shards {
            if shard.samples.iter().any(|s| is_gone(&s.path)) {
                repack.dropped.push(shard.blob.key.clone());
                repack.again.extend(shard.samples.iter().map(|s| s.path.clone()).filter(|path| !is_gone(path)));
            }
        }
        repack
    }
}
