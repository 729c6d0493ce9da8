//! The figure of each check: from the counts of every condition, and from what was tried besides.

use super::super::{Audit, BlackBox, CLEAN, HALF};
use super::{Found, Origin, Subject};
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

pub(super) fn inside(audit: &Audit, _: &Subject) -> Option<Found> {
    let figure = format!("largest excess {:.1e} over {} images", audit.excess, audit.attacked);
    Some((figure, audit.excess <= ROUNDING))
}

pub(super) fn valid(audit: &Audit, _: &Subject) -> Option<Found> {
    let figure = format!("{} of {} outside [0, 1] or not a number", audit.invalid, audit.attacked);
    Some((figure, audit.invalid == 0))
}

pub(super) fn sloped(audit: &Audit, _: &Subject) -> Option<Found> {
    let figure = format!("{} of {} images have none", audit.flat, audit.gradients);
    (audit.gradients > 0).then_some((figure, audit.flat * 100 <= audit.gradients))
}

pub(super) fn steady(audit: &Audit, _: &Subject) -> Option<Found> {
    let figure = format!("{} of {} images differ", audit.unsteady, audit.gradients);
    (audit.gradients > 0).then_some((figure, audit.unsteady == 0))
}

pub(super) fn untouched(audit: &Audit, _: &Subject) -> Option<Found> {
    let figure = format!("{} of {} images tried are changed", audit.changed_by_nothing, audit.tried);
    (audit.tried > 0).then_some((figure, audit.changed_by_nothing == 0))
}

/// Those tried were right clean, and stand for as many of all images as were.
pub(super) fn half(audit: &Audit, subject: &Subject) -> Option<Found> {
    let (clean, chance) = (subject.outcomes.count(0).accuracy(), chance_of(subject.classes));
    let (attack, epsilon) = HALF;
    let figure = format!("{attack} at {epsilon:.2} leaves {} of {} images tried", audit.stood_half, audit.tried);
    (audit.tried > 0).then(|| (figure, !evidence(audit.stood_half, audit.tried, clean, chance)))
}

pub(super) fn noise(audit: &Audit, subject: &Subject) -> Option<Found> {
    probed(audit, subject, audit.fell_to_noise, STRENGTH_SLACK)
}

pub(super) fn steps(audit: &Audit, subject: &Subject) -> Option<Found> {
    probed(audit, subject, audit.fell_to_steps, DOUBLING_SLACK)
}

pub(super) fn queries(audit: &Audit, subject: &Subject) -> Option<Found> {
    probed(audit, subject, audit.fell_to_queries, STRENGTH_SLACK)
}

/// What became of images that had stood every attack.
fn probed(audit: &Audit, subject: &Subject, fell: u64, slack: f64) -> Option<Found> {
    let figure = format!("{fell} of {} images that stood every attack fell", audit.probed);
    let share = audit.stood as f64 / all(subject);
    (audit.probed > 0).then(|| (figure, !evidence(fell, audit.probed, share, slack)))
}

/// What became of images that had stood every attack that follows the gradient.
pub(super) fn black_box(audit: &Audit, subject: &Subject) -> Option<Found> {
    let worst = audit.black_box.iter().max_by_key(|found| found.fell)?;
    let BlackBox { epsilon, stood, fell } = worst;
    let figure =
        format!("{fell} of {stood} images that stood the gradient at {epsilon} fell to the attacks without it");
    Some((figure, !evidence(*fell, *stood, *stood as f64 / all(subject), STRENGTH_SLACK)))
}

fn all(subject: &Subject) -> f64 {
    subject.outcomes.images.len().max(1) as f64
}

/// Whether `fell` of `tried` images, which stand for a share of all, are more than `slack` of all. They are few, so that
/// only what they show with confidence counts: the lower end of the interval, and never a single image.
fn evidence(fell: u64, tried: u64, share: f64, slack: f64) -> bool {
    fell > 1 && Count { correct: fell, n: tried }.wilson().0 * share > slack
}

/// Every condition under an attack: its name, its budget, its count.
fn attacked(outcomes: &Outcomes) -> impl Iterator<Item = (&str, f64, Count)> {
    let conditions = outcomes.conditions.iter().enumerate().filter(|(_, c)| c.attack != CLEAN);
    conditions.map(|(i, c)| (c.attack.as_str(), c.epsilon.value(), outcomes.count(i)))
}

fn walks(name: &str) -> bool {
    name.parse().is_ok_and(|attack: Attack| attack.walks())
}

