//! Pictures of an attack: original, perturbation, adversarial.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::png::PngEncoder;
use image::{ImageFormat, RgbImage};

use super::Example;
use crate::error::{Context, Error, Kind, Result};

/// How much a perturbation of budget `epsilon` is amplified to fill the range around grey without
/// leaving it: 31 for 4/255.
pub(crate) fn amplification(epsilon: f64) -> u32 {
    if epsilon > 0.0 { (127.5 / (epsilon * 255.0)).floor().clamp(1.0, 127.0) as u32 } else { 1 }
}

/// `(adversarial - original) · k + 127.5` per pixel and channel; the two have one size.
pub(crate) fn difference(original: &RgbImage, adversarial: &RgbImage, k: u32) -> RgbImage {
    let mut picture = adversarial.clone();
    for (after, before) in picture.iter_mut().zip(original.iter()) {
        *after = ((f32::from(*after) - f32::from(*before)) * k as f32 + 127.5).clamp(0.0, 255.0) as u8;
    }
    picture
}

/// The [`difference`] of an example with k = [`amplification`], as a PNG.
/// An error of kind `Internal` when the two are no PNGs of one size.
pub(super) fn perturbation(example: &Example) -> Result<Vec<u8>> {
    let decode = |bytes: &[u8], which: &str| -> Result<RgbImage> {
        let what = || format!("the {which} picture of example '{}' is no PNG", example.key.escape_debug());
        Ok(image::load_from_memory_with_format(bytes, ImageFormat::Png).context(Kind::Internal, what)?.into_rgb8())
    };
    let original = decode(&example.original, "original")?;
    let adversarial = decode(&example.adversarial, "adversarial")?;
    if original.dimensions() != adversarial.dimensions() {
        let (a, b) = (original.dimensions(), adversarial.dimensions());
        let key = example.key.escape_debug();
        return Err(Error::internal(format!("the pictures of example '{key}' differ in size: {a:?} and {b:?}")));
    }
    let picture = difference(&original, &adversarial, amplification(example.epsilon));
    let mut bytes = Vec::new();
    picture
        .write_with_encoder(PngEncoder::new(&mut bytes))
        .context(Kind::Internal, || "a picture cannot be written".to_owned())?;
    Ok(bytes)
}

/// A PNG as a `data:` address, safe inside an attribute.
pub(super) fn data_uri(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn png(pixels: &[u8], width: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let image = RgbImage::from_raw(width, pixels.len() as u32 / 3 / width, pixels.to_vec()).unwrap();
        image.write_with_encoder(PngEncoder::new(&mut bytes)).unwrap();
        bytes
    }

    fn example(original: Vec<u8>, adversarial: Vec<u8>) -> Example {
        Example {
            key: "k".into(),
            model: "baseline".into(),
            attack: "fgsm".into(),
            epsilon: 4.0 / 255.0,
            label: 0,
            before: (0, 1.0),
            after: (1, 1.0),
            original,
            adversarial,
        }
    }

    #[test]
    fn the_perturbation_is_amplified_around_grey() {
        let bytes =
            perturbation(&example(png(&[100, 100, 100, 0, 0, 0], 2), png(&[104, 96, 100, 0, 2, 255], 2))).unwrap();
        let shown = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(shown.into_raw(), [251, 3, 127, 127, 189, 255]);
    }

    #[test]
    fn amplification_fills_the_range_and_stays_in_it() {
        for levels in 1..=255u32 {
            let k = amplification(f64::from(levels) / 255.0);
            assert!(k == 1 || f64::from(levels * k) <= 127.5, "{levels} {k}");
        }
        assert_eq!(amplification(4.0 / 255.0), 31);
        assert_eq!(amplification(0.0), 1);
    }

    #[test]
    fn pictures_that_do_not_match_are_an_error_that_names_the_image() {
        let error = perturbation(&example(png(&[0; 6], 2), png(&[0; 6], 1))).unwrap_err();
        assert!(error.to_string().contains("'k'"), "{error}");
        assert!(perturbation(&example(png(&[0; 6], 2), b"no picture".to_vec())).is_err());
    }
}
