//! What holds for every attack, on networks given by formulas.

mod nearest;
mod reference;
mod scored;

use super::*;
use crate::seed::Purpose;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// sin(a i + b) for i = 0, 1, …, as in tests/python/attack_reference.py.
fn wave(shape: &[i64], a: f64, b: f64) -> Tensor {
    let count = shape.iter().product::<i64>();
    ((Tensor::arange(count, (Kind::Double, Device::Cpu)) * a + b).sin()).view(shape)
}

fn photos(count: i64) -> Tensor {
    wave(&[count, 3, 4, 4], 0.37, 0.1) * 0.5 + 0.5
}

/// Two layers with tanh between them, 4 classes, f64.
fn smooth(images: &Tensor) -> Tensor {
    let hidden = images.flatten(1, -1).to_kind(Kind::Double).matmul(&wave(&[48, 6], 0.9, 0.3)) / 2.0;
    hidden.tanh().matmul(&wave(&[6, 4], 1.7, 0.5))
}

fn noise<'a>(keys: &[&'a str]) -> Noise<'a> {
    Noise { seed: 1, purpose: Purpose::Attack, round: 0, keys: keys.to_vec() }
}

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// All that are used on their own, with few steps.
const ALL: [Attack; 19] = [
    Attack::RandomSign { draws: 2 },
    Attack::FixedPixel,
    Attack::FGSM,
    Attack::RS_FGSM,
    Attack::N_FGSM,
    Attack::BIM,
    Attack::Bim { steps: 4 },
    Attack::MiFgsm { steps: 4, decay: 1.0 },
    Attack::pgd(5, 1),
    Attack::pgd(3, 2),
    Attack::Apgd { loss: ApgdLoss::CrossEntropy, steps: 10, restarts: 2 },
    Attack::Apgd { loss: ApgdLoss::Dlr, steps: 10, restarts: 1 },
    Attack::Apgd { loss: ApgdLoss::TargetedDlr, steps: 10, restarts: 1 },
    Attack::DEEPFOOL,
    Attack::CarliniWagner { steps: 30, searches: 3 },
    Attack::Fab { steps: 8, restarts: 1 },
    Attack::Fab { steps: 8, restarts: 2 },
    Attack::Square { queries: 60 },
    Attack::OnePixel { pixels: 2, population: 8, generations: 4 },
];

fn largest(tensor: &Tensor) -> f64 {
    tensor.abs().max().double_value(&[])
}

#[test]
fn on_a_linear_model_one_corner_of_the_ball_is_the_answer() {
    let slope = wave(&[48, 1], 0.9, 0.3).to_kind(Kind::Float);
    let linear = |x: &Tensor| {
        let score = x.flatten(1, -1).matmul(&slope);
        Tensor::cat(&[&score, &(-&score)], 1)
    };
    let images = photos(6).to_kind(Kind::Float);
    let labels = Tensor::from_slice(&[0i64, 1, 0, 1, 0, 1]);
    let side = (labels.view([6, 1, 1, 1]) * 2 - 1).to_kind(Kind::Float);
    let corner = (&images + slope.view([1, 3, 4, 4]).sign() * side * 0.05).clamp(0.0, 1.0);
    for attack in [Attack::FGSM, Attack::pgd(10, 1), Attack::RsFgsm { noise: 1.0, step: 2.0 }, Attack::Bim { steps: 3 }]
    {
        let crafted = attack.craft(&linear, &images, &Objective::CrossEntropy(&labels), 0.05, &noise(&KEYS));
        assert!(largest(&(crafted - &corner)) < 1e-6, "{attack}");
    }
}

