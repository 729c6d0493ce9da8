//! The registry on a local store.

use std::sync::Arc;

use super::*;
use crate::config::{Architecture, Epsilon, GateSettings, Layers, Resize};
use crate::gate::{Best, Decision};
use crate::model::ModelSpec;
use crate::outcome::{ImageOutcome, Outcomes};
use crate::report::{Measured, WorstCase};
use crate::store::LocalStore;
use crate::task::Condition;

struct World {
    _folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    registry: Registry,
    rules: GateSettings,
}

fn id(text: &str) -> VersionId {
    text.parse().unwrap()
}

fn forced(reason: &str) -> Option<Forced> {
    Some(Forced { reason: reason.into() })
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let registry = Registry::new(store.clone(), &"flowers".parse().unwrap());
        let rules = Layers::new().unwrap().resolve().unwrap().settings.gate;
        Self { _folder: folder, store, registry, rules }
    }

    /// A version of which so many of 100 images are right, and half of them robust.
    async fn version(&self, name: &str, right: usize) -> Version {
        self.version_of(name, right, &["daisy", "rose"], "the-test-set").await
    }

    async fn version_of(&self, name: &str, right: usize, classes: &[&str], test: &str) -> Version {
        self.version_under(name, right, classes, test, "pgd20").await
    }

    async fn version_under(&self, name: &str, right: usize, classes: &[&str], test: &str, attack: &str) -> Version {
        let condition =
            |attack: &str, epsilon| Condition { attack: attack.into(), epsilon: Epsilon::new(epsilon).unwrap() };
        let image = |i: usize| {
            let says = |right: bool| if right { i % 2 } else { 1 - i % 2 };
            ImageOutcome { key: format!("k{i}"), label: i % 2, predicted: vec![says(i < right), says(i < right / 2)] }
        };
        let outcomes = Outcomes {
            conditions: vec![condition("clean", 0.0), condition(attack, 4.0 / 255.0)],
            images: (0..100).map(image).collect(),
        };
        let robust = outcomes.count(1).into();
        let draft = Version {
            version: Version::format(),
            model: self.registry.model().clone(),
            id: id(name),
            created: format!("2026-01-01T00:00:00Z-{name}"),
            job: format!("job-{name}"),
            hardy: "0".into(),
            spec: ModelSpec {
                architecture: Architecture::HardySmall,
                classes: classes.iter().map(|c| c.to_string()).collect(),
                input_size: 32,
                resize: Resize::Squash,
                mean: [0.5; 3],
                std: [0.5; 3],
            },
            checkpoint_sha256: format!("sha-{name}"),
            parent: None,
            dataset_sha256: "photos".into(),
            test_sha256: test.into(),
            results: vec![Measured {
                model: "trained".into(),
                attack: "clean".into(),
                epsilon: 0.0,
                figure: outcomes.count(0).into(),
                per_class: Vec::new(),
            }],
            worst_case: vec![WorstCase {
                model: "trained".into(),
                epsilon: 4.0 / 255.0,
                attacks: vec![attack.into()],
                figure: robust,
            }],
            checks: Vec::new(),
            gate: None,
            files: Default::default(),
        };
        let said = serde_json::to_vec(&outcomes).unwrap();
        let files =
            vec![("model.safetensors".into(), Bytes::from(format!("weights {name}"))), (OUTCOMES.into(), said.into())];
        self.registry.publish(draft, files).await.unwrap()
    }

    async fn promote(&self, name: &str) -> Result<Entry> {
        self.registry.promote(&id(name), &self.rules, None).await
    }

    async fn best(&self, attack: &str) -> Best {
        self.registry.best("the-test-set", 4.0 / 255.0, &[attack.to_string()]).await.unwrap().unwrap()
    }

    async fn current(&self) -> Option<String> {
        self.registry.current().await.unwrap().map(|v| v.0)
    }
}

