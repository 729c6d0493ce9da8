//! The programs: what a job does, from its photos to its results, in order.

use std::time::Instant;

use serde::Serialize;

use crate::config::{Settings, Start};
use crate::dataset::{Duplicate, Quarantined, Split};
use crate::error::{Error, Result};
use crate::evaluate::{self, checks::Origin, checks::Subject};
use crate::lab::Plan;
use crate::model::{self, ModelSpec, Weights};
use crate::outcome::Count;
use crate::report::{BASELINE, Check, GuardEvent, LeftOut, Provenance, RoundRecord, RunRecord, TRAINED};
use crate::store::{Blob, Store};
use crate::task::{Condition, Success, TaskId, Work};

use super::measuring::{self, Measured};
use super::preparation::{self, Prepared};
use super::spec::Program;
use super::stage::Job;
use super::training::{self, Phase, Shards};

/// What a finished training job leaves behind.
#[derive(Debug)]
pub struct Trained {
    /// For the report.
    pub record: RunRecord,
    /// The kept checkpoint of the trained model.
    pub checkpoint: Blob,
    /// That of the undefended one.
    pub baseline: Blob,
    /// The network.
    pub model: ModelSpec,
    /// The data set.
    pub prepared: Prepared,
    /// The measured pictures, shard by shard, where they were kept.
    pub images: Vec<Blob>,
}

/// Photos to robust model, measured.
pub async fn train(job: &mut Job, source: &dyn Store) -> Result<Trained> {
    let settings = job.spec.settings.clone();
    let conditions = evaluate::conditions(&settings.evaluate)?;
    let prepared = preparation::prepare(job, source).await?;
    let measured_split = prepared.measured()?;
    let classes = prepared.plan.classes.clone();
    let spec = ModelSpec::new(&settings.model, classes.clone());
    job.model = Some(job.store.put_json(&job.key("model.json"), &spec).await?);
    let initial = initial_checkpoint(job, &classes).await?;
    let shards = prepared.for_training(settings.data.balance);
    let baseline = undefended(job, &shards, &initial).await?;
    let trained = defended(job, &shards, &initial, &baseline).await?;

    let measured_shards = prepared.of(measured_split);
    let models = [(BASELINE, &baseline.checkpoint), (TRAINED, &trained.checkpoint)];
    let models = models.map(|(name, checkpoint)| (name.to_string(), checkpoint.clone()));
    let measured = all(job, &models, &measured_shards, &conditions).await?;
    let epsilon = settings.evaluate.static_epsilon;
    let copies = measuring::static_copies(job, "static", &baseline.checkpoint, &measured_shards, epsilon).await?;
    let mut static_set = Vec::new();
    for (name, checkpoint) in &models {
        static_set.push((name.clone(), measuring::on_static_copies(job, name, checkpoint, &copies).await?));
    }

    let images = measured.first().map(|(_, m)| m.images.clone()).unwrap_or_default();
    let training = Training {
        rounds: [baseline.rounds, trained.rounds].concat(),
        events: [baseline.events, trained.events].concat(),
        static_set,
    };
    let record = record(job, Facts::new(&prepared, measured_split), measured, &trained.checkpoint, training);
    Ok(Trained { record, checkpoint: trained.checkpoint, baseline: baseline.checkpoint, model: spec, prepared, images })
}

/// Measures each of `models`, named checkpoints, and shows its adversarial images to the others.
async fn all(
    job: &mut Job,
    models: &[(String, Blob)],
    shards: &[Blob],
    conditions: &[Condition],
) -> Result<Vec<(String, Measured)>> {
    let mut measured = Vec::new();
    for (name, checkpoint) in models {
        let others: Vec<_> = models.iter().filter(|(other, _)| other != name).cloned().collect();
        let found = measuring::measure(job, name, checkpoint, &others, shards, conditions).await?;
        measured.push((name.clone(), found));
    }
    Ok(measured)
}

/// The baseline.
async fn undefended(job: &mut Job, shards: &Shards, initial: &Blob) -> Result<training::Trained> {
    let (rounds, rate) = (job.spec.settings.baseline.rounds, job.spec.settings.baseline.rate);
    let phase = Phase { name: "baseline", rounds, rate, adversarial: false, origin: initial.clone() };
    phase.run(job, shards, initial).await
}

/// Adversarial training that follows it.
async fn defended(
    job: &mut Job,
    shards: &Shards,
    initial: &Blob,
    baseline: &training::Trained,
) -> Result<training::Trained> {
    let (rounds, rate) = (job.spec.settings.train.rounds, job.spec.settings.train.rate);
    let start = match job.spec.settings.train.start {
        Start::Baseline => &baseline.checkpoint,
        Start::Weights => initial,
    };
    let phase = Phase { name: "train", rounds, rate, adversarial: true, origin: baseline.checkpoint.clone() };
    phase.run(job, shards, start).await
}

