//! What a job is: written once when it is submitted, never changed.

use serde::{Deserialize, Serialize};

use super::night::Night;
use crate::config::{Settings, stored};
use crate::model::Described;
use crate::store::{Blob, Key};
use crate::task::{JobId, ModelName, VERSION};

/// A job as submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// `task::VERSION` of the program that wrote it.
    pub version: u32,
    /// Its id.
    pub id: JobId,
    /// What it is to do.
    pub program: Program,
    /// All settings, those of queue, store and workers blanked.
    #[serde(deserialize_with = "stored")]
    pub settings: Settings,
    /// Where the photos are: a store's URL.
    pub source: String,
    /// SHA-256 over names and contents of photos that were copied to the store for this job.
    #[serde(default)]
    pub photos: Option<String>,
    /// Folded weights to start from, with the head they came with, or a TorchScript file; none = fresh ones.
    pub weights: Option<Blob>,
    /// The model those weights are, where it is measured, attacked or trained further with its own head.
    pub model: Option<Described>,
    /// The model that images are made against in place of that one (`attack.from`).
    #[serde(default)]
    pub surrogate: Option<Surrogate>,
    /// The models that are measured beside each other, the one above first; none where it is alone.
    #[serde(default)]
    pub compared: Vec<Compared>,
    /// The night, where it is one.
    #[serde(default)]
    pub night: Option<Night>,
    /// When it was submitted: RFC 3339, UTC.
    pub created: String,
}

/// A second model of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Surrogate {
    /// What it is.
    pub model: Described,
    /// A checkpoint, or the TorchScript file as it is.
    pub weights: Blob,
}

/// One of several models that are measured on the same photos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// What the report calls it.
    pub name: ModelName,
    /// What it is.
    pub model: Described,
    /// A checkpoint, or the TorchScript file as it is.
    pub weights: Blob,
}

/// What a job does with its photos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// Everything: shards, baseline, adversarial training, evaluation, report.
    Train,
    /// Measures `weights` on the photos.
    Evaluate,
    /// Makes an adversarial copy of every photo with `weights`.
    Augment,
    /// Attacks every photo with `weights`, as section `attack` of the settings says.
    Attack,
    /// Retrains a model of the registry, has the gate judge the result, and promotes it or not.
    Night,
    /// Has empty tasks done, to measure a cluster.
    Rehearse {
        /// How many.
        tasks: u32,
        /// Whether each stores an object.
        stored: bool,
    },
}

impl Program {
    /// Whether a model comes of it.
    pub fn trains(self) -> bool {
        matches!(self, Self::Train | Self::Night)
    }
}

impl JobSpec {
    /// Submitted now, on no model and without photos of its own.
    pub fn new(id: JobId, program: Program, settings: &Settings, source: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            id,
            program,
            settings: settings.of_job(),
            source: source.into(),
            photos: None,
            weights: None,
            model: None,
            surrogate: None,
            compared: Vec::new(),
            night: None,
            created: now(),
        }
    }

    /// Whether `other` asks for the same; when it was submitted does not matter.
    pub fn is_same_as(&self, other: &JobSpec) -> bool {
        Self { created: String::new(), ..self.clone() } == Self { created: String::new(), ..other.clone() }
    }

    /// A checkpoint or a TorchScript file that is submitted with job `id`, called `name`. It lies under its content, so
    /// that two who submit under one name at the same time do not overwrite what the other's job is made of.
    pub fn given(id: &JobId, name: &str, bytes: &[u8]) -> Blob {
        let blob = Blob::of(Self::prefix(id), bytes);
        let key = blob.key.join(format!("{name}-{}.safetensors", &blob.sha256[..16]));
        Blob { key, ..blob }
    }

    /// Everything the job writes lies below this key.
    pub fn prefix(id: &JobId) -> Key {
        #[expect(clippy::expect_used, reason = "ids are made of the letters of a checked job name")]
        Key::new(format!("jobs/{id}")).expect("a sound job id")
    }
}

/// The present moment as jobs write it down: RFC 3339, UTC, whole seconds.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn other_weights_under_one_name_lie_elsewhere() {
        let id: JobId = "night".parse().unwrap();
        let lie = |bytes: &[u8]| JobSpec::given(&id, "weights", bytes);
        assert_eq!(lie(b"one"), lie(b"one"));
        assert_ne!(lie(b"one").key, lie(b"two").key);
        assert!(lie(b"one").key.as_str().starts_with("jobs/night/weights-"), "{}", lie(b"one").key);
    }
}