#[tokio::test]
async fn versions_are_promoted_in_turn_and_the_history_has_it_all() {
    let world = World::new();
    assert_eq!(world.current().await, None);
    for (name, right) in [("a", 70), ("b", 75), ("c", 74)] {
        world.version(name, right).await;
        world.promote(name).await.unwrap();
    }
    let history = world.registry.history().await.unwrap();
    let line: Vec<_> = history.iter().map(|e| (e.number, e.current.clone().unwrap().0, e.previous.clone())).collect();
    assert_eq!(line, [(0, "a".into(), None), (1, "b".into(), Some(id("a"))), (2, "c".into(), Some(id("b")))]);
    let pointer: serde_json::Value =
        world.store.get_json(&Key::new("models/flowers/current.json").unwrap(), 1000).await.unwrap();
    assert_eq!(pointer["version"], "c");
    let key = Key::new("models/flowers/current.json").unwrap();
    world.store.put_bytes(&key, "what a promotion that broke off left").await.unwrap();
    world.registry.point().await.unwrap();
    assert_eq!(world.store.get_json::<serde_json::Value>(&key, 1000).await.unwrap(), pointer);
    assert_eq!(Registry::models(&*world.store).await.unwrap(), ["flowers".parse().unwrap()]);
    let names: Vec<String> = world.registry.versions().await.unwrap().into_iter().map(|v| v.id.0).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_version_that_is_not_there_is_not_promoted() {
    let world = World::new();
    world.version("a", 70).await;
    let error = world.promote("b").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("there is no version b of flowers; the newest are a"), "{error}");
    assert!("../../etc".parse::<VersionId>().is_err());
    world.promote("a").await.unwrap();
    assert_eq!(world.promote("a").await.unwrap_err().kind(), Kind::Usage, "it is current already");
}

#[tokio::test]
async fn one_that_failed_its_gate_needs_force_and_the_reason_is_kept() {
    let world = World::new();
    world.version("good", 80).await;
    world.version("poisoned", 40).await;
    world.promote("good").await.unwrap();
    let error = world.promote("poisoned").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Rejected);
    assert!(
        error.to_string().contains("clean accuracy has not fallen") && error.to_string().contains("--force"),
        "{error}"
    );
    assert_eq!(world.current().await.as_deref(), Some("good"));

    let entry = world.registry.promote(&id("poisoned"), &world.rules, forced("we know better")).await.unwrap();
    assert!(entry.note.forced && entry.note.reason.contains("we know better"), "{entry:?}");
    assert_eq!(world.current().await.as_deref(), Some("poisoned"));
    // Where the gate has nothing against it no force was needed, and the reason is kept all the same.
    world.version("better", 90).await;
    let entry = world.registry.promote(&id("better"), &world.rules, forced("it has new roses")).await.unwrap();
    assert!(!entry.note.forced && entry.note.reason.contains("it has new roses"), "{entry:?}");
    world.registry.roll_back(None, "back").await.unwrap();
    // From here on nobody expects the figures of before.
    assert_eq!(world.best("pgd20").await.clean, (0.4, "poisoned".to_string()));
}

#[tokio::test]
async fn one_that_failed_the_stricter_gate_of_its_night_needs_force_too() {
    let world = World::new();
    let good = world.version("good", 80).await;
    world.promote("good").await.unwrap();
    let decision = world.registry.judged(&good, Some(&id("good")), &world.rules).await.unwrap();
    assert!(decision.passed);
    let gate = Some(Decision { passed: false, reason: "not so: robust accuracy has not fallen".into(), ..decision });
    let outcomes = serde_json::to_vec(&world.registry.outcomes(&good).await.unwrap().unwrap()).unwrap();
    let files = vec![("model.safetensors".into(), Bytes::from("weights")), (OUTCOMES.into(), outcomes.into())];
    let draft = Version { id: id("strict"), gate, files: Default::default(), ..good };
    world.registry.publish(draft, files).await.unwrap();
    let error = world.promote("strict").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Rejected);
    assert!(error.to_string().contains("on its night not so: robust accuracy has not fallen"), "{error}");
    let entry = world.registry.promote(&id("strict"), &world.rules, forced("we know better")).await.unwrap();
    assert!(entry.note.forced, "{entry:?}");
}

