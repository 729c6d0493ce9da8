//! The photos over the nights, and that nights do not overlap.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::changes::{Changes, Repack};
use super::ledger::{Frozen, Ledger, Page, Stored};
use super::*;
use crate::config::{Architecture, Layers, Resize, Settings};
use crate::dataset::grow::{Fate, Known, Packed, Photos};
use crate::dataset::{Finding, Inspected, Photo, Sample, Split};
use crate::report::LeftOut;
use crate::store::{Blob, Key, LocalStore, Store};
use crate::task::JobId;

struct World {
    _folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    registry: Registry,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let registry = Registry::new(store.clone(), &"flowers".parse().unwrap());
        Self { _folder: folder, store, registry }
    }

    async fn ledger(&self, job: &str) -> Ledger {
        Ledger::before(&*self.store, &self.registry, &name(job)).await.unwrap()
    }

    /// A version that somebody made.
    async fn version(&self, id: &str, change: impl FnOnce(&mut Version)) -> Version {
        let mut draft = Version {
            version: Version::format(),
            model: self.registry.model().clone(),
            id: VersionId(id.into()),
            created: now(),
            job: format!("job-of-{id}"),
            hardy: "0".into(),
            spec: ModelSpec {
                architecture: Architecture::HardySmall,
                classes: vec!["daisy".into(), "rose".into()],
                input_size: 32,
                resize: Resize::Squash,
                mean: [0.5; 3],
                std: [0.5; 3],
            },
            checkpoint_sha256: id.into(),
            parent: None,
            dataset_sha256: String::new(),
            test_sha256: String::new(),
            results: Vec::new(),
            worst_case: Vec::new(),
            checks: Vec::new(),
            gate: None,
            files: Default::default(),
        };
        change(&mut draft);
        self.registry.publish(draft, Vec::new()).await.unwrap()
    }

    async fn lease(&self, job: &str, minutes: u64) -> Result<Lease> {
        Lease::take(&*self.store, &self.registry, &name(job), &VersionId(job.into()), minutes).await
    }
}

fn name(text: &str) -> JobId {
    text.parse().unwrap()
}

fn photo(path: &str) -> Photo {
    let class = path.split('/').next().unwrap().to_string();
    Photo { path: path.into(), class, split: None, size: 5, stamp: None }
}

/// The same photo, written at this time.
fn written(path: &str, stamp: &str) -> Photo {
    Photo { stamp: Some(stamp.into()), ..photo(path) }
}

fn settings() -> Settings {
    Layers::new().unwrap().resolve().unwrap().settings
}

/// What an inspection finds where the file's content has this hash.
fn found(photo: &Photo, sha256: &str) -> Inspected {
    let finding = Finding::Usable { sha256: sha256.into(), phash: 1, width: 9, height: 9, brightness: 500 };
    Inspected { photo: photo.clone(), finding }
}

/// What is said of a photo whose inspection was lost.
fn unseen(photo: &Photo) -> Inspected {
    Inspected { photo: photo.clone(), finding: Finding::Unseen("its task failed".into()) }
}

fn stored(name: &str, split: Split, paths: &[&str]) -> Stored {
    let sample =
        |p: &&str| Sample { key: p.replace('/', "-"), label: 0, path: p.to_string(), sha256: format!("sha of {p}") };
    let key = Key::new(format!("models/flowers/data/shards/{name}")).unwrap();
    Stored { split, samples: paths.iter().map(sample).collect(), blob: Blob { key, sha256: name.into(), size: 1 } }
}

/// A page with these shards, whose photos are new.
fn page(job: &str, shards: Vec<Stored>) -> Page {
    let mut page = Page::new(&name(job), &VersionId(job.into()), vec!["daisy".into(), "rose".into()]);
    for shard in &shards {
        for s in &shard.samples {
            let (label, split, sha256) = (s.label, shard.split, s.sha256.clone());
            let fate = Fate::Packed(Packed { label, split, sha256, phash: 1, brightness: 500 });
            page.fates.insert(s.path.clone(), Known { size: 5, stamp: None, fate });
        }
    }
    let (frozen, rest): (Vec<_>, Vec<_>) = shards.into_iter().partition(|s| s.split == Split::Test);
    if !frozen.is_empty() {
        page.frozen = Some(Frozen::new(&page.classes, Split::Test, frozen));
    }
    page.shards = rest;
    page
}

