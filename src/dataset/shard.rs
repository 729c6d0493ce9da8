//! Shards: WebDataset tars, written and read as streams, one sample in memory at a time.
//!
//! A sample is three files of one stem in this order: `key.jpg` or `key.png`, `key.cls` (the label in
//! decimal digits), `key.json`. The same samples give the same bytes. The reader trusts nothing: no
//! links, devices, long-name or sparse extensions, no other names, no other order, nothing oversize.

use std::fmt;
use std::io::{Read, Write};

use crate::error::{Context, Error, Kind, Result};

/// The largest image file that a shard may hold, in bytes.
pub const MAX_IMAGE_BYTES: u64 = 256 << 20;
/// The largest `.json`, in bytes.
const MAX_META_BYTES: u64 = 1 << 20;
/// The largest `.cls`, in bytes.
const MAX_LABEL_BYTES: u64 = 20;
/// The longest key: with its extension it fits into a plain tar header.
const MAX_KEY_LENGTH: usize = 94;
/// The unit of a tar, in bytes.
const BLOCK: usize = 512;

/// The format of an image in a shard, by its file extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// JPEG.
    Jpg,
    /// PNG.
    Png,
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpg => "jpg",
            Self::Png => "png",
        })
    }
}

/// One image of a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// ASCII letters, digits, `_` and `-`; unique in its data set.
    pub key: String,
    /// Index into the classes.
    pub label: usize,
    /// The bytes of the image file.
    pub image: Vec<u8>,
    /// Its format.
    pub extension: Extension,
    /// What else is known, an object.
    pub meta: serde_json::Value,
}

/// Writes samples to a tar.
pub struct ShardWriter<W: Write> {
    tar: tar::Builder<W>,
    samples: usize,
}

impl<W: Write> ShardWriter<W> {
    /// A shard into `output`.
    pub fn new(output: W) -> Self {
        Self { tar: tar::Builder::new(output), samples: 0 }
    }

    /// Appends a sample.
    ///
    /// # Errors
    /// Of kind `Internal` for a key that no reader would take; `Storage` where the output fails.
    pub fn append(&mut self, sample: &Sample) -> Result<()> {
        if !is_key(&sample.key) {
            return Err(Error::internal(format!("{:?} is no key of a sample", sample.key)));
        }
        let meta =
            serde_json::to_vec(&sample.meta).context(Kind::Internal, || "cannot write a sample's meta".into())?;
        self.file(&sample.key, &sample.extension.to_string(), &sample.image)?;
        self.file(&sample.key, "cls", sample.label.to_string().as_bytes())?;
        self.file(&sample.key, "json", &meta)?;
        self.samples += 1;
        Ok(())
    }

    /// Samples so far.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Ends the shard and gives the output back, flushed.
    ///
    /// # Errors
    /// Of kind `Storage` where the output fails.
    pub fn finish(self) -> Result<W> {
        let mut output = self.tar.into_inner().context(Kind::Storage, || "cannot end a shard".into())?;
        output.flush().context(Kind::Storage, || "cannot end a shard".into())?;
        Ok(output)
    }

    fn file(&mut self, key: &str, extension: &str, bytes: &[u8]) -> Result<()> {
        let name = format!("{key}.{extension}");
        let write = |tar: &mut tar::Builder<W>| {
            let mut header = tar::Header::new_ustar();
            header.set_path(&name)?;
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_cksum();
            tar.append(&header, bytes)
        };
        write(&mut self.tar).context(Kind::Storage, || format!("cannot write {name} into a shard"))
    }
}

/// Reads samples from a tar; an iterator that ends after the first error.
pub struct ShardReader<R: Read> {
    input: R,
    done: bool,
}

impl<R: Read> ShardReader<R> {
    /// The samples of the shard that comes from `input`.
    pub fn new(input: R) -> Self {
        Self { input, done: false }
    }

