//! Attacks that ask for scores alone, losses for any number of classes, and the patch.

use super::*;
use crate::attack::patch::{self, PatchSettings, Placement};

/// f32, two classes; every pixel has its own weight.
fn plane(images: &Tensor) -> Tensor {
    let slope = wave(&[48, 1], 0.9, 0.3).to_kind(Kind::Float);
    let score = images.flatten(1, -1).matmul(&slope);
    Tensor::cat(&[&score, &(-&score)], 1)
}

/// The most that the score can be moved against the label by `pixels` pixels.
fn best_pixels(images: &Tensor, labels: &Tensor, pixels: i64) -> Tensor {
    let slope = wave(&[3, 4, 4], 0.9, 0.3).to_kind(Kind::Float);
    let side = (labels.view([-1, 1, 1, 1]) * 2 - 1).to_kind(Kind::Float);
    let push = slope * side;
    let gain = (1f64 - images).where_self(&push.gt(0.0), images) * push.abs();
    gain.sum_dim_intlist([1].as_slice(), false, None).flatten(1, -1).topk(pixels, 1, true, true).0.sum_dim_intlist(
        [1].as_slice(),
        false,
        None,
    )
}

#[test]
fn one_pixel_finds_what_there_is_to_find() {
    let images = (wave(&[6, 3, 4, 4], 0.61, 0.4) * 0.5 + 0.5).to_kind(Kind::Float);
    let labels = plane(&images).argmax(1, false);
    let needed = plane(&images).select(1, 0).abs();
    let (mut found, mut possible) = (0, 0);
    for pixels in [1, 2, 3] {
        let attack = Attack::OnePixel { pixels, population: 100, generations: 30 };
        let attempt = attack.attempt(&plane, &images, &Goal::Away(&labels), 1.0, &noise(&KEYS));
        let best = best_pixels(&images, &labels, pixels.into());
        let broken = integers(&attempt.predicted.ne_tensor(&labels).to_kind(Kind::Int64));
        for (i, broken) in (0..6).zip(broken) {
            let reserve = best.double_value(&[i]) / needed.double_value(&[i]);
            assert!(broken == 0 || reserve > 1.0, "{attack} broke image {i}, which cannot be: {reserve}");
            if reserve > 1.1 {
                possible += 1;
                found += broken;
            }
        }
        assert!(largest(&Norm::L0.distance(&attempt.adversarial, &images)) <= f64::from(pixels));
    }
    assert!(possible > 3 && found >= possible - 1, "{found} of {possible}");
}

#[test]
fn square_finds_the_corner_of_the_ball_and_nothing_beyond() {
    let images = (wave(&[6, 3, 4, 4], 0.61, 0.4) * 0.3 + 0.5).to_kind(Kind::Float);
    let labels = plane(&images).argmax(1, false);
    let distance = plane(&images).select(1, 0).abs() / wave(&[48], 0.9, 0.3).abs().sum(Kind::Float);
    for i in 0..6 {
        let (image, label) = (images.narrow(0, i, 1), labels.narrow(0, i, 1));
        let breaks = |factor: f64| {
            let epsilon = factor * distance.double_value(&[i]);
            let attack = Attack::Square { queries: 2000 };
            let found = attack.attempt(&plane, &image, &Goal::Away(&label), epsilon, &noise(&KEYS[..1]));
            !found.predicted.equal(&label)
        };
        assert!(breaks(1.3) && !breaks(0.99), "image {i}");
    }
}

#[test]
fn squares_shrink_as_in_autoattack_and_within_a_small_budget() {
    let images = Tensor::zeros([1, 3, 224, 224], (Kind::Float, Device::Cpu));
    // The first query shows the stripes; the sides are those of the authors' program for its iterations 0, 10, ….
    let standard =
        [(1, 200), (11, 200), (12, 142), (52, 100), (202, 71), (502, 50), (1002, 35), (2002, 25), (4002, 18)];
    for (query, side) in standard {
        assert_eq!(square::side(&images, query, 5000), side, "{query}");
        assert_eq!(square::side(&images, query, 10_000), side, "{query}");
    }
    assert_eq!(square::side(&images, 5000, 5000), 18);
    for (query, side) in [(1, 200), (2, 100), (4, 71), (7, 50), (12, 35), (22, 25), (42, 18), (62, 13), (82, 9)] {
        assert_eq!(square::side(&images, query, 100), side, "{query}");
    }
}

#[test]
fn any_number_of_classes_will_do() {
    let images = (wave(&[6, 3, 4, 4], 0.61, 0.4) * 0.5 + 0.5).to_kind(Kind::Float);
    for classes in [2, 3, 4, 5, 10, 1000] {
        let head = wave(&[6, classes], 1.7, 0.5);
        let model = |x: &Tensor| {
            let hidden = x.flatten(1, -1).to_kind(Kind::Double).matmul(&wave(&[48, 6], 0.9, 0.3)) / 2.0;
            hidden.tanh().matmul(&head)
        };
        let labels = model(&images).argmax(1, false);
        let broken = |name: &str| {
            let attack: Attack = name.parse().unwrap();
            let epsilon = if attack.norm() == Norm::L2 { 3.0 } else { 0.4 };
            let found = attack.attempt(&model, &images, &Goal::Away(&labels), epsilon, &noise(&KEYS));
            assert!(!bool::try_from(found.adversarial.isnan().any()).unwrap(), "{attack}");
            found.predicted.ne_tensor(&labels).sum(Kind::Int64).int64_value(&[])
        };
        for name in ["apgd-ce10", "apgd-dlr10", "apgd-t10", "fab-t10", "deepfool", "cw30x5", "square50", "one-pixel1x1"]
        {
            let count = broken(name);
            assert!(name.starts_with("one-pixel") || count >= 5, "{name} with {classes} classes: {count}");
        }
        let targets = scores::runners_up(&model(&images), &labels, 9).size()[1];
        assert_eq!(targets, (classes - 1).min(9));
    }
}