async fn two_nights(world: &World) {
    let first = vec![
        stored("train-0", Split::Train, &["daisy/1", "daisy/2", "rose/1"]),
        stored("held-0", Split::Held, &["rose/2"]),
        stored("test-0", Split::Test, &["daisy/t", "rose/t"]),
    ];
    world.ledger("n1").await.append(&*world.store, &world.registry, page("n1", first)).await.unwrap();
    let second = vec![stored("train-1", Split::Train, &["rose/3"])];
    world.ledger("n2").await.append(&*world.store, &world.registry, page("n2", second)).await.unwrap();
}

#[tokio::test]
async fn only_what_came_is_new_and_only_shards_that_lost_a_photo_are_made_again() {
    let world = World::new();
    two_nights(&world).await;
    let ledger = world.ledger("n3").await;
    let there = ["daisy/1", "rose/1", "rose/2", "rose/3", "daisy/t", "daisy/4"];
    let changes = Changes::new(&ledger, there.into_iter().map(photo).collect());
    assert_eq!(changes.new, [photo("daisy/4")]);
    assert_eq!(
        (&changes.removed, changes.missing),
        (&vec!["daisy/2".to_string()], 1),
        "rose/t belongs to the test set"
    );
    let repack = Repack::new(&ledger.shards, &changes.gone(), &settings());
    assert_eq!(repack.dropped, [Key::new("models/flowers/data/shards/train-0").unwrap()]);
    assert_eq!(repack.again, ["daisy/1", "rose/1"]);
}

#[tokio::test]
async fn of_photos_that_were_written_again_those_with_another_content_are_replaced() {
    let world = World::new();
    two_nights(&world).await;
    let ledger = world.ledger("n3").await;
    // A ledger of an older program has no times: they are noted, and nothing is decoded.
    let all = ["daisy/1", "daisy/2", "rose/1", "rose/2", "rose/3", "daisy/t", "rose/t"];
    let mut changes = Changes::new(&ledger, all.map(|path| written(path, "monday")).into());
    assert_eq!(changes.unseen(), []);
    let mut page = page("n3", Vec::new());
    page.fates = std::mem::take(&mut changes.unchanged);
    assert_eq!(page.fates.len(), 5, "all but the test set");
    world.ledger("n3").await.append(&*world.store, &world.registry, page).await.unwrap();

    let ledger = world.ledger("n4").await;
    let mut there = all.map(|path| written(path, "monday"));
    assert_eq!(Changes::new(&ledger, there.to_vec()), Changes::default());
    for path in ["daisy/1", "rose/1", "daisy/t"] {
        let at = all.iter().position(|p| *p == path).unwrap();
        there[at] = written(path, "tuesday");
    }
    let larger = Photo { size: 6, ..written("rose/3", "tuesday") };
    there[4] = larger.clone();
    let mut changes = Changes::new(&ledger, there.to_vec());
    let suspects = [written("daisy/1", "tuesday"), written("rose/1", "tuesday"), larger.clone()];
    assert_eq!((changes.unseen(), &changes.new), (suspects.to_vec(), &vec![]));
    let inspected = vec![found(&suspects[0], "another"), found(&suspects[1], "sha of rose/1"), found(&larger, "third")];
    let left = changes.settle(&ledger.photos, inspected.clone());
    assert_eq!(left, [inspected[0].clone(), inspected[2].clone()]);
    assert_eq!(changes.reported(&ledger.photos, &Photos::new()), ["daisy/1", "rose/3"]);
    assert_eq!(changes.unchanged["rose/1"].stamp.as_deref(), Some("tuesday"), "the next night need not look again");
    assert_eq!(changes.removed, [""; 0]);
    let repack = Repack::new(&ledger.shards, &changes.gone(), &settings());
    assert_eq!(repack.dropped.len(), 2);
    assert_eq!(repack.again, ["daisy/2", "rose/1"], "the rest of the shard, and nothing of rose/3's");
}

#[test]
fn a_duplicate_that_was_only_written_again_was_not_replaced() {
    let duplicate = |stamp| Known::new(&written("rose/copy", stamp), Fate::Duplicate);
    let mut ledger = Ledger::default();
    ledger.photos.insert("rose/copy".into(), duplicate("monday"));
    let photo = written("rose/copy", "tuesday");
    let mut changes = Changes::new(&ledger, vec![photo.clone()]);
    assert_eq!(changes.settle(&ledger.photos, vec![found(&photo, "x")]).len(), 1, "it is decided about again");
    let still: Photos = [("rose/copy".to_string(), duplicate("tuesday"))].into();
    assert_eq!(changes.reported(&ledger.photos, &still), [""; 0]);
    assert_eq!(changes.reported(&ledger.photos, &Photos::new()), ["rose/copy"]);
}

