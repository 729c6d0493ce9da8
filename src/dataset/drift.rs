//! How the photos that came differ from those that were there.

use serde::{Deserialize, Serialize};

/// Photos that came in one night beside those known before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Class names in label order.
    pub classes: Vec<String>,
    /// Those known before.
    pub known: Photos,
    /// Those that came.
    pub new: Photos,
    /// Half the sum of the differences of class shares (total variation): 0 for the same mix, 1 for no
    /// class in common. None where either side is empty.
    pub class_distance: Option<f64>,
    /// Difference of mean brightness, new less known, in standard deviations of the known ones (Glass 1976).
    pub brightness_shift: Option<f64>,
    /// How far apart they lie in the features of the model that the night starts from.
    #[serde(default)]
    pub embedding: Option<Embedding>,
}

/// Some photos, summed up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Photos {
    /// Per class, in label order.
    pub counts: Vec<u64>,
    /// Mean of their mean brightnesses, in `[0, 1]`.
    pub brightness: f64,
    /// Its standard deviation from photo to photo.
    pub spread: f64,
}

impl Photos {
    /// Sums up photos given as (label, brightness in thousandths).
    pub fn of(photos: impl IntoIterator<Item = (usize, u16)>, classes: usize) -> Self {
        let (mut counts, mut sum, mut squares) = (vec![0; classes], 0.0, 0.0);
        for (label, brightness) in photos {
            let value = f64::from(brightness) / 1000.0;
            if let Some(count) = counts.get_mut(label) {
                *count += 1;
            }
            sum += value;
            squares += value * value;
        }
        let n = counts.iter().sum::<u64>().max(1) as f64;
        let mean = sum / n;
        Self { counts, brightness: mean, spread: (squares / n - mean * mean).max(0.0).sqrt() }
    }

    /// How many.
    pub fn n(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn shares(&self) -> impl Iterator<Item = f64> + '_ {
        let n = self.n().max(1) as f64;
        self.counts.iter().map(move |&c| c as f64 / n)
    }
}

impl Drift {
    /// Compares the two.
    pub fn new(classes: &[String], mut known: Photos, mut new: Photos) -> Self {
        // Before the first night not even the classes were known.
        for photos in [&mut known, &mut new] {
            photos.counts.resize(classes.len(), 0);
        }
        let both = known.n() > 0 && new.n() > 0;
        let distance = known.shares().zip(new.shares()).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
        let shift = (new.brightness - known.brightness) / known.spread;
        Self {
            classes: classes.to_vec(),
            class_distance: both.then_some(distance),
            brightness_shift: (both && known.spread > 0.0).then_some(shift),
            embedding: None,
            known,
            new,
        }
    }
}

/// How far apart two sets of photos lie in a network's features, which are what its classifier sees of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// Distance between the mean features in standard deviations of the known photos: Glass's Δ (1976) in all
    /// dimensions at once, `|mean(new) - mean(known)| / s`, where `s²` is the sum of the dimensions' variances. What
    /// chance makes of its square between `n` and `m` photos of one kind, `1 / n + 1 / m`, is taken off: so does the
    /// unbiased estimate of the maximum mean discrepancy (Gretton et al. 2012), which with a linear kernel is this
    /// distance. 0: no more than chance.
    pub distance: f64,
    /// Known photos that were looked at.
    pub known: u64,
    /// Photos that came and were looked at.
    pub new: u64,
}

/// The features of some photos, summed up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Features {
    n: u64,
    /// In each dimension.
    sum: Vec<f64>,
    /// Of all dimensions.
    squares: f64,
}

impl Features {
    /// Adds a photo.
    pub fn take(&mut self, features: &[f32]) {
        let values = || features.iter().map(|&value| f64::from(value));
        self.add(&Self { n: 1, sum: values().collect(), squares: values().map(|value| value * value).sum() });
    }

    /// Adds the photos of `other`.
    pub fn add(&mut self, other: &Self) {
        self.sum.resize(self.sum.len().max(other.sum.len()), 0.0);
        self.sum.iter_mut().zip(&other.sum).for_each(|(sum, value)| *sum += value);
        self.n += other.n;
        self.squares += other.squares;
    }

    /// Whether all of it are numbers; of a network that has diverged they are not.
    pub fn is_finite(&self) -> bool {
        self.squares.is_finite() && self.sum.iter().all(|sum| sum.is_finite())
    }

