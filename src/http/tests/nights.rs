//! What is shown of nights: their models, how they ended, and what they left and went without.

use serde_json::json;

use super::World;
use crate::coordinator::Outcome;
use crate::jobs::State;
use crate::registry::{Happening, Note, Registry};
use crate::report::LeftOut;
use crate::store::Key;

#[tokio::test]
async fn shows_models_and_what_their_nights_came_to() {
    let world = World::connected("").await;
    let registry = Registry::new(world.store.clone(), &"flowers".parse().unwrap());
    for (night, what, reason) in [
        ("n1", Happening::Rejected, "not so: clean accuracy has not fallen"),
        ("n2", Happening::Failed, "the photos <b>s3://nowhere</b> cannot be read"),
    ] {
        let note = Note { night: Some(night.parse().unwrap()), ..Note::new(what, reason) };
        registry.note(note).await.unwrap();
    }
    let told = world.get("/api/models").await.json();
    assert_eq!(told.as_array().unwrap().len(), 1);
    let flowers = &told[0];
    assert_eq!((&flowers["model"], &flowers["current"]), (&json!("flowers"), &json!(null)));
    assert_eq!((&flowers["night"], &flowers["outcome"]), (&json!("n2"), &json!("failed")));
    assert!(flowers["reason"].as_str().unwrap().contains("cannot be read"), "{flowers}");

    let page = world.get("/models/flowers/history.html").await;
    assert_eq!((page.status, &page.headers["content-type"][..]), (200, "text/html; charset=utf-8"));
    let text = page.text();
    assert!(text.contains("clean accuracy has not fallen") && text.contains("&lt;b&gt;"), "{text}");
    let policy = &page.headers["content-security-policy"];
    assert!(!policy.contains("script-src") && policy.contains("default-src 'none'"), "it runs nothing: {policy}");

    for (path, status, words) in [
        ("/models/roses/history.html", 404, "there is no model roses"),
        ("/models/..%2Fflowers/history.html", 400, "is no model name"),
    ] {
        let (found, said) = world.get(path).await.error();
        assert!(found == status && said.contains(words), "{path}: {found} {said}");
    }
}

#[tokio::test]
async fn of_a_night_its_end_is_shown_and_only_what_it_left_is_linked() {
    let world = World::connected("").await;
    let ended = Outcome {
        reason: "not so: every sanity check passed".into(),
        epsilon: 4.0 / 255.0,
        new: 9,
        ..Outcome::for_tests("n1", Happening::Rejected)
    };
    let lost = LeftOut { task: "inspect-00001".into(), why: "failed (attempts a, b): it is corrupt".into() };
    world
        .job("flowers-n1", |s| {
            s.state = State::Done;
            s.night = Some(ended);
            s.left_out = vec![lost];
        })
        .await;
    world.job("flowers-n2", |_| {}).await;
    for name in
        ["jobs/flowers-n1/result/report.html", "jobs/flowers-n1/result/night.json", "jobs/flowers-n2/result/night.json"]
    {
        world.store.put_bytes(&Key::new(name).unwrap(), "{}").await.unwrap();
    }
    let told = world.get("/api/jobs/flowers-n1").await.json();
    assert_eq!(told["results"], json!(["report.html", "night.json"]));
    assert_eq!((&told["night"]["outcome"], &told["night"]["night"]), (&json!("rejected"), &json!("n1")));
    assert_eq!(world.get("/api/jobs/flowers-n2").await.json()["results"], json!([]), "it has not ended");
    let night = world.get("/jobs/flowers-n1/night.json").await;
    assert_eq!((night.status, &night.headers["content-type"][..]), (200, "application/json"));
    assert_eq!(world.get("/jobs/flowers-n1/report.json").await.status, 404);

    let listed = world.get("/api/jobs").await.json();
    let of =
        |name: &str| listed["jobs"].as_array().unwrap().iter().find(|j| j["job"] == name).unwrap()["left_out"].clone();
    assert_eq!(of("flowers-n1")[0]["task"], "inspect-00001");
    assert!(of("flowers-n1")[0]["why"].as_str().unwrap().contains("attempts a, b"));
    assert_eq!(of("flowers-n2"), json!([]));
}