#[test]
fn pixels_without_a_gradient_are_left_alone() {
    let blind = |x: &Tensor| x.narrow(2, 0, 1).flatten(1, -1).narrow(1, 0, 4).to_kind(Kind::Double);
    let (images, labels) = (photos(2), Tensor::from_slice(&[0i64, 1]));
    let crafted = Attack::FGSM.craft(&blind, &images, &Objective::CrossEntropy(&labels), 0.1, &noise(&KEYS[..2]));
    assert!(crafted.narrow(2, 1, 3).equal(&images.narrow(2, 1, 3)));
    assert!(!crafted.equal(&images));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn every_attack_keeps_to_its_reach_and_to_the_range(epsilon in 0.0f64..=1.0, phase in 0.0f64..6.0) {
        let images = (wave(&[6, 3, 4, 4], 0.61, phase) * 0.5 + 0.5).to_kind(Kind::Float);
        let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 0, 1]);
        for attack in ALL {
            let crafted = attack.craft(&smooth, &images, &Objective::CrossEntropy(&labels), epsilon, &noise(&KEYS));
            let away = attack.attempt(&smooth, &images, &Goal::Away(&labels), epsilon, &noise(&KEYS)).adversarial;
            let towards = attack.attempt(&smooth, &images, &Goal::Towards(&labels), epsilon, &noise(&KEYS)).adversarial;
            for result in [crafted, away, towards] {
                prop_assert!(largest(&(&result - &images)) <= attack.reach() * epsilon + 1e-6, "{}", attack);
                prop_assert!(result.min().double_value(&[]) >= 0.0 && result.max().double_value(&[]) <= 1.0);
                prop_assert!(!bool::try_from(result.isnan().any()).unwrap(), "{}", attack);
                prop_assert!(epsilon > 0.0 || result.equal(&images));
                let size = largest(&attack.norm().distance(&result, &images));
                match attack {
                    Attack::OnePixel { pixels, .. } => prop_assert!(size <= f64::from(pixels), "{}", attack),
                    Attack::FixedPixel => prop_assert!(size <= 1.0),
                    _ => prop_assert!(size <= attack.reach() * epsilon + 1e-6, "{}: {} {}", attack, size, epsilon),
                }
            }
        }
    }
}

#[test]
fn n_fgsm_leaves_the_ball_and_stays_within_three_epsilon() {
    let images = Tensor::full([6, 3, 4, 4], 0.5, (Kind::Float, Device::Cpu));
    let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 0, 1]);
    let attack: Attack = "n-fgsm".parse().unwrap();
    let crafted = attack.craft(&smooth, &images, &Objective::CrossEntropy(&labels), 0.05, &noise(&KEYS));
    let distance = largest(&(crafted - images));
    assert_eq!(attack.reach(), 3.0);
    assert!(distance > 2.0 * 0.05 && distance <= 3.0 * 0.05 + 1e-6, "{distance}");
}

#[test]
fn an_image_is_attacked_alike_alone_in_a_batch_and_in_another_order() {
    let images = photos(6).to_kind(Kind::Float);
    let labels = smooth(&images).argmax(1, false);
    let turned = Tensor::from_slice(&[5i64, 4, 3, 2, 1, 0]);
    let keys: Vec<&str> = KEYS.iter().rev().copied().collect();
    for attack in ALL {
        // Small enough that some stand.
        for epsilon in [0.004, 0.05] {
            let all = attack.attempt(&smooth, &images, &Goal::Away(&labels), epsilon, &noise(&KEYS));
            let (others, known) = (images.index_select(0, &turned), labels.index_select(0, &turned));
            let back = attack.attempt(&smooth, &others, &Goal::Away(&known), epsilon, &noise(&keys));
            assert!(back.predicted.index_select(0, &turned).equal(&all.predicted), "{attack}");
            let crafted = attack.craft(&smooth, &images, &Objective::CrossEntropy(&labels), epsilon, &noise(&KEYS));
            for i in 0..6 {
                let (image, label) = (images.narrow(0, i, 1), labels.narrow(0, i, 1));
                let key = noise(&KEYS[i as usize..][..1]);
                let alone = attack.attempt(&smooth, &image, &Goal::Away(&label), epsilon, &key);
                assert!(largest(&(alone.adversarial - all.adversarial.narrow(0, i, 1))) < 1e-5, "{attack}");
                assert!(largest(&(back.adversarial.get(5 - i) - all.adversarial.get(i))) < 1e-5, "{attack}");
                assert!(alone.predicted.equal(&all.predicted.narrow(0, i, 1)), "{attack}");
                let alone = attack.craft(&smooth, &image, &Objective::CrossEntropy(&label), epsilon, &key);
                assert!(largest(&(alone - crafted.narrow(0, i, 1))) < 1e-5, "{attack}");
            }
        }
    }
}

