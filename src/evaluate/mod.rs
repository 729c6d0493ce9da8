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
use crate::task::Condition;

pub use audit::Audit;
#[cfg(feature = "compute")]
pub use gallery::Example;
#[cfg(feature = "compute")]
pub use measure::{Batch, Measured, shard};

/// The name of the condition without an attack.
pub const CLEAN: &str = "clean";

/// Clean and every attack of the settings at each of their budgets, in their order, each once.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for names that are no attack, and for one that leaves
/// the ε-ball and so cannot be measured at an ε.
pub fn conditions(settings: &EvaluateSettings) -> Result<Vec<Condition>> {
    let mut conditions = vec![Condition { attack: CLEAN.into(), epsilon: Epsilon::ZERO }];
    for name in &settings.attacks {
        let attack: Attack = name.parse()?;
        if attack.reach() > 1.0 {
            return Err(Error::usage(format!(
                "evaluate.attacks has '{name}', which leaves the epsilon ball (by up to {} epsilon) and measures \
                 nothing; it is for training",
                attack.reach()
            )));
        }
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
