//! Everything a report is made from, as the coordinator hands it over.

use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::dataset::drift::Drift;
use crate::dataset::{Duplicate, Quarantined};
use crate::gate::Decision;
use crate::outcome::{Count, Outcomes};

/// One round of the baseline or of adversarial training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// `baseline` or `train`.
    pub phase: String,
    /// From 0 within the phase.
    pub round: u32,
    /// Mean training loss of the round.
    pub loss: f64,
    /// Accuracy on the training images as the network saw them (adversarial ones in `train`).
    pub train_accuracy: f64,
    /// Full budget of the training adversary at the end of the round, pixel scale.
    pub epsilon: f64,
    /// Accuracy on the held slice: clean, FGSM, PGD (the latter two at the adversary's full budget).
    pub held_clean: Count,
    /// See `held_clean`.
    pub held_fgsm: Count,
    /// See `held_clean`.
    pub held_pgd: Count,
    /// SHA-256 of the merged checkpoint.
    pub checkpoint_sha256: String,
    /// True when this checkpoint is the one that was kept.
    pub best: bool,
}

#[cfg(test)]
impl RoundRecord {
    /// A round of adversarial training.
    pub(crate) fn for_tests(round: u32) -> Self {
        let count = Count { correct: 9, n: 10 };
        Self {
            phase: "train".into(),
            round,
            loss: 1.0,
            train_accuracy: 0.5,
            epsilon: 0.01,
            held_clean: count,
            held_fgsm: count,
            held_pgd: count,
            checkpoint_sha256: "x".into(),
            best: false,
        }
    }
}

/// Something the guard or early stopping did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardEvent {
    /// The round after which it happened.
    pub round: u32,
    /// One sentence: what was seen and what was done.
    pub what: String,
}

/// A task that failed for good and that the job went on without (`job.poison`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its id, which names stage and shard.
    pub task: String,
    /// The attempts and the last one's error.
    pub why: String,
}

/// Bytes as base64 in JSON.
mod base64_text {
    use base64::prelude::*;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Pictures of one image: 8-bit RGB PNG files at the network's size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Key of the image.
    pub key: String,
    /// `baseline` or `trained`.
    pub model: String,
    /// The attack, `fgsm`, and its budget.
    pub attack: String,
    /// Pixel scale.
    pub epsilon: f64,
    /// True class.
    pub label: usize,
    /// Predicted class of the original and its confidence in `[0, 1]`.
    pub before: (usize, f64),
    /// The same of the adversarial image.
    pub after: (usize, f64),
    /// PNG bytes.
    #[serde(with = "base64_text")]
    pub original: Vec<u8>,
    /// PNG bytes.
    #[serde(with = "base64_text")]
    pub adversarial: Vec<u8>,
}

/// A sanity check on the figures: does the evaluation measure what it claims to?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// A few words: `PGD is at least as strong as FGSM`.
    pub name: String,
    /// False marks the figures as not to be trusted.
    pub passed: bool,
    /// What was measured, with numbers.
    pub figure: String,
    /// Why a sound evaluation passes, in one sentence.
    pub explanation: String,
}

/// Versions and circumstances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Hardy's version.
    pub hardy: String,
    /// libtorch's version.
    pub libtorch: String,
    /// `cpu`, `cuda:0 …`.
    pub device: String,
    /// Vector instruction set that libtorch used, e.g. `AVX512`.
    pub instruction_set: String,
    /// `float32`, or `float32, training in bfloat16`.
    pub precision: String,
    /// The job's seed.
    pub seed: u64,
    /// SHA-256 over classes, splits and the photos' hashes, in order.
    pub dataset_sha256: String,
    /// SHA-256 of the weights that training started from.
    pub weights_sha256: String,
    /// SHA-256 of the trained model's checkpoint.
    pub checkpoint_sha256: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC.
    pub finished: String,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// The job's id.
    pub job: String,
    /// All settings of the job.
    pub settings: Settings,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// Photos per split (`train`, `held`, `val`, `test`) and class: `(split, counts)`.
    pub counts: Vec<(String, Vec<u64>)>,
    /// The split that was measured: `val` or `test`.
    pub measured: String,
    /// Photos set aside.
    pub quarantined: Vec<Quarantined>,
    /// Photos dropped as duplicates.
    pub duplicates: Vec<Duplicate>,
    /// What the job went on without.
    pub left_out: Vec<LeftOut>,
    /// Every round in order, baseline first.
    pub rounds: Vec<RoundRecord>,
    /// What the guard and early stopping did.
    pub events: Vec<GuardEvent>,
    /// `(model, outcomes)`: `baseline`, `trained`.
    pub outcomes: Vec<(String, Outcomes)>,
    /// `(attacked, seen_by, outcomes)`: what a model predicts for the images made against another one.
    pub transferred: Vec<(String, String, Outcomes)>,
    /// Accuracy on the static FGSM copy of the measured split made with the baseline: `(model, count)`.
    pub static_set: Vec<(String, Count)>,
    /// For the grid.
    pub examples: Vec<Example>,
    /// The sanity checks on the figures.
    pub checks: Vec<Check>,
    /// See [`Provenance`].
    pub provenance: Provenance,
    /// What a night has to tell besides.
    pub night: Option<NightRecord>,
}

#[cfg(test)]
impl RunRecord {
    /// A job that has measured nothing, with two classes.
    pub(crate) fn for_tests(settings: Settings) -> Self {
        let known = || "x".to_string();
        let provenance = Provenance {
            hardy: known(),
            libtorch: known(),
            device: known(),
            instruction_set: known(),
            precision: known(),
            seed: 1,
            dataset_sha256: known(),
            weights_sha256: known(),
            checkpoint_sha256: known(),
            started: known(),
            finished: known(),
        };
        Self {
            job: "job".into(),
            settings,
            classes: ["even", "odd"].map(String::from).into(),
            counts: Vec::new(),
            measured: "val".into(),
            quarantined: Vec::new(),
            duplicates: Vec::new(),
            left_out: Vec::new(),
            rounds: Vec::new(),
            events: Vec::new(),
            outcomes: Vec::new(),
            transferred: Vec::new(),
            static_set: Vec::new(),
            examples: Vec::new(),
            checks: Vec::new(),
            provenance,
            night: None,
        }
    }
}

/// A night in which a model was retrained: its photos, and what the gate says of the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NightRecord {
    /// The model.
    pub model: String,
    /// The version that was made.
    pub version: String,
    /// The version that training went on from, if it was one.
    pub parent: Option<String>,
    /// Photos known before.
    pub known: u64,
    /// Photos that came.
    pub new: u64,
    /// Photos that went.
    pub removed: Vec<String>,
    /// Photos in whose place others are now.
    #[serde(default)]
    pub replaced: Vec<String>,
    /// Photos of the frozen test set that are gone from the source; it keeps its copies.
    pub missing: u64,
    /// How the photos that came differ from those before.
    pub drift: Drift,
    /// What the gate says.
    pub gate: Decision,
}
