//! Adversarial Patch: Brown et al., "Adversarial patch", 2017, <https://arxiv.org/abs/1712.09665>,
//! section 2. A round sticker that makes whatever it lies on a certain class: trained over random places,
//! sizes and turns (expectation over transformations), not held to any ε. Turns of up to 22.5° and a step
//! of 5/255 are those of the authors' program; their patches cover up to half of an image's sides.

use rand::RngExt;
use tch::{Device, Kind, Tensor};

use super::{Goal, Model, Noise, gradient_of, scores};

/// How a patch is trained and laid on images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatchSettings {
    /// Pixels of a side of the patch.
    pub side: u32,
    /// Its diameter as a share of the image's side, from and to, in `(0, 1]`.
    pub scale: (f64, f64),
    /// Degrees that it may be turned either way.
    pub rotation: f64,
    /// Length of a step along the gradient's sign, pixel scale.
    pub rate: f64,
}

impl Default for PatchSettings {
    fn default() -> Self {
        Self { side: 128, scale: (0.3, 0.5), rotation: 22.5, rate: 5.0 / 255.0 }
    }
}

/// Where a patch lies on each image.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// Diameter as a share of the image's side.
    pub scale: f64,
    /// Degrees, counter-clockwise.
    pub rotation: f64,
    /// The centre, as shares of width and height.
    pub centre: (f64, f64),
}

impl PatchSettings {
    /// One placement for each key of `noise`, wholly inside the image; those of other rounds differ.
    pub fn placements(&self, noise: &Noise) -> Vec<Placement> {
        let draw = |mut stream: crate::seed::Stream| {
            let mut between = |low: f64, high: f64| low + (high - low) * stream.random::<f64>();
            let scale = between(self.scale.0, self.scale.1);
            let rotation = between(-self.rotation, self.rotation);
            let margin = scale / 2.0;
            let centre = (between(margin, 1.0 - margin), between(margin, 1.0 - margin));
            Placement { scale, rotation, centre }
        };
        noise.streams().into_iter().map(draw).collect()
    }
}

/// A grey patch to begin with: `[3, side, side]`.
pub fn blank(settings: &PatchSettings, device: Device) -> Tensor {
    let side = i64::from(settings.side);
    Tensor::full([3, side, side], 0.5, (Kind::Float, device))
}

/// One step: `patch` `[3, side, side]` moved so that `images` `[N, 3, H, W]` under it are nearer to the
/// goal, with the placements of `noise`. Call it with many batches, the round counted up. Also returns the
/// share of the images that reached the goal under the patch as it was.
pub fn step(
    model: &Model,
    patch: &Tensor,
    images: &Tensor,
    goal: &Goal,
    settings: &PatchSettings,
    noise: &Noise,
) -> (Tensor, f64) {
    let placements = settings.placements(noise);
    let under = |patch: &Tensor| model(&apply(images, patch, &placements));
    let objective = |logits: &Tensor| {
        let loss = scores::cross_entropy(logits, goal.classes()).sum(None::<Kind>);
        if let Goal::Towards(_) = goal { -loss } else { loss }
    };
    let (gradient, logits) = gradient_of(&under, patch, objective);
    let moved = (patch + gradient.sign() * settings.rate).clamp_(0.0, 1.0);
    let reached = goal.reached(&logits.argmax(1, false)).to_kind(Kind::Double).mean(None::<Kind>);
    (moved, reached.double_value(&[]))
}

/// A patch trained on `images` `[N, 3, H, W]` for `steps` steps of `batch` images at a time, in their
/// order, again and again. For more images than memory holds, call [`step`] with batches of one's own.
pub fn train(
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    settings: &PatchSettings,
    (steps, batch): (u32, usize),
    noise: &Noise,
) -> Tensor {
    let count = noise.keys.len();
    let taken = |step: u32| (0..batch).map(move |i| ((step as usize * batch + i) % count) as i64).collect::<Vec<_>>();
    (0..steps).fold(blank(settings, images.device()), |patch, number| {
        let rows = taken(number);
        let noise = noise.select(&rows, number.into());
        let rows = Tensor::from_slice(&rows).to_device(images.device());
        let classes = goal.classes().index_select(0, &rows);
        step(model, &patch, &images.index_select(0, &rows), &goal.with(&classes), settings, &noise).0
    })
}

/// `images` `[N, 3, H, W]` with the round `patch` `[3, side, side]` on each, as its placement says;
/// differentiable in the patch.
pub fn apply(images: &Tensor, patch: &Tensor, placements: &[Placement]) -> Tensor {
    let size = images.size();
    let count = placements.len() as i64;
    let theta: Vec<f32> = placements.iter().flat_map(|p| onto_patch(p, size[2] as f64, size[3] as f64)).collect();
    let theta = Tensor::from_slice(&theta).view([count, 2, 3]).to_device(images.device());
    let grid = Tensor::affine_grid_generator(&theta, [count, 3, size[2], size[3]], false).to_kind(images.kind());
    // Bilinear, its border repeated, so that the edge of the disc is not mixed with black.
    let laid = patch.unsqueeze(0).expand([count, -1, -1, -1], false).grid_sampler(&grid, 0, 1, false);
    let inside = grid.square().sum_dim_intlist([3].as_slice(), false, None).le(1.0).unsqueeze(1);
    laid.where_self(&inside, images)
}

/// The affine map from an image's coordinates to the patch's, both `[-1, 1]`.
fn onto_patch(placement: &Placement, height: f64, width: f64) -> [f32; 6] {
    let (sin, cos) = placement.rotation.to_radians().sin_cos();
    // In units of the shorter side, so that the patch stays round.
    let short = height.min(width) * placement.scale;
    let (across, down) = (width / short, height / short);
    let (x, y) = (2.0 * placement.centre.0 - 1.0, 2.0 * placement.centre.1 - 1.0);
    let rows = [[cos * across, -sin * down], [sin * across, cos * down]];
    let row = |[a, b]: [f64; 2]| [a, b, -(a * x + b * y)];
    let [top, bottom] = rows.map(row);
    [top[0], top[1], top[2], bottom[0], bottom[1], bottom[2]].map(|number| number as f32)
}
