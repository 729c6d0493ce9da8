//! The plan of made-up photos.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::plan;
use crate::config::DataSettings;
use crate::dataset::fixtures::settings;
use crate::dataset::{Duplicate, Finding, Inspected, Photo, Plan, ShardPlan, Split};

fn inspected(path: &str, split: Option<Split>, content: u64, phash: u64) -> Inspected {
    let class = path.rsplit('/').nth(1).unwrap().to_owned();
    let photo = Photo { path: path.into(), class, split, size: 1, stamp: None };
    let finding = Finding::Usable { sha256: format!("{content:064x}"), phash, width: 9, height: 9, brightness: 500 };
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
        let expected = [(Split::Train, [63, 22]), (Split::Held, [7, 3]), (Split::Val, [15, 6]), (Split::Test, [15, 6])];
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
