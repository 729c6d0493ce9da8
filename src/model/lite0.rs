//! EfficientNet-Lite0: MobileNet's inverted residuals with ReLU6 and without squeeze-and-excitation.
//!
//! Tan and Le, "EfficientNet" (2019), <https://arxiv.org/abs/1905.11946>, in the "Lite" form of 2020;
//! timm's `tf_efficientnet_lite0`.

use super::architecture::{Activation, Block, Conv, Design, Padding, Shortcut};

/// Per stage: expansion, output channels, blocks, kernel, stride of the first block.
const STAGES: [[usize; 5]; 7] = [
    [1, 16, 1, 3, 1],
    [6, 24, 2, 3, 2],
    [6, 40, 2, 5, 2],
    [6, 80, 3, 3, 2],
    [6, 112, 3, 5, 1],
    [6, 192, 4, 5, 2],
    [6, 320, 1, 3, 1],
];

pub(super) fn design() -> Design {
    let mut channels = 32;
    let mut blocks = vec![Block::plain(Conv::new("conv_stem".into(), Some("bn1".into()), 3, channels).sized(3, 2))];
    for (stage, [expansion, output, repeats, kernel, stride]) in STAGES.into_iter().enumerate() {
        for index in 0..repeats {
            let stride = if index == 0 { stride } else { 1 };
            blocks.push(block(&format!("blocks.{stage}.{index}"), expansion, channels, output, kernel, stride));
            channels = output;
        }
    }
    blocks.push(Block::plain(Conv::new("conv_head".into(), Some("bn2".into()), channels, 1280)));
    Design {
        blocks,
        head: "classifier",
        features: 1280,
        activation: Activation::Relu6,
        padding: Padding::Same,
        norm_epsilon: 1e-3,
        mean: [127.0 / 255.0; 3],
        std: [128.0 / 255.0; 3],
    }
}

/// Widen, filter each channel, narrow; added to its input where the shapes allow it.
fn block(name: &str, expansion: usize, input: usize, output: usize, kernel: usize, stride: usize) -> Block {
    let wide = input * expansion;
    let parts = if expansion == 1 { vec!["conv_dw", "conv_pw"] } else { vec!["conv_pw", "conv_dw", "conv_pwl"] };
    let last = parts.len() - 1;
    let convs = parts.into_iter().enumerate().map(|(i, part)| {
        let (from, to) = (if i == 0 { input } else { wide }, if i == last { output } else { wide });
        let conv = Conv::new(format!("{name}.{part}"), Some(format!("{name}.bn{}", i + 1)), from, to);
        if part == "conv_dw" { conv.sized(kernel, stride).depthwise() } else { conv }
    });
    let shortcut = if stride == 1 && input == output { Shortcut::Identity } else { Shortcut::None };
    Block { convs: convs.collect(), shortcut, activated: false, pooled: false }
}
