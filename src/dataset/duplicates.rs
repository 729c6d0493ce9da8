//! Photos that look the same, found without comparing all with all.

use std::collections::HashMap;

/// Perceptual hashes, arranged so that close ones are found fast.
///
/// Two hashes that differ in at most `bits` bits agree in at least one of `bits + 1` chunks (the
/// pigeonhole principle), so only those that share a chunk are compared. Equal hashes are kept once.
pub struct Index {
    bits: u32,
    distinct: Vec<u64>,
    buckets: HashMap<(u32, u64), Vec<u32>>,
}

impl Index {
    /// An index that answers for distances of up to `bits` (at most 63).
    pub fn new(hashes: impl IntoIterator<Item = u64>, bits: u32) -> Self {
        let mut distinct: Vec<u64> = hashes.into_iter().collect();
        distinct.sort_unstable();
        distinct.dedup();
        let bits = bits.min(63);
        let mut buckets: HashMap<_, Vec<u32>> = HashMap::new();
        for (i, &hash) in distinct.iter().enumerate() {
            for chunk in chunks(hash, bits) {
                buckets.entry(chunk).or_default().push(i as u32);
            }
        }
        Self { bits, distinct, buckets }
    }

    /// Positions among the distinct hashes of those within reach of `hash`; some come more than once.
    fn near(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        chunks(hash, self.bits)
            .filter_map(|chunk| self.buckets.get(&chunk))
            .flatten()
            .map(|&i| i as usize)
            .filter(move |&i| (self.distinct[i] ^ hash).count_ones() <= self.bits)
    }

    /// The hash closest to `hash` within reach; the smallest of equally close ones.
    pub fn closest(&self, hash: u64) -> Option<u64> {
        self.near(hash).map(|i| self.distinct[i]).min_by_key(|other| ((other ^ hash).count_ones(), *other))
    }
}

/// For each hash the number of its group: two are in one group when a chain of hashes leads from one
/// to the other in steps of at most `bits` bits. Groups are numbered by their first members.
pub fn groups(hashes: &[u64], bits: u32) -> Vec<usize> {
    let index = Index::new(hashes.iter().copied(), bits);
    let mut parents: Vec<usize> = (0..index.distinct.len()).collect();
    for (i, &hash) in index.distinct.iter().enumerate() {
        for j in index.near(hash).filter(|&j| j > i) {
            let (a, b) = (root(&mut parents, i), root(&mut parents, j));
            parents[a.max(b)] = a.min(b);
        }
    }
    let mut numbers = HashMap::new();
    hashes
        .iter()
        .map(|hash| {
            let at = index.distinct.binary_search(hash).unwrap_or_default();
            let next = numbers.len();
            *numbers.entry(root(&mut parents, at)).or_insert(next)
        })
        .collect()
}

fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

fn chunks(hash: u64, bits: u32) -> impl Iterator<Item = (u32, u64)> {
    let count = bits + 1;
    (0..count).map(move |i| {
        let (from, to) = (i * 64 / count, (i + 1) * 64 / count);
        (i, hash << (64 - to) >> (64 - to) >> from)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hashes around few centres, so that many are close.
    fn clustered() -> impl Strategy<Value = Vec<u64>> {
        let noisy = (any::<prop::sample::Index>(), prop::collection::vec(0u32..64, 0..5));
        (prop::collection::vec(any::<u64>(), 1..6), prop::collection::vec(noisy, 1..60)).prop_map(|(centres, items)| {
            items
                .into_iter()
                .map(|(centre, flips)| flips.iter().fold(*centre.get(&centres), |hash, bit| hash ^ (1 << bit)))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn groups_are_those_of_comparing_all_with_all(hashes in clustered(), bits in 0u32..9) {
            let found = groups(&hashes, bits);
            let mut expected: Vec<usize> = (0..hashes.len()).collect();
            for i in 0..hashes.len() {
                for j in 0..hashes.len() {
                    if (hashes[i] ^ hashes[j]).count_ones() <= bits {
                        let (keep, drop) = (expected[i].min(expected[j]), expected[i].max(expected[j]));
                        expected.iter_mut().filter(|group| **group == drop).for_each(|group| *group = keep);
                    }
                }
            }
            for i in 0..hashes.len() {
                for j in 0..hashes.len() {
                    prop_assert_eq!(found[i] == found[j], expected[i] == expected[j]);
                }
            }
        }

        #[test]
        fn the_closest_is_the_closest(hashes in clustered(), bits in 0u32..9, asked in any::<prop::sample::Index>()) {
            let hash = asked.get(&hashes) ^ 5;
            let expected = hashes.iter().map(|other| (other ^ hash).count_ones()).min().filter(|d| *d <= bits);
            prop_assert_eq!(Index::new(hashes, bits).closest(hash).map(|other| (other ^ hash).count_ones()), expected);
        }
    }
}
