//! The checks that a report makes of its own figures, from counts alone: no libtorch here.
//!
//! A check that fails marks the figures as not to be trusted; one that cannot be made, since what it
//! needs was not measured, is left out.

use serde::{Deserialize, Serialize};

use super::{Audit, CLEAN};
use crate::attack::Attack;
use crate::config::Adversary;
use crate::outcome::{Count, Outcomes};

/// Points by which PGD may leave more images than FGSM does: the same share that a black-box attack
/// may break of a white-box attack's survivors.
const STRENGTH_SLACK: f64 = 0.002;
/// Points that twice the steps may take.
const DOUBLING_SLACK: f64 = 0.005;
/// Accuracy that PGD may leave of an undefended model at 8/255 or more.
const UNDEFENDED: f64 = 0.05;
/// How far FGSM accuracy of a defended model may exceed PGD accuracy.
const GAP: f64 = 0.40;
/// A perturbation may exceed its budget by the rounding of f32.
const ROUNDING: f64 = 1e-6;

/// A check with its figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The model checked, `baseline` or `trained`.
    pub model: String,
    /// What must hold, `accuracy falls as epsilon grows`.
    pub name: String,
    /// What was found, for a person: `pgd20: 54.4 % at 4/255, 30.4 % at 8/255`.
    pub figure: String,
    /// Whether it holds.
    pub passed: bool,
    /// What it means when it does not.
    pub explanation: String,
}

/// How a model was trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// On clean images.
    Undefended,
    /// Against this adversary.
    Defended(Adversary),
    /// Somewhere else.
    Unknown,
}

/// A model's figures, as the checks need them.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// `baseline` or `trained`.
    pub model: &'a str,
    /// All of its shards, merged.
    pub outcomes: &'a Outcomes,
    /// The audits of its shards, added up.
    pub audit: Option<&'a Audit>,
    /// Number of classes.
    pub classes: usize,
    /// What it was trained against.
    pub origin: Origin,
    /// What it predicts for images that were made against other models, by their names.
    pub shown: &'a [(&'a str, &'a Outcomes)],
}

/// All checks that can be made of a model.
pub fn check(subject: &Subject) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |name: &str, found: Option<(String, bool)>, explanation: &str| {
        if let Some((figure, passed)) = found {
            let (model, name) = (subject.model.to_string(), name.to_string());
            checks.push(Check { model, name, figure, passed, explanation: explanation.to_string() });
        }
    };
    let audit = subject.audit;
    add(
        "perturbations stay within epsilon",
        audit.map(|a| (format!("largest excess {:.1e} over {} images", a.excess, a.attacked), a.excess <= ROUNDING)),
        "an attack that takes more than its budget overstates how fragile the model is",
    );
    add(
        "adversarial images are images",
        audit.map(|a| (format!("{} of {} outside [0, 1] or not a number", a.invalid, a.attacked), a.invalid == 0)),
        "such images could not be saved or shown to a camera",
    );
    add(
        "gradients are not zero",
        audit
            .filter(|a| a.gradients > 0)
            .map(|a| (format!("{} of {} images have none", a.flat, a.gradients), a.flat * 100 <= a.gradients)),
        "an attack that follows gradients cannot break images without one: they seem robust and may not be",
    );
    add(
        "logits are deterministic",
        audit
            .filter(|a| a.gradients > 0)
            .map(|a| (format!("{} of {} images differ", a.unsteady, a.gradients), a.unsteady == 0)),
        "a network that answers otherwise each time hides its gradient",
    );
    add("epsilon 0 equals clean", zero(subject.outcomes), "an attack without a budget must change nothing");
    add(
        "accuracy falls as epsilon grows",
        falls(subject.outcomes),
        "a larger ball holds the smaller one; an attack that does worse in it overshoots, and its figure flatters",
    );
    add(
        "epsilon 0.5 leaves chance at most",
        chance(subject.outcomes, subject.classes),
        "with half the pixel range anything can be made grey; accuracy beyond chance means the attack fails",
    );
    add(
        "pgd is at least as strong as fgsm",
        strength(subject.outcomes),
        "many steps that do worse than one are the mark of a masked gradient",
    );
    add(
        "noise breaks nothing more",
        audit.and_then(|a| probed(a, subject, a.fell_to_noise, STRENGTH_SLACK)),
        "an attack that random noise of the same size outdoes has not looked",
    );
    add(
        "twice the steps break no more",
        audit.and_then(|a| probed(a, subject, a.fell_to_steps, DOUBLING_SLACK)),
        "an attack that was still getting better when it stopped overstates how robust the model is",
    );
    add(
        "a black-box attack breaks no more",
        audit.and_then(|a| probed(a, subject, a.fell_to_queries, STRENGTH_SLACK)),
        "an attack that cannot see the gradient and finds more is the mark of a masked one",
    );
    add(
        "images made against another model break no more",
        transfer(subject),
        "whoever knows the model does no worse than whoever does not; else its gradient misleads",
    );
    if let Origin::Defended(adversary) = subject.origin {
        add(
            "fgsm and pgd tell the same story",
            gap(subject.outcomes),
            "robust to one step and not to many: catastrophic overfitting",
        );
        add(
            "measured with more than the training attack",
            Some(beyond(subject.outcomes, adversary)),
            "a model may have learned its own attack and nothing else",
        );
    }
    if subject.origin == Origin::Undefended {
        add(
            "the undefended model falls",
            falls_undefended(subject.outcomes),
            "an attack that does not break an undefended model proves nothing about a defended one",
        );
    }
    checks
}

