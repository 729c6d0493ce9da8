//! Measuring a small network on pictures of stripes.

use super::*;
use crate::error::Kind as ErrorKind;
use crate::model::Classifier;
use crate::outcome::Outcomes;
use crate::train::tests::{network, settings, stripes, trained};

fn epsilon(levels: f64) -> Epsilon {
    Epsilon::new(levels / 255.0).unwrap()
}

fn conditions_of(attacks: &[(&str, f64)]) -> Vec<Condition> {
    let under = attacks.iter().map(|&(attack, levels)| Condition { attack: attack.into(), epsilon: epsilon(levels) });
    [Condition { attack: CLEAN.into(), epsilon: Epsilon::ZERO }].into_iter().chain(under).collect()
}

fn batches(size: i64) -> impl Iterator<Item = Result<Batch>> {
    (0..48 / size).map(move |i| {
        let batch = stripes(100 + i * size, size);
        Ok(Batch { images: batch.images, labels: batch.labels, keys: batch.keys })
    })
}

fn measure(network: &Classifier, size: i64, conditions: &[Condition], examples: usize) -> Measured {
    let request = Request { conditions, seed: 9, examples, probe: None, others: &[] };
    shard(network, &mut batches(size), &request, &|_| ()).unwrap()
}

/// A network that is right about most pictures and easily misled.
fn fragile() -> Classifier {
    let (mut train, _) = settings();
    train.rate = 2e-3;
    trained(8, &train, None).0.into()
}

#[test]
fn an_attack_only_ever_takes_away() {
    let network = fragile();
    let conditions =
        conditions_of(&[("fgsm", 0.0), ("pgd5", 0.0), ("fgsm", 4.0), ("pgd5", 4.0), ("pgd5x3", 4.0), ("pgd5", 32.0)]);
    let Measured { outcomes, audit, .. } = measure(&network, 16, &conditions, 0);
    let correct: Vec<u64> = (0..conditions.len()).map(|i| outcomes.count(i).correct).collect();
    assert!(correct[0] > 32, "the network has learned: {correct:?}");
    assert_eq!(correct[0], correct[1]);
    assert_eq!(correct[0], correct[2]);
    assert!(correct[3] <= correct[0] && correct[5] <= correct[4] && correct[6] < correct[0] / 2, "{correct:?}");
    for image in &outcomes.images {
        if image.predicted[0] != image.label {
            assert!(image.predicted.iter().all(|p| *p == image.predicted[0]), "not attacked: {image:?}");
        }
    }
    assert!(audit.excess < 1e-6 && audit.invalid == 0 && audit.unsteady == 0, "{audit:?}");
    assert_eq!((audit.gradients, audit.attacked), (correct[0], 6 * correct[0]));
}

#[test]
fn outcomes_do_not_depend_on_the_batches() {
    let network = fragile();
    let conditions = conditions_of(&[("fgsm", 4.0), ("pgd5", 4.0)]);
    let (large, small) =
        (measure(&network, 48, &conditions, 0).outcomes, measure(&network, 6, &conditions, 0).outcomes);
    let keys = |outcomes: &Outcomes| outcomes.images.iter().map(|i| i.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&large), keys(&small));
    // Rounding differs with the batch size; an image on the very edge may fall to the other side.
    let other = large.images.iter().zip(&small.images).filter(|(a, b)| a.predicted != b.predicted).count();
    assert!(other <= 1, "{other} images");
    assert_eq!(large, measure(&network, 48, &conditions, 0).outcomes, "the same batches give the same outcomes");
}

#[test]
fn examples_are_broken_pictures_of_every_class_within_their_budget() {
    let conditions = conditions_of(&[("fgsm", 8.0), ("pgd5", 16.0)]);
    let examples = measure(&fragile(), 16, &conditions, 6).examples;
    assert!(!examples.is_empty() && examples.len() <= 6);
    for example in &examples {
        assert_eq!(example.before.0, example.label);
        assert_ne!(example.after.0, example.label);
        assert!((0.0..=1.0).contains(&example.before.1) && (0.0..=1.0).contains(&example.after.1));
        let pairs = example.original.as_raw().iter().zip(example.adversarial.as_raw());
        let furthest = pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(furthest > 0 && furthest <= example.epsilon.levels(), "{furthest}");
        assert_eq!(examples.iter().filter(|other| other.key == example.key).count(), 1);
        assert!(examples.iter().filter(|other| other.label == example.label).count() <= 2);
        assert!(examples.iter().filter(|other| other.attack == example.attack).count() <= 3);
    }
}

