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
