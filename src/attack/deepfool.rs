//! DeepFool: Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool: a simple and accurate method to fool deep
//! neural networks", 2015, <https://arxiv.org/abs/1511.04599>, algorithm 2. Norm L2. ε > 0, also
//! infinite. Published: overshoot 0.02; the authors' program has 50 steps at most, looks at the 10
//! likeliest classes and adds 1e-4 to the distance of each step. Iterates are clamped to `[0, 1]` here.

use tch::{Kind, Tensor};

use super::{Attempt, Goal, Model, Noise, Norm, Standing, each, gradients_of, positions, predict, scores, select};

const RIVALS: i64 = 9;
const EXTRA: f64 = 1e-4;

pub(super) fn attempt(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    (steps, overshoot): (u32, f64),
    noise: &Noise,
) -> Attempt {
    let logits = tch::no_grad(|| model(images));
    let mut standing = Standing::all(images, goal, noise);
    standing.note(images, &logits.argmax(1, false));
    let (mut own, mut rivals) = scores::contest(&logits, goal, RIVALS);
    let (mut current, mut total) = (images.shallow_clone(), images.zeros_like());
    for _ in 0..steps {
        let (way, logits) = to_the_nearest(model, &current, own.as_ref(), &rivals);
        let left = settle(&mut standing, &current, &logits.argmax(1, false), epsilon);
        if standing.is_empty() {
            return standing.end();
        }
        (own, rivals) = (own.map(|own| own.index_select(0, &left)), rivals.index_select(0, &left));
        total = select(&(total + way), &left);
        current = (&standing.images + &total * (1.0 + overshoot)).clamp_(0.0, 1.0);
    }
    let _ = settle(&mut standing, &current, &predict(model, &current), epsilon);
    standing.end()
}

/// Those that have crossed stop there: broken where that is within ε.
fn settle(standing: &mut Standing, current: &Tensor, predicted: &Tensor, epsilon: f64) -> Tensor {
    let crossed = standing.goal().reached(predicted);
    let near = Norm::L2.distance(current, &standing.images).le(epsilon);
    let going = positions(&crossed.logical_not());
    let left = standing.settle_where(&crossed.logical_and(&near), current, predicted);
    standing.keep(&positions(&crossed.index_select(0, &left).logical_not()));
    going
}

/// The way to the nearest boundary between `own`, or the best class, and one of `rivals`, were the model linear; the logits.
fn to_the_nearest(model: &Model, images: &Tensor, own: Option<&Tensor>, rivals: &Tensor) -> (Tensor, Tensor) {
    let count = rivals.size()[1];
    let lead = |logits: &Tensor, rival: i64| scores::lead(logits, &rivals.select(1, rival), own);
    let sums = |logits: &Tensor| (0..count).map(|rival| lead(logits, rival).sum(None::<Kind>)).collect();
    let (slopes, logits) = gradients_of(model, images, sums);
    let mut way = images.zeros_like();
    let mut nearest = Tensor::full([images.size()[0]], f64::INFINITY, (images.kind(), images.device()));
    for (rival, slope) in (0..count).zip(&slopes) {
        let length = Norm::L2.distance(slope, &slope.zeros_like()).clamp_min(1e-12);
        let distance = (lead(&logits, rival).abs() / &length).to_kind(images.kind());
        let nearer = distance.lt_tensor(&nearest);
        let step = slope * each(&((&distance + EXTRA) / length));
        way = step.where_self(&each(&nearer), &way);
        nearest = distance.minimum(&nearest);
    }
    (way, logits)
}