#[tokio::test]
async fn robust_accuracy_under_weaker_attacks_is_no_mark_to_keep_up_with() {
    let world = World::new();
    let both = ["daisy", "rose"];
    world.version("easy", 80).await;
    world.promote("easy").await.unwrap();
    assert_eq!(world.best("pgd20").await.robust, Some((0.4, "easy".to_string())));
    assert_eq!(world.best("apgd").await, Best { clean: (0.8, "easy".into()), robust: None });
    world.version_under("hard", 60, &both, "the-test-set", "apgd").await;
    world.registry.promote(&id("hard"), &world.rules, forced("the attacks are stronger now")).await.unwrap();
    world.version_under("harder", 70, &both, "the-test-set", "apgd").await;
    world.promote("harder").await.unwrap();
    assert_eq!(world.best("apgd").await.robust, Some((0.35, "harder".to_string())));
    assert_eq!(world.best("pgd20").await.robust, None);
}

#[tokio::test]
async fn other_classes_and_another_test_set_are_refused() {
    let world = World::new();
    world.version("a", 70).await;
    world.version_of("tulips", 90, &["daisy", "tulip"], "the-test-set").await;
    world.version_of("elsewhere", 90, &["daisy", "rose"], "another-test-set").await;
    world.promote("a").await.unwrap();
    for (name, expected) in
        [("tulips", "new: \"tulip\"; missing: \"rose\""), ("elsewhere", "frozen test set is the same")]
    {
        let error = world.promote(name).await.unwrap_err();
        assert!(error.kind() == Kind::Rejected && error.to_string().contains(expected), "{error}");
    }
    assert_eq!(world.current().await.as_deref(), Some("a"));
}

#[tokio::test]
async fn of_two_promotions_at_once_one_wins_and_the_other_is_told() {
    for _ in 0..20 {
        let world = World::new();
        for name in ["a", "b", "c"] {
            world.version(name, 70).await;
        }
        world.promote("a").await.unwrap();
        let (b, c) = (id("b"), id("c"));
        let (first, second) = tokio::join!(
            world.registry.promote(&b, &world.rules, None),
            world.registry.promote(&c, &world.rules, None)
        );
        let current = world.current().await.unwrap();
        let outcomes = [("b", first), ("c", second)];
        let won: Vec<&str> = outcomes.iter().filter(|(_, o)| o.is_ok()).map(|(n, _)| *n).collect();
        // Where one was over before the other looked, both went through, one after the other.
        assert!(!won.is_empty());
        if let Some((_, Err(error))) = outcomes.iter().find(|(_, o)| o.is_err()) {
            assert_eq!(error.kind(), Kind::Rejected);
            assert!(error.to_string().contains("another promotion came first"), "{error}");
            assert_eq!(won, [current.as_str()]);
        }
        let history = world.registry.history().await.unwrap();
        assert_eq!(history.iter().map(|e| e.number).collect::<Vec<_>>(), (0..history.len() as u64).collect::<Vec<_>>());
        assert_eq!(history.len(), 1 + won.len());
    }
}

#[tokio::test]
async fn a_promotion_that_was_decided_against_another_version_is_told() {
    let world = World::new();
    for name in ["a", "b", "night"] {
        world.version(name, 70).await;
    }
    world.promote("a").await.unwrap();
    world.promote("b").await.unwrap();
    let error = world.registry.promote_night(&id("night"), Some(&id("a")), "no worse").await.unwrap_err();
    assert!(
        error.kind() == Kind::Rejected && error.to_string().contains("compared with a, but b is current now"),
        "{error}"
    );
    world.registry.promote_night(&id("night"), Some(&id("b")), "no worse").await.unwrap();
    let again = world.registry.promote_night(&id("night"), Some(&id("b")), "no worse").await.unwrap();
    assert_eq!(
        (again.number, world.registry.history().await.unwrap().len()),
        (2, 3),
        "the same night is one promotion"
    );
}

