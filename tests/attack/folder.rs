//! A folder: the same queue and shards as everything else, and counts that add up.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scene::{CLASSES, Scene, distance, files, pixels, refused, text};

const SMALL: &[&str] =
    &["--set", "attack.batch=4", "--set", "data.shard_images=9", "--set", "data.quarantine_limit=0.5"];

fn record(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_photo_is_attacked_counted_and_written() {
    let scene = Scene::new();
    let photos = scene.photos(6);
    // Two that the model is wrong about, one that is no photo, and two of one stem.
    scene.picture("photos/bluish/wrong.png", 0, 901);
    scene.picture("photos/reddish/wrong.png", 1, 902);
    std::fs::write(photos.join("reddish/broken.jpg"), "no photo").unwrap();
    let twin = scene.picture("photos/greenish/twin.png", 1, 903);
    image::open(&twin).unwrap().save(photos.join("greenish/twin.bmp")).unwrap();

    let summary = scene.attacked(&photos, "out", &[SMALL, &["--epsilon", "1/255,16/255"]].concat());
    assert_eq!((&summary["n"], &summary["misclassified"]), (&22.into(), &2.into()), "{summary}");
    assert_eq!(summary["unusable"].as_array().unwrap().len(), 1);
    let out = scene.path("out");
    let mut broken = [0, 0];
    let (mut classes, mut seen) = (BTreeMap::<String, [u64; 3]>::new(), 0);
    for name in files(&out).iter().filter(|name| name.ends_with(".json") && *name != "attack.json") {
        let record = record(&out.join(name));
        seen += 1;
        assert_eq!(record["labelled"], "folder");
        let class = classes.entry(record["label"]["name"].as_str().unwrap().into()).or_default();
        class[0] += 1;
        for (i, finding) in record["findings"].as_array().unwrap().iter().enumerate() {
            let saved = &finding["saved"];
            broken[i] += u64::from(saved["broken"] == true);
            class[i + 1] += u64::from(saved["broken"] == true);
            let folder = out.join(name).parent().unwrap().to_path_buf();
            let picture = pixels(&folder.join(saved["picture"].as_str().unwrap()));
            assert!(pixels(&folder.join(saved["comparison"].as_str().unwrap())).width() > 300);
            let original = pixels(&photos.join(record["image"].as_str().unwrap()));
            assert!(u64::from(distance(&picture, &original)) <= saved["ball"].as_u64().unwrap());
        }
    }
    assert_eq!(seen, 22);
    for (budget, broken) in summary["budgets"].as_array().unwrap().iter().zip(broken) {
        assert_eq!((&budget["attacked"], &budget["broken"]), (&20.into(), &broken.into()));
        let left = (20 - broken) as f64 / 22.0;
        assert!((budget["accuracy"][0].as_f64().unwrap() - left).abs() < 1e-12);
        assert!(budget["accuracy"][1].as_f64().unwrap() <= left && left <= budget["accuracy"][2].as_f64().unwrap());
    }
    assert!(broken[1] > broken[0] && broken[1] > 10, "{broken:?}");
    for line in summary["classes"].as_array().unwrap() {
        let [n, first, second] = classes[line["class"].as_str().unwrap()];
        assert_eq!((&line["n"], &line["broken"]), (&n.into(), &serde_json::json!([first, second])));
    }
    let twins: Vec<String> = files(&out.join("greenish")).into_iter().filter(|name| name.ends_with("json")).collect();
    assert_eq!(twins[twins.len() - 2..], ["twin.bmp.json", "twin.png.json"]);

    let told = scene.attack(&photos, "out", &[SMALL, &["--epsilon", "1/255,16/255"]].concat()).output().unwrap();
    let told = text(&told.stdout);
    for part in ["22 photos, 2 misclassified already", "1 more cannot be used", "per class", "bluish"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let other = scene.attack(&photos, "out", SMALL);
    let (code, said) = refused(other);
    assert_eq!((code, said.contains("holds another run")), (2, true), "{said}");
}

#[test]
fn results_depend_on_neither_workers_nor_batches() {
    let scene = Scene::new();
    let photos = scene.photos(4);
    let with = |out: &str, more: &[&str]| {
        scene.attacked(&photos, out, &[&["--method", "pgd5", "--epsilon", "6/255"][..], more].concat())
    };
    let one = with("one", &["--workers", "1", "--set", "attack.batch=3", "--set", "data.shard_images=5"]);
    let two = with("two", &["--workers", "2", "--set", "attack.batch=3", "--set", "data.shard_images=5"]);
    assert_eq!(one, two);
    for name in files(&scene.path("one")) {
        let bytes = |out: &str| std::fs::read(scene.path(out).join(&name)).unwrap();
        assert!(bytes("one") == bytes("two"), "{name}");
    }
    // Rounding differs with the batch size; the pictures hardly do.
    let all = with("all", &["--set", "attack.batch=12"]);
    let broken = |summary: &Value| summary["budgets"][0]["broken"].as_u64().unwrap();
    assert!(broken(&one).abs_diff(broken(&all)) <= 1, "{one} {all}");
}

#[test]
fn killed_and_started_again_it_redoes_at_most_what_was_under_way() {
    let scene = Scene::new();
    let photos = scene.photos(8);
    let with = [&["--method", "pgd20x3", "--epsilon", "1/255", "--workers", "1"][..], SMALL].concat();
    let calm = scene.attacked(&photos, "calm", &with);

    let out = scene.path("killed");
    let attempts = |prefix: &str| -> BTreeMap<String, usize> {
        let Some(job) = std::fs::read_dir(out.join(".hardy/jobs")).ok().and_then(|mut jobs| jobs.next()) else {
            return BTreeMap::new();
        };
        let Ok(entries) = std::fs::read_dir(job.unwrap().path().join("attempts")) else { return BTreeMap::new() };
        let entries = entries.map(|entry| entry.unwrap());
        let names =
            entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read_dir(e.path()).unwrap().count()));
        names.filter(|(name, _)| name.starts_with(prefix)).collect()
    };
    let mut child = scene.attack(&photos, "killed", &with).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while attempts("attack-").len() < 3 {
        assert!(
            child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(120),
            "no kill met it alive"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!out.join("attack.json").exists());

    assert_eq!(scene.attacked(&photos, "killed", &with), calm);
    // One worker: the batch under way, or the one whose report nobody had written down yet.
    let again: usize = attempts("").values().map(|count| count - 1).sum();
    assert!(again <= 1, "{:?}", attempts(""));
    for name in files(&scene.path("calm")) {
        let bytes = |folder: &str| std::fs::read(scene.path(folder).join(&name)).unwrap();
        assert!(bytes("calm") == bytes("killed"), "{name}");
    }
}

#[test]
fn photos_beside_each_other_are_what_the_model_sees_or_what_is_given() {
    let scene = Scene::new();
    for (class, name) in CLASSES.iter().enumerate() {
        scene.picture(&format!("flat/{name}.png"), class, class as u64);
    }
    let seen = scene.attacked(&scene.path("flat"), "seen", &["--epsilon", "20/255"]);
    assert_eq!((&seen["n"], &seen["misclassified"]), (&3.into(), &0.into()));
    assert_eq!(record(&scene.path("seen/bluish.json"))["labelled"], "model");
    let given = scene.attacked(&scene.path("flat"), "given", &["--epsilon", "20/255", "--label", "bluish"]);
    assert_eq!((&given["n"], &given["misclassified"]), (&3.into(), &2.into()));
    let target = scene.attacked(&scene.path("flat"), "target", &["--epsilon", "20/255", "--target", "bluish"]);
    assert_eq!((&target["on_target"], &target["target"]), (&1.into(), &"bluish".into()));
}

#[test]
fn no_file_takes_the_place_of_another() {
    let scene = Scene::new();
    // Claimed by the counts, by one another, and by the endings of two budgets: a.0 with .5, a with .0.5.
    let names = ["attack.png", "a.png", "a.0.png", "b.png", "b.bmp", "b.png.bmp"];
    for (number, name) in names.iter().enumerate() {
        scene.picture(&format!("flat/{name}"), number % 3, number as u64);
    }
    let summary = scene.attacked(&scene.path("flat"), "out", &["--method", "deepfool", "--epsilon", "0.5,5"]);
    assert_eq!((&summary["n"], &summary["misclassified"]), (&6.into(), &0.into()));
    let found = files(&scene.path("out"));
    // Of each photo a record, and two pictures for each budget.
    assert_eq!(found.len(), 1 + 5 * names.len(), "{found:?}");
    let records = found.iter().filter(|name| name.ends_with(".json") && *name != "attack.json");
    let images: Vec<Value> = records.map(|name| record(&scene.path("out").join(name))["image"].clone()).collect();
    assert_eq!(images, ["a.0.png", "a.png", "attack.png", "b.bmp", "b.png.bmp", "b.png"]);
}

#[test]
fn photos_smaller_than_the_networks_input_are_counted() {
    let scene = Scene::new();
    scene.picture("flat/large.png", 0, 1);
    image::RgbImage::from_pixel(50, 20, image::Rgb([140, 120, 120])).save(scene.path("flat/small.png")).unwrap();
    let told = scene.attack(&scene.path("flat"), "out", &[]).output().unwrap();
    assert!(text(&told.stdout).contains("1 photos are smaller than the network's input"), "{told:?}");
    assert_eq!(record(&scene.path("out/attack.json"))["enlarged"], 1);
    assert_eq!(record(&scene.path("out/small.json"))["enlarged"], true);
}

#[test]
fn the_smallest_epsilon_of_each_photo_is_counted() {
    let scene = Scene::new();
    let photos = scene.photos(3);
    let summary = scene.attacked(&photos, "out", &[SMALL, &["--min-epsilon"]].concat());
    let budgets = summary["budgets"].as_array().unwrap();
    assert!(budgets.is_sorted_by_key(|b| b["epsilon"].as_f64().unwrap().to_bits()));
    assert!(budgets.is_sorted_by_key(|b| b["broken"].as_u64().unwrap()));
    let last = budgets.last().unwrap()["broken"].as_u64().unwrap();
    assert_eq!(last + summary["never_broken"].as_u64().unwrap(), 9);
    assert!(last > 0);
}