#[test]
fn progress_goes_up_to_the_number_of_images() {
    let seen = std::cell::RefCell::new(Vec::new());
    let note = |images| seen.borrow_mut().push(images);
    let conditions = conditions_of(&[("fgsm", 1.0)]);
    let request = Request { conditions: &conditions, seed: 9, examples: 0, probe: None, others: &[] };
    shard(&network().into(), &mut batches(24), &request, &note).unwrap();
    assert!(seen.borrow().is_sorted());
    assert_eq!(seen.borrow().last(), Some(&48));
}

#[test]
fn conditions_are_every_attack_at_every_budget_once() {
    let mut settings = EvaluateSettings {
        attacks: vec!["fgsm".into(), "pgd-20".into(), "pgd20".into()],
        epsilons: vec![epsilon(2.0), epsilon(4.0)],
        batch: 8,
        static_epsilon: Epsilon::ZERO,
        keep_images: false,
        examples: 0,
        probes: 10,
        beside: Vec::new(),
    };
    let expected = conditions_of(&[("fgsm", 2.0), ("fgsm", 4.0), ("pgd20", 2.0), ("pgd20", 4.0)]);
    assert_eq!(conditions(&settings).unwrap(), expected);

    let probe = |against: f64, shards| probe(&settings, epsilon(against), shards).unwrap();
    assert_eq!(probe(2.0, 4), Probe { epsilon: epsilon(2.0), images: 3 });
    assert_eq!(probe(3.0, 1), Probe { epsilon: epsilon(4.0), images: 10 });
    let foremost = |levels: &[f64]| {
        let budgets: Vec<Epsilon> = levels.iter().map(|&l| epsilon(l)).collect();
        foremost(&budgets, epsilon(3.0)).map(|found| found.value() * 255.0)
    };
    assert_eq!(foremost(&[1.0, 2.0, 8.0, 16.0, 128.0]), Some(8.0));
    assert_eq!(foremost(&[0.0, 1.0, 2.0, 128.0]), Some(2.0));
    assert_eq!(foremost(&[0.0, 128.0]), None);

    settings.attacks = vec!["quick".into(), "autoattack".into()];
    settings.epsilons.truncate(1);
    assert_eq!(conditions(&settings).unwrap(), conditions_of(&[("fgsm", 2.0), ("pgd20", 2.0), ("autoattack", 2.0)]));

    for (bad, hint) in [("deepfooled", "nightly"), ("deepfooled", "pgdN"), ("n-fgsm", "3 epsilon")] {
        settings.attacks = vec![bad.into()];
        let error = conditions(&settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(bad) && error.to_string().contains(hint), "{error}");
    }
}

#[test]
fn an_ensemble_is_its_attacks_in_a_row_and_every_model_sees_its_images() {
    let (network, other) = (fragile(), fragile());
    let conditions = conditions_of(&[("apgd-ce", 4.0), ("autoattack", 4.0)]);
    let others = [("other".to_string(), other)];
    let probe = Some(Probe { epsilon: epsilon(4.0), images: 0 });
    let request = Request { conditions: &conditions, seed: 9, examples: 0, probe, others: &others };
    let Measured { outcomes, transferred, .. } = shard(&network, &mut batches(16), &request, &|_| ()).unwrap();
    assert!(outcomes.count(2).correct <= outcomes.count(1).correct);
    let [(name, theirs)] = &transferred[..] else { panic!("{transferred:?}") };
    assert_eq!((name.as_str(), theirs), ("other", &outcomes), "the same network, so the same predictions");
}

#[test]
fn a_probe_looks_at_images_that_stood_everything() {
    let network = fragile();
    let request = |conditions| Request {
        conditions,
        seed: 9,
        examples: 0,
        probe: Some(Probe { epsilon: epsilon(4.0), images: 5 }),
        others: &[],
    };
    let weak = conditions_of(&[("fgsm", 2.0), ("pgd1", 4.0)]);
    let audit = shard(&network, &mut batches(16), &request(&weak), &|_| ()).unwrap().audit;
    assert_eq!(audit.probed, 5, "{audit:?}");
    assert!(audit.fell_to_noise <= audit.fell_to_steps, "{audit:?}");
    let single = conditions_of(&[("fgsm", 4.0)]);
    let audit = shard(&network, &mut batches(16), &request(&single), &|_| ()).unwrap().audit;
    assert_eq!(audit.probed, 0, "one step cannot be doubled");
}
