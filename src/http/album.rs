//! The newest adversarial pictures of a job, taken from what its tasks left on the store.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use tokio_util::io::SyncIoBridge;

use crate::coordinator::JobSpec;
use crate::dataset::shard::{Sample, ShardReader};
use crate::error::{Context, Error, Kind, Result};
use crate::jobs::{Jobs, Pictures, Status};
use crate::model::ModelSpec;
use crate::report::{Example, epsilon};
use crate::store::Store;
use crate::task::{JobId, TaskId};

/// Pictures of one set that are shown.
const SHOWN: usize = 12;

/// Sets that are remembered.
const SETS: usize = 12;

/// Pictures above this size are left out, and examples as a whole above [`SHOWN`] times twice this size.
const PICTURE_LIMIT: usize = 1 << 20;

/// Descriptions of models are refused above this size.
const MODEL_LIMIT: u64 = 16 << 20;

/// How every PNG begins.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A picture of an attacked image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Picture {
    pub key: String,
    /// The true class.
    pub class: String,
    /// What the model took it for before and after.
    pub before: Option<String>,
    pub after: Option<String>,
    pub attack: Option<String>,
    /// `4/255`
    pub epsilon: Option<String>,
    /// PNG.
    pub original: Option<Bytes>,
    /// PNG.
    pub adversarial: Bytes,
}

type Set = Arc<Vec<Picture>>;

/// Pictures that were read before, by the hash of what they were taken from; used last comes last.
#[derive(Debug, Default)]
pub(super) struct Album(Mutex<Vec<(String, Set)>>);

impl Album {
    /// The newest set of `status` that is still there, with its id and the task it is from.
    pub async fn newest(&self, store: &Arc<dyn Store>, status: &Status) -> Result<Option<(String, TaskId, Set)>> {
        for pictures in status.pictures.iter().rev() {
            match self.read(store, &status.job, pictures).await {
                Ok(set) if set.is_empty() => {}
                Ok(set) => return Ok(Some((pictures.blob.sha256.clone(), pictures.task.clone(), set))),
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// The set `id` of `status`; none when it is gone.
    pub async fn set(&self, store: &Arc<dyn Store>, status: &Status, id: &str) -> Result<Option<Set>> {
        if let Some(set) = self.known(id) {
            return Ok(Some(set));
        }
        let Some(pictures) = status.pictures.iter().find(|p| p.blob.sha256 == id) else { return Ok(None) };
        match self.read(store, &status.job, pictures).await {
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            set => set.map(Some),
        }
    }

    fn known(&self, id: &str) -> Option<Set> {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = sets.iter().position(|(known, _)| known == id)?;
        let found = sets.remove(at);
        sets.push(found.clone());
        Some(found.1)
    }

    async fn read(&self, store: &Arc<dyn Store>, job: &JobId, pictures: &Pictures) -> Result<Set> {
        let id = &pictures.blob.sha256;
        if let Some(set) = self.known(id) {
            return Ok(set);
        }
        let found = match pictures.blob.key.as_str().ends_with(".json") {
            true => examples(store, pictures).await?,
            false => samples(store, pictures).await?,
        };
        let classes = classes(store, job).await?;
        let set: Set = Arc::new(found.into_iter().map(|raw| raw.named(&classes)).collect());
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= SETS {
            sets.remove(0);
        }
        sets.push((id.clone(), set.clone()));
        Ok(set)
    }
}

/// A picture whose classes are numbers.
struct Raw {
    key: String,
    label: usize,
    before: Option<usize>,
    after: Option<usize>,
    attack: Option<String>,
    epsilon: Option<f64>,
    original: Option<Vec<u8>>,
    adversarial: Vec<u8>,
}

impl Raw {
    fn named(self, classes: &[String]) -> Picture {
        let name = |label: usize| classes.get(label).cloned().unwrap_or_else(|| format!("class {label}"));
        Picture {
            key: self.key,
            class: name(self.label),
            before: self.before.map(name),
            after: self.after.map(name),
            attack: self.attack,
            epsilon: self.epsilon.map(epsilon),
            original: self.original.map(Bytes::from),
            adversarial: self.adversarial.into(),
        }
    }
}

impl From<Example> for Raw {
    fn from(example: Example) -> Self {
        Self {
            key: example.key,
            label: example.label,
            before: Some(example.before.0),
            after: Some(example.after.0),
            attack: Some(example.attack),
            epsilon: Some(example.epsilon),
            original: Some(example.original).filter(|png| is_shown(png)),
            adversarial: example.adversarial,
        }
    }
}

impl From<Sample> for Raw {
    fn from(sample: Sample) -> Self {
        let class = |name: &str| sample.meta.get(name).and_then(Value::as_u64).map(|label| label as usize);
        Self {
            before: class("predicted_before"),
            after: class("predicted_after"),
            attack: None,
            epsilon: sample.meta.get("epsilon").and_then(Value::as_f64),
            original: None,
            adversarial: sample.image,
            key: sample.key,
            label: sample.label,
        }
    }
}

fn is_shown(png: &[u8]) -> bool {
    png.starts_with(PNG) && png.len() <= PICTURE_LIMIT
}

async fn examples(store: &Arc<dyn Store>, pictures: &Pictures) -> Result<Vec<Raw>> {
    let blob = &pictures.blob;
    if blob.size > (2 * SHOWN * PICTURE_LIMIT) as u64 {
        return Ok(Vec::new());
    }
    let bytes = store.get_blob(blob).await?;
    let examples: Vec<Example> =
        serde_json::from_slice(&bytes).context(Kind::Data, || format!("{} holds no examples", blob.key))?;
    Ok(examples.into_iter().filter(|e| is_shown(&e.adversarial)).take(SHOWN).map(Raw::from).collect())
}

/// The first images of a shard, which is not read any further.
async fn samples(store: &Arc<dyn Store>, pictures: &Pictures) -> Result<Vec<Raw>> {
    let body = store.get(&pictures.blob.key).await?;
    let reading = tokio::task::spawn_blocking(move || {
        let samples = ShardReader::new(SyncIoBridge::new(body)).take(SHOWN);
        let shown = samples.filter(|s| s.as_ref().map_or(true, |s| is_shown(&s.image)));
        shown.map(|sample| sample.map(Raw::from)).collect()
    });
    reading.await.map_err(|e| Error::internal("reading pictures was cut short").because(e))?
}

/// The names of the classes; none before they are known.
async fn classes(store: &Arc<dyn Store>, job: &JobId) -> Result<Vec<String>> {
    let spec = Jobs::new(store.clone()).spec(job).await?;
    if let Some(model) = spec.model {
        return Ok(model.classes().to_vec());
    }
    match store.get_json::<ModelSpec>(&JobSpec::prefix(job).join("model.json"), MODEL_LIMIT).await {
        Ok(model) => Ok(model.classes),
        Err(e) if e.kind() == Kind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}
