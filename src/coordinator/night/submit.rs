//! A night as it is submitted: everything that could change while it runs is fixed here.

use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::Night;
use crate::config::{NightStart, Settings, Start};
use crate::coordinator::{JobSpec, Program};
use crate::error::{Error, Kind, Result};
use crate::evaluate;
use crate::jobs::Jobs;
use crate::model::{self, Described, Weights};
use crate::registry::{Registry, Version, WEIGHTS};
use crate::store::{Blob, Store};
use crate::task::{JobId, ModelName, VersionId};

/// Where a night's photos are.
#[derive(Debug, Clone)]
pub struct Place {
    /// A store's URL.
    pub source: String,
    /// SHA-256 over names and contents of photos that are copied to the store for this night.
    pub digest: Option<String>,
}

impl Night {
    /// The job of a night of the model `job.name`. A night that was begun is gone
    /// on with as it was. `fresh` gives the weights that a night without a current model starts from.
    ///
    /// # Errors
    /// Of kind `Usage` when the night was begun with other settings or photos, or is over and its job gone, when the
    /// current model is another network, or when the gate's budget is not measured.
    pub async fn submission(
        store: &Arc<dyn Store>,
        settings: &Settings,
        night: &VersionId,
        place: Place,
        fresh: impl FnOnce() -> Result<Option<Weights>>,
    ) -> Result<JobSpec> {
        let model: ModelName = settings.job.name.parse()?;
        let id: JobId = format!("{model}-{night}").parse()?;
        let identity =
            json!({ "settings": settings.of_job(), "source": place.source, "photos": place.digest }).to_string();
        let asked = hex::encode(Sha256::digest(identity));
        match Jobs::new(store.clone()).spec(&id).await {
            Ok(known) if known.night.as_ref().is_some_and(|n| n.asked == asked) => return Ok(known),
            Ok(_) => {
                return Err(Error::usage(format!(
                    "night {night} of {model} was begun with other settings or photos; give those, or another --night"
                )));
            }
            Err(e) if e.kind() == Kind::NotFound => {}
            Err(e) => return Err(e),
        }
        measures_what_the_gate_asks(settings)?;
        let registry = Registry::new(store.clone(), &model);
        is_free(&registry, night).await?;
        let against = registry.current().await?;
        let mut of_job = settings.of_job();
        let parent = match (&against, settings.nightly.start) {
            (Some(current), NightStart::Current) => Some(registry.version(current).await?),
            _ => None,
        };
        let (weights, model_spec) = match &parent {
            Some(version) => {
                fits(version, settings)?;
                go_on(&mut of_job);
                (Some(folded(version)?), Some(version.spec.clone()))
            }
            None => (put(store, &id, fresh()?).await?, None),
        };
        Ok(JobSpec {
            photos: place.digest,
            weights,
            model: model_spec.map(Described::Network),
            night: Some(Night { model, night: night.clone(), against, asked }),
            ..JobSpec::new(id, Program::Night, &of_job, place.source)
        })
    }
}

/// A version keeps its name for good, also when nothing else is left of the night that made it.
async fn is_free(registry: &Registry, night: &VersionId) -> Result<()> {
    match registry.version(night).await {
        Ok(known) => Err(Error::usage(format!(
            "there is a version {night} of {} already, made by {}; give another --night",
            registry.model(),
            known.job
        ))),
        Err(e) if e.kind() == Kind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn measures_what_the_gate_asks(settings: &Settings) -> Result<()> {
    evaluate::conditions(&settings.evaluate)?;
    let (wanted, all) = (settings.gate.epsilon, &settings.evaluate.epsilons);
    if settings.evaluate.attacks.is_empty() || !all.iter().any(|e| (e.value() - wanted.value()).abs() < 1e-9) {
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        return Err(Error::usage(format!(
            "gate.epsilon = {wanted} is not measured: evaluate.epsilons has {} and evaluate.attacks has {}",
            all.join(", "),
            settings.evaluate.attacks.join(", ")
        )));
    }
    Ok(())
}

/// Training can only go on with the same network.
fn fits(version: &Version, settings: &Settings) -> Result<()> {
    let (spec, wanted) = (&version.spec, &settings.model);
    let ours = (wanted.architecture, wanted.input_size, wanted.resize);
    if (spec.architecture, spec.input_size, spec.resize) == ours {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the current version {} is a {} of {} pixels ({}), model.architecture asks for {} of {} pixels ({}); \
         nightly.start = \"weights\" begins anew",
        version.id, spec.architecture, spec.input_size, spec.resize, ours.0, ours.1, ours.2
    )))
}

/// A model that is robust already needs neither a baseline nor a budget that rises from nothing.
fn go_on(settings: &mut Settings) {
    settings.train.start = Start::Weights;
    settings.train.rounds = settings.nightly.rounds;
    settings.train.rate = settings.nightly.rate;
    (settings.adversary.ramp_start, settings.adversary.ramp_end) = (0.0, 0.0);
}

fn folded(version: &Version) -> Result<Blob> {
    let found = version.files.get(WEIGHTS).cloned();
    found.ok_or_else(|| Error::data(format!("version {} has no {WEIGHTS} to go on from", version.id)))
}

async fn put(store: &Arc<dyn Store>, id: &JobId, weights: Option<Weights>) -> Result<Option<Blob>> {
    match weights {
        Some(weights) => {
            let bytes = model::checkpoint::write(&weights)?;
            store.put_bytes(&JobSpec::given(id, "weights", &bytes).key, bytes).await.map(Some)
        }
        None => Ok(None),
    }
}
