//! The checks that a report makes of its own figures, from counts alone: no libtorch here.
//!
//! A check that fails marks the figures as not to be trusted; one that cannot be made, since what it
//! needs was not measured, is left out.

mod figures;

use serde::{Deserialize, Serialize};

use super::Audit;
use crate::config::Adversary;
use crate::outcome::Outcomes;

/// A check with its figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The model checked, `baseline` or `trained`.
    pub model: String,
    /// What must hold, `accuracy falls as epsilon grows`.
    pub name: String,
    /// What was found, for a person: `pgd20: 54.4 % at 4/255, 30.4 % at 8/255`.
    pub figure: String,
    /// Whether it holds.
    pub passed: bool,
    /// What it means when it does not.
    pub explanation: String,
}

/// How a model was trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Origin {
    /// On clean images.
    Undefended,
    /// Against this adversary, with this budget.
    Defended(Adversary, f64),
    /// Somewhere else.
    Unknown,
}

/// A model's figures, as the checks need them.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// `baseline` or `trained`.
    pub model: &'a str,
    /// All of its shards, merged.
    pub outcomes: &'a Outcomes,
    /// The audits of its shards, added up.
    pub audit: Option<&'a Audit>,
    /// Number of classes.
    pub classes: usize,
    /// What it was trained against.
    pub origin: Origin,
    /// What it predicts for images that were made against other models, by their names.
    pub shown: &'a [(&'a str, &'a Outcomes)],
}

/// All checks that can be made of a model.
pub fn check(subject: &Subject) -> Vec<Check> {
    let Subject { outcomes, origin, .. } = *subject;
    let audit = |look: fn(&Audit, &Subject) -> Option<Found>| subject.audit.and_then(|audit| look(audit, subject));
    let found = [
        (
            "perturbations stay within epsilon",
            audit(figures::inside),
            "an attack that takes more than its budget overstates how fragile the model is",
        ),
        ("adversarial images are images", audit(figures::valid), "such images could not be saved or shown to a camera"),
        (
            "gradients are not zero",
            audit(figures::sloped),
            "an attack that follows gradients cannot break images without one: they seem robust and may not be",
        ),
        (
            "logits are deterministic",
            audit(figures::steady),
            "a network that answers otherwise each time hides its gradient",
        ),
        (
            "epsilon 0 equals clean",
            both(figures::zero(outcomes), audit(figures::untouched)),
            "an attack without a budget must change nothing",
        ),
        (
            "accuracy falls as epsilon grows",
            figures::falls(outcomes),
            "a larger ball holds the smaller one; an attack that does worse in it overshoots, and its figure flatters",
        ),
        (
            "epsilon 0.5 leaves chance at most",
            both(figures::chance(outcomes, subject.classes), audit(figures::half)),
            "with half the pixel range anything can be made grey; accuracy beyond chance means the attack fails",
        ),
        (
            "pgd is at least as strong as fgsm",
            figures::strength(outcomes),
            "many steps that do worse than one are the mark of a masked gradient",
        ),
        (
            "noise breaks nothing more",
            audit(figures::noise),
            "an attack that random noise of the same size outdoes has not looked",
        ),
        (
            "twice the steps break no more",
            audit(figures::steps),
            "an attack that was still getting better when it stopped overstates how robust the model is",
        ),
        (
            "a black-box attack breaks no more",
            both(audit(figures::black_box), audit(figures::queries)),
            "an attack that cannot see the gradient and finds more is the mark of a masked one",
        ),
        (
            "images made against another model break no more",
            figures::transfer(subject),
            "whoever knows the model does no worse than whoever does not; else its gradient misleads",
        ),
        (
            "fgsm and pgd tell the same story",
            if let Origin::Defended(_, epsilon) = origin { figures::gap(outcomes, epsilon) } else { None },
            "robust to one step and not to many: catastrophic overfitting",
        ),
        (
            "measured with more than the training attack",
            figures::beyond(outcomes, origin),
            "a model may have learned its own attack and nothing else",
        ),
        (
            "the undefended model falls",
            if origin == Origin::Undefended { figures::falls_undefended(outcomes) } else { None },
            "an attack that does not break an undefended model proves nothing about a defended one",
        ),
    ];
    let check = |(name, found, explanation): (&str, Option<Found>, &str)| {
        let (model, name, explanation) = (subject.model.to_string(), name.to_string(), explanation.to_string());
        found.map(|(figure, passed)| Check { model, name, figure, passed, explanation })
    };
    found.into_iter().filter_map(check).collect()
}

/// What was found, for a person, and whether it is as it must be.
type Found = (String, bool);

/// Two findings that must both be as they must; where one could not be made, the other.
fn both(first: Option<Found>, second: Option<Found>) -> Option<Found> {
    match (first, second) {
        (Some((first, sound)), Some((second, too))) => Some((format!("{first}; {second}"), sound && too)),
        (first, second) => first.or(second),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
