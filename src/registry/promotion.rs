//! Which version becomes current: by the gate, by force, or back to an earlier one.

use super::{Entry, Happening, Note, Registry, Version};
use crate::config::GateSettings;
use crate::error::{Error, Kind, Result};
use crate::gate::{Best, Decision, Subject, judge};
use crate::outcome::Outcomes;
use crate::task::VersionId;

/// Why a version becomes current although the gate does not let it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forced {
    /// In the words of whoever forces it; kept in the history.
    pub reason: String,
}

impl Registry {
    /// Makes a version current after the gate has judged it against the one that is, from what both said of
    /// each image. By force where `forced`; the reason is kept. One that failed the gate of its own night needs force.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a version that is not there or not complete, [`Kind::Rejected`] for one that
    /// does not pass or that another promotion overtook, [`Kind::Usage`] for the current one itself.
    pub async fn promote(&self, id: &VersionId, rules: &GateSettings, forced: Option<Forced>) -> Result<Entry> {
        let version = self.version(id).await?;
        self.verify(&version).await?;
        let current = self.current().await?;
        if current.as_ref() == Some(id) {
            return Err(Error::usage(format!("version {id} of {} is current already", self.model())));
        }
        let (passed, found) = match self.judged(&version, current.as_ref(), rules).await {
            Ok(decision) => (decision.passed, decision.reason),
            // Nothing to compare it with, and nothing that speaks against it.
            Err(e) if e.kind() == Kind::Data && current.is_none() && version.checks.iter().all(|c| c.passed) => {
                (true, "there was no current model".into())
            }
            Err(e) if e.kind() == Kind::Data => (false, e.to_string()),
            Err(e) => return Err(e),
        };
        // The rules of its own night may have been stricter than those given here.
        let (passed, found) = match &version.gate {
            Some(gate) if passed && !gate.passed => (false, format!("on its night {}", gate.reason)),
            _ => (passed, found),
        };
        let reason = match (passed, &forced) {
            (true, None) => format!("by hand; {found}"),
            (true, Some(forced)) => format!("by hand: {}; {found}", forced.reason),
            (false, Some(forced)) => format!("forced: {}; the gate says {found}", forced.reason),
            (false, None) => {
                return Err(Error::new(
                    Kind::Rejected,
                    format!(
                        "version {id} of {} does not pass the gate: {found}; --force with a --reason promotes it all the same",
                        self.model()
                    ),
                ));
            }
        };
        let note = Note { version: Some(id.clone()), forced: !passed, ..Note::new(Happening::Promoted, reason) };
        self.make_current(id, current.as_ref(), note).await
    }

    /// Makes the version of a night current that has passed the gate against `against`. The same night again
    /// changes nothing.
    pub async fn promote_night(&self, id: &VersionId, against: Option<&VersionId>, reason: &str) -> Result<Entry> {
        if let Some(done) = self.outcome_of(id).await? {
            return Ok(done);
        }
        let (version, night) = (Some(id.clone()), Some(id.clone()));
        let note = Note { version, night, ..Note::new(Happening::Promoted, reason) };
        self.make_current(id, against, note).await
    }

    /// How a night ended, if it has: promoted, rejected or skipped.
    pub async fn outcome_of(&self, night: &VersionId) -> Result<Option<Entry>> {
        let ended = |e: &Entry| matches!(e.note.what, Happening::Promoted | Happening::Rejected | Happening::Skipped);
        let history = self.history().await?;
        Ok(history.into_iter().rev().find(|e| e.note.night.as_ref() == Some(night) && ended(e)))
    }

    /// Makes `to` current again, or the version that was current before the present one.
    ///
    /// # Errors
    /// [`Kind::Usage`] when there is none to go back to, or `to` was never current.
    pub async fn roll_back(&self, to: Option<&VersionId>, reason: &str) -> Result<Entry> {
        let history = self.history().await?;
        let current = history.last().and_then(|e| e.current.clone());
        let target = match to {
            Some(id) if current.as_ref() == Some(id) => {
                return Err(Error::usage(format!("version {id} of {} is current already", self.model())));
            }
            Some(id) if history.iter().any(|e| e.current.as_ref() == Some(id)) => id.clone(),
            Some(id) => {
                // Whether it is there at all comes first.
                self.version(id).await?;
                return Err(Error::usage(format!(
                    "version {id} of {} was never current; `hardy models promote` has the gate judge it",
                    self.model()
                )));
            }
            None => before(&history)
                .ok_or_else(|| Error::usage(format!("{} has no earlier version to go back to", self.model())))?,
        };
        self.verify(&self.version(&target).await?).await?;
        let note = Note { version: Some(target.clone()), ..Note::new(Happening::RolledBack, reason) };
        self.make_current(&target, current.as_ref(), note).await
    }

