//! From photos to shards: list, inspect, plan, pack.

use std::collections::HashMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use super::source::entries;
use super::spec::Program;
use super::stage::Job;
use super::training::{Shards, output};
use crate::config::{Balance, DataSettings};
use crate::dataset::{Finding, Inspected, Photo, Plan, ShardPlan, Split, plan, scan, view};
use crate::error::{Context, Error, Kind, Result};
use crate::model;
use crate::store::{Blob, Entry, Key};
use crate::task::{Success, TaskId, Work};

/// Photos that one inspection task decodes.
const CHUNK: usize = 128;

/// Listings and plans are refused above this size.
const LIMIT: u64 = 1 << 30;

/// The data set as shards.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What was decided.
    pub plan: Plan,
    /// The shard of each entry of `plan.shards`, in that order.
    pub shards: Vec<Blob>,
}

impl Prepared {
    /// The shards of one side.
    pub fn of(&self, split: Split) -> Vec<Blob> {
        let both = self.plan.shards.iter().zip(&self.shards);
        both.filter(|(plan, _)| plan.split == split).map(|(_, blob)| blob.clone()).collect()
    }

    /// Photos on one side.
    pub fn count(&self, split: Split) -> u64 {
        self.plan.shards.iter().filter(|s| s.split == split).map(|s| s.samples.len() as u64).sum()
    }

    /// The side that is measured at the end: test where there is one, else val. Photos that nothing is trained on may be
    /// a side `train` alone.
    pub fn measured(&self) -> Result<Split> {
        measured(&self.plan)
    }

    /// What training needs.
    pub fn for_training(&self, balance: Balance) -> Shards {
        Shards {
            train: self.of(Split::Train),
            train_images: self.count(Split::Train),
            held: self.of(Split::Held),
            repeats: match balance {
                Balance::None => Vec::new(),
                Balance::Classes => self.repeats(),
            },
        }
    }

    /// How often an image of each class is drawn, so that all classes are drawn equally often.
    fn repeats(&self) -> Vec<f64> {
        let counts = self.plan.counts().remove(&Split::Train).unwrap_or_default();
        let mean = counts.iter().sum::<usize>() as f64 / counts.len().max(1) as f64;
        counts.iter().map(|&n| mean / n.max(1) as f64).collect()
    }
}

fn measured(plan: &Plan) -> Result<Split> {
    if !plan.shards.is_empty() && plan.shards.iter().all(|shard| shard.split == Split::Train) {
        return Ok(Split::Train);
    }
    let has = |side: &Split| plan.shards.iter().any(|shard| shard.split == *side && !shard.samples.is_empty());
    [Split::Test, Split::Val].into_iter().find(has).ok_or_else(|| {
        Error::data("there is no val or test side to measure on; set data.val_fraction or data.test_fraction")
    })
}

/// Runs the stages.
pub async fn prepare(job: &mut Job, source: &dyn crate::store::Store) -> Result<Prepared> {
    let here: &Job = job;
    let training = here.spec.program == Program::Train;
    let photos = remembered(here, "plan/photos.json", || list(here, source, training)).await?;
    let inspected = inspect(job, &photos).await?;
    let s = &job.spec.settings;
    let mut plan = match job.spec.program {
        Program::Train => plan::plan(inspected, &one_side(&s.data), s.job.seed, s.train.replicas)?,
        _ => {
            warn_of_small(&inspected, s.model.input_size);
            let classes = job.spec.model.as_ref().map(|m| m.classes().to_vec()).unwrap_or_default();
            plan::every_photo(inspected, &classes, &s.data)?
        }
    };
    if matches!(job.spec.program, Program::Train | Program::Evaluate) {
        // Noticed now, not when everything is trained.
        measured(&plan)?;
    }
    job.store.put_json(&job.key("plan/plan.json"), &plan).await?;
    let made = pack(job, &plan.classes, &plan.shards).await?;
    let lost: Vec<bool> = made.iter().map(Option::is_none).collect();
    plan.leave_out(&lost, "the task that was to pack it failed (job.poison)");
    let shards = made.iter().flatten().map(|m| output(m, "shard")).collect::<Result<_>>()?;
    Ok(Prepared { plan, shards })
}

/// One side is measured. Where that is `test`, photos of a `val` side would be of no use to anybody.
pub(super) fn one_side(data: &DataSettings) -> DataSettings {
    let val_fraction = if data.test_fraction > 0.0 { 0.0 } else { data.val_fraction };
    DataSettings { val_fraction, ..data.clone() }
}

/// A model that exists already was made for photos of a size.
fn warn_of_small(inspected: &[Inspected], side: u32) {
    let small = |photo: &&Inspected| match photo.finding {
        Finding::Usable { width, height, .. } => view::is_small((width, height), side),
        Finding::Unusable(_) | Finding::Unseen(_) => false,
    };
    let count = inspected.iter().filter(small).count() as u64;
    if count > 0 {
        warn!("{}", view::told_of_small(count));
    }
}

