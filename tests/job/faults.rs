//! Kills and signals: nothing is lost, and hardly anything is done twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};

use crate::scene::{Scene, attempts, outputs, report, text};

/// Waits until at least `count` tasks have left something, or the process has ended.
fn wait_for_attempts(child: &mut Child, out: &Path, count: usize) -> bool {
    wait_until(child, || attempts_so_far(out).len() >= count)
}

/// Waits until `there`, or the process has ended.
fn wait_until(child: &mut Child, there: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(120) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if there() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the job came to a standstill");
}

/// Those of a job that may not have begun.
fn attempts_so_far(out: &Path) -> BTreeMap<String, usize> {
    let known = out.join(".hardy/jobs").exists()
        && std::fs::read_dir(out.join(".hardy/jobs"))
            .unwrap()
            .next()
            .is_some_and(|job| job.unwrap().path().join("attempts").exists());
    if known { attempts(out) } else { BTreeMap::new() }
}

#[test]
fn killed_at_random_moments_it_ends_with_the_same_bytes() {
    let scene = Scene::new();
    let (calm, killed) = (scene.path("calm"), scene.path("killed"));
    scene.run(&calm, 2, &[]);
    let expected = outputs(&calm);
    let tasks = attempts(&calm).len();

    let seed: u64 = rand::rng().random();
    println!("seed of the kills: {seed}");
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut kills = 0;
    for _ in 0..4 {
        let mut child = scene.start(&killed, 2);
        if wait_for_attempts(&mut child, &killed, random.random_range(1..tasks)) {
            kills += 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    scene.run(&killed, 2, &[]);
    assert_eq!(outputs(&killed), expected);
    assert!(kills > 0, "no kill met the job alive");
    let redone: usize = attempts(&killed).values().map(|count| count - 1).sum();
    assert!(redone <= 4 * 2, "{redone} tasks were done again after {kills} kills with 2 workers each");
}

#[test]
fn an_interrupt_ends_it_cleanly_and_the_same_command_goes_on() {
    let scene = Scene::new();
    let out = scene.path("out");
    let mut child = scene.start(&out, 2);
    assert!(wait_for_attempts(&mut child, &out, 5));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("the same command goes on"), "{}", text(&ended.stderr));
    assert!(!out.join("report.json").exists());
    scene.run(&out, 2, &[]);
    assert!(out.join("report.json").exists());
}

/// The velocity of the outer step is part of what goes from one round to the next.
#[test]
fn outer_steps_go_on_where_they_were() {
    let scene = Scene::new();
    let (calm, cut, plain) = (scene.path("calm"), scene.path("cut"), scene.path("plain"));
    let rounds = ["baseline.rounds=1", "train.rounds=3", "train.replicas=2", "adversary.freshness=step"];
    let nesterov = [&rounds[..], &["train.outer=nesterov"]].concat();
    scene.run(&calm, 2, &nesterov);
    let merges = outputs(&calm).keys().filter(|name| name.ends_with("-merge/outer")).count();
    assert_eq!(merges, 4, "one for each round: {:?}", outputs(&calm).keys());
    let mut child = scene.command(&cut, 2, &nesterov).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let merged = |round: u32| {
        let merge = format!("train-r{round:04}-0-merge");
        attempts_so_far(&cut).contains_key(&merge)
    };
    wait_until(&mut child, || merged(0));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(merged(0) && !merged(2), "killed between two outer steps");
    scene.run(&cut, 2, &nesterov);
    assert_eq!(outputs(&cut), outputs(&calm));
    scene.run(&plain, 2, &rounds);
    assert_ne!(report(&plain)["provenance"]["checkpoint_sha256"], report(&calm)["provenance"]["checkpoint_sha256"]);
}

/// What a killed run left unfinished is gone once the same command has run.
#[test]
fn nothing_unfinished_stays_behind() {
    let scene = Scene::new();
    let out = scene.path("out");
    let home = out.join(".hardy");
    let left = [home.join(".partial/.tmpabcdef"), home.join(".hardy-abcdef/photo.jpg"), home.join("hardy-cache-abc/x")];
    for file in &left {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "half").unwrap();
    }
    scene.run(&out, 2, &["baseline.rounds=1", "train.rounds=1"]);
    assert!(left.iter().all(|file| !file.exists()));
}

#[test]
fn a_full_disk_is_named_and_nothing_is_lost() {
    let scene = Scene::new();
    let (disk, kept, calm) = (scene.path("disk"), scene.path("kept"), scene.path("calm"));
    std::fs::create_dir(&disk).unwrap();
    let command = scene.command(&disk.join("out"), 1, &[]);
    let arguments: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|a| format!("'{}'", a.to_str().unwrap()))
        .collect();
    // A disk of its own, in a mount namespace that ends with the commands.
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs '{0}' || exit
        {1}
        echo exit code $? >&2
        find '{0}' -name '*.json' -size 0 | grep . && exit 99
        mount -o remount,size=200m '{0}' && {1} && cp -r '{0}/out' '{2}'",
        disk.display(),
        arguments.join(" "),
        kept.display(),
    );
    let ended =
        Command::new("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).output().unwrap();
    let said = text(&ended.stderr);
    assert!(ended.status.success(), "{}: {said}", ended.status);
    let (full, _) = said.split_once("exit code 5\n").unwrap_or_else(|| panic!("another exit code: {said}"));
    assert!(full.contains("No space left on device"), "{said}");
    assert!(kept.join("report.json").exists());
    scene.run(&calm, 1, &[]);
    assert_eq!(outputs(&kept), outputs(&calm));
}
