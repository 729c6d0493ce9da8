//! What the tests of this module share: the photos of `tests/photos` and a picture drawn by a formula.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use image::{Rgb, RgbImage};

use crate::config::{DataSettings, Settings};

/// The default settings.
pub fn settings() -> DataSettings {
    toml::from_str::<Settings>(include_str!("../../configs/default.toml")).unwrap().data
}

/// The bytes of a photo of `tests/photos`.
pub fn photo(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos").join(name)).unwrap()
}

/// What Pillow makes of them; `tests/python/make_photos.py` wrote it.
pub fn expected() -> serde_json::Value {
    serde_json::from_slice(&photo("expected.json")).unwrap()
}

/// The picture that the script calls `pattern`.
pub fn pattern(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let checks = if (x / 7 + y / 5) % 2 == 0 { 255 } else { 0 };
        Rgb([((3 * x + 5 * y) % 256) as u8, ((x * x + y * y) / 9 % 256) as u8, checks])
    })
}
