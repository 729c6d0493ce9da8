//! Named f32 arrays, and the check that they are those a network needs.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// A dense array.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// `shape.iter().product()` values.
    pub values: Vec<f32>,
}

impl Array {
    /// An array of `shape` filled with `value`.
    pub fn filled(shape: Vec<usize>, value: f32) -> Self {
        let count = shape.iter().product();
        Self { shape, values: vec![value; count] }
    }
}

/// The tensors of a model by name.
pub type Weights = BTreeMap<String, Array>;

/// Names and shapes of tensors.
pub type Shapes = Vec<(String, Vec<usize>)>;

/// Checks that `weights` holds exactly the tensors of `expected`; `whose` names the network.
///
/// # Errors
/// The first tensor that is missing, misshapen or not part of the network, with both shapes.
pub fn check(weights: &Weights, expected: &Shapes, whose: &str) -> Result<()> {
    for (name, shape) in expected {
        match weights.get(name) {
            None => {
                return Err(Error::model(format!("tensor '{name}' is missing: {whose} needs it with shape {shape:?}")));
            }
            Some(array) if array.shape != *shape => {
                let found = &array.shape;
                return Err(Error::model(format!("tensor '{name}' has shape {found:?}, but {whose} needs {shape:?}")));
            }
            Some(_) => {}
        }
    }
    let known: std::collections::HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    match weights.iter().find(|(name, _)| !known.contains(name.as_str())) {
        None => Ok(()),
        Some((name, array)) => {
            let shape = &array.shape;
            Err(Error::model(format!("tensor '{name}' of shape {shape:?} is not part of {whose}")))
        }
    }
}
