//! The five flowers.

use std::f32::consts::{FRAC_PI_2, PI, TAU};

use rand::RngExt;

use super::canvas::{Blade, Canvas, Colour, between, chance, count, cover, lit, mix, tint, vary};
use super::scene::{GREENS, leaf};
use crate::seed::Stream;

const WHITE: Colour = [0.96, 0.95, 0.93];
const CREAM: Colour = [0.96, 0.90, 0.72];
const YELLOW: Colour = [0.97, 0.82, 0.14];
const ORANGE: Colour = [0.95, 0.56, 0.12];
const PINK: Colour = [0.93, 0.55, 0.68];
const RED: Colour = [0.80, 0.12, 0.16];
const WINE: Colour = [0.52, 0.08, 0.20];
const LILAC: Colour = [0.66, 0.48, 0.80];

/// Where a flower is and how it is turned.
#[derive(Debug, Clone, Copy)]
pub struct Pose {
    /// Its middle.
    pub centre: [f32; 2],
    /// From its middle to the tips of its petals.
    pub radius: f32,
    /// Its turn about itself, in radians.
    pub turn: f32,
    /// How much it looks away: 1 is full face, 0.5 half as high as wide.
    pub tilt: f32,
    /// The direction in which it looks away, in radians.
    pub lean: f32,
}

impl Pose {
    /// Lays a shape given in the flower's own plane, where its radius is 1: `shade` gets the polar
    /// coordinates of a point and the side of a pixel.
    fn lay(&self, canvas: &mut Canvas, reach: f32, shade: impl Fn(f32, f32, f32) -> (f32, Colour)) {
        let pixel = canvas.pixel() / self.radius;
        let (sin, cos) = self.lean.sin_cos();
        let pose = *self;
        canvas.lay(self.centre, self.radius * reach + canvas.pixel(), move |dx, dy| {
            let (u, v) = ((dx * cos + dy * sin) / pose.radius, (dy * cos - dx * sin) / pose.radius);
            let u = u / pose.tilt;
            let distance = (u * u + v * v).sqrt();
            if distance > reach + pixel {
                return (0.0, [0.0; 3]);
            }
            shade(distance, v.atan2(u) + pose.turn, pixel)
        });
    }

    /// Where a point of the flower's plane is in the picture.
    fn place(&self, distance: f32, angle: f32) -> [f32; 2] {
        let (v, u) = (angle - self.turn).sin_cos();
        let (u, v) = (u * distance * self.tilt * self.radius, v * distance * self.radius);
        let (sin, cos) = self.lean.sin_cos();
        [self.centre[0] + u * cos - v * sin, self.centre[1] + u * sin + v * cos]
    }
}

/// A ring of petals around a middle.
struct Ring {
    petals: u32,
    inner: f32,
    outer: f32,
    /// Half the width of a petal where it is widest.
    half_width: f32,
    /// Above 1 the widest place moves to the tip, below 1 to the base.
    shape: f32,
    /// Turn of the ring, in radians.
    offset: f32,
    /// How much the lengths of its petals differ.
    uneven: f32,
    seed: u32,
}

impl Ring {
    fn lay(&self, canvas: &mut Canvas, pose: &Pose, base: Colour, tip: Colour) {
        let sector = TAU / self.petals as f32;
        pose.lay(canvas, self.outer, |distance, angle, pixel| {
            let turns = ((angle + self.offset) / sector).round();
            let index = turns.rem_euclid(self.petals as f32) as u32;
            let off = angle + self.offset - turns * sector + (vary(self.seed, index + 500) - 0.5) * 0.2 * sector;
            let length = (self.outer - self.inner) * (1.0 - self.uneven * vary(self.seed, index));
            let (sin, cos) = off.sin_cos();
            let along = (distance * cos - self.inner) / length;
            if !(0.0..=1.0).contains(&along) {
                return (0.0, [0.0; 3]);
            }
            let across = distance * sin;
            if across.abs() > self.half_width + pixel {
                return (0.0, [0.0; 3]);
            }
            let width = self.half_width * (PI * (0.04 + 0.96 * along).powf(self.shape)).sin().max(0.0).powf(0.6);
            let inside = cover(across.abs() - width, pixel);
            let crease = 1.0 - 0.16 * (1.0 - (across.abs() / (0.35 * self.half_width)).min(1.0));
            let side = if across > 0.0 { 0.92 } else { 1.04 };
            let rim = 1.0 - 0.25 * (across.abs() / width.max(pixel)).min(1.0).powi(4);
            let own = 0.86 + 0.2 * vary(self.seed, index + 900);
            (inside, lit(mix(base, tip, along), crease * side * rim * own * (0.78 + 0.26 * along)))
        });
    }
}

