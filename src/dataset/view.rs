//! What the network sees of a photo: a square of 8-bit RGB, plain or drawn at random.

use std::borrow::Cow;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{Rgb, RgbImage};
use rand::RngExt;

use crate::config::{AugmentSettings, Resize};
use crate::seed::Stream;

/// A part of a photo in pixels, which may lie between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// The plain view, `size` x `size` pixels: the frame that `resize` gives, the whole photo squeezed
/// (`Squash`) or its largest centred square (`Crop`), resized by antialiased bicubic interpolation
/// (Catmull-Rom, a = -0.5), which is Pillow's `BICUBIC` within one level.
///
/// The photo must not be empty, nor `size` 0.
pub fn plain(image: &RgbImage, size: u32, resize: Resize) -> RgbImage {
    let frame = frame(image, resize);
    self::resize(&frame, whole(&frame), size, size)
}

/// Whether a photo of `dimensions` has fewer pixels than its views, so that they show no more than it.
pub fn is_small((width, height): (u32, u32), size: u32) -> bool {
    width.min(height) < size
}

/// What people are told of `count` such photos.
pub fn told_of_small(count: u64) -> String {
    format!("{count} photos are smaller than the network's input and are enlarged")
}

/// A random view, `size` x `size` pixels: crop, rotation, flip, then brightness, contrast and
/// saturation, as far as `settings` allow them. With all of them off it is the plain view.
///
/// A crop is drawn relative to the frame of the plain view: its share of the area uniform in
/// `[crop_min_area, 1]`, its aspect ratio log-uniform in `[1 / crop_max_aspect, crop_max_aspect]`
/// (Szegedy et al. 2015, "Going deeper with convolutions"). Nine numbers are taken from the stream
/// whatever the settings, so that turning one effect off leaves the others as they were.
pub fn random(
    image: &RgbImage,
    size: u32,
    resize: Resize,
    settings: &AugmentSettings,
    stream: &mut Stream,
) -> RgbImage {
    let [flipped, area, aspect, x, y, angle, brightness, contrast, saturation] =
        std::array::from_fn(|_| stream.random::<f64>());
    let frame = frame(image, resize);
    let part = crop(whole(&frame), settings, [area, aspect, x, y]);
    let mut view = self::resize(&frame, part, size, size);
    if settings.rotation > 0.0 {
        view = rotate(&view, ((2.0 * angle - 1.0) * settings.rotation).to_radians());
    }
    if settings.flip && flipped < 0.5 {
        view = flip(&view);
    }
    if settings.jitter > 0.0 {
        let factor = |u: f64| (1.0 + (2.0 * u - 1.0) * settings.jitter) as f32;
        jitter(&mut view, factor(brightness), factor(contrast), factor(saturation));
    }
    view
}

/// The view mirrored left to right.
pub fn flip(image: &RgbImage) -> RgbImage {
    image::imageops::flip_horizontal(image)
}

/// All of a photo.
pub(super) fn whole(image: &RgbImage) -> Part {
    Part { left: 0.0, top: 0.0, width: f64::from(image.width()), height: f64::from(image.height()) }
}

/// `part` of `image` at `width` x `height` pixels, antialiased bicubic.
///
/// Rows first, then columns: what overshoots is cut off between the two, so the order shows at hard
/// edges, and this one is Pillow's.
pub(super) fn resize(image: &RgbImage, part: Part, width: u32, height: u32) -> RgbImage {
    let rows = Part { top: 0.0, height: f64::from(image.height()), ..part };
    let columns = Part { left: 0.0, width: f64::from(width), ..part };
    convolve(&convolve(image, rows, width, image.height()), columns, width, height)
}

fn convolve(image: &RgbImage, part: Part, width: u32, height: u32) -> RgbImage {
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3)
        .expect("an image has three bytes for each of its pixels");
    let mut target = Image::new(width, height, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).crop(
        part.left,
        part.top,
        part.width,
        part.height,
    );
    Resizer::new().resize(&source, &mut target, &options).expect("a part lies inside its image");
    RgbImage::from_raw(width, height, target.into_vec()).expect("three bytes for each pixel")
}

