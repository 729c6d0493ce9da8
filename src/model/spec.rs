//! `model.json`: what must be known about a network besides its weights.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::architecture::Design;
use crate::config::{Architecture, ModelSettings, Resize};

/// Sides of the square input that a model from elsewhere may have, in pixels.
pub(super) const INPUT_SIZES: RangeInclusive<u32> = 1..=4096;

/// Describes a model. Written as `model.json` beside `model.safetensors`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// timm's name of the architecture.
    pub architecture: Architecture,
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// Side of the square input in pixels.
    pub input_size: u32,
    /// How a photo becomes that square.
    pub resize: Resize,
    /// Per-channel mean on the pixel scale `[0, 1]`.
    pub mean: [f32; 3],
    /// Per-channel standard deviation on the pixel scale `[0, 1]`.
    pub std: [f32; 3],
}

impl ModelSpec {
    /// The network that `settings` ask for, to tell `classes` apart.
    pub fn new(settings: &ModelSettings, classes: Vec<String>) -> Self {
        let design = Design::of(settings.architecture);
        Self {
            architecture: settings.architecture,
            classes,
            input_size: settings.input_size,
            resize: settings.resize,
            mean: design.mean,
            std: design.std,
        }
    }
}
