//! A network on a device: logits, parameters, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tch::{Device, Kind, Tensor};

use super::ModelSpec;
use super::architecture::{Activation, Block, Conv, Design, Padding, Shortcut};
use super::weights::{Array, Weights, check};
use crate::error::Result;

/// A network with its weights, BatchNorm folded into the convolutions, channels-last.
#[derive(Debug)]
pub struct Network {
    design: Arc<Design>,
    flat: Tensor,
    leaves: Vec<Leaf>,
    mean: Tensor,
    std: Tensor,
    precision: Kind,
    looks: Arc<AtomicU64>,
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

impl Network {
    /// Builds the network that `spec` describes on `device`. `folded` holds exactly the tensors of
    /// its folded form (see [`fold`](super::fold)), else an error names the tensor and both shapes.
    pub fn load(spec: &ModelSpec, folded: &Weights, device: Device) -> Result<Self> {
        let design = Design::of(spec.architecture);
        let shapes = design.folded_shapes(spec.classes.len());
        check(folded, &shapes, &spec.architecture.to_string())?;

        let parts: Vec<Tensor> = shapes.iter().map(|(name, _)| in_memory_order(&folded[name])).collect();
        let flat = Tensor::cat(&parts, 0).to_device(device);
        let mut offset = 0;
        let mut leaves = Vec::with_capacity(shapes.len());
        for (name, shape) in shapes {
            let tensor = view(&flat, offset, &shape).set_requires_grad(true);
            let (head, decay) = (name.starts_with(design.head), name.ends_with(".weight"));
            leaves.push(Leaf { name, tensor, offset, head, decay });
            offset += shape.iter().product::<usize>() as i64;
        }
        let channels = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]).to_device(device);
        let (mean, std) = (channels(spec.mean), channels(spec.std));
        Ok(Self { design: Arc::new(design), flat, leaves, mean, std, precision: Kind::Float, looks: Arc::default() })
    }

    /// The same network computing in bfloat16, where its parameters stay f32: about twice as fast on a recent GPU.
    ///
    /// # Errors
    /// On a CPU, where it would be slower and less exact.
    pub fn in_bf16(self) -> Result<Self> {
        if !self.device().is_cuda() {
            return Err(super::device::bf16_needs_cuda());
        }
        Ok(Self { precision: Kind::BFloat16, ..self })
    }

    /// The same network counting in `looks` how often it is shown images, so that others can see that work goes on.
    pub fn counted(self, looks: Arc<AtomicU64>) -> Self {
        Self { looks, ..self }
    }

    /// Logits `[N, K]` of `images`: `[N, 3, H, W]`, f32 in `[0, 1]`. Normalises by itself.
    /// Differentiable in `images` and, unless [`frozen`](Self::frozen), in the parameters.
    pub fn logits(&self, images: &Tensor) -> Tensor {
        let mut parameters = self.leaves.iter().map(|leaf| &leaf.tensor);
        let features = self.pooled(images, &mut parameters);
        let weight = parameters.next().map(|t| t.to_kind(self.precision));
        let bias = parameters.next().map(|t| t.to_kind(self.precision));
        match weight {
            Some(weight) => features.linear(&weight, bias).to_kind(Kind::Float),
            None => unreachable!("load gave every layer its parameters"),
        }
    }

    /// Features `[N, F]` of `images`, which are as for [`logits`](Self::logits): what the last block gives, averaged
    /// over its pixels, and all that the classifier sees of them.
    pub fn features(&self, images: &Tensor) -> Tensor {
        self.pooled(images, &mut self.leaves.iter().map(|leaf| &leaf.tensor)).to_kind(Kind::Float)
    }

    fn pooled<'a>(&self, images: &Tensor, parameters: &mut impl Iterator<Item = &'a Tensor>) -> Tensor {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let mut x = channels_last(&((images - &self.mean) / &self.std)).to_kind(self.precision);
        for block in &self.design.blocks {
            x = self.block(block, x, parameters);
        }
        x.mean_dim([2, 3].as_slice(), false, None)
    }

    fn block<'a>(&self, block: &Block, input: Tensor, parameters: &mut impl Iterator<Item = &'a Tensor>) -> Tensor {
        let mut x = input.shallow_clone();
        for (index, conv) in block.convs.iter().enumerate() {
            if index > 0 {
                x = self.activate(&x);
            }
            x = self.convolve(conv, &x, parameters);
        }
        x = match &block.shortcut {
            Shortcut::None => x,
            Shortcut::Identity => x + input,
            Shortcut::Projection(conv) => x + self.convolve(conv, &input, parameters),
        };
        if block.activated {
            x = self.activate(&x);
        }
        if block.pooled { x.max_pool2d(3, 2, 1, 1, false) } else { x }
    }

    /// Out of place: measured on a CPU, that is a tenth faster than in place, and twice as fast as `clamp`.
    fn activate(&self, x: &Tensor) -> Tensor {
        match self.design.activation {
            Activation::Relu => x.relu(),
            Activation::Relu6 => x.relu6(),
        }
    }

    fn convolve<'a>(&self, conv: &Conv, x: &Tensor, parameters: &mut impl Iterator<Item = &'a Tensor>) -> Tensor {
        let (Some(weight), Some(bias)) = (parameters.next(), parameters.next()) else {
            unreachable!("load gave every layer its parameters")
        };
        let (weight, bias) = (weight.to_kind(self.precision), bias.to_kind(self.precision));
        let (kernel, stride) = (conv.kernel as i64, conv.stride as i64);
        let groups = if conv.depthwise { conv.input as i64 } else { 1 };
        let padded = |x: &Tensor, padding: [i64; 2]| x.conv2d(&weight, Some(&bias), stride, padding, 1, groups);
        if self.design.padding == Padding::Symmetric {
            return padded(x, [kernel / 2; 2]);
        }
        let size = x.size();
        let [top, bottom] = same_padding(size[2], kernel, stride);
        let [left, right] = same_padding(size[3], kernel, stride);
        if top == bottom && left == right {
            padded(x, [top, left])
        } else {
            padded(&x.constant_pad_nd([left, right, top, bottom]), [0, 0])
        }
    }

    /// The same network over the same storage whose parameters need no gradient: for attacks.
    pub fn frozen(&self) -> Network {
        let leaves =
            self.leaves.iter().map(|leaf| Leaf { tensor: leaf.tensor.detach(), name: leaf.name.clone(), ..*leaf });
        Network {
            design: self.design.clone(),
            flat: self.flat.shallow_clone(),
            leaves: leaves.collect(),
            mean: self.mean.shallow_clone(),
            std: self.std.shallow_clone(),
            precision: self.precision,
            looks: self.looks.clone(),
        }
    }

    /// All parameters in one flat f32 tensor `[P]`; the leaves are views of it, so that writing to it
    /// (without gradient) changes the network.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// The leaves that gradients are taken of, in the order in which they lie in `flat`.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// A copy of the weights under their names, contiguous (NCHW order), on the CPU.
    pub fn weights(&self) -> Weights {
        let copy = |leaf: &Leaf| {
            let mut values = vec![0.0; leaf.tensor.numel()];
            leaf.tensor.detach().copy_data(&mut values, leaf.tensor.numel());
            let shape = leaf.tensor.size().iter().map(|&side| side as usize).collect();
            (leaf.name.clone(), Array { shape, values })
        };
        self.leaves.iter().map(copy).collect()
    }

    /// The device it is on.
    pub fn device(&self) -> Device {
        self.flat.device()
    }
}

