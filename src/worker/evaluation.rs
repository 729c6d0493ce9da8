//! Tasks that attack: measuring a model on a shard, and making adversarial copies of one.

use std::sync::Arc;

use image::RgbImage;
use serde_json::json;
use tch::Tensor;

use super::Attempt;
use super::compute::Recipe;
use super::training::{decoded, open};
use crate::attack::{self, Attack, Noise, Objective};
use crate::config::{Epsilon, Settings};
use crate::coordinator::JobSpec;
use crate::dataset::shard::{Extension, Sample, ShardWriter};
use crate::dataset::{pack, view};
use crate::error::{Context, Error, Kind, Result};
use crate::evaluate::{self, Batch, Request};
use crate::model::{Classifier, images};
use crate::seed::{Purpose, stream};
use crate::task::{Success, Work};

/// Measures a model on a shard.
pub(super) async fn evaluate(attempt: &Attempt<'_>, work: &Work) -> Result<Success> {
    let Work::Evaluate { shard, checkpoint, conditions, limit, examples, keep_images, probe, others } = work.clone()
    else {
        return Err(Error::internal("this is no evaluation"));
    };
    let recipe = Recipe::fetch(attempt, &checkpoint).await?;
    let mut recipes = Vec::with_capacity(others.len());
    for (name, checkpoint) in others {
        recipes.push((name, Recipe::fetch(attempt, &checkpoint).await?));
    }
    let path = attempt.fetch(&shard).await?;
    let (spec, seen) = (attempt.spec.clone(), attempt.progress.clone());
    let facts = recipe.facts(attempt).await?;
    let (measured, kept) = attempt
        .compute(move |compute| {
            let classifier = compute.classifier(&recipe)?;
            let settings = &spec.settings;
            let samples = Box::new(open(&path)?.take(if limit == 0 { usize::MAX } else { limit }));
            let mut batches = Batches::new(samples, settings, recipe.spec.input_size(), keep_images);
            let progress = |images| seen.reach(images);
            let others = recipes.iter().map(|(name, other)| Ok((name.clone(), other.classifier()?)));
            let others = others.collect::<Result<Vec<_>>>()?;
            let (conditions, seed) = (&conditions[..], settings.job.seed);
            let request = Request { conditions, seed, examples, probe, others: &others };
            let measured = evaluate::shard(classifier, &mut batches, &request, &progress)?;
            Ok((measured, batches.kept.map(ShardWriter::finish).transpose()?))
        })
        .await?;
    let mut success = Success { facts, ..Success::default() };
    let bytes = |value: serde_json::Result<Vec<u8>>| value.context(Kind::Internal, || "outcomes have no JSON".into());
    let outcomes = bytes(serde_json::to_vec(&measured.outcomes))?;
    let audit = bytes(serde_json::to_vec(&measured.audit))?;
    success
        .outputs
        .extend([attempt.put("outcomes", "json", outcomes).await?, attempt.put("audit", "json", audit).await?]);
    if !measured.transferred.is_empty() {
        let transferred = bytes(serde_json::to_vec(&measured.transferred))?;
        success.outputs.extend([attempt.put("transferred", "json", transferred).await?]);
    }
    if !measured.examples.is_empty() {
        let examples = measured.examples.into_iter().map(example).collect::<Result<Vec<_>>>()?;
        success.outputs.extend([attempt.put("examples", "json", bytes(serde_json::to_vec(&examples))?).await?]);
    }
    if let Some(tar) = kept {
        success.outputs.extend([attempt.put("images", "tar", tar).await?]);
    }
    success.metrics.insert("images".into(), measured.outcomes.images.len() as f64);
    Ok(success)
}

/// Makes an adversarial copy of a shard: 8-bit PNGs at the network's size, inside the whole-level
/// ε-ball where the attack itself stays inside the ball.
pub(super) async fn augment(attempt: &Attempt<'_>, work: &Work) -> Result<Success> {
    let Work::Augment { shard, checkpoint, round, method, epsilon, step, noise } = work.clone() else {
        return Err(Error::internal("this makes no images"));
    };
    let recipe = Recipe::fetch(attempt, &checkpoint).await?;
    let path = attempt.fetch(&shard).await?;
    let (spec, seen) = (attempt.spec.clone(), attempt.progress.clone());
    let facts = recipe.facts(attempt).await?;
    let tar = attempt
        .compute(move |compute| {
            let classifier = compute.classifier(&recipe)?;
            let attack = Attack::of(method, step, noise, spec.settings.adversary.steps);
            let mut writer = ShardWriter::new(Vec::new());
            let mut samples = open(&path)?;
            loop {
                let chunk = samples.by_ref().take(spec.settings.evaluate.batch).collect::<Result<Vec<_>>>()?;
                if chunk.is_empty() {
                    return writer.finish();
                }
                let count = chunk.len() as u64;
                let size = if round.is_some() { spec.settings.training_size() } else { recipe.spec.input_size() };
                let maker = Maker { classifier, spec: &spec, size, attack, epsilon, round };
                for sample in maker.attacked(chunk)? {
                    writer.append(&sample)?;
                }
                seen.add(count);
            }
        })
        .await?;
    let mut success = Success { facts, ..Success::default() };
    success.outputs.extend([attempt.put("shard", "tar", tar).await?]);
    Ok(success)
}

