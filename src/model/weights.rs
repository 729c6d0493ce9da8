//! Named f32 arrays, and the file formats they come in.

use std::collections::BTreeMap;

/// A dense array.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// `shape.iter().product()` values.
    pub values: Vec<f32>,
}

/// The tensors of a model by name.
pub type Weights = BTreeMap<String, Array>;
