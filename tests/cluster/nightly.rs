//! Three nights of a model, with the coordinator killed in one of them.

use serde_json::Value;

use crate::scene::{Cluster, has_ended};
use crate::small::{self, SMALL};

const NIGHTS: &[&str] = &[
    "job.name=flowers",
    "gate.epsilon=2/255",
    "gate.clean_drop=100",
    "gate.robust_drop=100",
    "gate.class_drop=100",
    "gate.class_floor=0",
    "gate.checks=false",
    "nightly.rounds=4",
];

fn submit(cluster: &Cluster, night: &str) {
    let photos = cluster.scene.photos.to_str().unwrap();
    let mut arguments = vec!["submit", "--data", photos, "--night", night];
    arguments.extend(SMALL.iter().chain(NIGHTS).flat_map(|setting| ["--set", setting]));
    assert_eq!(cluster.ok(&arguments).trim(), format!("flowers-{night}"));
}

fn add_photo(cluster: &Cluster, number: usize) {
    let class = cluster.scene.photos.join("train/daisy");
    let some = std::fs::read_dir(&class).unwrap().next().unwrap().unwrap().path();
    let picture = image::imageops::brighten(&image::open(some).unwrap().to_rgb8(), 10 * number as i32);
    image::imageops::rotate90(&picture).save(class.join(format!("new-{number}.png"))).unwrap();
}

fn outcomes(cluster: &Cluster) -> Vec<(String, String)> {
    let trend: Value = serde_json::from_str(&cluster.ok(&["--json", "report", "--history", "flowers"])).unwrap();
    let nights = trend["nights"].as_array().unwrap().iter();
    nights.map(|n| (n["name"].as_str().unwrap().to_string(), n["what"].as_str().unwrap().to_string())).collect()
}

#[test]
fn three_nights_survive_a_killed_coordinator_and_do_not_overlap() {
    let mut cluster = Cluster::start();
    let first = cluster.start_process("coordinator");
    cluster.start_process("worker");
    cluster.start_process("worker");
    submit(&cluster, "n1");
    cluster.finished("flowers-n1");
    submit(&cluster, "n1");

    add_photo(&cluster, 1);
    submit(&cluster, "n2");
    cluster.until("flowers-n2", "a round", |s| s["rounds"].as_array().is_some_and(|r| !r.is_empty()));
    cluster.kill(&first);
    // While nobody leads, the night after is submitted: it must not run beside this one.
    submit(&cluster, "early");
    cluster.start_process("coordinator");
    let early = cluster.until("flowers-early", "the end", has_ended);
    let second = cluster.until("flowers-n2", "the end", has_ended);
    let ends = [&early, &second].map(|s| s["state"].as_str().unwrap().to_string());
    assert!(ends.contains(&"done".into()) && ends.contains(&"failed".into()), "{ends:?}\n{}", cluster.logs());
    let refused = if ends[0] == "failed" { &early } else { &second };
    assert!(refused["error"][1].as_str().unwrap().contains("two nights of one model must not overlap"), "{refused}");

    add_photo(&cluster, 2);
    submit(&cluster, "n3");
    cluster.finished("flowers-n3");

    let seen = outcomes(&cluster);
    eprintln!("{seen:?}");
    assert_eq!(seen.iter().filter(|(_, what)| what == "promoted").count(), 3, "{seen:?}");
    let current: Value = serde_json::from_str(&cluster.ok(&["--json", "models", "show", "flowers"])).unwrap();
    assert_eq!(current["version"]["id"], "n3");
    assert_eq!(seen.len(), 4, "three promotions and the night that was refused: {seen:?}");
    assert!(!cluster.list("models/flowers").iter().any(|key| key.ends_with("night.json")), "the lease was given back");
    assert!(cluster.ok(&["status", "flowers-n3"]).contains("night      flowers n3: promoted"));

    let strict = cluster.run(&["models", "promote", "flowers", "nothing"]);
    assert!(strict.status.code() == Some(9), "{}", small::text(&strict.stderr));
    let out = cluster.scene.path("exported");
    cluster.ok(&["models", "export", "flowers", "--out", out.to_str().unwrap()]);
    assert!(out.join("model.json").exists() && out.join("model.safetensors").exists());
}
