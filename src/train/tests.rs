//! The loop itself, on a small network and pictures of coloured stripes.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use super::*;
use crate::attack::Noise;
use crate::config::{
    Adversary, AdversarySettings, Architecture, Epsilon, Freshness, Loss, Outer, Resize, Schedule, Start, TrainSettings,
};
use crate::error::{self, Result};
use crate::model::{ModelSpec, Network, fresh};
use crate::seed::Purpose;
use crate::task::StepAdversary;

const CLASSES: i64 = 4;

/// Settings for tests: one-cycle, warm-up 0.2, ramp from 0.1 to 0.5.
pub fn settings() -> (TrainSettings, AdversarySettings) {
    let train = TrainSettings {
        start: Start::Baseline,
        input_size: 0,
        rounds: 1,
        steps_per_round: 0,
        replicas: 1,
        batch: 8,
        rate: 1e-3,
        head_rate: 5.0,
        schedule: Schedule::OneCycle,
        warmup: 0.2,
        weight_decay: 0.01,
        clip_norm: 0.0,
        label_smoothing: 0.0,
        ema: 0.0,
        loss: Loss::Adversarial,
        clean_share: 0.0,
        clean_weight: 0.5,
        trades_beta: 6.0,
        patience: 0,
        outer: Outer::Average,
        outer_rate: 0.7,
        outer_momentum: 0.9,
    };
    let adversary = AdversarySettings {
        method: Adversary::NFgsm,
        epsilon: Epsilon::new(4.0 / 255.0).unwrap(),
        step: 1.0,
        noise: 2.0,
        steps: 3,
        ramp_start: 0.1,
        ramp_end: 0.5,
        freshness: Freshness::Step,
    };
    (train, adversary)
}

