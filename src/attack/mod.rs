//! Adversarial images: pure functions from tensors to tensors, one attack per file.
//!
//! Images are `[N, 3, H, W]`, f32 in `[0, 1]`; labels `[N]`, i64; a budget ε is on the same pixel
//! scale, in the attack's [`Norm`]. A model is any function from images to logits `[N, K]` that can be
//! differentiated in the images, or one that cannot, for attacks that only ask for scores; its
//! parameters should need no gradient (`Network::frozen`), else every step pays for gradients that
//! nobody reads.
//!
//! An attack is used in two ways. [`Attack::craft`] makes images to train on: every image takes all
//! steps. [`Attack::attempt`] measures: an image that reaches the [`Goal`] at any iterate is broken, and
//! leaves the batch there. The noise of an image depends on its key alone, never on its batch. The
//! last bits of a convolution may depend on the batch size, though: the same batches give the same
//! bits, other batches the same figures up to rounding.

mod name;

#[cfg(feature = "compute")]
mod craft;
#[cfg(feature = "compute")]
mod fgsm;
#[cfg(feature = "compute")]
mod goal;
#[cfg(feature = "compute")]
mod n_fgsm;
#[cfg(feature = "compute")]
mod noise;
#[cfg(feature = "compute")]
mod pgd;
#[cfg(feature = "compute")]
mod quantise;
#[cfg(feature = "compute")]
mod rs_fgsm;
#[cfg(feature = "compute")]
mod standing;

use crate::config::Adversary;

#[cfg(feature = "compute")]
pub use craft::{Attempt, Model, Objective, gradient, project};
#[cfg(feature = "compute")]
pub(crate) use craft::{NO_INDEX_IGNORED, channels_last, integers, positions, select};
#[cfg(feature = "compute")]
use craft::{ascend, predict};
#[cfg(feature = "compute")]
pub use goal::Goal;
#[cfg(feature = "compute")]
pub use noise::Noise;
#[cfg(feature = "compute")]
pub use quantise::quantise;
#[cfg(feature = "compute")]
use standing::Standing;

/// PGD's step as a multiple of ε / steps: the authors' choice (see `pgd.rs`).
const PGD_STEP: f64 = 2.5;
/// RS-FGSM's step as a multiple of ε (see `rs_fgsm.rs`).
const RS_FGSM_STEP: f64 = 1.25;
/// N-FGSM's noise as a multiple of ε (see `n_fgsm.rs`).
const N_FGSM_NOISE: f64 = 2.0;

/// How the size of a perturbation is counted. A ball of any of them lies within the L∞ ball of the same ε.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// The largest change of a value, pixel scale.
    LInf,
    /// The Euclidean length over all values of an image, pixel scale.
    L2,
    /// The number of pixels changed, which the attack itself holds; ε bounds how far each value of them
    /// may move, 1 for any colour.
    L0,
}

/// An attack with its parameters; budgets are given when it is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attack {
    /// One step along the gradient's sign.
    Fgsm {
        /// Length of the step, as a multiple of ε.
        step: f64,
    },
    /// The same from a random start inside the ε-ball, projected back onto it.
    RsFgsm {
        /// Half-width of the uniform start, as a multiple of ε.
        noise: f64,
        /// Length of the step, as a multiple of ε.
        step: f64,
    },
    /// One step from stronger noise, not projected. For training: it leaves the ε-ball.
    NFgsm {
        /// Half-width of the uniform noise, as a multiple of ε.
        noise: f64,
        /// Length of the step, as a multiple of ε.
        step: f64,
    },
    /// Projected gradient steps from random starts.
    Pgd {
        /// Steps of each restart.
        steps: u32,
        /// Random starts.
        restarts: u32,
        /// Length of one step, as a multiple of ε / steps.
        step: f64,
    },
}

impl Attack {
    /// FGSM as published.
    pub const FGSM: Self = Self::Fgsm { step: 1.0 };

    /// PGD with the usual step of 2.5 ε / steps.
    pub const fn pgd(steps: u32, restarts: u32) -> Self {
        Self::Pgd { steps, restarts, step: PGD_STEP }
    }

    /// The attack that settings describe: `step` and `noise` are multiples of ε (`step` of PGD: of
    /// ε / steps), `steps` counts for PGD alone.
    pub fn of(method: Adversary, step: f64, noise: f64, steps: u32) -> Self {
        match method {
            Adversary::Fgsm => Self::Fgsm { step },
            Adversary::RsFgsm => Self::RsFgsm { noise, step },
            Adversary::NFgsm => Self::NFgsm { noise, step },
            Adversary::Pgd => Self::Pgd { steps, restarts: 1, step },
        }
    }

    /// The norm that ε is in.
    pub fn norm(&self) -> Norm {
        match self {
            Self::Fgsm { .. } | Self::RsFgsm { .. } | Self::NFgsm { .. } | Self::Pgd { .. } => Norm::LInf,
        }
    }

    /// Whether it needs a model that can be differentiated; the others only look at its scores.
    pub fn follows_gradient(&self) -> bool {
        match self {
            Self::Fgsm { .. } | Self::RsFgsm { .. } | Self::NFgsm { .. } | Self::Pgd { .. } => true,
        }
    }

    /// How far this attack may move a pixel, as a multiple of ε: 1 for all that stay in the ε-ball.
    pub fn reach(&self) -> f64 {
        match *self {
            Self::NFgsm { noise, step } => noise + step,
            Self::Fgsm { .. } | Self::RsFgsm { .. } | Self::Pgd { .. } => 1.0,
        }
    }
}

#[cfg(all(test, feature = "compute"))]
#[allow(clippy::unwrap_used)]
mod tests;
