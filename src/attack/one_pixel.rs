//! One Pixel: Su, Vargas, Sakurai, "One pixel attack for fooling deep neural networks", 2017,
//! <https://arxiv.org/abs/1710.08864>, section 3. Norm L0: a number of pixels; ε in `[0, 1]` bounds how far
//! their values move, 1 as published. Differential evolution of (x, y, r, g, b) for each pixel: 400
//! candidates and 100 generations, a trial is a + 0.5 (b − c) of three candidates and replaces the one at
//! its place where it is fitter; places start uniform, values normal with mean 128 and deviation 127 of
//! 255. Asks for scores alone. A place outside the image is drawn anew.

use rand::RngExt;
use rand::seq::index;
use tch::{Kind, Tensor};

use super::{Attempt, Goal, Model, Noise, Standing, integers, predict, scores};
use crate::seed::Stream;

const WEIGHT: f64 = 0.5;
/// Trials that go through the model at once, of one image or of several.
const TOGETHER: usize = 128;
/// x and y in pixels, then the values of the channels.
const NUMBERS: usize = 5;

pub(super) fn attempt(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    (pixels, population, generations): (u32, u32, u32),
    noise: &Noise,
) -> Attempt {
    let mut standing = Standing::all(images, goal, noise);
    let sides = [images.size()[3] as f64, images.size()[2] as f64];
    let start = |stream| Island::new(stream, pixels, population, sides);
    let mut islands: Vec<Island> = noise.streams().into_iter().map(start).collect();
    for generation in 0..=generations {
        if generation > 0 {
            islands.iter_mut().for_each(|island| island.breed(sides));
        }
        let seen = look(model, &standing, &islands, epsilon);
        // Of an image that breaks, the first trial that does it; of the others the fittest.
        let mut shown = Vec::with_capacity(islands.len());
        let (mut broken, mut predicted) = (Vec::new(), Vec::new());
        for (island, seen) in islands.iter_mut().zip(seen.chunks(population as usize)) {
            let first = seen.iter().position(|seen| seen.reached);
            shown.push(first.map(|first| island.trials[first].clone()));
            broken.push(first.is_some());
            predicted.push(first.map_or(-1, |first| seen[first].predicted));
            island.survive(seen);
        }
        let last = generation == generations;
        if !last && !broken.contains(&true) {
            continue;
        }
        let fittest =
            islands.iter().zip(shown).map(|(island, shown)| shown.unwrap_or_else(|| island.fittest().to_vec()));
        let fittest: Vec<Vec<f64>> = fittest.collect();
        let each: Vec<(usize, &[f64])> = fittest.iter().map(Vec::as_slice).enumerate().collect();
        let current = paint(&standing.images, &each, epsilon);
        if last {
            standing.note(&current, &predict(model, &current));
        }
        let (mask, predicted) = (Tensor::from_slice(&broken), Tensor::from_slice(&predicted));
        let _ =
            standing.settle_where(&mask.to_device(images.device()), &current, &predicted.to_device(images.device()));
        let mut stay = broken.into_iter().map(|broken| !broken);
        islands.retain(|_| stay.next().unwrap_or(false));
        if standing.is_empty() {
            break;
        }
    }
    standing.end()
}

/// What the model makes of a trial.
struct Seen {
    predicted: i64,
    reached: bool,
    fitness: f64,
}

/// Shows the model the trials of all islands, in their order.
fn look(model: &Model, standing: &Standing, islands: &[Island], epsilon: f64) -> Vec<Seen> {
    let trials = islands.iter().enumerate().flat_map(|(row, island)| island.trials.iter().map(move |t| (row, &t[..])));
    let trials: Vec<(usize, &[f64])> = trials.collect();
    let mut seen = Vec::with_capacity(trials.len());
    for trials in trials.chunks(TOGETHER) {
        let logits = tch::no_grad(|| model(&paint(&standing.images, trials, epsilon)));
        let classes = standing.goal().classes().index_select(0, &rows(trials, &standing.images));
        let goal = standing.goal();
        let goal = goal.with(&classes);
        let loss = scores::cross_entropy(&logits, &classes).to_kind(Kind::Double);
        let fitness = if let Goal::Away(_) = goal { loss } else { -loss };
        let predicted = logits.argmax(1, false);
        let reached = integers(&goal.reached(&predicted).to_kind(Kind::Int64));
        let each = integers(&predicted).into_iter().zip(reached).enumerate();
        seen.extend(each.map(|(i, (predicted, reached))| Seen {
            predicted,
            reached: reached != 0,
            fitness: fitness.double_value(&[i as i64]),
        }));
    }
    seen
}