#[tokio::test]
async fn a_duplicate_is_decided_about_again_once_its_original_may_be_gone() {
    let world = World::new();
    two_nights(&world).await;
    let mut ledger = world.ledger("n3").await;
    let copy = written("rose/copy", "monday");
    ledger.photos.insert(copy.path.clone(), Known { size: 5, stamp: None, fate: Fate::Duplicate });
    let listed = |gone: &str| -> Vec<Photo> {
        let paths = ["daisy/1", "daisy/2", "rose/1", "rose/2", "rose/3", "daisy/t", "rose/t"];
        paths.into_iter().filter(|path| *path != gone).map(photo).chain([copy.clone()]).collect()
    };
    let changes = Changes::new(&ledger, listed("nothing"));
    assert_eq!((changes.unseen(), changes.unchanged.len()), (vec![], 1), "nothing went, and its time is noted");
    let changes = Changes::new(&ledger, listed("rose/t"));
    assert_eq!(changes.unseen(), [], "the test set keeps its photos");

    let mut changes = Changes::new(&ledger, listed("rose/1"));
    assert_eq!(changes.unseen(), std::slice::from_ref(&copy));
    assert_eq!(changes.settle(&ledger.photos, vec![found(&copy, "sha of rose/1")]).len(), 1);
    assert_eq!(changes.gone(), ["rose/1", "rose/copy"].into());
    assert_eq!(changes.reported(&ledger.photos, &Photos::new()), [""; 0], "it was not replaced");

    // Nobody has looked at it: the next night does, although nothing goes then.
    let mut changes = Changes::new(&ledger, listed("rose/1"));
    assert_eq!(changes.settle(&ledger.photos, vec![unseen(&copy)]), []);
    ledger.photos.extend(changes.unchanged);
    ledger.photos.remove("rose/1");
    assert_eq!(Changes::new(&ledger, listed("rose/1")).unseen(), std::slice::from_ref(&copy));
}

#[tokio::test]
async fn a_known_photo_that_nobody_has_looked_at_stays_what_it_was() {
    let world = World::new();
    two_nights(&world).await;
    let ledger = world.ledger("n3").await;
    let larger = Photo { size: 6, ..photo("daisy/1") };
    let there = ["daisy/2", "rose/1", "rose/2", "rose/3", "daisy/t", "rose/t"];
    let listed: Vec<Photo> = there.into_iter().map(photo).chain([larger.clone(), photo("daisy/new")]).collect();
    let mut changes = Changes::new(&ledger, listed);
    assert_eq!(changes.unseen(), [photo("daisy/new"), larger.clone()]);
    let new = unseen(&photo("daisy/new"));
    assert_eq!(changes.settle(&ledger.photos, vec![new.clone(), unseen(&larger)]), [new]);
    assert_eq!((changes.gone().len(), changes.unchanged.len()), (0, 0));
    assert_eq!(ledger.photos["daisy/1"].size, 5, "the next night it is a suspect again");
}

#[tokio::test]
async fn a_night_that_goes_on_does_not_see_its_own_page() {
    let world = World::new();
    two_nights(&world).await;
    assert_eq!(world.ledger("n2").await.photos.len(), 6);
    assert_eq!(world.ledger("n3").await.photos.len(), 7);
    let again = page("n2", vec![stored("train-1", Split::Train, &["rose/3"])]);
    world.ledger("n2").await.append(&*world.store, &world.registry, again).await.unwrap();
    let mut late = world.ledger("n2").await;
    let error = late.append(&*world.store, &world.registry, page("other", Vec::new())).await.unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
}

#[tokio::test]
async fn a_night_that_begins_anew_with_other_photos_changes_no_page() {
    let world = World::new();
    two_nights(&world).await;
    let other = page("n1", vec![stored("test-9", Split::Test, &["daisy/x"])]);
    let error = world.ledger("n1").await.append(&*world.store, &world.registry, other).await.unwrap_err();
    let said = error.to_string();
    assert!(
        error.kind() == Kind::Job && said.contains("night n1 of flowers was run before, with other photos"),
        "{said}"
    );
    let frozen = world.ledger("n3").await.frozen.unwrap();
    assert_eq!(frozen.shards[0].blob.sha256, "test-0");
}

