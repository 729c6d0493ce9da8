//! Figures that are sound, and figures with one flaw each.

use super::super::BlackBox;
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
    assert_eq!(failed(&sound, Some(&audit), Origin::Defended(Adversary::NFgsm, E8)), Vec::<String>::new());
    let undefended = outcomes(&[("clean", 0.0, 95), ("fgsm", E8, 50), ("pgd20", E8, 1)]);
    assert_eq!(failed(&undefended, None, Origin::Undefended), Vec::<String>::new());
}

#[test]
fn a_model_from_elsewhere_is_not_asked_how_it_was_trained() {
    let fragile = outcomes(&[("clean", 0.0, 90), ("fgsm", E8, 60), ("pgd20", E8, 10)]);
    assert_eq!(failed(&fragile, None, Origin::Unknown), Vec::<String>::new());
    assert_eq!(failed(&fragile, None, Origin::Defended(Adversary::NFgsm, E8)).len(), 1);
    assert_eq!(failed(&fragile, None, Origin::Undefended).len(), 1);
    let single = outcomes(&[("clean", 0.0, 90), ("fgsm", E8, 60)]);
    assert_eq!(failed(&single, None, Origin::Unknown), ["measured with more than the training attack"]);
}

#[test]
fn an_ensemble_is_more_than_the_attack_that_was_trained_against() {
    let under = |attack| outcomes(&[("clean", 0.0, 90), (attack, E4, 60)]);
    let against = Origin::Defended(Adversary::Pgd, E8);
    assert_eq!(failed(&under("autoattack"), None, against), Vec::<String>::new());
    assert_eq!(failed(&under("pgd20"), None, against), ["measured with more than the training attack"]);
}

#[test]
fn beyond_its_budget_and_by_a_handful_of_images_nothing_is_shown() {
    let steep =
        outcomes(&[("clean", 0.0, 90), ("fgsm", E4, 70), ("fgsm", E8, 68), ("pgd20", E4, 60), ("pgd20", E8, 20)]);
    let trained_at = |epsilon| failed(&steep, None, Origin::Defended(Adversary::NFgsm, epsilon));
    assert_eq!(trained_at(E4), Vec::<String>::new());
    assert_eq!(trained_at(E8), ["fgsm and pgd tell the same story"]);
    let few = outcomes(&[("clean", 0.0, 90), ("pgd20", E8, 6)]);
    assert_eq!(failed(&few, None, Origin::Undefended), Vec::<String>::new());
}

#[test]
fn each_flaw_is_named() {
    let against = Origin::Defended(Adversary::NFgsm, E8);
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
        // What walks like PGD is held to the same.
        (
            "pgd is at least as strong as fgsm",
            failed(&outcomes(&[("clean", 0.0, 90), ("fgsm", E4, 50), ("apgd-ce50", E4, 52)]), None, against),
        ),
        (
            "the undefended model falls",
            failed(&outcomes(&[("clean", 0.0, 90), ("autoattack", E8, 20)]), None, Origin::Undefended),
        ),
    ] {
        assert_eq!(found, [flaw]);
    }
}

#[test]
fn an_audit_that_found_something_fails() {
    let plain = outcomes(&[("clean", 0.0, 90)]);
    let audit = Audit { attacked: 9, invalid: 1, excess: 0.01, gradients: 9, flat: 1, unsteady: 1, ..Audit::default() };
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
fn what_attacks_find_that_only_ask_for_scores_counts_against_the_gradient() {
    let nightly = outcomes(&[("clean", 0.0, 90), ("apgd-ce50", E4, 60), ("square500", E4, 55)]);
    let shard = |fell| {
        let at = |epsilon, fell| BlackBox { epsilon: Epsilon::new(epsilon).unwrap(), stood: 30, fell };
        Audit { black_box: vec![at(E4, fell), at(E8, 0)], ..Audit::default() }
    };
    let found = |first, second| {
        let mut audit = shard(first);
        audit.add(&shard(second));
        let checks = check(&Subject {
            model: "trained",
            outcomes: &nightly,
            audit: Some(&audit),
            classes: 5,
            origin: Origin::Unknown,
            shown: &[],
        });
        checks.into_iter().find(|check| check.name == "a black-box attack breaks no more").unwrap()
    };
    let (one, several) = (found(0, 1), found(4, 3));
    assert!(one.passed && !several.passed, "{one:?} {several:?}");
    assert!(several.figure.starts_with("7 of 60 images that stood the gradient at 4/255"), "{several:?}");
}

#[test]
fn both_ends_of_the_scale_are_tried() {
    let plain = outcomes(&[("clean", 0.0, 90), ("pgd20", E4, 60)]);
    let ends = |changed, stood| Audit { tried: 48, changed_by_nothing: changed, stood_half: stood, ..Audit::default() };
    let found = |audit: Audit| failed(&plain, Some(&audit), Origin::Unknown);
    assert_eq!(found(ends(0, 9)), Vec::<String>::new(), "a fifth is chance");
    assert_eq!(found(ends(1, 0)), ["epsilon 0 equals clean"]);
    assert_eq!(found(ends(0, 40)), ["epsilon 0.5 leaves chance at most"]);
    // What was measured of all images and what was tried of a few must both be as they must.
    let measured = outcomes(&[("clean", 0.0, 90), ("pgd20", 0.0, 90), ("pgd20", 0.5, 0)]);
    let audit = ends(2, 48);
    assert_eq!(failed(&measured, Some(&audit), Origin::Unknown).len(), 2);
}

#[test]
fn a_model_that_falls_to_images_made_against_another_hides_its_gradient() {
    let own = outcomes(&[("clean", 0.0, 90), ("fgsm", E4, 40), ("pgd20", E4, 70)]);
    let made = |pgd| outcomes(&[("clean", 0.0, 90), ("fgsm", E4, 30), ("pgd20", E4, pgd)]);
    let found = |made: &Outcomes| {
        let shown = [("baseline", made)];
        let (model, classes, origin) = ("trained", 5, Origin::Defended(Adversary::NFgsm, E8));
        let checks = check(&Subject { model, outcomes: &own, audit: None, classes, origin, shown: &shown });
        checks.into_iter().find(|c| c.name.starts_with("images made against")).unwrap().passed
    };
    assert!(found(&made(85)) && found(&made(69)), "one step proves nothing, and one image is no evidence");
    assert!(!found(&made(50)));
}