    fn sample(&mut self) -> Result<Option<Sample>> {
        let Some((key, extension, image)) = self.file(MAX_IMAGE_BYTES)? else { return Ok(None) };
        let extension = match extension.as_str() {
            "jpg" => Extension::Jpg,
            "png" => Extension::Png,
            other => return Err(corrupt(format!("{key}.{other} is where an image should be"))),
        };
        let label = self.part(&key, "cls", MAX_LABEL_BYTES)?;
        let label = std::str::from_utf8(&label).ok().and_then(|text| text.parse().ok());
        let label = label.ok_or_else(|| corrupt(format!("{key}.cls is not a number")))?;
        let meta = self.part(&key, "json", MAX_META_BYTES)?;
        let meta = serde_json::from_slice(&meta).map_err(|e| corrupt(format!("{key}.json is not JSON")).because(e))?;
        Ok(Some(Sample { key, label, image, extension, meta }))
    }

    fn part(&mut self, key: &str, extension: &str, limit: u64) -> Result<Vec<u8>> {
        match self.file(limit)? {
            Some((k, e, bytes)) if k == key && e == extension => Ok(bytes),
            Some((k, e, _)) => Err(corrupt(format!("{k}.{e} is where {key}.{extension} should be"))),
            None => Err(corrupt(format!("it ends where {key}.{extension} should be"))),
        }
    }

