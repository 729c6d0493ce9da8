//! Accuracies as the report states them: exact counts with their intervals.

use serde::{Deserialize, Serialize};

use super::Check;
use crate::error::{Error, Result};
use crate::gate::Comparison;
use crate::outcome::{Count, Outcomes};

/// A count, its share and the 95 % Wilson interval of the share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Images measured.
    pub n: u64,
    /// Images classified correctly.
    pub correct: u64,
    /// `correct / n`, in `[0, 1]`.
    pub accuracy: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl From<Count> for Figure {
    fn from(count: Count) -> Self {
        let (low, high) = count.wilson();
        Self { n: count.n, correct: count.correct, accuracy: count.accuracy(), low, high }
    }
}

/// The images of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassCount {
    /// The class.
    pub class: String,
    /// Its images.
    pub n: u64,
    /// Those classified correctly.
    pub correct: u64,
    /// `correct / n`, in `[0, 1]`.
    #[serde(default)]
    pub accuracy: f64,
    /// Lower end of the interval.
    #[serde(default)]
    pub low: f64,
    /// Upper end of the interval.
    #[serde(default)]
    pub high: f64,
}

impl ClassCount {
    fn new(class: &str, count: Count) -> Self {
        let Figure { n, correct, accuracy, low, high } = count.into();
        Self { class: class.into(), n, correct, accuracy, low, high }
    }
}

/// A model under one attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// `baseline` or `trained`.
    pub model: String,
    /// `clean`, `fgsm`, `pgd20`, …
    pub attack: String,
    /// Pixel scale; 0 for `clean`.
    pub epsilon: f64,
    /// Over all classes.
    #[serde(flatten)]
    pub figure: Figure,
    /// In label order.
    pub per_class: Vec<ClassCount>,
}

/// A model under every attack at once: an image counts as correct when no attack of at most this
/// budget reached another class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstCase {
    /// `baseline` or `trained`.
    pub model: String,
    /// Pixel scale.
    pub epsilon: f64,
    /// The attacks that count.
    pub attacks: Vec<String>,
    /// Over all classes.
    #[serde(flatten)]
    pub figure: Figure,
}

/// A model on the adversarial images that were made against another one. Images that the other one misclassifies
/// clean were not attacked and are shown as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// The model that was attacked.
    pub attacked: String,
    /// The model that was shown the images.
    pub seen_by: String,
    /// `fgsm`, `pgd20`, …
    pub attack: String,
    /// Pixel scale.
    pub epsilon: f64,
    /// Over all classes.
    #[serde(flatten)]
    pub figure: Figure,
}

/// The smallest measured budget that broke images of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failures {
    /// `baseline` or `trained`.
    pub model: String,
    /// Pixel scale; 0 for images misclassified without an attack, absent for those that stood everything.
    pub epsilon: Option<f64>,
    /// Images.
    pub images: u64,
}

/// A model on the static adversarial copy of the measured split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StaticFigure {
    /// `baseline` or `trained`.
    pub model: String,
    /// Pixel scale.
    pub epsilon: f64,
    /// Over all classes.
    #[serde(flatten)]
    pub figure: Figure,
}

/// Which class was taken for which, under one attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// `baseline` or `trained`.
    pub model: String,
    /// `clean`, `fgsm`, …
    pub attack: String,
    /// Pixel scale; 0 for `clean`.
    pub epsilon: f64,
    /// `matrix[true class][predicted class]`, images.
    pub matrix: Vec<Vec<u64>>,
}

/// Two models on the same images, image by image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// The model that the other one is compared with: `before` of the comparison.
    pub first: String,
    /// The other one: `after`.
    pub second: String,
    /// Pixel scale: every attack of at most this counts; 0 for clean images.
    pub epsilon: f64,
    /// What differs, and whether by more than chance.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// Two budgets that were written alike.
pub(super) fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// The result of `model` under `attack` at `epsilon`.
pub(super) fn find<'a>(results: &'a [Measured], model: &str, attack: &str, epsilon: f64) -> Option<&'a Measured> {
    results.iter().find(|r| r.model == model && r.attack == attack && same(r.epsilon, epsilon))
}

/// Refuses outcomes whose labels or predictions do not fit `classes` and the conditions.
pub(super) fn check(model: &str, outcomes: &Outcomes, classes: usize) -> Result<()> {
    for image in &outcomes.images {
        let fits = image.label < classes
            && image.predicted.len() == outcomes.conditions.len()
            && image.predicted.iter().all(|&p| p < classes);
        if !fits {
            return Err(Error::internal(format!(
                "outcome of image '{}' under model '{model}' does not fit {classes} classes and {} conditions",
                image.key.escape_debug(),
                outcomes.conditions.len()
            )));
        }
    }
    Ok(())
}

