//! Reads the pickles that `torch.save` writes for weights, without running anything.
//!
//! A pickle is a program for a small stack machine. This machine knows the instructions that PyTorch writes
//! and a handful of names; a pickle that asks for any other name is refused. All containers live in one
//! arena and are never walked recursively, so that neither nesting nor cycles can hurt.

mod machine;
mod names;

use std::rc::Rc;

use super::number::Number;

pub use machine::load;

use names::Global;

/// A value on the machine's stack.
#[derive(Debug, Clone)]
pub enum Value {
    /// `None`, and everything that nobody reads (flags, hooks).
    Nothing,
    /// A truth value or an integer that fits.
    Int(i64),
    /// A large integer, little-endian bytes: torch's magic number is one.
    Long(Rc<[u8]>),
    /// A string.
    Text(Rc<str>),
    /// A tuple, a list or a dict (keys and values in turn), by its place in the arena.
    Items(usize),
    /// A name that calls may use.
    Global(Global),
    /// A storage, by its place in [`Loaded::storages`].
    Storage(usize),
    /// A tensor, by its place in [`Loaded::tensors`].
    Tensor(usize),
}

/// A run of numbers in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Storage {
    /// Its name in the file.
    pub key: Rc<str>,
    /// Their type.
    pub number: Number,
    /// How many there are.
    pub count: usize,
}

/// A tensor as a view of a storage.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its place in [`Loaded::storages`].
    pub storage: usize,
    /// Its first number.
    pub offset: usize,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Numbers to skip per step along each side.
    pub strides: Vec<usize>,
}

/// What a pickle held.
#[derive(Debug)]
pub struct Loaded {
    /// The value.
    pub value: Value,
    /// The bytes it took.
    pub length: usize,
    /// Every storage it mentions.
    pub storages: Vec<Storage>,
    /// Every tensor it made.
    pub tensors: Vec<Tensor>,
    arena: Vec<Vec<Value>>,
}

impl Loaded {
    /// The items of a tuple, list or dict; none for anything else.
    pub fn items(&self, value: &Value) -> &[Value] {
        match value {
            Value::Items(place) => self.arena.get(*place).map_or(&[], Vec::as_slice),
            _ => &[],
        }
    }
}
