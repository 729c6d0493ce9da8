//! Pictures of broken images for people: a few of each class and of each attack.

use std::collections::BTreeSet;

use image::RgbImage;
use tch::{Kind, Tensor};

use crate::attack::{Attempt, Model, integers, positions, quantise, select};
use crate::config::Epsilon;
use crate::model::images::pictures;
use crate::task::Condition;

/// An image before and after an attack that broke it, at the network's size, as 8-bit pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Its key.
    pub key: String,
    /// The attack.
    pub attack: String,
    /// Its budget.
    pub epsilon: Epsilon,
    /// True class.
    pub label: usize,
    /// Predicted class of the original and its confidence in `[0, 1]`.
    pub before: (usize, f64),
    /// The same of the adversarial image, measured on the pixels kept here.
    pub after: (usize, f64),
    /// Its pixels.
    pub original: RgbImage,
    /// Pixels at most ⌊255 ε⌋ levels away from those of `original`.
    pub adversarial: RgbImage,
}

/// Keeps the first images that break: each image once, and no class or attack takes the places of others.
#[derive(Debug)]
pub(super) struct Gallery {
    pub examples: Vec<Example>,
    places: usize,
    conditions: usize,
    /// They share the places, too.
    pub classes: usize,
    shown: BTreeSet<String>,
}

impl Gallery {
    /// Room for `places` pictures, shared among so many attacks.
    pub fn new(places: usize, conditions: usize) -> Self {
        Self { examples: Vec::new(), places, conditions, classes: 1, shown: BTreeSet::new() }
    }

    /// Looks through the attack on a batch for pictures. They must stay broken as 8-bit pixels.
    pub fn add(
        &mut self,
        model: &Model,
        condition: &Condition,
        images: &Tensor,
        labels: &Tensor,
        attempt: &Attempt,
        keys: &[&str],
    ) {
        let free = self.free(condition);
        let broken = integers(&positions(&attempt.predicted.ne_tensor(labels)));
        let unseen = broken.into_iter().filter(|&row| !self.shown.contains(keys[row as usize]));
        // Some will be left out again: rounding mends them, or their class has its share.
        let rows: Vec<i64> = unseen.take(4 * free).collect();
        if rows.is_empty() {
            return;
        }
        let chosen = Tensor::from_slice(&rows).to_device(images.device());
        let clean = select(images, &chosen);
        let bent = quantise(&select(&attempt.adversarial, &chosen), &clean, condition.epsilon.levels());
        let clean = quantise(&clean, &clean, 0);
        let (before, after) = (Seen::by(model, &clean), Seen::by(model, &bent));
        let truth = integers(&labels.index_select(0, &chosen));
        let found =
            rows.iter().zip(truth).zip(before.into_iter().zip(after)).map(|((&row, label), (before, after))| {
                let (key, label) = (keys[row as usize].to_string(), label as usize);
                let (original, adversarial) = (before.picture, after.picture);
                let (before, after) = (before.class, after.class);
                let Condition { attack, epsilon } = condition.clone();
                Example { key, attack, epsilon, label, before, after, original, adversarial }
            });
        for example in found.filter(|example| example.after.0 != example.label) {
            self.place(example, condition);
        }
    }

    /// How many more pictures of a condition there is room for.
    fn free(&self, condition: &Condition) -> usize {
        let shown = self.examples.iter().filter(|e| e.attack == condition.attack && e.epsilon == condition.epsilon);
        let share = self.places.div_ceil(self.conditions.max(1)).saturating_sub(shown.count());
        share.min(self.places - self.examples.len())
    }

    fn place(&mut self, example: Example, condition: &Condition) {
        let of_class = self.examples.iter().filter(|e| e.label == example.label).count();
        if self.free(condition) > 0 && of_class < self.places.div_ceil(self.classes) {
            self.shown.insert(example.key.clone());
            self.examples.push(example);
        }
    }
}

/// What the model sees in a picture.
struct Seen {
    picture: RgbImage,
    /// The predicted class and its confidence.
    class: (usize, f64),
}

impl Seen {
    fn by(model: &Model, images: &Tensor) -> Vec<Seen> {
        let logits = tch::no_grad(|| model(images));
        let (confidence, class) = logits.softmax(-1, Kind::Double).max_dim(1, false);
        let classes = integers(&class).into_iter().enumerate();
        let classes = classes.map(|(i, class)| (class as usize, confidence.double_value(&[i as i64])));
        pictures(images).into_iter().zip(classes).map(|(picture, class)| Seen { picture, class }).collect()
    }
}