/// PGD, or what walks like it, and FGSM at the same budget: the name of the former, the budget, the counts of both.
fn pairs(outcomes: &Outcomes) -> Vec<(&str, f64, Count, Count)> {
    let fgsm = |at: f64| attacked(outcomes).find(|(name, epsilon, _)| *name == "fgsm" && *epsilon == at);
    attacked(outcomes)
        .filter(|(name, ..)| walks(name))
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

pub(super) fn zero(outcomes: &Outcomes) -> Option<Found> {
    let clean = outcomes.count(0);
    let without_budget = attacked(outcomes).filter(|(_, epsilon, _)| *epsilon == 0.0);
    let (name, _, count) = without_budget.max_by_key(|(.., count)| count.correct.abs_diff(clean.correct))?;
    Some((format!("clean {} of {}, {name} {}", clean.correct, clean.n, count.correct), count == clean))
}

pub(super) fn falls(outcomes: &Outcomes) -> Option<Found> {
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

pub(super) fn chance(outcomes: &Outcomes, classes: usize) -> Option<Found> {
    let best = |a: &(&str, f64, Count), b: &(&str, f64, Count)| a.2.correct.cmp(&b.2.correct);
    let (name, epsilon, count) =
        attacked(outcomes).filter(|(name, epsilon, _)| walks(name) && *epsilon >= HALF.1).max_by(best)?;
    let chance = chance_of(classes);
    Some((
        format!("{name} at {epsilon:.2} leaves {}, chance is {}", percent(count.accuracy()), percent(chance)),
        count.accuracy() <= chance + standard_error(count),
    ))
}

fn chance_of(classes: usize) -> f64 {
    1.0 / classes.max(1) as f64
}

pub(super) fn strength(outcomes: &Outcomes) -> Option<Found> {
    let excess = |pgd: Count, fgsm: Count| pgd.accuracy() - fgsm.accuracy();
    let (name, epsilon, pgd, fgsm) =
        pairs(outcomes).into_iter().max_by(|a, b| excess(a.2, a.3).total_cmp(&excess(b.2, b.3)))?;
    Some((
        format!("at {epsilon:.4} {name} leaves {}, fgsm {} of {}", pgd.correct, fgsm.correct, pgd.n),
        // One image is no evidence, however few there are.
        pgd.correct <= fgsm.correct + 1 || excess(pgd, fgsm) <= STRENGTH_SLACK,
    ))
}

pub(super) fn transfer(subject: &Subject) -> Option<Found> {
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

/// Up to the budget that was trained against: beyond it nothing is promised, and single steps overshoot.
pub(super) fn gap(outcomes: &Outcomes, trained: f64) -> Option<Found> {
    let gap = |pgd: Count, fgsm: Count| fgsm.accuracy() - pgd.accuracy();
    let within = pairs(outcomes).into_iter().filter(|(_, epsilon, ..)| *epsilon <= trained + 1e-9);
    let (name, epsilon, pgd, fgsm) = within.max_by(|a, b| gap(a.2, a.3).total_cmp(&gap(b.2, b.3)))?;
    Some((
        format!("at {epsilon:.4} fgsm leaves {}, {name} {}", percent(fgsm.accuracy()), percent(pgd.accuracy())),
        gap(pgd, fgsm) <= GAP,
    ))
}

pub(super) fn beyond(outcomes: &Outcomes, origin: Origin) -> Option<Found> {
    let mut names: Vec<&str> = attacked(outcomes).map(|(name, ..)| name).collect();
    names.dedup();
    let single = |name: &&str| name.parse().is_ok_and(|attack: Attack| attack.is_weak());
    let many = !names.iter().all(single);
    let (against, other) = match origin {
        Origin::Undefended => return None,
        Origin::Unknown if names.is_empty() => return None,
        // Whatever it was, a single step proves little.
        Origin::Unknown => ("something unknown".to_string(), many),
        Origin::Defended(Adversary::Pgd, _) => {
            ("pgd".to_string(), names.len() > 1 || !names.iter().all(|name| name.starts_with("pgd")))
        }
        Origin::Defended(adversary, _) => (adversary.to_string(), many),
    };
    Some((format!("trained against {against}, measured with {}", names.join(", ")), other))
}

pub(super) fn falls_undefended(outcomes: &Outcomes) -> Option<Found> {
    let strong = attacked(outcomes).filter(|(name, epsilon, _)| walks(name) && *epsilon >= 8.0 / 255.0 - 1e-9);
    let (name, epsilon, count) = strong.min_by(|a, b| a.2.correct.cmp(&b.2.correct))?;
    // Of few images a handful stands by luck.
    Some((format!("{name} at {epsilon:.4} leaves {}", percent(count.accuracy())), count.wilson().0 <= UNDEFENDED))
}
