//! The store before a real server. Each test starts one, so each asks many things of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::{Inner, Location, S3Store, client};
use crate::config::StoreSettings;
use crate::error::{Kind, Result};
use crate::servers::seaweedfs::SeaweedFs;
use crate::store::{Key, Store, contract};

mod faults;

const MIB: usize = 1 << 20;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn settings(endpoint: &str) -> StoreSettings {
    StoreSettings { url: "".into(), endpoint: endpoint.into(), region: "".into(), path_style: true }
}

/// A store with its own credentials: the tests of one process share its environment.
async fn connect(endpoint: &str, (id, secret): (&str, &str), url: &str, patience: Duration) -> S3Store {
    let credentials = SharedCredentialsProvider::new(Credentials::new(id, secret, None, None, "test"));
    let (client, server) = client::with(&settings(endpoint), credentials).await.unwrap();
    S3Store::new(client, Location::parse(url).unwrap(), server, patience)
}

async fn store(server: &SeaweedFs, endpoint: &str, prefix: &str) -> S3Store {
    let [(_, id), (_, secret)] = server.credentials();
    connect(endpoint, (id, secret), &format!("s3://photos/{prefix}"), Duration::from_secs(120)).await
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A body of zeros that ends as told.
struct Zeros(usize, fn() -> Poll<std::io::Result<()>>);

impl AsyncRead for Zeros {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.0 == 0 {
            return self.1();
        }
        let n = buf.remaining().min(self.0);
        buf.put_slice(&vec![0; n]);
        self.0 -= n;
        Poll::Ready(Ok(()))
    }
}

async fn names(store: &dyn Store) -> Vec<String> {
    let entries: Vec<_> = store.list(None).await.unwrap().try_collect().await.unwrap();
    entries.into_iter().map(|e| e.key.as_str().to_string()).collect()
}

