//! Tasks on raw photos: inspection and packing.

use std::sync::atomic::Ordering;

use super::Attempt;
use crate::dataset::shard::ShardWriter;
use crate::dataset::{Finding, Inspected, Photo, ShardPlan, decode, pack as packing};
use crate::error::{Context, Error, Kind, Result};
use crate::store::{self, Blob, Key};
use crate::task::Success;

/// Decodes each photo once.
pub(super) async fn inspect(attempt: &Attempt<'_>, photos: &Blob) -> Result<Success> {
    let photos: Vec<Photo> = json(attempt, photos).await?;
    let source = store::open(&attempt.spec.source, attempt.access).await?;
    let mut inspected = Vec::with_capacity(photos.len());
    for photo in photos {
        let settings = attempt.spec.settings.data.clone();
        let limit = settings.max_file_bytes;
        inspected.push(if photo.size > limit {
            let reason = format!("the file has {} bytes, allowed are {limit} (data.max_file_bytes)", photo.size);
            Inspected { photo, finding: Finding::Unusable(reason) }
        } else {
            let bytes = source.get_bytes(&Key::new(photo.path.clone())?, limit).await?;
            attempt.compute(move |_| Ok(decode::inspect(photo, &bytes, &settings))).await?
        });
        attempt.images.fetch_add(1, Ordering::Relaxed);
    }
    let bytes = serde_json::to_vec(&inspected).context(Kind::Internal, || "inspections have no JSON form".into())?;
    let mut success = Success::default();
    success.outputs.extend([attempt.put("photos", "json", bytes).await?]);
    Ok(success)
}

/// Packs the photos of a plan into a shard.
pub(super) async fn pack(attempt: &Attempt<'_>, plan: &Blob) -> Result<Success> {
    let (classes, plan): (Vec<String>, ShardPlan) = json(attempt, plan).await?;
    let source = store::open(&attempt.spec.source, attempt.access).await?;
    let file = tempfile::tempfile().context(Kind::Storage, || "no temporary file can be made for a shard".into())?;
    let mut writer = ShardWriter::new(std::io::BufWriter::new(file));
    for sample in plan.samples {
        let settings = attempt.spec.settings.data.clone();
        let class = classes.get(sample.label).cloned().unwrap_or_default();
        let bytes = source.get_bytes(&Key::new(sample.path.clone())?, settings.max_file_bytes).await?;
        let packed = attempt
            .compute(move |_| {
                let path = sample.path.clone();
                packing::sample(&sample, &class, bytes.to_vec(), &settings)
                    .map_err(|reason| Error::data(format!("photo {}: {reason}", path.escape_debug())))
            })
            .await?;
        writer.append(&packed)?;
        attempt.images.fetch_add(1, Ordering::Relaxed);
    }
    let mut file = writer
        .finish()?
        .into_inner()
        .map_err(|e| Error::storage("a shard cannot be written to the temporary folder").because(e.into_error()))?;
    std::io::Seek::rewind(&mut file).context(Kind::Storage, || "a shard cannot be read back".into())?;
    let mut success = Success::default();
    let body = Box::new(tokio::fs::File::from_std(file));
    success.outputs.extend([attempt.put_stream("shard", "tar", body).await?]);
    Ok(success)
}

/// Reads what the coordinator wrote for a task.
pub(super) async fn json<T: serde::de::DeserializeOwned>(attempt: &Attempt<'_>, blob: &Blob) -> Result<T> {
    let bytes = attempt.store.get_blob(blob).await?;
    serde_json::from_slice(&bytes).context(Kind::Data, || format!("{} is not the JSON it should be", blob.key))
}
