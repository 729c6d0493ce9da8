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

fn rising(budgets: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut budgets: Vec<f64> = budgets.collect();
    budgets.sort_by(f64::total_cmp);
    budgets.dedup_by(|a, b| results::same(*a, *b));
    budgets
}
