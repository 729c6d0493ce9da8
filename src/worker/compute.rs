//! What the compute thread keeps, and which work is done where.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::future::{try_join, try_join_all};

use super::{Attempt, evaluation, features, lab, photos, training};
use crate::config::Outer;
use crate::error::{Context, Error, Kind, Result};
use crate::model::{self, Classifier, Described, ModelSpec, Network, Weights};
use crate::store::Blob;
use crate::task::{Success, Work};
use crate::train::merge;

/// The state of the compute thread: the model it attacked last.
#[derive(Debug, Default)]
pub(crate) struct Compute {
    loaded: Option<(String, Classifier)>,
}

impl Compute {
    /// The model of this recipe, loaded unless it is the one that was used last.
    pub(super) fn classifier(&mut self, recipe: &Recipe) -> Result<&Classifier> {
        let known = self.loaded.as_ref().is_some_and(|(id, _)| *id == recipe.id);
        if !known {
            self.loaded = None;
            self.loaded = Some((recipe.id.clone(), recipe.classifier()?));
        }
        match &self.loaded {
            Some((_, classifier)) => Ok(classifier),
            None => Err(Error::internal("no model is loaded")),
        }
    }
}

/// All that a model is built from.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    id: String,
    pub(super) spec: Described,
    /// As in [`model::Brought`].
    bytes: Vec<u8>,
    device: String,
    bf16: bool,
    threads: usize,
    /// Counts how often the model looks at images: an attack may take long over one batch.
    steps: Arc<AtomicU64>,
}

impl Recipe {
    /// Fetches a checkpoint or a TorchScript file and the model's description.
    pub(super) async fn fetch(attempt: &Attempt<'_>, checkpoint: &Blob) -> Result<Self> {
        if let Some(compared) = attempt.spec.compared.iter().find(|model| model.weights == *checkpoint) {
            return Self::of(attempt, compared.model.clone(), checkpoint).await;
        }
        let model = attempt.model.as_ref().ok_or_else(|| Error::data("the task names no model"))?;
        let path = attempt.fetch(model).await?;
        let text = std::fs::read(path).context(Kind::Storage, || format!("{} cannot be read back", model.key))?;
        let spec: Described =
            serde_json::from_slice(&text).context(Kind::Data, || format!("{} does not describe a model", model.key))?;
        Self::of(attempt, spec, checkpoint).await
    }

    /// The same of a model whose description is known.
    pub(super) async fn of(attempt: &Attempt<'_>, spec: Described, checkpoint: &Blob) -> Result<Self> {
        let settings = &attempt.spec.settings;
        let about = serde_json::to_string(&spec).context(Kind::Internal, || "a model has no JSON form".into())?;
        Ok(Self {
            id: format!("{about}/{}", checkpoint.sha256),
            spec,
            bytes: fetched(attempt, checkpoint).await?,
            device: settings.model.device.clone(),
            bf16: settings.model.bf16,
            threads: settings.job.threads_per_task,
            steps: attempt.progress.steps(),
        })
    }

    /// The network to be trained; call it on the compute thread.
    pub(super) fn network(&self) -> Result<Network> {
        self.set_threads();
        let Described::Network(spec) = &self.spec else {
            return Err(Error::model("a TorchScript file can be measured and attacked, not trained"));
        };
        let network = self.exact(spec)?;
        if self.bf16 { network.in_bf16() } else { Ok(network) }
    }

    /// The model to be attacked and measured, in f32 as whoever uses it will compute; call it on the compute thread.
    pub(super) fn classifier(&self) -> Result<Classifier> {
        self.set_threads();
        match &self.spec {
            Described::Network(spec) => Ok(self.exact(spec)?.into()),
            Described::Script(_) => {
                let script = Classifier::load(&self.spec, &self.bytes, model::device(&self.device)?)?;
                Ok(script.counted(self.steps.clone()))
            }
        }
    }

    fn exact(&self, spec: &ModelSpec) -> Result<Network> {
        let network = Network::load(spec, &model::checkpoint::read(&self.bytes)?, model::device(&self.device)?)?;
        Ok(network.counted(self.steps.clone()))
    }

