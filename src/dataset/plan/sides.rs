//! The side of each photo: drawn by lot, class by class, near-identical photos together.

use std::collections::BTreeMap;

use super::Candidate;
use crate::config::DataSettings;
use crate::dataset::{Split, duplicates};
use crate::error::{Error, Result};

/// Gives every photo that has no final side one, class by class, near-identical photos together.
pub(super) fn assign(photos: &mut [Candidate], classes: &[String], settings: &DataSettings) -> Result<()> {
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
