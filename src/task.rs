//! The wire format: what the coordinator asks of workers and what they report. Messages carry
//! keys of objects, never images or weights.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{Adversary, Epsilon};
use crate::error::{Context, Error, Kind, Result};
use crate::queue::{Queue, Topic};
use crate::store::Blob;

/// The version of every message and of every object the coordinator writes.
pub const VERSION: u32 = 1;

/// Ids become parts of keys and file names.
const ID_LENGTH: usize = 96;

macro_rules! name {
    ($($(#[$meta:meta])* $name:ident, $what:literal;)*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(pub String);

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                let sound = (1..=ID_LENGTH).contains(&text.len())
                    && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                    && !text.contains("..");
                if sound {
                    return Ok(Self(text));
                }
                Err(Error::usage(format!(
                    "'{}' is no {}: allowed are 1 to {ID_LENGTH} letters, digits, '.', '_' and '-', beginning with a \
                     letter or digit, without '..'",
                    text.escape_debug(), $what
                )))
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                text.to_string().try_into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

name! {
    /// A job: the name it was submitted under, or `name-xxxxxxxx`.
    JobId, "job name";
    /// A task of a job, `train-r003-1`: derived from what it does, so that every coordinator names it alike.
    TaskId, "task id";
    /// A worker thread of a process.
    WorkerId, "worker id";
    /// A model in the registry.
    ModelName, "model name";
    /// A version of a model: the night that made it, `2026-11-22`, or a name given by hand.
    VersionId, "version";
}

/// A task on the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// [`VERSION`].
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// The task.
    pub id: TaskId,
    /// The job's settings (`JobSpec`).
    pub spec: Blob,
    /// The network (`ModelSpec`), once the classes are known.
    pub model: Option<Blob>,
    /// What to do.
    pub work: Work,
}

/// What stands in every message, of whatever version: enough to answer it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Envelope {
    /// The version it was written in.
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// The task.
    #[serde(alias = "id")]
    pub task: TaskId,
    /// Who reports, in an event.
    pub worker: Option<WorkerId>,
    /// The try that is reported on, in an event.
    #[serde(default)]
    pub attempt: String,
}

/// What a worker can be asked to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Work {
    /// Decode photos once: usable or not, hash, perceptual hash. Output `photos`: JSON `Vec<Inspected>`.
    Inspect {
        /// JSON `Vec<Photo>`.
        photos: Blob,
    },
    /// Pack photos into a shard. Output `shard`: a WebDataset tar.
    Shard {
        /// JSON `(classes, ShardPlan)`.
        plan: Blob,
    },
    /// Make adversarial images of a shard. Output `shard`: a tar of 8-bit PNGs at the network's size.
    Augment {
        /// The clean shard.
        shard: Blob,
        /// The model they are made against.
        checkpoint: Blob,
        /// The round whose random views and noise are used; `None`: the network's plain view.
        round: Option<u32>,
        /// The attack.
        method: Adversary,
        /// Its budget.
        epsilon: Epsilon,
        /// Its step, as a multiple of `epsilon`.
        step: f64,
        /// Half-width of its noise, as a multiple of `epsilon`.
        noise: f64,
    },
    /// One replica's round of training. Outputs `checkpoint` and `optimizer`.
    Train(TrainWork),
    /// Attack some photos of a shard as the job's settings say. Outputs `records`: JSON `Vec<Record>`; `pictures`
    /// and `comparisons`: tars with one PNG for each finding, in their order.
    Attack {
        /// The photos.
        shard: Blob,
        /// The model.
        checkpoint: Blob,
        /// The first of them.
        first: usize,
        /// How many.
        count: usize,
    },
    /// Sum up a model's features of some photos of a shard. Output `features`: JSON `drift::Features`; none where the
    /// model shows no features, or none that are numbers.
    Features {
        /// The shard.
        shard: Blob,
        /// JSON `Vec<String>`: the keys of the photos.
        photos: Blob,
        /// The model.
        checkpoint: Blob,
    },
    /// Average replicas in their order. Outputs `checkpoint`, `optimizer` and, with outer Nesterov, `outer`.
    Merge {
        /// The checkpoint all replicas started from.
        start: Blob,
        /// `(checkpoint, optimizer)` of each replica.
        replicas: Vec<(Blob, Blob)>,
        /// The state of outer Nesterov.
        outer: Option<Blob>,
    },
    /// Do nothing: what is left is the cost of the cluster itself. Output `nothing`, where it is stored.
    Nothing {
        /// Store an empty object.
        stored: bool,
    },
    /// Measure a model on a shard. Outputs `outcomes`: JSON `Outcomes`; `transferred`: JSON `Vec<(String, Outcomes)>`;
    /// `audit`, `examples`: JSON; `images`: a tar.
    Evaluate {
        /// The photos.
        shard: Blob,
        /// The model.
        checkpoint: Blob,
        /// The attacks, each with its budget.
        conditions: Vec<Condition>,
        /// At most so many images, from the start of the shard; 0 = all.
        limit: usize,
        /// How many images to keep as examples for the report.
        examples: usize,
        /// Keep the network-size PNGs that were measured.
        keep_images: bool,
        /// What is tried for the checks' sake.
        probe: Option<Probe>,
        /// Checkpoints of the same network that look at the same adversarial images, by the models' names.
        others: Vec<(String, Blob)>,
    },
}

impl Work {
    /// The kind, as messages have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Inspect { .. } => "inspect",
            Self::Shard { .. } => "shard",
            Self::Augment { .. } => "augment",
            Self::Train(_) => "train",
            Self::Merge { .. } => "merge",
            Self::Nothing { .. } => "nothing",
            Self::Evaluate { .. } => "evaluate",
            Self::Attack { .. } => "attack",
            Self::Features { .. } => "features",
        }
    }

    /// Whether a model is computed with, on the device that the job asks for.
    pub fn needs_device(&self) -> bool {
        match self {
            Self::Augment { .. }
            | Self::Train(_)
            | Self::Evaluate { .. }
            | Self::Attack { .. }
            | Self::Features { .. } => true,
            Self::Inspect { .. } | Self::Shard { .. } | Self::Merge { .. } | Self::Nothing { .. } => false,
        }
    }

    /// The objects that tell it from other tasks of its kind: shards, or lists of photos.
    pub fn shards(&self) -> &[Blob] {
        match self {
            Self::Inspect { photos: blob }
            | Self::Shard { plan: blob }
            | Self::Augment { shard: blob, .. }
            | Self::Evaluate { shard: blob, .. }
            | Self::Attack { shard: blob, .. }
            | Self::Features { shard: blob, .. } => std::slice::from_ref(blob),
            Self::Train(work) => &work.shards,
            Self::Merge { .. } | Self::Nothing { .. } => &[],
        }
    }
}

