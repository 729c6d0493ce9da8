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
            known,
            new,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
