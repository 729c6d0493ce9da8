//! A cluster that is watched: two coordinators and a worker, each with HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::browser::Window;
use crate::http::{assert_all_are_told, figures, get, json, try_send};
use crate::scene::{Cluster, has_ended};

const TOKEN: &str = "only-for-this-test-81f3";
const PATIENCE: Duration = Duration::from_secs(300);

/// Starts a process that serves HTTP on a free port and writes its log as JSON; where it listens.
fn start(cluster: &mut Cluster, what: &str, name: &str) -> SocketAddr {
    let mut command = cluster.hardy(&[what, "--name", name]);
    command.env("HARDY_HTTP__LISTEN", "127.0.0.1:0").env("HARDY_HTTP__TOKEN", TOKEN);
    command.env("HARDY_LOG_FORMAT", "json").env("HARDY_WORKER__COUNT", "1");
    cluster.start_command(name, command);
    until("its address", || {
        let log = cluster.log(name);
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let address =
            lines.filter(|l| l["message"] == "serves HTTP").find_map(|l| Some(l["address"].as_str()?.to_owned()));
        address?.parse().ok()
    })
}

/// Asks again and again until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{what} did not come in time");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn post(url: &str, token: Option<&str>, body: &str) -> (u16, Value) {
    let (status, body) = try_send("POST", url, token, body).unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[test]
fn a_cluster_can_be_watched_scraped_and_told_what_to_do() {
    let mut cluster = Cluster::start();
    let leader = format!("http://{}", start(&mut cluster, "coordinator", "first"));
    until("the lead", || (figures(&leader).get("hardy_leader") == Some(&1.0)).then_some(()));
    let address = start(&mut cluster, "coordinator", "second");
    let follower = format!("http://{address}");
    until("a follower", || (try_send("GET", &format!("{follower}/readyz"), None, "")?.0 == 200).then_some(()));

    // Nobody works yet, so that tasks wait.
    cluster.submit("short", &["train.rounds=1", "baseline.rounds=1"]);
    until("a figure of what waits", || {
        let found = figures(&leader);
        (found.get("hardy_queue_messages{queue=\"normal\",state=\"ready\"}")? > &0.0).then_some(())
    });
    let worker = format!("http://{}", start(&mut cluster, "worker", "hand"));
    cluster.finished("short");
    let results = figures_of_a_finished_job(&cluster, &leader);
    assert!(results > 0, "its accuracies are told");
    let told = figures(&follower);
    assert_eq!(told["hardy_leader"], 0.0);
    assert!(!told.keys().any(|name| name.starts_with("hardy_jobs")), "only a leader tells of the cluster");
    let done = figures(&worker);
    assert!(done["hardy_worker_tasks_total{kind=\"train\",outcome=\"done\"}"] >= 2.0, "{done:?}");
    assert_eq!(done["hardy_worker_threads"], 1.0);
    // There was no night, and a GPU need not be there.
    assert_all_are_told(&[&figures(&leader), &done], &["hardy_gate_", "hardy_current_model_", "hardy_gpu_"]);
    for url in [&leader, &follower, &worker] {
        assert_eq!((get(&format!("{url}/healthz")).0, get(&format!("{url}/readyz")).0), (200, 200));
    }
    assert_eq!(get(&format!("{worker}/")).0, 404, "a worker has no page");

    cluster.submit("night", &["train.rounds=500", "guard.images=40"]);
    until("rounds of training", || {
        let status = json(&format!("{follower}/api/jobs/night"));
        let rounds = status["rounds"].as_array()?.iter().filter(|r| r["phase"] == "train").count();
        (rounds >= 3 && !status["pictures"].as_array()?.is_empty()).then_some(())
    });
    looks_right(address);
    token_decides(&leader, &follower);
    let end = cluster.until("night", "the end", has_ended);
    assert_eq!(end["state"], "cancelled", "{end:#}");
    logs_are_json(&cluster);
    store_away(&mut cluster, &leader);
}

