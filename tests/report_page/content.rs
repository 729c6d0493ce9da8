//! What the page, the card and the terminal say.

use hardy::config::{Architecture, Resize};
use hardy::model::ModelSpec;
use hardy::report::{Report, RunRecord, headline, model_card, page};

use super::demo;

fn html(record: &RunRecord) -> String {
    page(&Report::new(record).unwrap(), &record.examples).unwrap().replace("&#x2f;", "/")
}

fn card(record: &RunRecord) -> String {
    let spec = ModelSpec {
        architecture: Architecture::TfEfficientnetLite0,
        classes: record.classes.clone(),
        input_size: 128,
        resize: Resize::Squash,
        mean: [0.498_039_22; 3],
        std: [0.501_960_8; 3],
    };
    model_card(&Report::new(record).unwrap(), &spec).unwrap()
}

/// Accuracy of `correct` of 550 and its interval, worked out apart from the program's formatting.
fn figures(record: &RunRecord, model: &str, attack: &str, epsilon: f64) -> (String, String) {
    let (_, outcomes) = record.outcomes.iter().find(|(m, _)| m == model).unwrap();
    let number = outcomes
        .conditions
        .iter()
        .position(|c| c.attack == attack && (c.epsilon.value() - epsilon).abs() < 1e-9)
        .unwrap();
    let correct = outcomes.images.iter().filter(|i| i.predicted[number] == i.label).count() as f64;
    let (n, z) = (550.0, 1.959_963_984_540_054f64);
    let centre = (correct + z * z / 2.0) / (n + z * z);
    let half = z / (n + z * z) * (correct * (n - correct) / n + z * z / 4.0).sqrt();
    (
        format!("{:.1}\u{a0}%", 100.0 * correct / n),
        format!("{:.1}–{:.1}\u{a0}%", 100.0 * (centre - half), 100.0 * (centre + half)),
    )
}

#[test]
fn every_headline_figure_is_on_the_page_in_the_card_and_on_the_terminal() {
    let record = demo::record();
    let (page, card) = (html(&record), card(&record));
    let terminal = headline(&Report::new(&record).unwrap());
    for model in ["baseline", "trained"] {
        // In this run FGSM breaks nothing that PGD leaves, so that these are the worst cases.
        for (attack, levels) in [("clean", 0.0), ("pgd20", 2.0), ("pgd20", 4.0), ("pgd20", 8.0)] {
            let epsilon = levels / 255.0;
            let (accuracy, interval) = figures(&record, model, attack, epsilon);
            assert!(page.contains(&format!("<strong>{accuracy}</strong>")), "{accuracy}");
            assert!(page.contains(&interval), "{interval}");
            assert!(card.contains(&format!("{accuracy} ({interval})")), "{accuracy} ({interval})");
            let plain = format!("{accuracy} ({interval})").replace('\u{a0}', " ");
            assert!(terminal.contains(&plain), "{plain}\n{terminal}");
        }
    }
}

#[test]
fn every_section_says_what_the_record_has() {
    let record = demo::record();
    let (page, report) = (html(&record), Report::new(&record).unwrap());
    let shows = |text: &str| assert!(page.contains(text), "{text}");
    shows(&report.verdict.sentence);
    for event in &record.events {
        shows(&format!("<strong>Round {}.</strong> {}", event.round + 1, event.what));
    }
    for photo in &record.quarantined {
        shows(&photo.path);
        shows(&photo.reason);
    }
    shows("3 photos could not be used");
    shows("9 photos were dropped");
    for copy in &record.duplicates {
        shows(&copy.path);
        shows(&copy.of);
    }
    let (smallest, largest) = (report.balance.smallest, report.balance.largest);
    shows(&format!("The smallest class has {smallest} photos, the largest {largest}; training drew"));
    let (_, clean) = &record.outcomes[1];
    let right = clean.images.iter().filter(|i| i.label == 0 && i.predicted[0] == 0).count();
    assert!(right > 0);
    shows(&format!(">{right}</td>"));
    shows("16.0\u{a0}%");
    let p = &record.provenance;
    let facts = [&p.hardy, &p.libtorch, &p.device, &p.started, &p.finished, &p.dataset_sha256, &p.weights_sha256];
    facts.into_iter().chain([&p.checkpoint_sha256, &p.seed.to_string()]).for_each(|fact| shows(fact));
}

