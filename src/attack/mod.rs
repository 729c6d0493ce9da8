//! Adversarial images: pure functions from tensors to tensors, one attack per file.
//!
//! Images are `[N, 3, H, W]`, f32 in `[0, 1]`; labels `[N]`, i64; a budget ε is on the same pixel
//! scale, in the attack's [`Norm`]. A model is any function from images to logits `[N, K]` that can be
//! differentiated in the images, or one that cannot, for attacks that only ask for scores; its
//! parameters should need no gradient (`Network::frozen`), else every step pays for gradients that
//! nobody reads.
//!
//! An attack is used in two ways. [`Attack::craft`] makes images to train on or to show to another model: every image
//! takes all steps. [`Attack::attempt`] measures: an image that reaches the [`Goal`] at any iterate is broken, and
//! leaves the batch there. The noise of an image depends on its key alone, never on its batch. The
//! last bits of a convolution may depend on the batch size, though: the same batches give the same
//! bits, other batches the same figures up to rounding.

mod name;
mod published;

#[cfg(feature = "compute")]
mod apgd;
#[cfg(feature = "compute")]
mod auto_attack;
#[cfg(feature = "compute")]
mod bim;
#[cfg(feature = "compute")]
mod carlini_wagner;
#[cfg(feature = "compute")]
mod control;
#[cfg(feature = "compute")]
mod craft;
#[cfg(feature = "compute")]
mod deepfool;
#[cfg(feature = "compute")]
mod fab;
#[cfg(feature = "compute")]
mod fgsm;
#[cfg(feature = "compute")]
mod goal;
#[cfg(feature = "compute")]
mod mi_fgsm;
#[cfg(feature = "compute")]
mod n_fgsm;
#[cfg(feature = "compute")]
mod nearest;
#[cfg(feature = "compute")]
mod noise;
#[cfg(feature = "compute")]
mod one_pixel;
#[cfg(feature = "compute")]
pub mod patch;
#[cfg(feature = "compute")]
mod pgd;
#[cfg(feature = "compute")]
mod quantise;
#[cfg(feature = "compute")]
mod rs_fgsm;
#[cfg(feature = "compute")]
mod scores;
#[cfg(feature = "compute")]
mod square;
#[cfg(feature = "compute")]
mod standing;
#[cfg(feature = "compute")]
mod transfer;
#[cfg(feature = "compute")]
mod walk;

use crate::config::Adversary;

#[cfg(feature = "compute")]
pub use auto_attack::series;
#[cfg(feature = "compute")]
pub use craft::{Attempt, Model, Objective, gradient, project};
#[cfg(feature = "compute")]
pub(crate) use craft::{NO_INDEX_IGNORED, channels_last, integers, positions, predict, select};
#[cfg(feature = "compute")]
use craft::{ascend, each, gradient_of, gradients_of};
#[cfg(feature = "compute")]
pub use goal::Goal;
pub use name::KNOWN;
#[cfg(feature = "compute")]
pub use noise::Noise;
pub(crate) use published::PGD_STEP;
#[cfg(feature = "compute")]
pub use quantise::{quantise, quantise_in};
#[cfg(feature = "compute")]
use standing::Standing;

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

/// What APGD drives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApgdLoss {
    /// Cross-entropy.
    CrossEntropy,
    /// Difference of logits ratio; needs 3 classes, with fewer it is cross-entropy.
    Dlr,
    /// The same towards each of the most likely wrong classes in turn; needs 4 classes, with fewer it is
    /// the cross-entropy with those.
    TargetedDlr,
}

