//! Random starts, drawn per image.

use rand::Rng;
use tch::{Kind, Tensor};

use crate::seed::{self, Purpose, Stream};

/// Where the noise of a batch comes from. An image's noise depends on the seed, the purpose, the
/// round and its key, not on the images beside it.
#[derive(Debug, Clone)]
pub struct Noise<'a> {
    /// The job's seed.
    pub seed: u64,
    /// [`Purpose::Adversary`] in training, [`Purpose::Attack`] in evaluation.
    pub purpose: Purpose,
    /// The round of training; restarts count on from it.
    pub round: u64,
    /// The key of each image.
    pub keys: Vec<&'a str>,
}

impl Noise<'_> {
    /// Uniform noise in `[-half_width, half_width)` for `images` `[N, C, H, W]`: f32, channels-last,
    /// on their device. Drawn in the order in which the bytes of a photo lie (H, W, C).
    pub fn uniform(&self, images: &Tensor, half_width: f64) -> Tensor {
        let size = images.size();
        let [count, channels, height, width] = size[..] else {
            panic!("images are [N, C, H, W], not {size:?}");
        };
        assert_eq!(count as usize, self.keys.len(), "one key for each image");
        let each = (channels * height * width) as usize;
        let mut values = vec![0f32; each * self.keys.len()];
        let mut bytes = vec![0u8; 4 * each];
        for (key, image) in self.keys.iter().zip(values.chunks_exact_mut(each)) {
            seed::stream(self.seed, self.purpose, self.round, key).fill_bytes(&mut bytes);
            for (value, word) in image.iter_mut().zip(bytes.as_chunks().0) {
                // 24 random bits are all that an f32 in [0, 1) can hold.
                *value = (u32::from_le_bytes(*word) >> 8) as f32 * (2.0 / (1 << 24) as f32) - 1.0;
            }
        }
        let noise = Tensor::from_slice(&values).view([count, height, width, channels]).permute([0, 3, 1, 2]);
        (noise * half_width).to_device(images.device()).to_kind(Kind::Float)
    }

    /// A stream of random numbers for each image, for attacks that draw as they go.
    pub fn streams(&self) -> Vec<Stream> {
        self.keys.iter().map(|key| seed::stream(self.seed, self.purpose, self.round, key)).collect()
    }

    /// The noise of some of the images, `extra` rounds later.
    pub(super) fn select(&self, indices: &[i64], extra: u64) -> Self {
        let keys = indices.iter().map(|&i| self.keys[i as usize]).collect();
        Self { keys, round: self.round + extra, ..*self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tch::Device;

    fn noise<'a>(keys: &[&'a str]) -> Noise<'a> {
        Noise { seed: 7, purpose: Purpose::Attack, round: 0, keys: keys.to_vec() }
    }

    fn images(count: i64) -> Tensor {
        Tensor::zeros([count, 3, 5, 7], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn an_image_has_the_same_noise_in_any_batch() {
        let batch = noise(&["a", "b", "c"]).uniform(&images(3), 0.1);
        let alone = noise(&["b"]).uniform(&images(1), 0.1);
        assert!(batch.narrow(0, 1, 1).equal(&alone));
        assert!(noise(&["a", "b", "c"]).select(&[2, 1], 0).uniform(&images(2), 0.1).narrow(0, 1, 1).equal(&alone));
        assert!(!noise(&["b"]).select(&[0], 1).uniform(&images(1), 0.1).equal(&alone));
        assert!(!batch.narrow(0, 0, 1).equal(&alone));
    }

    #[test]
    fn noise_is_uniform_over_its_interval() {
        let keys: Vec<String> = (0..200).map(|i| i.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let values = noise(&keys).uniform(&images(200), 0.5);
        assert!(values.min().double_value(&[]) >= -0.5 && values.max().double_value(&[]) <= 0.5);
        // 21,000 draws: standard errors 0.002 of the mean and 0.0005 of the variance 1/12; fixed seed.
        assert!(values.mean(Kind::Float).double_value(&[]).abs() < 0.01);
        assert!((values.square().mean(Kind::Float).double_value(&[]) - 1.0 / 12.0).abs() < 0.003);
    }
}
