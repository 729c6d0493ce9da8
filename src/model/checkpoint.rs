//! Weights as the job stores them between tasks: the folded form as safetensors.

use super::safetensors_file;
use super::weights::Weights;
use crate::error::Result;

/// The bytes of `weights`; the same weights give the same bytes.
///
/// # Errors
/// When an array does not match its shape.
pub fn write(weights: &Weights) -> Result<Vec<u8>> {
    safetensors_file::write(weights)
}

/// The weights in `bytes`.
///
/// # Errors
/// When `bytes` are not what [`write`] wrote.
pub fn read(bytes: &[u8]) -> Result<Weights> {
    safetensors_file::read(bytes)
}