/// Waits until no multipart upload is left below the store.
async fn no_upload_remains(store: &S3Store) {
    let (client, bucket) = (&store.inner.client, &store.inner.location.bucket);
    for _ in 0..50 {
        let uploads = client.list_multipart_uploads().bucket(bucket).send().await.unwrap();
        if uploads.uploads().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("an upload remains");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_as_a_store() {
    let server = SeaweedFs::start();
    server.bucket("photos");
    let root = store(&server, &server.endpoint(), "").await;
    root.check().await.unwrap();
    // An empty upload list is only a proof where a begun upload shows in it.
    let begun = root.inner.client.create_multipart_upload().bucket("photos").key("begun").send().await.unwrap();
    let listed = root.inner.client.list_multipart_uploads().bucket("photos").send().await.unwrap();
    assert_eq!(listed.uploads().len(), 1);
    let abort = root.inner.client.abort_multipart_upload().bucket("photos").key("begun");
    abort.upload_id(begun.upload_id().unwrap()).send().await.unwrap();

    let stores = ["returns", "replaces", "creates", "lists", "tells", "takes", "leaves", "finds"];
    let mut made = 0;
    contract::run(|case| {
        assert!(case.starts_with(stores[made]), "{case}");
        made += 1;
        let location = Location::parse(&format!("s3://photos/contract/{case}")).unwrap();
        Arc::new(S3Store::new(root.inner.client.clone(), location, "x".into(), Duration::from_secs(30)))
    })
    .await;
    moves_large_bodies(&store(&server, &server.endpoint(), "large").await).await;
    lists_thousands(&store(&server, &server.endpoint(), "many").await).await;
    answers_every_check(&store(&server, &server.endpoint(), "probe").await).await;
    says_what_is_wrong(&server).await;
    takes_credentials_from_the_environment(&server);
}

async fn moves_large_bodies(s3: &S3Store) {
    let store: &dyn Store = s3;
    for length in [40 * MIB + 17, 8 * MIB, 8 * MIB - 1] {
        let bytes = noise(length);
        let blob = store.put_bytes(&key("noise"), bytes.clone()).await.unwrap();
        assert_eq!(blob.size, length as u64);
        assert!(store.get_blob(&blob).await.unwrap() == bytes, "{length}");
    }
    let broken = Zeros(20 * MIB, || Poll::Ready(Err(std::io::Error::other("the cable was pulled"))));
    let error = s3.put(&key("broken"), Box::new(broken)).await.unwrap_err();
    assert!(error.chain().contains("the cable was pulled"), "{error:?}");
    no_upload_remains(s3).await;
    let dropped = key("dropped");
    let endless = s3.put(&dropped, Box::new(Zeros(20 * MIB, || Poll::Pending)));
    assert!(tokio::time::timeout(Duration::from_secs(3), endless).await.is_err());
    no_upload_remains(s3).await;
    assert_eq!(names(s3).await, ["noise"]);
}

async fn lists_thousands(s3: &S3Store) {
    let store: &dyn Store = s3;
    let mut written: Vec<_> = (0..1100).map(|i| format!("a/{i}")).collect();
    for chunk in written.chunks(20) {
        let puts = chunk.iter().map(|name| async move { store.put_bytes(&key(name), "x").await.unwrap() });
        futures_util::future::join_all(puts).await;
    }
    for name in ["a.txt", "a-b", "a!", "b\r\n\u{1}\u{7f}", "\u{1f33c}+ %2B"] {
        store.put_bytes(&key(name), "x").await.unwrap();
        written.push(name.into());
    }
    written.sort();
    assert_eq!(names(store).await, written);
    // Longer than a key may be, as others may name an object.
    let long = ["x".repeat(200).as_str(); 5].join("/");
    let Inner { client, location, .. } = &*s3.inner;
    client.put_object().bucket(&location.bucket).key(format!("many/{long}")).send().await.unwrap();
    let mut entries: Vec<_> = store.list(None).await.unwrap().collect().await;
    assert_eq!(entries.pop().unwrap().unwrap_err().kind(), Kind::Data);
    assert!(entries.len() == written.len() && entries.iter().all(Result::is_ok));
}

async fn answers_every_check(s3: &S3Store) {
    for check in s3.probe().await {
        eprintln!("{}: {:?}", check.name, check.result);
        check.result.unwrap();
    }
    assert_eq!(names(s3).await, [""; 0]);
}

async fn says_what_is_wrong(server: &SeaweedFs) {
    let [(_, id), (_, secret)] = server.credentials();
    let wrong = "a-secret-that-is-wrong";
    let here = server.endpoint();
    let cases = [
        (&*here, (id, wrong), "s3://photos", "AWS_SECRET_ACCESS_KEY"),
        (&*here, ("nobody", wrong), "s3://photos", "AWS_ACCESS_KEY_ID"),
        (&*here, (id, secret), "s3://missing/x", "create the bucket or correct store.url"),
        ("http://127.0.0.1:1", (id, secret), "s3://photos", "check store.endpoint"),
        ("http://no-such-host.invalid", (id, secret), "s3://photos", "check store.endpoint"),
    ];
    for (endpoint, credentials, url, advice) in cases {
        let s3 = connect(endpoint, credentials, url, Duration::from_secs(2)).await;
        let checks: [Result<()>; 3] = [
            s3.check().await,
            s3.get(&key("x")).await.map(drop),
            (&s3 as &dyn Store).put_bytes(&key("x"), "x").await.map(drop),
        ];
        for result in checks {
            let error = result.unwrap_err();
            let text = error.chain();
            eprintln!("{text}");
            assert_eq!(error.kind(), Kind::Storage, "{text}");
            assert!(text.contains(advice) && text.contains(endpoint) && text.contains(url), "{text}");
            assert!(!text.contains(wrong) && !text.contains(secret) && !text.contains(id), "{text}");
        }
        assert!(!format!("{s3:?}").contains(credentials.1));
    }
}

/// The environment belongs to a process, so this runs a test in one of its own.
fn takes_credentials_from_the_environment(server: &SeaweedFs) {
    let run = |variables: &[(&str, &str)]| {
        let program = std::env::current_exe().unwrap();
        let name = std::any::type_name_of_val(&opens_what_the_environment_names);
        let name = name.split_once("::").unwrap().1.split("::{{").next().unwrap();
        let mut command = std::process::Command::new(program);
        command.args(["--ignored", "--exact", name, "--nocapture"]).env("HARDY_TEST_ENDPOINT", server.endpoint());
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION"] {
            command.env_remove(name);
        }
        command.env("HOME", "/nonexistent").env("AWS_EC2_METADATA_DISABLED", "true");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("1 passed") || !output.status.success(), "{text}");
        (output.status.success(), text.into_owned())
    };
    let (passed, text) = run(&server.credentials());
    assert!(passed, "{text}");
    let (passed, text) = run(&[]);
    assert!(!passed && text.contains("there are no credentials; set AWS_ACCESS_KEY_ID"), "{text}");
}

#[tokio::test]
#[ignore = "run by serves_as_a_store with an environment of its own"]
async fn opens_what_the_environment_names() {
    let settings = settings(&std::env::var("HARDY_TEST_ENDPOINT").unwrap());
    let patience = Duration::from_secs(5);
    let store = crate::store::open_within("s3://photos/environment", &settings, patience).await.unwrap();
    store.put_bytes(&key("x"), "x").await.unwrap();
    let mut text = String::new();
    let again = crate::store::create_within("s3://photos", &settings, patience).await.unwrap();
    again.get(&key("environment/x")).await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "x");
}
