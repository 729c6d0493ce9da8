//! Attacks that seek the least change.

use super::*;

const SEEKERS: [Attack; 3] =
    [Attack::DEEPFOOL, Attack::CarliniWagner { steps: 300, searches: 9 }, Attack::Fab { steps: 30, restarts: 1 }];

/// f64 logits ±score of a linear function, whose boundary is known.
fn linear(images: &Tensor) -> Tensor {
    let score = images.flatten(1, -1).to_kind(Kind::Double).matmul(&wave(&[48, 1], 0.9, 0.3)) - 2.0;
    Tensor::cat(&[&score, &(-&score)], 1)
}

/// Images in the middle of the range, so that it does not matter.
fn grey() -> Tensor {
    wave(&[6, 3, 4, 4], 0.61, 0.4) * 0.1 + 0.5
}

#[test]
fn on_a_linear_model_the_nearest_image_is_known() {
    let (images, slope) = (grey(), wave(&[48], 0.9, 0.3));
    let score = linear(&images).select(1, 0);
    let labels = linear(&images).argmax(1, false);
    for attack in SEEKERS {
        let length = match attack.norm() {
            Norm::L2 => slope.norm(),
            _ => slope.abs().sum(Kind::Double),
        };
        let found = attack.attempt(&linear, &images, &Goal::Away(&labels), f64::INFINITY, &noise(&KEYS));
        assert!(found.predicted.ne_tensor(&labels).all().int64_value(&[]) != 0, "{attack}");
        let ratio = attack.norm().distance(&found.adversarial, &images) / (score.abs() / length);
        let (least, most) = (ratio.min().double_value(&[]), ratio.max().double_value(&[]));
        assert!(least > 0.999 && most < 1.05, "{attack}: {ratio}");
    }
}

#[test]
fn what_they_find_is_nearer_than_one_step_along_the_gradient() {
    let images = photos(6);
    let labels = smooth(&images).argmax(1, false);
    let (slope, _) = gradient(&smooth, &images, &Objective::CrossEntropy(&labels));
    for attack in SEEKERS {
        let direction = match attack.norm() {
            Norm::L2 => slope.shallow_clone(),
            _ => slope.sign(),
        };
        let unit = &direction / attack.norm().distance(&direction, &direction.zeros_like()).view([6, 1, 1, 1]);
        let found = attack.attempt(&smooth, &images, &Goal::Away(&labels), f64::INFINITY, &noise(&KEYS));
        let ours = attack.norm().distance(&found.adversarial, &images);
        for i in 0..6 {
            let along = |k: i64| (images.narrow(0, i, 1) + unit.narrow(0, i, 1) * (k as f64 * 1e-3)).clamp(0.0, 1.0);
            let breaks = |&k: &i64| smooth(&along(k)).argmax(1, false).int64_value(&[0]) != labels.int64_value(&[i]);
            let naive = (1..5000).find(breaks).map_or(f64::INFINITY, |k| k as f64 * 1e-3);
            let distance = ours.double_value(&[i]);
            assert!(distance > 0.0 && distance <= 1.02 * naive, "{attack}, image {i}: {distance} {naive}");
        }
    }
}

#[test]
fn an_image_whose_nearest_lies_beyond_the_budget_stands() {
    let (images, slope) = (grey(), wave(&[48], 0.9, 0.3));
    let labels = linear(&images).argmax(1, false);
    let score = linear(&images).select(1, 0).abs();
    for attack in SEEKERS {
        let length = match attack.norm() {
            Norm::L2 => slope.norm(),
            _ => slope.abs().sum(Kind::Double),
        };
        let distance = &score / length;
        let middle = distance.median().double_value(&[]) * 1.1;
        let found = attack.attempt(&linear, &images, &Goal::Away(&labels), middle, &noise(&KEYS));
        let within = distance.lt(middle / 1.06);
        let beyond = distance.gt(middle);
        let broken = found.predicted.ne_tensor(&labels);
        assert!(within.logical_and(&broken.logical_not()).any().int64_value(&[]) == 0, "{attack}");
        assert!(beyond.logical_and(&broken).any().int64_value(&[]) == 0, "{attack}");
        for i in integers(&positions(&broken.logical_not())) {
            assert!(found.adversarial.get(i).equal(&images.get(i)), "{attack}");
        }
    }
}

proptest! {
    #[test]
    fn a_plane_is_reached_by_the_least_change(phase in 0.0f64..6.0, share in -1.2f64..1.2) {
        let images = wave(&[1, 3, 4, 4], 0.61, phase) * 0.5 + 0.5;
        let slope = wave(&[1, 3, 4, 4], 1.3, 2.0 * phase);
        // Between nothing and more than the range allows.
        let room = if share > 0.0 { (1f64 - &images).where_self(&slope.gt(0.0), &images) } else {
            images.where_self(&slope.gt(0.0), &(1f64 - &images))
        };
        let most = (slope.abs() * &room).sum(Kind::Double).double_value(&[]);
        let gain = Tensor::from_slice(&[share * most]);
        let way = fab::to_plane(&images, &slope, &gain);
        let reached = (&way * &slope).sum(Kind::Double).double_value(&[]);
        prop_assert!((reached - share.clamp(-1.0, 1.0) * most).abs() < 1e-5 * most.max(1e-3), "{reached} {share} {most}");
        let moved = &images + &way;
        prop_assert!(moved.min().double_value(&[]) >= -1e-12 && moved.max().double_value(&[]) <= 1.0 + 1e-12);
        // Bisection knows the radius too.
        let gained = |radius: f64| (slope.abs() * room.clamp_max(radius)).sum(Kind::Double).double_value(&[]);
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if gained(middle) < share.abs() * most { low = middle } else { high = middle }
        }
        if share.abs() < 0.999 {
            prop_assert!((largest(&way) - high).abs() < 1e-5, "{} {high}", largest(&way));
        }
    }
}
