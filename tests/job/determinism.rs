//! The result depends on the job, not on how many work on it.

use crate::scene::{Scene, outputs, report};

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
fn another_seed_gives_another_model() {
    let scene = Scene::new();
    let (a, b) = (scene.path("a"), scene.path("b"));
    let short = ["baseline.rounds=1", "train.rounds=1", "adversary.freshness=step"];
    scene.run(&a, 2, &short);
    scene.run(&b, 2, &[&short[..], &["job.seed=7"]].concat());
    assert_ne!(report(&a)["provenance"]["checkpoint_sha256"], report(&b)["provenance"]["checkpoint_sha256"]);
}
