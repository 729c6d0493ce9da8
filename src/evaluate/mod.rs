//! Measuring a model: what it predicts for each image, clean and under each attack.
//!
//! An image is robust under an attack if no iterate of it is misclassified. Images that are
//! misclassified clean are not attacked; they count as broken and keep their clean prediction.

mod audit;
mod black_box;
pub mod checks;
#[cfg(feature = "compute")]
mod gallery;
#[cfg(feature = "compute")]
mod measure;
#[cfg(feature = "compute")]
mod pool;
#[cfg(feature = "compute")]
mod probe;

use crate::attack::Attack;
use crate::config::{Epsilon, EvaluateSettings};
use crate::error::{Error, Result};
use crate::task::{Condition, Probe};

pub use audit::Audit;
pub use black_box::BlackBox;
#[cfg(feature = "compute")]
pub use gallery::Example;
#[cfg(feature = "compute")]
pub use measure::{Batch, Measured, Request, shard};

/// The name of the condition without an attack.
pub const CLEAN: &str = "clean";

/// What must break what can be broken, with half the pixel range: it begins at the image itself, since a random start
/// of that size breaks images by luck.
const HALF: (Attack, f64) = (Attack::Bim { steps: 20 }, 0.5);

/// Names in `evaluate.attacks` that stand for several attacks, each measured by itself. `autoattack` is none of them:
/// it is one attack, of which each part goes over what the one before left.
const SETS: [(&str, &[&str]); 2] =
    [("quick", &["fgsm", "pgd20"]), ("nightly", &["apgd-ce50", "apgd-t50", "square500"])];

/// The attacks that `names` stand for, as in `evaluate.attacks`.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for names that are no attack, and for one that leaves
/// the ε-ball and so cannot be measured at an ε.
pub fn attacks(names: &[String]) -> Result<Vec<Attack>> {
    let mut attacks = Vec::new();
    for name in names {
        let set = SETS.iter().find(|(set, _)| set == name);
        for member in set.map_or(&[name.as_str()][..], |(_, members)| *members) {
            let attack: Attack = member.parse().map_err(|e| {
                let sets = SETS.map(|(set, _)| set).join(", ");
                Error::usage(format!("{e}; and the sets {sets}"))
            })?;
            if attack.reach() > 1.0 {
                return Err(Error::usage(format!(
                    "'{name}' leaves the epsilon ball (by up to {} epsilon) and measures nothing; it is for training",
                    attack.reach()
                )));
            }
            attacks.push(attack);
        }
    }
    Ok(attacks)
}

/// The budget that the checks try and that a report speaks of: the one that was trained against if it is measured,
/// else 4/255, else 8/255, else the largest; from half the pixel range on it is a check and no budget. None where none
/// is measured.
pub fn foremost(budgets: &[Epsilon], trained_against: Epsilon) -> Option<Epsilon> {
    let wanted = [trained_against.value(), 4.0 / 255.0, 8.0 / 255.0];
    let measured = || budgets.iter().filter(|budget| budget.value() > 0.0 && budget.value() < HALF.1);
    let same = |wanted: f64| measured().find(|budget| (budget.value() - wanted).abs() < 1e-9);
    let largest = || measured().max_by(|a, b| a.value().total_cmp(&b.value()));
    wanted.into_iter().find_map(same).or_else(largest).copied()
}

/// What is tried for the checks' sake: at the [`foremost`] budget, on `evaluate.probes` images shared among so many
/// shards. None where no budget is measured.
pub fn probe(settings: &EvaluateSettings, trained_against: Epsilon, shards: usize) -> Option<Probe> {
    let epsilon = foremost(&settings.epsilons, trained_against)?;
    let images = settings.probes.div_ceil(shards.max(1));
    Some(Probe { epsilon, images })
}

/// Clean and every attack of the settings at each of their budgets, in their order, each once.
///
/// # Errors
/// See [`attacks`].
pub fn conditions(settings: &EvaluateSettings) -> Result<Vec<Condition>> {
    let mut conditions = vec![Condition { attack: CLEAN.into(), epsilon: Epsilon::ZERO }];
    for attack in attacks(&settings.attacks)? {
        for &epsilon in &settings.epsilons {
            let condition = Condition { attack: attack.to_string(), epsilon };
            if !conditions.contains(&condition) {
                conditions.push(condition);
            }
        }
    }
    Ok(conditions)
}

#[cfg(all(test, feature = "compute"))]
#[allow(clippy::unwrap_used)]
mod faults;
#[cfg(all(test, feature = "compute"))]
#[allow(clippy::unwrap_used)]
mod tests;
