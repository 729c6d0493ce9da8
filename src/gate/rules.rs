//! The rules of the gate.

use std::collections::HashMap;

use super::{Best, Claim, Comparison, Decision, Rule, Subject};
use crate::config::{Epsilon, GateSettings};
use crate::outcome::Outcomes;

/// Points are compared with what two accuracies may differ by in their last bits.
const ROUNDING: f64 = 1e-9;

/// Judges `candidate` by `rules`: against the current model and against the best that was promoted, where
/// there are any; always by its classes and its sanity checks.
pub fn judge(candidate: &Subject, current: Option<&Subject>, best: Option<&Best>, rules: &GateSettings) -> Decision {
    let mut found: Vec<Rule> = Vec::new();
    let measured = robust(candidate.outcomes, rules.epsilon);
    found.extend(unmeasured(candidate.outcomes, rules.epsilon));
    if let Some(current) = current {
        found.extend(mismatches(candidate, current));
    }
    let clean = correct(candidate.outcomes);
    let alone = || (Comparison::alone(&clean), measured.as_deref().map(Comparison::alone));
    if !found.is_empty() {
        let (clean, robust) = alone();
        return decide(candidate, current, rules, Claim::NotComparable, clean, robust, found);
    }
    let (clean, robust) = match current {
        None => alone(),
        Some(current) => (
            Comparison::of(&paired(current, candidate, correct), &clean),
            measured.as_deref().map(|after| {
                let before = paired(current, candidate, |o| robust(o, rules.epsilon).unwrap_or_default());
                Comparison::of(&before, after)
            }),
        ),
    };
    found.extend(fallen("clean accuracy", &clean, rules.clean_drop, "gate.clean_drop", best.map(|b| &b.clean)));
    if let Some(robust) = &robust {
        let best = best.and_then(|b| b.robust.as_ref());
        found.extend(fallen("robust accuracy", robust, rules.robust_drop, "gate.robust_drop", best));
    }
    found.push(collapsed(candidate, current, rules));
    if rules.checks {
        found.push(checked(candidate));
    }
    let claim = claim(current.is_some(), [Some(&clean), robust.as_ref()], rules.alpha);
    if rules.better && current.is_some() {
        let p = |c: &Comparison| c.p_value.unwrap_or(1.0);
        found.push(Rule {
            name: "it is significantly better".into(),
            passed: claim == Claim::Better,
            figure: format!("p = {:.3} clean, {:.3} robust", p(&clean), robust.as_ref().map_or(1.0, p)),
            setting: format!("gate.better = true, gate.alpha = {}", rules.alpha),
        });
    }
    decide(candidate, current, rules, claim, clean, robust, found)
}

fn decide(
    candidate: &Subject,
    current: Option<&Subject>,
    rules: &GateSettings,
    claim: Claim,
    clean: Comparison,
    robust: Option<Comparison>,
    found: Vec<Rule>,
) -> Decision {
    let failed: Vec<String> =
        found.iter().filter(|r| !r.passed).map(|r| format!("not so: {} ({})", r.name, r.figure)).collect();
    let reason = match (failed.is_empty(), current) {
        (false, _) => failed.join("; "),
        (true, None) => "there was no current model".into(),
        // On a large test set a fall that the limits allow may be significant.
        (true, Some(current)) if claim == Claim::Worse => {
            format!("{} than {}, but within what the gate allows", claim.words(), current.version)
        }
        (true, Some(current)) => format!("no worse than {}: {}", current.version, claim.words()),
    };
    Decision {
        passed: failed.is_empty(),
        against: current.map(|c| c.version.to_string()),
        test_sha256: candidate.test_sha256.to_string(),
        reason,
        claim,
        epsilon: rules.epsilon.value(),
        clean,
        robust,
        rules: found,
    }
}

