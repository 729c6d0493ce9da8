//! The loop itself, on a network small enough for a test.

use super::*;
use crate::config::{Adversary, Epsilon, Freshness, Outer, Schedule, Start};

/// Settings for tests: one-cycle, warm-up 0.2, ramp from 0.1 to 0.5.
pub fn settings() -> (TrainSettings, AdversarySettings) {
    let train = TrainSettings {
        start: Start::Baseline,
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
