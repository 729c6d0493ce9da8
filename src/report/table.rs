//! The tables of a report, as the page and the model card show them: a column for each model.

use serde::Serialize;

use super::headline::ALL;
use super::results::{self, Figure};
use super::{Report, format};
use crate::evaluate::CLEAN;

/// Every model under one attack, or under all at once.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) condition: String,
    /// Images measured.
    pub(super) n: u64,
    /// In the order of [`Report::models`].
    pub(super) figures: Vec<Option<Figure>>,
    /// The first row of a group.
    pub(super) first: bool,
}

impl Row {
    fn new(report: &Report, condition: String, first: bool, figure: impl Fn(&str) -> Option<Figure>) -> Self {
        let figures: Vec<_> = report.models().into_iter().map(figure).collect();
        let n = figures.iter().flatten().map(|f| f.n).max().unwrap_or(0);
        Self { condition, n, figures, first }
    }
}

/// Every attack that was measured, in the order of the results, without `clean`.
pub(super) fn attacks(report: &Report) -> Vec<String> {
    let mut attacks: Vec<String> = Vec::new();
    for result in &report.results {
        if result.epsilon > 0.0 && !attacks.contains(&result.attack) {
            attacks.push(result.attack.clone());
        }
    }
    attacks
}

/// The table of all results: clean, each attack by rising budget, all attacks at once, the static copy.
pub(super) fn rows(report: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut groups: Vec<String> = attacks(report);
    if report.results.iter().any(|r| r.attack == "clean") {
        groups.insert(0, "clean".into());
    }
    for attack in &groups {
        let budgets = rising(report.results.iter().filter(|r| r.attack == *attack).map(|r| r.epsilon));
        for (i, &epsilon) in budgets.iter().enumerate() {
            let figure = |model: &str| report.find(model, attack, epsilon).map(|r| r.figure);
            rows.push(Row::new(report, format::condition(attack, epsilon), i == 0, figure));
        }
    }
    for (i, &epsilon) in rising(report.worst_case.iter().map(|w| w.epsilon)).iter().enumerate() {
        let figure = |model: &str| {
            report.worst_case.iter().find(|w| w.model == model && results::same(w.epsilon, epsilon)).map(|w| w.figure)
        };
        rows.push(Row::new(report, format::condition(ALL, epsilon), i == 0, figure));
    }
    if let Some(first) = report.static_set.first() {
        let figure = |model: &str| report.static_set.iter().find(|s| s.model == model).map(|s| s.figure);
        let condition = format!("static copy, FGSM at {}", format::epsilon(first.epsilon));
        rows.push(Row::new(report, condition, true, figure));
    }
    rows
}

/// How many images each budget was the first to break.
#[derive(Serialize)]
pub(super) struct FailureRow {
    pub(super) budget: String,
    /// In the order of [`Report::models`].
    pub(super) images: Vec<Option<u64>>,
}

/// Misclassified without an attack, broken by each budget, never broken.
pub(super) fn failures(report: &Report) -> Vec<FailureRow> {
    let mut budgets: Vec<Option<f64>> = Vec::new();
    for failure in &report.failures {
        if !budgets.contains(&failure.epsilon) {
            budgets.push(failure.epsilon);
        }
    }
    let row = |epsilon: Option<f64>| {
        let images = |model: &str| {
            report.failures.iter().find(|f| f.model == model && f.epsilon == epsilon).map(|failure| failure.images)
        };
        let budget = match epsilon {
            None => "stood every attack".into(),
            Some(0.0) => "wrong without an attack".into(),
            Some(epsilon) => format!("broken at {}", format::epsilon(epsilon)),
        };
        FailureRow { budget, images: report.models().into_iter().map(images).collect() }
    };
    budgets.into_iter().map(row).collect()
}

/// A row of the transfer matrix: what each model makes of the images that one was attacked with.
#[derive(Serialize)]
pub(super) struct TransferRow {
    pub(super) attacked: String,
    /// In the order of [`Report::models`].
    pub(super) seen_by: Vec<Option<Figure>>,
}

/// The transfer matrix at the budget of the headline, under the attack that leaves least there: its name, and its rows.
pub(super) fn transfer(report: &Report) -> Option<(String, Vec<TransferRow>)> {
    let epsilon = report.headline.epsilon;
    let shown = || report.transfer.iter().filter(|t| results::same(t.epsilon, epsilon));
    let left = |attack: &str| -> u64 {
        let own = report.results.iter().filter(|r| r.attack == attack && results::same(r.epsilon, epsilon));
        own.map(|r| r.figure.correct).sum()
    };
    // Of several that leave as little the last, where the stronger ones are.
    let strongest = shown().map(|t| t.attack.as_str()).rev().min_by_key(|attack| left(attack))?;
    let row = |attacked: &str| {
        let figure = |seen_by: &str| {
            if seen_by == attacked {
                return report.find(attacked, strongest, epsilon).map(|r| r.figure);
            }
            let crossed = (attacked, seen_by, strongest);
            let same = |t: &&results::Transfer| (&t.attacked[..], &t.seen_by[..], &t.attack[..]) == crossed;
            shown().find(same).map(|t| t.figure)
        };
        TransferRow { attacked: attacked.into(), seen_by: report.models().into_iter().map(figure).collect() }
    };
    let rows: Vec<TransferRow> = report.models().into_iter().map(row).collect();
    let crossed = rows.iter().any(|row| row.seen_by.iter().flatten().count() > 1);
    crossed.then(|| (format::condition(strongest, epsilon), rows))
}

/// Two models under one condition.
#[derive(Serialize)]
pub(super) struct PairedRow {
    pub(super) first: String,
    pub(super) second: String,
    pub(super) condition: String,
    pub(super) points: Option<f64>,
    pub(super) gained: u64,
    pub(super) lost: u64,
    pub(super) p_value: Option<f64>,
}

/// Every two models, clean and under all attacks up to each budget.
pub(super) fn paired(report: &Report) -> Vec<PairedRow> {
    let row = |pair: &results::Paired| PairedRow {
        first: pair.first.clone(),
        second: pair.second.clone(),
        condition: format::condition(if pair.epsilon > 0.0 { ALL } else { CLEAN }, pair.epsilon),
        points: pair.comparison.points,
        gained: pair.comparison.gained,
        lost: pair.comparison.lost,
        p_value: pair.comparison.p_value,
    };
    report.paired.iter().map(row).collect()
}

fn rising(budgets: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut budgets: Vec<f64> = budgets.collect();
    budgets.sort_by(f64::total_cmp);
    budgets.dedup_by(|a, b| results::same(*a, *b));
    budgets
}
