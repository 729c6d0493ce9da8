//! The history as a line of nights, for people to look at.

use std::collections::BTreeMap;

use super::{Happening, Registry, Version};
use crate::error::Result;
use crate::report::{Trend, TrendNight};
use crate::task::VersionId;

impl Registry {
    /// The whole history with figures; robust accuracy at the budget `epsilon`. Of versions that were removed those are
    /// left that the gate saw.
    pub async fn trend(&self, epsilon: f64) -> Result<Trend> {
        let versions: BTreeMap<VersionId, Version> =
            self.versions().await?.into_iter().map(|v| (v.id.clone(), v)).collect();
        let history = self.history().await?;
        let current = history.last().and_then(|e| e.current.clone());
        let shown = history.into_iter().filter(|e| e.note.what != Happening::Removed);
        let nights = shown.map(|entry| {
            let version = entry.note.version.as_ref().and_then(|id| versions.get(id));
            let now = entry.current.as_ref().and_then(|id| versions.get(id));
            let gate = version.and_then(|v| v.gate.clone()).or_else(|| entry.note.gate.clone());
            let alike = gate.as_ref().filter(|g| (g.epsilon - epsilon).abs() < 1e-9);
            let name = entry.note.night.as_ref().or(entry.note.version.as_ref());
            let clean = |v: &Version| v.results.iter().find(|r| r.attack == "clean").map(|r| r.figure);
            let robust =
                |v: &Version| v.worst_case.iter().find(|w| (w.epsilon - epsilon).abs() < 1e-9).map(|w| w.figure);
            TrendNight {
                at: entry.at,
                name: name.map(ToString::to_string).unwrap_or_default(),
                what: entry.note.what.name().into(),
                by_hand: entry.note.night.is_none(),
                forced: entry.note.forced,
                reason: entry.note.reason.clone(),
                clean: version.and_then(clean).or(gate.as_ref().map(|g| g.clean.after)),
                robust: version.and_then(robust).or(alike.and_then(|g| g.robust.as_ref()).map(|r| r.after)),
                current: entry.current.as_ref().map(ToString::to_string),
                current_clean: now.and_then(Version::clean),
                current_robust: now.and_then(|v| v.robust(epsilon)),
                gate,
            }
        });
        Ok(Trend { model: self.model().to_string(), epsilon, current: current.map(|c| c.0), nights: nights.collect() })
    }
}
