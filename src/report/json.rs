//! `report.json`: every figure of a run, in the form that `docs/report.schema.json` describes.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::headline::{ALL, Headline};
use super::results::{self, Confusion, Failures, Figure, Measured, Paired, StaticFigure, Transfer, WorstCase};
use super::verdict::Verdict;
use super::{Check, Example, GuardEvent, LeftOut, NightRecord, Provenance, RoundRecord, RunRecord};
use crate::config::{Settings, stored};
use crate::dataset::{Duplicate, Quarantined};
use crate::error::{Context, Error, Kind, Result};

/// The version of `report.json`. It rises when a reader of the old form would misread the new one.
pub const VERSION: u32 = 1;

/// Everything that is reported, without the pictures. All numbers are finite: one that was not is
/// absent (`null`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The job's id.
    pub job: String,
    /// The outcome in one sentence and few figures.
    pub headline: Headline,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// The split that was measured: `val` or `test`.
    pub measured: String,
    /// Every model under every attack.
    pub results: Vec<Measured>,
    /// Every model under all attacks at once, per budget.
    pub worst_case: Vec<WorstCase>,
    /// Of every model, how many images each budget was the first to break.
    #[serde(default)]
    pub failures: Vec<Failures>,
    /// Every model on the images that were made against another one.
    #[serde(default)]
    pub transfer: Vec<Transfer>,
    /// Every two models, clean and under all attacks up to each budget.
    #[serde(default)]
    pub paired: Vec<Paired>,
    /// Every model on the static FGSM copy of the measured split made with the baseline.
    pub static_set: Vec<StaticFigure>,
    /// Who was taken for whom, clean and under what the headline's sentence is about.
    pub confusion: Vec<Confusion>,
    /// Every round in order, baseline first.
    pub rounds: Vec<Round>,
    /// Under- or overfitting.
    pub verdict: Verdict,
    /// What the guard and early stopping did.
    pub guard_events: Vec<GuardEvent>,
    /// The sanity checks on the figures.
    pub checks: Vec<Check>,
    /// Photos per split and class.
    pub splits: Vec<SplitCount>,
    /// How even the classes are, and what training did about it.
    pub balance: Balance,
    /// Photos dropped as duplicates.
    pub duplicates: Listed<Duplicate>,
    /// Photos set aside.
    pub quarantine: Listed<Quarantined>,
    /// What the job went on without.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// What the pictures on the page show.
    pub examples: Vec<ExampleEntry>,
    /// What a night has to tell besides; absent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub night: Option<NightRecord>,
    /// Versions and circumstances.
    pub provenance: Provenance,
    /// All settings of the job, without passwords.
    #[serde(deserialize_with = "stored")]
    pub settings: Settings,
}

/// One round; see [`RoundRecord`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "explained at RoundRecord")]
pub struct Round {
    pub phase: String,
    pub round: u32,
    pub loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    pub epsilon: Option<f64>,
    pub held_clean: Figure,
    pub held_fgsm: Figure,
    pub held_pgd: Figure,
    pub checkpoint_sha256: String,
    pub best: bool,
}

/// The photos of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitCount {
    /// `train`, `held`, `val` or `test`.
    pub split: String,
    /// Its photos.
    pub n: u64,
    /// In label order.
    pub per_class: Vec<u64>,
}

/// Class balance over all splits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// `none` or `classes`: how training sampled.
    pub sampling: String,
    /// Photos of the smallest class.
    pub smallest: u64,
    /// Photos of the largest class.
    pub largest: u64,
}

/// A list and its length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed<T> {
    /// Its length.
    pub count: u64,
    /// Its entries.
    pub list: Vec<T>,
}

/// What a picture shows; see [`Example`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "explained at Example")]
pub struct ExampleEntry {
    pub key: String,
    pub model: String,
    pub attack: String,
    pub epsilon: f64,
    pub label: String,
    pub before: Prediction,
    pub after: Prediction,
}

/// A predicted class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Its name.
    pub class: String,
    /// In `[0, 1]`.
    pub confidence: Option<f64>,
}

