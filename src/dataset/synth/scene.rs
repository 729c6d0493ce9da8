//! What surrounds a flower: ground and sky, what stands before it, the light, the camera.

use std::f32::consts::{FRAC_PI_2, TAU};

use rand::RngExt;

use super::canvas::{Blade, Canvas, Colour, between, chance, count, cover, lit, mix, noise, tint};
use crate::seed::Stream;

/// Greens of leaves and grass.
pub const GREENS: [Colour; 5] =
    [[0.24, 0.45, 0.14], [0.35, 0.55, 0.18], [0.17, 0.36, 0.16], [0.45, 0.58, 0.26], [0.28, 0.47, 0.30]];

const GROUNDS: [[Colour; 2]; 7] = [
    [[0.30, 0.48, 0.18], [0.16, 0.32, 0.10]],
    [[0.52, 0.70, 0.90], [0.36, 0.52, 0.22]],
    [[0.42, 0.30, 0.20], [0.28, 0.19, 0.12]],
    [[0.10, 0.14, 0.10], [0.05, 0.07, 0.06]],
    [[0.74, 0.72, 0.66], [0.52, 0.52, 0.46]],
    [[0.62, 0.66, 0.42], [0.30, 0.42, 0.18]],
    [[0.46, 0.44, 0.58], [0.24, 0.30, 0.26]],
];

/// The colours that blurred things far behind may have, those of flowers among them.
const BLURS: [Colour; 8] = [
    [0.92, 0.86, 0.30],
    [0.90, 0.90, 0.86],
    [0.82, 0.28, 0.36],
    [0.88, 0.56, 0.66],
    [0.34, 0.56, 0.22],
    [0.60, 0.76, 0.90],
    [0.56, 0.38, 0.66],
    [0.22, 0.36, 0.16],
];

/// Ground, sky and foliage behind the flower.
pub fn background(canvas: &mut Canvas, stream: &mut Stream) {
    let [far, near] = GROUNDS[stream.random_range(0..GROUNDS.len())];
    let (seed, grain) = (stream.random::<u32>(), between(stream, 2.0, 6.0));
    let (rough, horizon) = (between(stream, 0.15, 0.5), between(stream, 0.2, 0.8));
    let tone = between(stream, 0.8, 1.15);
    canvas.change(|x, y, _| {
        let share = ((y - horizon) * 2.5 + 0.5).clamp(0.0, 1.0);
        let cloud = 0.65 * noise(seed, x * grain, y * grain) + 0.35 * noise(seed ^ 7, x * grain * 3.0, y * grain * 3.0);
        lit(mix(far, near, share), tone * (1.0 + rough * (2.0 * cloud - 1.0)))
    });
    for _ in 0..count(stream, 0, 9) {
        blur(canvas, stream, 0.55);
    }
    let blades = if chance(stream, 0.6) { count(stream, 6, 26) } else { 0 };
    for _ in 0..blades {
        let base = [between(stream, -0.1, 1.1), between(stream, 0.5, 1.25)];
        let (length, half_width) = (between(stream, 0.2, 0.7), between(stream, 0.008, 0.035));
        let angle = -FRAC_PI_2 + between(stream, -0.9, 0.9);
        leaf(canvas, stream, base, angle, length, half_width);
    }
}

/// Something out of focus.
fn blur(canvas: &mut Canvas, stream: &mut Stream, opacity: f32) {
    let centre = [between(stream, 0.0, 1.0), between(stream, 0.0, 1.0)];
    let (radius, soft) = (between(stream, 0.03, 0.16), between(stream, 0.15, 0.9));
    let colour = tint(stream, &BLURS);
    let opacity = opacity * between(stream, 0.3, 1.0);
    canvas.lay(centre, radius, |dx, dy| {
        let inside = ((1.0 - (dx * dx + dy * dy).sqrt() / radius) / soft).clamp(0.0, 1.0);
        (opacity * inside, colour)
    });
}

/// A leaf or a blade of grass with a midrib, one half in the shade.
pub fn leaf(canvas: &mut Canvas, stream: &mut Stream, base: [f32; 2], angle: f32, length: f32, half_width: f32) {
    let green = lit(tint(stream, &GREENS), between(stream, 0.6, 1.15));
    let blade = Blade { base, angle, length, half_width, belly: 0.45, bend: between(stream, -0.3, 0.3) };
    let shaded = between(stream, 0.65, 0.95);
    blade.lay(canvas, 1.0, |along, across| {
        let rib = 1.0 + 0.25 * cover(across.abs() - 0.1, 0.15);
        lit(green, (0.75 + 0.35 * along) * rib * if across > 0.0 { shaded } else { 1.0 })
    });
}

/// What stands between the flower and the camera.
pub fn foreground(canvas: &mut Canvas, stream: &mut Stream) {
    let blades = if chance(stream, 0.4) { count(stream, 1, 3) } else { 0 };
    for _ in 0..blades {
        let (side, height) = (between(stream, 0.0, 1.0), between(stream, 0.9, 1.1));
        let (length, half_width) = (between(stream, 0.35, 0.95), between(stream, 0.012, 0.04));
        let angle = -FRAC_PI_2 + between(stream, -0.8, 0.8);
        leaf(canvas, stream, [side, height], angle, length, half_width);
    }
    if chance(stream, 0.15) {
        blur(canvas, stream, 0.8);
    }
}

/// Sun, haze and the camera's faults.
pub fn light(canvas: &mut Canvas, stream: &mut Stream) {
    let (sin, cos) = between(stream, 0.0, TAU).sin_cos();
    let (slope, exposure) = (between(stream, 0.0, 0.35), between(stream, 0.85, 1.35));
    let (vignette, haze) = (between(stream, 0.0, 0.7), between(stream, 0.0, 0.14));
    let warmth = between(stream, -0.08, 0.10);
    let cast = [exposure * (1.0 + warmth), exposure, exposure * (1.0 - warmth)];
    let grain = between(stream, 0.0, 0.09);
    canvas.change(|x, y, colour| {
        let (dx, dy) = (x - 0.5, y - 0.5);
        let fall = (1.0 + slope * 2.0 * (dx * cos + dy * sin)) * (1.0 - vignette * (dx * dx + dy * dy));
        let bits = stream.random::<u64>();
        // The sum of two even numbers is a triangle, near enough to a bell.
        let draw = |i: usize| {
            let half = |j: usize| ((bits >> (20 * i + 10 * j)) & 1023) as f32 / 1023.0;
            grain * (half(0) + half(1) - 1.0)
        };
        std::array::from_fn(|i| (colour[i] * cast[i] * fall) * (1.0 - haze) + haze * 0.8 + draw(i))
    });
}
