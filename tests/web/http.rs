//! Requests, and figures as Prometheus reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::python::python;

/// Status and body; none when nobody answers.
pub fn try_send(method: &str, url: &str, token: Option<&str>, body: &str) -> Option<(u16, Vec<u8>)> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = agent.run(request.body(body.to_owned()).unwrap()).ok()?;
    let status = response.status().as_u16();
    Some((status, response.into_body().read_to_vec().ok()?))
}

pub fn get(url: &str) -> (u16, Vec<u8>) {
    try_send("GET", url, None, "").unwrap_or_else(|| panic!("{url} does not answer"))
}

pub fn json(url: &str) -> Value {
    let (status, body) = get(url);
    assert_eq!(status, 200, "{url}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

/// A figure's labels, each with its values where they are listed.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// The figures that the tables of docs/http.md promise.
fn documented() -> BTreeMap<String, Labels> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http.md");
    let page = std::fs::read_to_string(page).unwrap();
    let quoted = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(String::from).collect() };
    let mut found = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `hardy_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let mut labels = Labels::new();
        for part in cells[3].split(';') {
            let listed = part.split_once("`:").map_or("", |(_, values)| values);
            // What a value means stands behind it in brackets.
            let values = listed.split(',').filter_map(|value| value.split('(').next()).map(str::trim);
            let values: BTreeSet<String> = values.filter(|value| !value.is_empty()).map(String::from).collect();
            labels.extend(quoted(part).into_iter().map(|label| (label, values.clone())));
        }
        for name in quoted(cells[1]) {
            if cells[2].starts_with("histogram") {
                let classes = labels.clone().into_iter().chain([("le".to_string(), BTreeSet::new())]).collect();
                found.insert(format!("{name}_bucket"), classes);
                found.insert(format!("{name}_sum"), labels.clone());
                found.insert(format!("{name}_count"), labels.clone());
            } else {
                found.insert(name, labels.clone());
            }
        }
    }
    found
}

/// Figures by name and labels: `hardy_jobs{state="done"}`. Each is one of those that are documented.
pub fn figures(url: &str) -> BTreeMap<String, f64> {
    let (status, text) = get(&format!("{url}/metrics"));
    assert_eq!(status, 200);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read_metrics.py");
    let mut reader = Command::new(python()).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    reader.stdin.take().unwrap().write_all(&text).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success(), "the parser refuses:\n{}", String::from_utf8_lossy(&text));
    let families: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let documented = documented();
    let mut found = BTreeMap::new();
    for family in &families {
        assert!(!family["help"].as_str().unwrap().is_empty() && family["type"] != "unknown", "{family}");
        for sample in family["samples"].as_array().unwrap() {
            let labels: BTreeMap<String, String> = serde_json::from_value(sample["labels"].clone()).unwrap();
            let promised = sample["name"].as_str().and_then(|name| documented.get(name));
            let promised = promised.unwrap_or_else(|| panic!("docs/http.md does not know {sample}"));
            assert!(labels.keys().eq(promised.keys()), "docs/http.md has other labels for {sample}");
            for (label, value) in &labels {
                let listed = &promised[label];
                assert!(listed.is_empty() || listed.contains(value), "docs/http.md does not list {value} for {sample}");
            }
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            found.insert(format!("{}{labels}", sample["name"].as_str().unwrap()), sample["value"].as_f64().unwrap());
        }
    }
    found
}

/// Fails where no scrape has a figure that docs/http.md promises, except for those that begin as one of `absent`.
pub fn assert_all_are_told(scrapes: &[&BTreeMap<String, f64>], absent: &[&str]) {
    let names: BTreeSet<&str> =
        scrapes.iter().flat_map(|s| s.keys()).filter_map(|figure| figure.split('{').next()).collect();
    for name in documented().keys().filter(|name| !absent.iter().any(|begin| name.starts_with(begin))) {
        assert!(names.contains(name.as_str()), "nobody tells {name}");
    }
}
