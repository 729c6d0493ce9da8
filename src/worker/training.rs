//! One replica's round: shards to batches, batches to weights.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::try_join;
use image::RgbImage;
use rand::RngExt;
use tch::Tensor;

use super::Attempt;
use super::compute::{Recipe, weights};
use crate::config::{DataSettings, Freshness, Settings};
use crate::dataset::shard::{Sample, ShardReader};
use crate::dataset::{decode, view};
use crate::error::{Context, Error, Kind, Result};
use crate::model::{self, images};
use crate::seed::{Purpose, Stream, stream};
use crate::task::{Success, TrainWork};
use crate::train::{self, AdamW, Batch, RoundPlan};

/// Trains for one round.
pub(super) async fn round(attempt: &Attempt<'_>, work: &TrainWork) -> Result<Success> {
    let recipe = Recipe::fetch(attempt, &work.checkpoint).await?;
    let state = match &work.optimizer {
        Some(blob) => Some(weights(attempt, blob).await?),
        None => None,
    };
    let mut files = Vec::with_capacity(work.shards.len());
    for (number, shard) in work.shards.iter().enumerate() {
        let clean = attempt.fetch(shard).await?;
        let adversarial = match work.adversarial.get(number) {
            Some(blob) => Some(attempt.fetch(blob).await?),
            None => None,
        };
        files.push((clean, adversarial));
    }
    let (spec, work, seen) = (attempt.spec.clone(), work.clone(), attempt.progress.clone());
    let facts = recipe.facts(attempt).await?;
    let (metrics, checkpoint, optimizer) = attempt
        .compute(move |_| {
            let settings = &spec.settings;
            let network = recipe.network()?;
            let mut optimizer = match &state {
                Some(state) => AdamW::resume(network.leaves(), &settings.train, state)?,
                None => AdamW::new(network.leaves(), &settings.train),
            };
            let plan = RoundPlan {
                round: work.round,
                first_step: work.first_step,
                total_steps: work.total_steps,
                steps: work.steps,
                rate: work.rate,
                seed: settings.job.seed,
                adversary: work.adversary,
                train: &settings.train,
                ramp: &settings.adversary,
            };
            let mut batches = Batches::new(settings, &work, files, settings.training_size());
            let progress = |images| seen.reach(images);
            let metrics = train::round(&network, &mut optimizer, &mut batches, &plan, &progress)?;
            let checkpoint = model::checkpoint::write(&network.weights())?;
            Ok((metrics, checkpoint, model::checkpoint::write(&optimizer.state())?))
        })
        .await?;
    let mut success = Success { facts, ..Success::default() };
    let checkpoint = attempt.put("checkpoint", "safetensors", checkpoint);
    let (checkpoint, optimizer) = try_join(checkpoint, attempt.put("optimizer", "safetensors", optimizer)).await?;
    success.outputs.extend([checkpoint, optimizer]);
    let figures = [
        ("loss", metrics.loss),
        ("accuracy", metrics.accuracy),
        ("images", metrics.images as f64),
        ("epsilon", metrics.epsilon),
        ("rate", metrics.rate),
        ("gradient_norm", metrics.gradient_norm),
    ];
    success.metrics.extend(figures.map(|(k, v)| (k.to_string(), v)));
    Ok(success)
}

/// An image on its way into a batch, still encoded.
struct Item {
    sample: Sample,
    adversarial: Option<Arc<[u8]>>,
    /// Which time it comes in this round.
    copy: u32,
}

/// Batches of a replica's images in random order. Holds at most about two shards, encoded.
struct Batches<'a> {
    settings: &'a Settings,
    work: &'a TrainWork,
    files: Vec<(PathBuf, Option<PathBuf>)>,
    size: u32,
    /// Shards read so far, counting on over passes.
    read: usize,
    buffer: Vec<Item>,
    order: Stream,
}