    fn mean(&self) -> impl Iterator<Item = f64> + '_ {
        let n = self.n.max(1) as f64;
        self.sum.iter().map(move |sum| sum / n)
    }

    /// Variance, all dimensions together; none of fewer than two photos, or of photos that are all alike.
    fn variance(&self) -> Option<f64> {
        let n = self.n as f64;
        let left = self.squares - n * self.mean().map(|value| value * value).sum::<f64>();
        // The difference of two sums that are equal but for rounding is no variance.
        (self.n > 1 && left > 1e-12 * self.squares).then(|| left / (n - 1.0))
    }
}

impl Embedding {
    /// Compares the two; none where the known photos have no spread to compare with, or none came.
    pub fn new(known: &Features, new: &Features) -> Option<Self> {
        let variance = known.variance().filter(|_| new.n > 0)?;
        let apart: f64 = known.mean().zip(new.mean()).map(|(a, b)| (a - b) * (a - b)).sum();
        let chance = 1.0 / known.n as f64 + 1.0 / new.n as f64;
        let distance = (apart / variance - chance).max(0.0).sqrt();
        Some(Self { distance, known: known.n, new: new.n })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Purpose, stream};
    use rand::RngExt;

    /// Features of photos number `from` to `to` in 64 dimensions, in each uniform with a standard deviation of 1.
    fn features(from: u64, to: u64, shift: f32) -> Features {
        let mut all = Features::default();
        for number in from..to {
            let mut stream = stream(1, Purpose::Synthetic, number, "features");
            let width = 12.0_f32.sqrt();
            let values: Vec<f32> = (0..64).map(|_| width * (stream.random::<f32>() - 0.5) + 3.0 + shift).collect();
            all.take(&values);
        }
        all
    }

    fn distance(known: &Features, new: &Features) -> Option<f64> {
        Embedding::new(known, new).map(|e| e.distance)
    }

    #[test]
    fn photos_of_one_kind_have_no_distance_however_few_and_others_have_theirs() {
        let known = features(0, 400, 0.0);
        // Chance alone would give four photos a distance of a half.
        for (count, most) in [(4, 0.35), (200, 0.1)] {
            let found = distance(&known, &features(400, 400 + count, 0.0));
            assert!(found.is_some_and(|d| d < most), "{count} photos: {found:?}");
        }
        for shift in [0.5, 2.0] {
            let found = distance(&known, &features(400, 420, shift)).unwrap_or_default();
            assert!((found - f64::from(shift)).abs() < 0.1, "shifted by {shift}: {found}");
        }
    }

    #[test]
    fn features_add_up_part_by_part_and_without_a_spread_there_is_no_unit() {
        let mut parts = features(0, 7, 0.0);
        parts.add(&features(7, 50, 0.0));
        let (whole, new) = (features(0, 50, 0.0), features(50, 60, 1.0));
        assert_eq!(Embedding::new(&parts, &new).map(|e| (e.known, e.new)), Some((50, 10)));
        let apart = distance(&parts, &new).zip(distance(&whole, &new)).map(|(a, b)| (a - b).abs());
        assert!(apart.is_some_and(|d| d < 1e-9), "{apart:?}");
        let mut alike = Features::default();
        (0..9).for_each(|_| alike.take(&[0.1, 0.7, 0.3]));
        assert_eq!(distance(&alike, &new), None);
        assert_eq!(distance(&whole, &Features::default()), None);
        assert_eq!(distance(&features(0, 1, 0.0), &new), None);
        alike.take(&[f32::NAN, 0.0, 0.0]);
        assert!(!alike.is_finite() && whole.is_finite());
    }

    fn drift(known: &[(usize, u16)], new: &[(usize, u16)]) -> Drift {
        let photos = |list: &[(usize, u16)]| Photos::of(list.iter().copied(), 2);
        Drift::new(&["a".to_string(), "b".to_string()], photos(known), photos(new))
    }

    #[test]
    fn states_how_far_apart_two_sets_are() {
        let known = [(0, 400), (0, 600), (1, 400), (1, 600)];
        let same = drift(&known, &known);
        assert_eq!((same.class_distance, same.brightness_shift), (Some(0.0), Some(0.0)));
        let brighter = drift(&known, &[(0, 700), (0, 700), (0, 700), (1, 700)]);
        assert!((brighter.class_distance.unwrap_or(0.0) - 0.25).abs() < 1e-12);
        assert!((brighter.brightness_shift.unwrap_or(0.0) - 2.0).abs() < 1e-9, "{brighter:?}");
        let nothing = drift(&known, &[]);
        assert_eq!((nothing.class_distance, nothing.brightness_shift), (None, None));
    }
}
