//! Requests, and figures as Prometheus reads them.

use std::collections::BTreeMap;
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

/// Figures by name and labels: `hardy_jobs{state="done"}`.
pub fn figures(url: &str) -> BTreeMap<String, f64> {
    let (status, text) = get(&format!("{url}/metrics"));
    assert_eq!(status, 200);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read_metrics.py");
    let mut reader = Command::new(python()).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    reader.stdin.take().unwrap().write_all(&text).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success(), "the parser refuses:\n{}", String::from_utf8_lossy(&text));
    let families: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut found = BTreeMap::new();
    for family in &families {
        assert!(!family["help"].as_str().unwrap().is_empty() && family["type"] != "unknown", "{family}");
        for sample in family["samples"].as_array().unwrap() {
            let labels: BTreeMap<String, String> = serde_json::from_value(sample["labels"].clone()).unwrap();
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            found.insert(format!("{}{labels}", sample["name"].as_str().unwrap()), sample["value"].as_f64().unwrap());
        }
    }
    found
}