impl<'a> Batches<'a> {
    fn new(settings: &'a Settings, work: &'a TrainWork, files: Vec<(PathBuf, Option<PathBuf>)>, size: u32) -> Self {
        let key = format!("replica {}", work.replica);
        let order = stream(settings.job.seed, Purpose::Order, work.round.into(), &key);
        Self { settings, work, files, size, read: 0, buffer: Vec::new(), order }
    }

    fn batch(&mut self) -> Result<Batch> {
        let batch = self.settings.train.batch;
        let (mut clean, mut adversarial) = (Vec::with_capacity(batch), Vec::with_capacity(batch));
        let (mut labels, mut keys) = (Vec::with_capacity(batch), Vec::with_capacity(batch));
        while labels.len() < batch {
            self.refill()?;
            let item = self.buffer.swap_remove(self.order.random_range(0..self.buffer.len()));
            let (seen, attacked) = self.view(&item)?;
            clean.push(seen);
            adversarial.extend(attacked);
            labels.push(item.sample.label as i64);
            keys.push(format!("{}/{}", item.sample.key, item.copy));
        }
        Ok(Batch {
            images: images::tensor(&clean),
            adversarial: (!adversarial.is_empty()).then(|| images::tensor(&adversarial)),
            labels: Tensor::from_slice(&labels),
            keys,
        })
    }

    /// The view of an image in this round and, where it was made beforehand, its adversarial image.
    fn view(&self, item: &Item) -> Result<(RgbImage, Option<RgbImage>)> {
        let s = self.settings;
        let key = &item.sample.key;
        let photo = decoded(&item.sample.image, key, s)?;
        let draw = |round: u32, copy: u32| {
            let mut stream = stream(s.job.seed, Purpose::View, (u64::from(round) << 32) | u64::from(copy), key);
            view::random(&photo, self.size, s.model.resize, &s.augment, &mut stream)
        };
        let Some(bytes) = &item.adversarial else { return Ok((draw(self.work.round, item.copy), None)) };
        // The view that was attacked, drawn once more; from here on the pair may only be mirrored together.
        let round = if s.adversary.freshness == Freshness::Once { 0 } else { self.work.round };
        let pair = (draw(round, 0), decoded(bytes, key, s)?);
        let mut stream = stream(s.job.seed, Purpose::Flip, u64::from(self.work.round), &format!("{key}/{}", item.copy));
        let mirrored = s.augment.flip && stream.random::<bool>();
        Ok(if mirrored { (view::flip(&pair.0), Some(view::flip(&pair.1))) } else { (pair.0, Some(pair.1)) })
    }

    /// Reads shards, passing over them again when need be, until about one is in the buffer.
    fn refill(&mut self) -> Result<()> {
        let mut last = 0;
        while self.buffer.len() <= last.max(self.settings.data.shard_images / 2) {
            let pass = self.read / self.files.len().max(1);
            if pass > 0 && !self.buffer.is_empty() {
                break;
            }
            let before = self.buffer.len();
            self.load(self.read % self.files.len().max(1), pass as u32)?;
            self.read += 1;
            last = self.buffer.len() - before;
            if self.read > self.files.len() && self.buffer.is_empty() {
                return Err(Error::data(format!("the shards of replica {} hold no image", self.work.replica)));
            }
        }
        Ok(())
    }

    fn load(&mut self, number: usize, pass: u32) -> Result<()> {
        let (clean, adversarial) = self
            .files
            .get(number)
            .ok_or_else(|| Error::data(format!("replica {} was given no shards", self.work.replica)))?;
        let mut attacked = match adversarial {
            Some(path) => Some(open(path)?),
            None => None,
        };
        for sample in open(clean)? {
            let sample = sample?;
            let bytes: Option<Arc<[u8]>> = match &mut attacked {
                Some(shard) => Some(partner(shard, &sample)?.into()),
                None => None,
            };
            let repeats = self.work.repeats.get(sample.label).copied().unwrap_or(1.0);
            let key = format!("{}/{pass}", sample.key);
            let lot: f64 = stream(self.settings.job.seed, Purpose::Balance, self.work.round.into(), &key).random();
            let times = repeats.floor() as u32 + u32::from(lot < repeats.fract());
            for time in 0..times {
                let copy = pass * 1024 + time;
                self.buffer.push(Item { sample: sample.clone(), adversarial: bytes.clone(), copy });
            }
        }
        Ok(())
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch>;
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.batch())
    }
}

