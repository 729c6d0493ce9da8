//! FAB-T: Croce, Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack",
//! 2019, <https://arxiv.org/abs/1907.02044>, algorithm 1, towards the 9 likeliest wrong classes (or all)
//! in turn as in AutoAttack. Norm L∞. ε > 0, also infinite. Published: extrapolation η = 1.05, bias
//! towards the original at most 0.1, backward step β = 0.9; the first start is the image itself.

use tch::{Kind, Tensor};

use super::nearest::Nearest;
use super::{Attempt, Goal, Model, Noise, Norm, Standing, each, gradient_of, predict, scores, select};

const TARGETS: i64 = 9;
const EXTRAPOLATION: f64 = 1.05;
const BIAS: f64 = 0.1;
const BACKWARD: f64 = 0.9;
/// Steps at most to a plane, far more than were ever needed, and how near it counts as there.
const NEWTON: u32 = 50;
const ROUNDING: f64 = 1e-6;

pub(super) fn attempt(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    (steps, restarts): (u32, u32),
    noise: &Noise,
) -> Attempt {
    let logits = tch::no_grad(|| model(images));
    let mut standing = Standing::all(images, goal, noise);
    standing.note(images, &logits.argmax(1, false));
    let (own, targets) = scores::contest(&logits, goal, TARGETS);
    let mut best = Nearest::none(images);
    for restart in 0..i64::from(restarts) {
        for turn in 0..targets.size()[1] {
            let own = own.as_ref().map(|own| own.index_select(0, standing.rows()));
            let target = targets.select(1, turn).index_select(0, standing.rows());
            let round = (restart * targets.size()[1] + turn) as u64;
            let start = match restart {
                0 => standing.images.shallow_clone(),
                _ => start(&standing, &best.distance, epsilon, round),
            };
            best = run(model, &mut standing, best, start, (own, target), epsilon, steps);
            if standing.is_empty() {
                return standing.end();
            }
        }
    }
    let _ = standing.settle_where(&best.distance.lt(epsilon), &best.images, &best.predicted);
    standing.end()
}

/// Half as far out as the nearest image found, or as ε.
fn start(standing: &Standing, distance: &Tensor, epsilon: f64, round: u64) -> Tensor {
    let noise = standing.noise(round).uniform(&standing.images, 1.0);
    let width = distance.clamp_max(epsilon.min(1.0)) / noise.abs().amax([1, 2, 3], false) * 0.5;
    (&standing.images + noise * each(&width)).clamp_(0.0, 1.0)
}

/// One run from class `own`, or whatever is best, to `target` for those that stand. With a finite ε an image that gets within it
/// leaves. Returns the nearest of the others.
fn run(
    model: &Model,
    standing: &mut Standing,
    mut best: Nearest,
    start: Tensor,
    (mut own, mut target): (Option<Tensor>, Tensor),
    epsilon: f64,
    steps: u32,
) -> Nearest {
    let enough = if epsilon.is_finite() { epsilon } else { 0.0 };
    let mut current = start;
    for _ in 0..steps {
        let next = step(model, &standing.images, &current, own.as_ref(), &target);
        let predicted = predict(model, &next);
        let reached = standing.goal().reached(&predicted);
        let rows = Tensor::arange(target.size()[0], (Kind::Int64, target.device()));
        best.note(&rows, &next, &predicted, &Norm::LInf.distance(&next, &standing.images), &reached);
        let back = &standing.images + (&next - &standing.images) * BACKWARD;
        current = back.where_self(&each(&reached), &next);

        let left = standing.settle_where(&best.distance.le(enough), &best.images, &best.predicted);
        best = best.select(&left);
        if standing.is_empty() {
            break;
        }
        current = select(&current, &left);
        (own, target) = (own.map(|own| own.index_select(0, &left)), target.index_select(0, &left));
    }
    best
}

/// Beyond the boundary as it would be, were the model linear: from where the image is, and a little from
/// the original.
fn step(model: &Model, images: &Tensor, current: &Tensor, own: Option<&Tensor>, target: &Tensor) -> Tensor {
    let lead = |logits: &Tensor| scores::lead(logits, target, own);
    let (slope, logits) = gradient_of(model, current, |logits| lead(logits).sum(None::<Kind>));
    let missing = -lead(&logits).to_kind(current.kind());
    let inner = |a: &Tensor, b: Tensor| (a * b).sum_dim_intlist([1, 2, 3].as_slice(), false, None);
    let onward = to_plane(current, &slope, &missing);
    let afresh = to_plane(images, &slope, &(&missing - inner(&slope, images - current)));
    let size = |way: &Tensor| way.abs().amax([1, 2, 3], false).clamp_min(1e-8);
    let bias = each(&(size(&onward) / (size(&onward) + size(&afresh))).clamp(0.0, BIAS));
    let from_here = (current + onward * EXTRAPOLATION) * (1f64 - &bias);
    (from_here + (images + afresh * EXTRAPOLATION) * bias).clamp_(0.0, 1.0)
}

/// The smallest change of `images`, in L∞, that has the inner product `gain` `[n]` with `slope` and stays in
/// `[0, 1]`; as far as the range allows where none does. Every value moves by the same radius along the
/// slope's sign or to the end of the range, and what is gained is concave in the radius: Newton's method
/// climbs to it from below, and is exact once it is on the right piece.
pub(super) fn to_plane(images: &Tensor, slope: &Tensor, gain: &Tensor) -> Tensor {
    let direction = slope.sign() * each(&gain.sign());
    let (slope, gain) = (slope.abs(), gain.abs());
    let room = (1f64 - images).where_self(&direction.gt(0.0), images);
    let sum = |values: Tensor| values.sum_dim_intlist([1, 2, 3].as_slice(), false, None);
    let mut radius = gain.zeros_like();
    for _ in 0..NEWTON {
        let missing = &gain - sum(&slope * room.minimum(&each(&radius)));
        let rate = sum(&slope * room.gt_tensor(&each(&radius)));
        let short = missing.gt_tensor(&(&gain * ROUNDING)).logical_and(&rate.gt(0.0));
        if !bool::try_from(short.any()).unwrap_or(false) {
            break;
        }
        radius = (&radius + missing / rate).where_self(&short, &radius);
    }
    direction * room.minimum(&each(&radius))
}
