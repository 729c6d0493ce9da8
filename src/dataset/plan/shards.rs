//! The shards of each side: how many there are, which photos lie in each, and by what keys.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::Candidate;
use crate::dataset::{Sample, ShardPlan, Split};
use crate::error::{Error, Result};

pub(in crate::dataset) fn shards(
    photos: Vec<Candidate>,
    shard_images: usize,
    replicas: usize,
) -> Result<Vec<ShardPlan>> {
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
mod tests {
    use super::*;

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
}
