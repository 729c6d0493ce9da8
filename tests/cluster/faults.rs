//! Single faults, each with what must come of it.

use std::time::Duration;

use crate::scene::Cluster;
use crate::servers::proxy::{Mode, Proxy};
use crate::small;

/// A shard that was corrupted on the store: the job fails and says so, its task is among the dead letters,
/// other jobs are not touched, and once the shard is mended a retry does only what is left.
#[test]
fn a_poisoned_task_fails_its_job_and_no_other() {
    let mut cluster = Cluster::start();
    cluster.start_process("coordinator");
    let worker = cluster.start_process("worker");
    cluster.submit("poisoned", &["train.rounds=3"]);
    cluster.until("poisoned", "the first round", |s| s["rounds"].as_array().is_some_and(|r| !r.is_empty()));
    // The photos of val are first read after the last round.
    let key = cluster.list("jobs/poisoned/attempts/shard-val-00000").remove(0);
    let sound = cluster.object(&key);
    let mut evil = sound.clone();
    evil[1000] ^= 1;
    cluster.overwrite(&key, evil);
    let end = cluster.until("poisoned", "the end", crate::scene::has_ended);
    assert_eq!(end["state"], "failed");
    let why = end["error"][1].as_str().unwrap();
    assert!(why.contains("is corrupt") && why.contains(&key) && why.contains("attempts worker-"), "{why}");
    let doctor = cluster.ok(&["doctor", "--client"]);
    assert!(doctor.contains("1 dead letters"), "{doctor}");

    cluster.submit("sound", &["train.rounds=1", "baseline.rounds=1"]);
    cluster.finished("sound");

    let before = cluster.done("poisoned");
    cluster.overwrite(&key, sound);
    cluster.ok(&["retry", "poisoned"]);
    cluster.finished("poisoned");
    let after = cluster.done("poisoned");
    assert!(before.iter().all(|task| after.contains(task)), "nothing is done twice");
    assert!(cluster.processes.get_mut(&worker).unwrap().try_wait().unwrap().is_none(), "the worker lives on");
}

/// Where its policy says so, a job goes on without a shard that nobody can read, and its report says so in the
/// headline. One whose loss is no number fails and names the step; the worker lives on.
#[test]
fn a_job_goes_on_without_what_is_lost_where_it_may_and_fails_where_it_diverges() {
    let mut cluster = Cluster::start();
    cluster.start_process("coordinator");
    let worker = cluster.start_process("worker");
    cluster.submit("tolerant", &["job.poison=skip"]);
    cluster.until("tolerant", "the first round", |s| s["rounds"].as_array().is_some_and(|r| !r.is_empty()));
    let key = cluster.list("jobs/tolerant/attempts/shard-val-00000").remove(0);
    let mut evil = cluster.object(&key);
    evil[1000] ^= 1;
    cluster.overwrite(&key, evil);
    cluster.finished("tolerant");
    let out = cluster.scene.path("tolerant");
    cluster.ok(&["fetch", "tolerant", "--out", out.to_str().unwrap()]);
    let report = small::report(&out);
    let lost = report["left_out"].as_array().unwrap();
    let of_trained = lost.iter().find(|l| l["task"] == "evaluate-trained-00000").unwrap_or_else(|| panic!("{lost:?}"));
    assert!(of_trained["why"].as_str().unwrap().contains(&key), "{of_trained}");
    assert!(report["headline"].to_string().contains("NOT TO BE TRUSTED"), "{}", report["headline"]);
    let n = report["results"][0]["n"].as_u64().unwrap();
    assert!(0 < n && n < 25, "a shard of the 25 photos is missing: {n}");

    cluster.submit("diverging", &["train.rate=10", "train.clip_norm=0", "train.schedule=cosine", "train.warmup=0"]);
    let end = cluster.until("diverging", "the end", crate::scene::has_ended);
    assert_eq!(end["state"], "failed");
    assert!(end["error"][1].as_str().unwrap().contains("training diverged in round"), "{end:#}");
    assert!(cluster.processes.get_mut(&worker).unwrap().try_wait().unwrap().is_none(), "the worker lives on");
}

/// Photos are read from a bucket of somebody else's, and tasks that take longer than the broker waits for an
/// acknowledgement are done once.
#[test]
fn photos_from_elsewhere_and_tasks_beyond_the_brokers_patience() {
    let mut cluster = Cluster::start();
    let alone = cluster.scene.path("alone");
    let long = ["train.steps_per_round=250", "baseline.rounds=1", "train.rounds=1"];
    cluster.scene.run(&alone, 2, &long);
    let impatient =
        "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 300).";
    cluster.broker.ctl(&["eval", impatient]);
    cluster.start_process("coordinator");
    cluster.start_process("worker");
    let photos = cluster.photos_elsewhere();
    cluster.submit_from(&photos, "long", &long);
    cluster.finished("long");
    assert_eq!(cluster.outputs("long"), small::outputs(&alone));
    let seconds = |task: &serde_json::Value| task["success"]["metrics"]["seconds"].as_f64().unwrap_or(0.0);
    let longest = cluster.done("long").iter().map(seconds).fold(0.0, f64::max);
    assert!(longest > 1.5, "no task tried its patience: {longest} s");
    let end = cluster.until("long", "the end", |_| true);
    assert_eq!(end["failures"], 0, "{end:#}");
}

