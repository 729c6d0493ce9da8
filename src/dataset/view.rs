//! What the network sees of a photo: a square of 8-bit RGB, plain or drawn at random.

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
    self::resize(image, frame(image, resize), size, size)
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
    let part = crop(frame(image, resize), settings, [area, aspect, x, y]);
    let mut view = self::resize(image, part, size, size);
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
pub(super) fn resize(image: &RgbImage, part: Part, width: u32, height: u32) -> RgbImage {
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

fn frame(image: &RgbImage, resize: Resize) -> Part {
    let all = whole(image);
    match resize {
        Resize::Squash => all,
        Resize::Crop => {
            // Whole pixels, as everyone crops: half a pixel would blur an image that is not resized.
            let side = all.width.min(all.height);
            let start = |length: f64| ((length - side) / 2.0).floor();
            Part { left: start(all.width), top: start(all.height), width: side, height: side }
        }
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
    let left = frame.left + x * (frame.width - width);
    let top = frame.top + y * (frame.height - height);
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
