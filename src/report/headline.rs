//! The outcome of a run in a sentence and a small table.

use serde::{Deserialize, Serialize};

use super::results::{self, Figure, Measured, WorstCase};
use super::{Check, Report, RunRecord, format};
use crate::attack::{Attack, Norm};
use crate::config::Epsilon;
use crate::evaluate::{self, CLEAN};

/// The undefended one of the two models of a run that trains.
pub const BASELINE: &str = "baseline";
/// The other one; also the name of a model that was measured alone.
pub const TRAINED: &str = "trained";

/// Stands for all attacks at once where the name of one could stand.
pub(super) const ALL: &str = "all";

/// The budgets that readers compare, the dearest first; other ones follow, the larger first.
const PREFERRED: [f64; 3] = [4.0 / 255.0, 8.0 / 255.0, 2.0 / 255.0];
/// How many of them are shown.
const SHOWN: usize = 3;

/// The outcome in one sentence and few figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Headline {
    /// For a person, with n. Begins with a warning when a check failed.
    pub sentence: String,
    /// False when a sanity check failed: the figures are then not to be trusted.
    pub trusted: bool,
    /// The budget that the sentence, the accuracies of the classes and the matrices are about, pixel scale; 0 where no
    /// attack was measured.
    #[serde(default)]
    pub epsilon: f64,
    /// Clean first, then by rising budget; at most four.
    pub figures: Vec<HeadlineFigure>,
}

/// Every model clean, or under all attacks of at most a budget at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadlineFigure {
    /// `clean`, `all`, or the name of the only attack.
    pub attack: String,
    /// Pixel scale; 0 for `clean`.
    pub epsilon: f64,
    /// The undefended model, if it was measured.
    pub baseline: Option<Figure>,
    /// The trained model, if it was measured.
    pub trained: Option<Figure>,
    /// Models of other names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<NamedFigure>,
}

/// A model's figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedFigure {
    /// The model.
    pub model: String,
    /// Over all classes.
    #[serde(flatten)]
    pub figure: Figure,
}

impl HeadlineFigure {
    fn new<'a>(attack: &str, epsilon: f64, models: impl Iterator<Item = (&'a str, Figure)>) -> Self {
        let (mut baseline, mut trained, mut others) = (None, None, Vec::new());
        for (model, figure) in models {
            match model {
                BASELINE => baseline = Some(figure),
                TRAINED => trained = Some(figure),
                _ => others.push(NamedFigure { model: model.into(), figure }),
            }
        }
        Self { attack: attack.into(), epsilon, baseline, trained, others }
    }

    /// Under one attack.
    fn single(results: &[Measured], attack: &str, epsilon: f64) -> Self {
        let here = results.iter().filter(|r| r.attack == attack && results::same(r.epsilon, epsilon));
        Self::new(attack, epsilon, here.map(|r| (r.model.as_str(), r.figure)))
    }

    /// Under all attacks, or under the only one.
    fn attacked(results: &[Measured], worst: &[WorstCase], epsilon: f64) -> Self {
        let here = || worst.iter().filter(|w| results::same(w.epsilon, epsilon));
        match here().next().map(|w| &w.attacks[..]) {
            Some([only]) => Self::single(results, only, epsilon),
            _ => Self::new(ALL, epsilon, here().map(|w| (w.model.as_str(), w.figure))),
        }
    }

    /// Of one model.
    pub fn of(&self, model: &str) -> Option<Figure> {
        match model {
            BASELINE => self.baseline,
            TRAINED => self.trained,
            _ => self.others.iter().find(|other| other.model == model).map(|other| other.figure),
        }
    }
}

impl Headline {
    /// Picks the figures and writes the sentence.
    pub(super) fn new(record: &RunRecord, results: &[Measured], worst: &[WorstCase], checks: &[Check]) -> Self {
        let mut budgets: Vec<Epsilon> = worst.iter().filter_map(|w| Epsilon::new(w.epsilon)).collect();
        let far = || {
            budgets.iter().copied().filter(|b| worst.iter().any(|w| results::same(w.epsilon, b.value()) && strays(w)))
        };
        let epsilon = evaluate::foremost(&budgets, record.settings.adversary.epsilon)
            .or_else(|| far().max_by(|a, b| a.value().total_cmp(&b.value())))
            .map_or(0.0, Epsilon::value);
        budgets.sort_by_key(|budget| rank(budget.value(), epsilon));
        budgets.dedup_by(|a, b| results::same(a.value(), b.value()));
        budgets.truncate(SHOWN);
        budgets.sort_by(|a, b| a.value().total_cmp(&b.value()));
        let clean = results.iter().find(|r| r.attack == CLEAN).map(|_| HeadlineFigure::single(results, CLEAN, 0.0));
        let attacked = budgets.iter().map(|budget| HeadlineFigure::attacked(results, worst, budget.value()));
        let mut headline = Self {
            sentence: String::new(),
            trusted: checks.iter().all(|c| c.passed),
            epsilon,
            figures: clean.into_iter().chain(attacked).collect(),
        };
        if !headline.trusted {
            let failed = checks.iter().filter(|c| !c.passed).count();
            headline.sentence = format!("NOT TO BE TRUSTED: {failed} of {} sanity checks failed. ", checks.len());
        }
        let outcome = headline.main().map_or_else(
            || "Nothing was measured.".to_string(),
            |main| {
                let attacks =
                    worst.iter().find(|w| results::same(w.epsilon, epsilon)).map_or(&[][..], |w| &w.attacks[..]);
                outcome(main, attacks, &record.measured, !record.rounds.is_empty())
            },
        );
        headline.sentence.push_str(&outcome);
        headline
    }