impl Report {
    /// Works out every figure. An error of kind `Internal` when the record contradicts itself.
    pub fn new(record: &RunRecord) -> Result<Self> {
        let classes = &record.classes;
        for (model, outcomes) in &record.outcomes {
            results::check(model, outcomes, classes.len())?;
        }
        let all = |part: &dyn Fn(&str, &crate::outcome::Outcomes) -> Vec<Measured>| -> Vec<Measured> {
            record.outcomes.iter().flat_map(|(model, outcomes)| part(model, outcomes)).collect()
        };
        let results = all(&|model, outcomes| results::measured(model, outcomes, classes));
        let worst_case: Vec<WorstCase> = record.outcomes.iter().flat_map(|(m, o)| results::worst_cases(m, o)).collect();
        let mut checks = record.checks.clone();
        checks.extend(results::worst_case_check(&worst_case, &results));
        let headline = Headline::new(record, &results, &worst_case, &checks);
        let failures = record.outcomes.iter().flat_map(|(m, o)| results::failures(m, o.count(0), &worst_case));
        let static_epsilon = record.settings.evaluate.static_epsilon.value();
        let totals: Vec<u64> = (0..classes.len())
            .map(|class| record.counts.iter().map(|(_, counts)| counts.get(class).copied().unwrap_or(0)).sum())
            .collect();
        let examples = record.examples.iter().map(|e| example(e, classes)).collect::<Result<_>>()?;
        let rounds: Vec<Round> = record.rounds.iter().map(Round::from).collect();
        Ok(Self {
            version: VERSION,
            job: record.job.clone(),
            classes: classes.clone(),
            measured: record.measured.clone(),
            failures: failures.collect(),
            paired: results::paired(&record.outcomes),
            transfer: record.transferred.iter().flat_map(|(m, by, o)| results::transfers(m, by, o)).collect(),
            worst_case,
            static_set: record
                .static_set
                .iter()
                .map(|(model, count)| StaticFigure {
                    model: model.clone(),
                    epsilon: static_epsilon,
                    figure: (*count).into(),
                })
                .collect(),
            confusion: confusions(record, &headline),
            results,
            headline,
            verdict: Verdict::new(&rounds),
            rounds,
            guard_events: record.events.clone(),
            checks,
            splits: record
                .counts
                .iter()
                .map(|(split, counts)| SplitCount {
                    split: split.clone(),
                    n: counts.iter().sum(),
                    per_class: counts.clone(),
                })
                .collect(),
            balance: Balance {
                sampling: record.settings.data.balance.to_string(),
                smallest: totals.iter().copied().min().unwrap_or(0),
                largest: totals.iter().copied().max().unwrap_or(0),
            },
            duplicates: listed(&record.duplicates),
            quarantine: listed(&record.quarantined),
            left_out: record.left_out.clone(),
            examples,
            night: record.night.clone(),
            provenance: record.provenance.clone(),
            settings: without_passwords(&record.settings),
        })
    }

    /// The bytes of `report.json`.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut bytes =
            serde_json::to_vec_pretty(self).context(Kind::Internal, || "the report is no JSON".to_owned())?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads what [`to_json`](Self::to_json) wrote; an error of kind `Data` for another version or another file.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).context(Kind::Data, || "report.json is no JSON".to_owned())?;
        let found = value
            .get("version")
            .and_then(serde_json::Value::as_u64)
            .ok_or_else(|| Error::data("report.json has no version, so it was not written by hardy"))?;
        if found != u64::from(VERSION) {
            let age = if found > u64::from(VERSION) { "a newer" } else { "an older" };
            return Err(Error::data(format!(
                "report.json has version {found}, of {age} hardy; this one reads version {VERSION}"
            )));
        }
        serde_json::from_value(value).context(Kind::Data, || "report.json is damaged".to_owned())
    }

    /// What a program wants of it first, as `report.json` has it.
    pub fn brief(&self) -> serde_json::Value {
        let Self { headline, results, worst_case, checks, .. } = self;
        json!({ "headline": headline, "results": results, "worst_case": worst_case, "checks": checks })
    }

    /// The models that were measured, in their order.
    pub fn models(&self) -> Vec<&str> {
        let mut models: Vec<&str> = Vec::new();
        for result in &self.results {
            if !models.contains(&result.model.as_str()) {
                models.push(&result.model);
            }
        }
        models
    }

    /// The result of `model` under `attack` at `epsilon`, if it was measured.
    pub fn find(&self, model: &str, attack: &str, epsilon: f64) -> Option<&Measured> {
        results::find(&self.results, model, attack, epsilon)
    }
}

