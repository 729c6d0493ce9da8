//! Losses and orders of logits `[N, K]` that several attacks use; one number for each image, `[N]`.

use tch::{Reduction, Tensor};

use super::{Goal, NO_INDEX_IGNORED};

/// Cross-entropy with `classes` `[N]`.
pub(super) fn cross_entropy(logits: &Tensor, classes: &Tensor) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(classes, None, Reduction::None, NO_INDEX_IGNORED, 0.0)
}

/// The logit of `classes` `[N]`.
pub(super) fn of(logits: &Tensor, classes: &Tensor) -> Tensor {
    logits.gather(1, &classes.unsqueeze(1), false).squeeze_dim(1)
}

/// The largest logit of another class than `classes` `[N]`.
pub(super) fn best_other(logits: &Tensor, classes: &Tensor) -> Tensor {
    logits.scatter_value(1, &classes.unsqueeze(1), f64::NEG_INFINITY).amax([1], false)
}

/// By how much `targets` `[N]` exceed the class to be left, or where there is none, the best other class.
pub(super) fn lead(logits: &Tensor, targets: &Tensor, own: Option<&Tensor>) -> Tensor {
    of(logits, targets) - own.map_or_else(|| best_other(logits, targets), |own| of(logits, own))
}

/// By how much the goal is missed: negative where it is reached, 0 on the boundary.
pub(super) fn margin(logits: &Tensor, goal: &Goal) -> Tensor {
    let margin = of(logits, goal.classes()) - best_other(logits, goal.classes());
    match goal {
        Goal::Away(_) => margin,
        Goal::Towards(_) => -margin,
    }
}

/// The `count` most likely classes other than `classes` `[N]`, the likeliest first: `[N, count]`.
pub(super) fn runners_up(logits: &Tensor, classes: &Tensor, count: i64) -> Tensor {
    let others = logits.scatter_value(1, &classes.unsqueeze(1), f64::NEG_INFINITY);
    others.topk(count.min(logits.size()[1] - 1), 1, true, true).1
}

/// The class to be left `[N]`, where it is one, and those that may be reached, the likeliest first: `[N, C]`, at
/// most `count` of them.
pub(super) fn contest(logits: &Tensor, goal: &Goal, count: i64) -> (Option<Tensor>, Tensor) {
    match goal {
        Goal::Away(labels) => (Some(labels.shallow_clone()), runners_up(logits, labels, count)),
        Goal::Towards(targets) => (None, targets.unsqueeze(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::integers;

    #[test]
    fn margins_and_runners_up_leave_out_the_class_itself() {
        let logits = Tensor::from_slice(&[3.0f32, 1.0, 2.0, -1.0, 0.5, 4.0, 1.5, 1.0]).view([2, 4]);
        let classes = Tensor::from_slice(&[0i64, 3]);
        let expect = |found: Tensor, expected: [f64; 2]| {
            assert_eq!([found.double_value(&[0]), found.double_value(&[1])], expected);
        };
        expect(margin(&logits, &Goal::Away(&classes)), [1.0, -3.0]);
        expect(margin(&logits, &Goal::Towards(&classes)), [-1.0, 3.0]);
        expect(lead(&logits, &classes, None), [1.0, -3.0]);
        expect(lead(&logits, &classes, Some(&Tensor::from_slice(&[1i64, 0]))), [2.0, 0.5]);
        assert_eq!(integers(&runners_up(&logits, &classes, 2).flatten(0, 1)), [2, 1, 1, 2]);
        assert_eq!(runners_up(&logits, &classes, 9).size(), [2, 3]);
    }
}