/// Both, as one.
pub(super) async fn both_phases(job: &mut Job, shards: &Shards, initial: &Blob) -> Result<training::Trained> {
    let baseline = undefended(job, shards, initial).await?;
    let trained = defended(job, shards, initial, &baseline).await?;
    Ok(training::Trained {
        checkpoint: trained.checkpoint,
        rounds: [baseline.rounds, trained.rounds].concat(),
        events: [baseline.events, trained.events].concat(),
    })
}

/// What only a job that trains has to tell.
#[derive(Debug, Default)]
pub(super) struct Training {
    pub(super) rounds: Vec<RoundRecord>,
    pub(super) events: Vec<GuardEvent>,
    pub(super) static_set: Vec<(String, Count)>,
}

/// What a report says of the photos.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) classes: Vec<String>,
    pub(super) counts: Vec<(String, Vec<u64>)>,
    pub(super) measured: String,
    pub(super) quarantined: Vec<Quarantined>,
    pub(super) duplicates: Vec<Duplicate>,
    pub(super) dataset_sha256: String,
}

impl Facts {
    fn new(prepared: &Prepared, measured: Split) -> Self {
        let plan = &prepared.plan;
        let counts = plan.counts().into_iter();
        Self {
            classes: plan.classes.clone(),
            counts: counts.map(|(s, c)| (s.name().to_string(), c.iter().map(|&n| n as u64).collect())).collect(),
            measured: measured.name().into(),
            quarantined: plan.quarantined.clone(),
            duplicates: plan.duplicates.clone(),
            dataset_sha256: plan.dataset_sha256(),
        }
    }
}

/// Everything for the report.
pub(super) fn record(
    job: &Job,
    data: Facts,
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
        dataset_sha256: data.dataset_sha256,
        weights_sha256: job.spec.weights.as_ref().map_or_else(|| "none".into(), |w| w.sha256.clone()),
        checkpoint_sha256: checkpoint.sha256.clone(),
        started: job.spec.created.clone(),
        finished: super::spec::now(),
    };
    let mut checks = checks(&measured, &data.classes, &settings, job.spec.program);
    checks.extend(completeness(&job.left_out));
    let (mut examples, mut outcomes, mut transferred) = (Vec::new(), Vec::new(), Vec::new());
    for (name, found) in measured {
        examples.extend(found.examples);
        transferred.extend(found.transferred.into_iter().map(|(by, seen)| (name.clone(), by, seen)));
        outcomes.push((name, found.outcomes));
    }
    RunRecord {
        job: job.spec.id.to_string(),
        classes: data.classes,
        counts: data.counts,
        measured: data.measured,
        quarantined: data.quarantined,
        duplicates: data.duplicates,
        left_out: job.left_out.clone(),
        rounds: training.rounds,
        events: training.events,
        checks,
        outcomes,
        transferred,
        static_set: training.static_set,
        examples,
        provenance,
        night: None,
        settings,
    }
}

