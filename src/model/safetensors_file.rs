//! Weights as safetensors, <https://github.com/huggingface/safetensors>.
//!
//! Everything is f32, except `….num_batches_tracked`, which is an I64 as PyTorch wants it. The same weights
//! give the same bytes.

use std::borrow::Cow;

use safetensors::tensor::{Dtype, SafeTensors, View, serialize};

use super::number::Number;
use super::weights::{Array, Weights};
use crate::error::{Context, Error, Kind, Result};

/// The ending of the names of BatchNorm's counters.
const COUNTER: &str = ".num_batches_tracked";

struct Named<'a>(&'a str, &'a Array);

impl View for Named<'_> {
    fn dtype(&self) -> Dtype {
        if self.0.ends_with(COUNTER) { Dtype::I64 } else { Dtype::F32 }
    }

    fn shape(&self) -> &[usize] {
        &self.1.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.1.values.iter();
        let bytes: Vec<u8> = match self.dtype() {
            Dtype::I64 => values.flat_map(|&v| (v as i64).to_le_bytes()).collect(),
            _ => values.flat_map(|v| v.to_le_bytes()).collect(),
        };
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.1.values.len() * if self.dtype() == Dtype::I64 { 8 } else { 4 }
    }
}

/// The bytes of `weights`.
///
/// # Errors
/// When an array has more or fewer values than its shape says.
pub fn write(weights: &Weights) -> Result<Vec<u8>> {
    let named = weights.iter().map(|(name, array)| (name.as_str(), Named(name, array)));
    serialize(named, None).context(Kind::Model, || "these weights cannot be written as safetensors".into())
}

/// Reads f64, f32, f16, bf16 and integer tensors as f32.
///
/// # Errors
/// When `bytes` are truncated, not safetensors, or hold tensors of other types.
pub fn read(bytes: &[u8]) -> Result<Weights> {
    let file = SafeTensors::deserialize(bytes).context(Kind::Model, || "not a sound safetensors file".into())?;
    let mut weights = Weights::new();
    for (name, view) in file.tensors() {
        let number = match view.dtype() {
            Dtype::F64 => Number::F64,
            Dtype::F32 => Number::F32,
            Dtype::F16 => Number::F16,
            Dtype::BF16 => Number::Bf16,
            Dtype::I64 => Number::I64,
            Dtype::I32 => Number::I32,
            other => {
                let message =
                    format!("tensor '{name}' is of type {other}: allowed are F64, F32, F16, BF16, I64 and I32");
                return Err(Error::model(message));
            }
        };
        let values = view.data().chunks_exact(number.size()).map(|chunk| number.read(chunk)).collect();
        weights.insert(name, Array { shape: view.shape().to_vec(), values });
    }
    Ok(weights)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights() -> Weights {
        let array = Array { shape: vec![2, 3], values: vec![0.0, -1.5, 2.0, f32::MIN_POSITIVE, 1e30, -0.0] };
        Weights::from([
            ("layer.weight".to_string(), array),
            ("empty".to_string(), Array { shape: vec![0, 4], values: vec![] }),
            ("bn.num_batches_tracked".to_string(), Array { shape: vec![], values: vec![7.0] }),
        ])
    }

    #[test]
    fn what_is_written_is_read_and_counters_are_integers() {
        let bytes = write(&weights()).unwrap();
        assert_eq!(read(&bytes).unwrap(), weights());
        assert_eq!(bytes, write(&weights()).unwrap());
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("bn.num_batches_tracked").unwrap().dtype(), Dtype::I64);
    }

    #[test]
    fn halves_are_widened() {
        let bytes = [0x00, 0x3c, 0x00, 0xc0];
        let view = safetensors::tensor::TensorView::new(Dtype::F16, vec![2], &bytes).unwrap();
        let file = serialize([("h", view)], None).unwrap();
        assert_eq!(read(&file).unwrap()["h"].values, [1.0, -2.0]);
        let bytes = [0x80, 0x3f, 0x00, 0xc0];
        let view = safetensors::tensor::TensorView::new(Dtype::BF16, vec![2], &bytes).unwrap();
        let file = serialize([("b", view)], None).unwrap();
        assert_eq!(read(&file).unwrap()["b"].values, [1.0, -2.0]);
    }

    #[test]
    fn a_truncated_file_and_a_strange_type_are_refused() {
        let bytes = write(&weights()).unwrap();
        for length in [0, 7, 20, bytes.len() - 1] {
            assert_eq!(read(&bytes[..length]).unwrap_err().kind(), Kind::Model, "{length}");
        }
        let view = safetensors::tensor::TensorView::new(Dtype::BOOL, vec![1], &[1]).unwrap();
        let file = serialize([("mask", view)], None).unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("'mask' is of type BOOL"));
    }

    proptest! {
        #[test]
        fn changed_bytes_never_panic(at in 0usize..300, value: u8) {
            let mut bytes = write(&weights()).unwrap();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = read(&bytes);
        }
    }
}
