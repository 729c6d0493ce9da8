//! The adversarial training loop.

pub mod merge;
pub mod schedule;

#[cfg(feature = "compute")]
pub mod loss;
#[cfg(feature = "compute")]
mod optimizer;
#[cfg(feature = "compute")]
mod round;

#[cfg(feature = "compute")]
pub use optimizer::AdamW;
#[cfg(feature = "compute")]
pub use round::{Batch, RoundMetrics, RoundPlan, round};

#[cfg(all(test, feature = "compute"))]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
