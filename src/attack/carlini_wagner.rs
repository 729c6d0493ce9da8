//! C&W: Carlini, Wagner, "Towards evaluating the robustness of neural networks", 2016,
//! <https://arxiv.org/abs/1608.04644>, sections V and VI.A. Norm L2. ε > 0, also infinite. Minimises
//! ‖δ‖² + c f(x + δ) over w with x + δ = (tanh w + 1) / 2, where f is the margin to the goal, by Adam, and
//! finds c by bisection. Confidence 0. From the authors' program: rate 0.01, first c 0.001, ten times as
//! much until an image breaks; a search ends where a tenth of its steps has not lowered the loss.

use tch::{Kind, Tensor};

use super::nearest::Nearest;
use super::{Attempt, Goal, Model, Noise, Norm, Standing, gradient_of, positions, predict, scores, select};

const RATE: f64 = 0.01;
const FIRST: f64 = 1e-3;
/// Keeps the inverse of tanh finite.
const INSIDE: f64 = 0.999_999;

pub(super) fn attempt(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    (steps, searches): (u32, u32),
    noise: &Noise,
) -> Attempt {
    let mut standing = Standing::all(images, goal, noise);
    standing.note(images, &predict(model, images));
    // An image that is so near need not be brought nearer.
    let enough = if epsilon.is_finite() { epsilon } else { 0.0 };
    let mut bounds = Bounds::new(images);
    let mut best = Nearest::none(images);
    for _ in 0..searches {
        let found = search(model, &standing, &bounds.weight, steps, enough);
        bounds.narrow(&found.distance.isfinite());
        best.take(&found);
        let left = standing.settle_where(&best.distance.le(enough), &best.images, &best.predicted);
        if standing.is_empty() {
            return standing.end();
        }
        (best, bounds) = (best.select(&left), bounds.select(&left));
    }
    let _ = standing.settle_where(&best.distance.lt(epsilon), &best.images, &best.predicted);
    standing.end()
}

/// Gradient steps with one weight for each image, which stops where it is near `enough` or gets no further.
pub(super) fn search(model: &Model, standing: &Standing, weight: &Tensor, steps: u32, enough: f64) -> Nearest {
    let mut best = Nearest::none(&standing.images);
    let mut rows = Tensor::arange(weight.size()[0], (Kind::Int64, weight.device()));
    let mut w = ((&standing.images * 2.0 - 1.0) * INSIDE).atanh();
    let (mut first, mut second) = (w.zeros_like(), w.zeros_like());
    let mut before = weight.full_like(f64::INFINITY);
    for step in 0..steps {
        let (images, weight) = (select(&standing.images, &rows), weight.index_select(0, &rows));
        let classes = standing.goal().classes().index_select(0, &rows);
        let goal = standing.goal().with(&classes);
        let tanh = w.tanh();
        let current = (&tanh + 1.0) / 2.0;
        let missed = |logits: &Tensor| scores::margin(logits, &goal).clamp_min(0.0) * &weight;
        let (slope, logits) = gradient_of(model, &current, |logits| missed(logits).sum(None::<Kind>));
        let distance = Norm::L2.distance(&current, &images);
        let predicted = logits.argmax(1, false);
        best.note(&rows, &current, &predicted, &distance, &goal.reached(&predicted));

        let gradient = (slope + (&current - images) * 2.0) * (1f64 - tanh.square()) / 2.0;
        first = first * 0.9 + &gradient * 0.1;
        second = second * 0.999 + gradient.square() * 0.001;
        let (unbiased, scale) = (1.0 - 0.9f64.powi(step as i32 + 1), 1.0 - 0.999f64.powi(step as i32 + 1));
        w -= &first * (RATE / unbiased) / ((&second / scale).sqrt() + 1e-8);

        let mut going = best.distance.index_select(0, &rows).gt(enough);
        if step % (steps / 10).max(1) == 0 {
            let loss = distance.square() + missed(&logits);
            going = going.logical_and(&loss.le_tensor(&(&before * 0.9999)));
            before = loss;
        }
        let left = positions(&going);
        if left.numel() == 0 {
            break;
        }
        rows = rows.index_select(0, &left);
        before = before.index_select(0, &left);
        (w, first, second) = (select(&w, &left), select(&first, &left), select(&second, &left));
    }
    best
}

/// The weight of misleading, and between what bounds it is sought; `[n]` each.
struct Bounds {
    low: Tensor,
    high: Tensor,
    weight: Tensor,
}

impl Bounds {
    fn new(images: &Tensor) -> Self {
        let low = Tensor::zeros([images.size()[0]], (images.kind(), images.device()));
        Self { high: low.full_like(f64::INFINITY), weight: low.full_like(FIRST), low }
    }

    fn narrow(&mut self, enough: &Tensor) {
        self.high = self.weight.where_self(enough, &self.high);
        self.low = self.low.where_self(enough, &self.weight);
        let middle = (&self.low + &self.high) / 2.0;
        self.weight = middle.where_self(&self.high.isfinite(), &(&self.weight * 10.0));
    }

    fn select(&self, left: &Tensor) -> Self {
        let numbers = |tensor: &Tensor| tensor.index_select(0, left);
        Self { low: numbers(&self.low), high: numbers(&self.high), weight: numbers(&self.weight) }
    }
}
