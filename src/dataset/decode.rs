//! From the bytes of a photo to upright 8-bit RGB, or to the reason why not.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use image_hasher::{HashAlg, HasherConfig};
use sha2::{Digest, Sha256};

use super::view;
use super::{Finding, Inspected, Photo};
use crate::config::DataSettings;

/// Pixels of a side, what a JPEG can have at most: resizing a strip that is longer takes more memory than the strip.
const LONGEST: u32 = 65_535;

/// Decodes a JPEG, PNG, WebP, GIF (its first frame) or BMP of any colour type. EXIF orientation is
/// applied, 16 bits become 8, and what is transparent is laid on white.
///
/// Limits are checked against the header before any pixel is decoded: `max_file_bytes`,
/// `max_pixels`, 65,535 pixels a side, and four bytes of memory per allowed pixel. A file that ends early is refused, also
/// where the decoder would fill the rest with grey.
///
/// # Errors
/// The reason in one sentence for a person; it goes into the list of quarantined photos.
pub fn decode(bytes: &[u8], settings: &DataSettings) -> Result<RgbImage, String> {
    guarded(|| {
        let (_, mut decoder) = open(bytes, settings)?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder)
            .map_err(|e| format!("cannot be decoded: {}", e.to_string().trim_end()))?;
        image.apply_orientation(orientation);
        Ok(flatten(image))
    })
}

/// Hashes and decodes a photo once.
pub fn inspect(photo: Photo, bytes: &[u8], settings: &DataSettings) -> Inspected {
    let finding = match decode(bytes, settings) {
        Ok(image) => Finding::Usable {
            sha256: hex::encode(Sha256::digest(bytes)),
            phash: perceptual_hash(&image),
            width: image.width(),
            height: image.height(),
            brightness: brightness(&image),
        },
        Err(reason) => Finding::Unusable(reason),
    };
    Inspected { photo, finding }
}

/// Mean luma in thousandths.
fn brightness(image: &RgbImage) -> u16 {
    let luma = |p: &Rgb<u8>| 299 * u64::from(p[0]) + 587 * u64::from(p[1]) + 114 * u64::from(p[2]);
    let sum: u64 = image.pixels().map(luma).sum();
    let pixels = u64::from(image.width()) * u64::from(image.height());
    u16::try_from(sum / (255 * pixels.max(1))).unwrap_or(1000)
}

/// What the header of a photo says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub format: ImageFormat,
    /// Pixels of the shorter side.
    pub shorter: u32,
    /// True when the stored pixels are 8-bit RGB and need no turning.
    pub plain: bool,
}

/// Reads the header of a photo and checks it against the limits, without decoding a pixel.
pub(super) fn header(bytes: &[u8], settings: &DataSettings) -> Result<Header, String> {
    guarded(|| {
        let (format, mut decoder) = open(bytes, settings)?;
        let (width, height) = decoder.dimensions();
        let upright = decoder.orientation().is_ok_and(|o| o == Orientation::NoTransforms);
        let rgb = match format {
            ImageFormat::Jpeg => jpeg_components(bytes) == Some(3),
            _ => decoder.original_color_type() == ExtendedColorType::Rgb8,
        };
        Ok(Header { format, shorter: width.min(height), plain: upright && rgb })
    })
}

/// Decoders are large and fed with anything: a panic in one is a reason like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("cannot be decoded: the decoder failed on it".into()))
}

