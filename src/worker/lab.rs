//! Tasks of the attack lab: some photos of a shard, broken and saved.

use std::ops::Range;
use std::path::PathBuf;

use serde_json::Value;

use super::Attempt;
use super::compute::Recipe;
use super::training::{decoded, open};
use crate::config::Settings;
use crate::dataset::shard::{Extension, Sample, ShardWriter};
use crate::dataset::view;
use crate::error::{Context, Error, Kind, Result};
use crate::lab::{self, Labelled, Models, Plan, Specimen, Subject};
use crate::model::Described;
use crate::store::Blob;
use crate::task::Success;

/// Attacks the photos of `shard` in `range`.
pub(super) async fn attack(
    attempt: &Attempt<'_>,
    shard: &Blob,
    checkpoint: &Blob,
    range: Range<usize>,
) -> Result<Success> {
    let recipe = Recipe::fetch(attempt, checkpoint).await?;
    let path = attempt.fetch(shard).await?;
    let (spec, seen) = (attempt.spec.clone(), attempt.progress.clone());
    let surrogate = match &attempt.spec.surrogate {
        Some(other) => Some(Recipe::of(attempt, other.model.clone(), &other.weights).await?),
        None => None,
    };
    let facts = recipe.facts(attempt).await?;
    let specimens = attempt
        .compute(move |compute| {
            let classifier = compute.classifier(&recipe)?;
            let settings = &spec.settings;
            let plan = Plan::new(&settings.attack, recipe.spec.classes())?;
            let subjects = subjects(&path, range, settings, &recipe.spec, &plan)?;
            let with = (settings.job.seed, settings.attack.comparisons);
            let surrogate = surrogate.map(|other| other.classifier()).transpose()?;
            let classes = recipe.spec.classes();
            let models = Models { attacked: classifier, surrogate: surrogate.as_ref(), classes };
            let found = lab::examine(&models, &subjects, &plan, with, &|_, _| ())?;
            seen.add(found.len() as u64);
            Ok(found)
        })
        .await?;
    let mut success = Success { facts, ..Success::default() };
    let (mut records, mut pictures, mut comparisons) = (Vec::new(), Vec::new(), Vec::new());
    for Specimen { record, pictures: found } in specimens {
        records.push(record);
        for each in found {
            pictures.push(each.adversarial);
            comparisons.extend(each.comparison);
        }
    }
    let records = serde_json::to_vec(&records).context(Kind::Internal, || "records have no JSON form".into())?;
    success.outputs.extend([attempt.put("records", "json", records).await?]);
    for (name, images) in [("pictures", pictures), ("comparisons", comparisons)] {
        if !images.is_empty() {
            success.outputs.extend([attempt.put(name, "tar", tar(images)?).await?]);
        }
    }
    Ok(success)
}

/// The photos of a shard in `range`, as the model sees them.
fn subjects(
    path: &PathBuf,
    range: Range<usize>,
    settings: &Settings,
    model: &Described,
    plan: &Plan,
) -> Result<Vec<Subject>> {
    let samples = open(path)?.skip(range.start).take(range.len());
    samples.map(|sample| subject(sample?, settings, model, plan)).collect()
}

fn subject(sample: Sample, settings: &Settings, model: &Described, plan: &Plan) -> Result<Subject> {
    let photo = decoded(&sample.image, &sample.key, settings)?;
    let size = model.input_size();
    // A label beyond the classes: the photo lies in no class folder.
    let folder = (sample.label < model.classes().len()).then_some((sample.label, Labelled::Folder));
    let image = sample.meta["path"].as_str().ok_or_else(|| Error::data("a sample of a shard has no path"))?;
    let stem = std::path::Path::new(image).file_stem().unwrap_or_default();
    Ok(Subject {
        stem: stem.to_string_lossy().into_owned(),
        image: image.to_string(),
        view: view::plain(&photo, size, model.resize()),
        enlarged: photo.width().min(photo.height()) < size,
        label: plan.label.map(|label| (label, Labelled::Given)).or(folder),
        key: sample.key,
    })
}

/// PNG files in their order.
fn tar(images: Vec<Vec<u8>>) -> Result<Vec<u8>> {
    let mut writer = ShardWriter::new(Vec::new());
    for (number, image) in images.into_iter().enumerate() {
        let key = format!("{number:06}");
        writer.append(&Sample { key, label: 0, image, extension: Extension::Png, meta: Value::Null })?;
    }
    writer.finish()
}
