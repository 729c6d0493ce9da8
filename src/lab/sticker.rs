//! A printable patch: trained on some photos, laid on others, and measured on those as it was saved.
//! Brown et al., "Adversarial patch", 2017, <https://arxiv.org/abs/1712.09665>; see `attack/patch.rs`.

use image::{Rgba, RgbaImage};
use serde::Serialize;
use tch::{Kind as Type, Tensor};

use super::Class;
use crate::attack::patch::{self, PatchSettings};
use crate::attack::{Goal, Noise, channels_last, integers, predict};
use crate::model::Classifier;
use crate::model::images::{pictures, tensor};
use crate::outcome::Count;
use crate::seed::Purpose;

/// What a patch is trained with.
#[derive(Debug, Clone)]
pub struct Order {
    /// The class that everything under it is to be taken for.
    pub target: usize,
    /// How it is laid on images.
    pub settings: PatchSettings,
    /// Steps.
    pub steps: u32,
    /// Images in a step.
    pub batch: usize,
    /// Of the placements.
    pub seed: u64,
}

/// Photos at the network's size.
#[derive(Debug, Default)]
pub struct Photos {
    /// Their names.
    pub keys: Vec<String>,
    /// Their pixels.
    pub views: Vec<image::RgbImage>,
}

/// What a patch does to photos that it was not trained on.
#[derive(Debug, Clone, Serialize)]
pub struct Success {
    /// The class aimed at.
    pub target: Class,
    /// Photos, none of which the model took for the target before.
    pub photos: u64,
    /// Of these, photos taken for it under the patch.
    pub reached: u64,
    /// Of these, photos no longer taken for what they were, under the patch.
    pub changed: u64,
    /// The same under a grey disc of the same size at the same place: what hiding a part does by itself.
    pub changed_by_grey: u64,
    /// 95 % Wilson interval of `reached / photos`.
    pub interval: (f64, f64),
}

/// A trained patch.
#[derive(Debug)]
pub struct Sticker {
    /// 8 bits a channel; transparent around the disc.
    pub picture: RgbaImage,
    /// On the photos that were kept for it.
    pub success: Success,
    /// Some of these with the patch on them.
    pub examples: Vec<image::RgbImage>,
}

/// Drops the photos that the model takes for `target` already.
pub fn without_target(model: &Classifier, photos: Photos, target: usize, batch: usize) -> Photos {
    let mut kept = Photos::default();
    let seen = photos.views.chunks(batch).flat_map(|part| classes(model, &images(model, part))).collect::<Vec<_>>();
    for ((key, view), class) in photos.keys.into_iter().zip(photos.views).zip(seen) {
        if class as usize != target {
            kept.keys.push(key);
            kept.views.push(view);
        }
    }
    kept
}

