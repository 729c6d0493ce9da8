//! Random streams. Every random number of a job comes from (job seed, purpose, round, key),
//! never from a global generator, so that results do not depend on batch size, order or workers.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The generator used everywhere.
pub type Stream = ChaCha8Rng;

/// What the numbers are for; two purposes never share a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Which photo goes to which side.
    Split,
    /// The initial weights of new layers.
    Weights,
    /// The order of images within a round.
    Order,
    /// Which images are drawn twice where classes are balanced.
    Balance,
    /// Whether an adversarial image made beforehand is mirrored.
    Flip,
    /// The random view (crop, flip, colour) of an image.
    View,
    /// Noise and random starts of a training adversary.
    Adversary,
    /// Noise and random starts of an attack in evaluation.
    Attack,
    /// A synthetic picture.
    Synthetic,
}

/// The stream for `purpose` in `round` on the thing named `key` (an image key, a layer name).
pub fn stream(seed: u64, purpose: Purpose, round: u64, key: &str) -> Stream {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update([purpose as u8]);
    hash.update(round.to_le_bytes());
    hash.update(key.as_bytes());
    Stream::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_differ_by_every_part_and_repeat() {
        let draw = |s, p, r, k: &str| stream(s, p, r, k).next_u64();
        let base = draw(1, Purpose::View, 0, "a");
        assert_eq!(base, draw(1, Purpose::View, 0, "a"));
        assert_ne!(base, draw(2, Purpose::View, 0, "a"));
        assert_ne!(base, draw(1, Purpose::Order, 0, "a"));
        assert_ne!(base, draw(1, Purpose::View, 1, "a"));
        assert_ne!(base, draw(1, Purpose::View, 0, "b"));
    }
}
