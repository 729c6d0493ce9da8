//! Nights as people run them: real photos, real processes, and what must be refused.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use image::RgbImage;
use serde_json::{Value, json};

use crate::scene::{SMALL, Scene, program, text};

struct Nights {
    scene: Scene,
    store: PathBuf,
}

impl Nights {
    fn new() -> Self {
        let scene = Scene::new();
        let store = scene.path("store");
        Self { scene, store }
    }

    fn command(&self, night: &str, more: &[&str]) -> Command {
        self.command_on(self.scene.photos.to_str().unwrap(), night, more)
    }

    /// The command of a night with other photos.
    fn command_on(&self, photos: &str, night: &str, more: &[&str]) -> Command {
        let mut command = program();
        command.args(["--json", "nightly", "run", "--night", night, "--workers", "2"]);
        command.args(["--data", photos]).arg("--store").arg(&self.store);
        let ours =
            ["job.name=flowers", "gate.epsilon=2/255", "nightly.rounds=1", "gate.checks=false", "gate.class_floor=0"];
        let loose = ["gate.clean_drop=100", "gate.robust_drop=100", "gate.class_drop=100"];
        for setting in SMALL.iter().chain(&ours).chain(&loose).copied().chain(more.iter().copied()) {
            command.args(["--set", setting]);
        }
        command
    }

    fn run(&self, night: &str, more: &[&str]) -> (Option<i32>, Value, String) {
        Self::end(self.command(night, more))
    }

    fn end(mut command: Command) -> (Option<i32>, Value, String) {
        let ended = command.output().unwrap();
        let said = text(&ended.stderr);
        assert!(!said.contains("panicked"), "{said}");
        (ended.status.code(), serde_json::from_slice(&ended.stdout).unwrap_or_default(), said)
    }

    fn models(&self, arguments: &[&str]) -> Output {
        program().arg("--json").arg("models").args(arguments).arg("--store").arg(&self.store).output().unwrap()
    }

    fn current(&self) -> Value {
        let shown: Value = serde_json::from_slice(&self.models(&["show", "flowers"]).stdout).unwrap();
        shown["version"]["id"].clone()
    }

    /// Puts a photo of the measured side there, turned: no copy of one that is there already.
    fn put_photo(&self, class: &str, name: &str, turn: fn(&RgbImage) -> RgbImage) {
        let some = first_file(&self.scene.photos.join("val").join(class));
        let picture = image::open(some).unwrap().to_rgb8();
        turn(&picture).save(self.scene.photos.join("train").join(class).join(name)).unwrap();
    }

    /// The tasks of a night that left something behind.
    fn tasks(&self, night: &str) -> Vec<String> {
        let attempts = std::fs::read_dir(self.store.join(format!("jobs/flowers-{night}/attempts"))).unwrap();
        attempts.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn report(&self, night: &str) -> Value {
        serde_json::from_slice(&file(&self.store, &format!("jobs/flowers-{night}/result/report.json"))).unwrap()
    }
}

fn promote(nights: &Nights, version: &str, more: &[&str]) -> (Option<i32>, String) {
    let mut arguments = vec!["promote", "flowers", version];
    arguments.extend(more);
    let ended = nights.models(&arguments);
    (ended.status.code(), text(&ended.stderr))
}

/// Photos that are trained on or held.
fn trained_on(report: &Value) -> u64 {
    let splits = report["splits"].as_array().unwrap().iter();
    splits.filter(|s| s["split"] == "train" || s["split"] == "held").map(|s| s["n"].as_u64().unwrap()).sum()
}

/// An S3 server that lets nobody in.
fn forbidding() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
            let head = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // Whoever has hung up knows enough.
            let _ = stream.get_mut().write_all((head + body).as_bytes());
        }
    });
    address
}

fn first_file(folder: &Path) -> PathBuf {
    std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
}

