//! Tasks that look at photos as a model's classifier does.

use std::collections::HashSet;

use tch::{Device, Tensor};

use super::compute::Recipe;
use super::evaluation::Batches;
use super::training::open;
use super::{Attempt, photos};
use crate::dataset::drift::Features;
use crate::error::{Context, Kind, Result};
use crate::store::Blob;
use crate::task::Success;

/// Sums up the features of those photos of a shard whose keys `wanted` names.
pub(super) async fn sum(attempt: &Attempt<'_>, shard: &Blob, wanted: &Blob, checkpoint: &Blob) -> Result<Success> {
    let recipe = Recipe::fetch(attempt, checkpoint).await?;
    let path = attempt.fetch(shard).await?;
    let wanted: HashSet<String> = photos::json(attempt, wanted).await?;
    let (spec, seen) = (attempt.spec.clone(), attempt.progress.clone());
    let facts = recipe.facts(attempt).await?;
    let found = attempt
        .compute(move |compute| {
            let classifier = compute.classifier(&recipe)?;
            let samples = open(&path)?.filter(move |sample| match sample {
                Ok(sample) => wanted.contains(&sample.key),
                Err(_) => true,
            });
            let mut found = Features::default();
            for batch in Batches::new(Box::new(samples), &spec.settings, recipe.spec.input_size(), false) {
                let batch = batch?;
                let images = batch.images.to_device(classifier.device());
                let Some(features) = tch::no_grad(|| classifier.features(&images)) else { return Ok(None) };
                rows(&features).iter().for_each(|row| found.take(row));
                seen.add(batch.keys.len() as u64);
            }
            Ok(found.is_finite().then_some(found))
        })
        .await?;
    let mut success = Success { facts, ..Success::default() };
    if let Some(found) = found {
        let bytes = serde_json::to_vec(&found).context(Kind::Internal, || "features have no JSON form".into())?;
        success.outputs.extend([attempt.put("features", "json", bytes).await?]);
    }
    Ok(success)
}

/// The rows of a tensor `[N, F]`.
fn rows(tensor: &Tensor) -> Vec<Vec<f32>> {
    let mut values = vec![0.0; tensor.numel()];
    tensor.to_device(Device::Cpu).contiguous().copy_data(&mut values, tensor.numel());
    values.chunks_exact(tensor.size()[1].max(1) as usize).map(<[f32]>::to_vec).collect()
}