fn open<'a>(bytes: &'a [u8], settings: &DataSettings) -> Result<(ImageFormat, impl ImageDecoder + 'a), String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if bytes.len() as u64 > settings.max_file_bytes {
        let (size, limit) = (bytes.len(), settings.max_file_bytes);
        return Err(format!("the file has {size} bytes, data.max_file_bytes allows {limit}"));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    let Some(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Gif | ImageFormat::Bmp)) =
        reader.format()
    else {
        return Err("not a JPEG, PNG, WebP, GIF or BMP image".into());
    };
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(settings.max_pixels.saturating_mul(4));
    reader.limits(limits);
    let decoder =
        reader.into_decoder().map_err(|e| format!("its header cannot be read: {}", e.to_string().trim_end()))?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(format!("it has no pixels ({width}x{height})"));
    }
    if u64::from(width) * u64::from(height) > settings.max_pixels {
        return Err(format!("it has {width}x{height} pixels, data.max_pixels allows {}", settings.max_pixels));
    }
    if width.max(height) > LONGEST {
        return Err(format!("it has {width}x{height} pixels, a side can have {LONGEST}"));
    }
    if decoder.total_bytes() > settings.max_pixels.saturating_mul(4) {
        return Err(format!("its {width}x{height} pixels need {} bytes, too many", decoder.total_bytes()));
    }
    if format == ImageFormat::Jpeg && jpeg_components(bytes).is_none() {
        return Err("the file is truncated: it has no end-of-image marker".into());
    }
    Ok((format, decoder))
}

/// The number of colour components of a JPEG that has its end-of-image marker, else `None`: the
/// decoder fills what is missing with grey and says nothing.
fn jpeg_components(bytes: &[u8]) -> Option<u8> {
    let (mut at, mut components) = (2, None);
    loop {
        let marker =
            at + bytes.get(at..)?.windows(2).position(|w| w[0] == 0xFF && !matches!(w[1], 0 | 0xD0..=0xD7 | 0xFF))?;
        match bytes[marker + 1] {
            0xD9 => return components,
            0x01 | 0xD8 => at = marker + 2,
            kind => {
                let length = usize::from(u16::from_be_bytes([*bytes.get(marker + 2)?, *bytes.get(marker + 3)?]));
                if matches!(kind, 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF) {
                    components = Some(*bytes.get(marker + 9)?);
                }
                at = marker + 2 + length;
            }
        }
    }
}

fn flatten(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    let on_white = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b, a] = image.get_pixel(x, y).0;
        Rgb([on_white(r, a), on_white(g, a), on_white(b, a)])
    })
}

