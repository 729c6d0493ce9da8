//! What a run leaves behind can be used by others.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::scene::{Scene, hardy, report, text};

/// `(attack, epsilon) -> correct` of the trained model.
fn figures(results: &Value, model: &str) -> Vec<(String, String, u64)> {
    let rows = results.as_array().unwrap().iter().filter(|r| r["model"] == model);
    rows.map(|r| (r["attack"].to_string(), r["epsilon"].to_string(), r["correct"].as_u64().unwrap())).collect()
}

#[test]
fn the_kept_pictures_and_the_model_give_the_reported_figures_again() {
    let scene = Scene::new();
    let out = scene.path("out");
    scene.run(&out, 2, &["evaluate.keep_images=true", "baseline.rounds=3"]);
    let settings =
        ["--set", "evaluate.attacks=[\"fgsm\", \"pgd5\"]", "--set", "evaluate.epsilons=[\"2/255\", \"8/255\"]"];
    let (model, images) = (out.join("model"), out.join("images"));
    let mut arguments =
        vec!["--json", "evaluate", "--model", model.to_str().unwrap(), "--data", images.to_str().unwrap()];
    arguments.extend(settings);
    let again = hardy(&arguments);
    assert!(again.status.success(), "{}", text(&again.stderr));
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    let trusted = again["checks"].as_array().unwrap().iter().all(|check| check["passed"] == true);
    assert_eq!(again["headline"]["trusted"], trusted);
    let first = report(&out);
    let clean = |rows: &[(String, String, u64)]| rows[0].clone();
    let (reported, measured) = (figures(&first["results"], "trained"), figures(&again["results"], "trained"));
    assert_eq!(clean(&reported), clean(&measured));
    // Random starts are drawn by the key of an image, which is another one under another name.
    assert_eq!(reported[1..3], measured[1..3], "FGSM has no random start");
}

#[test]
fn predict_takes_files_folders_and_what_is_piped_in() {
    let scene = Scene::new();
    let out = scene.path("out");
    scene.run(&out, 2, &["train.rounds=1"]);
    let photo = scene.photos.join("val/daisy/daisy-00000.jpg");
    let predict = |what: &Path| {
        let mut command = crate::scene::program();
        command.args(["--json", "predict", "--top", "5", "--model"]).arg(out.join("model")).arg(what);
        command.stdin(fs::File::open(&photo).unwrap());
        let ended = command.output().unwrap();
        assert!(ended.status.success(), "{}", text(&ended.stderr));
        serde_json::from_slice::<Value>(&ended.stdout).unwrap()
    };
    let (named, piped, folder) = (predict(&photo), predict(Path::new("-")), predict(&scene.photos.join("val")));
    assert_eq!(named["photos"][0]["predictions"].as_array().unwrap().len(), 5);
    assert_eq!(piped["photos"][0]["predictions"], named["photos"][0]["predictions"]);
    assert_eq!(folder["photos"].as_array().unwrap().len(), 25);
    let trained = figures(&report(&out)["results"], "trained");
    assert_eq!(folder["accuracy"]["correct"].as_u64(), Some(trained[0].2), "as the report has it");
}

#[test]
fn without_photos_flowers_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::scene::program();
    command.arg("run").current_dir(folder.path());
    let short = ["baseline.rounds=1", "train.rounds=1", "evaluate.attacks=[\"fgsm\"]"];
    for setting in crate::scene::SMALL.iter().chain(&short) {
        command.args(["--set", setting]);
    }
    let once = |command: &mut std::process::Command| {
        let ended = command.output().unwrap();
        assert!(ended.status.success(), "{}", text(&ended.stderr));
        text(&ended.stdout)
    };
    let said = once(&mut command);
    assert!(said.contains("n = 125"), "{said}");
    assert!(folder.path().join("hardy-run/report.html").is_file());
    assert_eq!(once(&mut command), said, "the same flowers again");
}