#[tokio::test]
async fn a_night_whose_version_is_there_is_not_begun_anew() {
    let world = World::new();
    let mut settings = settings();
    settings.job.name = "flowers".into();
    let begin = async |night: &str| {
        let place = Place { source: "photos".into(), digest: None };
        Night::submission(&world.store, &settings, &VersionId(night.into()), place, || Ok(None)).await
    };
    assert_eq!(begin("n1").await.unwrap().id, name("flowers-n1"));
    world.version("n1", |_| {}).await;
    let error = begin("n1").await.unwrap_err();
    let said = error.to_string();
    assert!(error.kind() == Kind::Usage && said.contains("there is a version n1 of flowers already"), "{said}");
    assert!(said.contains("job-of-n1") && said.contains("--night"), "{said}");
    assert!(begin("n2").await.is_ok());
    let key = Key::new("models/flowers/versions/n1/version.json").unwrap();
    world.store.put_bytes(&key, "no description").await.unwrap();
    assert_eq!(begin("n1").await.unwrap_err().kind(), Kind::Data, "what cannot be read is not taken for free");
}

#[tokio::test]
async fn the_same_photos_have_the_same_hash_however_they_are_packed() {
    let (one, other) = (World::new(), World::new());
    two_nights(&one).await;
    let all = vec![
        stored("train-7", Split::Train, &["rose/3", "daisy/1"]),
        stored("train-8", Split::Train, &["daisy/2", "rose/1"]),
        stored("held-1", Split::Held, &["rose/2"]),
    ];
    other.ledger("n1").await.append(&*other.store, &other.registry, page("n1", all)).await.unwrap();
    let (a, b) = (one.ledger("x").await, other.ledger("x").await);
    assert_eq!(a.dataset_sha256(), b.dataset_sha256());
    assert_ne!(a.dataset_sha256(), one.ledger("n2").await.dataset_sha256());
    assert_eq!((a.summary().n(), a.counts(Split::Held)), (5, vec![1, 0]));
}

#[tokio::test]
async fn a_frozen_test_set_that_was_changed_is_refused() {
    let world = World::new();
    two_nights(&world).await;
    let key = Key::new("models/flowers/data/pages/000000.json").unwrap();
    let text = String::from_utf8(world.store.get_bytes(&key, 1 << 20).await.unwrap().to_vec()).unwrap();
    for (from, to) in [("sha of rose/t", "sha of rose/u"), ("\"daisy-t\"", "\"daisy-x\""), ("\"test-0\"", "\"test-9\"")]
    {
        assert!(text.contains(from), "{text}");
        world
            .store
            .put_bytes(&key, text.replacen(from, to, if from.starts_with("sha") { 9 } else { 1 }))
            .await
            .unwrap();
        let error = Ledger::before(&*world.store, &world.registry, &name("n3")).await.unwrap_err();
        assert!(error.kind() == Kind::Data && error.to_string().contains("frozen test set was changed"), "{error}");
    }
}

