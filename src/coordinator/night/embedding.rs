//! How far the photos that came lie from those before in the features of the model that the night starts from.

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::ledger::Stored;
use crate::coordinator::preparation::read;
use crate::coordinator::stage::Job;
use crate::dataset::drift::{Embedding, Features};
use crate::dataset::grow::{self, Photos};
use crate::error::Result;
use crate::seed::{Purpose, Stream, stream};
use crate::store::Blob;
use crate::task::{Success, TaskId, VersionId, Work};

/// Photos of either kind that are looked at, at most. The model is another one after every promotion, so that what was
/// seen of the known ones is of no use later, and looking at all of them would take as long as an epoch.
const SAMPLE: usize = 1024;

/// Photos of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    shard: Blob,
    keys: Vec<String>,
}

/// The photos that are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    known: Vec<Part>,
    new: Vec<Part>,
}

impl Compared {
    /// Draws photos of the shards that were there `before` the night, and of those `made` in it such as `came`.
    pub fn draw(before: &[Stored], made: &[Stored], came: &Photos, seed: u64, night: &VersionId) -> Self {
        let mut lots = stream(seed, Purpose::Order, 0, &format!("drift {night}"));
        let is_new = |path: &str| came.get(path).is_some_and(|photo| grow::packed(photo).is_some());
        Self { known: sample(before, |_| true, &mut lots), new: sample(made, is_new, &mut lots) }
    }

    /// Has workers look at them with the model `checkpoint`. None where there is nothing to compare, or the model shows
    /// no features.
    pub async fn measure(&self, job: &mut Job, checkpoint: &Blob) -> Result<Option<Embedding>> {
        if self.known.is_empty() || self.new.is_empty() {
            return Ok(None);
        }
        let mut tasks = Vec::new();
        for (name, parts) in [("known", &self.known), ("new", &self.new)] {
            for (number, Part { shard, keys }) in parts.iter().enumerate() {
                let id = format!("features-{name}-{number:05}");
                let photos = job.store.put_json(&job.key(format!("plan/{id}.json")), keys).await?;
                let (shard, checkpoint) = (shard.clone(), checkpoint.clone());
                tasks.push((TaskId(id), Work::Features { shard, photos, checkpoint }));
            }
        }
        let known_lost = job.left_out.len();
        let parts = job.parts("compare photos", tasks).await?;
        // Whatever is lost here, the model's figures are those of all photos.
        job.left_out.truncate(known_lost);
        let (known, new) = parts.split_at(self.known.len());
        let sums = (sum(job, known).await?, sum(job, new).await?);
        Ok(sums.0.zip(sums.1).and_then(|(known, new)| Embedding::new(&known, &new)))
    }
}

/// Photos for which `wanted` holds, from shards in random order; those of a shard are well mixed already.
fn sample(shards: &[Stored], wanted: impl Fn(&str) -> bool, lots: &mut Stream) -> Vec<Part> {
    let mut shards: Vec<&Stored> = shards.iter().collect();
    shards.shuffle(lots);
    let (mut parts, mut left) = (Vec::new(), SAMPLE);
    for Stored { samples, blob, .. } in shards {
        let photos = samples.iter().filter(|s| wanted(&s.path)).take(left);
        let keys: Vec<String> = photos.map(|s| s.key.clone()).collect();
        left -= keys.len();
        if !keys.is_empty() {
            parts.push(Part { shard: blob.clone(), keys });
        }
    }
    parts
}

/// What all tasks found together, those left aside that could not be done.
async fn sum(job: &Job, parts: &[Option<Success>]) -> Result<Option<Features>> {
    let mut all = Features::default();
    for part in parts.iter().flatten() {
        let Some(found) = part.outputs.get("features") else { return Ok(None) };
        all.add(&read(job, found).await?);
    }
    Ok(Some(all))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dataset::grow::{Fate, Known, Packed};
    use crate::dataset::{Sample, Split};
    use crate::store::Key;

    fn stored(name: &str, photos: usize) -> Stored {
        let sample = |i: usize| {
            let path = format!("{name}/{i}");
            Sample { key: path.replace('/', "-"), label: 0, sha256: path.clone(), path }
        };
        let blob = Blob { key: Key::new(format!("shards/{name}")).unwrap(), sha256: name.into(), size: 1 };
        Stored { split: Split::Train, samples: (0..photos).map(sample).collect(), blob }
    }

    fn keys(parts: &[Part]) -> Vec<&str> {
        parts.iter().flat_map(|part| &part.keys).map(String::as_str).collect()
    }

    #[test]
    fn of_many_known_photos_some_are_drawn_and_of_a_mixed_shard_those_that_came() {
        let before: Vec<Stored> = ["a", "b", "c", "d"].map(|name| stored(name, 400)).into();
        let fate = |path: &str, fate: Fate| (path.to_string(), Known { size: 1, stamp: None, fate });
        let packed = Packed { label: 0, split: Split::Train, sha256: String::new(), phash: 0, brightness: 0 };
        let came: Photos = [
            fate("made/0", Fate::Packed(packed.clone())),
            fate("made/2", Fate::Packed(packed)),
            fate("made/3", Fate::Duplicate),
        ]
        .into();
        let draw = |night: &str| Compared::draw(&before, &[stored("made", 9)], &came, 7, &VersionId(night.into()));
        let drawn = draw("n2");
        assert_eq!(keys(&drawn.new), ["made-0", "made-2"]);
        assert_eq!((drawn.known.len(), keys(&drawn.known).len()), (3, SAMPLE));
        assert_eq!(draw("n2"), drawn, "a night that goes on looks at the same");
        let others = (3..40).map(|night| draw(&format!("n{night}")));
        assert!(others.into_iter().any(|other| other.known[0].shard != drawn.known[0].shard), "each night draws anew");
    }
}