/// Makes adversarial samples of clean ones.
struct Maker<'a> {
    classifier: &'a Classifier,
    spec: &'a Arc<JobSpec>,
    size: u32,
    attack: Attack,
    epsilon: Epsilon,
    round: Option<u32>,
}

impl Maker<'_> {
    fn attacked(&self, samples: Vec<Sample>) -> Result<Vec<Sample>> {
        let s = &self.spec.settings;
        let views = samples.iter().map(|sample| self.view(sample)).collect::<Result<Vec<_>>>()?;
        let labels: Vec<i64> = samples.iter().map(|sample| sample.label as i64).collect();
        let labels = Tensor::from_slice(&labels).to_device(self.classifier.device());
        let clean = attack::channels_last(&images::tensor(&views).to_device(self.classifier.device()));
        let model = |x: &Tensor| self.classifier.logits(x);
        let keys = samples.iter().map(|sample| sample.key.as_str()).collect();
        let (purpose, round) = match self.round {
            Some(round) => (Purpose::Adversary, round.into()),
            None => (Purpose::Attack, 0),
        };
        let noise = Noise { seed: s.job.seed, purpose, round, keys };
        let objective = Objective::CrossEntropy(&labels);
        let adversarial = self.attack.craft(&model, &clean, &objective, self.epsilon.value(), &noise);
        // An attack that leaves the ball by design is only rounded; the others are held to it.
        let reach = Epsilon::new((self.attack.reach() * self.epsilon.value()).min(1.0)).unwrap_or(self.epsilon);
        let after = attack::quantise(&adversarial, &clean, reach.levels());
        let predicted = |x: &Tensor| attack::integers(&attack::predict(&model, x));
        let (before, reached) = (predicted(&clean), predicted(&attack::channels_last(&after)));
        let pictures = images::pictures(&after);
        let all = samples.into_iter().zip(pictures).zip(before.into_iter().zip(reached));
        all.map(|((sample, picture), (before, after))| self.sample(sample, &picture, before, after)).collect()
    }

    fn view(&self, sample: &Sample) -> Result<RgbImage> {
        let s = &self.spec.settings;
        let photo = decoded(&sample.image, &sample.key, s)?;
        Ok(match self.round {
            Some(round) => {
                let mut stream = stream(s.job.seed, Purpose::View, u64::from(round) << 32, &sample.key);
                view::random(&photo, self.size, s.model.resize, &s.augment, &mut stream)
            }
            None => view::plain(&photo, self.size, s.model.resize),
        })
    }

    fn sample(&self, clean: Sample, picture: &RgbImage, before: i64, after: i64) -> Result<Sample> {
        let mut meta = clean.meta;
        if let Some(object) = meta.as_object_mut() {
            object.insert("epsilon".into(), json!(self.epsilon.value()));
            object.insert("levels".into(), json!(self.epsilon.levels()));
            object.insert("predicted_before".into(), json!(before));
            object.insert("predicted_after".into(), json!(after));
        }
        let image = pack::encode(picture, Extension::Png).map_err(Error::internal)?;
        Ok(Sample { image, extension: Extension::Png, meta, ..clean })
    }
}

/// Samples of a shard.
type Samples = Box<dyn Iterator<Item = Result<Sample>>>;

/// Their plain views in batches.
pub(super) struct Batches<'a> {
    samples: Samples,
    settings: &'a Settings,
    size: u32,
    /// The pictures that are measured, where they are kept.
    kept: Option<ShardWriter<Vec<u8>>>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(samples: Samples, settings: &'a Settings, size: u32, keep: bool) -> Self {
        Self { samples, settings, size, kept: keep.then(|| ShardWriter::new(Vec::new())) }
    }

    fn batch(&mut self) -> Result<Option<Batch>> {
        let samples = self.samples.by_ref().take(self.settings.evaluate.batch).collect::<Result<Vec<_>>>()?;
        if samples.is_empty() {
            return Ok(None);
        }
        let mut views = Vec::with_capacity(samples.len());
        for sample in &samples {
            let photo = decoded(&sample.image, &sample.key, self.settings)?;
            let seen = view::plain(&photo, self.size, self.settings.model.resize);
            if let Some(kept) = &mut self.kept {
                let image = pack::encode(&seen, Extension::Png).map_err(Error::internal)?;
                kept.append(&Sample { image, extension: Extension::Png, ..sample.clone() })?;
            }
            views.push(seen);
        }
        let labels: Vec<i64> = samples.iter().map(|s| s.label as i64).collect();
        let keys = samples.into_iter().map(|s| s.key).collect();
        Ok(Some(Batch { images: images::tensor(&views), labels: Tensor::from_slice(&labels), keys }))
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch>;
    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

/// An example as the report keeps it.
fn example(found: evaluate::Example) -> Result<crate::report::Example> {
    Ok(crate::report::Example {
        key: found.key,
        model: String::new(),
        attack: found.attack,
        epsilon: found.epsilon.value(),
        label: found.label,
        before: found.before,
        after: found.after,
        original: images::png(&found.original)?,
        adversarial: images::png(&found.adversarial)?,
    })
}
