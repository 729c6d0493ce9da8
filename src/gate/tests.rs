//! The gate on made-up outcomes.

use proptest::prelude::*;

use super::*;
use crate::config::{Epsilon, GateSettings, Layers};
use crate::outcome::ImageOutcome;
use crate::task::Condition;

const EPSILON: f64 = 4.0 / 255.0;

fn rules() -> GateSettings {
    Layers::new().unwrap().resolve().unwrap().settings.gate
}

/// Images of two classes in turn; for each whether it is right clean and under attack.
fn outcomes(images: &[(bool, bool)]) -> Outcomes {
    let condition =
        |attack: &str, epsilon| Condition { attack: attack.into(), epsilon: Epsilon::new(epsilon).unwrap() };
    let image = |(i, &(clean, attacked)): (usize, &(bool, bool))| {
        let label = i % 2;
        let says = |right: bool| if right { label } else { 1 - label };
        ImageOutcome { key: format!("k{i}"), label, predicted: vec![says(clean), says(clean && attacked)] }
    };
    Outcomes {
        conditions: vec![condition("clean", 0.0), condition("pgd20", EPSILON)],
        images: images.iter().enumerate().map(image).collect(),
    }
}

/// So many of 200 images right clean and of these so many robust, spread evenly over both classes.
fn of_200(clean: usize, robust: usize) -> Outcomes {
    outcomes(&(0..200).map(|i| (i < clean, i < robust)).collect::<Vec<_>>())
}

fn classes() -> Vec<String> {
    ["daisy".to_string(), "rose".to_string()].into()
}

fn judged(before: Option<&Outcomes>, after: &Outcomes, rules: &GateSettings) -> Decision {
    let names = classes();
    let subject = |version, outcomes| Subject { version, classes: &names, test_sha256: "t", outcomes, checks: &[] };
    let current = before.map(|o| subject("old", o));
    judge(&subject("new", after), current.as_ref(), None, rules)
}

fn failed(decision: &Decision) -> Vec<&str> {
    assert_eq!(decision.passed, decision.rules.iter().all(|r| r.passed));
    decision.rules.iter().filter(|r| !r.passed).map(|r| r.name.as_str()).collect()
}

#[test]
fn the_first_model_needs_only_sound_figures_and_living_classes() {
    let decision = judged(None, &of_200(150, 60), &rules());
    assert!(decision.passed && decision.claim == Claim::First && decision.against.is_none(), "{decision:?}");
    let one_sided: Vec<_> = (0..200).map(|i| (i % 2 == 0, false)).collect();
    assert_eq!(failed(&judged(None, &outcomes(&one_sided), &rules())), ["no class has collapsed"]);
}

#[test]
fn each_fall_is_refused_beyond_its_own_limit_only() {
    let before = of_200(160, 100);
    for (clean, robust, expected) in [
        (160, 100, &[][..]),
        (158, 100, &[]),
        (157, 100, &["clean accuracy has not fallen"]),
        (160, 96, &[]),
        (160, 95, &["robust accuracy has not fallen"]),
        (120, 40, &["clean accuracy has not fallen", "robust accuracy has not fallen"]),
    ] {
        let decision = judged(Some(&before), &of_200(clean, robust), &rules());
        assert_eq!(failed(&decision), expected, "{clean} {robust}: {}", decision.reason);
    }
}

#[test]
fn many_small_falls_do_not_add_up() {
    let (before, after) = (of_200(158, 98), of_200(157, 97));
    let names = classes();
    let subject = |version, outcomes| Subject { version, classes: &names, test_sha256: "t", outcomes, checks: &[] };
    let best = Best { clean: (0.80, "first".into()), robust: Some((0.49, "second".into())) };
    let decision = judge(&subject("new", &after), Some(&subject("old", &before)), Some(&best), &rules());
    assert_eq!(failed(&decision), ["clean accuracy keeps up with the best promoted"]);
    assert!(decision.reason.contains("80.0 % of first"), "{}", decision.reason);
}

#[test]
fn a_class_that_others_pay_for_is_seen() {
    let before = of_200(160, 0);
    // Nearly as many right as before, but one class lost 22 points and the other won 20.
    let after: Vec<_> = (0..200).map(|i| (if i % 2 == 0 { i < 116 } else { true }, false)).collect();
    let decision = judged(Some(&before), &outcomes(&after), &rules());
    assert_eq!(failed(&decision), ["no class has collapsed"]);
    assert!(decision.reason.contains("daisy 58 % after 80 %"), "{}", decision.reason);
}

