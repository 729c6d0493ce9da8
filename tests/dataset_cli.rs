//! `hardy dataset` as people and programs call it: what it prints, where, and how it exits.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn hardy(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hardy")).args(args).current_dir(folder).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(output: &Output, code: i32, reason: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && message.contains(reason), "{:?}: {message}", output.status);
    assert!(output.stdout.is_empty(), "results only on stdout");
}

fn synth(folder: &Path, args: &[&str]) {
    let all = [&["dataset", "synth", "--out", "photos", "--size", "24"], args].concat();
    let drawn = hardy(folder, &all);
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
}

#[test]
fn photos_are_drawn_split_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    synth(folder, &["--per-class", "8"]);
    let split = json(&hardy(folder, &["dataset", "split", "photos", "--out", "shards", "--json"]));
    // Two pictures of each class in val/, a tenth of the training side held back.
    assert_eq!(split["counts"]["val"]["roses"], 2);
    assert_eq!(split["counts"]["held"]["roses"], 1);
    assert_eq!(split["counts"]["train"]["roses"], 7);
    let verified = json(&hardy(folder, &["dataset", "verify", "shards", "--json"]));
    assert_eq!(verified, split);

    std::fs::write(folder.join("shards/train-00000.tar"), "").unwrap();
    refused(&hardy(folder, &["dataset", "verify", "shards"]), 3, "train-00000.tar");
    std::fs::remove_file(folder.join("shards/train-00000.tar")).unwrap();
    refused(&hardy(folder, &["dataset", "verify", "shards"]), 9, "train-00000.tar does not exist");
}

#[test]
fn settings_reach_the_split() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    synth(folder, &["--per-class", "10", "--val-per-class", "0"]);
    let mut hashes = Vec::new();
    for (out, seed) in [("a", "job.seed=1"), ("b", "job.seed=1"), ("c", "job.seed=2")] {
        let half = "data.val_fraction=0.5";
        let args = ["dataset", "split", "photos", "--out", out, "--json", "--set", half, "--set", seed];
        let split = json(&hardy(folder, &args));
        assert_eq!(split["counts"]["val"]["tulips"], 5);
        hashes.push(split["dataset_sha256"].clone());
    }
    assert!(hashes[0] == hashes[1] && hashes[0] != hashes[2]);
}

#[test]
fn sources_that_are_no_data_set_exit_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (photos, reason) in [
        (&[][..], "no photos found"),
        (&["only/1.jpg", "only/2.jpg"], "only one class found"),
        (&["a/1.jpg", "b/1.jpg"], "2 of 2 photos cannot be used"),
    ] {
        let source = tempfile::tempdir_in(folder).unwrap();
        for photo in photos {
            std::fs::create_dir_all(source.path().join(photo).parent().unwrap()).unwrap();
            std::fs::write(source.path().join(photo), "").unwrap();
        }
        let source = source.path().to_str().unwrap();
        refused(&hardy(folder, &["dataset", "split", source, "--out", "shards"]), 3, reason);
        assert!(!folder.join("shards").exists());
    }
    refused(&hardy(folder, &["dataset", "split", "gone", "--out", "shards"]), 9, "gone does not exist");

    synth(folder, &["--per-class", "8", "--val-per-class", "0"]);
    for number in 1..8 {
        std::fs::remove_file(folder.join(format!("photos/daisy/daisy-{number:05}.jpg"))).unwrap();
    }
    let reason = "class \"daisy\" has 1 usable, distinct photos, and at least 4 are needed";
    refused(&hardy(folder, &["dataset", "split", "photos", "--out", "shards"]), 3, reason);
}

#[test]
fn an_import_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    synth(folder, &["--per-class", "2", "--val-per-class", "0"]);
    let imported = json(&hardy(folder, &["dataset", "import", "photos", "--out", "copy", "--json"]));
    assert_eq!((&imported["photos"], &imported["counts"]["all"]["tulips"]), (&10.into(), &2.into()));
    refused(&hardy(folder, &["dataset", "import", "photos", "--out", "copy"]), 5, "copy is not empty");

    let (file, link, device) = (tar::EntryType::Regular, tar::EntryType::Symlink, tar::EntryType::Block);
    for (kind, name, reason) in [
        (link, "roses/1.jpg", "\"roses/1.jpg\" is a link"),
        (device, "roses/1.jpg", "\"roses/1.jpg\""),
        (file, "../roses/1.jpg", "\"../roses/1.jpg\""),
        (file, "/etc/roses/1.jpg", "\"/etc/roses/1.jpg\""),
    ] {
        let mut tar = tar::Builder::new(std::fs::File::create(folder.join("evil.tar")).unwrap());
        let mut member = tar::Header::new_gnu();
        member.set_entry_type(kind);
        member.set_size(0);
        if kind == link {
            member.set_link_name("/etc/passwd").unwrap();
        }
        // Past the crate's own check of names.
        member.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        member.set_cksum();
        tar.append(&member, std::io::empty()).unwrap();
        tar.finish().unwrap();
        refused(&hardy(folder, &["dataset", "import", "evil.tar", "--out", "new"]), 3, reason);
        assert!(!folder.join("new").exists() && !folder.join("../roses").exists(), "{name}");
    }
}

#[test]
fn an_interrupted_command_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardy"));
    command.args(["dataset", "synth", "--out", "photos", "--per-class", "100000"]).current_dir(folder);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let is_staged = || std::fs::read_dir(folder).unwrap().next().is_some();
    while !is_staged() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!is_staged(), "the folder in the making is gone");
}

#[test]
fn every_command_has_help_with_an_example() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["synth", "fetch", "import", "split", "verify"] {
        let help = hardy(folder.path(), &["dataset", command, "--help"]);
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(help.status.success() && text.contains(&format!("  hardy dataset {command} ")), "{text}");
    }
}