/// Copies of the images that the trials belong to, with their pixels.
fn paint(images: &Tensor, trials: &[(usize, &[f64])], epsilon: f64) -> Tensor {
    let device = images.device();
    let of = rows(trials, images);
    let mut painted = images.permute([0, 2, 3, 1]).index_select(0, &of).permute([0, 3, 1, 2]);
    let own = Tensor::arange(trials.len() as i64, (Kind::Int64, device));
    for pixel in 0..trials.first().map_or(0, |(_, trial)| trial.len() / NUMBERS) {
        let number = |n: usize| -> Vec<f64> { trials.iter().map(|(_, trial)| trial[NUMBERS * pixel + n]).collect() };
        let place = |n| Tensor::from_slice(&number(n)).floor().to_kind(Kind::Int64).to_device(device);
        let (x, y) = (place(0), place(1));
        let values: Vec<Tensor> = (2..NUMBERS).map(|n| Tensor::from_slice(&number(n))).collect();
        let values = Tensor::stack(&values, 1).to_kind(images.kind()).to_device(device);
        let before = images.index(&[Some(&of), None, Some(&y), Some(&x)]);
        let values = values.clamp_tensor(Some(&before - epsilon), Some(&before + epsilon)).clamp_(0.0, 1.0);
        let _ = painted.index_put_(&[Some(&own), None, Some(&y), Some(&x)], &values, false);
    }
    painted
}

fn rows(trials: &[(usize, &[f64])], images: &Tensor) -> Tensor {
    let rows: Vec<i64> = trials.iter().map(|&(row, _)| row as i64).collect();
    Tensor::from_slice(&rows).to_device(images.device())
}

/// The candidates of one image.
struct Island {
    stream: Stream,
    members: Vec<Vec<f64>>,
    fitness: Vec<f64>,
    /// Each is to compete with the member at its place.
    trials: Vec<Vec<f64>>,
}

impl Island {
    fn new(mut stream: Stream, pixels: u32, population: u32, sides: [f64; 2]) -> Self {
        let mut candidate = || -> Vec<f64> {
            (0..pixels)
                .flat_map(|_| {
                    let [x, y] = sides.map(|side| stream.random::<f64>() * side);
                    let [r, g, b] = [(); 3].map(|()| (128.0 + 127.0 * normal(&mut stream)) / 255.0);
                    [x, y, r, g, b]
                })
                .collect()
        };
        let trials: Vec<Vec<f64>> = (0..population).map(|_| candidate()).collect();
        Self { stream, members: trials.clone(), fitness: vec![f64::NEG_INFINITY; trials.len()], trials }
    }

    fn breed(&mut self, sides: [f64; 2]) {
        for (place, trial) in self.trials.iter_mut().enumerate() {
            // Three others, distinct: of the places without this one.
            let others = index::sample(&mut self.stream, self.members.len() - 1, 3);
            let [a, b, c] = [0, 1, 2].map(|i| &self.members[others.index(i) + usize::from(others.index(i) >= place)]);
            for (n, number) in trial.iter_mut().enumerate() {
                *number = a[n] + WEIGHT * (b[n] - c[n]);
                if let Some(side) = sides.get(n % NUMBERS)
                    && !(0.0..*side).contains(number)
                {
                    *number = self.stream.random::<f64>() * side;
                }
            }
        }
    }

    fn survive(&mut self, seen: &[Seen]) {
        for (place, seen) in seen.iter().enumerate() {
            if seen.fitness > self.fitness[place] {
                self.fitness[place] = seen.fitness;
                self.members[place].clone_from(&self.trials[place]);
            }
        }
    }

    fn fittest(&self) -> &[f64] {
        let best = (0..self.members.len()).max_by(|&a, &b| self.fitness[a].total_cmp(&self.fitness[b]));
        best.map_or(&[], |best| &self.members[best])
    }
}

/// A number from the standard normal distribution, by Box and Muller.
fn normal(stream: &mut Stream) -> f64 {
    let (u, v): (f64, f64) = (1.0 - stream.random::<f64>(), stream.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