#[test]
fn no_images_are_no_trouble() {
    let (images, labels) = (photos(1).narrow(0, 0, 0), Tensor::from_slice::<i64>(&[]));
    for attack in ALL {
        let attempt = attack.attempt(&smooth, &images, &Goal::Away(&labels), 0.1, &noise(&[]));
        assert_eq!((attempt.adversarial.size(), attempt.predicted.size()), (vec![0, 3, 4, 4], vec![0]));
    }
}

#[test]
fn the_same_attack_gives_the_same_bits() {
    let images = photos(6).to_kind(Kind::Float);
    let labels = smooth(&images).argmax(1, false);
    for attack in ALL {
        let once = attack.attempt(&smooth, &images, &Goal::Away(&labels), 0.05, &noise(&KEYS)).adversarial;
        assert!(once.equal(&attack.attempt(&smooth, &images, &Goal::Away(&labels), 0.05, &noise(&KEYS)).adversarial));
    }
}

#[test]
fn the_image_returned_is_the_one_that_broke() {
    let images = photos(6).to_kind(Kind::Float);
    let labels = smooth(&images).argmax(1, false);
    let targets = (&labels + 1i64).remainder(4);
    for attack in ALL {
        for epsilon in [0.0, 0.01, 0.05, 0.2] {
            for goal in [Goal::Away(&labels), Goal::Towards(&targets)] {
                let attempt = attack.attempt(&smooth, &images, &goal, epsilon, &noise(&KEYS));
                let seen = smooth(&attempt.adversarial).argmax(1, false);
                assert!(seen.equal(&attempt.predicted), "{attack} {epsilon} {goal:?}: {seen} {}", attempt.predicted);
            }
        }
    }
}

#[test]
fn targets_are_reached_where_the_budget_is_large() {
    let images = photos(6).to_kind(Kind::Float);
    let targets = (smooth(&images).argmax(1, false) + 1i64).remainder(4);
    for name in ["bim20", "mi-fgsm20", "pgd20", "apgd-ce30", "apgd-dlr30", "apgd-t30", "fab-t30", "cw200x6", "deepfool"]
    {
        let attack: Attack = name.parse().unwrap();
        let epsilon = if attack.norm() == Norm::L2 { 2.0 } else { 0.5 };
        let attempt = attack.attempt(&smooth, &images, &Goal::Towards(&targets), epsilon, &noise(&KEYS));
        assert!(attempt.predicted.equal(&targets), "{attack}: {} {targets}", attempt.predicted);
    }
}

#[test]
fn a_series_goes_on_with_what_is_left() {
    let images = photos(6).to_kind(Kind::Float);
    let labels = smooth(&images).argmax(1, false);
    let goal = Goal::Away(&labels);
    for epsilon in [0.002, 0.006, 0.02] {
        let shown = std::cell::Cell::new(0);
        let counted = |x: &Tensor| {
            shown.set(shown.get() + x.size()[0]);
            smooth(x)
        };
        let attacks = [Attack::FGSM, Attack::pgd(10, 2), Attack::Square { queries: 50 }];
        let broken: Vec<Vec<bool>> = attacks
            .iter()
            .map(|attack| {
                let found = attack.attempt(&smooth, &images, &goal, epsilon, &noise(&KEYS)).predicted;
                integers(&goal.reached(&found).to_kind(Kind::Int64)).into_iter().map(|b| b != 0).collect()
            })
            .collect();
        let first = |image: usize| (0..3).find(|&attack| broken[attack][image]);
        let (attempt, by) = series(&attacks, &counted, &images, &goal, epsilon, &noise(&KEYS));
        assert_eq!(by, (0..6).map(first).collect::<Vec<_>>(), "{epsilon}");
        let reached = integers(&goal.reached(&attempt.predicted).to_kind(Kind::Int64));
        assert!(reached.iter().zip(&by).all(|(&reached, by)| (reached != 0) == by.is_some()));
        let left = by.iter().filter(|by| **by != Some(0)).count() as i64;
        assert!(shown.get() <= 12 + left * (22 + 51), "{} for {left}", shown.get());
    }
    let standard = Attack::AutoAttack.attempt(&smooth, &images, &goal, 0.01, &noise(&KEYS));
    let (whole, _) = series(&Attack::AUTO_ATTACK, &smooth, &images, &goal, 0.01, &noise(&KEYS));
    assert!(standard.adversarial.equal(&whole.adversarial));
}

