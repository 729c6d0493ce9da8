//! PGD: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2017,
//! <https://arxiv.org/abs/1706.06083>, sections 2.1 and 5. Norm L∞. ε in `[0, 1]`. Start U(−ε, ε), each
//! restart anew; steps of 2.5 ε / steps, the authors' choice in their MNIST challenge and section 5.2.

use tch::Tensor;

use super::walk::Walk;
use super::{Attempt, Goal, Model, Noise, Objective, Standing};

/// For training: all steps for every image, from the first random start.
pub(super) fn craft(
    model: &Model,
    images: &Tensor,
    objective: &Objective,
    epsilon: f64,
    steps: u32,
    step: f64,
    noise: &Noise,
) -> Tensor {
    walk(epsilon, steps, step).craft(model, images, start(images, epsilon, noise), objective)
}

/// For evaluation: an image is broken once any iterate of any restart reaches the goal.
pub(super) fn attempt(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    (steps, restarts, step): (u32, u32, f64),
    noise: &Noise,
) -> Attempt {
    let mut standing = Standing::all(images, goal, noise);
    for restart in 0..u64::from(restarts) {
        let start = start(&standing.images, epsilon, &standing.noise(restart));
        walk(epsilon, steps, step).attempt(model, &mut standing, start);
        if standing.is_empty() {
            break;
        }
    }
    standing.end()
}

fn start(images: &Tensor, epsilon: f64, noise: &Noise) -> Tensor {
    (images + noise.uniform(images, epsilon)).clamp_(0.0, 1.0)
}

fn walk(epsilon: f64, steps: u32, step: f64) -> Walk {
    Walk { steps, length: step * epsilon / f64::from(steps.max(1)), decay: 0.0, epsilon }
}