/// A dome of small florets, in the spiral that seeds grow in (Vogel 1979).
fn disc(canvas: &mut Canvas, pose: &Pose, radius: f32, rim: Colour, heart: Colour, florets: u32) {
    pose.lay(canvas, radius, |distance, angle, pixel| {
        let dome = 1.08 - 0.4 * (distance / radius).powi(2) + 0.10 * angle.cos();
        (cover(distance - radius, pixel), lit(mix(heart, rim, (distance / radius).powf(1.5)), dome))
    });
    let golden = PI * (3.0 - 5.0_f32.sqrt());
    let size = pose.radius * radius * 0.85 / (florets as f32).sqrt();
    for i in 0..florets {
        let at = ((i as f32 + 0.5) / florets as f32).sqrt();
        let centre = pose.place(radius * 0.96 * at, i as f32 * golden);
        let colour = lit(mix(heart, rim, at), if i % 2 == 0 { 1.3 } else { 0.7 });
        let pixel = canvas.pixel();
        canvas
            .lay(centre, size + pixel, |dx, dy| (0.65 * cover((dx * dx + dy * dy).sqrt() - size * 0.7, pixel), colour));
    }
}

/// A stem from a flower's middle down and out of the picture.
fn stem(canvas: &mut Canvas, stream: &mut Stream, from: [f32; 2], radius: f32) {
    let width = (radius * between(stream, 0.05, 0.09)).max(0.006);
    let green = lit(tint(stream, &GREENS), 0.9);
    let (bend, pixel) = (between(stream, -0.15, 0.15), canvas.pixel());
    let reach = 1.1;
    canvas.lay([from[0], from[1] + reach], reach, |dx, dy| {
        let down = dy + reach;
        let across = dx - bend * down * down;
        (cover(across.abs() - width, pixel), lit(green, 1.0 - 0.3 * across / width))
    });
    if chance(stream, 0.5) {
        let at = between(stream, 0.9, 1.6) * radius;
        let angle = -FRAC_PI_2 + between(stream, -1.1, 1.1);
        let base = [from[0] + bend * at * at, from[1] + at + radius * 0.4];
        leaf(canvas, stream, base, angle, radius * 0.9, radius * 0.13);
    }
}

/// Many narrow petals around a small yellow disc.
pub fn daisy(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    stem(canvas, stream, pose.centre, pose.radius);
    let petal = tint(stream, &[WHITE, WHITE, WHITE, CREAM, PINK, LILAC, YELLOW]);
    let tip = mix(petal, tint(stream, &[WHITE, PINK, petal]), 0.5);
    let petals = count(stream, 6, 12);
    let disc_radius = between(stream, 0.22, 0.33);
    let (half_width, seed) = (between(stream, 0.55, 0.8) * PI / (2.0 * petals as f32), stream.random::<u32>());
    let shape = between(stream, 1.3, 2.0);
    for (i, light) in [0.84, 1.0].into_iter().enumerate() {
        let offset = i as f32 * PI / petals as f32;
        let (uneven, seed) = (0.16, seed ^ i as u32);
        let ring = Ring { petals, inner: 0.08, outer: 1.0, half_width, shape, offset, uneven, seed };
        ring.lay(canvas, pose, lit(petal, light * 0.9), lit(tip, light));
    }
    let heart = tint(stream, &[YELLOW, ORANGE, [0.85, 0.70, 0.12]]);
    disc(canvas, pose, disc_radius, lit(heart, 0.85), heart, 40);
}

/// Layer on layer of the thinnest petals and no disc; or a clock of seeds.
pub fn dandelion(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    stem(canvas, stream, pose.centre, pose.radius);
    if chance(stream, 0.3) {
        return clock(canvas, stream, pose);
    }
    let petal = tint(stream, &[YELLOW, YELLOW, [0.98, 0.88, 0.30], ORANGE]);
    let layers = count(stream, 5, 7);
    let (seed, turn) = (stream.random::<u32>(), between(stream, 0.0, TAU));
    for layer in 0..layers {
        let depth = layer as f32 / layers as f32;
        let outer = 1.0 - 0.86 * depth;
        let petals = ((30.0 - 14.0 * depth) * between(stream, 0.85, 1.2)) as u32;
        let half_width = 0.72 * PI * outer / petals as f32;
        let offset = turn + layer as f32 * 2.4;
        let seed = seed ^ layer;
        let ring = Ring { petals, inner: 0.0, outer, half_width, shape: 2.4, offset, uneven: 0.3, seed };
        let light = 0.82 + 0.2 * (layer % 2) as f32;
        let base = lit(mix(petal, ORANGE, 0.35), 0.72 * light);
        ring.lay(canvas, pose, base, lit(petal, light * (1.02 - 0.12 * depth)));
    }
}