impl From<&RoundRecord> for Round {
    fn from(round: &RoundRecord) -> Self {
        Self {
            phase: round.phase.clone(),
            round: round.round,
            loss: finite(round.loss),
            train_accuracy: finite(round.train_accuracy),
            epsilon: finite(round.epsilon),
            held_clean: round.held_clean.into(),
            held_fgsm: round.held_fgsm.into(),
            held_pgd: round.held_pgd.into(),
            checkpoint_sha256: round.checkpoint_sha256.clone(),
            best: round.best,
        }
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn listed<T: Clone>(list: &[T]) -> Listed<T> {
    Listed { count: list.len() as u64, list: list.to_vec() }
}

/// Clean and, if there is one, under the main attack of the headline, or under all, for each model.
fn confusions(record: &RunRecord, headline: &Headline) -> Vec<Confusion> {
    let clean = headline.figures.iter().find(|f| f.epsilon == 0.0);
    let attacked = headline.main().filter(|f| f.epsilon > 0.0);
    let classes = record.classes.len();
    let mut matrices = Vec::new();
    for (model, outcomes) in &record.outcomes {
        for wanted in [clean, attacked].into_iter().flatten() {
            let found = |c: &crate::task::Condition| {
                c.attack == wanted.attack && results::same(c.epsilon.value(), wanted.epsilon)
            };
            let matrix = match outcomes.conditions.iter().position(found) {
                Some(number) => outcomes.confusion(number, classes),
                None if wanted.attack == ALL => outcomes.worst_confusion(wanted.epsilon, classes),
                None => continue,
            };
            let (attack, epsilon) = (wanted.attack.clone(), wanted.epsilon);
            matrices.push(Confusion { model: model.clone(), attack, epsilon, matrix });
        }
    }
    matrices
}

fn example(example: &Example, classes: &[String]) -> Result<ExampleEntry> {
    let name = |label: usize| {
        classes.get(label).cloned().ok_or_else(|| {
            let key = example.key.escape_debug();
            Error::internal(format!("example '{key}' has class {label}, but there are {}", classes.len()))
        })
    };
    let prediction = |(label, confidence): (usize, f64)| -> Result<Prediction> {
        Ok(Prediction { class: name(label)?, confidence: finite(confidence) })
    };
    Ok(ExampleEntry {
        key: example.key.clone(),
        model: example.model.clone(),
        attack: example.attack.clone(),
        epsilon: example.epsilon,
        label: name(example.label)?,
        before: prediction(example.before)?,
        after: prediction(example.after)?,
    })
}

/// A report is shown around; the queue's and the store's passwords are not.
fn without_passwords(settings: &Settings) -> Settings {
    let hide = |url: &str| -> String {
        let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
        let host = rest.find('/').unwrap_or(rest.len());
        match rest[..host].rfind('@') {
            Some(at) => {
                let user = rest[..at].split(':').next().unwrap_or_default();
                format!("{scheme}://{user}:***{}", &rest[at..])
            }
            None => url.to_owned(),
        }
    };
    let mut settings = settings.clone();
    settings.queue.url = hide(&settings.queue.url);
    settings.store.url = hide(&settings.store.url);
    settings.store.endpoint = hide(&settings.store.endpoint);
    settings.webhook.url = crate::webhook::masked(&settings.webhook.url);
    settings
}