    /// The next file as `(key, extension, bytes)`; `None` at the end mark.
    fn file(&mut self, limit: u64) -> Result<Option<(String, String, Vec<u8>)>> {
        let mut header = tar::Header::new_old();
        self.fill(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let (before, after) = (&header.as_bytes()[..148], &header.as_bytes()[156..]);
        let sum = before.iter().chain(after).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(sum) {
            return Err(corrupt("a header has a wrong checksum"));
        }
        let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        if header.entry_type() != tar::EntryType::Regular {
            return Err(corrupt(format!("{name:?} is not a plain file")));
        }
        let (key, extension) = name
            .split_once('.')
            .filter(|(key, extension)| is_key(key) && ["jpg", "png", "cls", "json"].contains(extension))
            .ok_or_else(|| corrupt(format!("{name:?} is no name of a sample's file")))?;
        let size = header.entry_size().map_err(|e| corrupt(format!("{name} has no size")).because(e))?;
        if size > limit {
            return Err(corrupt(format!("{name} has {size} bytes, at most {limit} are allowed")));
        }
        // Grown as the bytes come: a header may lie about gigabytes that are not there.
        let mut bytes = Vec::with_capacity(size.min(1 << 20) as usize);
        let read = self.input.by_ref().take(size).read_to_end(&mut bytes).context(Kind::Storage, cannot_read)?;
        if read as u64 != size {
            return Err(corrupt(format!("it ends within {name}")));
        }
        self.fill(&mut [0; BLOCK][..bytes.len().next_multiple_of(BLOCK) - bytes.len()])?;
        Ok(Some((key.to_owned(), extension.to_owned(), bytes)))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.input.read_exact(buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err(corrupt("it ends early").because(e)),
            result => result.context(Kind::Storage, cannot_read),
        }
    }
}

impl<R: Read> Iterator for ShardReader<R> {
    type Item = Result<Sample>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.sample().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

fn is_key(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.len() <= MAX_KEY_LENGTH && text.bytes().all(allowed)
}

fn corrupt(what: impl Into<String>) -> Error {
    Error::data(format!("corrupt shard: {}", what.into()))
}

fn cannot_read() -> String {
    "cannot read a shard".into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn sample(key: &str, image: &[u8]) -> Sample {
        let meta = json!({ "path": "ü/\n.png" });
        Sample { key: key.into(), label: 3, image: image.to_vec(), extension: Extension::Png, meta }
    }

    fn written(samples: &[Sample]) -> Vec<u8> {
        let mut writer = ShardWriter::new(Vec::new());
        samples.iter().for_each(|sample| writer.append(sample).unwrap());
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Sample>> {
        ShardReader::new(bytes).collect()
    }

    /// A tar of members given as (name, type, size in the header, content).
    fn tar_of(members: &[(&str, tar::EntryType, u64, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind, size, content) in members {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(*size);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend_from_slice(&[0; 2 * BLOCK]);
        bytes
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(samples in prop::collection::vec(
            ("[a-zA-Z0-9_-]{1,94}", any::<u32>(), prop::collection::vec(any::<u8>(), 0..1200), any::<bool>(), ".*")
                .prop_map(|(key, label, image, png, text)| Sample {
                    key,
                    label: label as usize,
                    image,
                    extension: if png { Extension::Png } else { Extension::Jpg },
                    meta: json!({ "text": text }),
                }), 0..6))
        {
            let bytes = written(&samples);
            prop_assert_eq!(&bytes, &written(&samples));
            prop_assert_eq!(read(&bytes).unwrap(), samples);
        }

        #[test]
        fn damage_is_an_error_or_harmless_but_never_a_panic(at in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut bytes = written(&[sample("a", &[1; 700]), sample("b", &[2; 30])]);
            *at.get_mut(&mut bytes) = value;
            let _ = read(&bytes);
        }

        #[test]
        fn a_cut_shard_is_an_error(cut in any::<prop::sample::Index>()) {
            let bytes = written(&[sample("a", &[1; 700]), sample("b", &[2; 30])]);
            // All before the end mark is needed.
            let cut = cut.index(bytes.len() - 2 * BLOCK);
            prop_assert!(read(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_who_writes_them_when() {
        let bytes = written(&[sample("a", b"x")]);
        let mut archive = tar::Archive::new(&bytes[..]);
        for entry in archive.entries().unwrap() {
            let header = entry.unwrap().header().clone();
            let fields =
                (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap());
            assert_eq!(fields, (0, 0, 0, 0o644));
        }
    }

    #[test]
    fn what_no_writer_of_ours_makes_is_refused() {
        use tar::EntryType as E;
        let image = ("a.png", E::Regular, 1, &b"x"[..]);
        for (members, reason) in [
            (vec![("../a.png", E::Regular, 1, &b"x"[..])], "no name of a sample's file"),
            (vec![("/a.png", E::Regular, 1, b"x")], "no name"),
            (vec![("d/a.png", E::Regular, 1, b"x")], "no name"),
            (vec![("a.exe", E::Regular, 1, b"x")], "no name"),
            (vec![("a.png", E::Symlink, 0, b"")], "not a plain file"),
            (vec![("a.png", E::Link, 0, b"")], "not a plain file"),
            (vec![("a.png", E::Char, 0, b"")], "not a plain file"),
            (vec![("a.png", E::GNULongName, 1, b"x")], "not a plain file"),
            (vec![("a.png", E::XHeader, 1, b"x")], "not a plain file"),
            (vec![("a.png", E::GNUSparse, 1, b"x")], "not a plain file"),
            (vec![("a.png", E::Regular, MAX_IMAGE_BYTES + 1, b"x")], "at most"),
            (vec![("a.png", E::Regular, MAX_IMAGE_BYTES, b"x")], "it ends within a.png"),
            (vec![image, ("a.cls", E::Regular, 100, &[b'1'; 100])], "at most 20"),
            (vec![image, ("a.cls", E::Regular, 1, b"x")], "not a number"),
            (vec![image, ("b.cls", E::Regular, 1, b"1")], "b.cls is where a.cls should be"),
            (vec![image, ("a.json", E::Regular, 2, b"{}")], "a.json is where a.cls should be"),
            (vec![("a.cls", E::Regular, 1, b"1")], "where an image should be"),
            (vec![image, ("a.cls", E::Regular, 1, b"1"), ("a.json", E::Regular, 1, b"{")], "not JSON"),
            (vec![image], "ends where a.cls should be"),
        ] {
            let error = read(&tar_of(&members)).unwrap_err();
            assert_eq!(error.kind(), Kind::Data);
            assert!(error.to_string().contains(reason), "{members:?}: {error}");
        }
        let mut writer = ShardWriter::new(Vec::new());
        assert!(writer.append(&sample("../a", b"")).is_err());
    }
}
