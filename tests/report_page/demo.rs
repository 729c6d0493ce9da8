//! A made-up run: realistic figures, drawn pictures.

use hardy::config::{Epsilon, Settings};
use hardy::dataset::drift::{Drift, Embedding, Photos};
use hardy::dataset::{Duplicate, Quarantined};
use hardy::gate::{Subject, judge};
use hardy::outcome::{Count, ImageOutcome, Outcomes};
use hardy::report::{Check, Example, GuardEvent, NightRecord, Provenance, RoundRecord, RunRecord, Trend, TrendNight};
use hardy::seed::{Purpose, stream};
use hardy::task::Condition;
use image::codecs::png::PngEncoder;
use image::{Rgb, RgbImage};
use rand::RngExt;

pub const CLASSES: [&str; 5] = ["daisy", "dandelion", "roses", "sunflowers", "tulips"];
const IMAGES: usize = 550;
const SIDE: u32 = 128;

/// Settings as shipped.
pub fn settings() -> Settings {
    toml::from_str(include_str!("../../configs/default.toml")).unwrap()
}

/// The whole record: 5 classes, 4 + 25 rounds, 550 images under 11 conditions, 12 examples.
pub fn record() -> RunRecord {
    let file = |i: usize| format!("{}/{:010}_{:x}.jpg", CLASSES[i % 5], 98_992_760 + 7_919 * i, 0xb0_37 * (i + 3));
    RunRecord {
        job: "flowers-7c41e0a9".into(),
        settings: settings(),
        classes: CLASSES.map(String::from).into(),
        counts: vec![
            ("train".into(), vec![443, 629, 448, 490, 559]),
            ("held".into(), vec![49, 70, 50, 54, 62]),
            ("val".into(), vec![95, 135, 96, 104, 120]),
        ],
        measured: "val".into(),
        quarantined: vec![
            Quarantined { path: file(4), reason: "the file ends in the middle of the picture".into() },
            Quarantined { path: "tulips/read me.txt".into(), reason: "not a picture of a known format".into() },
            Quarantined { path: file(13), reason: "30000 × 30000 pixels are more than the 100000000 allowed".into() },
        ],
        duplicates: (0..9)
            .map(|i| Duplicate {
                path: format!("train/{}", file(i)),
                of: format!("val/{}", file(i + 40)),
                identical: i % 3 == 0,
            })
            .collect(),
        left_out: Vec::new(),
        rounds: rounds(),
        events: vec![
            GuardEvent {
                round: 8,
                what:
                    "PGD-10 accuracy on the held slice fell from 55.5 % to 21.9 % while FGSM accuracy rose to 83.6 %: \
                       catastrophic overfitting. Went back to the checkpoint of round 8 and halved the step."
                        .into(),
            },
            GuardEvent { round: 22, what: "Kept the checkpoint of round 22 as the best so far.".into() },
        ],
        outcomes: vec![("baseline".into(), outcomes(false)), ("trained".into(), outcomes(true))],
        transferred: vec![
            ("baseline".into(), "trained".into(), outcomes(true)),
            ("trained".into(), "baseline".into(), outcomes(true)),
        ],
        static_set: vec![
            ("baseline".into(), Count { correct: 88, n: 550 }),
            ("trained".into(), Count { correct: 501, n: 550 }),
        ],
        examples: (0..12).map(example).collect(),
        checks: checks(),
        provenance: Provenance {
            hardy: "0.1.0".into(),
            libtorch: "2.11.0".into(),
            device: "cpu".into(),
            instruction_set: "AVX512".into(),
            precision: "float32".into(),
            seed: 2026,
            dataset_sha256: "0e5f9c1d3b7a48206f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a09f8".into(),
            weights_sha256: "9b74c9897bac770ffc029102a200c5de3f1d2c5b6a7988f0e1d2c3b4a5968778".into(),
            checkpoint_sha256: "6f5902ac237024bdd0c176cb93063dc4e5f6a7b8c9d0e1f2a3b4c5d6e7f8091a".into(),
            started: "2026-03-02T08:14:07Z".into(),
            finished: "2026-03-02T09:06:41Z".into(),
        },
        night: None,
    }
}