/// Has photos decoded once.
pub(super) async fn inspect(job: &mut Job, photos: &[Photo]) -> Result<Vec<Inspected>> {
    let mut tasks = Vec::new();
    for (number, chunk) in photos.chunks(CHUNK).enumerate() {
        let blob = job.store.put_json(&job.key(format!("plan/photos-{number:05}.json")), &chunk).await?;
        tasks.push((TaskId(format!("inspect-{number:05}")), Work::Inspect { photos: blob }));
    }
    let parts = job.parts("inspect photos", tasks).await?;
    let mut inspected: Vec<Inspected> = Vec::with_capacity(photos.len());
    for (part, chunk) in parts.iter().zip(photos.chunks(CHUNK)) {
        match part {
            Some(part) => inspected.extend(read::<Vec<Inspected>>(job, &output(part, "photos")?).await?),
            None => inspected.extend(chunk.iter().map(|photo| Inspected {
                photo: photo.clone(),
                finding: Finding::Unseen("the task that was to look at it failed (job.poison)".into()),
            })),
        }
    }
    Ok(inspected)
}

/// Has shards packed; none stands for one that cannot be (`job.poison`).
async fn pack(job: &mut Job, classes: &[String], shards: &[ShardPlan]) -> Result<Vec<Option<Success>>> {
    let tasks = packing(job, classes, shards).await?;
    job.parts("pack shards", tasks).await
}

/// Has shards packed, every one.
pub(super) async fn pack_all(job: &mut Job, classes: &[String], shards: &[ShardPlan]) -> Result<Vec<Success>> {
    let tasks = packing(job, classes, shards).await?;
    job.stage("pack shards", tasks).await
}

async fn packing(job: &Job, classes: &[String], shards: &[ShardPlan]) -> Result<Vec<(TaskId, Work)>> {
    let mut tasks = Vec::new();
    for shard in shards {
        let id = format!("shard-{}-{:05}", shard.split.name(), shard.index);
        let blob = job.store.put_json(&job.key(format!("plan/{id}.json")), &(classes, shard)).await?;
        tasks.push((TaskId(id), Work::Shard { plan: blob }));
    }
    Ok(tasks)
}

/// Computes a value once per job: a later coordinator reads what the first one wrote.
pub(super) async fn remembered<T, F>(job: &Job, name: &str, compute: impl FnOnce() -> F) -> Result<T>
where
    T: Serialize + DeserializeOwned + Sync,
    F: Future<Output = Result<T>>,
{
    let key: Key = job.key(name);
    match job.store.get_json(&key, LIMIT).await {
        Err(e) if e.kind() == Kind::NotFound => {
            let value = compute().await?;
            job.store.put_json(&key, &value).await?;
            Ok(value)
        }
        known => known,
    }
}

/// The photos of a source; `training` asks for classes that can be trained on.
pub(super) async fn list(job: &Job, source: &dyn crate::store::Store, training: bool) -> Result<Vec<Photo>> {
    let (spec, entries) = (&job.spec, entries(job, source).await?);
    let files = entries.iter().map(|e| (e.key.as_str().to_string(), e.size));
    let classless = !spec.settings.attack.label.is_empty();
    let mut photos = match spec.program {
        _ if training => scan::scan(files)?,
        Program::Attack => scan::find_any(files, classless)?,
        _ => scan::find(files)?,
    };
    if spec.program == Program::Night {
        let name = |e: Entry| (e.key.as_str().to_string(), e.stamp);
        let mut stamps: HashMap<String, Option<String>> = entries.into_iter().map(name).collect();
        photos.iter_mut().for_each(|photo| photo.stamp = stamps.remove(&photo.path).flatten());
        return Ok(photos);
    }
    if training {
        return Ok(photos);
    }
    // The model's own spelling of its classes from here on.
    let classes = spec.model.as_ref().map(|m| m.classes()).unwrap_or_default();
    for photo in photos.iter_mut().filter(|photo| !photo.class.is_empty()) {
        photo.class = classes[model::class_of_folder(classes, &photo.class)?].clone();
    }
    Ok(photos)
}

/// Reads a JSON object that a task brought.
pub(super) async fn read<T: DeserializeOwned>(job: &Job, blob: &Blob) -> Result<T> {
    let bytes = job.store.get_blob(blob).await?;
    serde_json::from_slice(&bytes).context(Kind::Data, || format!("{} is not the JSON it should be", blob.key))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Layers;

    #[test]
    fn no_photo_is_put_on_a_side_that_nobody_measures() {
        let mut data = Layers::new().unwrap().resolve().unwrap().settings.data;
        assert!(data.val_fraction > 0.0 && data.test_fraction > 0.0, "as they come");
        assert_eq!((one_side(&data).val_fraction, one_side(&data).test_fraction), (0.0, data.test_fraction));
        data.test_fraction = 0.0;
        assert_eq!(one_side(&data), data, "then val is measured");
    }
}
