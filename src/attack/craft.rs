//! Attacks at work on tensors, and what all of them share.

use tch::{Device, Reduction, Tensor};

use super::{
    Attack, Goal, Noise, apgd, bim, carlini_wagner, control, deepfool, fab, fgsm, mi_fgsm, n_fgsm, one_pixel, pgd,
    rs_fgsm, series, square,
};
use crate::model::no_gradient;

/// A function from images `[N, 3, H, W]` to logits or other scores `[N, K]`: differentiable in the
/// images for all attacks that follow a gradient ([`Attack::follows_gradient`]); the others only ask it.
pub type Model<'a> = dyn Fn(&Tensor) -> Tensor + 'a;

impl Attack {
    /// Adversarial images for training, detached, in `[0, 1]`, at most [`reach`](Self::reach) · ε
    /// away. Attacks that climb take all steps from their first random start, APGD towards the likeliest target, and
    /// return the last iterate, APGD and Square the best; of AutoAttack its first attack does. Those that look for the
    /// nearest image or for any return what [`attempt`](Self::attempt) does.
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
            Self::Bim { steps } => bim::craft(model, images, objective, epsilon, steps),
            Self::MiFgsm { steps, decay } => mi_fgsm::craft(model, images, objective, epsilon, steps, decay),
            Self::Pgd { steps, step, .. } => pgd::craft(model, images, objective, epsilon, steps, step, noise),
            Self::AutoAttack => Self::AUTO_ATTACK[0].craft(model, images, objective, epsilon, noise),
            _ => {
                let found = |goal: &Goal| match *self {
                    Self::Apgd { loss, steps, .. } => apgd::craft(model, images, goal, epsilon, (loss, steps), noise),
                    Self::Square { queries } => square::craft(model, images, goal, epsilon, queries, noise),
                    _ => self.attempt(model, images, goal, epsilon, noise).adversarial,
                };
                match objective {
                    Objective::CrossEntropy(labels) => found(&Goal::Away(labels)),
                    Objective::Target(targets) => found(&Goal::Towards(targets)),
                    Objective::Divergence(clean) => found(&Goal::Away(&clean.argmax(1, false))),
                }
            }
        }
    }

    /// Tries to bring every image to the goal, within ε in the attack's [`norm`](Self::norm). An image
    /// leaves the batch at the first iterate that is there. Images that are there to begin with should
    /// be kept out: some attacks return them as they are, others leave them.
    pub fn attempt(&self, model: &Model, images: &Tensor, goal: &Goal, epsilon: f64, noise: &Noise) -> Attempt {
        if noise.keys.is_empty() {
            return Attempt { adversarial: images.detach(), predicted: goal.classes().copy() };
        }
        if epsilon == 0.0 {
            return Attempt { adversarial: images.detach(), predicted: predict(model, images) };
        }
        match *self {
            Self::RandomSign { draws } => control::random_sign(model, images, goal, epsilon, draws, noise),
            Self::FixedPixel => control::fixed_pixel(model, images, goal, epsilon, noise),
            Self::Fgsm { .. } | Self::RsFgsm { .. } | Self::NFgsm { .. } => {
                let adversarial = self.craft(model, images, &goal.objective(), epsilon, noise);
                let predicted = predict(model, &adversarial);
                Attempt { adversarial, predicted }
            }
            Self::Bim { steps } => bim::attempt(model, images, goal, epsilon, steps, noise),
            Self::MiFgsm { steps, decay } => mi_fgsm::attempt(model, images, goal, epsilon, (steps, decay), noise),
            Self::Pgd { steps, restarts, step } => {
                pgd::attempt(model, images, goal, epsilon, (steps, restarts, step), noise)
            }
            Self::DeepFool { steps, overshoot } => {
                deepfool::attempt(model, images, goal, epsilon, (steps, overshoot), noise)
            }
            Self::CarliniWagner { steps, searches } => {
                carlini_wagner::attempt(model, images, goal, epsilon, (steps, searches), noise)
            }
            Self::Apgd { loss, steps, restarts } => {
                apgd::attempt(model, images, goal, epsilon, (loss, steps, restarts), noise)
            }
            Self::Fab { steps, restarts } => fab::attempt(model, images, goal, epsilon, (steps, restarts), noise),
            Self::Square { queries } => square::attempt(model, images, goal, epsilon, queries, noise),
            Self::OnePixel { pixels, population, generations } => {
                one_pixel::attempt(model, images, goal, epsilon, (pixels, population, generations), noise)
            }
            Self::AutoAttack => series(&Self::AUTO_ATTACK, model, images, goal, epsilon, noise).0,
        }
    }
}