/// A night that fell back behind the trained model of the record, judged by the shipped rules.
pub fn night() -> NightRecord {
    let classes: Vec<String> = CLASSES.map(String::from).into();
    let (before, after) = (outcomes(true), outcomes(false));
    let test_sha256 = "4b".repeat(32);
    let subject =
        |version, outcomes| Subject { version, classes: &classes, test_sha256: &test_sha256, outcomes, checks: &[] };
    let (current, candidate) = (subject("2026-03-01", &before), subject("2026-03-02", &after));
    let photos = |scale: u64| Photos {
        counts: vec![4 * scale, 6 * scale, 4 * scale, 5 * scale, 6 * scale],
        brightness: 0.43,
        spread: 0.11,
    };
    let came = Photos { counts: vec![0, 50, 0, 0, 0], ..photos(1) };
    let embedding = Some(Embedding { distance: 0.713, known: 1024, new: 50 });
    NightRecord {
        model: "flowers".into(),
        version: "2026-03-02".into(),
        parent: Some("2026-03-01".into()),
        known: 3390,
        new: 52,
        removed: vec!["roses/12 <b>.jpg".into()],
        replaced: vec!["tulips/3 <i>.jpg".into()],
        missing: 2,
        drift: Drift { embedding, ..Drift::new(&classes, photos(100), came) },
        gate: judge(&candidate, Some(&current), None, &settings().gate),
    }
}

/// Two weeks of nights: most promoted, one rejected, one failed, one without photos.
pub fn trend() -> Trend {
    let figure = |share: f64| Some(Count { correct: (share * 550.0).round() as u64, n: 550 }.into());
    let mut nights: Vec<TrendNight> = Vec::new();
    let (mut current, mut best) = (String::new(), 0.0);
    for i in 0..14 {
        let what = ["promoted", "rejected", "failed", "skipped"][match i {
            8 => 1,
            11 => 2,
            5 => 3,
            _ => 0,
        }];
        let measured = ["promoted", "rejected"].contains(&what);
        let clean = if what == "rejected" { 0.41 } else { 0.86 + 0.004 * f64::from(i) };
        let name = format!("2026-03-{:02}", i + 1);
        if what == "promoted" {
            (current, best) = (name.clone(), clean);
        }
        nights.push(TrendNight {
            at: format!("{name}T02:00:00Z"),
            name,
            what: what.into(),
            by_hand: false,
            forced: false,
            reason: "no worse than the version before: no significant difference".into(),
            clean: if measured { figure(clean) } else { None },
            robust: if measured { figure(clean - 0.25) } else { None },
            current: Some(current.clone()),
            current_clean: Some(best),
            current_robust: Some(best - 0.25),
            gate: measured.then(|| night().gate),
        });
    }
    Trend { model: "flowers".into(), epsilon: 4.0 / 255.0, current: Some(current), nights }
}

fn checks() -> Vec<Check> {
    [
        ("ε = 0 equals clean accuracy", "513 of 550 and 513 of 550", "An attack without a budget must change nothing."),
        (
            "No perturbation leaves the budget",
            "largest |δ| 0.0156863 at ε = 0.0156863",
            "A larger change would flatter the attack.",
        ),
        ("Accuracy falls as ε grows", "largest rise 0.0 points", "A larger ball contains the smaller one."),
        (
            "PGD is at least as strong as FGSM",
            "61.5 % ≤ 66.2 % at 4/255",
            "Twenty steps that do worse than one point to masked gradients.",
        ),
        (
            "ε = 0.5 leaves at most chance",
            "0.2 % against 24.5 %",
            "With half the range every picture can be made grey.",
        ),
        ("Gradients are not zero", "0 of 550 images", "Without a gradient an attack stands still and proves nothing."),
    ]
    .map(|(name, figure, explanation)| Check {
        name: name.into(),
        passed: true,
        figure: figure.into(),
        explanation: explanation.into(),
    })
    .into()
}

fn rounds() -> Vec<RoundRecord> {
    let count = |share: f64| Count { correct: (share * 285.0).round() as u64, n: 285 };
    let round = |phase: &str, round: u32, loss, train, epsilon, held: [f64; 3], best| RoundRecord {
        phase: phase.into(),
        round,
        loss,
        train_accuracy: train,
        epsilon,
        held_clean: count(held[0]),
        held_fgsm: count(held[1]),
        held_pgd: count(held[2]),
        checkpoint_sha256: format!(
            "{:016x}{:048x}",
            0x9e37_79b9_7f4a_7c15u64.wrapping_mul(u64::from(round) + 7),
            round
        ),
        best,
    };
    let baseline = [(0.91, 0.71, 0.86), (0.62, 0.88, 0.90), (0.49, 0.94, 0.92), (0.44, 0.973, 0.933)];
    let mut rounds: Vec<_> = baseline
        .iter()
        .enumerate()
        .map(|(i, &(loss, train, held))| {
            round("baseline", i as u32, loss, train, 0.0, [held, 0.24 - 0.03 * i as f64, 0.04], i == 3)
        })
        .collect();
    rounds.extend((0..25).map(|i| {
        let t = f64::from(i) / 24.0;
        let wobble = 0.012 * f64::from(i * 7 % 5 - 2);
        let ramp = ((t - 0.1) / 0.4).clamp(0.0, 1.0);
        let pgd = if i == 8 { 0.219 } else { 0.05 + 0.555 * (1.0 - (-5.0 * t).exp()) + wobble };
        let fgsm = if i == 8 { 0.836 } else { 0.27 + 0.39 * (1.0 - (-5.0 * t).exp()) + wobble };
        let train = 0.95 - 0.34 * ramp + 0.04 * t;
        round(
            "train",
            i as u32,
            0.62 + 0.5 * ramp,
            train,
            ramp * 4.0 / 255.0,
            [0.925 - 0.03 * ramp + 0.015 * t + wobble / 3.0, fgsm, pgd],
            i == 22,
        )
    }));
    rounds
}

