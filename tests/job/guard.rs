//! Catastrophic overfitting, provoked for real: FGSM without noise, a large budget, a high rate.

use std::path::Path;

use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scene::{Scene, report, text};

/// Stripes whose width is the class, in all colours and phases: easy to learn, and easy to learn one step against.
fn stripes(folder: &Path) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for (side, count) in [("train", 130), ("val", 20)] {
        for class in 0..4 {
            let folder = folder.join(side).join(format!("width{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let phase = random.random_range(0.0..std::f64::consts::TAU);
                let colour: [f64; 3] = [(); 3].map(|()| random.random_range(-1.0..1.0));
                let picture = RgbImage::from_fn(32, 32, |x, _| {
                    let wave = (f64::from(x) * f64::from(class + 1) * 0.4 + phase).sin();
                    let noise = random.random_range(-0.09..0.09);
                    Rgb(colour.map(|c| ((0.5 + 0.25 * wave * c + noise) * 255.0).round() as u8))
                });
                picture.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

/// Accuracy of the trained model under FGSM and PGD, in percent, and what the guard did.
fn trained(scene: &Scene, photos: &Path, name: &str, settings: &[String]) -> (f64, f64, Vec<String>) {
    let out = scene.path(name);
    let mut command = crate::scene::program();
    command.arg("run").arg("--data").arg(photos).arg("--out").arg(&out);
    for setting in [
        "model.architecture=hardy_small",
        "model.weights=none",
        "model.input_size=32",
        "data.shard_images=64",
        "data.near_duplicate_bits=0",
        "augment.flip=false",
        "augment.crop_min_area=1",
        "augment.jitter=0",
        "baseline.rounds=6",
        "baseline.rate=0.004",
        "train.rounds=20",
        "train.steps_per_round=10",
        "train.batch=16",
        "train.replicas=1",
        "train.rate=0.004",
        "adversary.method=fgsm",
        "adversary.noise=0",
        "adversary.epsilon=16/255",
        "adversary.steps=4",
        "adversary.ramp_end=0.3",
        "guard.images=200",
        "data.held_fraction=0.25",
        "evaluate.attacks=[\"fgsm\", \"pgd10\"]",
        "evaluate.epsilons=[\"16/255\"]",
        "evaluate.examples=0",
    ] {
        command.args(["--set", setting]);
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let report = report(&out);
    let accuracy = |attack: &str| {
        let rows = report["results"].as_array().unwrap();
        let row = rows.iter().find(|r| r["model"] == "trained" && r["attack"] == attack).unwrap();
        100.0 * row["correct"].as_f64().unwrap() / row["n"].as_f64().unwrap()
    };
    let events = report["guard_events"].as_array().unwrap();
    let events = events.iter().map(|e| e["what"].as_str().unwrap().to_string()).collect();
    (accuracy("fgsm"), accuracy("pgd10"), events)
}

/// The PGD accuracy, in percent, of a round that was undone.
fn seen(event: &str) -> f64 {
    let after = event.split("hides PGD accuracy ").nth(1).unwrap_or_else(|| panic!("not a collapse: {event}"));
    after.split_whitespace().next().unwrap().parse().unwrap()
}

/// How far an unguarded network falls is a matter of luck, of the seed as of the processor's instructions: two seeds.
#[test]
fn the_guard_sees_catastrophic_overfitting_and_rescues_the_run() {
    let scene = Scene::new();
    let photos = scene.path("stripes");
    stripes(&photos);
    let (mut without, mut with) = (0.0, 0.0);
    for seed in [1, 2] {
        let run = |guarded: bool| {
            let settings = [format!("guard.enabled={guarded}"), format!("job.seed={seed}")];
            trained(&scene, &photos, &format!("{seed}-{guarded}"), &settings)
        };
        let (fgsm, pgd, events) = run(false);
        assert!(events.is_empty() && fgsm - pgd > 25.0, "no catastrophic overfitting: FGSM {fgsm} %, PGD {pgd} %");
        let (guarded_fgsm, guarded, events) = run(true);
        println!("FGSM {fgsm} %, PGD {pgd} % without the guard, {guarded_fgsm} %, {guarded} % with it: {events:#?}");
        assert!(events.iter().all(|e| e.contains("; back to the weights ")), "rolled back: {events:?}");
        assert!(events[0].contains("step size now "), "made a collapse less likely: {events:?}");
        let worst = events.iter().map(|e| seen(e)).fold(0.0, f64::max);
        assert!(guarded > worst + 10.0, "PGD {guarded} % in the end, {worst} % when the guard saw it: {events:#?}");
        (without, with) = (without + pgd, with + guarded);
    }
    assert!(with > without, "PGD {without} % in both runs without the guard, {with} % with it");
}