/// One entry per condition, in their order.
pub(super) fn measured(model: &str, outcomes: &Outcomes, classes: &[String]) -> Vec<Measured> {
    let measure = |(number, condition): (usize, &crate::task::Condition)| {
        let mut counts = vec![Count { correct: 0, n: 0 }; classes.len()];
        for image in &outcomes.images {
            counts[image.label].n += 1;
            counts[image.label].correct += u64::from(image.predicted[number] == image.label);
        }
        Measured {
            model: model.into(),
            attack: condition.attack.clone(),
            epsilon: condition.epsilon.value(),
            figure: outcomes.count(number).into(),
            per_class: classes.iter().zip(&counts).map(|(class, count)| ClassCount::new(class, *count)).collect(),
        }
    };
    outcomes.conditions.iter().enumerate().map(measure).collect()
}

/// One entry per budget above 0, rising.
pub(super) fn worst_cases(model: &str, outcomes: &Outcomes) -> Vec<WorstCase> {
    let worst = |epsilon: f64| {
        let correct = outcomes.standing(epsilon).iter().filter(|stands| **stands).count() as u64;
        let figure = Count { correct, n: outcomes.images.len() as u64 }.into();
        WorstCase { model: model.into(), epsilon, attacks: outcomes.attacks_within(epsilon), figure }
    };
    budgets(outcomes).into_iter().map(worst).collect()
}

/// The budgets above 0, rising.
fn budgets(outcomes: &Outcomes) -> Vec<f64> {
    let mut budgets: Vec<f64> =
        outcomes.conditions.iter().map(|c| c.epsilon.value()).filter(|&epsilon| epsilon > 0.0).collect();
    budgets.sort_by(f64::total_cmp);
    budgets.dedup_by(|a, b| same(*a, *b));
    budgets
}

/// Every two models on the same images, clean and under all attacks up to each budget; none where some measured
/// other images.
pub(super) fn paired(all: &[(String, Outcomes)]) -> Vec<Paired> {
    let mut found = Vec::new();
    for (i, (second, after)) in all.iter().enumerate() {
        for (first, before) in &all[..i] {
            let keys = |outcomes: &Outcomes| outcomes.images.iter().map(|image| image.key.clone()).collect::<Vec<_>>();
            if keys(before) != keys(after) || before.conditions != after.conditions {
                continue;
            }
            found.extend([0.0].into_iter().chain(budgets(after)).map(|epsilon| Paired {
                first: first.clone(),
                second: second.clone(),
                epsilon,
                comparison: Comparison::of(&before.standing(epsilon), &after.standing(epsilon)),
            }));
        }
    }
    found
}

/// One entry for each attack that was shown to the other model.
pub(super) fn transfers(attacked: &str, seen_by: &str, outcomes: &Outcomes) -> Vec<Transfer> {
    let all = outcomes.conditions.iter().enumerate().filter(|(_, c)| c.epsilon.value() > 0.0);
    all.map(|(number, condition)| Transfer {
        attacked: attacked.into(),
        seen_by: seen_by.into(),
        attack: condition.attack.clone(),
        epsilon: condition.epsilon.value(),
        figure: outcomes.count(number).into(),
    })
    .collect()
}

/// How many images each budget was the first to break, from a model's worst cases, rising.
pub(super) fn failures(model: &str, clean: Count, worst: &[WorstCase]) -> Vec<Failures> {
    let mut all = vec![Failures { model: model.into(), epsilon: Some(0.0), images: clean.n - clean.correct }];
    let mut standing = clean.correct;
    for case in worst.iter().filter(|w| w.model == model) {
        let images = standing.saturating_sub(case.figure.correct);
        all.push(Failures { model: model.into(), epsilon: Some(case.epsilon), images });
        standing = case.figure.correct;
    }
    all.push(Failures { model: model.into(), epsilon: None, images: standing });
    all
}

