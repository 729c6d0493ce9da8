//! Steps of one length along the gradient's sign, projected on the L∞ ball: what BIM, MI-FGSM and PGD share.

use tch::Tensor;

use super::{Model, Objective, Standing, ascend, each, gradient, predict, project, select};

/// How to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    pub steps: u32,
    /// Of one step, pixel scale.
    pub length: f64,
    /// Share of the momentum kept in each step; 0 = none.
    pub decay: f64,
    pub epsilon: f64,
}

impl Walk {
    /// All steps for every image, from `start`.
    pub fn craft(&self, model: &Model, images: &Tensor, start: Tensor, objective: &Objective) -> Tensor {
        let mut momentum = None;
        (0..self.steps).fold(start, |current, _| {
            let (gradient, _) = gradient(model, &current, objective);
            let direction = self.direction(gradient, &mut momentum);
            project(&ascend(&current, direction, self.length), images, self.epsilon)
        })
    }

    /// The same for those that stand, which leave at the first iterate that reaches the goal, the start
    /// included. The forward pass of each step tells, so that only the last iterate costs extra.
    pub fn attempt(&self, model: &Model, standing: &mut Standing, start: Tensor) {
        let (mut current, mut momentum) = (start, None);
        for _ in 0..self.steps {
            let (gradient, logits) = gradient(model, &current, &standing.goal().objective());
            let left = standing.settle(&current, &logits.argmax(1, false));
            if standing.is_empty() {
                return;
            }
            momentum = momentum.map(|momentum| select(&momentum, &left));
            let direction = self.direction(select(&gradient, &left), &mut momentum);
            let next = ascend(&select(&current, &left), direction, self.length);
            current = project(&next, &standing.images, self.epsilon);
        }
        let predicted = predict(model, &current);
        let left = standing.settle(&current, &predicted);
        standing.note(&select(&current, &left), &predicted.index_select(0, &left));
    }

    fn direction(&self, gradient: Tensor, momentum: &mut Option<Tensor>) -> Tensor {
        if self.decay == 0.0 {
            return gradient;
        }
        let size =
            gradient.abs().sum_dim_intlist([1, 2, 3].as_slice(), false, None).clamp_min(f64::from(f32::MIN_POSITIVE));
        let unit = gradient / each(&size);
        let sum = match momentum.take() {
            Some(before) => before * self.decay + unit,
            None => unit,
        };
        momentum.insert(sum).copy()
    }
}
