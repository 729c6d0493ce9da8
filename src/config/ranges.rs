//! What is allowed: ranges of single keys, and what must hold between keys.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Adversary, Architecture, Epsilon, Loss, Outer, Settings};
use crate::error::{Error, Result};
use crate::evaluate;

/// `(key, least, most)`, both allowed.
const RANGES: &[(&str, f64, f64)] = &[
    ("job.threads_per_task", 1.0, 256.0),
    ("data.val_fraction", 0.0, 0.9),
    ("data.test_fraction", 0.0, 0.9),
    ("data.held_fraction", 0.01, 0.5),
    ("data.shard_images", 1.0, 100_000.0),
    ("data.stored_side", 0.0, 4096.0),
    ("data.max_pixels", 1.0, 1e9),
    ("data.max_file_bytes", 1.0, 1e9),
    ("data.quarantine_limit", 0.0, 1.0),
    ("data.near_duplicate_bits", 0.0, 16.0),
    ("model.input_size", 32.0, 1024.0),
    ("augment.crop_min_area", 0.05, 1.0),
    ("augment.crop_max_aspect", 1.0, 4.0),
    ("augment.rotation", 0.0, 180.0),
    ("augment.jitter", 0.0, 0.9),
    ("baseline.rounds", 1.0, 10_000.0),
    ("baseline.rate", 1e-9, 10.0),
    ("train.input_size", 0.0, 1024.0),
    ("train.rounds", 1.0, 100_000.0),
    ("train.steps_per_round", 0.0, 1e6),
    ("train.replicas", 1.0, 1024.0),
    ("train.batch", 1.0, 4096.0),
    ("train.rate", 1e-9, 10.0),
    ("train.head_rate", 0.01, 1000.0),
    ("train.warmup", 0.0, 0.9),
    ("train.weight_decay", 0.0, 1.0),
    ("train.clip_norm", 0.0, 1e6),
    ("train.label_smoothing", 0.0, 0.9),
    ("train.ema", 0.0, 0.99999),
    ("train.clean_share", 0.0, 0.9),
    ("train.clean_weight", 0.0, 1.0),
    ("train.trades_beta", 0.0, 100.0),
    ("train.patience", 0.0, 100_000.0),
    ("train.outer_rate", 0.01, 2.0),
    ("train.outer_momentum", 0.0, 0.999),
    ("adversary.step", 0.0, 10.0),
    ("adversary.noise", 0.0, 10.0),
    ("adversary.steps", 1.0, 1000.0),
    ("adversary.ramp_start", 0.0, 1.0),
    ("adversary.ramp_end", 0.0, 1.0),
    ("guard.steps", 1.0, 1000.0),
    ("guard.images", 1.0, 1e6),
    ("guard.drop", 0.0, 1.0),
    ("guard.gap", 0.0, 1.0),
    ("guard.rollbacks", 0.0, 1000.0),
    ("guard.soften", 0.01, 1.0),
    ("evaluate.batch", 1.0, 4096.0),
    ("attack.batch", 1.0, 4096.0),
    ("evaluate.examples", 0.0, 200.0),
    ("evaluate.probes", 0.0, 100_000.0),
    ("gate.clean_drop", 0.0, 100.0),
    ("gate.robust_drop", 0.0, 100.0),
    ("gate.class_drop", 0.0, 100.0),
    ("gate.class_floor", 0.0, 1.0),
    ("gate.alpha", 0.0, 1.0),
    ("nightly.rounds", 1.0, 100_000.0),
    ("nightly.rate", 1e-9, 10.0),
    ("nightly.keep", 1.0, 100_000.0),
    ("nightly.small_shards", 1.0, 1e6),
    ("nightly.deadline", 1.0, 100_000.0),
    ("nightly.retries", 0.0, 100.0),
    ("nightly.quarantine_growth", 0.0, 1.0),
    ("nightly.quarantine_least", 0.0, 1e9),
    ("webhook.timeout", 1.0, 600.0),
    ("queue.delivery_limit", 1.0, 1000.0),
    ("queue.failures", 1.0, 1000.0),
    ("queue.silence", 10.0, 86_400.0),
    ("worker.count", 0.0, 1024.0),
    ("worker.grace", 0.0, 86_400.0),
    ("worker.idle", 0.0, 86_400.0),
    ("worker.stall", 60.0, 604_800.0),
];

