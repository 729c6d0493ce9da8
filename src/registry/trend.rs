//! The history as a line of nights, for people to look at.

use std::collections::BTreeMap;

use super::{Happening, Registry, Version};
use crate::error::Result;
use crate::report::{Trend, TrendNight};
use crate::task::VersionId;

impl Registry {
    /// The whole history with figures; robust accuracy at the budget `epsilon`. Of versions that were removed
    /// no figures are left.
    pub async fn trend(&self, epsilon: f64) -> Result<Trend> {
        let versions: BTreeMap<VersionId, Version> =
            self.versions().await?.into_iter().map(|v| (v.id.clone(), v)).collect();
        let history = self.history().await?;
        let current = history.last().and_then(|e| e.current.clone());
        let shown = history.into_iter().filter(|e| e.note.what != Happening::Removed);
        let nights = shown.map(|entry| {
            let version = entry.note.version.as_ref().and_then(|id| versions.get(id));
            let now = entry.current.as_ref().and_then(|id| versions.get(id));
            let name = entry.note.night.as_ref().or(entry.note.version.as_ref());
            let robust =
                |v: &Version| v.worst_case.iter().find(|w| (w.epsilon - epsilon).abs() < 1e-9).map(|w| w.figure);
            TrendNight {
                at: entry.at,
                name: name.map(ToString::to_string).unwrap_or_default(),
                what: entry.note.what.name().into(),
                by_hand: entry.note.night.is_none(),
                forced: entry.note.forced,
                reason: entry.note.reason.clone(),
                clean: version.and_then(|v| v.results.iter().find(|r| r.attack == "clean")).map(|r| r.figure),
                robust: version.and_then(robust),
                current: entry.current.as_ref().map(ToString::to_string),
                current_clean: now.and_then(Version::clean),
                current_robust: now.and_then(|v| v.robust(epsilon)),
                gate: version.and_then(|v| v.gate.clone()),
            }
        });
        Ok(Trend { model: self.model().to_string(), epsilon, current: current.map(|c| c.0), nights: nights.collect() })
    }
}
