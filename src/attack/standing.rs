//! The images of a batch that still stand: an image that is broken leaves the batch, at any step of any attack, unless
//! all are to go on to the end.

use tch::{Kind, Tensor};

use super::{Attempt, Goal, Noise, integers, positions, select};

/// What is left of a batch under attack, and what became of the rest. The tensors of an attack of its
/// own (an iterate, a momentum) must be selected by the positions that [`settle`](Self::settle) returns.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    attempt: Attempt,
    goal: Goal<'a>,
    noise: &'a Noise<'a>,
    /// Places in the whole batch.
    rows: Tensor,
    /// The originals, `[n, 3, H, W]`.
    pub images: Tensor,
    /// The classes of the goal, `[n]`.
    classes: Tensor,
    /// Nobody leaves.
    to_the_end: bool,
}

impl<'a> Standing<'a> {
    /// All of them.
    pub fn all(images: &Tensor, goal: &Goal<'a>, noise: &'a Noise<'a>) -> Self {
        let classes = goal.classes();
        Self {
            attempt: Attempt { adversarial: images.copy(), predicted: classes.copy() },
            goal: *goal,
            noise,
            rows: Tensor::arange(classes.size()[0], (Kind::Int64, classes.device())),
            images: images.shallow_clone(),
            classes: classes.shallow_clone(),
            to_the_end: false,
        }
    }

    /// All of them, and broken images go on too: for those that are to be far beyond the boundary.
    pub fn to_the_end(images: &Tensor, goal: &Goal<'a>, noise: &'a Noise<'a>) -> Self {
        Self { to_the_end: true, ..Self::all(images, goal, noise) }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.numel() == 0
    }

    /// The places in the whole batch of those that stand, `[n]`.
    pub fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// The goal of those that stand.
    pub fn goal(&self) -> Goal<'_> {
        self.goal.with(&self.classes)
    }

    /// Their noise, `extra` rounds later.
    pub fn noise(&self, extra: u64) -> Noise<'a> {
        self.noise.select(&integers(&self.rows), extra)
    }

    /// Records those whose image in `current` `[n, 3, H, W]` is classified, as `predicted` `[n]` says,
    /// as the goal wants, and drops them. Returns the positions `[m]` of those that go on.
    pub fn settle(&mut self, current: &Tensor, predicted: &Tensor) -> Tensor {
        self.settle_where(&self.goal().reached(predicted), current, predicted)
    }

    /// The same for those that `broken` `[n]` names.
    pub fn settle_where(&mut self, broken: &Tensor, current: &Tensor, predicted: &Tensor) -> Tensor {
        if self.to_the_end {
            return Tensor::arange(broken.size()[0], (Kind::Int64, broken.device()));
        }
        let (fallen, standing) = (positions(broken), positions(&broken.logical_not()));
        if fallen.numel() > 0 {
            let rows = self.rows.index_select(0, &fallen);
            let _ = self.attempt.adversarial.index_copy_(0, &rows, &select(current, &fallen));
            let _ = self.attempt.predicted.index_copy_(0, &rows, &predicted.index_select(0, &fallen));
            self.keep(&standing);
        }
        standing
    }

    /// Drops all but those at `positions`, and lets what was noted of them stand.
    pub fn keep(&mut self, positions: &Tensor) {
        self.rows = self.rows.index_select(0, positions);
        self.images = select(&self.images, positions);
        self.classes = self.classes.index_select(0, positions);
    }

    /// Notes where those that stand have come to; a later note replaces it.
    pub fn note(&mut self, current: &Tensor, predicted: &Tensor) {
        let _ = self.attempt.adversarial.index_copy_(0, &self.rows, current);
        let _ = self.attempt.predicted.index_copy_(0, &self.rows, predicted);
    }

    /// How the attack ended: where the images fell, or what was noted last, or the originals.
    pub fn end(self) -> Attempt {
        self.attempt
    }
}