/// The range of `key` in words, where it has one.
pub(super) fn describe(key: &str) -> Option<String> {
    if key == "job.name" {
        return Some("1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit".into());
    }
    match key {
        "http.listen" => return Some("host:port, 0.0.0.0:8080 say, or nothing".into()),
        "http.token" => return Some("letters, digits and punctuation of ASCII, without spaces".into()),
        _ => {}
    }
    RANGES.iter().find(|r| r.0 == key).map(|(_, least, most)| format!("{least} to {most}"))
}

fn is_device(text: &str) -> bool {
    matches!(text, "auto" | "cpu" | "cuda") || text.strip_prefix("cuda:").is_some_and(|n| n.parse::<u8>().is_ok())
}

/// Checks one value by itself.
pub(super) fn check(key: &str, value: &Value) -> Result<(), String> {
    if key == "job.name" {
        let name = value.as_str().unwrap_or_default();
        let sound = (1..=64).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && !name.contains("..");
        return if sound { Ok(()) } else { Err("no valid job name".into()) };
    }
    let text = value.as_str().unwrap_or_default();
    let is_place = |text: &str| text.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok());
    match key {
        "http.listen" if !text.is_empty() && !is_place(text) => return Err("no place to listen at".into()),
        "model.device" if !is_device(text) => return Err("no device; allowed are auto, cpu, cuda and cuda:N".into()),
        "evaluate.attacks" => {
            let names = Vec::<String>::deserialize(value).map_err(|e| e.to_string())?;
            evaluate::attacks(&names).map_err(|e| e.to_string())?;
        }
        // That of photos has a norm, and is checked with it.
        _ if key.contains("epsilon") && key != "attack.epsilons" => {
            for each in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
                Epsilon::deserialize(each).map_err(|e| e.to_string())?.check_pixel_scale()?;
            }
        }
        // It travels in a header.
        "http.token" if !text.bytes().all(|b| b.is_ascii_graphic()) => return Err("it cannot be sent".into()),
        _ => {}
    }
    let range = RANGES.iter().find(|r| r.0 == key).zip(value.as_f64());
    match range {
        Some((&(_, least, most), number)) if !(least..=most).contains(&number) => Err("out of range".into()),
        _ => Ok(()),
    }
}

/// Checks what must hold between keys.
pub(super) fn check_together(s: &Settings, sources: &BTreeMap<String, String>) -> Result<()> {
    let rules = [
        (
            s.adversary.ramp_start <= s.adversary.ramp_end,
            ["adversary.ramp_start", "adversary.ramp_end"],
            format!("{} is later than {}", s.adversary.ramp_start, s.adversary.ramp_end),
        ),
        (
            s.data.val_fraction + s.data.test_fraction < 1.0,
            ["data.val_fraction", "data.test_fraction"],
            format!("{} and {} leave nothing to train on", s.data.val_fraction, s.data.test_fraction),
        ),
        (
            s.model.weights != "imagenet" || s.model.architecture == Architecture::TfEfficientnetLite0,
            ["model.weights", "model.architecture"],
            format!(
                "ImageNet weights ship for tf_efficientnet_lite0 only; name a file or \"none\" for {}",
                s.model.architecture
            ),
        ),
        (
            s.train.loss != Loss::Trades || s.adversary.method != Adversary::Fgsm,
            ["train.loss", "adversary.method"],
            "the divergence that trades follows has no gradient at the clean image; take rs-fgsm, n-fgsm or pgd".into(),
        ),
        (
            s.train.input_size == 0 || s.train.input_size >= 32,
            ["train.input_size", "model.input_size"],
            format!(
                "{} pixels are too few; allowed are 32 to 1024, and 0 for the network's own size",
                s.train.input_size
            ),
        ),
        (
            s.train.ema == 0.0 || s.train.outer == Outer::Average,
            ["train.ema", "train.outer"],
            "averaged weights with outer nesterov are not supported".into(),
        ),
    ];
    for (holds, keys, why) in rules {
        if !holds {
            let whence = keys.map(|k| format!("{k} from {}", sources[k])).join(", ");
            return Err(Error::usage(format!("{} does not fit {}: {why} ({whence})", keys[0], keys[1])));
        }
    }
    Ok(())
}
