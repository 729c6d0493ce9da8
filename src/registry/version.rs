//! `version.json`: what a version is.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};
use crate::gate::Decision;
use crate::model::ModelSpec;
use crate::outcome::Outcomes;
use crate::report::{Check, Measured, WorstCase};
use crate::store::Blob;
use crate::task::{ModelName, VersionId};

/// The format of `version.json`.
pub(super) const FORMAT: u32 = 1;

/// The folded weights, from which training goes on and with which a model is measured again.
pub const WEIGHTS: &str = "checkpoint.safetensors";
/// What the model said of each image of the frozen test set.
pub const OUTCOMES: &str = "outcomes.json";

/// A version of a model. Written once, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The format of this file.
    pub version: u32,
    /// The model.
    pub model: ModelName,
    /// Its own name.
    pub id: VersionId,
    /// RFC 3339, UTC.
    pub created: String,
    /// The job that made it, or `added by hand`.
    pub job: String,
    /// Hardy's version.
    pub hardy: String,
    /// The network and its classes.
    pub spec: ModelSpec,
    /// SHA-256 of the folded weights.
    pub checkpoint_sha256: String,
    /// The version that training went on from.
    pub parent: Option<VersionId>,
    /// SHA-256 of the photos it was trained on; see `Plan::dataset_sha256`.
    pub dataset_sha256: String,
    /// SHA-256 of the frozen test set it was measured on; empty where it was measured on none.
    pub test_sha256: String,
    /// Its accuracy under each attack.
    pub results: Vec<Measured>,
    /// Its accuracy under all attacks at once, per budget.
    pub worst_case: Vec<WorstCase>,
    /// The sanity checks on these figures.
    pub checks: Vec<Check>,
    /// What the gate said when it was made.
    pub gate: Option<Decision>,
    /// Its files by name.
    pub files: BTreeMap<String, Blob>,
}

impl Version {
    /// Its clean accuracy, if it was measured.
    pub fn clean(&self) -> Option<f64> {
        self.results.iter().find(|r| r.attack == "clean").map(|r| r.figure.accuracy)
    }

    /// Its accuracy under all attacks at once up to the budget `epsilon`, if it was measured.
    pub fn robust(&self, epsilon: f64) -> Option<f64> {
        self.worst_case.iter().find(|w| (w.epsilon - epsilon).abs() < 1e-9).map(|w| w.figure.accuracy)
    }

    /// The same, if it was measured under just these attacks.
    pub(super) fn robust_under(&self, epsilon: f64, attacks: &[String]) -> Option<f64> {
        let case = self.worst_case.iter().find(|w| (w.epsilon - epsilon).abs() < 1e-9)?;
        let same = case.attacks.len() == attacks.len() && case.attacks.iter().all(|attack| attacks.contains(attack));
        same.then_some(case.figure.accuracy)
    }

    pub(super) fn to_json(&self) -> Result<Bytes> {
        let mut text =
            serde_json::to_vec_pretty(self).context(Kind::Internal, || "a version has no JSON form".into())?;
        text.push(b'\n');
        Ok(text.into())
    }

    /// Refuses what another program wrote.
    pub(super) fn check(self, id: &VersionId) -> Result<Self> {
        if self.version != FORMAT {
            return Err(Error::data(format!(
                "version {id} has format {}, this program reads format {FORMAT}",
                self.version
            )));
        }
        match self.id == *id {
            true => Ok(self),
            false => Err(Error::data(format!("the folder of version {id} holds version {}", self.id))),
        }
    }

    /// The format that this program writes.
    pub fn format() -> u32 {
        FORMAT
    }
}

impl super::Registry {
    /// What a version said of each image, if that was kept.
    pub async fn outcomes(&self, version: &Version) -> Result<Option<Outcomes>> {
        if !version.files.contains_key(OUTCOMES) {
            return Ok(None);
        }
        let bytes = self.file(version, OUTCOMES).await?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .context(Kind::Data, || format!("the outcomes of version {} are no JSON", version.id))
    }
}