/// The number of accuracies that are told.
fn figures_of_a_finished_job(cluster: &Cluster, leader: &str) -> usize {
    let found = until("the figures of the finished job", || {
        let found = figures(leader);
        found.contains_key("hardy_last_success_timestamp_seconds").then_some(found)
    });
    let log = cluster.done("short");
    let of = |kind: &str| log.iter().filter(|d| d["task"].as_str().unwrap().starts_with(kind)).count() as f64;
    assert_eq!(found["hardy_tasks_total{kind=\"shard\",outcome=\"done\"}"], of("shard-"));
    assert_eq!(found["hardy_task_duration_seconds_count{kind=\"shard\"}"], of("shard-"));
    let tasks: f64 = found
        .iter()
        .filter(|(name, _)| name.starts_with("hardy_tasks_total") && name.contains("done"))
        .map(|(_, n)| n)
        .sum();
    assert_eq!(tasks, log.len() as f64, "each task once: {found:#?}");
    assert!(found["hardy_images_total{stage=\"train\"}"] > 0.0 && found["hardy_images_total{stage=\"guard\"}"] > 0.0);
    assert_eq!((found["hardy_jobs{state=\"done\"}"], found["hardy_jobs{state=\"failed\"}"]), (1.0, 0.0));
    assert_eq!(found["hardy_dead_letters"], 0.0);
    until("the idle worker", || (figures(leader).get("hardy_workers") == Some(&1.0)).then_some(()));
    let report: Value = json(&format!("{leader}/jobs/short/report.json"));
    let accuracies = found.iter().filter(|(name, _)| name.starts_with("hardy_job_accuracy_ratio"));
    let mut accuracies: Vec<f64> = accuracies.map(|(_, share)| *share).collect();
    let results = report["results"].as_array().unwrap();
    let mut expected: Vec<f64> = results.iter().map(|r| r["accuracy"].as_f64().unwrap()).collect();
    accuracies.sort_by(f64::total_cmp);
    expected.sort_by(f64::total_cmp);
    assert_eq!(accuracies, expected);
    accuracies.len()
}

/// The page of a coordinator that stands by, during a running job.
fn looks_right(coordinator: SocketAddr) {
    let window = Window::open(coordinator);
    // Left behind for whoever wants to look at it.
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    for (width, height) in [(390, 5200), (1280, 3200)] {
        // The pictures are asked for last.
        let found = until("the pictures", || {
            let found = window.look(width, height, &folder.join(format!("page-{width}.png")));
            (found["images"].as_u64() >= Some(2)).then_some(found)
        });
        assert_eq!((&found["width"], &found["scroll"]), (&width.into(), &width.into()), "{found:#}");
        assert_eq!(
            (&found["broken"], &found["unnamed"], &found["small"]),
            (&0.into(), &0.into(), &0.into()),
            "{found:#}"
        );
        assert!(found["charts"] == 2 && found["headless"] == 0, "{found:#}");
        assert_eq!(found["jobs"], 2);
        let text = found["text"].as_str().unwrap();
        for words in ["night", "short", "hand.0", "stands by", "Newest adversarial pictures", "There are none."] {
            assert!(text.contains(words), "'{words}' is not on the page:\n{text}");
        }
    }
}

fn token_decides(leader: &str, follower: &str) {
    let cancel = format!("{follower}/api/jobs/night/cancel");
    assert_eq!(post(&cancel, None, "").0, 401);
    let (status, said) = post(&cancel, Some("a guess"), "");
    assert_eq!((status, said["error"].as_str()), (401, Some("this is not the token of http.token")));
    let wish = r#"{ "job": "probe", "rehearse": 5, "settings": { "job.priority": "high" } }"#;
    assert_eq!(
        post(&format!("{follower}/api/jobs"), Some(TOKEN), wish),
        (201, serde_json::json!({ "job": "probe", "submitted": true }))
    );
    until("the end of the probe", || (json(&format!("{leader}/api/jobs/probe"))["state"] == "done").then_some(()));
    assert_eq!(post(&cancel, Some(TOKEN), "").0, 200);
}

/// Every line names what it is about; a task's end says how long it took.
fn logs_are_json(cluster: &Cluster) {
    for name in ["first", "hand"] {
        let log = cluster.log(name);
        assert!(!log.contains(TOKEN));
        for line in log.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{name}: {line}");
        }
    }
    let lines: Vec<Value> = cluster.log("hand").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let close = lines.iter().find(|l| l["message"] == "close" && l["span"]["kind"] == "train").unwrap();
    for part in ["job", "task", "attempt", "worker"] {
        assert!(close["span"][part].is_string(), "{part}: {close}");
    }
    assert!(close["time.busy"].is_string() && close["time.idle"].is_string(), "{close}");
    assert_eq!(close["span"]["outcome"], "done", "{close}");
}

/// A store that is away makes a process unready and leaves it alive.
fn store_away(cluster: &mut Cluster, url: &str) {
    cluster.s3.stop();
    until("that it is not ready", || (get(&format!("{url}/readyz")).0 == 503).then_some(()));
    assert_eq!(get(&format!("{url}/healthz")).0, 200);
    cluster.s3.restart();
    until("that it is ready", || (get(&format!("{url}/readyz")).0 == 200).then_some(()));
}
