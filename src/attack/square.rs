//! Square: Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via
//! random search", 2019, <https://arxiv.org/abs/1912.00049>, algorithms 1 and 2. Norm L∞. ε in `[0, 1]`.
//! Published: vertical stripes of ±ε to begin with, then squares of ±ε, whose share of the pixels falls
//! from 0.8 by halves; minimises the margin. Asks for scores alone. The halvings are meant for 10,000 queries. A
//! small budget goes through all of them, as in the authors' program; one of 5,000 or more takes them at the
//! queries they are meant for, as in AutoAttack (`resc_schedule=False`).

use rand::RngExt;
use tch::{Kind, Tensor};

use super::{Attempt, Goal, Model, Noise, Standing, each, integers, predict, project, scores, select};
use crate::seed::Stream;

const FIRST_SHARE: f64 = 0.8;
/// Of 10,000 queries, those after which the share is halved again.
const HALVED_AFTER: [u64; 9] = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000];
/// Smaller budgets than AutoAttack's are squeezed.
const SMALL: u32 = 5000;

pub(super) fn attempt(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    queries: u32,
    noise: &Noise,
) -> Attempt {
    pursue(model, Standing::all(images, goal, noise), images, epsilon, queries, noise)
}

/// All queries for every image.
pub(super) fn craft(model: &Model, images: &Tensor, goal: &Goal, epsilon: f64, queries: u32, noise: &Noise) -> Tensor {
    pursue(model, Standing::to_the_end(images, goal, noise), images, epsilon, queries, noise).adversarial
}

fn pursue(
    model: &Model,
    mut standing: Standing,
    images: &Tensor,
    epsilon: f64,
    queries: u32,
    noise: &Noise,
) -> Attempt {
    let mut streams = noise.streams();
    let mut best = project(&(images + stripes(images, epsilon, &mut streams)), images, epsilon);
    let mut margin = Tensor::full([images.size()[0]], f64::INFINITY, (Kind::Double, images.device()));
    for query in 0..queries {
        let next = match query {
            0 => best.shallow_clone(),
            _ => {
                let change = squares(&best, side(&best, query, queries), epsilon, &mut streams);
                project(&(&best + change), &standing.images, epsilon)
            }
        };
        let logits = tch::no_grad(|| model(&next));
        let missed = scores::margin(&logits, &standing.goal()).to_kind(Kind::Double);
        let better = missed.lt_tensor(&margin);
        best = next.where_self(&each(&better), &best);
        margin = missed.minimum(&margin);

        let predicted = logits.argmax(1, false);
        let left = standing.settle(&next, &predicted);
        if standing.is_empty() {
            return standing.end();
        }
        if left.size()[0] < best.size()[0] {
            (best, margin) = (select(&best, &left), margin.index_select(0, &left));
            streams = integers(&left).into_iter().map(|i| streams[i as usize].clone()).collect();
        }
    }
    standing.note(&best, &predict(model, &best));
    standing.end()
}

/// ±ε for each channel of each column.
fn stripes(images: &Tensor, epsilon: f64, streams: &mut [Stream]) -> Tensor {
    let (channels, width) = (images.size()[1], images.size()[3]);
    signs(images, epsilon, streams, channels * width).view([-1, channels, 1, width])
}

/// ±2ε for each channel of a square of `side` pixels somewhere in each image, 0 around it.
fn squares(images: &Tensor, side: i64, epsilon: f64, streams: &mut [Stream]) -> Tensor {
    let (height, width) = (images.size()[2], images.size()[3]);
    let mut corner = |size: i64| {
        let corners: Vec<i64> = streams.iter_mut().map(|stream| stream.random_range(0..=size - side)).collect();
        each(&Tensor::from_slice(&corners).to_device(images.device()))
    };
    let (top, left) = (corner(height), corner(width));
    let within = |size: i64, from: &Tensor, shape: [i64; 4]| {
        let places = Tensor::arange(size, (Kind::Int64, images.device())).view(shape) - from;
        places.ge(0).logical_and(&places.lt(side))
    };
    let inside = within(height, &top, [1, 1, -1, 1]).logical_and(&within(width, &left, [1, 1, 1, -1]));
    signs(images, 2.0 * epsilon, streams, images.size()[1]).view([-1, images.size()[1], 1, 1]) * inside
}

fn signs(images: &Tensor, size: f64, streams: &mut [Stream], count: i64) -> Tensor {
    let draws = streams.iter_mut().flat_map(|stream| (0..count).map(|_| stream.random::<bool>()).collect::<Vec<_>>());
    let signs: Vec<f32> = draws.map(|up| if up { 1.0 } else { -1.0 }).collect();
    (Tensor::from_slice(&signs) * size).to_device(images.device()).to_kind(images.kind())
}

/// The side of the squares of a query, in pixels.
pub(super) fn side(images: &Tensor, query: u32, queries: u32) -> i64 {
    let all = if queries < SMALL { queries } else { 10_000 };
    let progress = u64::from(query - 1) * 10_000 / u64::from(all);
    let halvings = HALVED_AFTER.iter().filter(|after| progress > **after).count();
    let share = FIRST_SHARE / f64::from(1u32 << halvings);
    let (height, width) = (images.size()[2], images.size()[3]);
    let side = (share * (height * width) as f64).sqrt().round() as i64;
    side.clamp(1, height.min(width))
}