/// The seeds of a dandelion, a sphere of fine parasols.
fn clock(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let fluff = tint(stream, &[WHITE, [0.86, 0.86, 0.84], CREAM]);
    let seeds = count(stream, 70, 110);
    let missing = between(stream, 0.0, 0.3);
    let pixel = canvas.pixel();
    canvas.lay(pose.centre, pose.radius, |dx, dy| {
        let share = (dx * dx + dy * dy).sqrt() / pose.radius;
        (0.28 * (1.0 - share * share).max(0.0), fluff)
    });
    let golden = PI * (3.0 - 5.0_f32.sqrt());
    for i in (0..seeds).rev() {
        if chance(stream, missing) {
            continue;
        }
        let away = ((i as f32 + 0.5) / seeds as f32).sqrt();
        let angle = i as f32 * golden + pose.turn;
        let length = pose.radius * away * 0.93;
        let blade = Blade { base: pose.centre, angle, length, half_width: 0.7 * pixel, belly: 0.5, bend: 0.0 };
        blade.lay(canvas, 0.4, |_, _| fluff);
        let at = [pose.centre[0] + angle.cos() * length, pose.centre[1] + angle.sin() * length];
        let size = pose.radius * (0.20 - 0.05 * away);
        let rays = 9.0;
        canvas.lay(at, size, |dx, dy| {
            let share = (dx * dx + dy * dy).sqrt() / size;
            let ray = (dy.atan2(dx) * rays + angle).cos() * 0.5 + 0.5;
            ((1.0 - share).max(0.0) * (0.25 + 0.75 * ray) * 0.9, lit(fluff, 0.85 + 0.15 * share))
        });
    }
    let heart = [0.42, 0.34, 0.22];
    let size = pose.radius * 0.13;
    canvas.lay(pose.centre, size, |dx, dy| (0.8 * cover((dx * dx + dy * dy).sqrt() - size, pixel * 2.0), heart));
}

/// Broad petals that overlap towards a spiral heart.
pub fn rose(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    stem(canvas, stream, pose.centre, pose.radius);
    for _ in 0..count(stream, 0, 3) {
        let angle = between(stream, 0.0, TAU);
        leaf(canvas, stream, pose.place(0.6, angle), angle, pose.radius * 0.75, pose.radius * 0.24);
    }
    let petal = tint(stream, &[RED, RED, PINK, PINK, WHITE, CREAM, YELLOW, ORANGE, WINE, LILAC]);
    let rim = mix(petal, tint(stream, &[WHITE, PINK, petal, petal]), 0.35);
    let (rings, mut turn) = (count(stream, 5, 7), between(stream, 0.0, TAU));
    for ring in 0..rings {
        let depth = ring as f32 / rings as f32;
        let petals = if depth < 0.45 {
            5
        } else if depth < 0.75 {
            4
        } else {
            3
        };
        let out = 0.55 * (1.0 - depth);
        for i in 0..petals {
            let angle = turn + TAU * (i as f32 + between(stream, -0.12, 0.12)) / petals as f32;
            let size = (0.48 - 0.30 * depth) * between(stream, 0.92, 1.08);
            rose_petal(canvas, pose, angle, out, size, [lit(petal, 0.62 - 0.18 * depth), rim]);
        }
        turn += between(stream, 0.45, 0.9);
    }
    let spiral = between(stream, 9.0, 13.0);
    pose.lay(canvas, 0.17, |distance, angle, pixel| {
        let wave = (angle + distance * spiral * 4.0).sin() * 0.5 + 0.5;
        (cover(distance - 0.15, pixel), mix(lit(petal, 0.45), rim, wave * 0.75))
    });
}

/// A round lobe at `out` from the middle, dark inside, bright at its outer rim, with its shadow.
fn rose_petal(canvas: &mut Canvas, pose: &Pose, angle: f32, out: f32, size: f32, [inside, rim]: [Colour; 2]) {
    let lobe = Pose { centre: pose.place(out, angle), radius: pose.radius, ..*pose };
    lobe.lay(canvas, size + 0.07, |distance, direction, pixel| {
        let outward = (direction - angle).cos();
        // The lobe is a little broader than long.
        let edge = distance - size * (1.0 - 0.12 * outward.abs());
        let share = (distance / size).min(1.0);
        let bright = (0.5 + 0.5 * outward) * share;
        let fold = 1.0 + 0.14 * cover(edge.abs() - 0.035, 0.05) * (0.5 + 0.5 * outward);
        let colour = lit(mix(inside, rim, bright.powf(0.8)), fold * (0.94 + 0.06 * (direction * 3.0).sin()));
        let shadow = 0.38 * (1.0 - edge / 0.07).clamp(0.0, 1.0);
        let solid = cover(edge, pixel);
        (solid.max(shadow), mix(lit(inside, 0.35), colour, solid))
    });
}