/// An attack with its parameters; budgets are given when it is used. Each file names its paper,
/// `published.rs` the parameters that a name alone stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attack {
    /// A control: every value moved by ε, up or down by chance.
    RandomSign {
        /// Draws for each image.
        draws: u32,
    },
    /// A control: one pixel moved by ε towards the far end of the range, at five places in turn.
    FixedPixel,
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
    /// Steps along the gradient's sign from the image itself.
    Bim {
        /// Steps of ε / steps; 0 = as published, steps of 1/255 and as many as ε asks for.
        steps: u32,
    },
    /// The same with momentum.
    MiFgsm {
        /// Steps of ε / steps.
        steps: u32,
        /// Share of the momentum kept in each step.
        decay: f64,
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
    /// The nearest boundary, as if the network were linear, again and again. L2.
    DeepFool {
        /// Steps at most.
        steps: u32,
        /// How far beyond the boundary to go, as a share of the way there.
        overshoot: f64,
    },
    /// The least change that misleads, by an optimiser. L2.
    CarliniWagner {
        /// Steps of each search at most.
        steps: u32,
        /// Values of the constant that weighs misleading against change, by bisection.
        searches: u32,
    },
    /// PGD whose step adapts itself.
    Apgd {
        /// What it drives up.
        loss: ApgdLoss,
        /// Steps of each restart.
        steps: u32,
        /// Random starts.
        restarts: u32,
    },
    /// The nearest point on the boundary to each of the most likely wrong classes. L∞.
    Fab {
        /// Steps of each restart.
        steps: u32,
        /// Starts, of which the first is the image itself.
        restarts: u32,
    },
    /// Random squares, kept where they help; asks for scores alone.
    Square {
        /// Times that the model is asked about an image, at most.
        queries: u32,
    },
    /// A few pixels found by differential evolution; asks for scores alone. L0.
    OnePixel {
        /// Pixels to be changed.
        pixels: u32,
        /// Candidates in each generation.
        population: u32,
        /// Generations after the first.
        generations: u32,
    },
    /// APGD on cross-entropy, APGD on the targeted ratio, FAB and Square, each over what is left.
    AutoAttack,
}

impl Attack {
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
            Self::DeepFool { .. } | Self::CarliniWagner { .. } => Norm::L2,
            Self::OnePixel { .. } | Self::FixedPixel => Norm::L0,
            _ => Norm::LInf,
        }
    }

    /// Whether it looks for the least change and not for any within ε. ε may then be infinite: it goes
    /// to its end and returns the nearest image found; with a finite one it stops at the first within ε.
    pub fn seeks_nearest(&self) -> bool {
        matches!(self, Self::DeepFool { .. } | Self::CarliniWagner { .. } | Self::Fab { .. })
    }

    /// Whether it needs a model that can be differentiated; the others only look at its scores.
    pub fn follows_gradient(&self) -> bool {
        !matches!(self, Self::RandomSign { .. } | Self::FixedPixel | Self::Square { .. } | Self::OnePixel { .. })
    }

    /// Whether it is a single step or less, which proves little about a model.
    pub fn is_weak(&self) -> bool {
        matches!(
            self,
            Self::RandomSign { .. } | Self::FixedPixel | Self::Fgsm { .. } | Self::RsFgsm { .. } | Self::NFgsm { .. }
        )
    }

    /// Whether it takes many steps along the gradient within the L∞ ball: what is true of PGD is true of it.
    pub fn walks(&self) -> bool {
        self.follows_gradient() && !self.is_weak() && !self.seeks_nearest() && self.norm() == Norm::LInf
    }

    /// The attacks that it goes through one after the other, each over what the one before left: itself, or those of
    /// an ensemble.
    pub fn stages(self) -> Vec<Self> {
        match self {
            Self::AutoAttack => Self::AUTO_ATTACK.to_vec(),
            attack => vec![attack],
        }
    }

    /// The same with twice the steps, where more steps make it stronger; of an ensemble its first attack.
    pub fn with_twice_the_steps(self) -> Option<Self> {
        match self {
            Self::Pgd { steps, restarts, step } => Some(Self::Pgd { steps: 2 * steps, restarts, step }),
            Self::Apgd { loss, steps, restarts } => Some(Self::Apgd { loss, steps: 2 * steps, restarts }),
            Self::AutoAttack => Self::APGD_CE.with_twice_the_steps(),
            _ => None,
        }
    }

    /// How far this attack may move a value, as a multiple of ε: 1 for all that stay in the ε-ball.
    pub fn reach(&self) -> f64 {
        match *self {
            Self::NFgsm { noise, step } => noise + step,
            _ => 1.0,
        }
    }
}

#[cfg(all(test, feature = "compute"))]
#[allow(clippy::unwrap_used)]
mod tests;
