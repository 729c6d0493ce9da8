//! N-FGSM: de Jorge et al., "Make some noise: reliable and efficient single-step adversarial
//! training", 2022, <https://arxiv.org/abs/2202.01181>, algorithm 1. Norm L∞. ε in `[0, 1]`.
//! Published: noise U(−2ε, 2ε) (k = 2, section 5), step 1 ε, no clipping to the ε-ball, only to the
//! image range. So |δ| ≤ (k + 1) ε: it is for training, not for measuring at ε.

use tch::Tensor;

use super::{Model, Noise, Objective, ascend, gradient};

pub(super) fn craft(
    model: &Model,
    images: &Tensor,
    objective: &Objective,
    epsilon: f64,
    width: f64,
    step: f64,
    noise: &Noise,
) -> Tensor {
    let start = images + noise.uniform(images, width * epsilon);
    let (gradient, _) = gradient(model, &start, objective);
    ascend(&start, gradient, step * epsilon).clamp_(0.0, 1.0)
}