/// Trains a patch on `train` and measures it on `kept`; shows the latter with it, `examples` of them. `step` hears of
/// each step the share of its images that reached the target.
pub fn make(
    model: &Classifier,
    train: &Photos,
    kept: &Photos,
    order: &Order,
    class: Class,
    examples: usize,
    step: &dyn Fn(f64),
) -> Sticker {
    let logits = |x: &Tensor| model.logits(x);
    let mut made = patch::blank(&order.settings, model.device());
    for number in 0..order.steps {
        let rows = (0..order.batch).map(|i| (number as usize * order.batch + i) % train.views.len());
        let rows: Vec<usize> = rows.collect();
        let images = images(model, rows.iter().map(|&i| &train.views[i]));
        let keys = rows.iter().map(|&i| train.keys[i].as_str()).collect();
        let noise = Noise { seed: order.seed, purpose: Purpose::Attack, round: number.into(), keys };
        let targets = targets(rows.len(), order.target, model);
        let (moved, reached) = patch::step(&logits, &made, &images, &Goal::Towards(&targets), &order.settings, &noise);
        made = moved;
        step(reached);
    }
    // What is measured is what is saved: whole levels.
    let flat = pictures(&made.unsqueeze(0)).remove(0);
    let saved = tensor([&flat]).to_device(model.device()).squeeze_dim(0);
    let grey = patch::blank(&order.settings, model.device());
    let mut shown = Vec::new();
    let (mut reached, mut changed, mut by_grey) = (0, 0, 0);
    let chunks = kept.views.chunks(order.batch).zip(kept.keys.chunks(order.batch));
    for (views, keys) in chunks {
        let clean = images(model, views);
        let keys = keys.iter().map(String::as_str).collect();
        let noise = Noise { seed: order.seed, purpose: Purpose::Attack, round: order.steps.into(), keys };
        let places = order.settings.placements(&noise);
        let under = patch::apply(&clean, &saved, &places);
        let before = classes(model, &clean);
        let differ = |seen: &[i64]| seen.iter().zip(&before).filter(|(a, b)| a != b).count() as u64;
        let seen = classes(model, &under);
        reached += seen.iter().filter(|&&class| class as usize == order.target).count() as u64;
        changed += differ(&seen);
        by_grey += differ(&classes(model, &patch::apply(&clean, &grey, &places)));
        let places = examples.saturating_sub(shown.len());
        shown.extend(pictures(&under).into_iter().take(places));
    }
    let count = Count { correct: reached, n: kept.views.len() as u64 };
    let success = Success {
        target: class,
        photos: count.n,
        reached,
        changed,
        changed_by_grey: by_grey,
        interval: count.wilson(),
    };
    Sticker { picture: disc(&flat), success, examples: shown }
}

fn images<'a>(model: &Classifier, views: impl IntoIterator<Item = &'a image::RgbImage>) -> Tensor {
    channels_last(&tensor(views).to_device(model.device()))
}

fn classes(model: &Classifier, images: &Tensor) -> Vec<i64> {
    integers(&predict(&|x: &Tensor| model.logits(x), images))
}

fn targets(count: usize, target: usize, model: &Classifier) -> Tensor {
    Tensor::full([count as i64], target as i64, (Type::Int64, model.device()))
}

/// The square `patch` with what lies outside its disc made transparent.
fn disc(patch: &image::RgbImage) -> RgbaImage {
    let middle = f64::from(patch.width()) / 2.0;
    RgbaImage::from_fn(patch.width(), patch.height(), |x, y| {
        let (across, down) = (f64::from(x) + 0.5 - middle, f64::from(y) + 0.5 - middle);
        let [red, green, blue] = patch.get_pixel(x, y).0;
        let inside = across.hypot(down) <= middle;
        Rgba([red, green, blue, if inside { u8::MAX } else { 0 }])
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::train::tests::{settings, stripes, trained};

    #[test]
    fn a_patch_of_stripes_is_taken_for_stripes_and_comes_out_the_same_again() {
        let (mut train, _) = settings();
        train.rate = 2e-3;
        let model: Classifier = trained(8, &train, None).0.into();
        let photos = |from: i64| {
            let batch = stripes(from, 24);
            Photos { keys: batch.keys, views: pictures(&batch.images) }
        };
        let side = photos(0).views[0].width();
        let order = Order {
            target: 1,
            settings: PatchSettings { side, scale: (0.6, 0.9), ..PatchSettings::default() },
            steps: 20,
            batch: 8,
            seed: 3,
        };
        let class = || Class { index: 1, name: "one".into() };
        let train = without_target(&model, photos(0), 1, 8);
        let kept = without_target(&model, photos(500), 1, 8);
        let make = || make(&model, &train, &kept, &order, class(), 3, &|_| ());
        let (first, again) = (make(), make());
        assert!(first.success.photos > 0 && first.success.photos < 24, "those of the target are left out");
        assert!(first.success.reached * 2 > first.success.photos, "{:?}", first.success);
        assert_eq!((first.examples.len(), first.picture.get_pixel(0, 0).0[3]), (3, 0));
        assert_eq!(first.picture, again.picture);
    }
}