#[tokio::test]
async fn half_a_version_is_none() {
    let world = World::new();
    world.version("a", 70).await;
    let whole = world.version("b", 70).await;
    world.promote("a").await.unwrap();
    let description = Key::new("models/flowers/versions/b/version.json").unwrap();
    let text = world.store.get_bytes(&description, 1 << 20).await.unwrap();
    world.store.delete(&description).await.unwrap();
    let error = world.promote("b").await.unwrap_err();
    assert!(error.kind() == Kind::NotFound && error.to_string().contains("not complete"), "{error}");
    assert_eq!(world.registry.versions().await.unwrap().len(), 1, "it is not listed");

    // The description is there and a file is not, or is another one: somebody else's doing.
    world.store.put_bytes(&description, text).await.unwrap();
    let weights = whole.files["model.safetensors"].key.clone();
    world.store.delete(&weights).await.unwrap();
    let error = world.promote("b").await.unwrap_err();
    assert!(error.kind() == Kind::NotFound && error.to_string().contains("model.safetensors is missing"), "{error}");
    world.store.put_bytes(&weights, "9 letters").await.unwrap();
    let error = world.promote("b").await.unwrap_err().chain();
    assert!(error.contains("is corrupt"), "{error}");
    assert_eq!(world.current().await.as_deref(), Some("a"));
}

#[tokio::test]
async fn the_same_version_twice_is_one_and_another_of_its_name_is_refused() {
    let world = World::new();
    let first = world.version("a", 70).await;
    assert_eq!(world.version("a", 70).await, first);
    let other = Version { job: "somebody else".into(), files: Default::default(), ..first.clone() };
    assert_eq!(world.registry.publish(other, Vec::new()).await.unwrap_err().kind(), Kind::Usage);
}

#[tokio::test]
async fn a_version_that_cannot_be_read_is_not_written_over() {
    let world = World::new();
    let first = world.version("a", 70).await;
    let description = Key::new("models/flowers/versions/a/version.json").unwrap();
    world.store.put_bytes(&description, "no description").await.unwrap();
    let other = Version { job: "somebody else".into(), files: Default::default(), ..first.clone() };
    let files = vec![("model.safetensors".to_string(), Bytes::from("other weights"))];
    assert_eq!(world.registry.publish(other, files).await.unwrap_err().kind(), Kind::Data);
    assert_eq!(world.registry.file(&first, "model.safetensors").await.unwrap(), "weights a");
}

#[tokio::test]
async fn rolling_back_goes_further_back_each_time() {
    let world = World::new();
    assert_eq!(world.registry.roll_back(None, "x").await.unwrap_err().kind(), Kind::Usage);
    for (name, right) in [("a", 70), ("b", 71), ("c", 72)] {
        world.version(name, right).await;
        world.promote(name).await.unwrap();
    }
    world.version("never", 72).await;
    let error = world.registry.roll_back(Some(&id("never")), "x").await.unwrap_err();
    assert!(error.kind() == Kind::Usage && error.to_string().contains("was never current"), "{error}");
    assert_eq!(world.registry.roll_back(Some(&id("gone")), "x").await.unwrap_err().kind(), Kind::NotFound);
    for expected in ["b", "a"] {
        let entry = world.registry.roll_back(None, "customers complain").await.unwrap();
        assert_eq!((entry.current, entry.note.reason.as_str()), (Some(id(expected)), "customers complain"));
    }
    assert!(world.registry.roll_back(None, "x").await.is_err());
    world.registry.roll_back(Some(&id("c")), "x").await.unwrap();
    assert_eq!(world.current().await.as_deref(), Some("c"));
}

