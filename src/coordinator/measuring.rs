//! Measuring models at the end: every attack on every image of one side, once.

use super::preparation::read;
use super::stage::Job;
use super::training::{merged_outcomes, output};
use crate::config::{Adversary, Epsilon};
use crate::error::Result;
use crate::evaluate::{self, Audit};
use crate::outcome::{Count, Outcomes};
use crate::report::Example;
use crate::store::Blob;
use crate::task::{Condition, Success, TaskId, Work};

/// A model under all attacks.
#[derive(Debug)]
pub struct Measured {
    /// All images.
    pub outcomes: Outcomes,
    /// Whether attacks and network behaved.
    pub audit: Audit,
    /// For the report.
    pub examples: Vec<Example>,
    /// The network-size pictures of each shard, where they were kept.
    pub images: Vec<Blob>,
    /// What other models predict for its adversarial images.
    pub transferred: Vec<(String, Outcomes)>,
    /// The tasks' results.
    pub parts: Vec<Success>,
}

/// Measures `checkpoint`, called `model` in the report, on `shards`, and shows its adversarial images to `others`.
pub async fn measure(
    job: &mut Job,
    model: &str,
    checkpoint: &Blob,
    others: &[(String, Blob)],
    shards: &[Blob],
    conditions: &[Condition],
) -> Result<Measured> {
    let s = &job.spec.settings.evaluate;
    let probe = evaluate::probe(s, job.spec.settings.adversary.epsilon, shards.len());
    let (examples, keep_images) = (s.examples.div_ceil(shards.len().max(1)), s.keep_images);
    let tasks = shards.iter().enumerate().map(|(i, shard)| {
        let work = Work::Evaluate {
            shard: shard.clone(),
            checkpoint: checkpoint.clone(),
            conditions: conditions.to_vec(),
            limit: 0,
            examples,
            keep_images,
            probe,
            others: others.to_vec(),
        };
        (TaskId(format!("evaluate-{model}-{i:05}")), work)
    });
    let tasks = tasks.collect();
    let parts: Vec<Success> = job.parts(&format!("evaluate {model}"), tasks).await?.into_iter().flatten().collect();
    let outcomes = merged_outcomes(job, &parts).await?;
    let (mut pictures, mut images, mut audit) = (Vec::new(), Vec::new(), Audit::default());
    let mut shown: Vec<Vec<Outcomes>> = vec![Vec::new(); others.len()];
    for part in &parts {
        if !others.is_empty() {
            let found: Vec<(String, Outcomes)> = read(job, &output(part, "transferred")?).await?;
            shown.iter_mut().zip(found).for_each(|(all, (_, outcomes))| all.push(outcomes));
        }
        audit.add(&read(job, &output(part, "audit")?).await?);
        if let Some(blob) = part.outputs.get("examples") {
            let found: Vec<Example> = read(job, blob).await?;
            pictures.extend(found.into_iter().map(|e| Example { model: model.to_string(), ..e }));
        }
        images.extend(part.outputs.get("images").cloned());
    }
    pictures.truncate(job.spec.settings.evaluate.examples);
    let merged = others.iter().zip(shown).map(|((name, _), parts)| Ok((name.clone(), Outcomes::merge(parts)?)));
    let transferred = merged.collect::<Result<_>>()?;
    Ok(Measured { outcomes, audit, examples: pictures, images, transferred, parts })
}

/// FGSM copies of `shards` made with `checkpoint`, as PNGs at the network's size.
pub async fn static_copies(
    job: &mut Job,
    name: &str,
    checkpoint: &Blob,
    shards: &[Blob],
    epsilon: Epsilon,
) -> Result<Vec<Option<Success>>> {
    let tasks = shards.iter().enumerate().map(|(i, shard)| {
        let work = Work::Augment {
            shard: shard.clone(),
            checkpoint: checkpoint.clone(),
            round: None,
            method: Adversary::Fgsm,
            epsilon,
            step: 1.0,
            noise: 0.0,
        };
        (TaskId(format!("{name}-{i:05}")), work)
    });
    job.parts(&format!("{name}: FGSM images"), tasks.collect()).await
}

/// Clean accuracy of `checkpoint` on images that are adversarial already.
pub async fn on_static_copies(
    job: &mut Job,
    model: &str,
    checkpoint: &Blob,
    copies: &[Option<Success>],
) -> Result<Count> {
    let mut tasks = Vec::new();
    for (i, copy) in copies.iter().flatten().enumerate() {
        let work = Work::Evaluate {
            shard: output(copy, "shard")?,
            checkpoint: checkpoint.clone(),
            conditions: vec![Condition { attack: "clean".into(), epsilon: Epsilon::ZERO }],
            limit: 0,
            examples: 0,
            keep_images: false,
            probe: None,
            others: Vec::new(),
        };
        tasks.push((TaskId(format!("static-{model}-{i:05}")), work));
    }
    let parts = job.parts(&format!("evaluate {model} on the static set"), tasks).await?;
    let parts: Vec<Success> = parts.into_iter().flatten().collect();
    Ok(merged_outcomes(job, &parts).await?.count(0))
}