/// Whether the worst cases are those of single images: an average over attacks would flatter.
pub(super) fn worst_case_check(worst: &[WorstCase], results: &[Measured]) -> Option<Check> {
    let beside = worst.iter().filter_map(|case| {
        let counted = results.iter().filter(|r| r.model == case.model && r.epsilon <= case.epsilon + 1e-9);
        let least = counted.min_by_key(|r| r.figure.correct)?;
        Some((case.figure.correct as i64 - least.figure.correct as i64, case, least))
    });
    let (most, case, least) = beside.max_by_key(|(excess, ..)| *excess)?;
    Some(Check {
        name: "all attacks together leave no more than each of them".into(),
        passed: most <= 0,
        figure: format!(
            "{} up to {:.4}: together {}, {} alone {}",
            case.model, case.epsilon, case.figure.correct, least.attack, least.figure.correct
        ),
        explanation: "an image is robust if every attack fails on it; an average over attacks flatters the model"
            .into(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Epsilon;
    use crate::outcome::ImageOutcome;
    use crate::task::Condition;
    use proptest::prelude::*;

    fn outcomes(images: Vec<(usize, Vec<usize>)>) -> Outcomes {
        let conditions = [("clean", 0.0), ("fgsm", 4.0), ("pgd20", 4.0), ("fgsm", 8.0), ("pgd20", 8.0)];
        Outcomes {
            conditions: conditions
                .iter()
                .map(|&(attack, levels)| Condition {
                    attack: attack.into(),
                    epsilon: Epsilon::new(levels / 255.0).unwrap(),
                })
                .collect(),
            images: images
                .into_iter()
                .map(|(label, predicted)| ImageOutcome { key: "k".into(), label, predicted })
                .collect(),
        }
    }

    #[test]
    fn the_worst_case_counts_images_not_attacks() {
        // Each attack at 4/255 leaves one of two images; together they leave none.
        let worst = worst_cases("trained", &outcomes(vec![(0, vec![0, 1, 0, 0, 0]), (1, vec![1, 1, 0, 1, 1])]));
        assert_eq!(worst.len(), 2);
        assert_eq!((worst[0].figure.correct, worst[0].figure.n), (0, 2));
        assert_eq!(worst[0].attacks, ["fgsm", "pgd20"]);
    }

    #[test]
    fn an_average_in_place_of_the_worst_case_is_caught() {
        let outcomes = outcomes(vec![(0, vec![0, 0, 1, 0, 1]), (1, vec![1, 1, 0, 1, 0]), (1, vec![1; 5])]);
        let classes: Vec<String> = ["a", "b"].map(String::from).into();
        let (results, mut worst) = (measured("trained", &outcomes, &classes), worst_cases("trained", &outcomes));
        assert!(worst_case_check(&worst, &results).unwrap().passed);
        let mean = |epsilon: f64| {
            let counted: Vec<u64> =
                results.iter().filter(|r| same(r.epsilon, epsilon)).map(|r| r.figure.correct).collect();
            counted.iter().sum::<u64>().div_ceil(counted.len() as u64)
        };
        for case in &mut worst {
            case.figure = Count { correct: mean(case.epsilon), n: case.figure.n }.into();
        }
        let check = worst_case_check(&worst, &results).unwrap();
        assert!(!check.passed && check.figure.contains("pgd20 alone 1"), "{check:?}");
    }

    #[test]
    fn two_models_are_compared_image_by_image() {
        // Under all attacks at 4/255 the second model wins the first image and loses the third.
        let first = outcomes(vec![(0, vec![0, 1, 0, 1, 1]), (1, vec![1; 5]), (1, vec![1; 5])]);
        let second = outcomes(vec![(0, vec![0; 5]), (1, vec![1; 5]), (1, vec![1, 1, 0, 0, 0])]);
        let found = paired(&[("a".into(), first.clone()), ("b".into(), second.clone())]);
        let brief: Vec<_> = found
            .iter()
            .map(|p| ((p.epsilon * 255.0).round(), p.comparison.gained, p.comparison.lost, p.comparison.p_value))
            .collect();
        assert_eq!(brief, [(0.0, 0, 0, Some(1.0)), (4.0, 1, 1, Some(1.0)), (8.0, 1, 1, Some(1.0))]);
        let mut other = second;
        other.images[0].key = "another".into();
        assert!(paired(&[("a".into(), first), ("b".into(), other)]).is_empty());
    }

    #[test]
    fn every_image_fails_once_or_never() {
        let outcomes =
            outcomes(vec![(0, vec![1; 5]), (0, vec![0, 0, 1, 0, 0]), (0, vec![0, 0, 0, 0, 1]), (0, vec![0; 5])]);
        let found = failures("trained", outcomes.count(0), &worst_cases("trained", &outcomes));
        let budgets: Vec<_> = found.iter().map(|f| (f.epsilon.map(|e| (e * 255.0).round()), f.images)).collect();
        assert_eq!(budgets, [(Some(0.0), 1), (Some(4.0), 1), (Some(8.0), 1), (None, 1)]);
    }

    #[test]
    fn outcomes_that_do_not_fit_are_refused_not_a_panic() {
        assert!(check("trained", &outcomes(vec![(5, vec![0; 5])]), 5).is_err());
        assert!(check("trained", &outcomes(vec![(0, vec![0, 0, 9, 0, 0])]), 5).is_err());
        assert!(check("trained", &outcomes(vec![(0, vec![0])]), 5).is_err());
        assert!(check("trained", &outcomes(vec![(0, vec![4; 5])]), 5).is_ok());
    }

    proptest! {
        #[test]
        fn the_worst_case_is_below_every_attack_and_falls_with_epsilon(
            images in prop::collection::vec((0usize..3, prop::collection::vec(0usize..3, 5)), 0..40))
        {
            let outcomes = outcomes(images);
            let classes: Vec<String> = ["a", "b", "c"].map(String::from).into();
            let all = measured("trained", &outcomes, &classes);
            let worst = worst_cases("trained", &outcomes);
            prop_assert!(worst[1].figure.correct <= worst[0].figure.correct);
            for m in &all {
                for w in worst.iter().filter(|w| w.epsilon >= m.epsilon) {
                    prop_assert!(w.figure.correct <= m.figure.correct);
                }
                prop_assert_eq!(m.per_class.iter().map(|c| c.correct).sum::<u64>(), m.figure.correct);
                prop_assert_eq!(m.per_class.iter().map(|c| c.n).sum::<u64>(), m.figure.n);
            }
        }
    }
}
