//! A photo in the form that goes into a shard.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::decode::{decode, header};
use super::shard::{self, Extension};
use super::view;
use crate::config::DataSettings;

/// Quality of JPEGs that had to be shrunk or turned.
const JPEG_QUALITY: u8 = 95;

/// The bytes to be stored for a photo: its own where it is an upright 8-bit RGB JPEG or PNG with a
/// shorter side of at most `stored_side` (0 = any), else decoded, shrunk and encoded again, a
/// JPEG as JPEG (quality 95), anything else as PNG.
///
/// # Errors
/// The reason why the photo cannot be used, as [`decode`] gives it.
pub fn pack(bytes: Vec<u8>, settings: &DataSettings) -> Result<(Extension, Vec<u8>), String> {
    let header = header(&bytes, settings)?;
    let extension = if header.format == ImageFormat::Jpeg { Extension::Jpg } else { Extension::Png };
    let small_enough = settings.stored_side == 0 || header.shorter <= settings.stored_side;
    if header.plain && small_enough && matches!(header.format, ImageFormat::Jpeg | ImageFormat::Png) {
        return Ok((extension, bytes));
    }
    let mut image = decode(&bytes, settings)?;
    if !small_enough {
        image = shrink(&image, settings.stored_side);
    }
    Ok((extension, encode(&image, extension)?))
}

/// The sample of a shard for the photo that was planned as `planned`, of class name `class`.
///
/// # Errors
/// The reason why not, also where the file is no longer the one that was inspected.
pub fn sample(
    planned: &super::Sample,
    class: &str,
    bytes: Vec<u8>,
    settings: &DataSettings,
) -> Result<shard::Sample, String> {
    if hex::encode(Sha256::digest(&bytes)) != planned.sha256 {
        return Err(
            "the file has changed since it was inspected: put it back, or begin again with another --out or name"
                .into(),
        );
    }
    let (extension, image) = pack(bytes, settings)?;
    let meta = json!({ "class": class, "path": planned.path, "sha256": planned.sha256 });
    Ok(shard::Sample { key: planned.key.clone(), label: planned.label, image, extension, meta })
}

/// PNG (lossless) or JPEG (quality 95) bytes of an image.
///
/// # Errors
/// Where the image is larger than the format allows.
pub fn encode(image: &RgbImage, extension: Extension) -> Result<Vec<u8>, String> {
    let mut bytes = Cursor::new(Vec::new());
    match extension {
        Extension::Png => image.write_to(&mut bytes, ImageFormat::Png),
        Extension::Jpg => image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)),
    }
    .map_err(|e| format!("cannot be encoded as {extension}: {e}"))?;
    Ok(bytes.into_inner())
}

fn shrink(image: &RgbImage, shorter: u32) -> RgbImage {
    let (width, height) = image.dimensions();
    let scale = f64::from(shorter) / f64::from(width.min(height));
    let scaled = |side: u32| (f64::from(side) * scale).round().max(1.0) as u32;
    view::resize(image, view::whole(image), scaled(width), scaled(height))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dataset::fixtures::{pattern, photo, settings};

    #[test]
    fn plain_photos_keep_their_bytes() {
        for (name, extension) in
            [("rgb.jpg", Extension::Jpg), ("progressive.jpg", Extension::Jpg), ("rgb.png", Extension::Png)]
        {
            assert_eq!(pack(photo(name), &settings()).unwrap(), (extension, photo(name)), "{name}");
        }
    }

    #[test]
    fn all_others_become_upright_8_bit_rgb_of_the_same_pixels() {
        for name in ["alpha.png", "grey16.png", "palette.png", "alpha.webp", "palette.gif", "rgb.bmp", "one-bit.png"] {
            let (extension, bytes) = pack(photo(name), &settings()).unwrap();
            assert_eq!(extension, Extension::Png);
            assert!(header(&bytes, &settings()).unwrap().plain, "{name}");
            assert_eq!(decode(&bytes, &settings()).unwrap(), decode(&photo(name), &settings()).unwrap(), "{name}");
        }
        for name in ["turned.jpg", "grey.jpg", "cmyk.jpg"] {
            let (extension, bytes) = pack(photo(name), &settings()).unwrap();
            assert_eq!(extension, Extension::Jpg);
            assert!(header(&bytes, &settings()).unwrap().plain, "{name}");
            let (new, old) = (decode(&bytes, &settings()).unwrap(), decode(&photo(name), &settings()).unwrap());
            assert_eq!(new.dimensions(), old.dimensions());
        }
    }

    #[test]
    fn large_photos_are_shrunk_to_the_stored_side() {
        let large = encode(&pattern(300, 200), Extension::Png).unwrap();
        for (stored_side, expected) in [(100, (150, 100)), (200, (300, 200)), (0, (300, 200))] {
            let settings = DataSettings { stored_side, ..settings() };
            let (_, bytes) = pack(large.clone(), &settings).unwrap();
            assert_eq!(decode(&bytes, &settings).unwrap().dimensions(), expected);
            assert_eq!(bytes == large, stored_side != 100);
        }
    }

    #[test]
    fn a_photo_that_changed_since_its_inspection_is_refused() {
        let bytes = photo("rgb.png");
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let planned = super::super::Sample { key: "rgb-1".into(), label: 1, path: "b/rgb.png".into(), sha256 };
        let packed = sample(&planned, "b", bytes, &settings()).unwrap();
        assert_eq!((packed.label, &packed.meta["path"]), (1, &json!("b/rgb.png")));
        assert!(sample(&planned, "b", photo("rgb.jpg"), &settings()).unwrap_err().contains("changed"));
    }
}