/// A worker that stops without dying is given up; when it wakes its result comes second and is removed.
#[test]
fn a_worker_that_hangs_and_one_that_is_cut_off_change_nothing() {
    let mut cluster = Cluster::start();
    let alone = cluster.scene.path("alone");
    cluster.scene.run(&alone, 2, &[]);
    cluster.start_process("coordinator");
    let sleeper = cluster.start_process("worker");
    let (broker, store) = (Proxy::start(cluster.broker.address()), Proxy::start(cluster.s3.address()));
    let url = cluster.broker.url_at(broker.address());
    let command = cluster.hardy_by(&["worker", "--workers", "1", "--name", "islander"], &url, &store.endpoint());
    cluster.start_command("islander", command);
    cluster.submit("storm", &[]);
    let busy = |name: &'static str| {
        move |s: &serde_json::Value| {
            s["workers"].as_array().is_some_and(|w| w.iter().any(|w| w == &format!("{name}.0")))
        }
    };
    cluster.until("storm", "work of the islander", busy("islander"));
    broker.set(Mode::Silent);
    cluster.signal(&sleeper, "STOP");
    // Nobody is left to work: what the two hold must come to this one.
    cluster.start_process("worker");
    cluster.until("storm", "a later stage", |s| s["rounds"].as_array().is_some_and(|r| r.len() >= 2));
    broker.set(Mode::Pass);
    cluster.signal(&sleeper, "CONT");
    cluster.finished("storm");
    assert_eq!(cluster.outputs("storm"), small::outputs(&alone));
    // What came late is collected.
    std::thread::sleep(Duration::from_secs(2));
    cluster.assert_no_orphans("storm");
}

/// SIGTERM under load: every worker finishes or hands back, and leaves within its grace period.
#[test]
fn workers_that_are_told_to_stop_hand_back_what_they_hold() {
    let mut cluster = Cluster::start();
    cluster.start_process("coordinator");
    let old: Vec<String> = (0..3).map(|_| cluster.start_process("worker")).collect();
    cluster.submit("scaled", &["train.rounds=3"]);
    cluster.until("scaled", "a round", |s| s["rounds"].as_array().is_some_and(|r| !r.is_empty()));
    for name in &old {
        cluster.signal(name, "TERM");
    }
    for name in &old {
        let left = cluster.processes.get_mut(name).unwrap().wait().unwrap();
        assert!(left.success(), "{left}: {}", cluster.log(name));
    }
    let before = cluster.until("scaled", "a status", |_| true);
    cluster.start_process("worker");
    cluster.finished("scaled");
    let after = cluster.until("scaled", "a status", |_| true);
    assert_eq!((before["failures"].clone(), after["failures"].clone()), (0.into(), 0.into()), "no task failed");
}

/// A store that answers with errors, breaks off its answers and takes its time: everybody goes on, and the
/// result is the same.
#[test]
fn a_store_in_trouble_changes_nothing() {
    let mut cluster = Cluster::start();
    let alone = cluster.scene.path("alone");
    cluster.scene.run(&alone, 2, &["train.rounds=4"]);
    let store = Proxy::start(cluster.s3.address());
    for what in ["coordinator", "worker", "worker"] {
        let mut arguments = vec![what, "--name"];
        let name = format!("{what}-{}", cluster.processes.len());
        arguments.push(&name);
        let command = cluster.hardy_by(&arguments, &cluster.broker.url(), &store.endpoint());
        cluster.start_command(&name, command);
    }
    cluster.submit("storm", &["train.rounds=4"]);
    let trouble = [
        Mode::Answer(503),
        Mode::Pass,
        Mode::Cut(700),
        Mode::Pass,
        Mode::Answer(500),
        Mode::Pass,
        Mode::Delay(Duration::from_millis(200)),
        Mode::Refuse,
    ];
    for (number, mode) in trouble.into_iter().enumerate() {
        let done = cluster.list("jobs/storm/log").len();
        store.set(mode);
        // Each lasts until the job has felt it, and none for longer than the job can bear.
        std::thread::sleep(Duration::from_secs(2));
        println!("{number}: {mode:?} after {done} pages of the log");
    }
    store.set(Mode::Pass);
    cluster.finished("storm");
    assert_eq!(cluster.outputs("storm"), small::outputs(&alone));
    cluster.assert_no_orphans("storm");
}

/// A worker whose disk is full hands its tasks to others and fails none.
#[test]
fn a_worker_with_a_full_disk_harms_nobody() {
    let mut cluster = Cluster::start();
    let alone = cluster.scene.path("alone");
    cluster.scene.run(&alone, 2, &[]);
    cluster.start_process("coordinator");
    let disk = cluster.scene.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let inner = cluster.hardy(&["worker", "--workers", "1", "--name", "cramped"]);
    let script = format!(
        "mount -t tmpfs -o size=64k tmpfs '{0}' && TMPDIR='{0}' exec {1} worker --workers 1 --name cramped",
        disk.display(),
        inner.get_program().to_str().unwrap()
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    cluster.start_command("cramped", command);
    cluster.submit("storm", &[]);
    cluster.until("storm", "the start", |s| s["stage"].is_object());
    let began = std::time::Instant::now();
    while !cluster.log("cramped").contains("disk is in trouble") {
        assert!(began.elapsed() < Duration::from_secs(120), "it never felt it: {}", cluster.logs());
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.start_process("worker");
    cluster.finished("storm");
    let end = cluster.until("storm", "the end", |_| true);
    assert_eq!(end["failures"], 0, "{end:#}");
    assert!(end["declined"].as_u64().unwrap() > 0 && end["last_declined"].to_string().contains("cramped"), "{end:#}");
    assert_eq!(cluster.outputs("storm"), small::outputs(&alone));
}