#[test]
fn better_is_said_only_where_the_paired_test_bears_it_out() {
    let before = of_200(160, 100);
    assert_eq!(judged(Some(&before), &of_200(163, 103), &rules()).claim, Claim::NoDifference);
    let better = judged(Some(&before), &of_200(160, 112), &rules());
    assert_eq!((better.claim, better.robust.as_ref().unwrap().gained), (Claim::Better, 12));
    assert_eq!(judged(Some(&before), &of_200(190, 60), &rules()).claim, Claim::Worse);

    let loose = GateSettings { robust_drop: 100.0, ..rules() };
    let worse = judged(Some(&before), &of_200(190, 60), &loose);
    assert!(worse.passed && worse.claim == Claim::Worse, "{worse:?}");
    assert_eq!(worse.reason, "significantly worse than old, but within what the gate allows");

    let strict = GateSettings { better: true, ..rules() };
    assert_eq!(failed(&judged(Some(&before), &of_200(163, 103), &strict)), ["it is significantly better"]);
    assert!(judged(Some(&before), &of_200(160, 112), &strict).passed);
    assert!(judged(None, &of_200(160, 112), &strict).passed, "the first has none to be better than");
}

#[test]
fn what_was_not_measured_alike_is_refused() {
    let (before, after) = (of_200(160, 100), of_200(180, 120));
    let names = classes();
    let other = ["daisy".to_string(), "tulip".to_string()];
    let mut shuffled = after.clone();
    shuffled.images.reverse();
    let mut stronger = after.clone();
    stronger.conditions[1].attack = "apgd".into();
    let mut renamed = after.clone();
    renamed.images[7].key = "another".into();
    let base = Subject { version: "new", classes: &names, test_sha256: "t", outcomes: &after, checks: &[] };
    let current = Subject { version: "old", outcomes: &before, ..base };
    for (subject, expected) in [
        (Subject { classes: &other, ..base }, "the classes are the same"),
        (Subject { test_sha256: "changed", ..base }, "the frozen test set is the same"),
        (Subject { outcomes: &stronger, ..base }, "the attacks are the same"),
        (Subject { outcomes: &renamed, ..base }, "the measured images are the same"),
    ] {
        let decision = judge(&subject, Some(&current), None, &rules());
        assert_eq!(failed(&decision), [expected]);
        assert_eq!((decision.claim, decision.rules.len()), (Claim::NotComparable, 1), "nothing else is judged");
    }
    assert!(judge(&Subject { outcomes: &shuffled, ..base }, Some(&current), None, &rules()).passed);
    let elsewhere = GateSettings { epsilon: Epsilon::new(0.1).unwrap(), ..rules() };
    assert_eq!(failed(&judged(Some(&before), &after, &elsewhere)), ["robust accuracy was measured"]);
}

#[test]
fn a_failed_check_fails_the_gate_unless_it_is_told_not_to_look() {
    let after = of_200(160, 100);
    let names = classes();
    let check = Check { name: "trained: gradients".into(), passed: false, figure: "".into(), explanation: "".into() };
    let checks = [check];
    let subject = Subject { version: "new", classes: &names, test_sha256: "t", outcomes: &after, checks: &checks };
    let decision = judge(&subject, None, None, &rules());
    assert!(failed(&decision) == ["every sanity check passed"] && decision.reason.contains("trained: gradients"));
    assert!(judge(&subject, None, None, &GateSettings { checks: false, ..rules() }).passed);
}

proptest! {
    #[test]
    fn whatever_passes_is_within_the_limits(
        before in prop::collection::vec((any::<bool>(), any::<bool>()), 20..60),
        flips in prop::collection::vec((any::<bool>(), any::<bool>()), 60),
        allowed in 0.0f64..30.0)
    {
        let after: Vec<_> = before.iter().zip(&flips).map(|(b, f)| (b.0 ^ (f.0 && f.1), b.1 ^ f.1)).collect();
        let rules = GateSettings { clean_drop: allowed, robust_drop: allowed, ..rules() };
        let (before, after) = (outcomes(&before), outcomes(&after));
        let decision = judged(Some(&before), &after, &rules);
        let share = |o: &Outcomes, i: usize| o.count(i).accuracy();
        if decision.passed {
            prop_assert!(share(&after, 0) >= share(&before, 0) - allowed / 100.0 - 1e-9);
            prop_assert!(share(&after, 1) >= share(&before, 1) - allowed / 100.0 - 1e-9);
        }
        let robust = decision.robust.unwrap();
        prop_assert_eq!(robust.after.correct + robust.lost, robust.before.unwrap().correct + robust.gained);
    }
}
