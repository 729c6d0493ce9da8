//! What a job of attacks leaves: beside the place of each photo its adversarial picture, the comparison and
//! the record; in the end the counts.

use std::collections::{BTreeSet, HashMap};

use super::preparation::{Prepared, read};
use super::results::put;
use super::stage::Job;
use super::training::output;
use crate::dataset::shard::ShardReader;
use crate::error::{Context, Error, Kind, Result};
use crate::lab::{Record, SUMMARY_FILE, Summary};
use crate::store::Blob;
use crate::task::Success;

/// Writes everything; the counts come last: where they are, everything is.
pub(super) async fn write(job: &Job, prepared: &Prepared, parts: &[Success]) -> Result<()> {
    let stems = Stems::of(prepared);
    let mut records: Vec<Record> = Vec::new();
    for part in parts {
        let found: Vec<Record> = read(job, &output(part, "records")?).await?;
        let mut pictures = images(job, part.outputs.get("pictures")).await?.into_iter();
        let mut comparisons = images(job, part.outputs.get("comparisons")).await?.into_iter();
        for mut record in found {
            let (folder, stem) = stems.place(&record.image);
            for finding in &mut record.findings {
                let picture = pictures.next().ok_or_else(|| Error::data("a task has fewer pictures than findings"))?;
                let saved = &mut finding.saved;
                (saved.picture, saved.comparison) =
                    (stems.named(&record.image, &saved.picture), stems.named(&record.image, &saved.comparison));
                put(job, &format!("{folder}{}", saved.picture), picture).await?;
                match comparisons.next() {
                    Some(comparison) => put(job, &format!("{folder}{}", saved.comparison), comparison).await?,
                    None => saved.comparison.clear(),
                }
            }
            let text = serde_json::to_vec_pretty(&record).context(Kind::Internal, || "a record has no JSON".into())?;
            put(job, &format!("{folder}{stem}.json"), text).await?;
            records.push(record);
        }
    }
    records.sort_by(|a, b| a.image.cmp(&b.image));
    let unusable = prepared.plan.quarantined.iter().map(|q| (q.path.clone(), q.reason.clone())).collect();
    let summary = Summary::of(&records, unusable, job.spec.settings.attack.smallest);
    let text = serde_json::to_vec_pretty(&summary).context(Kind::Internal, || "counts have no JSON".into())?;
    put(job, SUMMARY_FILE, text).await
}

/// The images of a tar, in their order; none without a tar.
async fn images(job: &Job, tar: Option<&Blob>) -> Result<Vec<Vec<u8>>> {
    let Some(tar) = tar else { return Ok(Vec::new()) };
    let bytes = job.store.get_blob(tar).await?;
    ShardReader::new(&bytes[..]).map(|sample| sample.map(|sample| sample.image)).collect()
}

/// How the files of each photo begin: with its name without extension, or with its whole name where that is claimed by
/// another photo or by the summary.
struct Stems(HashMap<String, usize>);

impl Stems {
    fn of(prepared: &Prepared) -> Self {
        let mut claims = HashMap::from([(stem(SUMMARY_FILE).to_string(), 1)]);
        for sample in prepared.plan.shards.iter().flat_map(|shard| &shard.samples) {
            let path = sample.path.as_str();
            // The whole name too: `a.jpg` may need it, so `a.jpg.webp` must not be called `a.jpg`.
            for claim in BTreeSet::from([path, stem(path)]) {
                *claims.entry(claim.to_string()).or_insert(0) += 1;
            }
        }
        Self(claims)
    }

    /// The folder of a photo, with a slash, and how its files begin.
    fn place<'a>(&self, path: &'a str) -> (&'a str, &'a str) {
        let whole = if self.0.get(stem(path)).is_some_and(|&count| count > 1) { path } else { stem(path) };
        whole.split_at(path.rfind('/').map_or(0, |slash| slash + 1))
    }

    /// The name of a file of this photo that a worker called `name`.
    fn named(&self, path: &str, name: &str) -> String {
        let (folder, begin) = self.place(path);
        let rest = name.strip_prefix(&stem(path)[folder.len()..]).unwrap_or(name);
        format!("{begin}{rest}")
    }
}

/// `path` without its extension.
fn stem(path: &str) -> &str {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[name..].rfind('.') {
        Some(dot) if dot > 0 => &path[..name + dot],
        _ => path,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dataset::{Plan, Sample, ShardPlan, Split};

    #[test]
    fn files_are_named_by_the_stem_and_no_two_photos_meet() {
        let cases = [
            ("rose/a.jpg", ("rose/", "a.jpg")),
            ("rose/a.png", ("rose/", "a.png")),
            ("rose/a.jpg.webp", ("rose/", "a.jpg.webp")),
            ("rose/b.c.jpg", ("rose/", "b.c")),
            ("rose/attack.jpg", ("rose/", "attack")),
            ("attack.jpg", ("", "attack.jpg")),
            ("d.jpg", ("", "d")),
            ("daisy/a.jpg", ("daisy/", "a")),
            ("x/.y", ("x/", ".y")),
            ("x/plain", ("x/", "plain")),
        ];
        let paths = cases.map(|(path, _)| path);
        let sample = |path: &&str| Sample { key: "k".into(), label: 0, path: path.to_string(), sha256: String::new() };
        let samples = paths.iter().map(sample).collect();
        let shards = vec![ShardPlan { split: Split::Test, index: 0, samples }];
        let plan = Plan { classes: vec![], shards, quarantined: vec![], duplicates: vec![] };
        let stems = Stems::of(&Prepared { plan, shards: vec![] });
        for (path, expected) in cases {
            assert_eq!(stems.place(path), expected, "{path}");
        }
        let places: BTreeSet<_> = paths.iter().map(|path| stems.place(path)).collect();
        assert_eq!(places.len(), paths.len());
        assert_eq!(stems.named("rose/a.png", "a.0.1.adversarial.png"), "a.png.0.1.adversarial.png");
        assert_eq!(stems.named("d.jpg", "d.adversarial.png"), "d.adversarial.png");
    }
}
