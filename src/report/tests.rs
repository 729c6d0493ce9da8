//! Headline and page of runs with several sets of attacks.

use super::*;
use crate::config::{Epsilon, Layers};
use crate::evaluate;
use crate::outcome::{ImageOutcome, Outcomes};

const LEVELS: [f64; 5] = [1.0, 2.0, 2.55, 4.0, 8.0];

/// Two models that are right about 20 images of two classes. `broken` says of an attack, its levels of 255 and an image
/// whether the image falls; all but six of the undefended model's fall to anything.
fn record(attacks: &[&str], levels: &[f64], broken: fn(&str, f64, usize) -> bool) -> RunRecord {
    let mut settings = Layers::new().unwrap().resolve().unwrap().settings;
    settings.evaluate.attacks = attacks.iter().map(ToString::to_string).collect();
    settings.evaluate.epsilons = levels.iter().map(|level| Epsilon::new(level / 255.0).unwrap()).collect();
    let conditions = evaluate::conditions(&settings.evaluate).unwrap();
    let outcomes = |fragile: bool| {
        let seen = |image: usize| {
            let falls = |c: &crate::task::Condition| {
                let levels = (c.epsilon.value() * 2550.0).round() / 10.0;
                levels > 0.0 && (broken(&c.attack, levels, image) || (fragile && image > 5))
            };
            let label = image % 2;
            let predicted = conditions.iter().map(|c| if falls(c) { 1 - label } else { label }).collect();
            ImageOutcome { key: image.to_string(), label, predicted }
        };
        Outcomes { conditions: conditions.clone(), images: (0..20).map(seen).collect() }
    };
    let model = |name: &str| (name.to_string(), outcomes(name == BASELINE));
    let crossed = |a: &str, b: &str| (a.to_string(), b.to_string(), outcomes(false));
    RunRecord {
        outcomes: vec![model(BASELINE), model(TRAINED)],
        transferred: vec![crossed(BASELINE, TRAINED), crossed(TRAINED, BASELINE)],
        ..RunRecord::for_tests(settings)
    }
}

/// Square breaks an image that no other attack does.
fn nightly() -> RunRecord {
    record(&["nightly"], &LEVELS, |attack, levels, image| match attack {
        "square500" => (levels >= 4.0 && image == 19) || (image as f64) < levels,
        _ => (image as f64) < 2.0 * levels,
    })
}

fn quick_and_auto_attack() -> RunRecord {
    record(&["quick", "autoattack"], &LEVELS, |attack, levels, image| match attack {
        "autoattack" => (image as f64) < 2.0 * levels + 1.0,
        "pgd20" => (image as f64) < 2.0 * levels,
        _ => (image as f64) < levels,
    })
}

fn plain(text: &str) -> String {
    text.replace('\u{a0}', " ").replace("&#x2f;", "/")
}

fn html(record: &RunRecord) -> String {
    plain(&page(&Report::new(record).unwrap(), &[]).unwrap())
}

#[test]
fn the_headline_is_the_worst_case_at_the_budgets_that_readers_care_for() {
    for (record, attacks) in
        [(nightly(), "APGD-CE-50, APGD-T-50, Square-500"), (quick_and_auto_attack(), "FGSM, PGD-20, AutoAttack")]
    {
        let report = Report::new(&record).unwrap();
        let Headline { sentence, epsilon, figures, .. } = &report.headline;
        let expected =
            format!("The trained model classifies 55.0 % correctly under all attacks up to 4/255 ({attacks}), the");
        assert!(plain(sentence).starts_with(&expected), "{sentence}");
        assert_eq!(*epsilon, 4.0 / 255.0);
        let conditions: Vec<_> = figures.iter().map(|f| (&f.attack[..], (f.epsilon * 255.0).round())).collect();
        assert_eq!(conditions, [("clean", 0.0), ("all", 2.0), ("all", 4.0), ("all", 8.0)]);
        let correct: Vec<_> = figures.iter().map(|f| f.trained.unwrap().correct).collect();
        assert_eq!((correct[0], correct[2], correct[3]), (20, 11, 3));
        for figure in &figures[1..] {
            let case = |w: &&WorstCase| w.model == TRAINED && w.epsilon == figure.epsilon;
            assert_eq!(figure.trained, report.worst_case.iter().find(case).map(|w| w.figure));
        }
        assert!(headline(&report).contains("all attacks up to 8/255"), "{}", headline(&report));
    }
}

