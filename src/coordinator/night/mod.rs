//! A night: photos that came are added, the current model is retrained, the result is judged and, if it is
//! no worse, promoted. A program like any other: a night that was killed goes on where it was.

mod changes;
mod current;
mod data;
mod embedding;
mod lease;
mod ledger;
mod outcome;
mod publish;
mod shards;
mod submit;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::measuring::{self, Measured};
use super::program::{self, Facts, Training};
use super::progress::Progress;
use super::spec::now;
use super::stage::Job;
use super::training::{Phase, Trained};
use crate::config::{StoreSettings, WebhookSettings};
use crate::error::{Error, Kind, Result};
use crate::evaluate;
use crate::gate::{self, Decision, Subject};
use crate::model::ModelSpec;
use crate::registry::{Happening, Note, Registry, Version};
use crate::report::{Check, NightRecord, TRAINED};
use crate::store::Blob;
use crate::task::{ModelName, VersionId};
use crate::webhook;

use data::Data;
pub use lease::Lease;
pub use outcome::Outcome;
pub use submit::Place;

/// What a night is about; a part of its job, fixed when it is submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Night {
    /// The model that is retrained.
    pub model: ModelName,
    /// The night, and the version that it makes.
    pub night: VersionId,
    /// The version that was current: training goes on from it, and the gate compares with it.
    pub against: Option<VersionId>,
    /// SHA-256 over settings and source as they were asked for.
    pub asked: String,
}

/// Runs the night to its end and writes down how it ended, also when it fails.
pub(super) async fn run(job: &mut Job, access: &StoreSettings, hook: &WebhookSettings) -> Result<()> {
    let night = job.spec.night.clone().ok_or_else(|| Error::data("the job names no night"))?;
    let store = job.store.clone();
    let registry = Registry::new(store.clone(), &night.model);
    if let Some(ended) = publish::ended(job).await? {
        Lease::clear(&*store, &registry, &job.spec.id).await?;
        tell(job, hook, ended).await;
        return Ok(());
    }
    let minutes = job.spec.settings.nightly.deadline;
    let lease = match Lease::take(&*store, &registry, &job.spec.id, &night.night, minutes).await {
        Err(e) if e.kind() == Kind::Job => {
            failed(&registry, &night, hook, &e).await;
            return Err(e);
        }
        lease => lease?,
    };
    let ended = match tries(job, access, &registry, &night, &lease).await {
        Ok(ended) => ended,
        // Store or broker are away: a cluster takes the night up again when they are back.
        Err(e) if e.kind().is_outage() && !job.gave_up && job.queue.durable() => return Err(e),
        Err(e) => {
            failed(&registry, &night, hook, &e).await;
            if let Err(e) = lease.release(&*store, &registry).await {
                warn!("the lease of the night stays until its deadline: {}", e.chain());
            }
            return Err(e);
        }
    };
    wrap_up(job, &registry, &lease, &ended).await?;
    tell(job, hook, ended).await;
    Ok(())
}

async fn tell(job: &Job, hook: &WebhookSettings, ended: Outcome) {
    webhook::tell(hook, &format!("hardy: {}", ended.line())).await;
    job.tell(Progress::Night(Box::new(ended)));
}

/// Retrains until the deadline, and once more where a task failed for good.
async fn tries(
    job: &mut Job,
    access: &StoreSettings,
    registry: &Registry,
    night: &Night,
    lease: &Lease,
) -> Result<Outcome> {
    let minutes = job.spec.settings.nightly.deadline;
    let mut tries = 0;
    loop {
        let outcome = match tokio::time::timeout(lease.left(), retrain(job, access, registry, night, lease)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::job(format!("the deadline of {minutes} minutes has passed (nightly.deadline)"))),
        };
        // A task that failed for good may fare better; whatever else fails would fail again.
        if outcome.is_ok() || !job.gave_up || tries >= job.spec.settings.nightly.retries {
            return outcome;
        }
        tries += 1;
        if let Err(e) = &outcome {
            warn!(job = %job.spec.id, tries, "goes on once more: {}", e.chain());
        }
        job.gave_up = false;
        job.log.reopen().await?;
    }
}

