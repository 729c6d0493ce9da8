//! The programs: what a job does, from its photos to its results, in order.

use std::time::Instant;

use serde::Serialize;

use crate::config::{Settings, Start};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::evaluate::{self, checks::Subject};
use crate::lab::Plan;
use crate::model::{self, ModelSpec, Weights};
use crate::outcome::Count;
use crate::report::{Check, GuardEvent, LeftOut, Provenance, RoundRecord, RunRecord};
use crate::store::{Blob, Store};
use crate::task::{Success, TaskId, Work};

use super::measuring::{self, Measured};
use super::preparation::{self, Prepared};
use super::stage::Job;
use super::training::Phase;

/// The names of the two models in a report.
const BASELINE: &str = "baseline";
const TRAINED: &str = "trained";

/// What a finished training job leaves behind.
#[derive(Debug)]
pub struct Trained {
    /// For the report.
    pub record: RunRecord,
    /// The kept checkpoint of the trained model.
    pub checkpoint: Blob,
    /// The network.
    pub model: ModelSpec,
    /// The data set.
    pub prepared: Prepared,
    /// The measured pictures, shard by shard, where they were kept.
    pub images: Vec<Blob>,
}

/// Photos to robust model, measured.
pub async fn train(job: &mut Job, source: &dyn Store) -> Result<Trained> {
    let prepared = preparation::prepare(job, source).await?;
    let settings = job.spec.settings.clone();
    let classes = prepared.plan.classes.clone();
    let spec = ModelSpec::new(&settings.model, classes.clone());
    job.model = Some(job.store.put_json(&job.key("model.json"), &spec).await?);
    let initial = initial_checkpoint(job, classes.len()).await?;
    let shards = prepared.for_training(settings.data.balance);
    let phase = |name, rounds, rate, adversarial, origin: &Blob| Phase {
        name,
        rounds,
        rate,
        adversarial,
        origin: origin.clone(),
    };
    let baseline = phase("baseline", settings.baseline.rounds, settings.baseline.rate, false, &initial)
        .run(job, &shards, &initial)
        .await?;
    let start = match settings.train.start {
        Start::Baseline => &baseline.checkpoint,
        Start::Weights => &initial,
    };
    let trained = phase("train", settings.train.rounds, settings.train.rate, true, &baseline.checkpoint)
        .run(job, &shards, start)
        .await?;

    let measured_split = prepared.measured()?;
    let measured_shards = prepared.of(measured_split);
    let conditions = evaluate::conditions(&settings.evaluate)?;
    let models = [(BASELINE, &baseline.checkpoint), (TRAINED, &trained.checkpoint)];
    let mut measured: Vec<(String, Measured)> = Vec::new();
    for (name, checkpoint) in models {
        let found = measuring::measure(job, name, checkpoint, &measured_shards, &conditions).await?;
        measured.push((name.to_string(), found));
    }
    let epsilon = settings.evaluate.static_epsilon;
    let copies = measuring::static_copies(job, "static", &baseline.checkpoint, &measured_shards, epsilon).await?;
    let mut static_set = Vec::new();
    for (name, checkpoint) in models {
        static_set.push((name.to_string(), measuring::on_static_copies(job, name, checkpoint, &copies).await?));
    }

    let images = measured.first().map(|(_, m)| m.images.clone()).unwrap_or_default();
    let training = Training {
        rounds: [baseline.rounds, trained.rounds].concat(),
        events: [baseline.events, trained.events].concat(),
        static_set,
    };
    let record = record(job, &prepared, measured_split, measured, &trained.checkpoint, training);
    Ok(Trained { record, checkpoint: trained.checkpoint, model: spec, prepared, images })
}

/// What only a job that trains has to tell.
#[derive(Debug, Default)]
struct Training {
    rounds: Vec<RoundRecord>,
    events: Vec<GuardEvent>,
    static_set: Vec<(String, Count)>,
}

/// Everything for the report.
fn record(
    job: &Job,
    prepared: &Prepared,
    measured_split: Split,
    measured: Vec<(String, Measured)>,
    checkpoint: &Blob,
    training: Training,
) -> RunRecord {
    let settings = job.spec.settings.clone();
    let facts = measured.iter().flat_map(|(_, m)| &m.parts).find(|p| !p.facts.is_empty()).map(|p| p.facts.clone());
    let fact = |name: &str| facts.as_ref().and_then(|f| f.get(name).cloned()).unwrap_or_else(|| "unknown".into());
    let provenance = Provenance {
        hardy: env!("CARGO_PKG_VERSION").into(),
        libtorch: fact("libtorch"),
        device: fact("device"),
        instruction_set: fact("instruction_set"),
        precision: fact("precision"),
        seed: settings.job.seed,
        dataset_sha256: prepared.plan.dataset_sha256(),
        weights_sha256: job.spec.weights.as_ref().map_or_else(|| "none".into(), |w| w.sha256.clone()),
        checkpoint_sha256: checkpoint.sha256.clone(),
        started: job.spec.created.clone(),
        finished: super::spec::now(),
    };
    let mut checks = checks(&measured, &prepared.plan.classes, &settings);
    checks.extend(completeness(&job.left_out));
    let (mut examples, mut outcomes) = (Vec::new(), Vec::new());
    for (name, found) in measured {
        examples.extend(found.examples);
        outcomes.push((name, found.outcomes));
    }
    let counts = prepared.plan.counts().into_iter();
    RunRecord {
        job: job.spec.id.to_string(),
        classes: prepared.plan.classes.clone(),
        counts: counts.map(|(s, c)| (s.name().to_string(), c.iter().map(|&n| n as u64).collect())).collect(),
        measured: measured_split.name().into(),
        quarantined: prepared.plan.quarantined.clone(),
        duplicates: prepared.plan.duplicates.clone(),
        left_out: job.left_out.clone(),
        rounds: training.rounds,
        events: training.events,
        checks,
        outcomes,
        static_set: training.static_set,
        examples,
        provenance,
        settings,
    }
}

