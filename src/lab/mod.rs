//! The attack lab: photos broken on purpose, one by one, as files that others can measure again.
//!
//! What is saved is what was measured: an adversarial picture is rounded to 8 bits, held inside the
//! ball of whole levels, written as PNG, decoded again and scored. The figures of the float image
//! stand beside it.

#[cfg(feature = "compute")]
mod comparison;
#[cfg(feature = "compute")]
pub mod likeness;
mod plan;
mod record;
#[cfg(feature = "compute")]
pub mod sticker;
mod summary;
#[cfg(feature = "compute")]
mod survival;
#[cfg(feature = "compute")]
mod trial;

pub use plan::{Budgets, Plan, norm_name, shown};
pub use record::{Class, Finding, Guess, Labelled, Record, Saved, Sight, State, Survival};
pub use summary::{Budget, ClassLine, Summary};
#[cfg(feature = "compute")]
pub use trial::{Models, Pictures, Specimen, Subject, examine};

/// The name of the file that sums up a folder under attack.
pub const SUMMARY_FILE: &str = "attack.json";
