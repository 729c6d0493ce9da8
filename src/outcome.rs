//! What was predicted for each image under each condition, and the exact counts that follow.

use serde::{Deserialize, Serialize};

use crate::config::Epsilon;
use crate::error::{Error, Result};
use crate::task::Condition;

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOutcome {
    /// Its key in the shard.
    pub key: String,
    /// Its true class.
    pub label: usize,
    /// The predicted class under each condition of [`Outcomes::conditions`]. Under an attack: the
    /// class that the attack reached, the true one if it failed. An image that is misclassified
    /// clean is not attacked and keeps its clean prediction.
    pub predicted: Vec<usize>,
}

/// A model on a shard, or on all shards once merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    /// `clean` first, then the attacks.
    pub conditions: Vec<Condition>,
    /// In the order of the shard.
    pub images: Vec<ImageOutcome>,
}

/// `correct` of `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Images classified correctly.
    pub correct: u64,
    /// Images measured.
    pub n: u64,
}

impl Count {
    /// Share in `[0, 1]`; 0 of nothing is 0.
    pub fn accuracy(self) -> f64 {
        if self.n == 0 { 0.0 } else { self.correct as f64 / self.n as f64 }
    }

    /// The 95 % score interval of Wilson (1927), as shares.
    pub fn wilson(self) -> (f64, f64) {
        if self.n == 0 {
            return (0.0, 1.0);
        }
        let (n, p, z) = (self.n as f64, self.accuracy(), 1.959_963_984_540_054);
        let centre = p + z * z / (2.0 * n);
        let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + z * z / n;
        (((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0))
    }
}

impl Outcomes {
    /// Joins shards in the order given. All must have the same conditions.
    pub fn merge(parts: impl IntoIterator<Item = Outcomes>) -> Result<Outcomes> {
        let mut parts = parts.into_iter();
        let mut all = parts.next().ok_or_else(|| Error::internal("there are no outcomes to merge"))?;
        for part in parts {
            if part.conditions != all.conditions {
                return Err(Error::internal("outcomes of different attacks cannot be merged"));
            }
            all.images.extend(part.images);
        }
        Ok(all)
    }

    /// The number of the condition `attack` at `epsilon`, if it was measured.
    pub fn find(&self, attack: &str, epsilon: Epsilon) -> Option<usize> {
        self.conditions.iter().position(|c| c.attack == attack && (c.epsilon.value() - epsilon.value()).abs() < 1e-9)
    }

    /// The attacks that were measured with a budget of at most `epsilon`, each once, in their order.
    pub fn attacks_within(&self, epsilon: f64) -> Vec<String> {
        let mut attacks: Vec<String> = Vec::new();
        for condition in self.conditions.iter().filter(|c| c.epsilon.value() <= epsilon + 1e-9) {
            if condition.attack != "clean" && !attacks.contains(&condition.attack) {
                attacks.push(condition.attack.clone());
            }
        }
        attacks
    }

    /// For each image whether it is classified correctly under every condition with a budget of at most `epsilon`.
    pub fn standing(&self, epsilon: f64) -> Vec<bool> {
        let within = self.within(epsilon);
        let stands = |image: &ImageOutcome| within.iter().all(|&i| image.predicted.get(i) == Some(&image.label));
        self.images.iter().map(stands).collect()
    }

    /// The numbers of the conditions with a budget of at most `epsilon`.
    fn within(&self, epsilon: f64) -> Vec<usize> {
        let within = |number: &usize| self.conditions[*number].epsilon.value() <= epsilon + 1e-9;
        (0..self.conditions.len()).filter(within).collect()
    }

    /// Images classified correctly under condition number `condition`.
    pub fn count(&self, condition: usize) -> Count {
        self.count_where(condition, |_| true)
    }

    /// The same over the images of one class.
    pub fn count_class(&self, condition: usize, class: usize) -> Count {
        self.count_where(condition, |image| image.label == class)
    }

    fn count_where(&self, condition: usize, keep: impl Fn(&ImageOutcome) -> bool) -> Count {
        let mut count = Count { correct: 0, n: 0 };
        for image in self.images.iter().filter(|i| keep(i)) {
            count.n += 1;
            count.correct += u64::from(image.predicted[condition] == image.label);
        }
        count
    }

    /// `matrix[true class][predicted class]` under a condition.
    pub fn confusion(&self, condition: usize, classes: usize) -> Vec<Vec<u64>> {
        self.matrix(classes, |image| image.predicted[condition])
    }

