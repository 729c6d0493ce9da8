//! MI-FGSM: Dong et al., "Boosting adversarial attacks with momentum", 2018,
//! <https://arxiv.org/abs/1710.06081>, algorithm 1. Norm L∞. ε in `[0, 1]`. From the image itself, steps
//! of ε / steps along the sign of μ g + ∇ / ‖∇‖₁. Published: 10 steps, μ = 1 (section 4.1).

use tch::Tensor;

use super::walk::Walk;
use super::{Attempt, Goal, Model, Noise, Objective, Standing};

pub(super) fn craft(
    model: &Model,
    images: &Tensor,
    objective: &Objective,
    epsilon: f64,
    steps: u32,
    decay: f64,
) -> Tensor {
    walk(epsilon, steps, decay).craft(model, images, images.shallow_clone(), objective)
}

pub(super) fn attempt(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    (steps, decay): (u32, f64),
    noise: &Noise,
) -> Attempt {
    let mut standing = Standing::all(images, goal, noise);
    walk(epsilon, steps, decay).attempt(model, &mut standing, images.shallow_clone());
    standing.end()
}

fn walk(epsilon: f64, steps: u32, decay: f64) -> Walk {
    Walk { steps, length: epsilon / f64::from(steps.max(1)), decay, epsilon }
}