/// The part of a photo that its plain view shows.
fn frame(image: &RgbImage, resize: Resize) -> Cow<'_, RgbImage> {
    let (width, height) = image.dimensions();
    let side = width.min(height);
    match resize {
        Resize::Crop if width != height => {
            // Whole pixels, as everyone crops: half a pixel would blur an image that is not resized.
            let (left, top) = ((width - side) / 2, (height - side) / 2);
            Cow::Owned(image::imageops::crop_imm(image, left, top, side, side).to_image())
        }
        _ => Cow::Borrowed(image),
    }
}

fn crop(frame: Part, settings: &AugmentSettings, [area, aspect, x, y]: [f64; 4]) -> Part {
    if settings.crop_min_area >= 1.0 {
        return frame;
    }
    let area = settings.crop_min_area + area * (1.0 - settings.crop_min_area);
    // A ratio beyond 1 / area would make one side longer than the frame's.
    let aspect = settings.crop_max_aspect.min(1.0 / area).powf(2.0 * aspect - 1.0);
    let width = frame.width * (area * aspect).sqrt().min(1.0);
    let height = frame.height * (area / aspect).sqrt().min(1.0);
    // Rounding must not push the far edge out of the image.
    let start = |draw: f64, room: f64| (draw * room).min(room);
    let (left, top) = (start(x, frame.width - width), start(y, frame.height - height));
    Part { left, top, width, height }
}

/// Turned about its centre, bilinear; what comes in over the edge is the mirrored image.
fn rotate(image: &RgbImage, angle: f64) -> RgbImage {
    let (width, height) = image.dimensions();
    let (sin, cos) = angle.sin_cos();
    let (cx, cy) = (f64::from(width - 1) / 2.0, f64::from(height - 1) / 2.0);
    let at = |x: i64, y: i64| image.get_pixel(mirrored(x, width), mirrored(y, height)).0;
    RgbImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (f64::from(x) - cx, f64::from(y) - cy);
        let (sx, sy) = (cx + cos * dx + sin * dy, cy - sin * dx + cos * dy);
        let (left, top) = (sx.floor(), sy.floor());
        let (fx, fy) = (sx - left, sy - top);
        let (left, top) = (left as i64, top as i64);
        let corners = [at(left, top), at(left + 1, top), at(left, top + 1), at(left + 1, top + 1)];
        let mix = |c: usize| {
            let [a, b, d, e] = corners.map(|corner| f64::from(corner[c]));
            let value = (a * (1.0 - fx) + b * fx) * (1.0 - fy) + (d * (1.0 - fx) + e * fx) * fy;
            value.round() as u8
        };
        Rgb([mix(0), mix(1), mix(2)])
    })
}

fn mirrored(at: i64, length: u32) -> u32 {
    let (length, period) = (i64::from(length), 2 * i64::from(length));
    let at = at.rem_euclid(period);
    (if at < length { at } else { period - 1 - at }) as u32
}

