//! Every attack on networks given by formulas.

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

const ALL: [Attack; 5] = [
    Attack::FGSM,
    Attack::RsFgsm { noise: 1.0, step: 1.25 },
    Attack::NFgsm { noise: 2.0, step: 1.0 },
    Attack::pgd(5, 1),
    Attack::pgd(3, 2),
];

fn largest(tensor: &Tensor) -> f64 {
    tensor.abs().max().double_value(&[])
}

/// Three numbers that stand for images, and one for the gradient there.
fn summary(images: &Tensor, labels: &Tensor) -> Vec<f64> {
    let moved = ((images - photos(3)) * wave(&[3, 3, 4, 4], 0.11, 0.2)).flatten(1, -1).sum_dim_intlist(1, false, None);
    let (gradient, _) = gradient(&smooth, images, &Objective::CrossEntropy(labels));
    (0..3).map(|i| moved.double_value(&[i])).chain([gradient.abs().sum(Kind::Double).double_value(&[])]).collect()
}

#[test]
fn fgsm_and_pgd_agree_with_pytorch() {
    let (images, labels) = (photos(3), Tensor::from_slice(&[0i64, 2, 1]));
    let objective = Objective::CrossEntropy(&labels);
    let fgsm = fgsm::craft(&smooth, &images, &objective, 0.03, 1.0);
    let pgd = pgd::iterate(&smooth, &images, images.copy(), &objective, 0.03, 7, 2.5);
    for (ours, reference) in [
        (images, [0.0, 0.0, 0.0, 116.99231811]),
        (fgsm, [-0.069875333, -0.009648913, -0.092796683, 126.190516774]),
        (pgd, [0.01796957, 0.084912884, -0.061539696, 127.069003712]),
    ] {
        for (ours, reference) in summary(&ours, &labels).iter().zip(reference) {
            assert!((ours - reference).abs() < 1e-8, "{ours} {reference}");
        }
    }
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
    for attack in [Attack::FGSM, Attack::pgd(10, 1), Attack::RsFgsm { noise: 1.0, step: 2.0 }] {
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
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_attack_keeps_to_its_reach_and_to_the_range(epsilon in 0.0f64..=1.0, phase in 0.0f64..6.0) {
        let images = (wave(&[6, 3, 4, 4], 0.61, phase) * 0.5 + 0.5).to_kind(Kind::Float);
        let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 0, 1]);
        for attack in ALL {
            let crafted = attack.craft(&smooth, &images, &Objective::CrossEntropy(&labels), epsilon, &noise(&KEYS));
            let attempted = attack.attempt(&smooth, &images, &Goal::Away(&labels), epsilon, &noise(&KEYS)).adversarial;
            for result in [crafted, attempted] {
                prop_assert!(largest(&(&result - &images)) <= attack.reach() * epsilon + 1e-6, "{}", attack);
                prop_assert!(result.min().double_value(&[]) >= 0.0 && result.max().double_value(&[]) <= 1.0);
                prop_assert!(!bool::try_from(result.isnan().any()).unwrap());
                prop_assert!(epsilon > 0.0 || result.equal(&images));
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
fn an_image_is_attacked_alike_alone_and_in_a_batch() {
    let images = photos(6).to_kind(Kind::Float);
    let labels = smooth(&images).argmax(1, false);
    for attack in ALL {
        let all = attack.attempt(&smooth, &images, &Goal::Away(&labels), 0.05, &noise(&KEYS));
        let crafted = attack.craft(&smooth, &images, &Objective::CrossEntropy(&labels), 0.05, &noise(&KEYS));
        for i in 0..6 {
            let (image, label) = (images.narrow(0, i, 1), labels.narrow(0, i, 1));
            let key = noise(&KEYS[i as usize..][..1]);
            let alone = attack.attempt(&smooth, &image, &Goal::Away(&label), 0.05, &key);
            assert!(largest(&(alone.adversarial - all.adversarial.narrow(0, i, 1))) < 1e-5, "{attack}");
            assert!(alone.predicted.equal(&all.predicted.narrow(0, i, 1)), "{attack}");
            let alone = attack.craft(&smooth, &image, &Objective::CrossEntropy(&label), 0.05, &key);
            assert!(largest(&(alone - crafted.narrow(0, i, 1))) < 1e-5, "{attack}");
        }
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
    for attack in ALL {
        for epsilon in [0.0, 0.01, 0.05, 0.2] {
            let attempt = attack.attempt(&smooth, &images, &Goal::Away(&labels), epsilon, &noise(&KEYS));
            assert!(smooth(&attempt.adversarial).argmax(1, false).equal(&attempt.predicted), "{attack} {epsilon}");
        }
    }
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