/// Two rings of pointed petals around a large dark disc.
pub fn sunflower(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    stem(canvas, stream, pose.centre, pose.radius);
    let petal = tint(stream, &[YELLOW, YELLOW, YELLOW, [0.98, 0.74, 0.10], ORANGE, CREAM, [0.70, 0.22, 0.10]]);
    let petals = count(stream, 9, 15);
    let disc_radius = between(stream, 0.36, 0.52);
    let (seed, shape) = (stream.random::<u32>(), between(stream, 0.75, 1.05));
    let half_width = between(stream, 0.75, 1.0) * PI * 0.62 / petals as f32;
    for (i, light) in [0.74, 0.86, 1.0].into_iter().enumerate() {
        let offset = i as f32 * 0.5 * PI / petals as f32 + i as f32;
        let outer = 1.0 - 0.05 * i as f32;
        let (uneven, seed, inner) = (0.2, seed ^ i as u32, disc_radius * 0.7);
        let ring = Ring { petals, inner, outer, half_width, shape, offset, uneven, seed };
        ring.lay(canvas, pose, lit(mix(petal, ORANGE, 0.4), light), lit(petal, light));
    }
    let rim = tint(stream, &[[0.30, 0.17, 0.07], [0.40, 0.24, 0.08], [0.20, 0.12, 0.07]]);
    let heart = tint(stream, &[[0.16, 0.10, 0.06], [0.34, 0.30, 0.10], [0.45, 0.40, 0.14]]);
    disc(canvas, pose, disc_radius, rim, heart, 110);
}

/// A cup of three to five petals on a bare stem, seen from the side.
pub fn tulip(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let height = pose.radius * 1.75;
    let base = [pose.centre[0], pose.centre[1] + 0.5 * height];
    let up = -FRAC_PI_2 + (pose.tilt - 0.75) * 0.9 * if pose.turn > PI { 1.0 } else { -1.0 };
    stem(canvas, stream, [base[0], base[1] - 0.05 * height], pose.radius);
    for side in [-1.0, 1.0] {
        if chance(stream, 0.7) {
            let angle = -FRAC_PI_2 + side * between(stream, 0.15, 0.6);
            let root = [base[0], base[1] + height * between(stream, 0.7, 1.0)];
            let (long, wide) = (between(stream, 0.8, 1.3) * height, between(stream, 0.14, 0.26) * pose.radius);
            leaf(canvas, stream, root, angle, long, wide);
        }
    }
    let petal = tint(stream, &[RED, RED, PINK, PINK, YELLOW, YELLOW, WHITE, CREAM, ORANGE, WINE, LILAC]);
    let edge = mix(petal, tint(stream, &[petal, petal, YELLOW, WHITE]), 0.6);
    let open = between(stream, 0.10, 0.42);
    let width = between(stream, 0.36, 0.46) * pose.radius;
    let glow = between(stream, 0.0, 0.5);
    for (spread, size, light) in [
        (0.0, 0.97, 0.62),
        (-0.55, 0.98, 0.72),
        (0.55, 0.98, 0.70),
        (-1.0, 0.94, 0.92),
        (1.0, 0.94, 0.86),
        (0.0, 0.88, 1.0),
    ] {
        let wide = if spread == 0.0 { 1.25 } else { 1.0 };
        let blade = Blade {
            base: [base[0] + spread * 0.12 * pose.radius, base[1]],
            angle: up + spread * open,
            length: height * size * between(stream, 0.94, 1.04),
            half_width: width * wide,
            belly: 0.42,
            bend: -spread * 0.16,
        };
        blade.lay(canvas, 1.0, |along, across| {
            let streak = 1.0 + 0.05 * (across * 14.0).sin() - 0.10 * cover(across.abs() - 0.05, 0.1);
            let round = 1.0 - 0.30 * across * across;
            let heart = mix(CREAM, petal, (along * 3.0 + 1.0 - glow).min(1.0));
            lit(mix(heart, edge, along * along), light * streak * round * (0.80 + 0.24 * along))
        });
    }
}