    /// The figure that the sentence is about: the clean one where no attack was measured.
    pub fn main(&self) -> Option<&HeadlineFigure> {
        self.figures.iter().find(|figure| results::same(figure.epsilon, self.epsilon))
    }
}

/// Whether a budget that would drown every image in l∞ says something: every attack is held to it in another norm.
fn strays(worst: &WorstCase) -> bool {
    worst.attacks.iter().all(|name| name.parse::<Attack>().is_ok_and(|attack| attack.norm() != Norm::LInf))
}

/// Sorts the budget that the sentence is about before the preferred ones, and those before the others.
fn rank(budget: f64, main: f64) -> (usize, i64) {
    let known = [main].into_iter().chain(PREFERRED).position(|wanted| results::same(wanted, budget));
    (known.unwrap_or(usize::MAX), -(budget * 1e9).round() as i64)
}

/// What came of `figure`, in which all of `attacks` count.
fn outcome(figure: &HeadlineFigure, attacks: &[String], measured: &str, trained_here: bool) -> String {
    let condition = format::condition(&figure.attack, figure.epsilon);
    let under = match (&figure.attack[..], figure.epsilon) {
        (ALL, _) => {
            let names: Vec<String> = attacks.iter().map(|attack| format::attack(attack)).collect();
            format!("under {condition} ({})", names.join(", "))
        }
        (_, 0.0) => "without an attack".into(),
        _ => format!("under {condition}"),
    };
    let percent = |figure: &Figure| format::percent(figure.accuracy);
    let n = |figure: &Figure| format!("({measured}, n = {})", figure.n);
    if let Some(first) = figure.others.first() {
        let known = [(BASELINE, &figure.baseline), (TRAINED, &figure.trained)];
        let known = known.into_iter().filter_map(|(model, figure)| Some((model, figure.as_ref()?)));
        let all = known.chain(figure.others.iter().map(|other| (other.model.as_str(), &other.figure)));
        let all: Vec<String> =
            all.map(|(model, figure)| format!("{} {}", format::model(model), percent(figure))).collect();
        return format!("Correct {under}: {} {}.", all.join(", "), n(&first.figure));
    }
    match (&figure.trained, &figure.baseline) {
        (Some(trained), Some(baseline)) => format!(
            "The trained model classifies {} correctly {under}, the undefended one {} {}.",
            percent(trained),
            percent(baseline),
            n(trained)
        ),
        (Some(only), None) => {
            let model = if trained_here { "The trained model" } else { "The model" };
            format!("{model} classifies {} correctly {under} {}.", percent(only), n(only))
        }
        (None, Some(only)) => {
            format!("The undefended model classifies {} correctly {under} {}.", percent(only), n(only))
        }
        (None, None) => "Nothing was measured.".into(),
    }
}

/// The lines that end `hardy run` and that `hardy report` prints: the sentence, a table with a column for each
/// model, the checks that failed. Plain text, ends with a line feed.
pub fn headline(report: &Report) -> String {
    let plain = |text: String| text.replace('\u{a0}', " ");
    let cell = |figure: &Option<Figure>| match figure {
        Some(f) => plain(format!("{} ({})", format::percent(f.accuracy), format::interval(f.low, f.high))),
        None => "-".into(),
    };
    let models = report.models();
    let head = [String::new()].into_iter().chain(models.iter().map(|model| format::model(model).to_string()));
    let mut rows: Vec<Vec<String>> = vec![head.collect()];
    for figure in &report.headline.figures {
        let condition = format::condition(&figure.attack, figure.epsilon);
        rows.push([condition].into_iter().chain(models.iter().map(|model| cell(&figure.of(model)))).collect());
    }
    let widths: Vec<usize> = (0..=models.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();

    let mut text = plain(format!("{}: {}\n\n", report.job, report.headline.sentence));
    for row in &rows {
        text.push_str(&format!("  {:<width$}", row[0], width = widths[0]));
        for (cell, width) in row[1..].iter().zip(&widths[1..]) {
            text.push_str(&format!("  {cell:>width$}"));
        }
        text.push('\n');
    }
    let failed: Vec<&Check> = report.checks.iter().filter(|c| !c.passed).collect();
    if !report.checks.is_empty() {
        let (passed, all) = (report.checks.len() - failed.len(), report.checks.len());
        text.push_str(&format!("\n  {passed} of {all} sanity checks passed\n"));
    }
    for check in failed {
        text.push_str(&format!("  FAILED: {}: {}\n", check.name, check.figure));
    }
    text
}