/// A small untrained network for [`stripes`].
pub fn network() -> Network {
    let spec = ModelSpec {
        architecture: Architecture::HardySmall,
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        input_size: 32,
        resize: Resize::Squash,
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    Network::load(&spec, &fresh(spec.architecture, spec.classes.len(), 3), Device::Cpu).unwrap()
}

/// `count` pictures of 32 × 32 pixels: stripes whose width is the class, in all colours and phases, and faint noise.
pub fn stripes(first: i64, count: i64) -> Batch {
    let index = Tensor::arange_start(first, first + count, (Kind::Int64, Device::Cpu));
    let labels = index.remainder(CLASSES);
    let numbers = |t: &Tensor| t.to_kind(Kind::Float).view([count, 1, 1, 1]);
    let axis = Tensor::arange(32, (Kind::Float, Device::Cpu)).view([1, 1, 1, 32]);
    let colour = (numbers(&index) * 1.7 + Tensor::arange(3, (Kind::Float, Device::Cpu)).view([1, 3, 1, 1])).sin();
    let waves = (axis * (numbers(&labels) + 1.0) * 0.4 + numbers(&index) * 2.1).sin() * colour;
    let keys: Vec<String> = (first..first + count).map(|i| i.to_string()).collect();
    let images = waves.expand([count, 3, 32, 32], false) * 0.25 + 0.5;
    let noise =
        Noise { seed: 5, purpose: Purpose::Synthetic, round: 0, keys: keys.iter().map(String::as_str).collect() };
    Batch { images: &images + noise.uniform(&images, 0.05), adversarial: None, labels, keys }
}

/// Four batches of 16, the same every time.
pub fn batches() -> impl Iterator<Item = Result<Batch>> {
    (0..4).map(|i| Ok(stripes(16 * i, 16)))
}

fn plan<'a>(round: u32, rounds: u32, train: &'a TrainSettings, ramp: &'a AdversarySettings) -> RoundPlan<'a> {
    RoundPlan {
        round,
        first_step: 4 * round,
        total_steps: 4 * rounds,
        steps: 4,
        rate: train.rate,
        seed: 1,
        adversary: Some(StepAdversary {
            method: ramp.method,
            epsilon: ramp.epsilon,
            step: ramp.step,
            noise: ramp.noise,
        }),
        train,
        ramp,
    }
}

/// Trains for so many rounds of four steps; without an adversary unless `ramp` is wanted.
pub fn trained(rounds: u32, train: &TrainSettings, ramp: Option<&AdversarySettings>) -> (Network, Vec<RoundMetrics>) {
    let (network, unused) = (network(), settings().1);
    let mut optimizer = AdamW::new(network.leaves(), train);
    let metrics = (0..rounds).map(|number| {
        let mut plan = plan(number, rounds, train, ramp.unwrap_or(&unused));
        plan.adversary = plan.adversary.filter(|_| ramp.is_some());
        optimizer = AdamW::resume(network.leaves(), train, &optimizer.state())?;
        round(&network, &mut optimizer, &mut batches(), &plan, &|_| ())
    });
    let metrics = metrics.collect::<Result<_>>().unwrap();
    (network, metrics)
}

fn fails(change: impl FnOnce(&mut TrainSettings, &mut AdversarySettings), batches: Vec<Batch>) -> error::Error {
    let (mut train, mut ramp) = settings();
    change(&mut train, &mut ramp);
    let network = network();
    let mut optimizer = AdamW::new(network.leaves(), &train);
    let plan = plan(3, 5, &train, &ramp);
    round(&network, &mut optimizer, &mut batches.into_iter().map(Ok), &plan, &|_| ()).unwrap_err()
}

#[test]
fn a_network_learns_against_each_loss() {
    for loss in [Loss::Adversarial, Loss::Mix, Loss::Trades] {
        let (mut train, ramp) = settings();
        (train.loss, train.rate, train.clip_norm) = (loss, 4e-3, 1.0);
        let (_, metrics) = trained(12, &train, Some(&ramp));
        let (first, last) = (metrics[0], metrics[11]);
        assert!(last.loss < 0.5 * first.loss && last.accuracy > 0.8, "{loss}: {first:?} {last:?}");
        assert_eq!((first.epsilon, last.epsilon, last.images), (0.0, 4.0 / 255.0, 64));
    }
}

#[test]
fn the_same_round_gives_the_same_bits() {
    let (train, ramp) = settings();
    let (one, first) = trained(2, &train, Some(&ramp));
    let (two, second) = trained(2, &train, Some(&ramp));
    assert_eq!(first, second);
    assert_eq!(one.weights(), two.weights());
    assert_ne!(one.weights(), network().weights());
}

#[test]
fn images_made_beforehand_are_trained_on_as_they_are() {
    let (train, ramp) = settings();
    let (network, mut optimizer) = (network(), AdamW::new(network().leaves(), &train));
    let swapped = batches().map(|batch| {
        let clean = batch?;
        let images = clean.images.zeros_like();
        Ok(Batch { adversarial: Some(clean.images), images, ..clean })
    });
    let metrics = round(&network, &mut optimizer, &mut { swapped }, &plan(0, 1, &train, &ramp), &|_| ()).unwrap();
    let (reference, expected) = trained(1, &train, None);
    assert_eq!((metrics.loss, metrics.accuracy, metrics.epsilon), (expected[0].loss, expected[0].accuracy, 0.0));
    assert_eq!(network.weights(), reference.weights());
}

#[test]
fn a_share_of_each_batch_is_left_as_it_is() {
    let (mut train, ramp) = settings();
    train.clean_share = 0.5;
    let (network, mut optimizer) = (network(), AdamW::new(network().leaves(), &train));
    let half_black = batches().map(|batch| {
        let batch = batch?;
        let adversarial = Tensor::cat(&[batch.images.narrow(0, 0, 8).zeros_like(), batch.images.narrow(0, 8, 8)], 0);
        Ok(Batch { adversarial: Some(adversarial), ..batch })
    });
    round(&network, &mut optimizer, &mut { half_black }, &plan(0, 1, &train, &ramp), &|_| ()).unwrap();
    assert_eq!(network.weights(), trained(1, &train, None).0.weights());
}

#[test]
fn equal_replicas_merge_into_themselves() {
    let (train, ramp) = settings();
    let (network, _) = trained(1, &train, Some(&ramp));
    assert_eq!(merge::average(&[network.weights(), network.weights()]).unwrap(), network.weights());
}

#[test]
fn a_loss_that_is_no_number_names_round_and_step() {
    let mut bad = stripes(16, 16);
    bad.images *= f64::NAN;
    let error = fails(|_, _| (), vec![stripes(0, 16), bad]);
    assert_eq!(error.kind(), error::Kind::Job);
    assert!(error.to_string().contains("round 3, step 13 of 20"), "{error}");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let error = fails(|_, _| (), vec![stripes(0, 16)]);
    assert!(error.to_string().contains("4 steps") && error.to_string().contains("only 1 batches"), "{error}");
    let trades = |train: &mut TrainSettings, ramp: &mut AdversarySettings| {
        (train.loss, ramp.method) = (Loss::Trades, Adversary::Fgsm);
    };
    assert_eq!(fails(trades, vec![stripes(0, 16)]).kind(), error::Kind::Usage);
}

#[test]
fn progress_counts_images() {
    let (train, ramp) = settings();
    let (network, seen) = (network(), RefCell::new(Vec::new()));
    let mut optimizer = AdamW::new(network.leaves(), &train);
    let note = |images| seen.borrow_mut().push(images);
    round(&network, &mut optimizer, &mut batches(), &plan(0, 1, &train, &ramp), &note).unwrap();
    assert_eq!(seen.into_inner(), [16, 32, 48, 64]);
}
