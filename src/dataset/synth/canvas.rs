//! A square of light on which antialiased shapes are laid one over another.

use image::{Rgb, RgbImage};
use rand::RngExt;

use crate::seed::Stream;

/// Red, green and blue; 0 is black, 1 as bright as a picture gets.
pub type Colour = [f32; 3];

/// A picture in the making. Coordinates run from 0 to 1, y downwards.
pub struct Canvas {
    size: u32,
    pixels: Vec<Colour>,
}

impl Canvas {
    /// All black.
    pub fn new(size: u32) -> Self {
        Self { size, pixels: vec![[0.0; 3]; (size * size) as usize] }
    }

    /// The side of a pixel.
    pub fn pixel(&self) -> f32 {
        1.0 / self.size as f32
    }

    /// Lays `shade` over the pixels within `reach` of `(x, y)`: it gives the opacity and the colour
    /// at a point, the point relative to `(x, y)`.
    pub fn lay(&mut self, [x, y]: [f32; 2], reach: f32, shade: impl Fn(f32, f32) -> (f32, Colour)) {
        self.lay_within([x - reach, y - reach], [x + reach, y + reach], |px, py| shade(px - x, py - y));
    }

    /// The same over the pixels of a rectangle, with the point itself.
    fn lay_within(&mut self, from: [f32; 2], to: [f32; 2], shade: impl Fn(f32, f32) -> (f32, Colour)) {
        let size = self.size as f32;
        let start = from.map(|v| (v * size).floor().clamp(0.0, size) as u32);
        let end = to.map(|v| (v * size).ceil().clamp(0.0, size) as u32);
        for row in start[1]..end[1] {
            let y = (row as f32 + 0.5) / size;
            for column in start[0]..end[0] {
                let (opacity, colour) = shade((column as f32 + 0.5) / size, y);
                if opacity > 0.0 {
                    let pixel = &mut self.pixels[(row * self.size + column) as usize];
                    *pixel = mix(*pixel, colour, opacity.min(1.0));
                }
            }
        }
    }

    /// Replaces every pixel by what `change` makes of its place and colour.
    pub fn change(&mut self, mut change: impl FnMut(f32, f32, Colour) -> Colour) {
        let size = self.size as f32;
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            let (column, row) = (i as u32 % self.size, i as u32 / self.size);
            *pixel = change((column as f32 + 0.5) / size, (row as f32 + 0.5) / size, *pixel);
        }
    }

    /// The picture in 8 bits.
    pub fn finish(self) -> RgbImage {
        let size = self.size;
        let level = |v: f32| (v.clamp(0.0, 1.0) * 255.0).round() as u8;
        RgbImage::from_fn(size, size, |x, y| Rgb(self.pixels[(y * size + x) as usize].map(level)))
    }
}

/// A long shape that is pointed or round at its ends: a petal, a leaf, a blade of grass.
#[derive(Debug, Clone, Copy)]
pub struct Blade {
    /// Where it begins.
    pub base: [f32; 2],
    /// Its direction in radians, 0 to the right, clockwise.
    pub angle: f32,
    /// From base to tip.
    pub length: f32,
    /// Half its width where it is widest.
    pub half_width: f32,
    /// Where along it is widest: 0.5 in the middle, less towards the base.
    pub belly: f32,
    /// How far the tip bends sideways, as a share of the length.
    pub bend: f32,
}

impl Blade {
    /// Lays it on the canvas, coloured by `shade(along, across)`: `along` from 0 at the base to 1 at
    /// the tip, `across` from -1 to 1.
    pub fn lay(&self, canvas: &mut Canvas, opacity: f32, shade: impl Fn(f32, f32) -> Colour) {
        let (sin, cos) = self.angle.sin_cos();
        let pixel = canvas.pixel();
        let power = 0.5_f32.ln() / self.belly.ln();
        let margin = self.half_width + self.bend.abs() * self.length + pixel;
        let tip = [self.base[0] + cos * self.length, self.base[1] + sin * self.length];
        let from = std::array::from_fn(|i| self.base[i].min(tip[i]) - margin);
        let to = std::array::from_fn(|i| self.base[i].max(tip[i]) + margin);
        canvas.lay_within(from, to, |x, y| {
            let (x, y) = (x - self.base[0], y - self.base[1]);
            let along = (x * cos + y * sin) / self.length;
            if !(0.0..=1.0).contains(&along) {
                return (0.0, [0.0; 3]);
            }
            let across = y * cos - x * sin - self.bend * self.length * along * along;
            if across.abs() > self.half_width + pixel {
                return (0.0, [0.0; 3]);
            }
            let width = self.half_width * (std::f32::consts::PI * along.powf(power)).sin().max(0.0).powf(0.75);
            let inside = cover(across.abs() - width, pixel);
            if inside == 0.0 { (0.0, [0.0; 3]) } else { (opacity * inside, shade(along, across / width.max(pixel))) }
        });
    }
}

/// The share of a pixel that lies inside an edge at signed distance `distance` (negative inside).
pub fn cover(distance: f32, pixel: f32) -> f32 {
    (0.5 - distance / pixel).clamp(0.0, 1.0)
}

/// From `a` at 0 to `b` at 1.
pub fn mix(a: Colour, b: Colour, share: f32) -> Colour {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * share)
}

/// Brighter or darker.
pub fn lit(colour: Colour, factor: f32) -> Colour {
    colour.map(|v| v * factor)
}

/// A number from `low` to `high`.
pub fn between(stream: &mut Stream, low: f32, high: f32) -> f32 {
    low + (high - low) * stream.random::<f32>()
}

/// A whole number from `low` to `high`, both possible.
pub fn count(stream: &mut Stream, low: u32, high: u32) -> u32 {
    stream.random_range(low..=high)
}

/// True with probability `p`.
pub fn chance(stream: &mut Stream, p: f32) -> bool {
    stream.random::<f32>() < p
}

/// One of `colours`, varied a little in brightness and hue.
pub fn tint(stream: &mut Stream, colours: &[Colour]) -> Colour {
    let colour = colours[stream.random_range(0..colours.len())];
    let light = between(stream, 0.88, 1.1);
    colour.map(|v| (v * light + between(stream, -0.05, 0.05)).clamp(0.02, 1.0))
}

/// A fixed pseudo-random number in `[0, 1)` for a whole number, to vary the petals of one flower.
pub fn vary(seed: u32, index: u32) -> f32 {
    let mut x = seed ^ index.wrapping_mul(0x9E37_79B9);
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    ((x ^ (x >> 16)) >> 8) as f32 / (1 << 24) as f32
}

/// Smooth noise in `[0, 1]`, one bump per unit.
pub fn noise(seed: u32, x: f32, y: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (fx, fy) = (ease(x - left), ease(y - top));
    let corner = |dx: i32, dy: i32| {
        let (column, row) = ((left as i32 + dx) as u32, (top as i32 + dy) as u32);
        vary(seed, column.wrapping_mul(0x0001_F35B).wrapping_add(row.wrapping_mul(0x2C1B_3C6D)))
    };
    let (above, below) =
        (corner(0, 0) + (corner(1, 0) - corner(0, 0)) * fx, corner(0, 1) + (corner(1, 1) - corner(0, 1)) * fx);
    above + (below - above) * fy
}
