//! Photos that are (nearly) the same as another one are dropped.

use std::collections::HashMap;

use super::Candidate;
use crate::dataset::duplicates::Index;
use crate::dataset::{Duplicate, Split};

/// Drops training photos that are (nearly) the same as a photo that is measured.
pub(super) fn drop_straddling(photos: &mut Vec<Candidate>, dropped: &mut Vec<Duplicate>, bits: u32) {
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
pub(in crate::dataset) fn drop_identical(photos: &mut Vec<Candidate>, dropped: &mut Vec<Duplicate>) {
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
