//! A real server on a port of its own over a local store and the in-process queue.

mod nights;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::{Site, probes, serve};
use crate::config::{HttpSettings, Layers, Secret};
use crate::dataset::shard::{Extension, Sample, ShardWriter};
use crate::health::Health;
use crate::jobs::{Jobs, Pictures, State, Status};
use crate::metrics::CoordinatorMetrics;
use crate::queue::{MemoryQueue, Queue, Topic};
use crate::report::{Example, RoundRecord};
use crate::store::{Key, LocalStore, Store};
use crate::task::{JobId, TaskId};

const TOKEN: &str = "open-sesame-4711";

struct World {
    _folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    health: Arc<Health>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Got {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap().to_owned())
    }
}

impl World {
    async fn start(token: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::like_a_broker(3));
        let (health, metrics) = (Arc::new(Health::default()), CoordinatorMetrics::default());
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let layers = Layers::new().unwrap();
        let mut given = layers.clone().resolve().unwrap().settings;
        given.http.token = Secret::from(token);
        let site = Site::new("c-1", &given, layers, health.clone(), metrics);
        let settings = HttpSettings { listen: "127.0.0.1:0".into(), token: Secret::default() };
        let listener = super::listen(&settings).await.unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, site.router().merge(probes(health.clone(), registry))));
        Self { _folder: folder, store, queue, health, address }
    }

    async fn connected(token: &str) -> Self {
        let world = Self::start(token).await;
        world.health.connected(&world.store, &world.queue);
        world
    }

    async fn get(&self, path: &str) -> Got {
        self.send("GET", path, None, String::new()).await
    }

    async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Got {
        self.send("POST", path, token.map(|t| format!("Bearer {t}")), body.to_string()).await
    }

    async fn send(&self, method: &'static str, path: &str, authorization: Option<String>, body: String) -> Got {
        let url = format!("http://{}{path}", self.address);
        let asking = tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut request = ureq::http::Request::builder().method(method).uri(url);
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            let response = agent.run(request.body(body).unwrap()).unwrap();
            let (parts, mut body) = response.into_parts();
            let headers = parts.headers.iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_string()));
            Got { status: parts.status.as_u16(), headers: headers.collect(), body: body.read_to_vec().unwrap() }
        });
        asking.await.unwrap()
    }

    /// A job that lies on the store as `change` makes it.
    async fn job(&self, name: &str, change: impl FnOnce(&mut Status)) {
        let id: JobId = name.parse().unwrap();
        let mut status = Status::waiting(&id, "2026-01-02T03:04:05Z");
        status.state = State::Running;
        change(&mut status);
        let jobs = Jobs::new(self.store.clone());
        self.store.put_bytes(&Key::new(format!("index/{name}")).unwrap(), "").await.unwrap();
        if status.has_ended() { jobs.close(&status).await } else { jobs.tell(&status).await }.unwrap();
    }
}

#[tokio::test]
async fn is_alive_before_it_is_ready() {
    let world = World::start("").await;
    assert_eq!(world.get("/healthz").await.status, 200);
    let waiting = world.get("/readyz").await;
    assert_eq!(waiting.error(), (503, "broker and store have not been reached yet".into()));
    assert_eq!(world.get("/api/jobs").await.status, 503);
    assert_eq!(world.get("/").await.status, 200);
    world.health.connected(&world.store, &world.queue);
    assert_eq!(world.get("/readyz").await.status, 200);
    assert_eq!(world.get("/api/jobs").await.json(), json!({ "total": 0, "jobs": [] }));
}