    /// The same under all attacks of at most `epsilon` at once: an image is taken for what the first of them that broke
    /// it made of it.
    pub fn worst_confusion(&self, epsilon: f64, classes: usize) -> Vec<Vec<u64>> {
        let within = self.within(epsilon);
        self.matrix(classes, |image| {
            let mut seen = within.iter().map(|&i| image.predicted[i]);
            seen.find(|class| *class != image.label).unwrap_or(image.label)
        })
    }

    fn matrix(&self, classes: usize, predicted: impl Fn(&ImageOutcome) -> usize) -> Vec<Vec<u64>> {
        let mut matrix = vec![vec![0; classes]; classes];
        for image in &self.images {
            matrix[image.label][predicted(image)] += 1;
        }
        matrix
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wilson_agrees_with_published_values() {
        // Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662.
        let (low, high) = Count { correct: 81, n: 263 }.wilson();
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
        let (low, high) = Count { correct: 0, n: 20 }.wilson();
        assert!(low == 0.0 && (high - 0.1611).abs() < 5e-5, "{high}");
    }

    #[test]
    fn attacks_are_listed_once_and_only_up_to_their_budget() {
        let conditions = [("clean", 0.0), ("fgsm", 0.01), ("pgd20", 0.01), ("fgsm", 0.02), ("apgd", 0.02)];
        let condition = |&(attack, epsilon): &(&str, f64)| Condition {
            attack: attack.into(),
            epsilon: Epsilon::new(epsilon).unwrap_or(Epsilon::ZERO),
        };
        let outcomes = Outcomes { conditions: conditions.iter().map(condition).collect(), images: Vec::new() };
        assert_eq!(outcomes.attacks_within(0.0), [""; 0]);
        assert_eq!(outcomes.attacks_within(0.01), ["fgsm", "pgd20"]);
        assert_eq!(outcomes.attacks_within(0.02), ["fgsm", "pgd20", "apgd"]);
    }

    #[test]
    fn the_worst_case_has_as_many_right_as_stand_and_the_rest_as_the_first_attack_took_them() {
        let conditions = [("clean", 0.0), ("fgsm", 0.01), ("pgd20", 0.01), ("pgd20", 0.02)];
        let condition = |&(attack, epsilon): &(&str, f64)| Condition {
            attack: attack.into(),
            epsilon: Epsilon::new(epsilon).unwrap_or(Epsilon::ZERO),
        };
        let seen = [[0, 0, 0, 0], [0, 0, 2, 1], [0, 1, 2, 1], [0, 0, 0, 2]];
        let image = |predicted: &[usize; 4]| ImageOutcome { key: String::new(), label: 0, predicted: predicted.into() };
        let outcomes = Outcomes {
            conditions: conditions.iter().map(condition).collect(),
            images: seen.iter().map(image).collect(),
        };
        assert_eq!(outcomes.worst_confusion(0.01, 3)[0], [2, 1, 1]);
        assert_eq!(outcomes.worst_confusion(0.02, 3)[0], [1, 1, 2]);
        assert_eq!(outcomes.standing(0.02), [true, false, false, false]);
    }

    proptest! {
        #[test]
        fn merged_counts_are_the_sums_of_the_parts(parts in prop::collection::vec(
            prop::collection::vec((0usize..5, 0usize..5), 0..20), 1..6))
        {
            let conditions = vec![Condition { attack: "clean".into(), epsilon: Epsilon::ZERO }];
            let shards: Vec<Outcomes> = parts.iter().map(|images| Outcomes {
                conditions: conditions.clone(),
                images: images.iter().map(|&(label, p)| ImageOutcome {
                    key: String::new(), label, predicted: vec![p],
                }).collect(),
            }).collect();
            let sum: u64 = shards.iter().map(|s| s.count(0).correct).sum();
            let all = Outcomes::merge(shards).unwrap();
            prop_assert_eq!(all.count(0).correct, sum);
            prop_assert_eq!(all.count(0).n as usize, parts.iter().map(Vec::len).sum::<usize>());
            let per_class: u64 = (0..5).map(|c| all.count_class(0, c).correct).sum();
            prop_assert_eq!(per_class, sum);
            prop_assert_eq!(all.confusion(0, 5).iter().flatten().sum::<u64>(), all.images.len() as u64);
        }
    }
}