/// Which images are classified correctly without an attack.
fn correct(outcomes: &Outcomes) -> Vec<bool> {
    let clean = outcomes.find("clean", Epsilon::ZERO).unwrap_or_default();
    outcomes.images.iter().map(|image| image.predicted.get(clean) == Some(&image.label)).collect()
}

/// Which images no attack of at most `epsilon` breaks; `None` unless an attack was measured at it.
fn robust(outcomes: &Outcomes, epsilon: Epsilon) -> Option<Vec<bool>> {
    let epsilon = epsilon.value();
    let mut budgets = outcomes.conditions.iter().map(|c| c.epsilon.value());
    let measured = epsilon > 0.0 && budgets.any(|budget| (budget - epsilon).abs() <= 1e-9);
    measured.then(|| outcomes.standing(epsilon))
}

fn unmeasured(outcomes: &Outcomes, epsilon: Epsilon) -> Option<Rule> {
    if robust(outcomes, epsilon).is_some() {
        return None;
    }
    Some(Rule {
        name: "robust accuracy was measured".into(),
        passed: false,
        figure: format!("no attack was measured at {epsilon}; add it to evaluate.epsilons"),
        setting: format!("gate.epsilon = {epsilon}"),
    })
}

/// Why the figures of two models cannot be compared.
fn mismatches(candidate: &Subject, current: &Subject) -> Vec<Rule> {
    let mut found = Vec::new();
    let mut refuse = |name: &str, figure: String| {
        found.push(Rule { name: name.into(), passed: false, figure, setting: String::new() });
    };
    if candidate.classes != current.classes {
        refuse("the classes are the same", classes(candidate.classes, current.classes));
    }
    if candidate.test_sha256 != current.test_sha256 {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let (new, old) = (short(candidate.test_sha256), short(current.test_sha256));
        refuse("the frozen test set is the same", format!("{new} here, {old} when {} was measured", current.version));
    }
    let names = |outcomes: &Outcomes| -> Vec<String> {
        outcomes.conditions.iter().map(|c| format!("{} {}", c.attack, c.epsilon)).collect()
    };
    let (new, old) = (names(candidate.outcomes), names(current.outcomes));
    if new != old {
        refuse(
            "the attacks are the same",
            format!("{} here, {} for {}", new.join(", "), old.join(", "), current.version),
        );
    }
    let images = |outcomes: &Outcomes| -> Vec<(String, usize)> {
        let mut all: Vec<_> = outcomes.images.iter().map(|i| (i.key.clone(), i.label)).collect();
        all.sort();
        all
    };
    if found.is_empty() && images(candidate.outcomes) != images(current.outcomes) {
        let (new, old) = (candidate.outcomes.images.len(), current.outcomes.images.len());
        found.push(Rule {
            name: "the measured images are the same".into(),
            passed: false,
            figure: format!("{new} images here, {old} for {}", current.version),
            setting: String::new(),
        });
    }
    found
}

fn classes(new: &[String], old: &[String]) -> String {
    let only = |these: &[String], those: &[String]| -> String {
        let names: Vec<String> = these.iter().filter(|c| !those.contains(c)).map(|c| format!("{c:?}")).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    };
    match (only(new, old).as_str(), only(old, new).as_str()) {
        ("none", "none") => "the same names in another order".into(),
        (added, gone) => format!("new: {added}; missing: {gone}"),
    }
}

/// `figure` of the current model, in the order of the candidate's images.
fn paired(current: &Subject, candidate: &Subject, figure: impl Fn(&Outcomes) -> Vec<bool>) -> Vec<bool> {
    let values = figure(current.outcomes);
    let known: HashMap<&str, bool> = current.outcomes.images.iter().map(|i| i.key.as_str()).zip(values).collect();
    candidate.outcomes.images.iter().map(|i| known.get(i.key.as_str()).copied().unwrap_or(false)).collect()
}