    fn set_threads(&self) {
        tch::set_num_threads(i32::try_from(self.threads).unwrap_or(1));
    }

    /// What is computed with, for the report.
    pub(super) async fn facts(&self, attempt: &Attempt<'_>) -> Result<BTreeMap<String, String>> {
        let device = self.device.clone();
        let trained_in_bf16 = self.bf16 && attempt.spec.program.trains();
        let precision = if trained_in_bf16 { "float32, training in bfloat16" } else { "float32" };
        let facts = attempt.compute(move |_| {
            Ok([
                ("device", format!("{:?}", model::device(&device)?).to_lowercase()),
                ("libtorch", model::libtorch_version().to_string()),
                ("instruction_set", model::instruction_set().to_string()),
                ("precision", precision.to_string()),
            ])
        });
        Ok(facts.await?.map(|(k, v)| (k.to_string(), v)).into())
    }
}

/// Fetches named tensors.
pub(super) async fn weights(attempt: &Attempt<'_>, blob: &Blob) -> Result<Weights> {
    model::checkpoint::read(&fetched(attempt, blob).await?)
}

async fn fetched(attempt: &Attempt<'_>, blob: &Blob) -> Result<Vec<u8>> {
    let path = attempt.fetch(blob).await?;
    std::fs::read(path).context(Kind::Storage, || format!("{} cannot be read back", blob.key))
}

/// Does one task.
pub(super) async fn perform(attempt: &Attempt<'_>, work: &Work) -> Result<Success> {
    match work {
        Work::Inspect { photos } => photos::inspect(attempt, photos).await,
        Work::Shard { plan } => photos::pack(attempt, plan).await,
        Work::Augment { .. } => evaluation::augment(attempt, work).await,
        Work::Attack { shard, checkpoint, first, count } => {
            lab::attack(attempt, shard, checkpoint, *first..first.saturating_add(*count)).await
        }
        Work::Features { shard, photos, checkpoint } => features::sum(attempt, shard, photos, checkpoint).await,
        Work::Train(work) => training::round(attempt, work).await,
        Work::Merge { start, replicas, outer } => merged(attempt, start, replicas, outer.as_ref()).await,
        Work::Nothing { stored: false } => Ok(Success::default()),
        Work::Nothing { stored: true } => {
            let outputs = [attempt.put("nothing", "txt", "").await?].into();
            Ok(Success { outputs, ..Success::default() })
        }
        Work::Evaluate { .. } => evaluation::evaluate(attempt, work).await,
    }
}

async fn merged(
    attempt: &Attempt<'_>,
    start: &Blob,
    replicas: &[(Blob, Blob)],
    outer: Option<&Blob>,
) -> Result<Success> {
    let pairs = replicas.iter().map(|(model, state)| try_join(weights(attempt, model), weights(attempt, state)));
    let pairs = try_join_all(pairs.collect::<Vec<_>>()).await?;
    let (checkpoints, optimizers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let start = weights(attempt, start).await?;
    let momentum = match outer {
        Some(blob) => Some(weights(attempt, blob).await?),
        None => None,
    };
    let train = attempt.spec.settings.train.clone();
    let files = attempt
        .compute(move |_| {
            let mean = merge::average(&checkpoints)?;
            let optimizer = merge::average(&optimizers)?;
            let mut files = vec![("optimizer", model::checkpoint::write(&optimizer)?)];
            let mean = match train.outer {
                Outer::Average => mean,
                Outer::Nesterov => {
                    let (rate, decay) = (train.outer_rate, train.outer_momentum);
                    let (next, velocity) = merge::nesterov(&start, &mean, momentum.as_ref(), rate, decay)?;
                    files.push(("outer", model::checkpoint::write(&velocity)?));
                    next
                }
            };
            files.push(("checkpoint", model::checkpoint::write(&mean)?));
            Ok(files)
        })
        .await?;
    let mut success = Success::default();
    let stored = files.into_iter().map(|(name, bytes)| attempt.put(name, "safetensors", bytes));
    success.outputs.extend(try_join_all(stored.collect::<Vec<_>>()).await?);
    Ok(success)
}
