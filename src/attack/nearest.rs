//! The nearest adversarial image found so far, for attacks that seek the least change.

use tch::{Kind, Tensor};

use super::{each, positions, select};

/// One for each image.
#[derive(Debug)]
pub(super) struct Nearest {
    /// `[n, 3, H, W]`.
    pub images: Tensor,
    /// How far each is from its original, `[n]`; infinite where there is none yet.
    pub distance: Tensor,
    /// The class that the model sees in it, `[n]`.
    pub predicted: Tensor,
}

impl Nearest {
    pub fn none(images: &Tensor) -> Self {
        let count = [images.size()[0]];
        Self {
            images: images.copy(),
            distance: Tensor::full(count, f64::INFINITY, (images.kind(), images.device())),
            predicted: Tensor::zeros(count, (Kind::Int64, images.device())),
        }
    }

    /// Takes those of `images`, which stand at `rows` here, that `reached` the goal nearer than before.
    pub fn note(&mut self, rows: &Tensor, images: &Tensor, predicted: &Tensor, distance: &Tensor, reached: &Tensor) {
        let better = positions(&reached.logical_and(&distance.lt_tensor(&self.distance.index_select(0, rows))));
        if better.numel() > 0 {
            let rows = rows.index_select(0, &better);
            let _ = self.images.index_copy_(0, &rows, &select(images, &better));
            let _ = self.distance.index_copy_(0, &rows, &distance.index_select(0, &better));
            let _ = self.predicted.index_copy_(0, &rows, &predicted.index_select(0, &better));
        }
    }

    /// Takes what is nearer in `other`.
    pub fn take(&mut self, other: &Self) {
        let better = other.distance.lt_tensor(&self.distance);
        self.images = other.images.where_self(&each(&better), &self.images);
        self.predicted = other.predicted.where_self(&better, &self.predicted);
        self.distance = other.distance.minimum(&self.distance);
    }

    pub fn select(&self, left: &Tensor) -> Self {
        Self {
            images: select(&self.images, left),
            distance: self.distance.index_select(0, left),
            predicted: self.predicted.index_select(0, left),
        }
    }
}