fn file(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

#[test]
fn nights_retrain_skip_fail_and_are_refused_as_they_must() {
    let nights = Nights::new();
    let (code, first, said) = nights.run("n1", &[]);
    assert_eq!((code, &first["outcome"], &first["new"]), (Some(0), &"promoted".into(), &125.into()), "{said}");

    // The same night again is over; the next one finds nothing new, also where a photo was written again as it was.
    assert_eq!(nights.run("n1", &[]).1, first);
    let (code, other, said) = nights.run("n1", &["train.rounds=1"]);
    assert!(code == Some(2) && other.is_null() && said.contains("begun with other settings"), "{said}");
    let rose = File::options().write(true).open(first_file(&nights.scene.photos.join("train/roses"))).unwrap();
    rose.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    // Whoever is to be told of it hangs: the night does not care, and the address is kept to itself.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut second = nights.command("n2", &["webhook.timeout=1"]);
    second.env("HARDY_WEBHOOK__URL", format!("http://{}/s3cret", deaf.local_addr().unwrap()));
    let (code, skipped, said) = Nights::end(second);
    assert_eq!((code, &skipped["outcome"], &skipped["new"]), (Some(0), &"skipped".into(), &0.into()));
    assert!(said.contains("was not told: no answer within 1 s") && !said.contains("s3cret"), "{said}");
    assert_eq!((&skipped["replaced"], nights.tasks("n2")), (&0.into(), vec!["inspect-00000".to_string()]));

    // A photo comes: it alone is decoded, and training goes on from the current model.
    nights.put_photo("roses", "new-1.bmp", image::imageops::rotate90);
    let (code, third, said) = nights.run("n3", &["gate.better=true", "gate.alpha=0"]);
    assert_eq!((code, &third["outcome"], &third["new"]), (Some(8), &"rejected".into(), &1.into()), "{said}");
    assert!(third["reason"].as_str().unwrap().contains("significantly better"), "{third}");
    assert_eq!(nights.current(), "n1");
    let names = nights.tasks("n3");
    assert_eq!(names.iter().filter(|n| n.starts_with("shard-")).count(), 1, "{names:?}");
    assert!(!names.iter().any(|n| n.starts_with("baseline")), "{names:?}");
    let report = nights.report("n3");
    assert_eq!((&report["night"]["parent"], &report["night"]["gate"]["passed"]), (&"n1".into(), &false.into()));

    let seen = &report["night"]["drift"]["embedding"];
    assert!(seen["distance"].as_f64().is_some_and(|d| d.is_finite()), "{seen}");
    assert_eq!((seen["new"].as_u64(), seen["known"].as_u64()), (Some(1), Some(trained_on(&nights.report("n1")))));

    // What was rejected needs force and a reason.
    let strict = ["--set", "gate.better=true", "--set", "gate.alpha=0", "--set", "gate.epsilon=2/255"];
    let (code, said) = promote(&nights, "n3", &strict);
    assert!(code == Some(8) && said.contains("--force"), "{said}");
    assert_eq!(promote(&nights, "n3", &["--force"]).0, Some(2), "no reason");
    assert_eq!(promote(&nights, "nothing", &[]).0, Some(9));
    let mut reasoned = strict.to_vec();
    reasoned.extend(["--force", "--reason", "we know better"]);
    assert_eq!(promote(&nights, "n3", &reasoned).0, Some(0));
    let shown = text(&nights.models(&["show", "flowers"]).stdout);
    assert!(shown.contains("we know better") && nights.current() == "n3", "{shown}");
    assert_eq!(nights.models(&["rollback", "flowers"]).status.code(), Some(0));
    assert_eq!(nights.current(), "n1");

    // Photos that are suddenly broken fail the night; the current model stays.
    for i in 0..6 {
        std::fs::write(nights.scene.photos.join(format!("train/tulips/bad-{i}.jpg")), "no photo").unwrap();
    }
    let (code, _, said) = nights.run("n4", &[]);
    assert!(code == Some(3) && said.contains("6 of 6 new photos cannot be used"), "{said}");
    std::fs::create_dir(nights.scene.photos.join("train/orchids")).unwrap();
    (0..6).for_each(|i| std::fs::remove_file(nights.scene.photos.join(format!("train/tulips/bad-{i}.jpg"))).unwrap());
    nights.put_photo("roses", "../orchids/one.png", image::imageops::rotate90);
    let (code, _, said) = nights.run("n5", &[]);
    assert!(code == Some(3) && said.contains("orchids"), "{said}");
    assert_eq!(nights.current(), "n1");

    let out = nights.scene.path("exported");
    assert!(nights.models(&["export", "flowers", "--out", out.to_str().unwrap()]).status.success());
    assert_eq!(file(&out, "model.safetensors"), file(&nights.store, "models/flowers/versions/n1/model.safetensors"));
    let page = nights.scene.path("history.html");
    let drawn = program()
        .args(["report", "--history", "--out", page.to_str().unwrap(), "--store"])
        .arg(&nights.store)
        .args(["--set", "gate.epsilon=2/255"])
        .output()
        .unwrap();
    assert!(drawn.status.success(), "{}", text(&drawn.stderr));
    let page = std::fs::read_to_string(page).unwrap();
    for what in ["promoted", "rejected", "failed", "skipped", "we know better", "rolled-back"] {
        assert!(page.contains(what), "{what}");
    }

    // Another picture takes the place of one, as many bytes long: it is trained on instead.
    std::fs::remove_dir_all(nights.scene.photos.join("train/orchids")).unwrap();
    nights.put_photo("roses", "new-1.bmp", image::imageops::rotate180);
    let (code, sixth, said) = nights.run("n6", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(["new", "replaced", "removed"].map(|what| sixth[what].as_u64()), [Some(0), Some(1), Some(0)]);
    let (before, after) = (report, nights.report("n6"));
    assert_eq!(after["night"]["replaced"], json!(["train/roses/new-1.bmp"]));
    assert_ne!(after["provenance"]["dataset_sha256"], before["provenance"]["dataset_sha256"]);
    assert_eq!(after["splits"], before["splits"], "no photo more, no photo less");

    // The same photos from an archive, and the same command again.
    let archive = nights.scene.path("photos.tar");
    let mut tar = tar::Builder::new(File::create(&archive).unwrap());
    tar.append_dir_all("photos", &nights.scene.photos).unwrap();
    tar.finish().unwrap();
    let seventh = || Nights::end(nights.command_on(archive.to_str().unwrap(), "n7", &[]));
    let (code, ended, said) = seventh();
    assert_eq!((code, &ended["outcome"], &ended["replaced"]), (Some(0), &"skipped".into(), &0.into()), "{said}");
    assert_eq!(seventh().1, ended);
}

#[test]
fn a_second_night_on_the_same_folder_is_told_to_wait() {
    let nights = Nights::new();
    std::fs::create_dir(&nights.store).unwrap();
    let lock = File::create(nights.store.join("lock")).unwrap();
    lock.lock().unwrap();
    let (code, _, said) = nights.run("n1", &[]);
    assert!(code == Some(7) && said.contains("another night is going on"), "{code:?}: {said}");
}

#[test]
fn a_night_whose_photos_are_out_of_reach_fails_and_says_so() {
    let nights = Nights::new();
    let mut command = nights.command_on("s3://nobody/photos", "n1", &[]);
    command.env("HARDY_STORE__ENDPOINT", format!("http://{}", forbidding()));
    command.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "nothing");
    let (code, _, said) = Nights::end(command);
    assert!(code == Some(3) && said.contains("s3://nobody/photos cannot be read"), "{code:?}: {said}");
    assert!(said.contains("AccessDenied"), "{said}");
    let entry: Value = serde_json::from_slice(&file(&nights.store, "models/flowers/history/00000000.json")).unwrap();
    assert_eq!((&entry["what"], &entry["night"]), (&"failed".into(), &"n1".into()));
    assert!(!nights.store.join("models/flowers/night.json").exists(), "the lease was given back");
}

#[test]
fn a_poisoned_night_is_played_and_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("nights");
    let mut command = program();
    command.args(["--json", "nightly", "simulate", "--nights", "3", "--workers", "2", "--out"]).arg(&out);
    // What is trained is what two weeks train; less is measured, and only accuracies decide.
    for setting in [
        "evaluate.epsilons=[\"4/255\"]",
        "evaluate.examples=0",
        "evaluate.probes=0",
        "guard.images=16",
        "gate.checks=false",
    ] {
        command.args(["--set", setting]);
    }
    let (code, told, said) = Nights::end(command);
    assert_eq!(code, Some(0), "{said}\n{told:#}");
    let nights = told["nights"].as_array().unwrap();
    let ends: Vec<_> = nights.iter().map(|n| (n["event"].as_str().unwrap(), n["outcome"].as_str().unwrap())).collect();
    assert_eq!(ends, [("first", "promoted"), ("no-new-photos", "skipped"), ("labels-shuffled", "rejected")]);
    let poisoned = &nights[2];
    assert!(poisoned["reason"].as_str().unwrap().contains("accuracy has not fallen"), "{poisoned}");
    assert_eq!((&poisoned["current"], &poisoned["new"]), (&"night-01".into(), &500.into()));
    let page = std::fs::read_to_string(out.join("history.html")).unwrap();
    assert!(page.contains("Against version night-01"), "what the gate said is on the page");
}
