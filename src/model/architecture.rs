//! What a network is made of, as data. Everything else (its tensors, the folding of its BatchNorms,
//! its forward pass) follows from a [`Design`].

use super::weights::Shapes;
use super::{lite0, resnet, small};
use crate::config::Architecture;

/// A network: blocks in sequence, a global average, a linear classifier.
#[derive(Debug, Clone)]
pub struct Design {
    /// The blocks, from the pixels up; stem and last convolution are blocks too.
    pub blocks: Vec<Block>,
    /// timm's name of the classifier.
    pub head: &'static str,
    /// The classifier's inputs.
    pub features: usize,
    /// What follows a convolution.
    pub activation: Activation,
    /// How borders are filled.
    pub padding: Padding,
    /// The ε of its BatchNorms.
    pub norm_epsilon: f64,
    /// Per-channel mean on the pixel scale `[0, 1]` that its public weights were trained with.
    pub mean: [f32; 3],
    /// Per-channel standard deviation, likewise.
    pub std: [f32; 3],
}

/// Convolutions in sequence with an optional shortcut around them.
#[derive(Debug, Clone)]
pub struct Block {
    /// The convolutions; the activation follows each but the last.
    pub convs: Vec<Conv>,
    /// What is added to the last one's output.
    pub shortcut: Shortcut,
    /// Whether the activation also follows the last one (after the sum).
    pub activated: bool,
    /// Whether a 3×3 maximum with stride 2 ends the block.
    pub pooled: bool,
}

/// The other way around a block.
#[derive(Debug, Clone)]
pub enum Shortcut {
    /// There is none.
    None,
    /// The block's input.
    Identity,
    /// The block's input, brought to the output's shape.
    Projection(Conv),
}

/// A square convolution with a bias, into which its BatchNorm is folded.
#[derive(Debug, Clone)]
pub struct Conv {
    /// timm's name, without `.weight`.
    pub name: String,
    /// timm's name of the BatchNorm that follows it in timm's network.
    pub norm: Option<String>,
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// True when every channel is filtered on its own.
    pub depthwise: bool,
}

/// The nonlinearity of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
}

/// How many zeros surround a convolution's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// ⌊kernel / 2⌋ on every side.
    Symmetric,
    /// TensorFlow's SAME: as few as give ⌈size / stride⌉ outputs, the odd one at the right and bottom.
    Same,
}

impl Conv {
    /// A 1×1 convolution named `name`, followed by BatchNorm `norm` in timm's network.
    pub fn new(name: String, norm: Option<String>, input: usize, output: usize) -> Self {
        Self { name, norm, input, output, kernel: 1, stride: 1, depthwise: false }
    }

    /// The same with a larger kernel and stride.
    pub fn sized(self, kernel: usize, stride: usize) -> Self {
        Self { kernel, stride, ..self }
    }

    /// The same, each channel on its own.
    pub fn depthwise(self) -> Self {
        Self { depthwise: true, ..self }
    }

    /// `[output, input / groups, kernel, kernel]`.
    pub fn shape(&self) -> Vec<usize> {
        vec![self.output, if self.depthwise { 1 } else { self.input }, self.kernel, self.kernel]
    }

    /// Name of its weight.
    pub fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    /// Name of its bias.
    pub fn bias(&self) -> String {
        format!("{}.bias", self.name)
    }
}

impl Block {
    /// One convolution and the activation.
    pub fn plain(conv: Conv) -> Self {
        Self { convs: vec![conv], shortcut: Shortcut::None, activated: true, pooled: false }
    }

    /// Its convolutions, the shortcut's last.
    pub fn all_convs(&self) -> impl Iterator<Item = &Conv> {
        let projection = match &self.shortcut {
            Shortcut::Projection(conv) => Some(conv),
            Shortcut::None | Shortcut::Identity => None,
        };
        self.convs.iter().chain(projection)
    }
}

impl Design {
    /// The design of `architecture`.
    pub fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::TfEfficientnetLite0 => lite0::design(),
            Architecture::Resnet18 => resnet::design18(),
            Architecture::Resnet50 => resnet::design50(),
            Architecture::HardySmall => small::design(),
        }
    }

    /// All convolutions, in the order in which they are computed.
    pub fn convs(&self) -> impl Iterator<Item = &Conv> {
        self.blocks.iter().flat_map(Block::all_convs)
    }

    /// Name of the classifier's weight, `[classes, features]`.
    pub fn head_weight(&self) -> String {
        format!("{}.weight", self.head)
    }

    /// Name of the classifier's bias, `[classes]`.
    pub fn head_bias(&self) -> String {
        format!("{}.bias", self.head)
    }

    fn head_shapes(&self, classes: usize) -> [(String, Vec<usize>); 2] {
        [(self.head_weight(), vec![classes, self.features]), (self.head_bias(), vec![classes])]
    }

    /// Names and shapes of the folded form, in the order in which they are computed.
    pub fn folded_shapes(&self, classes: usize) -> Shapes {
        self.convs()
            .flat_map(|conv| [(conv.weight(), conv.shape()), (conv.bias(), vec![conv.output])])
            .chain(self.head_shapes(classes))
            .collect()
    }

    /// Names and shapes of timm's `state_dict`.
    pub fn timm_shapes(&self, classes: usize) -> Shapes {
        let mut shapes = Shapes::new();
        for conv in self.convs() {
            shapes.push((conv.weight(), conv.shape()));
            match &conv.norm {
                None => shapes.push((conv.bias(), vec![conv.output])),
                Some(norm) => {
                    for part in ["weight", "bias", "running_mean", "running_var"] {
                        shapes.push((format!("{norm}.{part}"), vec![conv.output]));
                    }
                    shapes.push((format!("{norm}.num_batches_tracked"), vec![]));
                }
            }
        }
        shapes.extend(self.head_shapes(classes));
        shapes
    }
}