impl Leaf {
    /// A gradient of this leaf, `[n]`, in the order in which the leaf lies in [`Network::flat`].
    pub fn in_flat_order(&self, gradient: &Tensor) -> Tensor {
        match gradient.dim() {
            4 => gradient.permute([0, 2, 3, 1]).reshape([-1]),
            _ => gradient.reshape([-1]),
        }
    }
}

/// `x` `[N, C, H, W]` with the channels of a pixel side by side in memory.
fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// The values of `array` as they lie in [`Network::flat`].
fn in_memory_order(array: &Array) -> Tensor {
    let shape: Vec<i64> = array.shape.iter().map(|&side| side as i64).collect();
    let tensor = Tensor::from_slice(&array.values).view(shape.as_slice());
    if shape.len() == 4 { tensor.permute([0, 2, 3, 1]).reshape([-1]) } else { tensor.reshape([-1]) }
}

/// The part of `flat` from `offset` on as a tensor of `shape`, channels-last where it has four sides.
fn view(flat: &Tensor, offset: i64, shape: &[usize]) -> Tensor {
    let shape: Vec<i64> = shape.iter().map(|&side| side as i64).collect();
    let part = flat.narrow(0, offset, shape.iter().product());
    match shape[..] {
        [output, input, height, width] => part.view([output, height, width, input]).permute([0, 3, 1, 2]).detach(),
        _ => part.view(shape.as_slice()).detach(),
    }
}

