//! APGD: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
//! parameter-free attacks", 2020, <https://arxiv.org/abs/2003.01690>, algorithm 1. Norm L∞. ε in
//! `[0, 1]`. Published: start on the ball's border, first step 2 ε, momentum 0.75, checkpoints at 0.22 of
//! the steps and then ever closer, down to 0.06; a step is halved where fewer than 0.75 of the steps since
//! the last checkpoint raised the loss, or where neither step nor best loss has changed (section 3.1). DLR
//! and its targeted form: section 4; targets are the 9 likeliest wrong classes, or all. What raised the loss is told as
//! in the authors' program: by the iterate before, even where the image then went back to its best one, and
//! the first step by a loss of 0.

use tch::{Kind, Tensor};

use super::{ApgdLoss, Attempt, Goal, Model, Noise, Standing, each, gradient_of, predict, project, scores, select};

const TARGETS: i64 = 9;
const MOMENTUM: f64 = 0.75;
const RISING: f64 = 0.75;

pub(super) fn attempt(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    (loss, steps, restarts): (ApgdLoss, u32, u32),
    noise: &Noise,
) -> Attempt {
    let mut standing = Standing::all(images, goal, noise);
    let targets = targets(model, images, goal, loss);
    for restart in 0..i64::from(restarts) {
        for turn in 0..targets.size()[1] {
            let start = start(&standing, epsilon, (restart * targets.size()[1] + turn) as u64);
            let targets = targets.select(1, turn).index_select(0, standing.rows());
            run(model, &mut standing, start, targets, epsilon, loss, steps);
            if standing.is_empty() {
                return standing.end();
            }
        }
    }
    standing.end()
}

/// All steps for every image from the first start, with targets towards the likeliest one: the iterate of highest loss.
pub(super) fn craft(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    (loss, steps): (ApgdLoss, u32),
    noise: &Noise,
) -> Tensor {
    let mut standing = Standing::to_the_end(images, goal, noise);
    let start = start(&standing, epsilon, 0);
    let target = targets(model, images, goal, loss).select(1, 0);
    run(model, &mut standing, start, target, epsilon, loss, steps);
    standing.end().adversarial
}

/// The classes to go for in turn, `[N, T]`.
fn targets(model: &Model, images: &Tensor, goal: &Goal, loss: ApgdLoss) -> Tensor {
    match (loss, goal) {
        (ApgdLoss::TargetedDlr, Goal::Away(labels)) => {
            scores::runners_up(&tch::no_grad(|| model(images)), labels, TARGETS)
        }
        _ => goal.classes().unsqueeze(1),
    }
}

/// Uniform noise, scaled until it touches the border of the ball.
fn start(standing: &Standing, epsilon: f64, round: u64) -> Tensor {
    let noise = standing.noise(round).uniform(&standing.images, 1.0);
    let noise = &noise / each(&noise.abs().amax([1, 2, 3], false));
    (&standing.images + noise * epsilon).clamp_(0.0, 1.0)
}

pub(super) fn run(
    model: &Model,
    standing: &mut Standing,
    start: Tensor,
    targets: Tensor,
    epsilon: f64,
    loss: ApgdLoss,
    steps: u32,
) {
    // Nobody asks for the gradient at the last iterate.
    let look = |x: &Tensor, goal: &Goal, targets: &Tensor, last: bool| {
        let sum = |logits: &Tensor| value(loss, logits, goal, targets).sum(None::<Kind>);
        let (gradient, logits) = match last {
            true => (x.shallow_clone(), tch::no_grad(|| model(x))),
            false => gradient_of(model, x, sum),
        };
        (gradient, value(loss, &logits, goal, targets), logits.argmax(1, false))
    };
    let (gradient, value, predicted) = look(&start, &standing.goal(), &targets, steps == 0);
    let mut search = Search::new(start, gradient, value, targets, 2.0 * epsilon);
    let left = standing.settle(&search.current, &predicted);
    search = search.select(&left);

    let share = |share: f64| ((share * f64::from(steps)) as u32).max(1);
    let (mut window, mut since) = (share(0.22), 0);
    for step in 0..steps {
        if standing.is_empty() {
            return;
        }
        let next = search.next(&standing.images, epsilon, if step == 0 { 1.0 } else { MOMENTUM });
        let (gradient, value, predicted) = look(&next, &standing.goal(), &search.targets, step + 1 == steps);
        search.move_to(next, gradient, value);
        let left = standing.settle(&search.current, &predicted);
        search = search.select(&left);
        since += 1;
        if since == window && !standing.is_empty() {
            search.check(window);
            window = window.saturating_sub(share(0.03)).max(share(0.06));
            since = 0;
        }
    }
    standing.note(&search.best, &predict(model, &search.best));
}

