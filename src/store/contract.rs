//! What every store must do. Each implementation runs this suite.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::TryStreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::{Key, LocalStore, Store};
use crate::error::Kind;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn keys(store: &dyn Store, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(key);
    let entries: Vec<_> = store.list(prefix.as_ref()).await.unwrap().try_collect().await.unwrap();
    entries.into_iter().map(|e| e.key.as_str().to_string()).collect()
}

async fn returns_what_was_put(store: Arc<dyn Store>) {
    let long: Vec<u8> = (0..3_000_000u32).map(|i| (i * 31 % 251) as u8).collect();
    for (name, bytes) in [("a/empty", vec![]), ("a/short", b"abc".to_vec()), ("a/long", long)] {
        let blob = store.put_bytes(&key(name), bytes.clone()).await.unwrap();
        assert_eq!(blob.size, bytes.len() as u64);
        assert_eq!(store.get_blob(&blob).await.unwrap(), bytes);
    }
    let short = store.put_bytes(&key("b"), "abc").await.unwrap();
    assert_eq!(short.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

async fn replaces_and_deletes(store: Arc<dyn Store>) {
    store.put_bytes(&key("x"), "old").await.unwrap();
    let new = store.put_bytes(&key("x"), "new!").await.unwrap();
    assert_eq!(store.get_blob(&new).await.unwrap(), "new!");
    store.delete(&key("x")).await.unwrap();
    store.delete(&key("x")).await.unwrap();
    assert_eq!(store.get(&key("x")).await.err().unwrap().kind(), Kind::NotFound);
}

async fn creates_once(store: Arc<dyn Store>) {
    let bodies: Vec<String> = (0..8).map(|i| format!("writer {i}")).collect();
    let name = key("a/only");
    let writers = bodies.iter().map(|body| store.create(&name, body.clone().into()));
    let created: Vec<bool> = futures_util::future::try_join_all(writers).await.unwrap();
    assert_eq!(created.iter().filter(|c| **c).count(), 1, "{created:?}");
    let winner = created.iter().position(|c| *c).unwrap();
    assert_eq!(store.get_bytes(&name, 100).await.unwrap(), bodies[winner]);
    store.delete(&name).await.unwrap();
    assert!(store.create(&name, "again".into()).await.unwrap());
    store.put_bytes(&name, "put").await.unwrap();
    assert!(!store.create(&name, "later".into()).await.unwrap());
}

async fn lists_in_order_below_a_prefix_only(store: Arc<dyn Store>) {
    for name in ["job/2", "job/10", "job/a/b", "jobs/1", "other"] {
        store.put_bytes(&key(name), "x").await.unwrap();
    }
    assert_eq!(keys(&*store, Some("job")).await, ["job/10", "job/2", "job/a/b"]);
    assert_eq!(keys(&*store, Some("nothing")).await, [""; 0]);
    assert_eq!(keys(&*store, None).await.len(), 5);
}

async fn tells_what_was_written_again(store: Arc<dyn Store>) {
    let stamps = async || {
        let entries: Vec<_> = store.list(None).await.unwrap().try_collect().await.unwrap();
        entries.into_iter().map(|e| e.stamp.unwrap()).collect::<Vec<_>>()
    };
    store.put_bytes(&key("changed"), "old").await.unwrap();
    store.put_bytes(&key("left"), "old").await.unwrap();
    let before = stamps().await;
    // The clocks of file systems tick in milliseconds.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(stamps().await, before);
    store.put_bytes(&key("changed"), "new").await.unwrap();
    let after = stamps().await;
    assert!(after[0] != before[0] && after[1] == before[1], "{before:?} {after:?}");
}

async fn takes_the_names_of_photos(store: Arc<dyn Store>) {
    for name in ["a b.jpg", "rosés/ü%20&+?.png", "line\nbreak.png"] {
        let blob = store.put_bytes(&key(name), name).await.unwrap();
        assert_eq!(store.get_blob(&blob).await.unwrap(), name);
        assert!(keys(&*store, None).await.contains(&name.to_string()), "{name:?}");
    }
}

/// A body that breaks off with an error after some bytes.
struct Broken(usize);

impl AsyncRead for Broken {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.0 == 0 {
            return Poll::Ready(Err(std::io::Error::other("the cable was pulled")));
        }
        self.0 -= 1;
        let n = buf.remaining().min(512);
        buf.put_slice(&[7; 512][..n]);
        Poll::Ready(Ok(()))
    }
}

async fn leaves_nothing_of_a_broken_write(store: Arc<dyn Store>) {
    store.put_bytes(&key("kept"), "old").await.unwrap();
    for name in ["kept", "fresh"] {
        let error = store.put(&key(name), Box::new(Broken(100))).await.unwrap_err();
        assert!(error.chain().contains("the cable was pulled"), "{}", error.chain());
    }
    assert_eq!(keys(&*store, None).await, ["kept"]);
    let mut text = String::new();
    store.get(&key("kept")).await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "old");
}

async fn finds_corruption_and_oversize(store: Arc<dyn Store>) {
    let blob = store.put_bytes(&key("shard"), "good bytes").await.unwrap();
    store.put_bytes(&key("shard"), "evil bytes").await.unwrap();
    assert!(store.get_blob(&blob).await.unwrap_err().chain().contains("shard is corrupt"));
    store.put_bytes(&key("shard"), "many more bytes").await.unwrap();
    assert_eq!(store.get_blob(&blob).await.unwrap_err().kind(), Kind::Data);
    store.put_bytes(&key("shard"), "less").await.unwrap();
    assert!(store.get_blob(&blob).await.is_err());
}

/// Hands the names of all cases to a macro.
macro_rules! cases {
    ($then:ident) => {
        $then!(
            returns_what_was_put,
            replaces_and_deletes,
            creates_once,
            lists_in_order_below_a_prefix_only,
            tells_what_was_written_again,
            takes_the_names_of_photos,
            leaves_nothing_of_a_broken_write,
            finds_corruption_and_oversize,
        );
    };
}

/// Runs every case after another, each in the store that `make` gives for its name. For stores in front
/// of a server, which takes longer to start than the cases to run.
pub(super) async fn run(mut make: impl FnMut(&str) -> Arc<dyn Store>) {
    macro_rules! run {
        ($($case:ident),* $(,)?) => {$(
            eprintln!("case {}", stringify!($case));
            $case(make(stringify!($case))).await;
        )*};
    }
    cases!(run);
}

mod local {
    use super::*;

    macro_rules! tests {
        ($($case:ident),* $(,)?) => {$(
            #[tokio::test]
            async fn $case() {
                let folder = tempfile::tempdir().unwrap();
                super::$case(Arc::new(LocalStore::create(folder.path()).unwrap())).await;
            }
        )*};
    }
    cases!(tests);
}
