//! The few names that a pickle may ask for, and what calling them makes: storages and tensors, nothing that runs.

use super::machine::{Machine, broken};
use super::{Storage, Tensor, Value};
use crate::error::{Error, Result};
use crate::model::number::Number;

/// The names a pickle may ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `torch.FloatStorage` and its like.
    Storage(Number),
}

pub(super) fn global(module: &str, name: &str) -> Result<Global> {
    let number = match name {
        "DoubleStorage" => Some(Number::F64),
        "FloatStorage" => Some(Number::F32),
        "HalfStorage" => Some(Number::F16),
        "BFloat16Storage" => Some(Number::Bf16),
        "LongStorage" => Some(Number::I64),
        "IntStorage" => Some(Number::I32),
        "ShortStorage" => Some(Number::I16),
        "CharStorage" => Some(Number::I8),
        "ByteStorage" | "BoolStorage" => Some(Number::U8),
        _ => None,
    };
    match (module, name, number) {
        ("collections", "OrderedDict", _) => Ok(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2", _) => Ok(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter", _) => Ok(Global::RebuildParameter),
        ("torch", _, Some(number)) => Ok(Global::Storage(number)),
        _ => Err(Error::model(format!(
            "refused: the file asks to run {}.{}, which no weights file needs (only plain state dicts are read)",
            module.escape_debug(),
            name.escape_debug()
        ))),
    }
}

impl Machine<'_> {
    /// `('storage', type, key, device, count[, view])`.
    pub(super) fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let storage = match self.items(&id) {
            [
                Value::Text(kind),
                Value::Global(Global::Storage(number)),
                Value::Text(key),
                _,
                Value::Int(count),
                rest @ ..,
            ] if &**kind == "storage" && matches!(rest, [] | [Value::Nothing]) => {
                let count = usize::try_from(*count).map_err(|_| broken("a storage of negative size"))?;
                Storage { key: key.clone(), number: *number, count }
            }
            _ => return Err(broken("a storage is not described as torch.save does")),
        };
        self.stack.push(Value::Storage(self.storages.len()));
        self.storages.push(storage);
        Ok(())
    }

    pub(super) fn call(&mut self) -> Result<()> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Global(callee) = callee else { return Err(broken("it calls what is not a name")) };
        let arguments = self.items(&arguments);
        match (callee, arguments) {
            (Global::OrderedDict, []) => self.container(vec![]),
            (Global::RebuildTensor, [Value::Storage(storage), Value::Int(offset), shape, strides, ..]) => {
                let offset = usize::try_from(*offset).map_err(|_| broken("a tensor begins before its storage"))?;
                let (shape, strides) = (self.sides(shape)?, self.sides(strides)?);
                if shape.len() != strides.len() {
                    return Err(broken("a tensor has more sides than strides"));
                }
                let tensor = Tensor { storage: *storage, offset, shape, strides };
                self.stack.push(Value::Tensor(self.tensors.len()));
                self.tensors.push(tensor);
            }
            (Global::RebuildParameter, [Value::Tensor(tensor), ..]) => {
                let tensor = Value::Tensor(*tensor);
                self.stack.push(tensor);
            }
            _ => return Err(broken(&format!("it calls {callee:?} with arguments that torch.save does not write"))),
        }
        Ok(())
    }

    fn sides(&self, value: &Value) -> Result<Vec<usize>> {
        let side = |value: &Value| match value {
            Value::Int(side) => usize::try_from(*side).map_err(|_| broken("a side is negative")),
            _ => Err(broken("a side is not a number")),
        };
        let sides = self.items(value);
        if sides.len() > 8 {
            return Err(broken("a tensor has more than 8 sides"));
        }
        sides.iter().map(side).collect()
    }
}