#[tokio::test]
async fn shards_that_no_page_names_are_removed() {
    let world = World::new();
    two_nights(&world).await;
    for shard in ["train-0", "train-1", "held-0", "test-0", "left-behind"] {
        let key = Key::new(format!("models/flowers/data/shards/{shard}")).unwrap();
        world.store.put_bytes(&key, "x").await.unwrap();
    }
    shards::tidy(&*world.store, &world.registry).await.unwrap();
    let gone = Key::new("models/flowers/data/shards/left-behind").unwrap();
    assert_eq!(world.store.get(&gone).await.err().unwrap().kind(), Kind::NotFound);
    assert!(world.store.get(&Key::new("models/flowers/data/shards/test-0").unwrap()).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_compared_in_the_end_is_not_trained() {
    let world = World::new();
    let job = Job::for_tests(&world.store, settings()).await;
    let classes = ["daisy".to_string(), "rose".to_string()];
    let key = Key::new("models/flowers/data/shards/test").unwrap();
    let blob = world.store.put_bytes(&key, "photos").await.unwrap();
    let frozen = Frozen::new(&classes, Split::Test, vec![Stored { split: Split::Test, samples: Vec::new(), blob }]);
    world.version("by-hand", |_| {}).await;
    world.version("same", |v| v.test_sha256.clone_from(&frozen.sha256)).await;
    world.version("elsewhere", |v| v.test_sha256 = "another test set".into()).await;
    world.version("tulips", |v| v.spec.classes[1] = "tulip".into()).await;
    let compare = async |id: &str| {
        current::comparable(&job, &world.registry, Some(&VersionId(id.into())), &classes, &frozen).await
    };
    compare("by-hand").await.unwrap();
    compare("same").await.unwrap();
    for (id, words) in [("elsewhere", "on the test set another test, "), ("tulips", "it knows daisy, tulip")] {
        let error = compare(id).await.unwrap_err();
        assert!(error.kind() == Kind::Data && error.to_string().contains(words), "{error}");
    }
    world.store.put_bytes(&key, "others").await.unwrap();
    let error = current::comparable(&job, &world.registry, None, &classes, &frozen).await.unwrap_err();
    assert!(error.kind() == Kind::Data && error.to_string().contains("test set is damaged"), "{error}");
}

#[tokio::test]
async fn the_gate_hears_of_what_was_left_out() {
    let world = World::new();
    let mut job = Job::for_tests(&world.store, settings()).await;
    assert_eq!(checks(&job, &[], &[]), []);
    job.left_out.push(LeftOut { task: "train-r0001-0-train-1".into(), why: "failed".into() });
    let found = checks(&job, &[], &[]);
    assert!(!found[0].passed && found[0].figure.contains("train-r0001-0-train-1"), "{found:?}");
}

#[tokio::test]
async fn nights_of_one_model_do_not_overlap() {
    let world = World::new();
    let first = world.lease("n1", 60).await.unwrap();
    let error = world.lease("n2", 60).await.unwrap_err();
    assert!(
        error.kind() == Kind::Job && error.to_string().contains("night n1 of flowers is still going on"),
        "{error}"
    );
    assert_eq!(world.lease("n1", 60).await.unwrap(), first, "the night goes on after a crash");
    first.release(&*world.store, &world.registry).await.unwrap();
    let second = world.lease("n2", 60).await.unwrap();
    first.release(&*world.store, &world.registry).await.unwrap();
    assert_eq!(world.lease("n2", 60).await.unwrap(), second, "a lease of another night is not given up");
}

#[tokio::test]
async fn of_many_that_begin_at_once_one_does() {
    let world = World::new();
    let names: Vec<String> = (0..8).map(|i| format!("n{i}")).collect();
    let leases = futures_util::future::join_all(names.iter().map(|n| world.lease(n, 60))).await;
    assert_eq!(leases.iter().filter(|l| l.is_ok()).count(), 1);
}

#[tokio::test]
async fn a_night_past_its_deadline_gives_way() {
    let world = World::new();
    let past = Timestamp::now() - SignedDuration::from_mins(1);
    let dead = Lease { job: name("n1"), night: VersionId("n1".into()), started: past, deadline: past };
    assert_eq!(dead.left(), std::time::Duration::ZERO);
    world.store.put_json(&Key::new("models/flowers/night.json").unwrap(), &dead).await.unwrap();
    let lease = world.lease("n2", 60).await.unwrap();
    assert!(lease.left() > std::time::Duration::from_secs(3000));
}

#[tokio::test]
async fn an_expired_lease_that_two_nights_take_is_one_nights() {
    let world = World::new();
    let first = world.lease("n1", 60).await.unwrap();
    first.confirm(&*world.store, &world.registry).await.unwrap();
    // The other one has seen what was there before, deletes this, and takes its place.
    let second = Lease { job: name("n2"), night: VersionId("n2".into()), ..first.clone() };
    let key = Key::new("models/flowers/night.json").unwrap();
    world.store.put_json(&key, &second).await.unwrap();
    second.confirm(&*world.store, &world.registry).await.unwrap();
    let error = first.confirm(&*world.store, &world.registry).await.unwrap_err();
    assert!(
        error.kind() == Kind::Job && error.to_string().contains("night n2 of flowers is still going on"),
        "{error}"
    );
    world.store.delete(&key).await.unwrap();
    assert_eq!(first.confirm(&*world.store, &world.registry).await.unwrap_err().kind(), Kind::Job);
}

#[tokio::test]
async fn a_night_that_died_after_its_end_holds_nobody_up() {
    let world = World::new();
    world.lease("n1", 60).await.unwrap();
    assert_eq!(world.lease("n2", 60).await.unwrap_err().kind(), Kind::Job);
    world.store.put_bytes(&Key::new("jobs/n1/result/night.json").unwrap(), "{}").await.unwrap();
    let lease = world.lease("n2", 60).await.unwrap();
    assert_eq!(lease.job, name("n2"));
}