#[test]
fn the_ratio_of_logits_does_not_change_with_their_scale() {
    let logits = Tensor::from_slice(&[4.0f64, 1.0, 2.5, -1.0, 0.5]).view([1, 5]);
    let (label, target) = (Tensor::from_slice(&[0i64]), Tensor::from_slice(&[1i64]));
    let goal = Goal::Away(&label);
    for scale in [1.0, 1000.0] {
        let value = |loss| apgd::value(loss, &(&logits * scale + 3.0), &goal, &target).double_value(&[0]);
        assert!((value(ApgdLoss::Dlr) + (4.0 - 2.5) / (4.0 - 1.0)).abs() < 1e-9);
        assert!((value(ApgdLoss::TargetedDlr) + (4.0 - 1.0) / (4.0 - (1.0 + 0.5) / 2.0)).abs() < 1e-9);
    }
    let narrow = |classes, loss| apgd::value(loss, &logits.narrow(1, 0, classes), &goal, &target).double_value(&[0]);
    assert_eq!(narrow(2, ApgdLoss::Dlr), narrow(2, ApgdLoss::CrossEntropy));
    assert!((narrow(3, ApgdLoss::Dlr) + 0.5).abs() < 1e-9);
}

#[test]
fn a_patch_lies_where_its_placement_says() {
    let images = Tensor::zeros([2, 3, 40, 60], (Kind::Float, Device::Cpu));
    let white = Tensor::ones([3, 16, 16], (Kind::Float, Device::Cpu));
    let place = |scale, centre| Placement { scale, rotation: 20.0, centre };
    let laid = patch::apply(&images, &white, &[place(0.5, (0.25, 0.5)), place(0.8, (0.5, 0.5))]);
    for (image, radius, (x, y)) in [(0, 10.0, (15.0, 20.0)), (1, 16.0, (30.0, 20.0))] {
        for row in 0..40i32 {
            for column in 0..60i32 {
                let away = (f64::from(column) + 0.5 - x).hypot(f64::from(row) + 0.5 - y);
                let value = laid.double_value(&[image, 1, row.into(), column.into()]);
                let expected = f64::from(away < radius);
                let fits = (away - radius).abs() < 0.1 || (value - expected).abs() < 1e-5;
                assert!(fits, "{image} {row} {column}: {value}");
            }
        }
    }
    // Unturned and as large as the image, the patch is what is seen.
    let picture = wave(&[3, 24, 24], 0.7, 0.2).to_kind(Kind::Float);
    let whole = Placement { scale: 1.0, rotation: 0.0, centre: (0.5, 0.5) };
    let laid = patch::apply(&Tensor::zeros([1, 3, 24, 24], (Kind::Float, Device::Cpu)), &picture, &[whole]);
    let middle = |x: &Tensor| x.narrow(1, 6, 12).narrow(2, 6, 12);
    assert!(largest(&(middle(&laid.get(0)) - middle(&picture))) < 1e-5);
}

#[test]
fn placements_are_drawn_by_key_and_inside_the_image() {
    let settings = PatchSettings::default();
    let many: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    let keys: Vec<&str> = many.iter().map(String::as_str).collect();
    let drawn = settings.placements(&noise(&keys));
    for place in &drawn {
        assert!((settings.scale.0..=settings.scale.1).contains(&place.scale) && place.rotation.abs() <= 22.5);
        for centre in [place.centre.0, place.centre.1] {
            assert!(centre >= place.scale / 2.0 && centre <= 1.0 - place.scale / 2.0);
        }
    }
    assert_eq!(settings.placements(&noise(&["7"])), drawn[7..8]);
    let later = Noise { round: 1, ..noise(&["7"]) };
    assert_ne!(settings.placements(&later), drawn[7..8]);
}

#[test]
fn a_patch_learns_to_mean_its_target() {
    let kernel = wave(&[5, 3, 3, 3], 1.1, 0.2).to_kind(Kind::Float);
    let model = |x: &Tensor| {
        let seen = x.conv2d(&kernel, None::<&Tensor>, [1], [1], [1], 1).relu();
        seen.mean_dim([2, 3].as_slice(), false, None)
    };
    let images = (wave(&[12, 3, 24, 24], 0.61, 0.4) * 0.5 + 0.5).to_kind(Kind::Float);
    let labels = model(&images).argmax(1, false);
    let keys: Vec<String> = (0..12).map(|i| i.to_string()).collect();
    let noise = noise(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let targets = labels.zeros_like() + (labels.int64_value(&[0]) + 1) % 5;
    let settings = PatchSettings { side: 24, scale: (0.5, 0.7), ..PatchSettings::default() };
    let score = |patch: &Tensor| {
        let later = Noise { round: 999, ..noise.clone() };
        let laid = patch::apply(&images, patch, &settings.placements(&later));
        scores::cross_entropy(&model(&laid), &targets).mean(Kind::Double).double_value(&[])
    };
    let goal = Goal::Towards(&targets);
    let trained = patch::train(&model, &images, &goal, &settings, (60, 5), &noise);
    assert!(trained.min().double_value(&[]) >= 0.0 && trained.max().double_value(&[]) <= 1.0);
    let blank = patch::blank(&settings, Device::Cpu);
    assert!(score(&trained) < score(&blank) - 0.01, "{} {}", score(&trained), score(&blank));
    assert!(trained.equal(&patch::train(&model, &images, &goal, &settings, (60, 5), &noise)));
}