fn jitter(image: &mut RgbImage, brightness: f32, contrast: f32, saturation: f32) {
    let grey = |[r, g, b]: [f32; 3]| 0.299 * r + 0.587 * g + 0.114 * b;
    let sum: f64 = image.pixels().map(|p| f64::from(grey(p.0.map(f32::from)))).sum();
    let mean = brightness * (sum / (f64::from(image.width()) * f64::from(image.height()))) as f32;
    for pixel in image.pixels_mut() {
        let lit = pixel.0.map(|v| (f32::from(v) * brightness - mean) * contrast + mean);
        let grey = grey(lit);
        pixel.0 = lit.map(|v| (grey + (v - grey) * saturation).round() as u8);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dataset::fixtures::{expected, pattern};
    use crate::seed::{Purpose, stream};
    use proptest::prelude::*;

    const OFF: AugmentSettings =
        AugmentSettings { flip: false, crop_min_area: 1.0, crop_max_aspect: 1.33, rotation: 0.0, jitter: 0.0 };

    fn draw(image: &RgbImage, settings: &AugmentSettings, key: u64) -> RgbImage {
        random(image, 24, Resize::Squash, settings, &mut stream(key, Purpose::View, 0, "photo"))
    }

    #[test]
    fn the_plain_view_is_pillows_bicubic_within_one_level() {
        let views = [
            ("61x47 to 16", plain(&pattern(61, 47), 16, Resize::Squash)),
            ("61x47 to 24", plain(&pattern(61, 47), 24, Resize::Squash)),
            ("13x9 to 20", plain(&pattern(13, 9), 20, Resize::Squash)),
            ("61x47 crop to 16", plain(&pattern(61, 47), 16, Resize::Crop)),
        ];
        for (name, view) in views {
            let pillow = hex::decode(expected()["resized"][name].as_str().unwrap()).unwrap();
            let worst = view.as_raw().iter().zip(&pillow).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(worst <= 1 && view.as_raw().len() == pillow.len(), "{name} is off by {worst} levels");
        }
    }

    #[test]
    fn with_everything_off_a_random_view_is_the_plain_one() {
        let photo = pattern(61, 47);
        assert_eq!(draw(&photo, &OFF, 1), plain(&photo, 24, Resize::Squash));
    }

    #[test]
    fn turning_one_effect_off_leaves_the_others_as_they_were() {
        let photo = pattern(61, 47);
        let all = AugmentSettings { flip: true, crop_min_area: 0.4, rotation: 20.0, ..OFF };
        for key in 0..8 {
            let with = draw(&photo, &all, key);
            let without = draw(&photo, &AugmentSettings { flip: false, ..all.clone() }, key);
            assert!(with == without || with == flip(&without), "key {key}");
            // A crop draws four numbers: unless it always does, this flip would be another one.
            let only_flip = draw(&photo, &AugmentSettings { flip: true, ..OFF }, key);
            assert_eq!(only_flip == plain(&photo, 24, Resize::Squash), with == without, "key {key}");
        }
    }

    #[test]
    fn a_quarter_turn_moves_the_corners() {
        let mut photo = RgbImage::new(9, 9);
        photo.put_pixel(8, 0, Rgb([255, 0, 0]));
        let turned = rotate(&photo, std::f64::consts::FRAC_PI_2);
        let red: Vec<(u32, u32)> = turned.enumerate_pixels().filter(|p| p.2.0[0] > 250).map(|p| (p.0, p.1)).collect();
        assert_eq!(red, [(8, 8)], "clockwise");
    }

    #[test]
    fn jitter_keeps_grey_grey_and_changes_brightness_by_its_factor() {
        let mut grey = RgbImage::from_pixel(4, 4, Rgb([100; 3]));
        jitter(&mut grey, 1.1, 0.8, 1.3);
        assert!(grey.pixels().all(|p| p.0 == [110; 3]));
    }

    proptest! {
        #[test]
        fn crops_stay_inside_and_keep_their_bounds(
            (width, height) in (1u32..3000, 1u32..3000), min_area in 0.05f64..1.0, max_aspect in 1.0f64..3.0,
            draws in [0.0f64..1.0, 0.0..1.0, 0.0..1.0, 0.0..1.0])
        {
            let settings = AugmentSettings { crop_min_area: min_area, crop_max_aspect: max_aspect, ..OFF };
            let frame = Part { left: 0.0, top: 0.0, width: f64::from(width), height: f64::from(height) };
            let part = crop(frame, &settings, draws);
            prop_assert!(part.left >= 0.0 && part.left + part.width <= f64::from(width));
            prop_assert!(part.top >= 0.0 && part.top + part.height <= f64::from(height));
            let (w, h) = (part.width / frame.width, part.height / frame.height);
            prop_assert!(w * h >= min_area - 1e-9 && w * h <= 1.0 + 1e-9);
            prop_assert!((w / h).ln().abs() <= max_aspect.ln() + 1e-9);
        }

        #[test]
        fn any_photo_gives_any_view((width, height) in (1u32..40, 1u32..40), size in 1u32..40, key in any::<u64>()) {
            let settings =
                AugmentSettings { flip: true, crop_min_area: 0.1, crop_max_aspect: 2.0, rotation: 180.0, jitter: 0.5 };
            let mut stream = stream(key, Purpose::View, 0, "");
            let view = random(&pattern(width, height), size, Resize::Crop, &settings, &mut stream);
            prop_assert_eq!(view.dimensions(), (size, size));
        }
    }
}
