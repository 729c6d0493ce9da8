//! Servers that are ill, slow or gone for a while.

use std::time::Instant;

use super::*;
use crate::servers::proxy::{Mode, Proxy};

/// Runs every operation once.
async fn everything(store: &dyn Store, name: &str, bytes: Vec<u8>) {
    let blob = store.put_bytes(&key(name), bytes).await.unwrap();
    store.get_blob(&blob).await.unwrap();
    assert_eq!(names(store).await, [name]);
    store.delete(&key(name)).await.unwrap();
    assert_eq!(store.get(&key(name)).await.err().unwrap().kind(), Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rides_out_trouble() {
    let mut server = SeaweedFs::start();
    server.bucket("photos");
    let proxy = Arc::new(Proxy::start(server.address()));
    let s3 = store(&server, &proxy.endpoint(), "faults").await;
    let dyn_store: &dyn Store = &s3;

    for mode in [Mode::Answer(500), Mode::Answer(503), Mode::Refuse] {
        eprintln!("{mode:?}");
        let bytes = noise(9 * MIB);
        proxy.set(mode);
        let before = proxy.accepted();
        let healing = proxy.clone();
        let heal = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            healing.set(Mode::Pass);
        });
        everything(dyn_store, "x", bytes).await;
        heal.await.unwrap();
        let attempts = proxy.accepted() - before;
        assert!((3..100).contains(&attempts), "{attempts} connections");
    }

    eprintln!("slow");
    proxy.set(Mode::Delay(Duration::from_millis(30)));
    everything(dyn_store, "slow", noise(9 * MIB)).await;
    proxy.set(Mode::Pass);

    reads_on(&s3, &proxy).await;
    gives_up(&server, &proxy).await;
    outlives_its_server(&mut server, &proxy, &s3).await;
}

async fn reads_on(s3: &S3Store, proxy: &Proxy) {
    let store: &dyn Store = s3;
    let bytes = noise(16 * MIB);
    let blob = store.put_bytes(&key("body"), bytes.clone()).await.unwrap();

    eprintln!("bodies cut after 1 MB each");
    proxy.set(Mode::Cut(1_000_000));
    let before = proxy.accepted();
    assert!(store.get_blob(&blob).await.unwrap() == bytes);
    // The first bodies come over connections that were open before.
    assert!(proxy.accepted() - before >= 10);
    proxy.set(Mode::Pass);

    eprintln!("a body that stalls");
    let mut reader = s3.get(&blob.key).await.unwrap();
    let mut read = vec![0; MIB];
    reader.read_exact(&mut read).await.unwrap();
    proxy.set(Mode::Silent);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // What was open stays dead, what is new passes.
    proxy.set(Mode::Pass);
    let begun = Instant::now();
    reader.read_to_end(&mut read).await.unwrap();
    assert!(read == bytes);
    assert!((15..30).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());

    eprintln!("an object replaced while it is read");
    let mut reader = s3.get(&blob.key).await.unwrap();
    reader.read_exact(&mut read[..MIB]).await.unwrap();
    store.put_bytes(&blob.key, noise(16 * MIB + 1)).await.unwrap();
    proxy.set(Mode::Refuse);
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.set(Mode::Pass);
    let error = reader.read_to_end(&mut read).await.unwrap_err();
    assert!(crate::error::Error::storage("x").because(error).chain().contains("replaced while it was read"));

    eprintln!("an upload interrupted");
    let (s3, store) = (s3.clone(), store);
    let bytes = noise(40 * MIB);
    let sent = bytes.clone();
    let upload = tokio::spawn(async move { (&s3 as &dyn Store).put_bytes(&key("up"), sent).await });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        proxy.set(Mode::Refuse);
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.set(Mode::Pass);
    }
    let blob = upload.await.unwrap().unwrap();
    assert!(store.get_blob(&blob).await.unwrap() == bytes);
}

async fn gives_up(server: &SeaweedFs, proxy: &Proxy) {
    let [(_, id), (_, secret)] = server.credentials();
    for (mode, text) in [
        (Mode::Answer(503), "the server answered 503"),
        (Mode::Refuse, "cannot be reached"),
        (Mode::Silent, "no answer within 2 s"),
    ] {
        proxy.set(mode);
        let s3 = connect(&proxy.endpoint(), (id, secret), "s3://photos", Duration::from_secs(2)).await;
        let begun = Instant::now();
        let error = s3.get(&key("some/photo")).await.err().unwrap();
        eprintln!("{}", error.chain());
        assert!(error.kind() == Kind::Storage && begun.elapsed() < Duration::from_secs(5), "{error:?}");
        for part in [text, "some/photo", &proxy.endpoint()] {
            assert!(error.chain().contains(part), "{part}: {error:?}");
        }
    }
    proxy.set(Mode::Pass);
}

/// For 30 seconds, with a crash at their beginning.
async fn outlives_its_server(server: &mut SeaweedFs, proxy: &Proxy, through: &S3Store) {
    eprintln!("the server is killed");
    let direct = store(server, &server.endpoint(), "outage").await;
    let s3: &dyn Store = &direct;
    let kept = s3.put_bytes(&key("kept"), noise(12 * MIB)).await.unwrap();
    let mut reader = s3.get(&kept.key).await.unwrap();
    let mut read = vec![0; MIB];
    reader.read_exact(&mut read).await.unwrap();
    server.stop();
    let reading = tokio::spawn(async move { reader.read_to_end(&mut read).await.map(|_| read) });
    let (one, two, three) = (direct.clone(), direct.clone(), through.clone());
    let put = tokio::spawn(async move { (&one as &dyn Store).put_bytes(&key("new"), noise(20 * MIB)).await });
    let list = tokio::spawn(async move { two.list(None).await?.try_collect::<Vec<_>>().await });
    let delete = tokio::spawn(async move { three.delete(&key("up")).await });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!put.is_finished() && !list.is_finished() && !delete.is_finished());
    server.restart();
    assert!(reading.await.unwrap().unwrap() == noise(12 * MIB));
    let blob = put.await.unwrap().unwrap();
    assert!(s3.get_blob(&blob).await.unwrap() == noise(20 * MIB));
    assert!(!list.await.unwrap().unwrap().is_empty());
    delete.await.unwrap().unwrap();
    assert!(!names(through).await.contains(&"up".to_string()), "{}", proxy.endpoint());
}
