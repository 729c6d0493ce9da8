//! The outcome of a run in a sentence and a small table.

use serde::{Deserialize, Serialize};

use super::results::{self, Figure, Measured};
use super::{Check, Report, format};

/// The undefended one of the two models of a run that trains.
pub const BASELINE: &str = "baseline";
/// The other one; also the name of a model that was measured alone.
pub const TRAINED: &str = "trained";

/// What a reader wants to know first, where it was measured.
const PREFERRED: [(&str, f64); 4] = [("clean", 0.0), ("fgsm", 0.01), ("pgd20", 2.0 / 255.0), ("pgd20", 4.0 / 255.0)];

/// The outcome in one sentence and few figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Headline {
    /// For a person, with n. Begins with a warning when a check failed.
    pub sentence: String,
    /// False when a sanity check failed: the figures are then not to be trusted.
    pub trusted: bool,
    /// Clean first, the strongest attack last; at most four.
    pub figures: Vec<HeadlineFigure>,
}

/// Every model under one attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadlineFigure {
    /// `clean`, `fgsm`, …
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
    fn new(results: &[Measured], attack: String, epsilon: f64) -> Self {
        let here = |r: &&Measured| r.attack == attack && results::same(r.epsilon, epsilon);
        let (mut baseline, mut trained, mut others) = (None, None, Vec::new());
        for Measured { model, figure, .. } in results.iter().filter(here) {
            match model.as_str() {
                BASELINE => baseline = Some(*figure),
                TRAINED => trained = Some(*figure),
                _ => others.push(NamedFigure { model: model.clone(), figure: *figure }),
            }
        }
        Self { attack, epsilon, baseline, trained, others }
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
    /// Picks the figures and writes the sentence. `measured` names the split; a model that was not `trained_here` may be
    /// any.
    pub(super) fn new(results: &[Measured], checks: &[Check], measured: &str, trained_here: bool) -> Self {
        let figures: Vec<HeadlineFigure> = chosen(results)
            .into_iter()
            .map(|(attack, epsilon)| HeadlineFigure::new(results, attack, epsilon))
            .collect();
        let failed = checks.iter().filter(|c| !c.passed).count();
        let mut sentence = String::new();
        if failed > 0 {
            sentence = format!("NOT TO BE TRUSTED: {failed} of {} sanity checks failed. ", checks.len());
        }
        sentence.push_str(&outcome(&figures, measured, trained_here));
        Self { sentence, trusted: failed == 0, figures }
    }
}

/// The preferred conditions that were measured; without any attack among them, the first few of all.
fn chosen(results: &[Measured]) -> Vec<(String, f64)> {
    let measured = |&&(attack, epsilon): &&(&str, f64)| {
        results.iter().any(|r| r.attack == attack && results::same(r.epsilon, epsilon))
    };
    let preferred: Vec<_> = PREFERRED.iter().filter(measured).map(|&(a, e)| (a.to_owned(), e)).collect();
    if preferred.iter().any(|&(_, epsilon)| epsilon > 0.0) {
        return preferred;
    }
    let mut all: Vec<(String, f64)> = Vec::new();
    for result in results {
        if !all.iter().any(|(a, e)| *a == result.attack && results::same(*e, result.epsilon)) {
            all.push((result.attack.clone(), result.epsilon));
        }
    }
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    all.truncate(PREFERRED.len());
    all
}

fn outcome(figures: &[HeadlineFigure], measured: &str, trained_here: bool) -> String {
    let Some(last) = figures.last() else { return "Nothing was measured.".into() };
    let condition = format::condition(&last.attack, last.epsilon);
    let under = if last.epsilon > 0.0 { format!("under {condition}") } else { "without an attack".into() };
    let n = |figure: &Figure| format!("({measured}, n = {})", figure.n);
    if let Some(first) = last.others.first() {
        let each = |other: &NamedFigure| format!("{} {}", other.model, format::percent(other.figure.accuracy));
        let all: Vec<String> = last.others.iter().map(each).collect();
        return format!("Correct {under}: {} {}.", all.join(", "), n(&first.figure));
    }
    match (&last.trained, &last.baseline) {
        (Some(trained), Some(baseline)) => format!(
            "The trained model classifies {} {under} correctly, the undefended one {} {}.",
            format::percent(trained.accuracy),
            format::percent(baseline.accuracy),
            n(trained)
        ),
        (Some(only), None) => {
            let model = if trained_here { "The trained model" } else { "The model" };
            format!("{model} classifies {} {under} correctly {}.", format::percent(only.accuracy), n(only))
        }
        (None, Some(only)) => {
            format!("The undefended model classifies {} {under} correctly {}.", format::percent(only.accuracy), n(only))
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
