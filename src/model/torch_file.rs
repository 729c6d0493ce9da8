//! Weights as `torch.save` writes them: the zip format, and the stream of pickles ("legacy") before it.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::rc::Rc;

use super::number::Number;
use super::pickle::{Loaded, Storage, Tensor, Value, load};
use super::weights::{Array, Weights};
use crate::error::{Context, Error, Kind, Result};

/// The storages of a file may have this many bytes together, and its tensors this many as f32.
const MAX_BYTES: usize = 1 << 30;
/// The number a legacy file begins with, 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Reads the zip format: `name/data.pkl` and one entry `name/data/KEY` per storage.
///
/// # Errors
/// When the archive is damaged, its pickle refused (see [`load`]), or too large.
pub fn read_zip(bytes: &[u8]) -> Result<Weights> {
    let damaged = || "not a sound torch file".to_string();
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).context(Kind::Model, damaged)?;
    let pickle = archive.file_names().find(|name| name.ends_with("/data.pkl")).map(str::to_string);
    let pickle = pickle.ok_or_else(|| Error::model("the archive has no data.pkl: torch.save did not write it"))?;
    let folder = pickle.trim_end_matches("data.pkl").to_string();
    let mut entry = |name: &str, limit: usize| -> Result<Vec<u8>> {
        let entry =
            archive.by_name(name).context(Kind::Model, || format!("no sound entry '{name}' in the torch file"))?;
        let mut content = Vec::new();
        let read = entry.take(limit as u64 + 1).read_to_end(&mut content);
        read.context(Kind::Model, || format!("entry '{name}' of the torch file cannot be read"))?;
        Ok(content)
    };
    let loaded = load(&entry(&pickle, 1 << 24)?)?;
    let mut data = HashMap::new();
    for storage in wanted(&loaded)? {
        let size = storage.count * storage.number.size();
        let content = entry(&format!("{folder}data/{}", storage.key), size)?;
        if content.len() != size {
            let (key, found) = (&storage.key, content.len());
            return Err(Error::model(format!("storage '{key}' should have {size} bytes and has {found}")));
        }
        data.insert(storage.key, content);
    }
    collect(&loaded, |key| data.get(key).map(Vec::as_slice))
}

/// Whether `bytes` begin as a pickle does.
pub fn is_pickle(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

/// Reads the legacy format: pickles of a magic number, a version, the system, the tensors and the keys of the
/// storages, then each storage's length and numbers.
///
/// # Errors
/// When a pickle is refused (see [`load`]), or the file is truncated or too large.
pub fn read_legacy(bytes: &[u8]) -> Result<Weights> {
    let mut rest = bytes;
    let mut next = || -> Result<Loaded> {
        let loaded = load(rest)?;
        rest = &rest[loaded.length..];
        Ok(loaded)
    };
    if !matches!(next()?.value, Value::Long(number) if *number == MAGIC) {
        return Err(Error::model("a pickle, but not one that torch.save wrote"));
    }
    next()?;
    next()?;
    let loaded = next()?;
    let keys = next()?;
    let storages: HashMap<Rc<str>, Storage> =
        wanted(&loaded)?.into_iter().map(|storage| (storage.key.clone(), storage)).collect();
    let mut data = HashMap::new();
    for key in keys.items(&keys.value) {
        let Value::Text(key) = key else { return Err(Error::model("the key of a storage is not a string")) };
        let Some(storage) = storages.get(key) else {
            return Err(Error::model(format!("storage '{key}' belongs to no tensor")));
        };
        let (count, after) = rest.split_first_chunk().ok_or_else(|| truncated(key))?;
        if u64::from_le_bytes(*count) != storage.count as u64 {
            return Err(Error::model(format!("storage '{key}' does not have the {} numbers it should", storage.count)));
        }
        let (numbers, after) =
            after.split_at_checked(storage.count * storage.number.size()).ok_or_else(|| truncated(key))?;
        data.insert(key.clone(), numbers);
        rest = after;
    }
    collect(&loaded, |key| data.get(key).copied())
}

fn truncated(key: &str) -> Error {
    Error::model(format!("the file is truncated: it ends within storage '{key}'"))
}

/// The distinct storages of a file.
fn wanted(loaded: &Loaded) -> Result<Vec<Storage>> {
    let mut distinct: HashMap<&str, &Storage> = HashMap::new();
    let mut total = 0usize;
    for storage in &loaded.storages {
        match distinct.insert(&storage.key, storage) {
            None => total = total.saturating_add(storage.count.saturating_mul(storage.number.size())),
            Some(before) if before == storage => {}
            Some(_) => return Err(Error::model(format!("storage '{}' is described in two ways", storage.key))),
        }
    }
    if total > MAX_BYTES {
        return Err(Error::model(format!(
            "the file claims {total} bytes of numbers, more than the {MAX_BYTES} allowed"
        )));
    }
    Ok(distinct.into_values().cloned().collect())
}

/// The tensors of a state dict, or of the one inside `{"state_dict": …}` or `{"model": …}`.
fn collect<'a>(loaded: &Loaded, data: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Weights> {
    let mut dict = loaded.items(&loaded.value);
    let wrapped = dict.chunks_exact(2).find_map(|pair| match pair {
        [Value::Text(key), inner @ Value::Items(_)] if matches!(&**key, "state_dict" | "model") => Some(inner),
        _ => None,
    });
    if let Some(inner) = wrapped {
        dict = loaded.items(inner);
    }
    let mut weights = Weights::new();
    let mut total = 0usize;
    for pair in dict.chunks_exact(2) {
        let [Value::Text(name), Value::Tensor(tensor)] = pair else { continue };
        let tensor = &loaded.tensors[*tensor];
        let storage = &loaded.storages[tensor.storage];
        let bytes = data(&storage.key).ok_or_else(|| Error::model(format!("storage '{}' is missing", storage.key)))?;
        let count = tensor.shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
        total = count.and_then(|count| total.checked_add(count)).unwrap_or(usize::MAX);
        if total > MAX_BYTES / 4 {
            return Err(Error::model(format!("tensor '{name}' of shape {:?} makes the file too large", tensor.shape)));
        }
        let name = name.strip_prefix("module.").unwrap_or(name);
        weights.insert(name.to_string(), array(name, tensor, storage.number, bytes)?);
    }
    if weights.is_empty() {
        return Err(Error::model("the file holds no state dict: no named tensors were found"));
    }
    Ok(weights)
}

