//! Bad input: one clear message, the documented exit code, nothing half-done.

use std::fs;
use std::path::Path;

use crate::scene::{Scene, hardy, text};

/// Runs and returns exit code and message.
fn refused(scene: &Scene, data: &Path, more: &[&str]) -> (Option<i32>, String) {
    let out = scene.path("refused");
    let mut command = crate::scene::program();
    command.arg("run").arg("--data").arg(data).arg("--out").arg(&out);
    let small = ["model.architecture=hardy_small", "model.weights=none", "model.input_size=32"];
    for setting in small.iter().chain(more) {
        command.args(["--set", setting]);
    }
    let ended = command.output().unwrap();
    assert!(!out.join("report.json").exists());
    let said = text(&ended.stderr);
    assert!(!said.contains("panicked"), "{said}");
    (ended.status.code(), said)
}

#[test]
fn settings_are_refused_with_key_value_range_and_source() {
    let scene = Scene::new();
    for (setting, expected) in [
        ("train.epochs=3", "unknown key 'train.epochs' in --set"),
        ("train.batch=0", "train.batch = 0 in --set: out of range; allowed is 1 to 4096"),
        ("train.batch=many", "train.batch = \"many\" in --set"),
        ("adversary.epsilon=-0.1", "adversary.epsilon = \"-0.1\" in --set"),
        ("adversary.epsilon=4", "did you mean 4/255?"),
        ("evaluate.attacks=[\"fsgm\"]", "fsgm"),
    ] {
        let (code, said) = refused(&scene, &scene.photos, &[setting]);
        assert_eq!(code, Some(2), "{setting}: {said}");
        assert!(said.contains(expected), "{setting}: {said}");
    }
}

#[test]
fn folders_that_hold_no_data_set_are_refused() {
    let scene = Scene::new();
    let empty = scene.path("empty");
    fs::create_dir(&empty).unwrap();
    let (code, said) = refused(&scene, &empty, &[]);
    assert_eq!(code, Some(3), "{said}");

    let one = scene.path("one");
    fs::create_dir_all(one.join("daisy")).unwrap();
    fs::write(one.join("daisy/a.jpg"), "no photo").unwrap();
    let (code, said) = refused(&scene, &one, &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("daisy"), "{said}");

    let (code, said) = refused(&scene, &scene.path("nowhere"), &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let scene = Scene::new();
    let truncated = scene.path("truncated.safetensors");
    fs::write(&truncated, [200, 0, 0, 0, 0, 0, 0, 0, b'{']).unwrap();
    let (code, said) = refused(&scene, &scene.photos, &[&format!("model.weights={}", truncated.display())]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("truncated.safetensors"), "{said}");
}

#[test]
fn a_folder_in_use_or_of_another_run_is_refused() {
    let scene = Scene::new();
    let out = scene.path("out");
    let mut first = scene.start(&out, 1);
    while !out.join(".hardy/lock").exists() {
        std::thread::yield_now();
    }
    // The lock is taken right after its file is made; until then the second run is the first one.
    let second = loop {
        let second = scene.command(&out, 1, &[]).output().unwrap();
        if second.status.code() != Some(0) || first.try_wait().unwrap().is_some() {
            break second;
        }
    };
    assert_eq!(second.status.code(), Some(2), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("another run is using"), "{}", text(&second.stderr));
    first.kill().unwrap();
    first.wait().unwrap();

    let other = scene.command(&out, 1, &["train.rounds=3"]).output().unwrap();
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("holds another run"), "{}", text(&other.stderr));
}

#[test]
fn an_output_folder_that_cannot_be_written_is_refused() {
    let scene = Scene::new();
    let file = scene.path("file");
    fs::write(&file, "").unwrap();
    let ended = scene.command(&file.join("out"), 1, &[]).output().unwrap();
    assert_eq!(ended.status.code(), Some(5), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("file/out"), "{}", text(&ended.stderr));
}

#[test]
fn help_has_examples_and_exit_codes() {
    for command in ["run", "evaluate", "augment", "report"] {
        let help = hardy(&[command, "--help"]);
        assert!(text(&help.stdout).contains("Example"), "{command}");
    }
    assert!(text(&hardy(&["--help"]).stdout).contains("Exit codes"));
}
