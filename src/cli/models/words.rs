//! Versions, shares and decisions of the gate as people read them.

use crate::gate::{Comparison, Decision};
use crate::task::VersionId;

pub(super) fn or_none(version: Option<&VersionId>) -> String {
    version.map_or("none".into(), ToString::to_string)
}

pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |s| format!("{:.1} %", 100.0 * s))
}

/// The gate's words, rule by rule.
pub(super) fn judgement(gate: &Decision) -> String {
    let verdict = if gate.passed { "passed" } else { "failed" };
    let against = gate.against.as_deref().unwrap_or("nothing");
    let mut text = format!("gate       {verdict} against {against}: {}\n", gate.reason);
    for rule in &gate.rules {
        let mark = if rule.passed { "ok    " } else { "FAILED" };
        text += &format!("           {mark} {}: {}\n", rule.name, rule.figure);
    }
    let paired = |name: &str, c: &Comparison| match c.p_value {
        Some(p) => format!("paired     {name}: {} images won, {} lost, p = {p:.3}\n", c.gained, c.lost),
        None => String::new(),
    };
    text += &paired("clean", &gate.clean);
    if let Some(robust) = &gate.robust {
        text += &paired("robust", robust);
    }
    text
}
