//! What an attack is to achieve, and how far it may go.

use tch::Tensor;

use super::{Norm, Objective};

/// What an attack is to achieve for each image of a batch.
#[derive(Debug, Clone, Copy)]
pub enum Goal<'a> {
    /// Any class but these, `[N]`, i64: the true ones.
    Away(&'a Tensor),
    /// These classes, `[N]`, i64: a targeted attack.
    Towards(&'a Tensor),
}

impl<'a> Goal<'a> {
    /// The classes to be left or reached, `[N]`.
    pub fn classes(&self) -> &'a Tensor {
        match self {
            Self::Away(classes) | Self::Towards(classes) => classes,
        }
    }

    /// Which of the predicted classes `[N]` achieve it: `[N]`, bool.
    pub fn reached(&self, predicted: &Tensor) -> Tensor {
        match self {
            Self::Away(labels) => predicted.ne_tensor(labels),
            Self::Towards(targets) => predicted.eq_tensor(targets),
        }
    }

    /// The cross-entropy to be driven up.
    pub fn objective(&self) -> Objective<'a> {
        match self {
            Self::Away(labels) => Objective::CrossEntropy(labels),
            Self::Towards(targets) => Objective::Target(targets),
        }
    }

    /// The same for other images of the same kind.
    pub(super) fn with<'b>(&self, classes: &'b Tensor) -> Goal<'b> {
        match self {
            Self::Away(_) => Goal::Away(classes),
            Self::Towards(_) => Goal::Towards(classes),
        }
    }
}

impl Norm {
    /// How far `adversarial` is from `images`, both `[N, 3, H, W]`: `[N]`, f32 or f64 as the images.
    pub fn distance(self, adversarial: &Tensor, images: &Tensor) -> Tensor {
        let change = (adversarial - images).abs_();
        match self {
            Self::LInf => change.amax([1, 2, 3], false),
            Self::L2 => change.flatten(1, -1).norm_scalaropt_dim(2.0, [1], false),
            Self::L0 => {
                change.amax([1], false).flatten(1, -1).gt(0.0).sum_dim_intlist(1, false, None).to_kind(images.kind())
            }
        }
    }
}