    /// What the gate says of a version beside another one, from what both said of each image.
    ///
    /// # Errors
    /// [`Kind::Data`] when that was not kept of one of them.
    pub async fn judged(
        &self,
        version: &Version,
        current: Option<&VersionId>,
        rules: &GateSettings,
    ) -> Result<Decision> {
        let outcomes = self.known(version).await?;
        let epsilon = rules.epsilon.value();
        let best = self.best(&version.test_sha256, epsilon, &outcomes.attacks_within(epsilon)).await?;
        let Some(current) = current else {
            return Ok(judge(&subject(version, &outcomes), None, best.as_ref(), rules));
        };
        let other = self.version(current).await?;
        let before = self.known(&other).await?;
        Ok(judge(&subject(version, &outcomes), Some(&subject(&other, &before)), best.as_ref(), rules))
    }

    /// What the gate says of one version beside another, of both as they were measured; none where it was not
    /// kept what one of them said of each image.
    pub async fn compared(&self, after: &Version, before: &Version, rules: &GateSettings) -> Result<Option<Decision>> {
        let (Some(new), Some(old)) = (self.outcomes(after).await?, self.outcomes(before).await?) else {
            return Ok(None);
        };
        Ok(Some(judge(&subject(after, &new), Some(&subject(before, &old)), None, rules)))
    }

    async fn known(&self, version: &Version) -> Result<Outcomes> {
        self.outcomes(version).await?.ok_or_else(|| {
            Error::data(format!(
                "version {} was not measured on a frozen test set, so it cannot be compared",
                version.id
            ))
        })
    }

    /// The best figures of versions that were promoted on this test set, none of them older than the last
    /// promotion by force or roll-back: whoever did that wanted the figures to be lower. Robust accuracy is that under
    /// `attacks` and no others: against weaker ones it was higher.
    pub async fn best(&self, test_sha256: &str, epsilon: f64, attacks: &[String]) -> Result<Option<Best>> {
        let mut best: Option<Best> = None;
        for entry in self.history().await?.into_iter().rev() {
            let Entry { note: Note { what, version: Some(id), forced, .. }, .. } = entry else { continue };
            if !matches!(what, Happening::Promoted | Happening::RolledBack) {
                continue;
            }
            let deliberate = forced || what == Happening::RolledBack;
            let version = match self.version(&id).await {
                Err(e) if e.kind() == Kind::NotFound => break,
                version => version?,
            };
            if version.test_sha256 != test_sha256 {
                break;
            }
            if let Some(clean) = version.clean() {
                let higher = |so_far: Option<&(f64, String)>, share: f64| match so_far {
                    Some(found) if found.0 >= share => found.clone(),
                    _ => (share, id.to_string()),
                };
                let so_far = best.as_ref().and_then(|b| b.robust.as_ref());
                let robust = match version.robust_under(epsilon, attacks) {
                    Some(robust) => Some(higher(so_far, robust)),
                    None => so_far.cloned(),
                };
                best = Some(Best { clean: higher(best.as_ref().map(|b| &b.clean), clean), robust });
            }
            if deliberate {
                break;
            }
        }
        Ok(best)
    }

    /// Reads every file of a version and checks it against its hash.
    pub async fn verify(&self, version: &Version) -> Result<()> {
        for name in version.files.keys() {
            self.file(version, name).await.map_err(|e| match e.kind() {
                Kind::NotFound => Error::not_found(format!(
                    "version {} of {} is not complete: its file {name} is missing",
                    version.id,
                    self.model()
                )),
                _ => e,
            })?;
        }
        Ok(())
    }
}

fn subject<'a>(version: &'a Version, outcomes: &'a Outcomes) -> Subject<'a> {
    Subject {
        version: &version.id.0,
        classes: &version.spec.classes,
        test_sha256: &version.test_sha256,
        outcomes,
        checks: &version.checks,
    }
}

/// The version that was current before the present one. A second roll-back goes further back.
fn before(history: &[Entry]) -> Option<VersionId> {
    let mut line: Vec<&VersionId> = Vec::new();
    for entry in history {
        let Some(current) = &entry.current else { continue };
        match entry.note.what {
            Happening::RolledBack => {
                let place = line.iter().position(|v| *v == current).unwrap_or(0);
                line.truncate(place);
                line.push(current);
            }
            _ if line.last() != Some(&current) => line.push(current),
            _ => {}
        }
    }
    line.pop();
    line.pop().cloned()
}
