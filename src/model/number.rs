//! How files store numbers.

use half::{bf16, f16};

/// A type of number, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// Brain float.
    Bf16,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// 16-bit integer.
    I16,
    /// 8-bit integer.
    I8,
    /// 8-bit unsigned integer, or a truth value.
    U8,
}

impl Number {
    /// Its size in bytes.
    pub fn size(self) -> usize {
        match self {
            Number::F64 | Number::I64 => 8,
            Number::F32 | Number::I32 => 4,
            Number::F16 | Number::Bf16 | Number::I16 => 2,
            Number::I8 | Number::U8 => 1,
        }
    }

    /// The number at the start of `bytes` as f32; 0 where there are too few of them.
    pub fn read(self, bytes: &[u8]) -> f32 {
        fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes.first_chunk().copied().unwrap_or([0; N])
        }
        match self {
            Number::F64 => f64::from_le_bytes(first(bytes)) as f32,
            Number::F32 => f32::from_le_bytes(first(bytes)),
            Number::F16 => f16::from_le_bytes(first(bytes)).to_f32(),
            Number::Bf16 => bf16::from_le_bytes(first(bytes)).to_f32(),
            Number::I64 => i64::from_le_bytes(first(bytes)) as f32,
            Number::I32 => i32::from_le_bytes(first(bytes)) as f32,
            Number::I16 => f32::from(i16::from_le_bytes(first(bytes))),
            Number::I8 => f32::from(i8::from_le_bytes(first(bytes))),
            Number::U8 => f32::from(first::<1>(bytes)[0]),
        }
    }
}