/// What the figures say about themselves.
fn checks(measured: &[(String, Measured)], classes: &[String], settings: &Settings) -> Vec<Check> {
    let subjects = measured.iter().map(|(name, found)| Subject {
        model: name,
        outcomes: &found.outcomes,
        audit: Some(&found.audit),
        classes: classes.len(),
        trained_against: (name == TRAINED).then_some(settings.adversary.method),
    });
    let found = subjects.flat_map(|s| evaluate::checks::check(&s));
    found
        .map(|c| Check {
            name: format!("{}: {}", c.model, c.name),
            passed: c.passed,
            figure: c.figure,
            explanation: c.explanation,
        })
        .collect()
}

/// A check that fails where the job went on without something.
fn completeness(left_out: &[LeftOut]) -> Option<Check> {
    let first = left_out.first()?;
    Some(Check {
        name: "job: nothing was left out".into(),
        passed: false,
        figure: format!("{} tasks failed for good, the first: {} {}", left_out.len(), first.task, first.why),
        explanation: "Figures of a part of the photos are figures of that part alone.".into(),
    })
}

/// The weights that training starts from: those submitted with a new head, or fresh ones.
async fn initial_checkpoint(job: &Job, classes: usize) -> Result<Blob> {
    let (architecture, seed) = (job.spec.settings.model.architecture, job.spec.settings.job.seed);
    let weights: Weights = match &job.spec.weights {
        Some(blob) => {
            let folded = model::checkpoint::read(&job.store.get_blob(blob).await?)?;
            model::new_head(&folded, architecture, classes, seed)
        }
        None => model::fresh(architecture, classes, seed),
    };
    job.store.put_bytes(&job.key("initial.safetensors"), model::checkpoint::write(&weights)?).await
}

/// Photos and a model to figures: every photo of the test side, else of val, else of all.
pub async fn evaluate(job: &mut Job, source: &dyn Store) -> Result<RunRecord> {
    let prepared = preparation::prepare(job, source).await?;
    let checkpoint = given_model(job).await?;
    let settings = job.spec.settings.clone();
    let measured_split = prepared.measured()?;
    let conditions = evaluate::conditions(&settings.evaluate)?;
    let found = measuring::measure(job, TRAINED, &checkpoint, &prepared.of(measured_split), &conditions).await?;
    let models = vec![(TRAINED.to_string(), found)];
    Ok(record(job, &prepared, measured_split, models, &checkpoint, Training::default()))
}

/// Photos and a model to adversarial copies of all photos, shard by shard.
pub async fn augment(job: &mut Job, source: &dyn Store) -> Result<(Prepared, Vec<Option<Success>>)> {
    let prepared = preparation::prepare(job, source).await?;
    let checkpoint = given_model(job).await?;
    let epsilon = job.spec.settings.evaluate.static_epsilon;
    let copies = measuring::static_copies(job, "copies", &checkpoint, &prepared.shards, epsilon).await?;
    Ok((prepared, copies))
}

/// Photos and a model to broken photos. A task attacks one batch, so that an interrupted job loses no more than
/// the batches that were under way.
pub async fn attack(job: &mut Job, source: &dyn Store) -> Result<(Prepared, Vec<Success>)> {
    let classes = job.spec.model.as_ref().map(|m| m.classes().to_vec()).unwrap_or_default();
    // What cannot be done is refused before anything is.
    Plan::new(&job.spec.settings.attack, &classes)?;
    let prepared = preparation::prepare(job, source).await?;
    let checkpoint = given_model(job).await?;
    let batch = job.spec.settings.evaluate.batch;
    let mut tasks = Vec::new();
    for (plan, shard) in prepared.plan.shards.iter().zip(&prepared.shards) {
        for first in (0..plan.samples.len()).step_by(batch) {
            let (shard, checkpoint) = (shard.clone(), checkpoint.clone());
            let id = format!("attack-{}-{:05}-{first:06}", plan.split.name(), plan.index);
            tasks.push((TaskId(id), Work::Attack { shard, checkpoint, first, count: batch }));
        }
    }
    let parts = job.stage("attack photos", tasks).await?;
    Ok((prepared, parts))
}

/// What a cluster does with empty tasks.
#[derive(Debug, Serialize)]
pub struct Rehearsal {
    tasks: u32,
    /// From the first task published to the last one written down.
    seconds: f64,
    tasks_per_second: f64,
    /// What failed for good.
    left_out: Vec<LeftOut>,
}

/// Empty tasks, all in one stage.
pub async fn rehearse(job: &mut Job, tasks: u32) -> Result<Rehearsal> {
    let began = Instant::now();
    let all = (0..tasks).map(|number| (TaskId(format!("nothing-{number:07}")), Work::Nothing));
    job.parts("rehearse", all.collect()).await?;
    let seconds = began.elapsed().as_secs_f64();
    let left_out = job.left_out.clone();
    Ok(Rehearsal { tasks, seconds, tasks_per_second: f64::from(tasks) / seconds, left_out })
}

/// The model that was submitted.
async fn given_model(job: &mut Job) -> Result<Blob> {
    let spec = job.spec.model.clone().ok_or_else(|| Error::data("the job names no model"))?;
    job.model = Some(job.store.put_json(&job.key("model.json"), &spec).await?);
    job.spec.weights.clone().ok_or_else(|| Error::data("the job names no weights"))
}
