//! The stack machine: one instruction after the other, until a value is left.

use std::collections::HashMap;

use super::names::global;
use super::{Loaded, Storage, Tensor, Value};
use crate::error::{Error, Result};

/// A pickle may have this many bytes; those of real weights have less than one million.
const MAX_BYTES: usize = 1 << 24;

pub(super) fn broken(what: &str) -> Error {
    Error::model(format!("the pickle is broken: {what}"))
}

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    pub(super) stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    arena: Vec<Vec<Value>>,
    pub(super) storages: Vec<Storage>,
    pub(super) tensors: Vec<Tensor>,
}

/// Runs the pickle at the start of `bytes`.
///
/// # Errors
/// When it asks for a name or an instruction that weights do not need, or is broken or too long.
pub fn load(bytes: &[u8]) -> Result<Loaded> {
    let mut machine = Machine {
        bytes: &bytes[..bytes.len().min(MAX_BYTES)],
        at: 0,
        stack: vec![],
        marks: vec![],
        memo: HashMap::new(),
        arena: vec![],
        storages: vec![],
        tensors: vec![],
    };
    while machine.step()? {}
    let value = machine.pop()?;
    let Machine { at, arena, storages, tensors, .. } = machine;
    Ok(Loaded { value, length: at, storages, tensors, arena })
}