#[test]
fn augment_writes_a_picture_for_every_photo_and_lists_it() {
    let scene = Scene::new();
    let (out, copies) = (scene.path("out"), scene.path("copies"));
    scene.run(&out, 2, &["train.rounds=1"]);
    let photos = scene.photos.to_str().unwrap();
    let model = out.join("model");
    // Of one name, in two folders of one class; and one that is no photo.
    fs::create_dir(scene.photos.join("train/daisy/more")).unwrap();
    let twin = scene.photos.join("train/daisy/more/daisy-00000.jpg");
    fs::copy(scene.photos.join("train/daisy/daisy-00000.jpg"), twin).unwrap();
    fs::write(scene.photos.join("val/daisy/broken.jpg"), "no photo").unwrap();
    let made = hardy(&[
        "augment",
        photos,
        "--model",
        model.to_str().unwrap(),
        "--out",
        copies.to_str().unwrap(),
        "--set",
        "evaluate.static_epsilon=4/255",
    ]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let manifest = fs::read_to_string(copies.join("manifest.jsonl")).unwrap();
    let lines: Vec<Value> = manifest.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let (aside, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line["picture"].is_null());
    assert_eq!(aside.len(), 1);
    assert_eq!(aside[0]["source"], "val/daisy/broken.jpg");
    assert_eq!(lines.len(), 126, "20 photos to train on and 5 to measure of each of 5 classes, and a copy");
    assert!(text(&made.stdout).starts_with("126 adversarial pictures"), "{}", text(&made.stdout));
    assert!(lines.iter().any(|line| line["before"] != line["after"]), "some are broken");
    for line in &lines {
        assert_eq!(line["picture"].as_str().unwrap(), format!("{}.png", line["source"].as_str().unwrap()));
        assert!(line["before"].is_string() && line["after"].is_string() && line["epsilon"].as_f64().unwrap() > 0.0);
        let source = line["source"].as_str().unwrap();
        let picture = image::open(copies.join(line["picture"].as_str().unwrap())).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (32, 32));
        assert!(source.contains(&format!("{}/", line["label"].as_str().unwrap())), "{line}");
        assert!(line["picture"].as_str().unwrap().contains(&format!("/{}/", line["label"].as_str().unwrap())));
        assert_eq!(line["levels"], 4);
    }
}

#[test]
fn a_run_says_what_it_did() {
    let scene = Scene::new();
    let out = scene.path("out");
    let ended = scene.command(&out, 2, &["train.rounds=1"]).output().unwrap();
    let (said, shown) = (text(&ended.stderr), text(&ended.stdout));
    assert!(said.contains("inspect photos: 1 task,"), "{said}");
    assert!(said.contains("train   1: loss"), "{said}");
    assert!(shown.contains("undefended") && shown.contains("report.html"), "{shown}");
    for file in ["report.json", "report.html", "model/model.json", "model/model.safetensors", "model/README.md"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let weights = |folder: &str| std::fs::read(out.join(folder).join("model.safetensors")).unwrap();
    assert_ne!(weights("baseline"), weights("model"), "the undefended model is kept too, and is another one");
    let report = hardy(&["report", out.to_str().unwrap()]);
    assert!(text(&report.stdout).contains("undefended"), "{}", text(&report.stderr));
}

#[test]
fn models_are_compared_on_the_same_photos() {
    let scene = Scene::new();
    let (first, second, out) = (scene.path("robust"), scene.path("second"), scene.path("out"));
    scene.run(&first, 2, &["train.rounds=1"]);
    scene.run(&second, 2, &["train.rounds=1", "baseline.rounds=1", "job.seed=7"]);
    let photos = scene.photos.to_str().unwrap();
    let compare = |model: &str, others: &[&str], out: &Path| {
        let mut arguments = vec!["evaluate", "--model", model, "--data", photos, "--out", out.to_str().unwrap()];
        for other in others {
            arguments.extend(["--beside", other]);
        }
        arguments.extend(["--set", "evaluate.attacks=[\"fgsm\", \"pgd5\"]", "--set", "evaluate.epsilons=[\"8/255\"]"]);
        hardy(&arguments)
    };
    let (model, other) = (first.join("model"), format!("plain={}", second.join("model").display()));
    let model = model.to_str().unwrap();
    let made = compare(model, &[&other], &out);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stdout).lines().any(|line| line.trim_start().starts_with("robust") && line.ends_with("plain")));

    let report = report(&out);
    let (robust, plain) = (figures(&report["results"], "robust"), figures(&report["results"], "plain"));
    assert_eq!((robust.len(), plain.len()), (3, 3));
    let clean = &report["paired"][0];
    assert_eq!(
        (&clean["first"], &clean["second"], &clean["epsilon"]),
        (&"robust".into(), &"plain".into(), &0.0.into())
    );
    let count = |key: &str| clean[key].as_i64().unwrap();
    assert_eq!(count("gained") - count("lost"), plain[0].2 as i64 - robust[0].2 as i64);
    let seen: Vec<_> = report["transfer"].as_array().unwrap().iter().map(|t| (&t["attacked"], &t["seen_by"])).collect();
    assert!(seen.contains(&(&"robust".into(), &"plain".into())) && seen.contains(&(&"plain".into(), &"robust".into())));
    // Alone it has the same figures: what stands beside a model changes nothing.
    let alone = compare(model, &[], &scene.path("alone"));
    assert!(alone.status.success(), "{}", text(&alone.stderr));
    assert_eq!(figures(&crate::scene::report(&scene.path("alone"))["results"], "trained"), robust);

    let traced = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/script/traced.pt");
    for (others, code, said) in [
        (&[model][..], 2, "two models are called robust"),
        (&[traced], 4, "other classes"),
        (&["a b=x"], 2, "model name"),
        (&["plain=nowhere"], 9, "nowhere"),
        (&["a=x", "b=x", "c=x", "d=x", "e=x"], 2, "at most 5"),
    ] {
        let refused = compare(model, others, &scene.path("refused"));
        let message = text(&refused.stderr);
        assert!(refused.status.code() == Some(code) && message.contains(said), "{:?} {message}", refused.status);
    }
}
