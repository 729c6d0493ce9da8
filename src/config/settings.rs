//! The resolved settings, one struct per section of `configs/default.toml`, where each key is explained.

use serde::{Deserialize, Serialize};

use super::epsilon::Epsilon;
use super::secret::Secret;
use crate::queue::Priority;

macro_rules! settings {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "each key is explained in configs/default.toml")]
        pub struct $name { $(pub $field: $kind),* }
    )*};
}

macro_rules! choice {
    ($($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "each choice is explained in configs/default.toml")]
        pub enum $name { $(#[serde(rename = $text)] $variant),* }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),* })
            }
        }
    )*};
}

choice! {
    /// What becomes of a job when one of its tasks keeps failing.
    Poison { Fail = "fail", Skip = "skip" }
    /// What a job that is submitted does.
    JobKind { Train = "train", Evaluate = "evaluate", Augment = "augment", Attack = "attack" }
    /// How often each class is drawn in training.
    Balance { None = "none", Classes = "classes" }
    /// A network that can be attacked and trained; the text is timm's name where timm has it.
    Architecture {
        TfEfficientnetLite0 = "tf_efficientnet_lite0",
        Resnet18 = "resnet18",
        Resnet50 = "resnet50",
        HardySmall = "hardy_small",
    }
    /// How a photo becomes a square.
    Resize { Squash = "squash", Crop = "crop" }
    /// Where adversarial training starts from.
    Start { Baseline = "baseline", Weights = "weights" }
    /// Where a night starts from.
    NightStart { Current = "current", Weights = "weights" }
    /// What a night without changes does.
    Unchanged { Skip = "skip", Train = "train" }
    /// The course of the learning rate.
    Schedule { OneCycle = "one-cycle", Cosine = "cosine" }
    /// What training minimises.
    Loss { Adversarial = "adversarial", Mix = "mix", Trades = "trades" }
    /// How replicas become one checkpoint.
    Outer { Average = "average", Nesterov = "nesterov" }
    /// The training adversary.
    Adversary { Fgsm = "fgsm", RsFgsm = "rs-fgsm", NFgsm = "n-fgsm", Pgd = "pgd" }
    /// When the training adversary's images are made.
    Freshness { Once = "once", Round = "round", Step = "step" }
}

settings! {
    /// Who the job is.
    JobSettings {
        name: String, kind: JobKind, model: String, priority: Priority, seed: u64, threads_per_task: usize,
        poison: Poison,
    }
    /// How photos become shards.
    DataSettings {
        val_fraction: f64, test_fraction: f64, held_fraction: f64, shard_images: usize, stored_side: u32,
        max_pixels: u64, max_file_bytes: u64, quarantine_limit: f64, near_duplicate_bits: u32, balance: Balance,
    }
    /// The network.
    ModelSettings {
        architecture: Architecture, weights: String, input_size: u32, resize: Resize, device: String, bf16: bool,
    }
    /// The random views of training.
    AugmentSettings { flip: bool, crop_min_area: f64, crop_max_aspect: f64, rotation: f64, jitter: f64 }
    /// The undefended model.
    BaselineSettings { rounds: u32, rate: f64 }
    /// Adversarial training.
    TrainSettings {
        start: Start, input_size: u32, rounds: u32, steps_per_round: u32, replicas: u32, batch: usize, rate: f64, head_rate: f64,
        schedule: Schedule, warmup: f64, weight_decay: f64, clip_norm: f64, label_smoothing: f64, ema: f64,
        loss: Loss, clean_share: f64, clean_weight: f64, trades_beta: f64, patience: u32, outer: Outer, outer_rate: f64,
        outer_momentum: f64,
    }
    /// What training defends against.
    AdversarySettings {
        method: Adversary, epsilon: Epsilon, step: f64, noise: f64, steps: u32, ramp_start: f64, ramp_end: f64,
        freshness: Freshness,
    }
    /// The watch for catastrophic overfitting.
    GuardSettings {
        enabled: bool, steps: u32, images: usize, drop: f64, gap: f64, rollbacks: u32, soften: f64,
    }
    /// What is measured at the end.
    EvaluateSettings {
        attacks: Vec<String>, epsilons: Vec<Epsilon>, batch: usize, static_epsilon: Epsilon, keep_images: bool,
        examples: usize, probes: usize, beside: Vec<String>,
    }
    /// What `hardy attack` does to photos.
    AttackSettings {
        method: String, epsilons: Vec<Epsilon>, smallest: bool, label: String, target: String, from: String,
        comparisons: bool, batch: usize,
    }
    /// What a retrained model must hold.
    GateSettings {
        epsilon: Epsilon, clean_drop: f64, robust_drop: f64, class_drop: f64, class_floor: f64, checks: bool,
        better: bool, alpha: f64,
    }
    /// Retraining every night.
    NightlySettings {
        start: NightStart, unchanged: Unchanged, rounds: u32, rate: f64, keep: usize, small_shards: usize, deadline: u64,
        retries: u32, quarantine_growth: f64, quarantine_least: usize,
    }
    /// Who is told how a night ended.
    WebhookSettings { url: String, timeout: u64 }
    /// The message queue.
    QueueSettings {
        url: String, prefix: String, delivery_limit: u32, failures: u32, silence: u64, speculation: bool, ca: String,
        certificate: String, key: String,
    }
    /// The object store.
    StoreSettings { url: String, endpoint: String, region: String, path_style: bool }
    /// The workers of this process.
    WorkerSettings { count: usize, cache: String, grace: u64, idle: u64, stall: u64 }
    /// What is told to browsers and to Prometheus.
    HttpSettings { listen: String, token: Secret }
    /// Everything.
    Settings {
        job: JobSettings, data: DataSettings, model: ModelSettings, augment: AugmentSettings,
        baseline: BaselineSettings, train: TrainSettings, adversary: AdversarySettings, guard: GuardSettings,
        evaluate: EvaluateSettings, attack: AttackSettings, gate: GateSettings, nightly: NightlySettings,
        webhook: WebhookSettings, queue: QueueSettings, store: StoreSettings, worker: WorkerSettings,
        http: HttpSettings,
    }
}

impl Settings {
    /// Pixels of the square views that training sees, which may be smaller than what the network is used at.
    pub fn training_size(&self) -> u32 {
        if self.train.input_size == 0 { self.model.input_size } else { self.train.input_size }
    }

    /// Those that belong to the job wherever it runs: what says where things are is blanked, since it
    /// changes no result and may hold passwords.
    pub fn of_job(&self) -> Self {
        let mut settings = self.clone();
        settings.queue.url.clear();
        settings.queue.prefix.clear();
        for path in [&mut settings.queue.ca, &mut settings.queue.certificate, &mut settings.queue.key] {
            path.clear();
        }
        settings.store = StoreSettings { url: "".into(), endpoint: "".into(), region: "".into(), path_style: true };
        settings.webhook.url.clear();
        settings.worker = WorkerSettings { count: 0, cache: "".into(), grace: 0, idle: 0, stall: 0 };
        settings.http = HttpSettings { listen: "".into(), token: Secret::default() };
        settings
    }
}
