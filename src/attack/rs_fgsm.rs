//! RS-FGSM: Wong, Rice, Kolter, "Fast is better than free: revisiting adversarial training", 2020,
//! <https://arxiv.org/abs/2001.03994>, algorithm 3. Norm L∞. ε in `[0, 1]`. Published: start
//! U(−ε, ε), step 1.25 ε (section 4.2), projected on the ε-ball.

use tch::Tensor;

use super::{Model, Noise, Objective, ascend, gradient, project};

pub(super) fn craft(
    model: &Model,
    images: &Tensor,
    objective: &Objective,
    epsilon: f64,
    width: f64,
    step: f64,
    noise: &Noise,
) -> Tensor {
    let start = project(&(images + noise.uniform(images, width * epsilon)), images, epsilon);
    let (gradient, _) = gradient(model, &start, objective);
    project(&ascend(&start, gradient, step * epsilon), images, epsilon)
}
