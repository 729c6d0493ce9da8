//! The result depends on the job, not on how many work on it.

use crate::scene::{Scene, outputs, report, text};

#[test]
fn one_worker_and_four_give_the_same_bytes() {
    let scene = Scene::new();
    let (one, four) = (scene.path("one"), scene.path("four"));
    scene.run(&one, 1, &[]);
    scene.run(&four, 4, &[]);
    let (alone, together) = (outputs(&one), outputs(&four));
    let shards = alone.keys().filter(|name| name.contains("augment")).count();
    assert!(shards >= 4, "adversarial shards of two rounds: {:?}", alone.keys());
    assert!(alone.keys().any(|name| name.ends_with("-merge/checkpoint")));
    assert_eq!(alone, together);
    let figures = |out| {
        let report = report(out);
        (report["results"].clone(), report["provenance"]["checkpoint_sha256"].clone())
    };
    assert_eq!(figures(&one), figures(&four));
    assert_eq!(
        std::fs::read(one.join("model/model.safetensors")).unwrap(),
        std::fs::read(four.join("model/model.safetensors")).unwrap()
    );
}

#[test]
fn the_large_network_and_fresh_attacks_in_every_step_are_as_exact() {
    let scene = Scene::new();
    let (one, four) = (scene.path("one"), scene.path("four"));
    let settings = [
        "model.architecture=tf_efficientnet_lite0",
        "adversary.freshness=step",
        "train.replicas=4",
        "baseline.rounds=1",
        "train.rounds=1",
        "evaluate.attacks=[\"fgsm\"]",
        "evaluate.epsilons=[\"4/255\"]",
    ];
    scene.run(&one, 1, &settings);
    scene.run(&four, 4, &settings);
    assert_eq!(outputs(&one), outputs(&four));
}

#[test]
fn photos_that_were_overwritten_are_another_job() {
    let scene = Scene::new();
    let out = scene.path("out");
    let short = ["baseline.rounds=1", "train.rounds=1"];
    scene.run(&out, 2, &short);
    // The same name and size, so that only the content tells.
    let folder = scene.photos.join("train/daisy");
    let photos: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    let longer = photos.iter().max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    let other = photos.iter().find(|p| *p != longer).unwrap();
    let mut bytes = std::fs::read(other).unwrap();
    bytes.resize(longer.metadata().unwrap().len() as usize, 0);
    std::fs::write(longer, bytes).unwrap();
    let again = scene.command(&out, 2, &short).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("with other settings, photos or weights"), "{}", text(&again.stderr));
}

#[test]
fn another_seed_gives_another_model() {
    let scene = Scene::new();
    let (a, b) = (scene.path("a"), scene.path("b"));
    let short = ["baseline.rounds=1", "train.rounds=1", "adversary.freshness=step"];
    scene.run(&a, 2, &short);
    scene.run(&b, 2, &[&short[..], &["job.seed=7"]].concat());
    assert_ne!(report(&a)["provenance"]["checkpoint_sha256"], report(&b)["provenance"]["checkpoint_sha256"]);
}

#[test]
fn freshness_says_how_often_images_are_attacked() {
    let scene = Scene::new();
    let attacked = |freshness: &str| {
        let out = scene.path(freshness);
        scene.run(&out, 2, &["baseline.rounds=1", &format!("adversary.freshness={freshness}")]);
        let outputs = outputs(&out);
        let made: Vec<String> =
            outputs.keys().filter(|name| name.contains("augment")).map(|name| outputs[name].clone()).collect();
        let shards = outputs.keys().filter(|name| name.starts_with("shard-train")).count();
        (made, shards)
    };
    let (once, shards) = attacked("once");
    assert_eq!(once.len(), shards, "each shard once, for both rounds");
    let (round, _) = attacked("round");
    assert_eq!(round.len(), 2 * shards, "each shard anew in each of two rounds");
    let distinct: std::collections::BTreeSet<&String> = once.iter().chain(&round).collect();
    assert_eq!(distinct.len(), 2 * shards, "round 0 is as `once`, round 1 has other views and other weights");
    assert!(attacked("step").0.is_empty(), "inside the steps, where nothing is stored");
}