#[test]
fn what_is_crafted_on_one_model_is_tried_on_another() {
    let images = photos(6).to_kind(Kind::Float);
    let labels = smooth(&images).argmax(1, false);
    let victim = |x: &Tensor| smooth(x) + x.mean(Kind::Double) * 0.0 + wave(&[1, 4], 2.0, 0.1) * 0.05;
    let (goal, attack) = (Goal::Away(&labels), Attack::pgd(10, 1));
    let crafted = attack.craft(&smooth, &images, &goal.objective(), 0.03, &noise(&KEYS));
    let asked = attack.transfer(&smooth, &victim, &images, &goal, 0.03, &noise(&KEYS));
    assert!(asked.adversarial.equal(&crafted));
    assert!(asked.predicted.equal(&victim(&crafted).argmax(1, false)));
}

#[test]
fn images_for_another_model_go_beyond_the_boundary_where_the_attack_can() {
    let images = photos(6).to_kind(Kind::Float);
    let labels = smooth(&images).argmax(1, false);
    let goal = Goal::Away(&labels);
    for (name, climbs) in
        [("apgd-ce20", true), ("apgd-dlr20", true), ("square100", true), ("autoattack", true), ("fab-t10", false)]
    {
        let attack: Attack = name.parse().unwrap();
        let value = |adversarial: &Tensor| match name {
            "apgd-dlr20" => apgd::value(ApgdLoss::Dlr, &smooth(adversarial), &goal, &labels),
            "square100" => -scores::margin(&smooth(adversarial), &goal),
            _ => scores::cross_entropy(&smooth(adversarial), &labels),
        };
        let first = attack.stages()[0].attempt(&smooth, &images, &goal, 0.05, &noise(&KEYS));
        assert!(goal.reached(&first.predicted).any().int64_value(&[]) != 0, "{name} breaks some");
        let shown = attack.transfer(&smooth, &smooth, &images, &goal, 0.05, &noise(&KEYS));
        let further = value(&shown.adversarial) - value(&first.adversarial);
        assert!(further.min().double_value(&[]) > -1e-6, "{name}: {further}");
        assert_eq!(further.max().double_value(&[]) > 1e-3, climbs, "{name}: {further}");
    }
}

#[test]
fn a_model_without_a_gradient_can_be_asked_but_not_followed() {
    let images = photos(6).to_kind(Kind::Float);
    let labels = smooth(&images).argmax(1, false);
    let hidden = |x: &Tensor| smooth(&x.detach());
    for attack in ALL {
        let run = |model: &Model| attack.attempt(model, &images, &Goal::Away(&labels), 0.2, &noise(&KEYS));
        let (open, hidden) = (run(&smooth), run(&hidden));
        if !attack.follows_gradient() {
            assert!(open.adversarial.equal(&hidden.adversarial), "{attack}");
        }
    }
    let (slope, _) = gradient(&hidden, &images, &Objective::CrossEntropy(&labels));
    assert_eq!(largest(&slope), 0.0);
}

#[test]
fn more_restarts_break_no_fewer_images() {
    let images = photos(6).to_kind(Kind::Float);
    let labels = smooth(&images).argmax(1, false);
    for epsilon in [0.005, 0.01, 0.02, 0.03] {
        let broken = |restarts| {
            let attempt =
                Attack::pgd(2, restarts).attempt(&smooth, &images, &Goal::Away(&labels), epsilon, &noise(&KEYS));
            attempt.predicted.ne_tensor(&labels)
        };
        let (one, three) = (broken(1), broken(3));
        assert!(one.logical_and(&three).equal(&one), "{epsilon}");
    }
}

#[test]
fn divergence_is_zero_where_it_starts_and_has_a_gradient_beside_it() {
    let images = photos(2);
    let clean = smooth(&images).log_softmax(-1, Kind::Double);
    let objective = Objective::Divergence(&clean);
    let slope = |x: &Tensor| gradient(&smooth, x, &objective).0.abs().max().double_value(&[]);
    assert!(slope(&images) < 1e-12);
    assert!(slope(&(&images + wave(&[2, 3, 4, 4], 1.3, 0.0) * 0.01)) > 1e-4);
}