/// One replica's round of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainWork {
    /// The round, from 0, over the whole phase.
    pub round: u32,
    /// The replica, from 0.
    pub replica: u32,
    /// The weights to start from.
    pub checkpoint: Blob,
    /// The optimiser's state; none in the first round.
    pub optimizer: Option<Blob>,
    /// Clean shards of this replica, in order.
    pub shards: Vec<Blob>,
    /// Adversarial shards that go with them (freshness `once` and `round`), in the same order.
    pub adversarial: Vec<Blob>,
    /// Optimiser steps to take.
    pub steps: u32,
    /// Steps taken before this round.
    pub first_step: u32,
    /// Steps of the whole phase, for the schedules.
    pub total_steps: u32,
    /// Peak learning rate of the body.
    pub rate: f64,
    /// How often an image of each class is drawn in one pass, on average; empty = each once.
    pub repeats: Vec<f64>,
    /// The adversary inside the step; none trains on what the shards hold.
    pub adversary: Option<StepAdversary>,
}

/// An adversary inside the training step. Its budget ramps up linearly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepAdversary {
    /// The attack.
    pub method: Adversary,
    /// The full budget.
    pub epsilon: Epsilon,
    /// Its step, as a multiple of the budget.
    pub step: f64,
    /// Half-width of its noise, as a multiple of the budget.
    pub noise: f64,
}

/// An attack with its budget: one column of the results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// `clean`, `fgsm`, `pgd20`, …
    pub attack: String,
    /// 0 for `clean`.
    pub epsilon: Epsilon,
}

/// Images that no attack has broken are attacked once more, so that the figures can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The budget.
    pub epsilon: Epsilon,
    /// How many images of a shard, at most.
    pub images: usize,
}

/// What a worker reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// [`VERSION`].
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// The task.
    pub task: TaskId,
    /// The worker's own try at it, unique.
    pub attempt: String,
    /// Who.
    pub worker: WorkerId,
    /// What.
    pub report: Report,
}

impl Event {
    /// Hands it to the coordinators.
    pub async fn send(&self, queue: &dyn Queue) -> Result<()> {
        let body = serde_json::to_vec(self).context(Kind::Internal, || "an event has no JSON form".into())?;
        queue.publish(Topic::Events, vec![body.into()]).await
    }
}

/// What happened to an attempt, or to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Report {
    /// The job was submitted, cancelled or retried: the store says which. Names no task.
    Changed,
    /// It began.
    Started,
    /// It is alive and has dealt with so many images.
    Progress {
        /// Images so far.
        images: u64,
    },
    /// It is done; its outputs lie under keys of its own.
    Done(Success),
    /// It failed.
    Failed {
        /// One line for a person.
        error: String,
        /// The exit code of its kind.
        code: u8,
    },
    /// This worker cannot do it: its disk, its credentials or its device stand in the way. Another one may.
    Declined {
        /// One line for a person.
        error: String,
    },
}

/// The outputs of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Success {
    /// Objects by the names that [`Work`] gives.
    pub outputs: BTreeMap<String, Blob>,
    /// Figures by name: `images`, `seconds`, `loss`, `accuracy`, …
    pub metrics: BTreeMap<String, f64>,
    /// What the worker computed with: `device`, `libtorch`, `instruction_set`, `precision`.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}
