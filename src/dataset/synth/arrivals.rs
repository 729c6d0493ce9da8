//! Synthetic flowers that arrive night after night, as they come to a folder that nobody watches.

use std::path::{Path, PathBuf};

use rand::RngExt;

use super::{CLASSES, draw};
use crate::dataset::pack::encode;
use crate::dataset::shard::Extension;
use crate::error::{Context, Error, Kind, Result};
use crate::seed::{Purpose, stream};

/// A folder of class folders that grows.
#[derive(Debug)]
pub struct Arrivals {
    folder: PathBuf,
    size: u32,
    seed: u64,
    /// Pictures of each class drawn so far; each number is drawn once.
    drawn: u32,
}

impl Arrivals {
    /// An empty folder, for pictures of `size` x `size` pixels.
    pub fn new(folder: &Path, size: u32, seed: u64) -> Self {
        Self { folder: folder.to_path_buf(), size, seed, drawn: 0 }
    }

    /// Puts `count` new pictures of each class into its folder.
    pub fn photos(&mut self, count: u32) -> Result<()> {
        self.batch(count, |label, number| (label, format!("{}-{number:05}.jpg", CLASSES[label]))).map(drop)
    }

    /// Puts `count` new pictures of each class into folders of other classes. Returns their files.
    pub fn mislabelled(&mut self, count: u32) -> Result<Vec<PathBuf>> {
        let seed = self.seed;
        self.batch(count, |label, number| {
            let mut lots = stream(seed, Purpose::Synthetic, u64::from(number), &format!("shuffled {label}"));
            let other = (label + lots.random_range(1..CLASSES.len())) % CLASSES.len();
            (other, format!("import-{label}-{number:05}.jpg"))
        })
    }

    /// Puts `count` pictures that broke off in the middle into the folder of each class. Returns their files.
    pub fn broken(&mut self, count: u32) -> Result<Vec<PathBuf>> {
        let files = self.batch(count, |label, number| (label, format!("upload-{number:05}.jpg")))?;
        for file in &files {
            let bytes = std::fs::read(file).context(Kind::Storage, || failed(file))?;
            write(file, &bytes[..bytes.len() / 2])?;
        }
        Ok(files)
    }

    fn batch(&mut self, count: u32, place: impl Fn(usize, u32) -> (usize, String)) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for number in self.drawn..self.drawn + count {
            for (label, class) in CLASSES.iter().enumerate() {
                let mut stream = stream(self.seed, Purpose::Synthetic, 0, &format!("nights/{class}/{number}"));
                let bytes = encode(&draw(label, self.size, &mut stream), Extension::Jpg).map_err(Error::internal)?;
                let (label, name) = place(label, number);
                let file = self.folder.join(CLASSES[label]).join(name);
                write(&file, &bytes)?;
                files.push(file);
            }
        }
        self.drawn += count;
        Ok(files)
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).context(Kind::Storage, || failed(file))?;
    std::fs::write(file, bytes).context(Kind::Storage, || failed(file))
}

fn failed(file: &Path) -> String {
    format!("cannot write {}", file.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dataset::folder;

    #[test]
    fn every_picture_is_new_and_a_shuffled_one_lies_with_another_class() {
        let root = tempfile::tempdir().unwrap();
        let mut arrivals = Arrivals::new(root.path(), 16, 1);
        arrivals.photos(2).unwrap();
        let wrong = arrivals.mislabelled(3).unwrap();
        arrivals.broken(1).unwrap();
        assert_eq!(folder::list(root.path()).unwrap().len(), 30);
        for file in wrong {
            let class = file.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let name = file.file_name().unwrap().to_str().unwrap().to_string();
            let truth: usize = name.split('-').nth(1).unwrap().parse().unwrap();
            assert_ne!(CLASSES[truth], class);
        }
    }
}