/// TensorFlow's SAME padding before and after a side of `size`.
fn same_padding(size: i64, kernel: i64, stride: i64) -> [i64; 2] {
    let outputs = (size + stride - 1) / stride;
    let total = ((outputs - 1) * stride + kernel - size).max(0);
    [total / 2, total - total / 2]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Architecture, Resize};
    use crate::model::fresh;

    fn network(architecture: Architecture) -> Network {
        let design = Design::of(architecture);
        let spec = ModelSpec {
            architecture,
            classes: (0..5).map(|i| i.to_string()).collect(),
            input_size: 64,
            resize: Resize::Squash,
            mean: design.mean,
            std: design.std,
        };
        Network::load(&spec, &fresh(architecture, 5, 1), Device::Cpu).unwrap()
    }

    fn images() -> Tensor {
        (Tensor::arange(2 * 3 * 50 * 41, (Kind::Float, Device::Cpu)) * 0.37).sin().view([2, 3, 50, 41]) * 0.5 + 0.5
    }

    #[test]
    fn weights_come_back_as_they_went_in() {
        assert_eq!(network(Architecture::HardySmall).weights(), fresh(Architecture::HardySmall, 5, 1));
    }

    #[test]
    fn writing_to_flat_changes_the_network_and_its_frozen_twin() {
        let network = network(Architecture::HardySmall);
        let frozen = network.frozen();
        tch::no_grad(|| {
            let _ = network.flat().shallow_clone().fill_(0.0);
        });
        for logits in [network.logits(&images()), frozen.logits(&images())] {
            assert_eq!(logits.abs().max().double_value(&[]), 0.0);
        }
    }

    #[test]
    fn a_gradient_in_flat_order_is_the_slope_of_the_loss() {
        let network = network(Architecture::HardySmall);
        let loss = |network: &Network| network.logits(&images()).log_softmax(1, Kind::Float).get(0).get(3);
        let leaves: Vec<&Tensor> = network.leaves().iter().map(|leaf| &leaf.tensor).collect();
        let gradients = Tensor::run_backward(&[loss(&network)], &leaves, false, false);
        let parts: Vec<Tensor> =
            network.leaves().iter().zip(&gradients).map(|(leaf, g)| leaf.in_flat_order(g)).collect();
        let gradient = Tensor::cat(&parts, 0);
        let step = 1e-3;
        let before = loss(&network).double_value(&[]);
        tch::no_grad(|| {
            let _ = network.flat().shallow_clone().g_add_(&(&gradient * step));
        });
        let slope = (loss(&network).double_value(&[]) - before) / step;
        let expected = gradient.square().sum(Kind::Float).double_value(&[]);
        assert!((slope / expected - 1.0).abs() < 0.05, "{slope} {expected}");
    }

    #[test]
    fn a_frozen_network_passes_gradients_to_the_images_only() {
        let images = images().set_requires_grad(true);
        let logits = network(Architecture::TfEfficientnetLite0).frozen().logits(&images);
        let gradient = Tensor::run_backward(&[logits.sum(Kind::Float)], &[&images], false, false);
        assert!(gradient[0].abs().max().double_value(&[]) > 0.0);
        assert!(network(Architecture::HardySmall).frozen().leaves().iter().all(|leaf| !leaf.tensor.requires_grad()));
    }

    #[test]
    fn logits_do_not_depend_on_the_strides_of_the_images() {
        let network = network(Architecture::HardySmall);
        let difference = network.logits(&images()) - network.logits(&channels_last(&images()));
        assert_eq!(difference.abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn the_classifier_sees_nothing_but_the_features() {
        for architecture in [Architecture::HardySmall, Architecture::TfEfficientnetLite0, Architecture::Resnet18] {
            let network = network(architecture);
            let features = network.features(&images());
            assert_eq!(features.size(), [2, Design::of(architecture).features as i64]);
            let [.., weight, bias] = network.leaves() else { panic!("the head comes last") };
            let difference = features.linear(&weight.tensor, Some(&bias.tensor)) - network.logits(&images());
            assert_eq!(difference.abs().max().double_value(&[]), 0.0, "{architecture}");
        }
    }

    #[test]
    fn bf16_is_refused_on_a_cpu() {
        let error = network(Architecture::HardySmall).in_bf16().unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Usage);
    }

    #[test]
    fn same_padding_is_tensorflows() {
        // tf.nn.conv2d's documentation: pad so that there are ceil(size / stride) outputs, the odd one after.
        assert_eq!(same_padding(224, 3, 2), [0, 1]);
        assert_eq!(same_padding(113, 3, 2), [1, 1]);
        assert_eq!(same_padding(56, 5, 2), [1, 2]);
        assert_eq!(same_padding(14, 5, 1), [2, 2]);
        assert_eq!(same_padding(1, 3, 2), [1, 1]);
    }
}
