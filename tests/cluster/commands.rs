//! What people do with a cluster, when nothing goes wrong.

use serde_json::Value;

use crate::scene::Cluster;
use crate::small::{self, report};

#[test]
fn a_cluster_brings_the_bytes_of_hardy_run_and_answers_every_command() {
    let mut cluster = Cluster::start();
    let alone = cluster.scene.path("alone");
    cluster.scene.run(&alone, 2, &[]);

    cluster.start_process("coordinator");
    cluster.start_process("worker");
    cluster.start_process("worker");
    cluster.submit("night", &[]);
    cluster.submit("night", &[]);
    let photos = cluster.scene.photos.to_str().unwrap();
    let other = cluster.run(&["submit", "--data", photos, "--name", "night", "--set", "train.rounds=9"]);
    assert_eq!(other.status.code(), Some(2), "the name is taken");
    assert!(small::text(&other.stderr).contains("a job named night was submitted"));

    let watched = cluster.run(&["watch", "night"]);
    assert!(watched.status.success(), "{}", small::text(&watched.stderr));
    let seen = small::text(&watched.stderr);
    assert!(seen.contains("night is running") && seen.contains("night is done"), "{seen}");

    assert_eq!(cluster.outputs("night"), small::outputs(&alone));
    let out = cluster.scene.path("fetched");
    cluster.ok(&["fetch", "night", "--out", out.to_str().unwrap()]);
    assert_eq!(report(&out)["results"], report(&alone)["results"]);
    assert_eq!(
        std::fs::read(out.join("model/model.safetensors")).unwrap(),
        std::fs::read(alone.join("model/model.safetensors")).unwrap()
    );

    let all: Value = serde_json::from_str(&cluster.ok(&["jobs", "--json"])).unwrap();
    assert_eq!((all.as_array().unwrap().len(), &all[0]["state"]), (1, &Value::from("done")));
    assert!(cluster.ok(&["status", "night"]).contains("state      done"));
    cluster.assert_no_orphans("night");

    for (arguments, code, words) in [
        (&["status", "nobody"][..], 9, "there is no job nobody"),
        (&["cancel", "night"], 2, "is done already"),
        (&["retry", "night"], 2, "only a failed or cancelled one"),
        (&["status", "../../etc"], 2, "is no job name"),
        (&["fetch", "nobody", "--out", "x"], 9, "there is no job nobody"),
    ] {
        let output = cluster.run(arguments);
        let said = small::text(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(words), "{arguments:?}: {said}");
    }

    let healthy = cluster.ok(&["doctor", "--set", "model.weights=none", "--set", "model.architecture=hardy_small"]);
    assert!(!healthy.contains("FAILED"), "{healthy}");
    let down = cluster
        .hardy_by(&["doctor", "--client"], "amqp://guest:s3cret@127.0.0.1:1/", &cluster.s3.endpoint())
        .output()
        .unwrap();
    let said = small::text(&down.stdout) + &small::text(&down.stderr);
    assert!(down.status.code() == Some(6) && said.contains("FAILED  broker"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

/// Whenever its run starts, and wherever the machine is.
#[test]
fn a_night_bears_the_date_of_its_schedule_in_its_own_time_zone() {
    let cluster = Cluster::start();
    // The 21st at 23:30 UTC, in minutes as Kubernetes names a CronJob's run.
    let scheduled = "night-hardy-nightly-29921730";
    for (zone, date) in
        [("Etc/UTC", "21"), ("Europe/Berlin", "22"), ("America/New_York", "21"), ("Pacific/Auckland", "22")]
    {
        let place = zone.replace('/', "-");
        let name = format!("{place}-{{date}}");
        let mut submit = cluster.hardy(&["submit", "--rehearse", "1", "--name", &name]);
        let output = submit.env("TZ", zone).env("HARDY_SCHEDULED", scheduled).output().unwrap();
        let (said, error) = (small::text(&output.stdout), small::text(&output.stderr));
        assert_eq!(said.trim(), format!("{place}-2026-11-{date}"), "{error}");
    }
}

#[test]
fn a_job_of_attacks_brings_the_pictures_of_hardy_attack() {
    let mut cluster = Cluster::start();
    cluster.start_process("coordinator");
    cluster.start_process("worker");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/script/traced.pt");
    let photos = cluster.scene.photos.clone();
    let (alone, fetched) = (cluster.scene.path("alone"), cluster.scene.path("fetched"));
    let [photos, alone, fetched] = [&photos, &alone, &fetched].map(|path| path.to_str().unwrap());
    let settings =
        ["--set", "attack.label=reddish", "--set", "attack.epsilons=[\"16/255\"]", "--set", "attack.batch=8"];
    let local = small::hardy(&[&["attack", photos, "--model", model, "--out", alone][..], &settings].concat());
    assert!(local.status.success(), "{}", small::text(&local.stderr));
    let model = format!("job.model={model}");
    let job = ["submit", "--data", photos, "--name", "broken", "--wait", "--set", "job.kind=attack", "--set", &model];
    cluster.ok(&[&job[..], &settings].concat());
    cluster.ok(&["fetch", "broken", "--out", fetched]);
    let counts = |folder: &str| std::fs::read_to_string(format!("{folder}/attack.json")).unwrap();
    assert_eq!(counts(fetched), counts(alone));
    let found: Value = serde_json::from_str(&counts(alone)).unwrap();
    assert!(found["budgets"][0]["broken"].as_u64().unwrap() > 0, "{found}");
    let pictures = |folder: &str| {
        // `.hardy` is the store of the one that ran alone, which has them too.
        let all = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter();
        let all = all.filter_entry(|e| e.file_name() != ".hardy").map(|entry| entry.unwrap());
        let all = all.filter(|e| e.file_name().to_string_lossy().ends_with(".adversarial.png"));
        all.map(|e| std::fs::read(e.path()).unwrap()).collect::<Vec<_>>()
    };
    assert!(pictures(alone) == pictures(fetched) && !pictures(alone).is_empty());
}

#[test]
fn a_cancelled_job_ends_and_goes_on_when_it_is_retried() {
    let mut cluster = Cluster::start();
    cluster.start_process("coordinator");
    let worker = cluster.start_process("worker");
    cluster.submit("long", &["train.rounds=6"]);
    cluster.until("long", "a round", |s| s["rounds"].as_array().is_some_and(|r| r.len() >= 3));
    cluster.ok(&["cancel", "long"]);
    let end = cluster.until("long", "the end", crate::scene::has_ended);
    assert_eq!(end["state"], "cancelled");
    let before: Vec<_> = cluster.done("long");
    cluster.ok(&["retry", "long"]);
    cluster.finished("long");
    let after = cluster.done("long");
    for task in &before {
        assert!(after.contains(task), "done again: {}", task["task"]);
    }
    cluster.signal(&worker, "TERM");
    let left = cluster.processes.get_mut(&worker).unwrap().wait().unwrap();
    assert!(left.success(), "an idle worker leaves at once: {left}");
}
