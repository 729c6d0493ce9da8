//! A network on a device: logits, parameters, and nothing else.

use tch::{Device, Tensor};

use super::ModelSpec;
use super::weights::Weights;
use crate::error::Result;

/// A network with its weights, BatchNorm folded into the convolutions, channels-last.
#[derive(Debug)]
pub struct Network {}

impl Network {
    /// Builds the network that `spec` describes on `device`. `folded` holds exactly the tensors of
    /// its folded form (see `fold`), else an error names the tensor and both shapes.
    pub fn load(_spec: &ModelSpec, _folded: &Weights, _device: Device) -> Result<Self> {
        unimplemented!()
    }

    /// Logits `[N, K]` of `images`: `[N, 3, H, W]`, f32 in `[0, 1]`. Normalises by itself.
    /// Differentiable in `images` and, unless [`frozen`](Self::frozen), in the parameters.
    pub fn logits(&self, _images: &Tensor) -> Tensor {
        unimplemented!()
    }

    /// The same network over the same storage whose parameters need no gradient: for attacks.
    pub fn frozen(&self) -> Network {
        unimplemented!()
    }

    /// All parameters in one flat f32 tensor `[P]`; the leaves are views of it, so that writing to it
    /// (without gradient) changes the network.
    pub fn flat(&self) -> &Tensor {
        unimplemented!()
    }

    /// The leaves that gradients are taken of, in the order in which they lie in `flat`.
    pub fn leaves(&self) -> &[Leaf] {
        unimplemented!()
    }

    /// A copy of the weights under their names, contiguous (NCHW order), on the CPU.
    pub fn weights(&self) -> Weights {
        unimplemented!()
    }

    /// The device it is on.
    pub fn device(&self) -> Device {
        unimplemented!()
    }
}

/// One parameter.
#[derive(Debug)]
pub struct Leaf {
    /// timm's name.
    pub name: String,
    /// A leaf of the graph, a view into `flat`.
    pub tensor: Tensor,
    /// Where it begins in `flat`; it has `tensor.numel()` elements there (in memory order, which is
    /// channels-last for convolutions).
    pub offset: i64,
    /// True for the classifier.
    pub head: bool,
    /// True for weights, false for biases (which have no weight decay).
    pub decay: bool,
}