/// The adversarial image of `sample`: the next one of its shard.
fn partner(shard: &mut ShardReader<BufReader<File>>, sample: &Sample) -> Result<Vec<u8>> {
    match shard.next() {
        Some(Ok(found)) if found.key == sample.key => Ok(found.image),
        Some(Err(e)) => Err(e),
        _ => Err(Error::data(format!("the adversarial shard does not go with its clean one at image {}", sample.key))),
    }
}

/// A fetched shard.
pub(super) fn open(path: &PathBuf) -> Result<ShardReader<BufReader<File>>> {
    let file = File::open(path).context(Kind::Storage, || format!("{} cannot be read back", path.display()))?;
    Ok(ShardReader::new(BufReader::new(file)))
}

/// The pixels of an image in a shard.
pub(super) fn decoded(bytes: &[u8], key: &str, settings: &Settings) -> Result<RgbImage> {
    // What kept the limit as a photo may be larger as the PNG that a shard holds, and has a limit there.
    let limits = DataSettings { max_file_bytes: u64::MAX, ..settings.data.clone() };
    decode::decode(bytes, &limits).map_err(|reason| Error::data(format!("image {key} of a shard: {reason}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::dataset::pack;
    use crate::dataset::shard::{Extension, ShardWriter};
    use crate::store::{Blob, Key};

    /// Eight images of class 0 and two of class 1, as one shard.
    fn shard(folder: &std::path::Path) -> PathBuf {
        let mut writer = ShardWriter::new(Vec::new());
        for number in 0..10 {
            let label = usize::from(number >= 8);
            writer
                .append(&Sample {
                    key: format!("image{number}"),
                    label,
                    image: pack::encode(&RgbImage::new(32, 32), Extension::Png).unwrap(),
                    extension: Extension::Png,
                    meta: serde_json::json!({}),
                })
                .unwrap();
        }
        let path = folder.join("shard.tar");
        std::fs::write(&path, writer.finish().unwrap()).unwrap();
        path
    }

    /// Images of each class in so many batches of ten.
    fn drawn(repeats: Vec<f64>, batches: usize) -> [i64; 2] {
        let folder = tempfile::tempdir().unwrap();
        let layers = Layers::new().unwrap().set(&["train.batch=10".into(), "model.input_size=32".into()]).unwrap();
        let settings = layers.resolve().unwrap().settings;
        let checkpoint = Blob { key: Key::new("c").unwrap(), sha256: String::new(), size: 0 };
        let work = TrainWork {
            round: 0,
            replica: 0,
            checkpoint,
            optimizer: None,
            shards: Vec::new(),
            adversarial: Vec::new(),
            steps: batches as u32,
            first_step: 0,
            total_steps: batches as u32,
            rate: 0.1,
            repeats,
            adversary: None,
        };
        let all = Batches::new(&settings, &work, vec![(shard(folder.path()), None)], 32);
        let labels: Vec<Tensor> = all.take(batches).map(|batch| batch.unwrap().labels).collect();
        let ones = Tensor::cat(&labels, 0).sum(tch::Kind::Int64).int64_value(&[]);
        [10 * batches as i64 - ones, ones]
    }

    #[test]
    fn images_come_once_a_pass_and_balanced_classes_equally_often() {
        assert_eq!(drawn(Vec::new(), 10), [80, 20]);
        let [many, few] = drawn(vec![5.0 / 8.0, 5.0 / 2.0], 100);
        assert!((450..=550).contains(&few), "{many} and {few} of 1,000");
    }
}