#[tokio::test]
async fn every_answer_is_guarded_and_figures_are_told_as_openmetrics() {
    let world = World::connected("").await;
    for path in ["/", "/page.js", "/page.css", "/report.css", "/api/cluster", "/nothing"] {
        let got = world.get(path).await;
        assert_eq!(got.headers["x-content-type-options"], "nosniff", "{path}");
        let policy = &got.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    }
    let figures = world.get("/metrics").await;
    assert_eq!(figures.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(figures.text().contains("\nhardy_leader 0\n") && figures.text().ends_with("# EOF\n"), "{}", figures.text());
    assert!(!world.get("/").await.text().contains("http://"), "the page asks nothing of anybody else");
}

#[tokio::test]
async fn shows_jobs_their_curves_and_their_reports() {
    let world = World::connected("").await;
    world
        .job("night", |s| {
            s.coordinator = "c-0".into();
            s.updated = crate::coordinator::now();
            s.workers = vec!["w.0".parse().unwrap(), "w.1".parse().unwrap()];
            s.rounds = vec![RoundRecord::for_tests(0), RoundRecord::for_tests(1)];
        })
        .await;
    world
        .job("broken", |s| {
            s.state = State::Failed;
            s.submitted = "2026-01-03T00:00:00Z".into();
            s.error = Some((3, "task shard-1 failed (attempts a, b): it is corrupt".into()));
        })
        .await;
    let listed = world.get("/api/jobs").await.json();
    let names: Vec<_> = listed["jobs"].as_array().unwrap().iter().map(|j| j["job"].as_str().unwrap()).collect();
    assert_eq!(names, ["broken", "night"], "the newest first");
    assert!(listed["jobs"][0]["error"].as_str().unwrap().contains("attempts a, b"));

    let cluster = world.get("/api/cluster").await.json();
    assert_eq!(cluster["workers"].as_array().unwrap().len(), 2);
    assert_eq!((&cluster["leader"], &cluster["leads"]), (&json!("c-0"), &json!(false)));
    assert_eq!(
        (&cluster["writable"], &cluster["dead_letters"], &cluster["idle"]),
        (&json!(false), &json!(0), &json!(0))
    );

    assert_eq!(world.get("/api/jobs/night").await.json()["rounds"].as_array().unwrap().len(), 2);
    let curves = world.get("/api/jobs/night/curves").await.json();
    assert!(curves["train"].as_str().unwrap().starts_with("<svg ") && curves.get("baseline").is_none());

    assert_eq!(world.get("/jobs/night/report.html").await.status, 404);
    let key = Key::new("jobs/night/result/report.html").unwrap();
    world.store.put_bytes(&key, "<p>fine</p>").await.unwrap();
    let report = world.get("/jobs/night/report.html").await;
    assert_eq!((report.status, report.text().as_str()), (200, "<p>fine</p>"));
    let policy = &report.headers["content-security-policy"];
    assert!(!policy.contains("script-src") && policy.contains("default-src 'none'"), "a report runs nothing: {policy}");

    for (path, status, words) in [
        ("/api/jobs/nobody", 404, "there is no job nobody"),
        ("/api/jobs/..%2F..%2Fetc", 400, "is no job name"),
        ("/jobs/night/spec.json", 404, "no 'spec.json' of a job is shown"),
        ("/jobs/..%2Fnight/report.html", 400, "is no job name"),
    ] {
        let (found, said) = world.get(path).await.error();
        assert!(found == status && said.contains(words), "{path}: {found} {said}");
    }
}

#[tokio::test]
async fn shows_the_newest_pictures_that_are_still_there() {
    let world = World::connected("").await;
    let png = |text: &str| [b"\x89PNG\r\n\x1a\n", text.as_bytes()].concat();
    let example = Example {
        key: "k1".into(),
        model: String::new(),
        attack: "pgd10".into(),
        epsilon: 4.0 / 255.0,
        label: 0,
        before: (0, 0.9),
        after: (1, 0.8),
        original: png("before"),
        adversarial: png("after"),
    };
    let fake = Example { adversarial: b"<script>".to_vec(), ..example.clone() };
    let mut writer = ShardWriter::new(Vec::new());
    for number in 0..20 {
        let meta = json!({ "predicted_before": 1, "predicted_after": 1, "epsilon": 0.01, "class": "rose" });
        let (key, image) = (format!("s{number}"), png("shard"));
        writer.append(&Sample { key, label: 1, image, extension: Extension::Png, meta }).unwrap();
    }
    let put = async |name: &str, bytes: Vec<u8>| {
        let key = Key::new(format!("jobs/night/attempts/{name}")).unwrap();
        Pictures { task: TaskId(name.into()), blob: world.store.put_bytes(&key, bytes).await.unwrap() }
    };
    let shard = put("shard.tar", writer.finish().unwrap()).await;
    let examples = put("examples.json", serde_json::to_vec(&[fake, example]).unwrap()).await;
    let gone = put("gone.json", b"[1]".to_vec()).await;
    world.store.delete(&gone.blob.key).await.unwrap();
    let layers = Layers::new().unwrap().resolve().unwrap().settings.of_job();
    let spec = json!({
        "version": 1, "id": "night", "program": "train", "settings": layers, "source": "", "weights": null,
        "created": "2026-01-02T03:04:05Z",
        "model": null,
    });
    world.store.put_json(&Key::new("jobs/night/spec.json").unwrap(), &spec).await.unwrap();
    let (examples_id, shard_id) = (examples.blob.sha256.clone(), shard.blob.sha256.clone());
    world.job("night", |s| s.pictures = vec![shard, examples, gone]).await;

    let found = world.get("/api/jobs/night/pictures").await.json();
    assert_eq!((&found["task"], found["pictures"].as_array().unwrap().len()), (&json!("examples.json"), 1));
    let shown = &found["pictures"][0];
    assert_eq!(
        (&shown["class"], &shown["after"], &shown["epsilon"]),
        (&json!("class 0"), &json!("class 1"), &json!("4/255"))
    );
    for (which, bytes) in [("original", png("before")), ("adversarial", png("after"))] {
        let picture = world.get(shown[which].as_str().unwrap()).await;
        assert_eq!((picture.status, &picture.headers["content-type"][..], picture.body), (200, "image/png", bytes));
    }
    let of_shard = world.get(&format!("/api/jobs/night/pictures/{shard_id}/11-adversarial.png")).await;
    assert_eq!(of_shard.body, png("shard"));
    for path in [
        format!("/api/jobs/night/pictures/{shard_id}/12-adversarial.png"),
        format!("/api/jobs/night/pictures/{shard_id}/0-original.png"),
        format!("/api/jobs/night/pictures/{examples_id}/0-else.png"),
        format!("/api/jobs/night/pictures/{}/0-original.png", "0".repeat(64)),
    ] {
        assert_eq!(world.get(&path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn only_the_token_changes_anything() {
    let wish = json!({ "job": "probe", "rehearse": 3 });
    let closed = World::connected("").await;
    let (status, said) = closed.post("/api/jobs", Some("anything"), wish.clone()).await.error();
    assert!(status == 403 && said.contains("http.token"), "{said}");

    let world = World::connected(TOKEN).await;
    for path in ["/api/jobs", "/api/jobs/probe/cancel", "/api/jobs/probe/retry"] {
        let missing = world.post(path, None, wish.clone()).await;
        assert_eq!(missing.headers["www-authenticate"], "Bearer");
        assert!(missing.error().1.contains("Authorization: Bearer"), "{}", missing.text());
        let wrong = world.post(path, Some("open-sesame-4712"), wish.clone()).await;
        assert_eq!(wrong.error(), (401, "this is not the token of http.token".into()));
    }
    assert_eq!(Jobs::new(world.store.clone()).names().await.unwrap(), []);

    let fresh = world.post("/api/jobs", Some(TOKEN), wish.clone()).await;
    assert_eq!((fresh.status, fresh.json()), (201, json!({ "job": "probe", "submitted": true })));
    let again = world.post("/api/jobs", Some(TOKEN), wish).await;
    assert_eq!((again.status, again.json()["submitted"].clone()), (200, json!(false)));
    assert_eq!(world.queue.backlog(Topic::Events).await.unwrap(), 2, "coordinators are woken");
    assert_eq!(world.post("/api/jobs/probe/cancel", Some(TOKEN), json!({})).await.status, 200);
    let jobs = Jobs::new(world.store.clone());
    assert_eq!(jobs.to_cancel().await.unwrap(), ["probe".parse().unwrap()]);
    let (status, said) = world.post("/api/jobs/probe/retry", Some(TOKEN), json!({})).await.error();
    assert!(status == 400 && said.contains("only a failed or cancelled one"), "{said}");
}

#[tokio::test]
async fn wishes_that_make_no_job_are_refused_with_the_reason() {
    let world = World::connected(TOKEN).await;
    for (wish, words) in [
        (json!({ "job": "x" }), "either data"),
        (json!({ "job": "x", "rehearse": 1, "data": "s3://b/p" }), "either data"),
        (json!({ "job": "x", "data": "/etc" }), "either data"),
        (json!({ "job": "x", "data": "file:///etc" }), "either data"),
        (json!({ "job": "../x", "rehearse": 1 }), "is no job name"),
        (json!({ "job": "x", "rehearse": 1, "extra": 1 }), "unknown field `extra`"),
        (json!({ "job": "x", "rehearse": 1, "settings": { "train.round": 1 } }), "did you mean 'train.rounds'"),
        (json!({ "job": "x", "rehearse": 1, "settings": { "train.rounds": "a" } }), "in the request"),
        (
            json!({ "job": "x", "data": "s3://b/p", "settings": { "model.weights": "/etc/passwd" } }),
            "only imagenet and none",
        ),
    ] {
        let (status, said) = world.post("/api/jobs", Some(TOKEN), wish.clone()).await.error();
        assert!(status == 400 && said.contains(words), "{wish}: {status} {said}");
    }
    let wish = json!({ "job": "real", "data": "s3://b/p", "settings": { "model.weights": "none", "train.rounds": 3 } });
    assert_eq!(world.post("/api/jobs", Some(TOKEN), wish).await.status, 201);
    let spec = Jobs::new(world.store.clone()).spec(&"real".parse().unwrap()).await.unwrap();
    assert_eq!((spec.settings.train.rounds, spec.source.as_str(), spec.weights), (3, "s3://b/p", None));
    assert_eq!(spec.settings.http.listen, "", "what says where things are is blanked");
}
