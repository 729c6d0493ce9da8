//! ResNet-18 and ResNet-50.
//!
//! He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (2015),
//! <https://arxiv.org/abs/1512.03385>; timm's and torchvision's `resnet18` and `resnet50`, which share
//! their names. The stride of a bottleneck lies in its 3×3 convolution, as there.

use super::architecture::{Activation, Block, Conv, Design, Padding, Shortcut};

/// What a residual block is made of.
#[derive(Clone, Copy)]
enum Kind {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3 and 1×1, the last four times as wide.
    Bottleneck,
}

pub(super) fn design18() -> Design {
    design(Kind::Basic, [2, 2, 2, 2])
}

pub(super) fn design50() -> Design {
    design(Kind::Bottleneck, [3, 4, 6, 3])
}

fn design(kind: Kind, repeats: [usize; 4]) -> Design {
    let mut channels = 64;
    let mut stem = Block::plain(Conv::new("conv1".into(), Some("bn1".into()), 3, channels).sized(7, 2));
    stem.pooled = true;
    let mut blocks = vec![stem];
    for (stage, repeats) in repeats.into_iter().enumerate() {
        for index in 0..repeats {
            let stride = if index == 0 && stage > 0 { 2 } else { 1 };
            let block = block(&format!("layer{}.{index}", stage + 1), kind, channels, 64 << stage, stride);
            channels = block.convs.last().map_or(channels, |conv| conv.output);
            blocks.push(block);
        }
    }
    Design {
        blocks,
        head: "fc",
        features: channels,
        activation: Activation::Relu,
        padding: Padding::Symmetric,
        norm_epsilon: 1e-5,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    }
}

fn block(name: &str, kind: Kind, input: usize, width: usize, stride: usize) -> Block {
    let conv = |i: usize, from: usize, to: usize| {
        Conv::new(format!("{name}.conv{i}"), Some(format!("{name}.bn{i}")), from, to)
    };
    let convs = match kind {
        Kind::Basic => vec![conv(1, input, width).sized(3, stride), conv(2, width, width).sized(3, 1)],
        Kind::Bottleneck => {
            vec![conv(1, input, width), conv(2, width, width).sized(3, stride), conv(3, width, 4 * width)]
        }
    };
    let output = match kind {
        Kind::Basic => width,
        Kind::Bottleneck => 4 * width,
    };
    let shortcut = if stride == 1 && input == output {
        Shortcut::Identity
    } else {
        let (conv, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
        Shortcut::Projection(Conv::new(conv, Some(norm), input, output).sized(1, stride))
    };
    Block { convs, shortcut, activated: true, pooled: false }
}
