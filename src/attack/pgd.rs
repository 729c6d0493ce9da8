//! PGD: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2017,
//! <https://arxiv.org/abs/1706.06083>, sections 2.1 and 5. Norm L∞. ε in `[0, 1]`. Start U(−ε, ε), each
//! restart anew; steps of 2.5 ε / steps, the authors' choice in their MNIST challenge and section 5.2.

use tch::{Kind, Tensor};

use super::{Attempt, Model, Noise, Objective, ascend, gradient, integers, positions, project, select};

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

/// For evaluation: an image is broken once any iterate, the start included, is misclassified; it
/// then leaves the batch. The forward pass of each step tells, so that only the last iterate costs extra.
pub(super) fn attempt(
    model: &Model,
    images: &Tensor,
    labels: &Tensor,
    epsilon: f64,
    (steps, restarts, step): (u32, u32, f64),
    noise: &Noise,
) -> Attempt {
    // Without a budget there is nothing to search: the image itself is the only iterate.
    let (steps, restarts) = if epsilon == 0.0 { (0, 1) } else { (steps, restarts) };
    let length = step * epsilon / f64::from(steps.max(1));
    let mut attempt = Attempt { adversarial: images.copy(), predicted: labels.copy() };
    let rows = Tensor::arange(labels.size()[0], (Kind::Int64, labels.device()));
    let mut active =
        Active { rows, images: images.shallow_clone(), labels: labels.shallow_clone(), current: images.copy() };
    for restart in 0..u64::from(restarts) {
        active.current = start(&active.images, epsilon, &noise.select(&integers(&active.rows), restart));
        for left in (0..=steps).rev() {
            let (gradient, logits) = match left {
                0 => (None, tch::no_grad(|| model(&active.current))),
                _ => {
                    let (gradient, logits) = gradient(model, &active.current, &Objective::CrossEntropy(&active.labels));
                    (Some(gradient), logits)
                }
            };
            let predicted = logits.argmax(1, false);
            let broken = predicted.ne_tensor(&active.labels);
            let (fallen, standing) = (positions(&broken), positions(&broken.logical_not()));
            attempt.record(&active.select(&fallen), &predicted.index_select(0, &fallen));
            active = active.select(&standing);
            if active.is_empty() {
                return attempt;
            }
            if let Some(gradient) = gradient {
                let next = ascend(&active.current, select(&gradient, &standing), length);
                active.current = project(&next, &active.images, epsilon);
            }
        }
    }
    attempt.record(&active, &active.labels);
    attempt
}

/// The images that still stand.
struct Active {
    /// Their places in the whole batch.
    rows: Tensor,
    images: Tensor,
    labels: Tensor,
    /// The current iterate.
    current: Tensor,
}

impl Active {
    fn select(&self, positions: &Tensor) -> Self {
        Self {
            rows: self.rows.index_select(0, positions),
            images: select(&self.images, positions),
            labels: self.labels.index_select(0, positions),
            current: select(&self.current, positions),
        }
    }

    fn is_empty(&self) -> bool {
        self.rows.numel() == 0
    }
}

impl Attempt {
    fn record(&mut self, images: &Active, predicted: &Tensor) {
        let _ = self.adversarial.index_copy_(0, &images.rows, &images.current);
        let _ = self.predicted.index_copy_(0, &images.rows, predicted);
    }
}