/// 64 bits of brightness gradients over the photo shrunk to 9 x 8 pixels.
fn perceptual_hash(image: &RgbImage) -> u64 {
    let small = view::resize(image, view::whole(image), 64, 64);
    let hasher = HasherConfig::with_bytes_type::<[u8; 8]>().hash_size(8, 8).hash_alg(HashAlg::Gradient).to_hasher();
    u64::from_be_bytes(hasher.hash_image(&small).into_inner())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dataset::fixtures::{self, settings};

    #[test]
    fn every_format_and_colour_type_reads_as_pillow_reads_it() {
        let expected = fixtures::expected();
        let photos = expected["photos"].as_object().unwrap();
        assert!(photos.len() >= 17);
        for (name, photo) in photos {
            let image = decode(&fixtures::photo(name), &settings()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(
                [image.width(), image.height()].map(u64::from),
                [&photo["width"], &photo["height"]].map(|v| v.as_u64().unwrap())
            );
            let rgb = hex::decode(photo["rgb"].as_str().unwrap()).unwrap();
            // JPEG decoders may round differently; what is lossless is exact but for blending.
            let tolerance = if name.ends_with("jpg") { 3 } else { 1 };
            let worst = image.as_raw().iter().zip(&rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(worst <= tolerance, "{name} is off by {worst} levels");
        }
    }

    #[test]
    fn sixteen_bit_colour_becomes_eight() {
        let deep =
            image::ImageBuffer::from_fn(3, 2, |x, y| image::Rgba([65535, 257 * x as u16, 257 * y as u16, 65535]));
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageRgba16(deep).write_to(&mut bytes, ImageFormat::Png).unwrap();
        let image = decode(&bytes.into_inner(), &settings()).unwrap();
        assert_eq!(image.get_pixel(2, 1).0, [255, 2, 1]);
    }

    #[test]
    fn a_file_that_ends_early_is_refused_wherever_it_ends() {
        for name in ["rgb.png", "rgb.jpg", "progressive.jpg", "cmyk.jpg", "rgb.webp", "palette.gif", "rgb.bmp"] {
            let bytes = fixtures::photo(name);
            // Decoders may do without the last bytes of a container; the pixels must be there.
            for kept in 0..bytes.len() - bytes.len() / 8 {
                assert!(decode(&bytes[..kept], &settings()).is_err(), "{name} cut to {kept} of {} bytes", bytes.len());
            }
        }
        let bytes = fixtures::photo("rgb.jpg");
        let reason = decode(&bytes[..bytes.len() - 2], &settings()).unwrap_err();
        assert!(reason.contains("truncated"), "{reason}");
    }

    #[test]
    fn what_is_no_photo_gets_a_reason() {
        let mut huge = fixtures::photo("rgb.png");
        huge[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
        let checksum = crc32(&huge[12..29]);
        huge[29..33].copy_from_slice(&checksum.to_be_bytes());
        let mut huge_jpeg = fixtures::photo("rgb.jpg");
        let frame = huge_jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
        huge_jpeg[frame + 5..frame + 9].copy_from_slice(&[0x75, 0x30, 0x75, 0x30]);
        let mut strip = fixtures::photo("rgb.png");
        strip[16..24].copy_from_slice(&[0, 0, 0, 1, 5, 0xF5, 0xE1, 0]);
        let checksum = crc32(&strip[12..29]);
        strip[29..33].copy_from_slice(&checksum.to_be_bytes());
        let mut empty_gif = fixtures::photo("palette.gif");
        empty_gif[6..10].fill(0);
        let small = DataSettings { max_file_bytes: 50, ..settings() };
        for (bytes, settings, reason) in [
            (Vec::new(), settings(), "the file is empty"),
            (b"<html>not found</html>".to_vec(), settings(), "not a JPEG, PNG, WebP, GIF or BMP image"),
            (b"%PDF-1.4 ".repeat(20), settings(), "not a JPEG"),
            (huge, settings(), "30000x30000 pixels, data.max_pixels allows 100000000"),
            (huge_jpeg, settings(), "30000x30000 pixels"),
            (strip, settings(), "1x100000000 pixels, a side can have 65535"),
            (empty_gif, settings(), "no pixels"),
            (fixtures::photo("rgb.png"), small, "data.max_file_bytes allows 50"),
        ] {
            let found = decode(&bytes, &settings).unwrap_err();
            assert!(found.contains(reason), "{reason}: {found}");
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    #[test]
    fn a_panic_of_a_decoder_is_a_reason() {
        let reason = guarded::<()>(|| panic!("as a decoder might")).unwrap_err();
        assert!(reason.contains("cannot be decoded"));
    }

    #[test]
    fn the_same_photo_in_another_size_or_quality_is_close_and_another_is_not() {
        let distance = |a: &RgbImage, b: &RgbImage| (perceptual_hash(a) ^ perceptual_hash(b)).count_ones();
        let mut stream = crate::seed::stream(1, crate::seed::Purpose::Synthetic, 0, "a flower");
        let photo = crate::dataset::synth::draw(0, 300, &mut stream);
        let smaller = view::resize(&photo, view::whole(&photo), 170, 160);
        let jpeg = crate::dataset::pack::encode(&smaller, crate::dataset::shard::Extension::Jpg).unwrap();
        assert!(distance(&photo, &decode(&jpeg, &settings()).unwrap()) <= 3);
        assert!(distance(&photo, &view::flip(&photo)) > 10);
    }

    #[test]
    fn an_inspection_hashes_the_file() {
        let photo = Photo { path: "a/b.png".into(), class: "a".into(), split: None, size: 69, stamp: None };
        let inspected = inspect(photo.clone(), &fixtures::photo("turned.jpg"), &settings());
        let Finding::Usable { sha256, width, height, .. } = inspected.finding else { panic!("usable") };
        assert_eq!((width, height, sha256.len()), (8, 12, 64));
        assert!(matches!(inspect(photo, b"", &settings()).finding, Finding::Unusable(_)));
    }
}