/// What is driven up, for each image.
pub(super) fn value(loss: ApgdLoss, logits: &Tensor, goal: &Goal, targets: &Tensor) -> Tensor {
    let classes = logits.size()[1];
    let targeted = |targets: &Tensor, own: &dyn Fn() -> Tensor| match classes {
        ..4 => -scores::cross_entropy(logits, targets),
        _ => {
            let sorted = logits.topk(4, 1, true, true).0;
            let scale = sorted.select(1, 0) - (sorted.select(1, 2) + sorted.select(1, 3)) / 2.0;
            (scores::of(logits, targets) - own()) / (scale + 1e-12)
        }
    };
    match (loss, goal) {
        (ApgdLoss::CrossEntropy, Goal::Away(labels)) => scores::cross_entropy(logits, labels),
        (ApgdLoss::CrossEntropy, Goal::Towards(targets)) => -scores::cross_entropy(logits, targets),
        (ApgdLoss::Dlr, Goal::Away(labels)) if classes < 3 => scores::cross_entropy(logits, labels),
        (ApgdLoss::Dlr, Goal::Away(labels)) => {
            let sorted = logits.topk(3, 1, true, true).0;
            let scale = sorted.select(1, 0) - sorted.select(1, 2);
            -scores::margin(logits, &Goal::Away(labels)) / (scale + 1e-12)
        }
        (ApgdLoss::TargetedDlr, Goal::Away(labels)) => targeted(targets, &|| scores::of(logits, labels)),
        (ApgdLoss::Dlr | ApgdLoss::TargetedDlr, Goal::Towards(targets)) => {
            targeted(targets, &|| scores::best_other(logits, targets))
        }
    }
}

/// Where each image is, has been and has been best.
struct Search {
    current: Tensor,
    previous: Tensor,
    gradient: Tensor,
    /// The loss of the last iterate; 0 before the first step.
    value: Tensor,
    best: Tensor,
    best_gradient: Tensor,
    best_value: Tensor,
    targets: Tensor,
    /// Length of a step.
    length: Tensor,
    /// Steps since the last checkpoint that raised the loss.
    rises: Tensor,
    /// The best value at the last checkpoint, and whether the step was halved there.
    checked: Tensor,
    halved: Tensor,
}

impl Search {
    fn new(current: Tensor, gradient: Tensor, value: Tensor, targets: Tensor, length: f64) -> Self {
        Self {
            previous: current.shallow_clone(),
            best: current.shallow_clone(),
            best_gradient: gradient.shallow_clone(),
            best_value: value.copy(),
            length: Tensor::full(value.size().as_slice(), length, (current.kind(), current.device())),
            rises: value.zeros_like(),
            checked: value.copy(),
            halved: value.ones_like().to_kind(Kind::Bool),
            value: value.zeros_like(),
            current,
            gradient,
            targets,
        }
    }

    fn select(&self, left: &Tensor) -> Self {
        let numbers = |tensor: &Tensor| tensor.index_select(0, left);
        Self {
            current: select(&self.current, left),
            previous: select(&self.previous, left),
            gradient: select(&self.gradient, left),
            best: select(&self.best, left),
            best_gradient: select(&self.best_gradient, left),
            value: numbers(&self.value),
            best_value: numbers(&self.best_value),
            targets: numbers(&self.targets),
            length: numbers(&self.length),
            rises: numbers(&self.rises),
            checked: numbers(&self.checked),
            halved: numbers(&self.halved),
        }
    }

    /// A step along the gradient, and part of the way that was gone last.
    fn next(&self, images: &Tensor, epsilon: f64, momentum: f64) -> Tensor {
        let step = project(&(&self.current + self.gradient.sign() * each(&self.length)), images, epsilon);
        let inertia = (&self.current - &self.previous) * (1.0 - momentum);
        project(&(&self.current + (step - &self.current) * momentum + inertia), images, epsilon)
    }

    fn move_to(&mut self, next: Tensor, gradient: Tensor, value: Tensor) {
        self.rises += value.gt_tensor(&self.value).to_kind(value.kind());
        let better = value.gt_tensor(&self.best_value);
        self.best = next.where_self(&each(&better), &self.best);
        self.best_gradient = gradient.where_self(&each(&better), &self.best_gradient);
        self.best_value = value.maximum(&self.best_value);
        self.previous = std::mem::replace(&mut self.current, next);
        (self.gradient, self.value) = (gradient, value);
    }

    /// Halves the step of those that get nowhere, and takes them back to their best point.
    fn check(&mut self, window: u32) {
        let wavering = self.rises.le(RISING * f64::from(window));
        let stuck = self.halved.logical_not().logical_and(&self.checked.ge_tensor(&self.best_value));
        let halve = wavering.logical_or(&stuck);
        self.length = (&self.length * 0.5).where_self(&halve, &self.length);
        self.current = self.best.where_self(&each(&halve), &self.current);
        self.gradient = self.best_gradient.where_self(&each(&halve), &self.gradient);
        self.rises = self.rises.zeros_like();
        self.checked = self.best_value.copy();
        self.halved = halve;
    }
}
