//! Adversarial images: pure functions from tensors to tensors, one attack per file.
//!
//! Images are `[N, 3, H, W]`, f32 in `[0, 1]`; labels `[N]`, i64; a budget ε is on the same pixel
//! scale, in the L∞ norm. A model is any function from images to logits `[N, K]` that can be
//! differentiated in the images; its parameters should need no gradient (`Network::frozen`), else
//! every step pays for gradients that nobody reads.
//!
//! An attack is used in two ways. [`Attack::craft`] makes images to train on: every image takes all
//! steps. [`Attack::attempt`] measures: an image that is misclassified at any iterate is broken, and
//! leaves the batch there. The noise of an image depends on its key alone, never on its batch. The
//! last bits of a convolution may depend on the batch size, though: the same batches give the same
//! bits, other batches the same figures up to rounding.

mod fgsm;
mod n_fgsm;
mod name;
mod noise;
mod pgd;
mod quantise;
mod rs_fgsm;

use tch::{Device, Reduction, Tensor};

use crate::config::Adversary;

pub use noise::Noise;
pub use quantise::quantise;

/// A differentiable function from images `[N, 3, H, W]` to logits `[N, K]`.
pub type Model<'a> = dyn Fn(&Tensor) -> Tensor + 'a;

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
        Self::Pgd { steps, restarts, step: pgd::STEP }
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

    /// How far this attack may move a pixel, as a multiple of ε: 1 for all that stay in the ε-ball.
    pub fn reach(&self) -> f64 {
        match *self {
            Self::NFgsm { noise, step } => noise + step,
            Self::Fgsm { .. } | Self::RsFgsm { .. } | Self::Pgd { .. } => 1.0,
        }
    }

    /// Adversarial images for training, detached, in `[0, 1]`, at most [`reach`](Self::reach) · ε
    /// away. PGD goes its first random start to the end.
    pub fn craft(&self, model: &Model, images: &Tensor, objective: &Objective, epsilon: f64, noise: &Noise) -> Tensor {
        if epsilon == 0.0 {
            return images.detach();
        }
        match *self {
            Self::Fgsm { step } => fgsm::craft(model, images, objective, epsilon, step),
            Self::RsFgsm { noise: width, step } => {
                rs_fgsm::craft(model, images, objective, epsilon, width, step, noise)
            }
            Self::NFgsm { noise: width, step } => n_fgsm::craft(model, images, objective, epsilon, width, step, noise),
            Self::Pgd { steps, step, .. } => pgd::craft(model, images, objective, epsilon, steps, step, noise),
        }
    }

    /// Tries to have `images` misclassified. All should be classified correctly to begin with: an
    /// image that is not counts as broken.
    pub fn attempt(&self, model: &Model, images: &Tensor, labels: &Tensor, epsilon: f64, noise: &Noise) -> Attempt {
        if let Self::Pgd { steps, restarts, step } = *self {
            return pgd::attempt(model, images, labels, epsilon, (steps, restarts, step), noise);
        }
        let adversarial = self.craft(model, images, &Objective::CrossEntropy(labels), epsilon, noise);
        let predicted = tch::no_grad(|| model(&adversarial)).argmax(1, false);
        Attempt { adversarial, predicted }
    }
}

/// How an attack on a batch ended.
#[derive(Debug)]
pub struct Attempt {
    /// `[N, 3, H, W]`: of a broken image the iterate that broke it, of the others the last one.
    pub adversarial: Tensor,
    /// `[N]`, i64: the class reached, the true one where the attack failed.
    pub predicted: Tensor,
}

/// What an attack drives up. Summed over the batch, so that no image's gradient depends on how
/// many others there are.
#[derive(Debug)]
pub enum Objective<'a> {
    /// Cross-entropy with the true labels `[N]`, without smoothing.
    CrossEntropy(&'a Tensor),
    /// Kullback-Leibler divergence from these log-probabilities `[N, K]`, those of the clean images.
    Divergence(&'a Tensor),
}

impl Objective<'_> {
    fn loss(&self, logits: &Tensor) -> Tensor {
        match self {
            Self::CrossEntropy(labels) => {
                logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Sum, NO_INDEX_IGNORED, 0.0)
            }
            Self::Divergence(clean) => logits.log_softmax(-1, logits.kind()).kl_div(clean, Reduction::Sum, true),
        }
    }
}

/// libtorch's default; no class has this number.
pub(crate) const NO_INDEX_IGNORED: i64 = -100;

/// The gradient of the objective in the images, and the logits it was taken at, detached.
pub fn gradient(model: &Model, images: &Tensor, objective: &Objective) -> (Tensor, Tensor) {
    let images = images.detach().set_requires_grad(true);
    let logits = model(&images);
    let gradient = Tensor::run_backward(&[objective.loss(&logits)], &[&images], false, false).remove(0);
    (gradient, logits.detach())
}

/// `start` moved by `length` along the sign of `gradient`, where sign(0) = 0. Takes the gradient's storage.
fn ascend(start: &Tensor, mut gradient: Tensor, length: f64) -> Tensor {
    let mut step = gradient.sign_();
    let _ = step.g_mul_scalar_(length);
    step.g_add_(start)
}

/// The nearest point to `adversarial` that is within ε of `images` and in `[0, 1]`.
pub fn project(adversarial: &Tensor, images: &Tensor, epsilon: f64) -> Tensor {
    adversarial.clamp_tensor(Some(images - epsilon), Some(images + epsilon)).clamp_(0.0, 1.0)
}

/// The same images, laid out in memory as `[N, H, W, C]`: no copy where they are already.
pub(crate) fn channels_last(images: &Tensor) -> Tensor {
    images.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// The images at `positions`, which are distinct and in order; channels-last.
pub(crate) fn select(images: &Tensor, positions: &Tensor) -> Tensor {
    if positions.size()[0] == images.size()[0] {
        return images.shallow_clone();
    }
    images.permute([0, 2, 3, 1]).index_select(0, positions).permute([0, 3, 1, 2])
}

/// Where `mask` `[N]` is true, in order.
pub(crate) fn positions(mask: &Tensor) -> Tensor {
    mask.nonzero().squeeze_dim(1)
}

/// The values of an i64 tensor `[N]`.
pub(crate) fn integers(tensor: &Tensor) -> Vec<i64> {
    let mut values = vec![0; tensor.numel()];
    tensor.to_device(Device::Cpu).copy_data(&mut values, tensor.numel());
    values
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
