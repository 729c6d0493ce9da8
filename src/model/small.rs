//! `hardy_small`, a network of our own that is trained from scratch in minutes: a stem and three residual
//! blocks of two 3×3 convolutions, no normalisation, 0.2 million parameters, for inputs of 32 to 224 pixels.

use super::architecture::{Activation, Block, Conv, Design, Padding, Shortcut};

pub(super) fn design() -> Design {
    let mut channels = 24;
    let mut blocks = vec![Block::plain(Conv::new("stem".into(), None, 3, channels).sized(3, 2))];
    for (index, width) in [32, 64, 96].into_iter().enumerate() {
        let conv = |part: &str, input: usize| Conv::new(format!("blocks.{index}.{part}"), None, input, width);
        blocks.push(Block {
            convs: vec![conv("conv1", channels).sized(3, 2), conv("conv2", width).sized(3, 1)],
            shortcut: Shortcut::Projection(conv("shortcut", channels).sized(1, 2)),
            activated: true,
            pooled: false,
        });
        channels = width;
    }
    Design {
        blocks,
        head: "head",
        features: channels,
        activation: Activation::Relu,
        padding: Padding::Symmetric,
        norm_epsilon: 0.0,
        mean: [0.5; 3],
        std: [0.5; 3],
    }
}
