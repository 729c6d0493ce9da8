//! Models and attacks with a fault, measured like any other: the check for it fails, and no other.

use std::cell::Cell;

use tch::{Device, Kind, Tensor};

use super::checks::{Check, Origin, Subject, check};
use super::measure::measure;
use super::*;
use crate::attack::Model;

const CLASSES: i64 = 3;
const IMAGES: i64 = 15;
/// More than half of the distance between the brightest channel and the others.
const ENOUGH: f64 = 0.06;

/// Grey pictures of 8 × 8 pixels whose class is the channel that is brighter than the others, by 0.06 to 0.10.
fn pictures() -> Batch {
    let labels = Tensor::arange(IMAGES, (Kind::Int64, Device::Cpu)).remainder(CLASSES);
    let lead = Tensor::arange(IMAGES, (Kind::Float, Device::Cpu)).remainder(5.0) * 0.01 + 0.06;
    let channels = labels.one_hot(CLASSES).to_kind(Kind::Float) * lead.unsqueeze(1) + 0.4;
    let images = channels.view([IMAGES, CLASSES, 1, 1]).expand([IMAGES, CLASSES, 8, 8], false).contiguous();
    Batch { images, labels, keys: (0..IMAGES).map(|i| i.to_string()).collect() }
}

/// Tells the channels apart by their brightness.
fn honest(images: &Tensor) -> Tensor {
    images.mean_dim([2, 3].as_slice(), false, None) * 20.0
}

/// The same answers, but a gradient that points the other way.
fn misleading(images: &Tensor) -> Tensor {
    honest(&images.detach()) * 2.0 - honest(images)
}

fn checked(model: &Model, attacks: &[&str], epsilon: f64) -> Vec<Check> {
    let epsilon = Epsilon::new(epsilon).unwrap();
    let under = attacks.iter().map(|&attack| Condition { attack: attack.into(), epsilon });
    let conditions: Vec<Condition> =
        [Condition { attack: CLEAN.into(), epsilon: Epsilon::ZERO }].into_iter().chain(under).collect();
    let probe = Some(Probe { epsilon, images: IMAGES as usize });
    let request = Request { conditions: &conditions, seed: 9, examples: 0, probe, others: &[] };
    let mut batches = [Ok(pictures())].into_iter();
    let found = measure(model, Device::Cpu, &mut batches, &request, &|_| ()).unwrap();
    check(&Subject {
        model: "planted",
        outcomes: &found.outcomes,
        audit: Some(&found.audit),
        classes: CLASSES as usize,
        origin: Origin::Unknown,
        shown: &[],
    })
}

fn failed(model: &Model, attacks: &[&str], epsilon: f64) -> Vec<String> {
    let checks = checked(model, attacks, epsilon).into_iter();
    checks.filter(|check| !check.passed).map(|check| format!("{} ({})", check.name, check.figure)).collect()
}

/// That these checks fail, and no others.
fn assert_failed(model: &Model, attacks: &[&str], epsilon: f64, expected: &[&str]) {
    let found = failed(model, attacks, epsilon);
    let as_expected = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.starts_with(e));
    assert!(as_expected, "{attacks:?}: {found:#?}");
}

#[test]
fn a_sound_model_passes_every_check() {
    for epsilon in [0.02, ENOUGH] {
        let attacks = ["fgsm", "pgd5", "apgd-ce5", "square50"];
        let checks = checked(&honest, &attacks, epsilon);
        assert!(checks.iter().all(|check| check.passed), "{checks:#?}");
        let figure = |name: &str| checks.iter().find(|check| check.name == name).unwrap().figure.clone();
        assert!(figure("epsilon 0 equals clean").starts_with("0 of 15"));
        assert!(figure("epsilon 0.5 leaves chance at most").contains("leaves 0 of 15"));
        assert!(figure("a black-box attack breaks no more").contains("stood the gradient"));
    }
    assert_eq!(checked(&honest, &["pgd5"], ENOUGH).iter().filter(|check| check.name.contains("black-box")).count(), 0);
}

#[test]
fn a_model_that_sees_one_class_everywhere_leaves_chance_and_no_more() {
    let constant = |images: &Tensor| honest(images) * 1e-3 + Tensor::from_slice(&[5f32, 0.0, 0.0]);
    assert_failed(&constant, &["pgd5"], ENOUGH, &[]);
}

#[test]
fn a_model_without_a_gradient_is_caught() {
    let detached = |images: &Tensor| honest(&images.detach());
    let rounded = |images: &Tensor| honest(&((images * 50.0).round() / 50.0));
    let expected = ["gradients are not zero", "epsilon 0.5 leaves chance at most", "a black-box attack breaks no more"];
    for model in [&detached as &Model, &rounded] {
        assert_failed(model, &["pgd5"], ENOUGH, &expected);
        assert_failed(model, &["apgd-ce5", "apgd-t5", "square100"], ENOUGH, &expected);
    }
}

#[test]
fn a_gradient_that_misleads_is_caught_by_what_only_a_black_box_attack_breaks() {
    let expected = ["epsilon 0.5 leaves chance at most", "a black-box attack breaks no more"];
    for attacks in [&["pgd5"][..], &["apgd-ce5", "apgd-t5", "square500"], &["autoattack"]] {
        assert_failed(&misleading, attacks, 0.08, &expected);
    }
    // Its finds count although they left the probe, which goes over what nothing broke, without an image.
    let found = failed(&misleading, &["apgd-ce5", "square500"], 0.08).join(" ");
    assert!(found.contains("15 of 15 images that stood the gradient at 0.08 fell"), "{found}");
}

#[test]
fn an_attack_that_leaves_its_ball_is_caught() {
    assert_failed(&honest, &["pgd5", "n-fgsm"], 0.02, &["perturbations stay within epsilon"]);
}

#[test]
fn a_model_that_answers_otherwise_each_time_is_caught() {
    let noisy = |images: &Tensor| {
        let logits = honest(images);
        &logits + logits.randn_like() * 0.01
    };
    assert_failed(&noisy, &["pgd5"], 0.02, &["logits are deterministic"]);
    let asked = Cell::new(false);
    let right_once = |images: &Tensor| honest(images).roll([i64::from(asked.replace(true))], [1]);
    assert_failed(&right_once, &["pgd5"], 0.02, &["logits are deterministic", "epsilon 0 equals clean"]);
}
