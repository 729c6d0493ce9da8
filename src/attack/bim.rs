//! BIM, also I-FGSM: Kurakin, Goodfellow, Bengio, "Adversarial examples in the physical world", 2016,
//! <https://arxiv.org/abs/1607.02533>, section 2.2. Norm L∞. ε in `[0, 1]`. Published: from the image
//! itself, steps of 1/255, min(ε + 4, 1.25 ε) of them with ε in levels, here rounded up; with a number
//! of steps given, steps of ε / steps.

use tch::Tensor;

use super::walk::Walk;
use super::{Attempt, Goal, Model, Noise, Objective, Standing};

pub(super) fn craft(model: &Model, images: &Tensor, objective: &Objective, epsilon: f64, steps: u32) -> Tensor {
    walk(epsilon, steps).craft(model, images, images.shallow_clone(), objective)
}

pub(super) fn attempt(model: &Model, images: &Tensor, goal: &Goal, epsilon: f64, steps: u32, noise: &Noise) -> Attempt {
    let mut standing = Standing::all(images, goal, noise);
    walk(epsilon, steps).attempt(model, &mut standing, images.shallow_clone());
    standing.end()
}

fn walk(epsilon: f64, steps: u32) -> Walk {
    let levels = 255.0 * epsilon;
    let (steps, length) = match steps {
        0 => ((levels + 4.0).min(1.25 * levels).ceil() as u32, 1.0 / 255.0),
        _ => (steps, epsilon / f64::from(steps)),
    };
    Walk { steps, length, decay: 0.0, epsilon }
}