/// Every condition under an attack: its name, its budget, its count.
fn attacked(outcomes: &Outcomes) -> impl Iterator<Item = (&str, f64, Count)> {
    let conditions = outcomes.conditions.iter().enumerate().filter(|(_, c)| c.attack != CLEAN);
    conditions.map(|(i, c)| (c.attack.as_str(), c.epsilon.value(), outcomes.count(i)))
}

/// PGD and FGSM at the same budget: the name of the former, the budget, the counts of both.
fn pairs(outcomes: &Outcomes) -> Vec<(&str, f64, Count, Count)> {
    let fgsm = |at: f64| attacked(outcomes).find(|(name, epsilon, _)| *name == "fgsm" && *epsilon == at);
    attacked(outcomes)
        .filter(|(name, ..)| name.starts_with("pgd"))
        .filter_map(|(name, epsilon, pgd)| fgsm(epsilon).map(|(.., single)| (name, epsilon, pgd, single)))
        .collect()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn standard_error(count: Count) -> f64 {
    let p = count.accuracy();
    (p * (1.0 - p) / count.n.max(1) as f64).sqrt()
}

fn zero(outcomes: &Outcomes) -> Option<(String, bool)> {
    let clean = outcomes.count(0);
    let without_budget = attacked(outcomes).filter(|(_, epsilon, _)| *epsilon == 0.0);
    let (name, _, count) = without_budget.max_by_key(|(.., count)| count.correct.abs_diff(clean.correct))?;
    Some((format!("clean {} of {}, {name} {}", clean.correct, clean.n, count.correct), count == clean))
}

fn falls(outcomes: &Outcomes) -> Option<(String, bool)> {
    let mut worst: Option<(f64, String)> = None;
    for (name, small, count) in attacked(outcomes) {
        for (_, large, other) in attacked(outcomes).filter(|(n, e, _)| *n == name && *e > small) {
            let excess = other.accuracy() - count.accuracy() - standard_error(count);
            if worst.as_ref().is_none_or(|(most, _)| excess > *most) {
                let (before, after) = (percent(count.accuracy()), percent(other.accuracy()));
                worst = Some((excess, format!("{name}: {before} at {small:.4}, {after} at {large:.4}")));
            }
        }
    }
    worst.map(|(excess, figure)| (figure, excess <= 0.0))
}

fn chance(outcomes: &Outcomes, classes: usize) -> Option<(String, bool)> {
    let best = |a: &(&str, f64, Count), b: &(&str, f64, Count)| a.2.correct.cmp(&b.2.correct);
    let (name, epsilon, count) = attacked(outcomes).filter(|(_, epsilon, _)| *epsilon >= 0.5).max_by(best)?;
    let chance = 1.0 / classes.max(1) as f64;
    Some((
        format!("{name} at {epsilon:.2} leaves {}, chance is {}", percent(count.accuracy()), percent(chance)),
        count.accuracy() <= chance + standard_error(count),
    ))
}

fn strength(outcomes: &Outcomes) -> Option<(String, bool)> {
    let excess = |pgd: Count, fgsm: Count| pgd.accuracy() - fgsm.accuracy();
    let (name, epsilon, pgd, fgsm) =
        pairs(outcomes).into_iter().max_by(|a, b| excess(a.2, a.3).total_cmp(&excess(b.2, b.3)))?;
    Some((
        format!("at {epsilon:.4} {name} leaves {}, fgsm {} of {}", pgd.correct, fgsm.correct, pgd.n),
        // One image is no evidence, however few there are.
        pgd.correct <= fgsm.correct + 1 || excess(pgd, fgsm) <= STRENGTH_SLACK,
    ))
}

/// What became of images that had stood every attack, in points of all images. The sample is small, so that only what it
/// shows with confidence counts against the figures: the lower end of the interval, and never a single image.
fn probed(audit: &Audit, subject: &Subject, fell: u64, slack: f64) -> Option<(String, bool)> {
    let count = Count { correct: fell, n: audit.probed };
    let share = audit.stood as f64 / subject.outcomes.images.len().max(1) as f64;
    (audit.probed > 0).then(|| {
        let evidence = fell > 1 && count.wilson().0 * share > slack;
        (format!("{fell} of {} images that stood every attack fell", audit.probed), !evidence)
    })
}

fn transfer(subject: &Subject) -> Option<(String, bool)> {
    let strong = |name: &str| name.parse().is_ok_and(|attack: Attack| attack.follows_gradient() && !attack.is_weak());
    let mut worst: Option<(i64, String)> = None;
    for (other, shown) in subject.shown {
        for (i, condition) in shown.conditions.iter().enumerate().filter(|(_, c)| strong(&c.attack)) {
            let Some(own) = subject.outcomes.find(&condition.attack, condition.epsilon) else { continue };
            let (own, theirs) = (subject.outcomes.count(own).correct, shown.count(i).correct);
            let excess = own as i64 - theirs as i64;
            if worst.as_ref().is_none_or(|(most, _)| excess > *most) {
                let (name, epsilon) = (&condition.attack, condition.epsilon.value());
                let figure = format!("{name} at {epsilon:.4} leaves {own}, made against {other} it leaves {theirs}");
                worst = Some((excess, figure));
            }
        }
    }
    worst.map(|(excess, figure)| (figure, excess <= 1))
}

fn gap(outcomes: &Outcomes) -> Option<(String, bool)> {
    let gap = |pgd: Count, fgsm: Count| fgsm.accuracy() - pgd.accuracy();
    let (name, epsilon, pgd, fgsm) =
        pairs(outcomes).into_iter().max_by(|a, b| gap(a.2, a.3).total_cmp(&gap(b.2, b.3)))?;
    Some((
        format!("at {epsilon:.4} fgsm leaves {}, {name} {}", percent(fgsm.accuracy()), percent(pgd.accuracy())),
        gap(pgd, fgsm) <= GAP,
    ))
}

fn beyond(outcomes: &Outcomes, adversary: Adversary) -> (String, bool) {
    let mut names: Vec<&str> = attacked(outcomes).map(|(name, ..)| name).collect();
    names.dedup();
    let single = |name: &str| name.parse().is_ok_and(|attack: Attack| attack.is_weak());
    let other = match adversary {
        Adversary::Pgd => names.len() > 1,
        Adversary::Fgsm | Adversary::RsFgsm | Adversary::NFgsm => names.iter().any(|name| !single(name)),
    };
    (format!("trained against {adversary}, measured with {}", names.join(", ")), other)
}

fn falls_undefended(outcomes: &Outcomes) -> Option<(String, bool)> {
    let strong =
        attacked(outcomes).filter(|(name, epsilon, _)| name.starts_with("pgd") && *epsilon >= 8.0 / 255.0 - 1e-9);
    let (name, epsilon, count) = strong.min_by(|a, b| a.2.correct.cmp(&b.2.correct))?;
    Some((format!("{name} at {epsilon:.4} leaves {}", percent(count.accuracy())), count.accuracy() <= UNDEFENDED))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Epsilon;
    use crate::outcome::ImageOutcome;
    use crate::task::Condition;

    /// Outcomes of 100 images of class 0 with so many correct under each condition.
    fn outcomes(conditions: &[(&str, f64, usize)]) -> Outcomes {
        let condition = |&(attack, epsilon, _): &(&str, f64, usize)| Condition {
            attack: attack.into(),
            epsilon: Epsilon::new(epsilon).unwrap(),
        };
        let image = |i: usize| ImageOutcome {
            key: i.to_string(),
            label: 0,
            predicted: conditions.iter().map(|&(.., correct)| usize::from(i >= correct)).collect(),
        };
        Outcomes { conditions: conditions.iter().map(condition).collect(), images: (0..100).map(image).collect() }
    }

    fn failed(outcomes: &Outcomes, audit: Option<&Audit>, origin: Origin) -> Vec<String> {
        let checks = check(&Subject { model: "trained", outcomes, audit, classes: 5, origin, shown: &[] });
        checks.into_iter().filter(|check| !check.passed).map(|check| check.name).collect()
    }

    const E4: f64 = 4.0 / 255.0;
    const E8: f64 = 8.0 / 255.0;

    #[test]
    fn sound_figures_pass() {
        let sound = outcomes(&[
            ("clean", 0.0, 90),
            ("fgsm", 0.0, 90),
            ("fgsm", E4, 60),
            ("fgsm", E8, 40),
            ("fgsm", 0.5, 10),
            ("pgd20", E4, 55),
            ("pgd20", E8, 30),
        ]);
        let audit = Audit { attacked: 500, gradients: 90, excess: 3e-8, ..Audit::default() };
        assert_eq!(failed(&sound, Some(&audit), Origin::Defended(Adversary::NFgsm)), Vec::<String>::new());
        let undefended = outcomes(&[("clean", 0.0, 95), ("fgsm", E8, 50), ("pgd20", E8, 1)]);
        assert_eq!(failed(&undefended, None, Origin::Undefended), Vec::<String>::new());
    }

    #[test]
    fn a_model_from_elsewhere_is_not_asked_how_it_was_trained() {
        let fragile = outcomes(&[("clean", 0.0, 90), ("fgsm", E8, 60), ("pgd20", E8, 10)]);
        assert_eq!(failed(&fragile, None, Origin::Unknown), Vec::<String>::new());
        assert_eq!(failed(&fragile, None, Origin::Defended(Adversary::NFgsm)).len(), 1);
        assert_eq!(failed(&fragile, None, Origin::Undefended).len(), 1);
    }

    #[test]
    fn each_flaw_is_named() {
        let against = Origin::Defended(Adversary::NFgsm);
        for (flaw, found) in [
            ("epsilon 0 equals clean", failed(&outcomes(&[("clean", 0.0, 90), ("pgd20", 0.0, 89)]), None, against)),
            (
                "accuracy falls as epsilon grows",
                failed(&outcomes(&[("clean", 0.0, 90), ("pgd20", E4, 50), ("pgd20", E8, 60)]), None, against),
            ),
            (
                "epsilon 0.5 leaves chance at most",
                failed(&outcomes(&[("clean", 0.0, 90), ("pgd20", 0.5, 40)]), None, against),
            ),
            (
                "pgd is at least as strong as fgsm",
                failed(&outcomes(&[("clean", 0.0, 90), ("fgsm", E4, 50), ("pgd20", E4, 52)]), None, against),
            ),
            (
                "fgsm and pgd tell the same story",
                failed(&outcomes(&[("clean", 0.0, 90), ("fgsm", E4, 66), ("pgd20", E4, 15)]), None, against),
            ),
            (
                "measured with more than the training attack",
                failed(&outcomes(&[("clean", 0.0, 90), ("fgsm", E4, 66)]), None, against),
            ),
            (
                "the undefended model falls",
                failed(&outcomes(&[("clean", 0.0, 90), ("pgd20", E8, 20)]), None, Origin::Undefended),
            ),
        ] {
            assert_eq!(found, [flaw]);
        }
    }

    #[test]
    fn an_audit_that_found_something_fails() {
        let plain = outcomes(&[("clean", 0.0, 90)]);
        let audit =
            Audit { attacked: 9, invalid: 1, excess: 0.01, gradients: 9, flat: 1, unsteady: 1, ..Audit::default() };
        assert_eq!(failed(&plain, Some(&audit), Origin::Unknown).len(), 4);
        assert_eq!(failed(&plain, Some(&Audit::default()), Origin::Unknown).len(), 0);
    }

    #[test]
    fn images_that_fall_to_a_probe_count_once_they_are_evidence() {
        let plain = outcomes(&[("clean", 0.0, 90), ("pgd20", E4, 60)]);
        let probed = |noise, steps, queries| Audit {
            stood: 60,
            probed: 50,
            fell_to_noise: noise,
            fell_to_steps: steps,
            fell_to_queries: queries,
            ..Audit::default()
        };
        assert_eq!(failed(&plain, Some(&probed(0, 1, 0)), Origin::Unknown), Vec::<String>::new());
        for (audit, name) in [
            (probed(5, 0, 0), "noise breaks nothing more"),
            (probed(0, 5, 0), "twice the steps break no more"),
            (probed(0, 0, 5), "a black-box attack breaks no more"),
        ] {
            assert_eq!(failed(&plain, Some(&audit), Origin::Unknown), [name]);
        }
    }

    #[test]
    fn a_model_that_falls_to_images_made_against_another_hides_its_gradient() {
        let own = outcomes(&[("clean", 0.0, 90), ("fgsm", E4, 40), ("pgd20", E4, 70)]);
        let made = |pgd| outcomes(&[("clean", 0.0, 90), ("fgsm", E4, 30), ("pgd20", E4, pgd)]);
        let found = |made: &Outcomes| {
            let shown = [("baseline", made)];
            let (model, classes, origin) = ("trained", 5, Origin::Defended(Adversary::NFgsm));
            let checks = check(&Subject { model, outcomes: &own, audit: None, classes, origin, shown: &shown });
            checks.into_iter().find(|c| c.name.starts_with("images made against")).unwrap().passed
        };
        assert!(found(&made(85)) && found(&made(69)), "one step proves nothing, and one image is no evidence");
        assert!(!found(&made(50)));
    }
}