#[test]
fn a_night_shows_the_gate_with_every_rule_and_the_photos_that_came() {
    let mut record = demo::record();
    assert!(!html(&record).contains("Rules of the gate"));
    record.night = Some(demo::night());
    let page = html(&record);
    let night = demo::night();
    for rule in &night.gate.rules {
        assert!(page.contains(&rule.name) && page.contains(&rule.figure.replace('\'', "&#x27;")), "{rule:?}");
    }
    assert!(page.contains("3390 were known, 52 came, 1 went, 1 changed; 2 of the frozen test set are gone"));
    assert!(page.contains("they lie 0.71 standard deviations away") && page.contains("(50 and 1024 looked at)"));
    assert!(page.contains("roses/12 &lt;b&gt;.jpg") && page.contains("tulips/3 &lt;i&gt;.jpg"));
    let robust = night.gate.robust.unwrap();
    assert!(page.contains(&format!(">{}<", robust.lost)), "{robust:?}");
}

#[test]
fn the_terminal_table_is_aligned() {
    let text = headline(&Report::new(&demo::record()).unwrap());
    let rows: Vec<&str> = text.lines().skip(2).take(5).collect();
    assert!(rows[0].ends_with("trained") && rows[4].starts_with("  all attacks up to 8/255"), "{text}");
    assert!(rows.iter().all(|r| r.chars().count() == rows[0].chars().count()), "{text}");
}

#[test]
fn names_are_text_and_never_markup() {
    let mut record = demo::record();
    let evil = "<script>alert(1)</script>\"'|`x`\n# h";
    record.job = evil.into();
    record.classes[2] = evil.into();
    record.quarantined[0].path = format!("{evil}/a.jpg");
    record.duplicates[0].of = evil.into();
    record.examples[2].key = evil.into();
    record.events[0].what = evil.into();
    record.checks[0].figure = evil.into();
    record.provenance.device = evil.into();
    record.settings.job.name = evil.into();
    for (_, outcomes) in &mut record.outcomes {
        outcomes.conditions[1].attack = evil.into();
    }
    let page = html(&record);
    assert!(!page.contains("<script"), "{:?}", page.find("<script").map(|at| &page[at - 200..at + 40]));
    assert!(page.contains("&lt;script&gt;alert(1)"));

    let card = card(&record);
    let head = card.split("---\n").nth(1).unwrap();
    assert_eq!(head.lines().count(), 4, "the name broke out of the YAML head: {head}");
    let (prose, rest) = card.split_once("```python").unwrap();
    let (code, end) = rest.split_once("```").unwrap();
    let prose = prose.split_once("\n---\n").unwrap().1;
    for text in [prose, end] {
        assert!(!text.contains("<script>") && !text.contains("\n# h"), "{text}");
    }
    let names = code.lines().find(|l| l.starts_with("classes = ")).unwrap();
    let read: Vec<String> = serde_json::from_str(&names["classes = ".len()..]).unwrap();
    assert_eq!(read, record.classes);
}

#[test]
fn a_failed_check_is_the_first_thing_said() {
    let mut record = demo::record();
    record.checks[3].passed = false;
    let report = Report::new(&record).unwrap();
    assert!(!report.headline.trusted);
    assert!(report.headline.sentence.starts_with("NOT TO BE TRUSTED: 1 of 7 sanity checks failed."));
    let text = headline(&report);
    assert!(text.contains("6 of 7 sanity checks passed") && text.contains("FAILED: PGD is at least"), "{text}");
    let page = html(&record);
    assert!(page.find("NOT TO BE TRUSTED").unwrap() < page.find("Headline figures").unwrap());
    assert!(card(&record).contains("**failed**"));
}

