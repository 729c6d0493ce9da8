//! Attacks at work on tensors, and what all of them share.

use tch::{Device, Reduction, Tensor};

use super::{Attack, Noise, fgsm, n_fgsm, pgd, rs_fgsm};

/// A differentiable function from images `[N, 3, H, W]` to logits `[N, K]`.
pub type Model<'a> = dyn Fn(&Tensor) -> Tensor + 'a;

impl Attack {
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

/// The values of an i64 tensor `[N]`.
pub(crate) fn integers(tensor: &Tensor) -> Vec<i64> {
    let mut values = vec![0; tensor.numel()];
    tensor.to_device(Device::Cpu).copy_data(&mut values, tensor.numel());
    values
}
