//! The gate: may a retrained model take the place of the current one?
//!
//! Pure: what both models said of each image of the same frozen test set under the same attacks goes in,
//! a decision with all its figures comes out.

mod mcnemar;
mod rules;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use serde::{Deserialize, Serialize};

pub use mcnemar::p_value;
pub use rules::judge;

use crate::outcome::{Count, Outcomes};
use crate::report::{Check, Figure};

/// A measured model.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its version.
    pub version: &'a str,
    /// Its classes in the order of its logits.
    pub classes: &'a [String],
    /// What it was measured on; see `Frozen::sha256`.
    pub test_sha256: &'a str,
    /// What it said of each image.
    pub outcomes: &'a Outcomes,
    /// The sanity checks on these figures.
    pub checks: &'a [Check],
}

/// The best model that was ever promoted on this test set, by each figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Clean accuracy, in `[0, 1]`, and the version that had it.
    pub clean: (f64, String),
    /// Robust accuracy under the same attacks, likewise; none where every one was measured under others.
    pub robust: Option<(f64, String)>,
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether every rule holds.
    pub passed: bool,
    /// The version it was compared with; none when there was no current one.
    pub against: Option<String>,
    /// What both were measured on.
    pub test_sha256: String,
    /// One sentence for a person.
    pub reason: String,
    /// What may be said of it.
    pub claim: Claim,
    /// The budget of `robust`, pixel scale.
    pub epsilon: f64,
    /// Clean accuracy.
    pub clean: Comparison,
    /// Accuracy under every attack of at most `epsilon` at once.
    pub robust: Option<Comparison>,
    /// Each rule with its figure. Where two models cannot be compared, only the rules that say why.
    pub rules: Vec<Rule>,
}

/// What may be said of a model beside the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// There was none to compare it with.
    First,
    /// Significantly better, clean or robust, and significantly worse in neither.
    Better,
    /// Neither figure differs significantly.
    NoDifference,
    /// Significantly worse, clean or robust.
    Worse,
    /// The two were not measured alike.
    NotComparable,
}

/// The same figure of two models, image by image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Of the current model, or of the one compared with.
    pub before: Option<Figure>,
    /// Of the retrained one, or of the other one.
    pub after: Figure,
    /// `after - before` in percentage points.
    pub points: Option<f64>,
    /// Images that only the latter classifies correctly.
    pub gained: u64,
    /// Images that only the former does.
    pub lost: u64,
    /// McNemar's exact two-sided test.
    pub p_value: Option<f64>,
}

/// A rule and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// A few words: `clean accuracy has not fallen`.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was found, with numbers.
    pub figure: String,
    /// The setting it follows, with its value; empty where there is none to set.
    pub setting: String,
}

impl Claim {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Claim::First => "the first model",
            Claim::Better => "significantly better",
            Claim::NoDifference => "no significant difference",
            Claim::Worse => "significantly worse",
            Claim::NotComparable => "not comparable",
        }
    }
}

impl Comparison {
    fn alone(after: &[bool]) -> Self {
        Self { before: None, after: counted(after), points: None, gained: 0, lost: 0, p_value: None }
    }

    /// `before` and `after` tell for each image, in the same order, whether it counts as correct.
    pub(crate) fn of(before: &[bool], after: &[bool]) -> Self {
        let differing = |gain: bool| before.iter().zip(after).filter(|(b, a)| b != a && **a == gain).count() as u64;
        let (gained, lost) = (differing(true), differing(false));
        let (old, new) = (counted(before), counted(after));
        let points = 100.0 * (new.accuracy - old.accuracy);
        Self { before: Some(old), after: new, points: Some(points), gained, lost, p_value: Some(p_value(gained, lost)) }
    }
}

fn counted(correct: &[bool]) -> Figure {
    Count { correct: correct.iter().filter(|c| **c).count() as u64, n: correct.len() as u64 }.into()
}
