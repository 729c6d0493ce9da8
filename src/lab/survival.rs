//! What happens to pictures on their way: compression, resizing, a screenshot. None of it stays in the ε-ball.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{ImageFormat, RgbImage};

use crate::config::Resize;
use crate::dataset::view;
use crate::error::{Context, Kind, Result};

/// How much a screen enlarges.
const SCREEN: f64 = 1.25;

/// One of the ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// JPEG of this quality, its colours at full resolution (4:4:4).
    Jpeg(u8),
    /// A pixel larger and back, antialiased bicubic.
    Resized,
    /// Shown at 125 %, captured in 8 bits and brought back, bilinear both ways.
    Screenshot,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Jpeg(95), Self::Jpeg(75), Self::Resized, Self::Screenshot];

    /// For a person.
    pub(super) fn name(self) -> String {
        match self {
            Self::Jpeg(quality) => format!("JPEG {quality}"),
            Self::Resized => "resizing by 1 pixel".into(),
            Self::Screenshot => "screenshot at 125 %".into(),
        }
    }

    /// The picture afterwards, at its old size.
    pub(super) fn apply(self, picture: &RgbImage) -> Result<RgbImage> {
        let (width, height) = picture.dimensions();
        match self {
            Self::Jpeg(quality) => {
                let mut bytes = Cursor::new(Vec::new());
                picture
                    .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))
                    .context(Kind::Internal, || "a picture cannot be written as JPEG".into())?;
                let decoded = image::load_from_memory_with_format(bytes.get_ref(), ImageFormat::Jpeg);
                Ok(decoded.context(Kind::Internal, || "a JPEG cannot be read back".into())?.into_rgb8())
            }
            Self::Resized => {
                let larger = view::plain(picture, width + 1, Resize::Squash);
                Ok(view::plain(&larger, width, Resize::Squash))
            }
            Self::Screenshot => {
                let shown = |side: u32| (f64::from(side) * SCREEN).round() as u32;
                let screen = image::imageops::resize(picture, shown(width), shown(height), FilterType::Triangle);
                Ok(image::imageops::resize(&screen, width, height, FilterType::Triangle))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lab::likeness::psnr;

    #[test]
    fn every_way_keeps_the_size_and_changes_a_little() {
        let picture = RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8 * 3, y as u8 * 2, (x + y) as u8]));
        let mut quality = Vec::new();
        for way in Way::ALL {
            let after = way.apply(&picture).unwrap();
            assert_eq!(after.dimensions(), (64, 64));
            assert!(after != picture && psnr(&after, &picture) > 25.0, "{way:?}: {}", psnr(&after, &picture));
            quality.push(psnr(&after, &picture));
        }
        assert!(quality[0] > quality[1], "JPEG 95 keeps more than JPEG 75: {quality:?}");
    }
}