#[test]
fn the_page_is_one_file_that_asks_nobody_for_anything() {
    let page = html(&demo::record());
    for needle in ["src=\"http", "href=\"http", "url(", "@import", "<link rel=\"stylesheet", "<script"] {
        assert!(!page.contains(needle), "{needle}");
    }
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 36);
    assert!(page.contains("× 31"), "how much a perturbation of 4/255 is amplified");
}

#[test]
fn a_run_with_nothing_but_a_baseline_still_has_a_page() {
    let mut record = demo::record();
    record.rounds.retain(|r| r.phase == "baseline");
    record.outcomes.truncate(1);
    record.static_set.clear();
    record.examples.clear();
    record.events.clear();
    record.checks.clear();
    record.quarantined.clear();
    record.duplicates.clear();
    let page = html(&record);
    assert!(page.contains("Nothing to report: the guard never had to step in."));
    record.outcomes.clear();
    record.rounds.clear();
    assert!(html(&record).contains("Nothing was measured."));
}

#[test]
fn many_classes_are_listed_by_confusion() {
    let mut record = demo::record();
    record.classes.extend((5..40).map(|i| format!("species {i}")));
    let page = html(&record);
    assert!(page.contains("taken for") && !page.contains("predicted →"));
}

const STYLE: &str = include_str!("../../src/report/page.css");

/// The colours that the style sheet names for the light scheme, or for the dark one.
fn palette(scheme: usize) -> impl Fn(&str) -> [f64; 3] {
    let root = STYLE.split(":root {").nth(scheme + 1).unwrap().split('}').next().unwrap().to_owned();
    move |name| {
        let value = root.split(&format!("--{name}: #")).nth(1).unwrap_or_else(|| panic!("no colour {name}"));
        [0, 2, 4].map(|at| f64::from(u8::from_str_radix(&value[at..at + 2], 16).unwrap()) / 255.0)
    }
}

/// Contrast as WCAG 2 defines it, 1 to 21.
fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let luminance = |colour: [f64; 3]| {
        let linear = colour.map(|c| if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05
    };
    let (a, b) = (luminance(a), luminance(b));
    a.max(b) / a.min(b)
}

#[test]
fn text_and_lines_stand_out_in_both_schemes() {
    for scheme in [0, 1] {
        let colour = palette(scheme);
        for text in ["ink", "soft", "good", "bad", "trained", "axis"] {
            for ground in ["page", "raised"] {
                let found = contrast(colour(text), colour(ground));
                assert!(found >= 4.5, "{text} on {ground} in scheme {scheme}: {found:.2}");
            }
        }
        assert!(contrast(colour("bad"), colour("bad-page")) >= 4.5, "bad on bad-page in scheme {scheme}");
        assert!(contrast(colour("mark"), [1.0; 3]) >= 3.0, "numbers of events in scheme {scheme}");
        for line in ["baseline", "trained", "training", "clean", "fgsm", "pgd", "mark"] {
            let found = contrast(colour(line), colour("page"));
            assert!(found >= 3.0, "{line} in scheme {scheme}: {found:.2}");
        }
    }
}

#[test]
fn every_colour_of_a_chart_has_its_counterpart_in_the_dark() {
    let page = html(&demo::record());
    for attribute in ["fill", "stroke"] {
        for value in page.split("<svg").skip(1).flat_map(|svg| {
            svg.split("</svg>").next().unwrap().split(&format!(" {attribute}=\"")).skip(1).collect::<Vec<_>>()
        }) {
            let colour = value.split('"').next().unwrap();
            let known = ["none", "#FFFFFF"].contains(&colour) || STYLE.contains(&format!("[{attribute}=\"{colour}\"]"));
            assert!(known, "{attribute} {colour}");
        }
    }
}
