//! The table of all results, as the page and the model card show it.

use serde::Serialize;

use super::results::{self, Figure};
use super::{Report, format};

/// Both models under one attack, or under all at once.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) condition: String,
    pub(super) baseline: Option<Figure>,
    pub(super) trained: Option<Figure>,
    /// The first row of a group.
    pub(super) first: bool,
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
            let figure = |model| report.find(model, attack, epsilon).map(|r| r.figure);
            rows.push(Row {
                condition: format::condition(attack, epsilon),
                baseline: figure("baseline"),
                trained: figure("trained"),
                first: i == 0,
            });
        }
    }
    for (i, &epsilon) in rising(report.worst_case.iter().map(|w| w.epsilon)).iter().enumerate() {
        let figure = |model: &str| {
            report.worst_case.iter().find(|w| w.model == model && results::same(w.epsilon, epsilon)).map(|w| w.figure)
        };
        rows.push(Row {
            condition: format!("all attacks, up to {}", format::epsilon(epsilon)),
            baseline: figure("baseline"),
            trained: figure("trained"),
            first: i == 0,
        });
    }
    if let Some(first) = report.static_set.first() {
        let figure = |model: &str| report.static_set.iter().find(|s| s.model == model).map(|s| s.figure);
        rows.push(Row {
            condition: format!("static copy, FGSM at {}", format::epsilon(first.epsilon)),
            baseline: figure("baseline"),
            trained: figure("trained"),
            first: true,
        });
    }
    rows
}

/// How many images each budget was the first to break.
#[derive(Serialize)]
pub(super) struct FailureRow {
    pub(super) budget: String,
    pub(super) baseline: Option<u64>,
    pub(super) trained: Option<u64>,
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
        FailureRow { budget, baseline: images("baseline"), trained: images("trained") }
    };
    budgets.into_iter().map(row).collect()
}

/// A row of the transfer matrix: what each model makes of the images that one was attacked with.
#[derive(Serialize)]
pub(super) struct TransferRow {
    pub(super) attacked: String,
    pub(super) baseline: Option<Figure>,
    pub(super) trained: Option<Figure>,
}

/// The transfer matrix under the strongest attack of the headline: its name, and its rows.
pub(super) fn transfer(report: &Report) -> Option<(String, Vec<TransferRow>)> {
    let strongest = report.headline.figures.last().filter(|f| f.epsilon > 0.0)?;
    let row = |attacked: &str| {
        let figure = |seen_by: &str| {
            if seen_by == attacked {
                return report.find(attacked, &strongest.attack, strongest.epsilon).map(|r| r.figure);
            }
            let same = |t: &&results::Transfer| {
                (t.attacked.as_str(), t.seen_by.as_str(), t.attack.as_str())
                    == (attacked, seen_by, strongest.attack.as_str())
                    && results::same(t.epsilon, strongest.epsilon)
            };
            report.transfer.iter().find(same).map(|t| t.figure)
        };
        TransferRow { attacked: attacked.into(), baseline: figure("baseline"), trained: figure("trained") }
    };
    let rows = ["baseline", "trained"].map(row);
    let crossed = rows[0].trained.is_some() || rows[1].baseline.is_some();
    crossed.then(|| (format::condition(&strongest.attack, strongest.epsilon), rows.into()))
}

fn rising(budgets: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut budgets: Vec<f64> = budgets.collect();
    budgets.sort_by(f64::total_cmp);
    budgets.dedup_by(|a, b| results::same(*a, *b));
    budgets
}
