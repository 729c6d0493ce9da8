//! How a night ended, for people and programs.

use serde::{Deserialize, Serialize};

use super::Night;
use super::data::Data;
use crate::coordinator::stage::Job;
use crate::error::{Error, Kind, Result};
use crate::registry::{Happening, Note};
use crate::report::Figure;
use crate::task::{ModelName, VersionId};

/// How a night ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The model.
    pub model: ModelName,
    /// The night.
    pub night: VersionId,
    /// `promoted`, `rejected`, `skipped` or `failed`.
    pub outcome: Happening,
    /// Why, in one sentence.
    pub reason: String,
    /// The current version afterwards.
    pub current: Option<VersionId>,
    /// Clean accuracy of the retrained model.
    pub clean: Option<Figure>,
    /// Its robust accuracy, at `epsilon`.
    pub robust: Option<Figure>,
    /// The gate's budget, pixel scale.
    pub epsilon: f64,
    /// Photos known before.
    pub known: u64,
    /// Photos that came.
    pub new: u64,
    /// Photos that went.
    pub removed: u64,
    /// Photos in whose place others are now.
    #[serde(default)]
    pub replaced: u64,
    /// New or replaced photos set aside.
    pub quarantined: u64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Outcome {
    /// A night of `flowers` without photos.
    pub(crate) fn for_tests(night: &str, outcome: Happening) -> Self {
        Self {
            model: "flowers".parse().unwrap(),
            night: night.parse().unwrap(),
            outcome,
            reason: "it is so".into(),
            current: None,
            clean: None,
            robust: None,
            epsilon: 0.01,
            known: 0,
            new: 0,
            removed: 0,
            replaced: 0,
            quarantined: 0,
        }
    }
}

impl Outcome {
    /// What the history says of it, and the photos.
    pub(super) fn of(job: &Job, night: &Night, data: &Data, note: &Note, current: Option<VersionId>) -> Self {
        Self {
            model: night.model.clone(),
            night: night.night.clone(),
            outcome: note.what,
            reason: note.reason.clone(),
            current,
            clean: None,
            robust: None,
            epsilon: job.spec.settings.gate.epsilon.value(),
            known: data.known,
            new: data.new,
            removed: data.removed.len() as u64,
            replaced: data.replaced.len() as u64,
            quarantined: data.quarantined.len() as u64,
        }
    }

    /// For the exit code: a rejected model is an error of kind `Rejected`.
    pub fn verdict(&self) -> Result<()> {
        match self.outcome {
            Happening::Rejected => Err(Error::new(
                Kind::Rejected,
                format!("night {} of {} was rejected: {}", self.night, self.model, self.reason),
            )),
            _ => Ok(()),
        }
    }

    /// One line for a person.
    pub fn line(&self) -> String {
        let percent = |f: &Option<Figure>| f.map_or("-".into(), |f| format!("{:.1} %", 100.0 * f.accuracy));
        let word = match self.outcome {
            Happening::Promoted => "promoted",
            Happening::Rejected => "REJECTED",
            Happening::Skipped => "skipped",
            _ => "FAILED",
        };
        let current = self.current.as_ref().map_or("none".to_string(), ToString::to_string);
        format!(
            "{} {}: {word}. clean {}, robust {} at {}. {}. Photos: {} known, {} new, {} removed, {} replaced, {} set aside. Current: {current}",
            self.model,
            self.night,
            percent(&self.clean),
            percent(&self.robust),
            crate::config::Epsilon::new(self.epsilon).map_or_else(String::new, |e| e.to_string()),
            self.reason,
            self.known,
            self.new,
            self.removed,
            self.replaced,
            self.quarantined,
        )
    }
}
