//! What anyone would try first, as controls: an attack that does no better than these finds nothing.

use tch::Tensor;

use super::{Attempt, Goal, Model, Noise, Standing, predict, select};

/// Noise of ±ε. Norm L∞. ε in `[0, 1]`.
pub(super) fn random_sign(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    draws: u32,
    noise: &Noise,
) -> Attempt {
    let mut standing = Standing::all(images, goal, noise);
    for draw in 0..u64::from(draws) {
        let signs = standing.noise(draw).uniform(&standing.images, 1.0).sign();
        let noisy = (&standing.images + signs * epsilon).clamp_(0.0, 1.0);
        try_out(model, &mut standing, &noisy);
        if standing.is_empty() {
            break;
        }
    }
    standing.end()
}

/// One pixel, in the centre of the image and then of each quarter, whose values are moved by ε towards the
/// farther end of the range. Norm L0, one pixel. ε in `[0, 1]`, 1 for black and white.
pub(super) fn fixed_pixel(model: &Model, images: &Tensor, goal: &Goal, epsilon: f64, noise: &Noise) -> Attempt {
    let mut standing = Standing::all(images, goal, noise);
    let (height, width) = (images.size()[2], images.size()[3]);
    for (down, right) in [(2, 2), (1, 1), (1, 3), (3, 1), (3, 3)] {
        let changed = standing.images.copy();
        let mut pixel = changed.narrow(2, height * down / 4, 1).narrow(3, width * right / 4, 1);
        let moved = (&pixel + (pixel.lt(0.5).to_kind(pixel.kind()) * 2.0 - 1.0) * epsilon).clamp_(0.0, 1.0);
        pixel.copy_(&moved);
        try_out(model, &mut standing, &changed);
        if standing.is_empty() {
            break;
        }
    }
    standing.end()
}

fn try_out(model: &Model, standing: &mut Standing, changed: &Tensor) {
    let predicted = predict(model, changed);
    let left = standing.settle(changed, &predicted);
    standing.note(&select(changed, &left), &predicted.index_select(0, &left));
}
