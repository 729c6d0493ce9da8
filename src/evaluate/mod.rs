//! Measuring a model: what it predicts for each image, clean and under each attack.
//!
//! An image is robust under an attack if no iterate of it is misclassified. Images that are
//! misclassified clean are not attacked; they count as broken and keep their clean prediction.

mod audit;
pub mod checks;
#[cfg(feature = "compute")]
mod gallery;
#[cfg(feature = "compute")]
mod measure;

use crate::attack::Attack;
use crate::config::{Epsilon, EvaluateSettings};
use crate::error::{Error, Result};
use crate::task::{Condition, Probe};

pub use audit::Audit;
#[cfg(feature = "compute")]
pub use gallery::Example;
#[cfg(feature = "compute")]
pub use measure::{Batch, Measured, Request, shard};

/// The name of the condition without an attack.
pub const CLEAN: &str = "clean";

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

/// What is tried for the checks' sake: at the budget that was trained against if it is measured, else the largest,
/// on `evaluate.probes` images shared among so many shards. None where no budget is measured.
pub fn probe(settings: &EvaluateSettings, trained_against: Epsilon, shards: usize) -> Option<Probe> {
    let same = |e: &&Epsilon| (e.value() - trained_against.value()).abs() < 1e-9;
    let largest = || settings.epsilons.iter().max_by(|a, b| a.value().total_cmp(&b.value()));
    let epsilon = *settings.epsilons.iter().find(same).or_else(largest)?;
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
mod tests;
