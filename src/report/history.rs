//! `hardy report --history`: a model over the nights, as one page.

use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::{Deserialize, Serialize};

use super::results::Figure;
use super::{chart, template};
use crate::error::Result;
use crate::gate::Decision;

/// A model over the nights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// The model.
    pub model: String,
    /// The budget of robust accuracy, pixel scale.
    pub epsilon: f64,
    /// The current version.
    pub current: Option<String>,
    /// What happened, the oldest first.
    pub nights: Vec<TrendNight>,
}

/// Something that happened, mostly in a night.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrendNight {
    /// RFC 3339, UTC.
    pub at: String,
    /// The night, or the version where it was done by hand.
    pub name: String,
    /// What happened: `promoted`, `rejected`, …
    pub what: String,
    /// Whether somebody did it by hand.
    pub by_hand: bool,
    /// Against the gate.
    pub forced: bool,
    /// Why, in one sentence.
    pub reason: String,
    /// Clean accuracy of the version it happened to.
    pub clean: Option<Figure>,
    /// Its robust accuracy.
    pub robust: Option<Figure>,
    /// The current version afterwards.
    pub current: Option<String>,
    /// Its clean accuracy, in `[0, 1]`.
    pub current_clean: Option<f64>,
    /// Its robust accuracy.
    pub current_robust: Option<f64>,
    /// What the gate said.
    pub gate: Option<Decision>,
}

/// What is marked in the charts: everything but nights that just went well.
fn is_marked(night: &TrendNight) -> bool {
    night.what != "promoted" || night.by_hand || night.forced
}

/// Lays the history out as HTML: one file with everything in it, for a browser and for paper.
pub fn history_page(trend: &Trend) -> Result<String> {
    let marks: Vec<(usize, String)> = (0..trend.nights.len())
        .filter(|&i| is_marked(&trend.nights[i]))
        .enumerate()
        .map(|(n, i)| (i, (n + 1).to_string()))
        .collect();
    let charts = vec![
        ("Clean accuracy".to_string(), chart::trend_curve(trend, &marks, false)?),
        (
            format!("Robust accuracy at {}", super::format::epsilon(trend.epsilon)),
            chart::trend_curve(trend, &marks, true)?,
        ),
    ];
    let numbers: Vec<Option<String>> = (0..trend.nights.len())
        .map(|i| marks.iter().find(|(place, _)| *place == i).map(|(_, number)| number.clone()))
        .collect();
    let count = |what: &str| trend.nights.iter().filter(|n| n.what == what).count();
    template::render(
        "history.html",
        context! {
            style => Value::from_safe_string(include_str!("page.css").to_owned()),
            hardy => env!("CARGO_PKG_VERSION"),
            trend => Serde(trend),
            last => Serde(trend.nights.iter().rev().find(|n| n.current_clean.is_some())),
            charts => Serde(charts),
            numbers => Serde(numbers),
            promoted => count("promoted"),
            rejected => count("rejected"),
            failed => count("failed"),
        },
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::gate::{Claim, Comparison};
    use crate::outcome::Count;

    fn night(name: &str, what: &str, clean: u64) -> TrendNight {
        let figure = |correct| Some(Count { correct, n: 100 }.into());
        TrendNight {
            at: "2026-11-22T02:00:00Z".into(),
            name: name.into(),
            what: what.into(),
            by_hand: false,
            forced: false,
            reason: format!("because of <{name}>"),
            clean: figure(clean),
            robust: figure(clean / 2),
            current: Some("first".into()),
            current_clean: Some(0.8),
            current_robust: Some(0.4),
            gate: None,
        }
    }

    fn trend(nights: Vec<TrendNight>) -> Trend {
        Trend { model: "flowers".into(), epsilon: 4.0 / 255.0, current: Some("first".into()), nights }
    }

    #[test]
    fn shows_every_night_with_its_reason_and_needs_no_network() {
        let failed = TrendNight { clean: None, robust: None, ..night("third", "failed", 0) };
        let page = history_page(&trend(vec![night("first", "promoted", 80), night("second", "rejected", 31), failed]))
            .unwrap();
        for text in
            ["flowers", "first", "second", "31.0\u{a0}%", "third", "because of &lt;second&gt;", "rejected", "failed"]
        {
            assert!(page.contains(text), "{text}");
        }
        assert_eq!(page.matches("<svg").count(), 2);
        let plain = page.replace("http://www.w3.org/2000/svg", "");
        for address in ["http://", "https://", "src=\"/", "@import", "<script"] {
            assert!(!plain.contains(address), "{address}");
        }
    }

    #[test]
    fn what_the_gate_said_of_a_night_can_be_unfolded() {
        let figure = |correct| -> Figure { Count { correct, n: 100 }.into() };
        let comparison = |before: u64, after: u64| Comparison {
            before: Some(figure(before)),
            after: figure(after),
            points: Some(after as f64 - before as f64),
            gained: 0,
            lost: before - after,
            p_value: Some(0.0312),
        };
        let gate = Decision {
            passed: false,
            against: Some("the <old> one".into()),
            test_sha256: "x".into(),
            reason: "not so".into(),
            claim: Claim::Worse,
            epsilon: 4.0 / 255.0,
            clean: comparison(80, 74),
            robust: Some(comparison(40, 38)),
            rules: Vec::new(),
        };
        let first = Decision { against: None, ..gate.clone() };
        let by_hand = TrendNight { by_hand: true, gate: Some(gate.clone()), ..night("by-hand", "promoted", 80) };
        let nights = vec![
            TrendNight { gate: Some(first), ..night("first", "promoted", 80) },
            TrendNight { gate: Some(gate), ..night("second", "rejected", 74) },
            by_hand,
        ];
        let page = history_page(&trend(nights)).unwrap();
        assert_eq!(page.matches("<details>").count(), 2);
        for text in ["no version to compare it with", "the &lt;old&gt; one: clean -6.0 points (p&nbsp;=&nbsp;0.031)"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(page.contains("255 -2.0 points (p"), "{page}");
    }

    #[test]
    fn an_empty_or_short_history_is_no_error() {
        history_page(&trend(Vec::new())).unwrap();
        history_page(&trend(vec![night("first", "promoted", 80)])).unwrap();
    }
}
