//! PGD: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2017,
//! <https://arxiv.org/abs/1706.06083>, sections 2.1 and 5. Norm L∞. ε in `[0, 1]`. Start U(−ε, ε), each
//! restart anew; steps of 2.5 ε / steps, the authors' choice in their MNIST challenge and section 5.2.

use tch::Tensor;

use super::{Attempt, Goal, Model, Noise, Objective, Standing, ascend, gradient, predict, project, select};

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
    let start = start(images, epsilon, noise);
    iterate(model, images, start, objective, epsilon, steps, step)
}

fn start(images: &Tensor, epsilon: f64, noise: &Noise) -> Tensor {
    (images + noise.uniform(images, epsilon)).clamp_(0.0, 1.0)
}

pub(super) fn iterate(
    model: &Model,
    images: &Tensor,
    start: Tensor,
    objective: &Objective,
    epsilon: f64,
    steps: u32,
    step: f64,
) -> Tensor {
    let length = step * epsilon / f64::from(steps);
    (0..steps).fold(start, |current, _| {
        let (gradient, _) = gradient(model, &current, objective);
        project(&ascend(&current, gradient, length), images, epsilon)
    })
}

/// For evaluation: an image is broken once any iterate, the start included, reaches the goal; it
/// then leaves the batch. The forward pass of each step tells, so that only the last iterate costs extra.
pub(super) fn attempt(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    (steps, restarts, step): (u32, u32, f64),
    noise: &Noise,
) -> Attempt {
    // Without a budget there is nothing to search: the image itself is the only iterate.
    let (steps, restarts) = if epsilon == 0.0 { (0, 1) } else { (steps, restarts) };
    let length = step * epsilon / f64::from(steps.max(1));
    let mut standing = Standing::all(images, goal, noise);
    for restart in 0..u64::from(restarts) {
        let mut current = start(&standing.images, epsilon, &standing.noise(restart));
        for _ in 0..steps {
            let (gradient, logits) = gradient(model, &current, &standing.goal().objective());
            let left = standing.settle(&current, &logits.argmax(1, false));
            if standing.is_empty() {
                return standing.end();
            }
            let next = ascend(&select(&current, &left), select(&gradient, &left), length);
            current = project(&next, &standing.images, epsilon);
        }
        let predicted = predict(model, &current);
        let left = standing.settle(&current, &predicted);
        standing.note(&select(&current, &left), &predicted.index_select(0, &left));
        if standing.is_empty() {
            break;
        }
    }
    standing.end()
}