impl Machine<'_> {
    /// One instruction; false after the last.
    fn step(&mut self) -> Result<bool> {
        let at = self.at;
        let [code] = self.fixed()?;
        match code {
            0x80 => {
                let [version] = self.fixed()?;
                if !(2..=3).contains(&version) {
                    return Err(Error::model(format!("pickle protocol {version} is not one that torch.save writes")));
                }
            }
            b'.' => return Ok(false),
            b'N' => self.stack.push(Value::Nothing),
            0x88 => self.stack.push(Value::Int(1)),
            0x89 => self.stack.push(Value::Int(0)),
            b'K' => {
                let [byte] = self.fixed()?;
                self.stack.push(Value::Int(byte.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.fixed()?);
                self.stack.push(Value::Int(number.into()));
            }
            b'J' => {
                let number = i32::from_le_bytes(self.fixed()?);
                self.stack.push(Value::Int(number.into()));
            }
            0x8a => {
                let [length] = self.fixed()?;
                let value = long(self.take(length.into())?);
                self.stack.push(value);
            }
            b'G' => {
                let _: [u8; 8] = self.fixed()?;
                self.stack.push(Value::Nothing);
            }
            b'X' => {
                let length = u32::from_le_bytes(self.fixed()?);
                self.text(length as usize)?;
            }
            b'U' => {
                let [length] = self.fixed()?;
                self.text(length.into())?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b')' | b']' | b'}' => self.container(vec![]),
            b't' => {
                let items = self.since_mark()?;
                self.container(items);
            }
            0x85..=0x87 => {
                let items = self.top(usize::from(code - 0x84))?;
                self.container(items);
            }
            b'a' => self.extend(1)?,
            b's' => self.extend(2)?,
            b'e' | b'u' => {
                let count = self.stack.len() - self.mark()?;
                self.extend(count)?;
            }
            b'q' => {
                let [place] = self.fixed()?;
                self.remember(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.fixed()?);
                self.remember(place)?;
            }
            b'h' => {
                let [place] = self.fixed()?;
                self.recall(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.fixed()?);
                self.recall(place)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(global(&module, &name)?));
            }
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            // An object's attributes: `_metadata` of a state dict, which nobody reads.
            b'b' => drop(self.pop()?),
            _ => {
                let message = format!("instruction 0x{code:02x} at byte {at} is not one that torch.save writes");
                return Err(Error::model(message));
            }
        }
        Ok(true)
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| broken(&format!("it ends early, at byte {}", self.bytes.len())))?;
        let part = &self.bytes[self.at..end];
        self.at = end;
        Ok(part)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take(256).position(|&b| b == b'\n').ok_or_else(|| broken("a name does not end"))?;
        let line = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.at += 1;
        Ok(line)
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| broken("a string is not UTF-8"))?;
        let text = Value::Text(text.into());
        self.stack.push(text);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<Value> {
        self.stack.pop().ok_or_else(|| broken("the stack is empty"))
    }

    fn top(&mut self, count: usize) -> Result<Vec<Value>> {
        let from = self.stack.len().checked_sub(count).ok_or_else(|| broken("the stack is too short"))?;
        Ok(self.stack.split_off(from))
    }

    fn mark(&mut self) -> Result<usize> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        mark.ok_or_else(|| broken("a mark is missing"))
    }

    fn since_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.mark()?;
        Ok(self.stack.split_off(mark))
    }

    pub(super) fn container(&mut self, items: Vec<Value>) {
        self.stack.push(Value::Items(self.arena.len()));
        self.arena.push(items);
    }

    /// Moves the top `count` values into the container below them.
    fn extend(&mut self, count: usize) -> Result<()> {
        let items = self.top(count)?;
        match self.stack.last() {
            Some(Value::Items(place)) => self.arena[*place].extend(items),
            _ => return Err(broken("items without a container")),
        }
        Ok(())
    }

    fn remember(&mut self, place: u32) -> Result<()> {
        let value = self.stack.last().cloned().ok_or_else(|| broken("the stack is empty"))?;
        self.memo.insert(place, value);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<()> {
        let value = self.memo.get(&place).cloned().ok_or_else(|| broken("it recalls what it has not stored"))?;
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn items(&self, value: &Value) -> &[Value] {
        match value {
            Value::Items(place) => &self.arena[*place],
            _ => &[],
        }
    }
}

/// An integer of any length, two's complement, little-endian.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Long(bytes.into());
    }
    let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut whole = [sign; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(whole))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        load(bytes).unwrap_err().to_string()
    }

    #[test]
    fn nesting_and_cycles_do_no_harm() {
        let depth = 1_000_000;
        let mut nested = vec![b']'; depth];
        nested.resize(2 * depth - 1, b'a');
        nested.push(b'.');
        assert_eq!(load(&nested).unwrap().length, 2 * depth);
        // A list that holds itself.
        let loaded = load(b"]q\x00h\x00a.").unwrap();
        let [inner] = loaded.items(&loaded.value) else { panic!("one item") };
        assert_eq!(loaded.items(inner).len(), 1);
    }

    #[test]
    fn names_that_run_code_are_refused_before_anything_is_called() {
        for (pickle, name) in [
            (&b"cos\nsystem\n(X\x02\x00\x00\x00ls\x85R."[..], "os.system"),
            (b"c__builtin__\neval\n.", "__builtin__.eval"),
            (b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n.", "_rebuild_device_tensor_from_numpy"),
            (b"ctorch\nload\n.", "torch.load"),
            (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
        ] {
            let message = refusal(pickle);
            assert!(message.starts_with("refused: ") && message.contains(name), "{message}");
        }
    }

    #[test]
    fn instructions_that_torch_does_not_write_are_refused() {
        // OBJ, INST, NEWOBJ, EXT1, STACK_GLOBAL, a frame: other ways to make objects, or other protocols.
        for code in [b'o', b'i', 0x81, 0x82, 0x93, 0x95] {
            let message = refusal(&[b'(', code, 0, 0, 0, 0, 0, 0, 0, 0, b'.']);
            assert!(message.contains(&format!("0x{code:02x} at byte 1")), "{message}");
        }
        assert!(refusal(b"\x80\x05.").contains("protocol 5"));
    }

    #[test]
    fn broken_pickles_are_refused() {
        for bytes in [
            &b""[..],
            b".",
            b"t.",
            b"a.",
            b"h\x05.",
            b"R.",
            b"X\xff\xff\xff\xffab",
            b"cname without end",
            b"(K\x01)QRu.",
        ] {
            assert!(refusal(bytes).contains("broken"), "{bytes:?}");
        }
        // A container that lost its mark's place: the stack shrank below it.
        assert!(refusal(b"]K\x01(as.").contains("broken"));
    }
}
