//! What a finished job leaves for people, below `result/`, and how it is brought to a folder.

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::TryStreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::preparation::Prepared;
use super::program::{Evaluated, Rehearsal, Trained};
use super::spec::JobSpec;
use super::stage::Job;
use super::training::output;
use crate::dataset::shard::{Sample, ShardReader};
use crate::error::{Context, Kind, Result};
use crate::model;
use crate::report::{self, Report, RunRecord};
use crate::signal::{self, Orderly};
use crate::store::{Blob, Store};
use crate::task::{JobId, Success};

/// Bytes of a file's name that common file systems allow.
const LONGEST_NAME: usize = 255;

/// Report, page, both models and kept pictures of a training job. `report.json` comes last: where it is,
/// everything is.
pub(super) async fn write(job: &Job, trained: Trained) -> Result<()> {
    let report = Report::new(&trained.record)?;
    let about = json!({ "id": job.spec.id, "seed": job.spec.settings.job.seed, "report": trained.record.provenance });
    for (folder, name, checkpoint) in
        [("baseline", report::BASELINE, &trained.baseline), ("model", report::TRAINED, &trained.checkpoint)]
    {
        let weights = model::checkpoint::read(&job.store.get_blob(checkpoint).await?)?;
        let measured: Vec<_> = report.results.iter().filter(|r| r.model == name).collect();
        let metrics = serde_json::to_value(measured).context(Kind::Internal, || "results have no JSON".into())?;
        let (weights, description) = model::files(&trained.model, &weights, metrics, about.clone())?;
        put(job, &format!("{folder}/{}", model::WEIGHTS_FILE), weights).await?;
        put(job, &format!("{folder}/{}", model::SPEC_FILE), description).await?;
    }
    put(job, "model/README.md", report::model_card(&report, &trained.model)?.into_bytes()).await?;
    write_measured(job, &trained.prepared, &trained.images).await?;
    finish(job, &trained.record, &report).await
}

/// The report of an evaluation, and kept pictures.
pub(super) async fn write_evaluation(job: &Job, evaluated: Evaluated) -> Result<()> {
    write_measured(job, &evaluated.prepared, &evaluated.images).await?;
    finish(job, &evaluated.record, &Report::new(&evaluated.record)?).await
}

/// The pictures that were measured: `images/<split>/<class>/<key>.png`.
async fn write_measured(job: &Job, prepared: &Prepared, tars: &[Blob]) -> Result<()> {
    let split = prepared.measured()?;
    let place = |sample: &Sample| {
        let class = prepared.plan.classes.get(sample.label).map_or("unknown", String::as_str);
        format!("images/{}/{class}/{}.png", split.name(), sample.key)
    };
    for tar in tars {
        write_pictures(job, tar, place).await?;
    }
    Ok(())
}

/// The figures of a rehearsal.
pub(super) async fn write_rehearsal(job: &Job, found: Rehearsal) -> Result<()> {
    let text = serde_json::to_vec_pretty(&found).context(Kind::Internal, || "figures have no JSON form".into())?;
    put(job, "rehearsal.json", text).await
}

async fn finish(job: &Job, record: &RunRecord, report: &Report) -> Result<()> {
    put(job, "report.html", report::page(report, &record.examples)?.into_bytes()).await?;
    put(job, "report.json", report.to_json()?).await
}

