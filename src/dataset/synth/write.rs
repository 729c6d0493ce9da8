//! Synthetic flowers as folders of photos.

use std::path::Path;

use crate::dataset::Split;
use crate::dataset::pack::encode;
use crate::dataset::shard::Extension;
use crate::dataset::staging::Staged;
use crate::error::{Error, Result};
use crate::seed::{Purpose, stream};

use super::{CLASSES, draw};

/// What to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Pictures of each class in `train/`.
    pub train: u32,
    /// Pictures of each class in `val/`; with 0 the class folders lie at the top, not split.
    pub val: u32,
    /// Pixels of a side.
    pub size: u32,
    /// The seed of all pictures.
    pub seed: u64,
    /// The format of the files.
    pub extension: Extension,
}

impl Default for Request {
    /// A small set, split.
    fn default() -> Self {
        Self { train: 100, val: 25, size: 128, seed: 2026, extension: Extension::Jpg }
    }
}

/// Draws `request` into the folder `out`, which must be empty or not exist; `progress` is called
/// after each picture. Picture number n of a class and side is the same whatever the counts.
///
/// # Errors
/// Of kind `Usage` for a size of 0 or above 4096 and no pictures; `Storage` for a folder that is not
/// empty or cannot be written.
pub fn write(request: &Request, out: &Path, mut progress: impl FnMut()) -> Result<()> {
    if !(1..=4096).contains(&request.size) {
        return Err(Error::usage(format!("size {} is out of range: allowed is 1 to 4096 pixels", request.size)));
    }
    if request.train == 0 {
        return Err(Error::usage("per-class count 0 is out of range: allowed is 1 or more"));
    }
    // Half a set must not look like a whole one.
    let staged = Staged::beside(out)?;
    for (side, count) in [(Split::Train, request.train), (Split::Val, request.val)] {
        for (label, class) in CLASSES.iter().enumerate() {
            let folder = if request.val == 0 { class.into() } else { Path::new(side.name()).join(class) };
            for number in 0..count {
                let mut stream =
                    stream(request.seed, Purpose::Synthetic, 0, &format!("{}/{class}/{number}", side.name()));
                let picture = draw(label, request.size, &mut stream);
                let bytes = encode(&picture, request.extension).map_err(Error::internal)?;
                let file = folder.join(format!("{class}-{number:05}.{}", request.extension));
                staged.write(&file, &bytes[..], None)?;
                progress();
            }
        }
    }
    let root = staged.path().to_path_buf();
    staged.publish(&root, out)
}
