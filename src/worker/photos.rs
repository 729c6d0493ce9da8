//! Tasks on raw photos: inspection and packing.

use super::Attempt;
use crate::dataset::shard::ShardWriter;
use crate::dataset::{Finding, Inspected, Photo, ShardPlan, decode, pack as packing};
use crate::error::{Context, Error, Kind, Result};
use crate::store::{self, Blob, Key, Store};
use crate::task::Success;

/// Decodes each photo once.
pub(super) async fn inspect(attempt: &Attempt<'_>, photos: &Blob) -> Result<Success> {
    let photos: Vec<Photo> = json(attempt, photos).await?;
    let source = store::open(&attempt.spec.source, attempt.access).await?;
    let mut inspected = Vec::with_capacity(photos.len());
    for photo in photos {
        inspected.push(look_at(attempt, &*source, photo).await?);
        attempt.progress.add(1);
    }
    let bytes = serde_json::to_vec(&inspected).context(Kind::Internal, || "inspections have no JSON form".into())?;
    let mut success = Success::default();
    success.outputs.extend([attempt.put("photos", "json", bytes).await?]);
    Ok(success)
}

async fn look_at(attempt: &Attempt<'_>, source: &dyn Store, photo: Photo) -> Result<Inspected> {
    let settings = attempt.spec.settings.data.clone();
    let limit = settings.max_file_bytes;
    if photo.size > limit {
        let reason = format!("the file has {} bytes, allowed are {limit} (data.max_file_bytes)", photo.size);
        return Ok(Inspected { photo, finding: Finding::Unusable(reason) });
    }
    match source.get_bytes(&Key::new(photo.path.clone())?, limit).await {
        Ok(bytes) => attempt.compute(move |_| Ok(decode::inspect(photo, &bytes, &settings))).await,
        // One photo that somebody took away is no reason to do without the others of its task.
        Err(e) if e.kind() == Kind::NotFound => {
            Ok(Inspected { photo, finding: Finding::Unseen("it went while the job ran".into()) })
        }
        Err(e) => Err(e),
    }
}

/// Packs the photos of a plan into a shard.
pub(super) async fn pack(attempt: &Attempt<'_>, plan: &Blob) -> Result<Success> {
    let (classes, plan): (Vec<String>, ShardPlan) = json(attempt, plan).await?;
    let source = store::open(&attempt.spec.source, attempt.access).await?;
    let file = tempfile::tempfile().context(Kind::Storage, || "no temporary file can be made for a shard".into())?;
    let mut writer = ShardWriter::new(std::io::BufWriter::new(file));
    let mut data = attempt.spec.settings.data.clone();
    if data.stored_side > 0 {
        // A network that sees more than is usually stored is not shown a photo blown up again.
        let seen = attempt.spec.settings.training_size().max(attempt.spec.settings.model.input_size);
        data.stored_side = data.stored_side.max(seen);
    }
    for sample in plan.samples {
        let settings = data.clone();
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
        attempt.progress.add(1);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Layers;
    use crate::coordinator::{JobSpec, Program};
    use crate::store::LocalStore;
    use crate::worker::{Cache, Thread};

    #[tokio::test]
    async fn a_photo_that_went_meanwhile_costs_no_other_one() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(&folder.path().join("store")).unwrap());
        let photos = folder.path().join("photos");
        std::fs::create_dir_all(photos.join("rose")).unwrap();
        std::fs::write(photos.join("rose/there.jpg"), "no picture").unwrap();
        let photo = |path: &str| Photo { path: path.into(), class: "rose".into(), split: None, size: 10, stamp: None };
        let listed = ["rose/gone.jpg", "rose/there.jpg"].map(photo);
        let listed = store.put_json(&Key::new("photos.json").unwrap(), &listed).await.unwrap();
        let settings = Layers::new().unwrap().resolve().unwrap().settings;
        let access = settings.store.clone();
        let spec = JobSpec::new("j".parse().unwrap(), Program::Train, &settings, photos.to_str().unwrap());
        let cache = Cache::new(&folder.path().join("cache")).unwrap();
        let thread = Thread::start(&"w".parse().unwrap()).unwrap();
        let attempt = Attempt {
            spec: Arc::new(spec),
            model: None,
            store: &store,
            access: &access,
            cache: &cache,
            thread: &thread,
            progress: Arc::default(),
            prefix: Key::new("attempt").unwrap(),
        };
        let made = inspect(&attempt, &listed).await.unwrap();
        let found: Vec<Inspected> = json(&attempt, &made.outputs["photos"]).await.unwrap();
        assert!(matches!(&found[0].finding, Finding::Unseen(why) if why.contains("went")), "{found:?}");
        assert!(matches!(&found[1].finding, Finding::Unusable(_)), "{found:?}");
    }
}