/// Copies a strided view into row-major order.
fn array(name: &str, tensor: &Tensor, number: Number, bytes: &[u8]) -> Result<Array> {
    let outside = || Error::model(format!("tensor '{name}' reaches beyond its storage"));
    let count: usize = tensor.shape.iter().product();
    let mut values = Vec::new();
    if count > 0 {
        let reach = tensor.shape.iter().zip(&tensor.strides).try_fold(tensor.offset, |reach, (side, stride)| {
            (side - 1).checked_mul(*stride).and_then(|span| reach.checked_add(span))
        });
        reach.filter(|&last| last < bytes.len() / number.size()).ok_or_else(outside)?;
        values.reserve_exact(count);
    }
    let mut index = vec![0; tensor.shape.len()];
    for _ in 0..count {
        let at = tensor.offset + index.iter().zip(&tensor.strides).map(|(i, stride)| i * stride).sum::<usize>();
        values.push(number.read(&bytes[at * number.size()..]));
        for (i, side) in index.iter_mut().zip(&tensor.shape).rev() {
            *i += 1;
            if *i < *side {
                break;
            }
            *i = 0;
        }
    }
    Ok(Array { shape: tensor.shape.clone(), values })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tensor(offset: usize, shape: &[usize], strides: &[usize]) -> Tensor {
        Tensor { storage: 0, offset, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    #[test]
    fn a_view_may_not_reach_beyond_its_storage() {
        let bytes: Vec<u8> = (0..6u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        let read = |tensor: &Tensor| array("t", tensor, Number::F32, &bytes);
        assert_eq!(read(&tensor(1, &[2, 2], &[1, 3])).unwrap().values, [1.0, 4.0, 2.0, 5.0]);
        assert!(read(&tensor(9, &[0, 3], &[3, 1])).unwrap().values.is_empty());
        for beyond in [
            tensor(2, &[2, 2], &[1, 3]),
            tensor(6, &[1], &[1]),
            tensor(usize::MAX, &[2], &[1]),
            tensor(0, &[2, 2], &[usize::MAX, 1]),
        ] {
            assert!(read(&beyond).unwrap_err().to_string().contains("'t' reaches beyond its storage"));
        }
    }

    /// A state dict whose tensor `x` is a `[2^20, 2^20]` view of one number.
    #[test]
    fn a_small_file_cannot_ask_for_much_memory() {
        let mut pickle = b"}X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
        pickle.extend(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x01tQK\x00");
        pickle.extend(b"J\x00\x00\x10\x00J\x00\x00\x10\x00\x86K\x00K\x00\x86\x89NtRs.");
        let loaded = load(&pickle).unwrap();
        let message = collect(&loaded, |_| Some(&[0; 4])).unwrap_err().to_string();
        assert!(message.contains("'x' of shape [1048576, 1048576] makes the file too large"), "{message}");
    }
}