/// What is left to do once it is decided. How the night ended is written down last: from then on its lease holds nobody
/// up, also where the night dies before it gives it back.
async fn wrap_up(job: &Job, registry: &Registry, lease: &Lease, ended: &Outcome) -> Result<()> {
    registry.point().await?;
    registry.retain(job.spec.settings.nightly.keep).await?;
    match lease.confirm(&*job.store, registry).await {
        Ok(()) => shards::tidy(&*job.store, registry).await?,
        // What another night has packed and not written down yet would look like something left behind.
        Err(e) if e.kind() == Kind::Job => warn!("nothing is tidied: {}", e.chain()),
        Err(e) => return Err(e),
    }
    publish::outcome(job, ended).await?;
    lease.release(&*job.store, registry).await
}

async fn failed(registry: &Registry, night: &Night, hook: &WebhookSettings, error: &Error) {
    let note = Note { night: Some(night.night.clone()), ..Note::new(Happening::Failed, error.chain()) };
    // It may have been promoted when the deadline struck.
    if let Err(e) = registry.point().await {
        warn!("current.json may name another version than the history does: {}", e.chain());
    }
    if let Err(e) = registry.note(note).await {
        warn!("the history does not have it that the night failed: {}", e.chain());
    }
    let text = format!("hardy: {} {}: FAILED. {}", night.model, night.night, error.chain());
    webhook::tell(hook, &text).await;
}

async fn retrain(
    job: &mut Job,
    access: &StoreSettings,
    registry: &Registry,
    night: &Night,
    lease: &Lease,
) -> Result<Outcome> {
    job.left_out.clear();
    let mut data = data::prepare(job, access, registry, lease).await?;
    if let Some(same) = trained_already(job, registry, night, &data).await? {
        return skip(job, registry, night, &data, &same).await;
    }
    current::comparable(job, registry, night.against.as_ref(), &data.classes, &data.frozen).await?;
    let spec = ModelSpec::new(&job.spec.settings.model, data.classes.clone());
    job.model = Some(job.store.put_json(&job.key("model.json"), &spec).await?);
    let initial = program::initial_checkpoint(job, &spec.classes).await?;
    data.drift.embedding = data.compared.measure(job, &initial).await?;
    let trained = train(job, &data, initial).await?;
    let shards: Vec<_> = data.frozen.shards.iter().map(|s| s.blob.clone()).collect();
    let conditions = evaluate::conditions(&job.spec.settings.evaluate)?;
    let found = measuring::measure(job, TRAINED, &trained.checkpoint, &[], &shards, &conditions).await?;
    let current = match &night.against {
        Some(id) => Some(current::measured(job, registry, id, &data, &found.outcomes).await?),
        None => None,
    };
    let epsilon = job.spec.settings.gate.epsilon.value();
    let best = registry.best(&data.frozen.sha256, epsilon, &found.outcomes.attacks_within(epsilon)).await?;
    let measured = vec![(TRAINED.to_string(), found)];
    let checks = checks(job, &measured, &data.classes);
    let candidate = Subject {
        version: &night.night.0,
        classes: &data.classes,
        test_sha256: &data.frozen.sha256,
        outcomes: &measured[0].1.outcomes,
        checks: &checks,
    };
    let beside = current.as_ref().map(|(version, outcomes)| Subject {
        version: &version.id.0,
        classes: &version.spec.classes,
        test_sha256: &version.test_sha256,
        outcomes,
        checks: &version.checks,
    });
    let decision = gate::judge(&candidate, beside.as_ref(), best.as_ref(), &job.spec.settings.gate);
    conclude(job, registry, night, data, spec, trained, measured, decision).await
}

/// What the figures say about themselves, and whether they are those of all photos.
fn checks(job: &Job, measured: &[(String, Measured)], classes: &[String]) -> Vec<Check> {
    let mut checks = program::checks(measured, classes, &job.spec.settings, job.spec.program);
    checks.extend(program::completeness(&job.left_out));
    checks
}

