//! Bad input: one clear message, the documented exit code, nothing half-done.

use std::fs;
use std::path::Path;

use crate::scene::{Scene, hardy, text};

/// Runs and returns exit code and message.
fn refused(scene: &Scene, data: &Path, more: &[&str]) -> (Option<i32>, String) {
    let out = scene.path("refused");
    let _ = fs::remove_dir_all(&out);
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
        ("evaluate.attacks=[\"fsgm\"]", "evaluate.attacks = [\"fsgm\"] in --set: there is no attack 'fsgm'"),
        ("evaluate.attacks=[\"n-fgsm\"]", "leaves the epsilon ball"),
        ("model.device=gpu", "model.device = \"gpu\" in --set: no device; allowed are auto, cpu"),
        ("model.bf16=true", "model.bf16 = true needs a CUDA device"),
    ] {
        let (code, said) = refused(&scene, &scene.photos, &[setting]);
        assert!(!scene.path("refused").exists(), "{setting}: refused before anything was made");
        assert_eq!(code, Some(2), "{setting}: {said}");
        assert!(said.contains(expected), "{setting}: {said}");
    }
}

/// By the small program and by the one that computes.
#[test]
fn the_last_error_is_a_line_of_a_json_log() {
    for words in ["config show --config nowhere.toml", "predict --config nowhere.toml --model imagenet photo.jpg"] {
        let mut command = crate::scene::program();
        let ended = command.args(words.split(' ')).env("HARDY_LOG_FORMAT", "json").output().unwrap();
        assert!(!ended.status.success());
        let said = text(&ended.stderr);
        let line: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(line["level"], "ERROR", "{said}");
        assert!(line["message"].as_str().unwrap().contains("nowhere"), "{said}");
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
    assert_eq!(code, Some(9), "{said}");
    assert!(said.contains("nowhere"), "{said}");
}

/// Photos that stopped a job can be mended, and the same command goes on.
#[test]
fn a_refusal_is_not_remembered() {
    let scene = Scene::new();
    let out = scene.path("out");
    let bad: Vec<_> = (0..40).map(|i| scene.photos.join(format!("train/daisy/bad{i}.jpg"))).collect();
    for file in &bad {
        fs::write(file, "no photo").unwrap();
    }
    let once = |more: &[&str]| scene.command(&out, 2, more).output().unwrap();
    let refused = once(&["train.rounds=1"]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("data.quarantine_limit"), "{}", text(&refused.stderr));
    for file in &bad {
        fs::remove_file(file).unwrap();
    }
    let mended = once(&["train.rounds=1"]);
    assert!(mended.status.success(), "{}", text(&mended.stderr));
    fs::write(&bad[0], "one more").unwrap();
    let other = once(&["train.rounds=1"]);
    assert_eq!(other.status.code(), Some(2), "other photos are another run: {}", text(&other.stderr));
}

#[test]
fn a_set_with_nothing_to_measure_is_refused_before_anything_is_trained() {
    let scene = Scene::new();
    let all = scene.path("all");
    fs::rename(scene.photos.join("train"), &all).unwrap();
    let (code, said) = refused(&scene, &all, &["data.val_fraction=0", "data.test_fraction=0"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("set data.val_fraction or data.test_fraction"), "{said}");
    assert!(!said.contains("baseline"), "{said}");
}

/// What a run writes must not become photos of the next one.
#[test]
fn an_output_folder_among_the_photos_is_refused() {
    let scene = Scene::new();
    for out in ["photos", "photos/run/deep", "photos/../photos/run", "photos/new/../run"] {
        let refused = scene.command(&scene.path(out), 1, &[]).output().unwrap();
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{out}: {said}");
        assert!(said.contains("lies in the folder of photos"), "{out}: {said}");
    }
    let (photos, models) = (scene.photos.to_str().unwrap(), scene.path("models"));
    for (store, out) in [("photos/models", "new"), ("models", "photos/new")] {
        let [store, out] = [store, out].map(|place| scene.path(place).to_str().unwrap().to_string());
        let refused = hardy(&["nightly", "run", "--data", photos, "--store", &store, "--out", &out]);
        let said = text(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains("lies in the folder of photos"), "{said}");
    }
    assert!(!models.exists());
    let left: Vec<_> = fs::read_dir(&scene.photos).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing was made: {left:?}");
}

/// A list says where photos are, not what they show.
#[test]
fn photos_of_a_list_are_read_again() {
    let scene = Scene::new();
    let mut lines = String::new();
    for side in ["train", "val"] {
        for class in fs::read_dir(scene.photos.join(side)).unwrap() {
            let class = class.unwrap().file_name().into_string().unwrap();
            for photo in fs::read_dir(scene.photos.join(side).join(&class)).unwrap() {
                let photo = photo.unwrap().file_name().into_string().unwrap();
                lines += &format!("photos/{side}/{class}/{photo}\t{class}\t{side}\n");
            }
        }
    }
    let list = scene.path("list.tsv");
    fs::write(&list, lines).unwrap();
    let photo = scene.photos.join("train/daisy/daisy-00000.jpg");
    let sound = fs::read(&photo).unwrap();
    fs::write(&photo, "no photo").unwrap();
    let once =
        || scene.on(&list, &scene.path("out"), 2, &["train.rounds=1", "data.quarantine_limit=0"]).output().unwrap();
    let refused = once();
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    fs::write(&photo, sound).unwrap();
    let mended = once();
    assert!(mended.status.success(), "{}", text(&mended.stderr));
}

/// An archive is known by what it is, not by where it was unpacked.
#[test]
fn another_archive_is_another_run() {
    let scene = Scene::new();
    let archive = |name: &str, photos: &Path| {
        let file = scene.path(name);
        let mut tar = std::process::Command::new("tar");
        let done = tar.arg("-czf").arg(&file).arg("-C").arg(photos).arg(".").status().unwrap();
        assert!(done.success());
        file
    };
    let first = archive("first.tgz", &scene.photos);
    fs::remove_file(scene.photos.join("train/roses/roses-00000.jpg")).unwrap();
    let second = archive("second.tgz", &scene.photos);
    let out = scene.path("out");
    let run = |data: &Path| scene.on(data, &out, 2, &["train.rounds=1"]).output().unwrap();
    let ended = run(&first);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let again = run(&first);
    assert!(again.status.success(), "{}", text(&again.stderr));
    let other = run(&second);
    assert_eq!(other.status.code(), Some(2), "{}", text(&other.stderr));
    assert!(text(&other.stderr).contains("holds another run"), "{}", text(&other.stderr));
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
fn files_that_are_no_weights_or_others_are_refused() {
    let scene = Scene::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/model");
    for (file, architecture, expected) in [
        ("malicious.pkl", "hardy_small", "malicious.pkl"),
        ("malicious_zip.pth", "resnet18", "system"),
        ("malicious_legacy.pth", "resnet18", "system"),
        ("zip.pth", "resnet18", "zip.pth"),
    ] {
        let weights = format!("model.weights={}", fixtures.join(file).display());
        let (code, said) =
            refused(&scene, &scene.photos, &[&format!("model.architecture={architecture}"), weights.as_str()]);
        assert_eq!(code, Some(4), "{file}: {said}");
        assert!(said.contains(expected), "{file}: {said}");
    }
}

#[test]
fn photos_of_all_kinds_are_used_or_set_aside_with_a_reason() {
    let scene = Scene::new();
    let train = scene.photos.join("train");
    let class = train.join("tulips");
    assert!(class.is_dir(), "{:?}", fs::read_dir(&scene.photos).unwrap().collect::<Vec<_>>());
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos");
    let used = ["cmyk.jpg", "grey.jpg", "alpha.png", "grey16.png", "single.png", "turned.jpg", "rgb.webp"];
    for name in used {
        fs::copy(samples.join(name), class.join(name)).unwrap();
    }
    for (odd, photo) in [("a b.png", "palette.png"), ("ü 花.png", "rgb.png"), ("two\nlines.png", "grey.png")] {
        fs::copy(samples.join(photo), class.join(odd)).unwrap();
    }
    let whole = fs::read(samples.join("rgb.jpg")).unwrap();
    fs::write(class.join("truncated.jpg"), &whole[..whole.len() / 2]).unwrap();
    fs::write(class.join("empty.jpg"), "").unwrap();
    fs::write(class.join("text.jpg"), "this is no photo").unwrap();
    let mut huge = whole;
    let frame = huge.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    huge[frame + 5..frame + 9].copy_from_slice(&[0x75, 0x30, 0x75, 0x30]);
    fs::write(class.join("huge.jpg"), huge).unwrap();

    let out = scene.path("out");
    scene.run(&out, 2, &["baseline.rounds=1", "train.rounds=1", "data.quarantine_limit=0.2"]);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    let aside = report["quarantine"]["list"].as_array().unwrap();
    for (file, reason) in [
        ("truncated.jpg", "cannot be read"),
        ("empty.jpg", "empty"),
        ("text.jpg", "not a"),
        ("huge.jpg", "30000x30000 pixels"),
    ] {
        let found = aside.iter().find(|q| q["path"].as_str().unwrap().ends_with(file));
        let found = found.unwrap_or_else(|| panic!("{file} is not among {aside:?}"));
        assert!(found["reason"].as_str().unwrap().contains(reason), "{found}");
    }
    assert_eq!(aside.len(), 4, "all others can be used: {aside:?}");
    let counts = report["splits"].as_array().unwrap();
    let tulips: u64 = counts
        .iter()
        .filter(|s| s["split"] == "train" || s["split"] == "held")
        .map(|s| s["per_class"][4].as_u64().unwrap())
        .sum();
    assert_eq!(tulips, 20 + used.len() as u64 + 3, "those with odd names, too");
}

#[test]
fn a_class_of_one_photo_and_a_loop_of_links_are_refused() {
    let scene = Scene::new();
    let few = scene.path("few");
    for class in ["daisy", "roses"] {
        fs::create_dir_all(few.join(class)).unwrap();
    }
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos");
    fs::copy(samples.join("rgb.jpg"), few.join("daisy/one.jpg")).unwrap();
    for name in ["grey.jpg", "palette.png", "alpha.png", "cmyk.jpg", "grey16.png"] {
        fs::copy(samples.join(name), few.join("roses").join(name)).unwrap();
    }
    let (code, said) = refused(&scene, &few, &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("daisy"), "{said}");

    std::os::unix::fs::symlink("..", scene.photos.join("train/tulips/up")).unwrap();
    let (code, said) = refused(&scene, &scene.photos, &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("tulips/up"), "{said}");
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
    // One that ends before it has packed its photos leaves nothing to be refused for.
    while !is_begun(&out) {
        assert!(first.try_wait().unwrap().is_none(), "the first run ended");
        std::thread::yield_now();
    }
    first.kill().unwrap();
    first.wait().unwrap();

    let other = scene.command(&out, 1, &["train.rounds=3"]).output().unwrap();
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("holds another run"), "{}", text(&other.stderr));
}

/// Whether the job has brought anything that is worth keeping: photos that were only looked at are not.
fn is_begun(out: &Path) -> bool {
    let tasks = fs::read_dir(out.join(".hardy/jobs")).into_iter().flatten().flatten();
    let tasks = tasks.flat_map(|job| fs::read_dir(job.path().join("attempts")).into_iter().flatten().flatten());
    tasks.map(|task| task.file_name()).any(|task| task.to_string_lossy().starts_with("baseline-"))
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