/// An adversarial picture beside the place of each photo, and a manifest.
pub(super) async fn write_copies(job: &Job, prepared: &Prepared, copies: &[Option<Success>]) -> Result<()> {
    let mut manifest = String::new();
    for (shard, copy) in prepared.plan.shards.iter().zip(copies) {
        let Some(copy) = copy else { continue };
        let blob = output(copy, "shard")?;
        let paths: BTreeMap<&str, &str> = shard.samples.iter().map(|s| (s.key.as_str(), s.path.as_str())).collect();
        // The whole name: `a.jpg` and `a.png` of one folder must not meet.
        let place = |s: &Sample| picture_of(paths.get(s.key.as_str()).copied().unwrap_or(&s.key));
        for (picture, meta) in write_pictures(job, &blob, place).await? {
            let class = |name: &str| {
                let label = meta.get(name).and_then(serde_json::Value::as_u64).unwrap_or(u64::MAX);
                prepared.plan.classes.get(label as usize).cloned()
            };
            let line = json!({
                "picture": picture, "source": meta["path"], "label": meta["class"], "epsilon": meta["epsilon"],
                "levels": meta["levels"], "before": class("predicted_before"), "after": class("predicted_after"),
            });
            manifest.push_str(&line.to_string());
            manifest.push('\n');
        }
    }
    for photo in &prepared.plan.quarantined {
        manifest.push_str(&json!({ "source": photo.path, "set_aside": photo.reason }).to_string());
        manifest.push('\n');
    }
    for lost in &job.left_out {
        manifest.push_str(&json!({ "left_out": lost.task, "why": lost.why }).to_string());
        manifest.push('\n');
    }
    put(job, "manifest.jsonl", manifest.into_bytes()).await
}

/// `path` with `.png` behind its whole name, which is cut where no file could be called so.
fn picture_of(path: &str) -> String {
    let start = path.rfind('/').map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(start);
    if name.len() + ".png".len() <= LONGEST_NAME {
        return format!("{path}.png");
    }
    let digest = hex::encode(Sha256::digest(name));
    let cut = name.floor_char_boundary(LONGEST_NAME - 20);
    format!("{folder}{}-{}.png", &name[..cut], &digest[..12])
}

/// Unpacks a shard of pictures to the places that `place` names; returns each picture's place and what its shard
/// says about it.
async fn write_pictures(
    job: &Job,
    tar: &Blob,
    place: impl Fn(&Sample) -> String,
) -> Result<Vec<(String, serde_json::Value)>> {
    let bytes = job.store.get_blob(tar).await?;
    let mut written = Vec::new();
    for sample in ShardReader::new(&bytes[..]) {
        let sample = sample?;
        let place = place(&sample);
        put(job, &place, sample.image).await?;
        written.push((place, sample.meta));
    }
    Ok(written)
}

pub(super) async fn put(job: &Job, name: &str, bytes: impl Into<bytes::Bytes>) -> Result<()> {
    let key = crate::store::Key::new(format!("{}/result/{name}", JobSpec::prefix(&job.spec.id).as_str()))?;
    job.store.put_bytes(&key, bytes).await.map(drop)
}

/// Copies the results of a job to `folder`, each file whole or not at all.
pub async fn export(store: &dyn Store, job: &JobId, folder: &Path) -> Result<()> {
    let prefix = JobSpec::prefix(job).join("result");
    let mut entries: Vec<_> = store.list(Some(&prefix)).await?.try_collect().await?;
    // The report last: where it is, everything is.
    let lasts = ["/result/report.json", "/result/attack.json"];
    entries.sort_by_key(|e| lasts.iter().any(|last| e.key.as_str().ends_with(last)));
    let _orderly = Orderly::begin();
    for entry in entries {
        signal::check()?;
        let path = folder.join(entry.key.as_str()[prefix.as_str().len()..].trim_start_matches('/'));
        let bytes = store.get_bytes(&entry.key, entry.size).await?;
        model::write_whole(&path, &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_called_after_its_photo_as_far_as_names_may_be_long() {
        assert_eq!(picture_of("train/rose/a.jpg"), "train/rose/a.jpg.png");
        let long = |end: &str| picture_of(&format!("rose/{}{end}.jpg", "ü".repeat(120)));
        assert!(long("1234567").ends_with("ü1234567.jpg.png"), "exactly as long as allowed");
        let (one, other) = (long("abcdefgh1"), long("abcdefgh2"));
        assert_ne!(one, other);
        for picture in [one, other] {
            assert!(picture.starts_with("rose/üü") && picture.ends_with(".png"), "{picture}");
            assert!(picture.len() <= "rose/".len() + LONGEST_NAME, "{picture}");
        }
    }
}