/// The rules on an accuracy that may not fall.
fn fallen(
    what: &str,
    found: &Comparison,
    allowed: f64,
    setting: &str,
    best: Option<&(f64, String)>,
) -> impl Iterator<Item = Rule> {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let setting = format!("{setting} = {allowed}");
    let current = found.points.zip(found.before).map(|(points, before)| Rule {
        name: format!("{what} has not fallen"),
        passed: points >= -allowed - ROUNDING,
        figure: format!("{} after {}, {points:+.1} points", percent(found.after.accuracy), percent(before.accuracy)),
        setting: setting.clone(),
    });
    let ever = best.map(|(share, version)| {
        let points = 100.0 * (found.after.accuracy - share);
        Rule {
            name: format!("{what} keeps up with the best promoted"),
            passed: points >= -allowed - ROUNDING,
            figure: format!(
                "{} against {} of {version}, {points:+.1} points",
                percent(found.after.accuracy),
                percent(*share)
            ),
            setting,
        }
    });
    current.into_iter().chain(ever)
}

/// No class may have been given up for the sake of the others.
fn collapsed(candidate: &Subject, current: Option<&Subject>, rules: &GateSettings) -> Rule {
    let clean = |s: &Subject, class: usize| {
        let number = s.outcomes.find("clean", Epsilon::ZERO).unwrap_or_default();
        s.outcomes.count_class(number, class)
    };
    let mut worst: Option<(f64, String)> = None;
    let mut failed: Vec<String> = Vec::new();
    for (class, name) in candidate.classes.iter().enumerate() {
        let after = clean(candidate, class);
        if after.n == 0 {
            continue;
        }
        let before = current.map(|c| clean(c, class).accuracy());
        let fall = before.map_or(0.0, |b| 100.0 * (b - after.accuracy()));
        let text = match before {
            Some(before) => format!("{name} {:.0} % after {:.0} %", 100.0 * after.accuracy(), 100.0 * before),
            None => format!("{name} {:.0} %", 100.0 * after.accuracy()),
        };
        // A class that was below the floor already is not what this model did.
        let sunk = after.accuracy() < rules.class_floor && before.is_none_or(|b| b >= rules.class_floor);
        if sunk || fall > rules.class_drop + ROUNDING {
            failed.push(text.clone());
        }
        if worst.as_ref().is_none_or(|(least, _)| after.accuracy() < *least) {
            worst = Some((after.accuracy(), text));
        }
    }
    Rule {
        name: "no class has collapsed".into(),
        passed: failed.is_empty(),
        figure: match (failed.is_empty(), worst) {
            (false, _) => failed.join(", "),
            (true, Some((_, text))) => format!("the weakest: {text}"),
            (true, None) => "no class was measured".into(),
        },
        setting: format!("gate.class_drop = {}, gate.class_floor = {}", rules.class_drop, rules.class_floor),
    }
}

fn checked(candidate: &Subject) -> Rule {
    let failed: Vec<&str> = candidate.checks.iter().filter(|c| !c.passed).map(|c| c.name.as_str()).collect();
    let all = candidate.checks.len();
    Rule {
        name: "every sanity check passed".into(),
        passed: failed.is_empty(),
        figure: match failed.is_empty() {
            true => format!("{all} of {all}"),
            false => format!("{} of {all}; failed: {}", all - failed.len(), failed.join(", ")),
        },
        setting: "gate.checks = true".into(),
    }
}

/// "Better" is only said where McNemar's test bears it out.
fn claim(compared: bool, figures: [Option<&Comparison>; 2], alpha: f64) -> Claim {
    if !compared {
        return Claim::First;
    }
    let significant = |c: &&Comparison| c.p_value.is_some_and(|p| p < alpha);
    let differing: Vec<&Comparison> = figures.into_iter().flatten().filter(significant).collect();
    match (differing.iter().any(|c| c.gained > c.lost), differing.iter().any(|c| c.lost > c.gained)) {
        (_, true) => Claim::Worse,
        (true, false) => Claim::Better,
        (false, false) => Claim::NoDifference,
    }
}
