//! `report.json` against `docs/report.schema.json`.

use hardy::report::{Report, RunRecord, VERSION};
use serde_json::{Value, json};

use super::demo;

fn written(record: &RunRecord) -> Value {
    serde_json::from_slice(&Report::new(record).unwrap().to_json().unwrap()).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/report.schema.json")).unwrap()
}

fn problems(report: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    validator.iter_errors(report).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

#[test]
fn a_report_has_the_form_the_schema_promises() {
    assert_eq!(problems(&written(&demo::record())), [] as [String; 0]);
    assert_eq!(schema()["properties"]["version"]["const"], json!(VERSION));
}

#[test]
fn a_night_has_the_form_the_schema_promises_and_is_absent_elsewhere() {
    let mut record = demo::record();
    assert!(written(&record).get("night").is_none());
    record.night = Some(demo::night());
    let report = written(&record);
    assert_eq!(problems(&report), [] as [String; 0]);
    assert_eq!(report["night"]["gate"]["passed"], json!(false));
    for path in ["gate/rules", "gate/clean", "gate/test_sha256", "drift/new", "drift/embedding", "removed", "replaced"]
    {
        let mut report = report.clone();
        *report.pointer_mut(&format!("/night/{path}")).unwrap() = json!(7);
        assert!(!problems(&report).is_empty(), "{path}");
    }
    // The first night has nothing to be compared with.
    record.night.as_mut().unwrap().drift.embedding = None;
    let gate = &mut record.night.as_mut().unwrap().gate;
    (gate.against, gate.clean.before, gate.clean.points, gate.clean.p_value, gate.robust) =
        (None, None, None, None, None);
    assert_eq!(problems(&written(&record)), [] as [String; 0]);
}

#[test]
fn the_schema_refuses_what_is_not_a_report() {
    let report = written(&demo::record());
    let broken = [
        ("/version", json!(2)),
        ("/results/0/model", json!("my student")),
        ("/paired/0/p_value", json!(2)),
        ("/results/0/epsilon", json!(4)),
        ("/results/0/correct", json!(1.5)),
        ("/results/0/accuracy", Value::Null),
        ("/results/0/per_class/0", json!({"class": "daisy"})),
        ("/provenance/checkpoint_sha256", json!("abc")),
        ("/rounds/0", json!({})),
    ];
    for (path, value) in broken {
        let mut report = report.clone();
        *report.pointer_mut(path).unwrap() = value;
        assert!(!problems(&report).is_empty(), "{path}");
    }
    for key in report.as_object().unwrap().keys() {
        let mut report = report.clone();
        report.as_object_mut().unwrap().remove(key);
        assert!(!problems(&report).is_empty(), "without {key}");
    }
}

#[test]
fn results_have_the_names_that_others_rely_on() {
    let report = written(&demo::record());
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 22);
    assert_eq!(
        (&results[0]["model"], &results[0]["attack"], &results[0]["epsilon"]),
        (&json!("baseline"), &json!("clean"), &json!(0.0))
    );
    let pgd = results
        .iter()
        .find(|r| r["model"] == "trained" && r["attack"] == "pgd20" && r["epsilon"] == 4.0 / 255.0)
        .unwrap();
    assert_eq!(pgd["n"], 550);
    assert_eq!(pgd["accuracy"].as_f64().unwrap(), pgd["correct"].as_f64().unwrap() / 550.0);
    assert!(pgd["low"].as_f64() < pgd["accuracy"].as_f64() && pgd["accuracy"].as_f64() < pgd["high"].as_f64());
    assert_eq!(pgd["per_class"][0]["class"], "daisy");
}

#[test]
fn figures_that_are_no_numbers_are_absent() {
    let mut record = demo::record();
    record.rounds[5].loss = f64::NAN;
    record.rounds[6].train_accuracy = f64::INFINITY;
    record.examples[0].after.1 = f64::NAN;
    let report = written(&record);
    assert_eq!(problems(&report), [] as [String; 0]);
    assert_eq!(report["rounds"][5]["loss"], Value::Null);
    let read = Report::from_json(&serde_json::to_vec(&report).unwrap()).unwrap();
    assert_eq!(read, Report::new(&record).unwrap());
    hardy::report::page(&read, &record.examples).unwrap();
}

#[test]
fn passwords_stay_out_of_the_report() {
    let mut record = demo::record();
    record.settings.queue.url = "amqps://hardy:s3cr@et/x@rabbit.example:5671/jobs".replace("/x@", "%2fx@");
    record.settings.store.endpoint = "https://key:s3cr@minio.example".into();
    let report = Report::new(&record).unwrap();
    let page = hardy::report::page(&report, &record.examples).unwrap();
    let json = String::from_utf8(report.to_json().unwrap()).unwrap();
    assert!(!json.contains("s3cr") && !page.contains("s3cr"));
    assert_eq!(report.settings.queue.url, "amqps://hardy:***@rabbit.example:5671/jobs");
}

#[test]
fn a_record_that_contradicts_itself_is_an_error() {
    let mut record = demo::record();
    record.outcomes[0].1.images[3].predicted[2] = 17;
    assert!(Report::new(&record).unwrap_err().to_string().contains("daisy-0003"));
    let mut record = demo::record();
    record.examples[1].after.0 = 5;
    assert!(Report::new(&record).is_err());
}
