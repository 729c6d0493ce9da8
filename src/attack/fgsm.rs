//! FGSM: Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", 2014,
//! <https://arxiv.org/abs/1412.6572>, section 4. Norm L∞. ε in `[0, 1]`. Step 1 ε, as published; a
//! longer one is projected back.

use tch::Tensor;

use super::{Model, Objective, ascend, gradient, project};

pub(super) fn craft(model: &Model, images: &Tensor, objective: &Objective, epsilon: f64, step: f64) -> Tensor {
    let (gradient, _) = gradient(model, images, objective);
    project(&ascend(images, gradient, step * epsilon), images, epsilon)
}