/// Each image has a margin; an attack succeeds when its strength exceeds it.
fn outcomes(trained: bool) -> Outcomes {
    let mut conditions = vec![Condition { attack: "clean".into(), epsilon: Epsilon::ZERO }];
    for attack in ["fgsm", "pgd20"] {
        conditions
            .extend(settings().evaluate.epsilons.iter().map(|&epsilon| Condition { attack: attack.into(), epsilon }));
    }
    let image = |i| {
        let label = [95, 230, 326, 430, 550].iter().position(|&end| i < end).unwrap();
        let key = format!("{}-{i:04}", CLASSES[label]);
        let mut random = stream(1, Purpose::Synthetic, u64::from(trained), &key);
        let wrong = (label + random.random_range(1..5)) % 5;
        let (scale, margin) =
            (if trained { 8.5 } else { 1.05 }, random.random::<f64>() / if trained { 0.924 } else { 0.936 });
        let predicted = conditions
            .iter()
            .map(|c| {
                let levels = c.epsilon.value() * 255.0;
                let strength = if c.attack == "fgsm" && !trained {
                    levels * 0.45
                } else if c.attack == "fgsm" {
                    levels * 0.9
                } else {
                    levels
                };
                let survives = margin < (-strength / scale).exp() && margin <= 1.0;
                if survives { label } else { wrong }
            })
            .collect();
        ImageOutcome { key, label, predicted }
    };
    let images = (0..IMAGES).map(image).collect();
    Outcomes { conditions, images }
}

fn example(i: usize) -> Example {
    let (trained, label) = (i >= 6, i % 5);
    let fooled = !trained || i == 9;
    let original = flower(i);
    let levels = 4i16;
    let mut random = stream(2, Purpose::Synthetic, i as u64, "perturbation");
    let mut adversarial = original.clone();
    for pixel in adversarial.pixels_mut() {
        for channel in &mut pixel.0 {
            let step = if random.random::<bool>() { levels } else { -levels };
            *channel = (i16::from(*channel) + step).clamp(0, 255) as u8;
        }
    }
    Example {
        key: format!("{}-{:04}", CLASSES[label], 17 * i + 3),
        model: if trained { "trained" } else { "baseline" }.into(),
        attack: if i.is_multiple_of(2) { "fgsm" } else { "pgd20" }.into(),
        epsilon: 4.0 / 255.0,
        label,
        before: (label, if trained { 0.842 } else { 0.997 } - 0.01 * i as f64),
        after: if fooled { ((label + 2) % 5, 0.934 - 0.02 * i as f64) } else { (label, 0.611) },
        original: png(&original),
        adversarial: png(&adversarial),
    }
}

/// Petals before a gradient.
fn flower(i: usize) -> RgbImage {
    let petals = [
        (8.0, [244, 244, 240]),
        (21.0, [248, 208, 40]),
        (5.0, [196, 30, 58]),
        (13.0, [255, 176, 20]),
        (3.0, [214, 80, 160]),
    ];
    let (count, colour) = petals[i % 5];
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let (dx, dy) = (f64::from(x) - 60.0 - i as f64, f64::from(y) - 62.0);
        let (radius, angle) = (dx.hypot(dy), dy.atan2(dx));
        let shade = |base: u8| (f64::from(base) * (0.72 + 0.28 * (angle * 2.0 + i as f64).cos())) as u8;
        if radius < 14.0 {
            Rgb([shade(190), shade(140), 30])
        } else if radius < 34.0 + 18.0 * (angle * count).cos() {
            Rgb(colour.map(shade))
        } else {
            Rgb([(40 + x / 3) as u8, (110 + y / 3) as u8, (50 + (x + y) / 6 + 8 * i as u32) as u8])
        }
    })
}

fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_with_encoder(PngEncoder::new(&mut bytes)).unwrap();
    bytes
}