#[test]
fn half_the_range_is_a_budget_in_l2_and_none_in_linf() {
    let headline = |attacks: &[&str]| {
        let record = record(attacks, &[127.5, 153.0], |_, levels, image| (image as f64) < levels / 15.3);
        Report::new(&record).unwrap().headline
    };
    let (far, flat, both) = (headline(&["cw"]), headline(&["pgd20"]), headline(&["pgd20", "cw"]));
    assert_eq!((far.epsilon, far.main().unwrap().trained.unwrap().correct), (0.6, 10));
    assert!(far.sentence.starts_with("The trained model classifies 50.0"), "{}", far.sentence);
    for drowned in [flat, both] {
        assert_eq!((drowned.epsilon, drowned.main().unwrap().trained.unwrap().correct), (0.0, 20));
    }
}

#[test]
fn the_page_follows_the_headline() {
    for record in [nightly(), quick_and_auto_attack()] {
        let report = Report::new(&record).unwrap();
        let attacked = report.confusion.iter().find(|c| c.model == TRAINED && c.epsilon > 0.0).unwrap();
        assert_eq!((&attacked.attack[..], attacked.epsilon), ("all", 4.0 / 255.0));
        assert_eq!((0..2).map(|class| attacked.matrix[class][class]).sum::<u64>(), 11);
        let page = html(&record);
        for text in [
            "<h3>All attacks up to 4/255</h3>",
            "<h3>All attacks up to 8/255</h3>",
            "Accuracy per class, clean and under all attacks up to 4/255.",
            "Trained, all attacks up to 4/255",
        ] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("<h3>All attacks up to 1/255</h3>"));
    }
    // The transfer matrix shows single images, so one attack: the one that leaves least.
    assert!(html(&nightly()).contains("was attacked with: APGD-T-50 at 4/255."));
    assert!(html(&quick_and_auto_attack()).contains("was attacked with: AutoAttack at 4/255."));
}

#[test]
fn a_single_attack_is_called_by_its_name() {
    let single = || record(&["pgd20"], &LEVELS, |_, levels, image| (image as f64) < levels);
    let report = Report::new(&single()).unwrap();
    let said = plain(&report.headline.sentence);
    assert!(said.starts_with("The trained model classifies 80.0 % correctly under PGD-20 at 4/255, the"), "{said}");
    assert_eq!(report.headline.figures[3].attack, "pgd20");
    assert!(html(&single()).contains("Trained, PGD-20 at 4/255"));
}

#[test]
fn what_was_trained_against_comes_first_and_the_largest_before_the_smallest() {
    let budgets = |levels: &[f64], against: f64| {
        let mut record = record(&["quick"], levels, |_, levels, image| (image as f64) < levels);
        record.settings.adversary.epsilon = Epsilon::new(against / 255.0).unwrap();
        let headline = Report::new(&record).unwrap().headline;
        let shown: Vec<f64> = headline.figures[1..].iter().map(|f| (f.epsilon * 255.0).round()).collect();
        ((headline.epsilon * 255.0).round(), shown)
    };
    assert_eq!(budgets(&[1.0, 2.0, 4.0, 8.0, 16.0], 16.0), (16.0, vec![4.0, 8.0, 16.0]));
    assert_eq!(budgets(&[1.0, 3.0, 6.0, 12.0], 4.0), (12.0, vec![3.0, 6.0, 12.0]));
    assert_eq!(budgets(&[], 4.0), (0.0, vec![]));
}

#[test]
fn every_model_that_was_compared_is_in_the_sentence() {
    let mut record = quick_and_auto_attack();
    record.outcomes[1].0 = "student".into();
    let sentence = Report::new(&record).unwrap().headline.sentence;
    assert!(plain(&sentence).contains("undefended 0.0 %, student 55.0 % (val, n = 20)."), "{sentence}");
}

#[test]
fn a_program_is_told_results_checks_and_whether_they_hold() {
    let mut record = nightly();
    record.checks = vec![Check { name: "x".into(), passed: false, figure: "1 of 2".into(), explanation: "so".into() }];
    let report = Report::new(&record).unwrap();
    let (brief, whole) = (report.brief(), serde_json::to_value(&report).unwrap());
    assert_eq!(brief["headline"]["trusted"], false);
    assert_eq!(brief["checks"][0]["figure"], "1 of 2");
    for key in ["headline", "results", "worst_case", "checks"] {
        assert_eq!(brief[key], whole[key]);
    }
}