/// What the figures say about themselves. Of a model from elsewhere its name alone tells that it is undefended.
pub(super) fn checks(
    measured: &[(String, Measured)],
    classes: &[String],
    settings: &Settings,
    program: Program,
) -> Vec<Check> {
    let found = measured.iter().flat_map(|(name, found)| {
        let made = measured.iter().filter_map(|(other, of_other)| {
            let seen = of_other.transferred.iter().find(|(by, _)| by == name)?;
            Some((other.as_str(), &seen.1))
        });
        let shown: Vec<_> = made.collect();
        evaluate::checks::check(&Subject {
            model: name,
            outcomes: &found.outcomes,
            audit: Some(&found.audit),
            classes: classes.len(),
            origin: match name.as_str() {
                BASELINE => Origin::Undefended,
                _ if program == Program::Evaluate => Origin::Unknown,
                _ => Origin::Defended(settings.adversary.method, settings.adversary.epsilon.value()),
            },
            shown: &shown,
        })
    });
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
pub(super) fn completeness(left_out: &[LeftOut]) -> Option<Check> {
    let first = left_out.first()?;
    Some(Check {
        name: "job: nothing was left out".into(),
        passed: false,
        figure: format!("{} tasks failed for good, the first: {} {}", left_out.len(), first.task, first.why),
        explanation: "Figures of a part of the photos are figures of that part alone.".into(),
    })
}

/// The weights that training starts from: those submitted, with a new head unless they are a model for
/// these `classes`; or fresh ones.
pub(super) async fn initial_checkpoint(job: &Job, classes: &[String]) -> Result<Blob> {
    let (architecture, seed) = (job.spec.settings.model.architecture, job.spec.settings.job.seed);
    if let (Some(model), Some(weights)) = (&job.spec.model, &job.spec.weights)
        && model.classes() == classes
    {
        return Ok(weights.clone());
    }
    let classes = classes.len();
    let weights: Weights = match &job.spec.weights {
        Some(blob) => {
            let folded = model::checkpoint::read(&job.store.get_blob(blob).await?)?;
            model::new_head(&folded, architecture, classes, seed)
        }
        None => model::fresh(architecture, classes, seed),
    };
    job.store.put_bytes(&job.key("initial.safetensors"), model::checkpoint::write(&weights)?).await
}

/// What a finished evaluation leaves behind.
#[derive(Debug)]
pub struct Evaluated {
    /// For the report.
    pub record: RunRecord,
    /// The data set.
    pub prepared: Prepared,
    /// The measured pictures, shard by shard, where they were kept.
    pub images: Vec<Blob>,
}

/// Photos and one model or several to figures: every photo of the test side, else of val, else of all.
pub async fn evaluate(job: &mut Job, source: &dyn Store) -> Result<Evaluated> {
    let prepared = preparation::prepare(job, source).await?;
    let checkpoint = given_model(job).await?;
    let settings = job.spec.settings.clone();
    let measured_split = prepared.measured()?;
    let conditions = evaluate::conditions(&settings.evaluate)?;
    let compared = job.spec.compared.iter().map(|model| (model.name.to_string(), model.weights.clone()));
    let mut models: Vec<_> = compared.collect();
    if models.is_empty() {
        models.push((TRAINED.to_string(), checkpoint.clone()));
    }
    let measured = all(job, &models, &prepared.of(measured_split), &conditions).await?;
    let images = measured.first().map(|(_, m)| m.images.clone()).unwrap_or_default();
    let record = record(job, Facts::new(&prepared, measured_split), measured, &checkpoint, Training::default());
    Ok(Evaluated { record, prepared, images })
}

/// Photos and a model to adversarial copies of all photos, shard by shard.
pub async fn augment(job: &mut Job, source: &dyn Store) -> Result<(Prepared, Vec<Option<Success>>)> {
    let prepared = preparation::prepare(job, source).await?;
    let checkpoint = given_model(job).await?;
    let epsilon = job.spec.settings.evaluate.static_epsilon;
    let copies = measuring::static_copies(job, "copies", &checkpoint, &prepared.shards, epsilon).await?;
    Ok((prepared, copies))
}

/// Photos and a model to broken photos. A task attacks a few photos, one where that is asked for: an interrupted job
/// loses no more than those that were under way.
pub async fn attack(job: &mut Job, source: &dyn Store) -> Result<(Prepared, Vec<Success>)> {
    let classes = job.spec.model.as_ref().map(|m| m.classes().to_vec()).unwrap_or_default();
    // What cannot be done is refused before anything is.
    Plan::new(&job.spec.settings.attack, &classes)?;
    let prepared = preparation::prepare(job, source).await?;
    let checkpoint = given_model(job).await?;
    let batch = job.spec.settings.attack.batch;
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
pub async fn rehearse(job: &mut Job, tasks: u32, stored: bool) -> Result<Rehearsal> {
    let began = Instant::now();
    let all = (0..tasks).map(|number| (TaskId(format!("nothing-{number:07}")), Work::Nothing { stored }));
    job.settle("rehearse", all.collect()).await?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Epsilon, Layers};
    use crate::evaluate::Audit;
    use crate::outcome::{ImageOutcome, Outcomes};

    #[test]
    fn a_model_from_elsewhere_must_fall_if_it_is_called_undefended() {
        let settings = Layers::new().unwrap().resolve().unwrap().settings;
        let falls = |name: &str, program| {
            let conditions = [("clean", 0.0), ("pgd20", 8.0 / 255.0)]
                .map(|(attack, epsilon)| Condition { attack: attack.into(), epsilon: Epsilon::new(epsilon).unwrap() });
            let stands = ImageOutcome { key: "a".into(), label: 0, predicted: vec![0, 0] };
            let found = Measured {
                outcomes: Outcomes { conditions: conditions.into(), images: vec![stands; 20] },
                audit: Audit::default(),
                examples: Vec::new(),
                images: Vec::new(),
                transferred: Vec::new(),
                parts: Vec::new(),
            };
            let checks = checks(&[(name.into(), found)], &["a".into(), "b".into()], &settings, program);
            checks.iter().find(|check| check.name.ends_with("the undefended model falls")).map(|check| check.passed)
        };
        assert_eq!(falls("baseline", Program::Evaluate), Some(false));
        assert_eq!(falls("baseline", Program::Train), Some(false));
        assert_eq!(falls("plain", Program::Evaluate), None);
    }
}