/// How an attack on a batch ended.
#[derive(Debug)]
pub struct Attempt {
    /// `[N, 3, H, W]`, detached: of a broken image the iterate that broke it, of the others an iterate
    /// within ε or the original.
    pub adversarial: Tensor,
    /// `[N]`, i64: the class that the model sees in it, so the true one where an attack away from it failed.
    pub predicted: Tensor,
}

/// What an attack drives up. Summed over the batch, so that no image's gradient depends on how
/// many others there are.
#[derive(Debug)]
pub enum Objective<'a> {
    /// Cross-entropy with the true labels `[N]`, without smoothing.
    CrossEntropy(&'a Tensor),
    /// Minus the cross-entropy with these targets `[N]`.
    Target(&'a Tensor),
    /// Kullback-Leibler divergence from these log-probabilities `[N, K]`, those of the clean images.
    Divergence(&'a Tensor),
}

impl Objective<'_> {
    fn loss(&self, logits: &Tensor) -> Tensor {
        let cross_entropy =
            |classes| logits.cross_entropy_loss::<Tensor>(classes, None, Reduction::Sum, NO_INDEX_IGNORED, 0.0);
        match self {
            Self::CrossEntropy(labels) => cross_entropy(labels),
            Self::Target(targets) => -cross_entropy(targets),
            Self::Divergence(clean) => logits.log_softmax(-1, logits.kind()).kl_div(clean, Reduction::Sum, true),
        }
    }
}

/// libtorch's default; no class has this number.
pub(crate) const NO_INDEX_IGNORED: i64 = -100;

/// The gradient of the objective in the images, and the logits it was taken at, detached.
pub fn gradient(model: &Model, images: &Tensor, objective: &Objective) -> (Tensor, Tensor) {
    gradient_of(model, images, |logits| objective.loss(logits))
}

/// The gradient in the images of a scalar function of the logits, and the logits, detached. Zero where
/// the model hides it.
pub(super) fn gradient_of(model: &Model, images: &Tensor, score: impl FnOnce(&Tensor) -> Tensor) -> (Tensor, Tensor) {
    let (mut gradients, logits) = gradients_of(model, images, |logits| vec![score(logits)]);
    (gradients.remove(0), logits)
}

/// The same of several functions; the images go through the model once.
pub(super) fn gradients_of(
    model: &Model,
    images: &Tensor,
    scores: impl FnOnce(&Tensor) -> Vec<Tensor>,
) -> (Vec<Tensor>, Tensor) {
    let images = images.detach().set_requires_grad(true);
    let logits = model(&images);
    let scores = scores(&logits);
    let last = scores.len().saturating_sub(1);
    let slope = |(i, score): (usize, &Tensor)| match score.requires_grad() {
        true => match Tensor::f_run_backward(&[score], &[&images], i < last, false) {
            Ok(mut slopes) => slopes.remove(0),
            Err(error) => no_gradient(&error),
        },
        false => images.detach().zeros_like(),
    };
    (scores.iter().enumerate().map(slope).collect(), logits.detach())
}

/// The class that the model sees in each image, `[N]`, i64.
pub(crate) fn predict(model: &Model, images: &Tensor) -> Tensor {
    tch::no_grad(|| model(images)).argmax(1, false)
}

/// `start` moved by `length` along the sign of `gradient`, where sign(0) = 0. Takes the gradient's storage.
pub(super) fn ascend(start: &Tensor, mut gradient: Tensor, length: f64) -> Tensor {
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

/// One number for each image, to be multiplied with images.
pub(super) fn each(numbers: &Tensor) -> Tensor {
    numbers.view([-1, 1, 1, 1])
}

/// The values of an i64 tensor `[N]`.
pub(crate) fn integers(tensor: &Tensor) -> Vec<i64> {
    let mut values = vec![0; tensor.numel()];
    tensor.to_device(Device::Cpu).copy_data(&mut values, tensor.numel());
    values
}