/// Baseline and adversarial training, or from the current model adversarial training alone.
async fn train(job: &mut Job, data: &Data, initial: Blob) -> Result<Trained> {
    let settings = job.spec.settings.clone();
    let shards = data.for_training(settings.data.balance);
    if job.spec.model.is_some() {
        let (rounds, rate) = (settings.train.rounds, settings.train.rate);
        let phase = Phase { name: "train", rounds, rate, adversarial: true, origin: initial.clone() };
        return phase.run(job, &shards, &initial).await;
    }
    program::both_phases(job, &shards, &initial).await
}

/// The version that was trained on exactly these photos, if a night is to be left out then.
async fn trained_already(job: &Job, registry: &Registry, night: &Night, data: &Data) -> Result<Option<Version>> {
    if job.spec.settings.nightly.unchanged == crate::config::Unchanged::Train {
        return Ok(None);
    }
    let same = |v: &Version| {
        v.id != night.night && v.dataset_sha256 == data.dataset_sha256 && v.test_sha256 == data.frozen.sha256
    };
    Ok(registry.versions().await?.into_iter().rev().find(same))
}

async fn skip(job: &Job, registry: &Registry, night: &Night, data: &Data, same: &Version) -> Result<Outcome> {
    let reason = format!("version {} was trained on exactly these photos", same.id);
    let entry = match registry.outcome_of(&night.night).await? {
        Some(done) => done,
        None => {
            let at = Some(night.night.clone());
            registry.note(Note { night: at, ..Note::new(Happening::Skipped, reason) }).await?
        }
    };
    Ok(Outcome::of(job, night, data, &entry.note, entry.current))
}

/// Writes the report and the version, and promotes or rejects it.
#[expect(clippy::too_many_arguments, reason = "all that a night has brought")]
async fn conclude(
    job: &mut Job,
    registry: &Registry,
    night: &Night,
    data: Data,
    spec: ModelSpec,
    trained: Trained,
    measured: Vec<(String, Measured)>,
    decision: Decision,
) -> Result<Outcome> {
    let facts = Facts {
        classes: data.classes.clone(),
        counts: data.counts(),
        measured: data.frozen.split.name().into(),
        quarantined: data.quarantined.clone(),
        duplicates: data.duplicates.clone(),
        dataset_sha256: data.dataset_sha256.clone(),
    };
    let outcomes = measured[0].1.outcomes.clone();
    let training = Training { rounds: trained.rounds, events: trained.events, static_set: Vec::new() };
    let mut record = program::record(job, facts, measured, &trained.checkpoint, training);
    record.night = Some(NightRecord {
        model: night.model.to_string(),
        version: night.night.to_string(),
        parent: job.spec.model.is_some().then(|| night.against.as_ref().map(ToString::to_string)).flatten(),
        known: data.known,
        new: data.new,
        removed: data.removed.clone(),
        replaced: data.replaced.clone(),
        missing: data.missing,
        drift: data.drift.clone(),
        gate: decision.clone(),
    });
    let version = publish::version(job, registry, night, &spec, &trained.checkpoint, &record, &outcomes).await?;
    let entry = settle(registry, night, &version, &decision).await?;
    let ended = Outcome::of(job, night, &data, &entry.note, entry.current);
    Ok(Outcome { clean: Some(decision.clean.after), robust: decision.robust.as_ref().map(|r| r.after), ..ended })
}

/// Promotes the version or writes down why not.
async fn settle(
    registry: &Registry,
    night: &Night,
    version: &Version,
    decision: &Decision,
) -> Result<crate::registry::Entry> {
    if let Some(done) = registry.outcome_of(&night.night).await? {
        return Ok(done);
    }
    let reject = |reason: String| {
        let (version, at) = (Some(version.id.clone()), Some(night.night.clone()));
        let rejected = Note::new(Happening::Rejected, reason);
        registry.note(Note { version, night: at, gate: Some(decision.clone()), ..rejected })
    };
    if !decision.passed {
        return reject(decision.reason.clone()).await;
    }
    match registry.promote_night(&version.id, night.against.as_ref(), &decision.reason).await {
        // Somebody promoted another one during the night.
        Err(e) if e.kind() == Kind::Rejected => reject(e.to_string()).await,
        promoted => promoted,
    }
}

/// `2026-11-22`: tonight's name where none is given.
pub fn tonight() -> VersionId {
    VersionId(now().chars().take(10).collect())
}