#[tokio::test]
async fn the_newest_and_the_promoted_stay() {
    let world = World::new();
    for (name, promoted) in [("v1", true), ("v2", false), ("v3", false), ("v4", true), ("v5", false), ("v6", false)] {
        world.version(name, 70).await;
        if promoted {
            world.promote(name).await.unwrap();
        }
    }
    let gone = world.registry.retain(2).await.unwrap();
    assert_eq!(gone.iter().map(|v| v.0.as_str()).collect::<Vec<_>>(), ["v3", "v2"]);
    let left: Vec<String> = world.registry.versions().await.unwrap().into_iter().map(|v| v.id.0).collect();
    assert_eq!(left, ["v1", "v4", "v5", "v6"]);
    let below = Key::new("models/flowers/versions").unwrap();
    let files: Vec<_> = world.store.list(Some(&below)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(files.len(), 4 * 3, "nothing of the others remains");
    assert_eq!(world.registry.retain(2).await.unwrap(), [] as [VersionId; 0]);
    assert_eq!(world.current().await.as_deref(), Some("v4"));
}

#[tokio::test]
async fn the_figures_of_a_rejected_version_outlive_it() {
    let world = World::new();
    world.version("good", 80).await;
    world.promote("good").await.unwrap();
    let bad = world.version("bad", 40).await;
    let decision = world.registry.judged(&bad, Some(&id("good")), &world.rules).await.unwrap();
    let (version, night) = (Some(id("bad")), Some(id("bad")));
    let rejected = Note::new(Happening::Rejected, &*decision.reason);
    world.registry.note(Note { version, night, gate: Some(decision.clone()), ..rejected }).await.unwrap();
    let shown = async |epsilon: f64| world.registry.trend(epsilon).await.unwrap().nights.pop().unwrap();
    let before = shown(4.0 / 255.0).await;
    world.version("newer", 80).await;
    assert_eq!(world.registry.retain(1).await.unwrap(), [id("bad")]);
    let after = shown(4.0 / 255.0).await;
    assert_eq!(
        (after.what.as_str(), after.clean.unwrap().correct, after.robust.unwrap().correct),
        ("rejected", 40, 20)
    );
    assert_eq!((after.clean, after.robust), (before.clean, before.robust));
    assert_eq!(after.gate.map(|gate| gate.reason), Some(decision.reason));
    let elsewhere = shown(0.01).await;
    assert!(elsewhere.clean.is_some() && elsewhere.robust.is_none(), "it was measured at another budget");
}

#[tokio::test]
async fn of_a_removal_and_a_promotion_at_once_one_is_first() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.version(name, 70).await;
    }
    world.promote("a").await.unwrap();
    // It was promoted after somebody had decided that it is old.
    world.promote("b").await.unwrap();
    assert!(!world.registry.give_up(&id("b"), "old").await.unwrap());
    world.promote("c").await.unwrap();
    assert!(!world.registry.give_up(&id("b"), "old").await.unwrap(), "one can go back to it");
    let before = world.registry.history().await.unwrap().len();
    assert_eq!(before, 3, "nothing was written down");

    // Its files are there still, but not for long.
    world.version("d", 70).await;
    assert!(world.registry.give_up(&id("d"), "old").await.unwrap());
    let error = world.promote("d").await.unwrap_err();
    assert!(
        error.kind() == Kind::NotFound && error.to_string().contains("version d of flowers was removed"),
        "{error}"
    );
    assert_eq!(world.current().await.as_deref(), Some("c"));
    let note = Note { version: Some(id("d")), ..Note::new(Happening::Added, "it is back") };
    world.registry.note(note).await.unwrap();
    world.promote("d").await.unwrap();
}

#[tokio::test]
async fn a_history_that_many_write_to_has_no_gaps() {
    let world = World::new();
    world.version("a", 70).await;
    let note = |i: usize| Note { night: Some(id(&format!("n{i}"))), ..Note::new(Happening::Skipped, "") };
    let notes = (0..10).map(|i| world.registry.note(note(i)));
    let (written, promoted) = tokio::join!(futures_util::future::try_join_all(notes), world.promote("a"));
    assert_eq!(written.unwrap().len(), 10);
    promoted.unwrap();
    let history = world.registry.history().await.unwrap();
    assert_eq!(history.iter().map(|e| e.number).collect::<Vec<_>>(), (0..11).collect::<Vec<_>>());
    assert_eq!(world.current().await.as_deref(), Some("a"), "notes do not change what is current");
}
