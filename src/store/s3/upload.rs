//! Writing: small bodies in one request, larger ones in parts.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::failure::Failure;
use super::retry::{Limits, insist};
use super::{Inner, S3Store};
use crate::error::{Context, Error, Kind, Result};
use crate::store::local::Hashing;
use crate::store::{Blob, Key, Reader, Store};

/// The size of a part, and of the largest body that is sent whole.
pub(super) const PART: usize = 8 << 20;

/// Parts under way at once, each of them in memory; one more is being read.
const PARALLEL: usize = 3;

/// Metadata by which an upload recognises its own object.
const TOKEN: &str = "hardy-upload";

pub(super) async fn put(store: &S3Store, key: &Key, body: Reader) -> Result<Blob> {
    let mut body = Hashing::new(body);
    let first = read_part(&mut body, PART, store, key).await?;
    let body = if first.len() < PART {
        put_whole(store, key, first).await.map_err(|e| refused(store, key, &e))?;
        body
    } else {
        let upload = Upload { store: store.clone(), key: key.clone(), name: store.inner.location.name(key).into() };
        // A task of its own, since it has to clean up when this future is dropped: then the guard cancels it.
        let dropped = CancellationToken::new();
        let _guard = dropped.clone().drop_guard();
        let task = tokio::spawn(upload.run(first, body, dropped));
        task.await.context(Kind::Internal, || format!("the upload of {key} was broken off"))??
    };
    let (sha256, size) = body.finish();
    Ok(Blob { key: key.clone(), sha256, size })
}

async fn put_whole(store: &S3Store, key: &Key, bytes: Bytes) -> Result<(), Failure> {
    let Inner { client, location, patience, .. } = &*store.inner;
    let limits = Limits::sending(*patience, bytes.len());
    let request = || {
        let body = ByteStream::from(bytes.clone());
        client.put_object().bucket(&location.bucket).key(location.name(key)).body(body).send()
    };
    insist("writing an object", limits, request).await.map(drop)
}

/// Writes an object unless there is one.
pub(super) async fn create(store: &S3Store, key: &Key, bytes: Bytes) -> Result<bool> {
    let Inner { client, location, patience, .. } = &*store.inner;
    let limits = Limits::sending(*patience, bytes.len());
    let request = || {
        let request = client.put_object().bucket(&location.bucket).key(location.name(key)).if_none_match("*");
        request.body(ByteStream::from(bytes.clone())).send()
    };
    let there = async || match <dyn Store>::get_bytes(store, key, bytes.len() as u64).await {
        Ok(found) => Ok(Some(found == bytes)),
        Err(e) if e.kind() == Kind::NotFound => Ok(None),
        Err(e) if e.kind() == Kind::Data => Ok(Some(false)),
        Err(e) => Err(e),
    };
    match insist("creating an object", limits, request).await {
        Ok(_) => Ok(true),
        // The answer to an earlier attempt may have been lost after it had succeeded.
        Err(e) if e.code == "PreconditionFailed" && e.tries > 1 => Ok(there().await? == Some(true)),
        Err(e) if e.code == "PreconditionFailed" => Ok(false),
        // A server that does not know the condition: looking first is the best that can be done.
        Err(e) if e.code == "NotImplemented" => match there().await? {
            Some(_) => Ok(false),
            None => put_whole(store, key, bytes.clone()).await.map(|()| true).map_err(|e| refused(store, key, &e)),
        },
        Err(e) => Err(refused(store, key, &e)),
    }
}

/// Reads `size` bytes, or fewer where the body ends.
async fn read_part(body: &mut Hashing<Reader>, size: usize, store: &S3Store, key: &Key) -> Result<Bytes> {
    let mut part = Vec::new();
    body.take(size as u64)
        .read_to_end(&mut part)
        .await
        .context(Kind::Storage, || format!("{key} cannot be written to {}", store.inner.location))?;
    Ok(part.into())
}

/// The size of part `number`, counted from 1. Parts grow after the first gigabytes: S3 takes at most
/// 10,000 of them, and this way they hold 1.4 TB.
fn part_size(number: usize) -> usize {
    PART * (1 + number.saturating_sub(1000) / 250)
}

fn refused(store: &S3Store, key: &Key, failure: &Failure) -> Error {
    store.error(format!("{key} cannot be written to {}", store.inner.location), failure)
}

struct Upload {
    store: S3Store,
    key: Key,
    name: Arc<str>,
}

impl Upload {
    /// Sends everything and returns the body for its hash. What goes wrong, or `dropped`, leaves nothing.
    async fn run(self, first: Bytes, mut body: Hashing<Reader>, dropped: CancellationToken) -> Result<Hashing<Reader>> {
        let token = hex::encode(rand::random::<u128>().to_be_bytes());
        let id = self.create(&token).await?;
        let sent = tokio::select! {
            sent = self.send(&id, &token, first, &mut body) => sent,
            () = dropped.cancelled() => Err(Error::new(Kind::Interrupted, format!("the upload of {} was given up", self.key))),
        };
        if sent.is_err() {
            self.abort(&id).await;
        }
        sent.map(|()| body)
    }

    async fn create(&self, token: &str) -> Result<Arc<str>> {
        let Inner { client, location, .. } = &*self.store.inner;
        let request = || {
            let request = client.create_multipart_upload().bucket(&location.bucket).key(&*self.name);
            request.metadata(TOKEN, token).send()
        };
        let created = insist("beginning an upload", self.store.small(), request).await;
        let created = created.map_err(|e| self.refused(&e))?;
        let id = created.upload_id().ok_or_else(|| self.refused(&Failure::local(false, "the upload has no id")))?;
        Ok(id.into())
    }

    async fn send(&self, id: &Arc<str>, token: &str, first: Bytes, body: &mut Hashing<Reader>) -> Result<()> {
        let mut parts = Vec::new();
        let mut under_way = JoinSet::new();
        let mut next = first;
        for number in 1.. {
            let last = next.len() < part_size(number);
            if number == 1 || !next.is_empty() {
                if under_way.len() == PARALLEL {
                    parts.extend(self.sent(&mut under_way).await?);
                }
                under_way.spawn(send_part(self.store.clone(), self.name.clone(), id.clone(), number, next));
            }
            if last {
                break;
            }
            next = read_part(body, part_size(number + 1), &self.store, &self.key).await?;
        }
        while let Some(part) = self.sent(&mut under_way).await? {
            parts.push(part);
        }
        parts.sort_by_key(|part| part.part_number());
        self.complete(id, token, parts).await
    }

    async fn sent(&self, under_way: &mut JoinSet<Result<CompletedPart, Failure>>) -> Result<Option<CompletedPart>> {
        let Some(part) = under_way.join_next().await else { return Ok(None) };
        let part = part.context(Kind::Internal, || format!("the upload of {} was broken off", self.key))?;
        part.map(Some).map_err(|e| self.refused(&e))
    }

    async fn complete(&self, id: &str, token: &str, parts: Vec<CompletedPart>) -> Result<()> {
        let Inner { client, location, patience, .. } = &*self.store.inner;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        // A server may copy all parts into place before it answers.
        let limits = Limits { attempt: *patience, ..self.store.small() };
        let request = || {
            let request = client.complete_multipart_upload().bucket(&location.bucket).key(&*self.name);
            request.upload_id(id).multipart_upload(parts.clone()).send()
        };
        match insist("ending an upload", limits, request).await {
            Ok(_) => Ok(()),
            // The answer to an earlier attempt may have been lost after it had succeeded.
            Err(e) if e.code == "NoSuchUpload" && e.tries > 1 && self.is_there(token).await => Ok(()),
            Err(e) => Err(self.refused(&e)),
        }
    }

    async fn is_there(&self, token: &str) -> bool {
        let Inner { client, location, .. } = &*self.store.inner;
        let request = || client.head_object().bucket(&location.bucket).key(&*self.name).send();
        let found = insist("looking for an object", self.store.small(), request).await.ok();
        found.and_then(|object| object.metadata?.remove(TOKEN)).is_some_and(|found| found == token)
    }

    /// Best effort: what is left of an upload is invisible and a rule of the bucket can remove it.
    async fn abort(&self, id: &str) {
        let Inner { client, location, .. } = &*self.store.inner;
        let request = || client.abort_multipart_upload().bucket(&location.bucket).key(&*self.name).upload_id(id).send();
        if let Err(e) = insist("aborting an upload", self.store.small(), request).await
            && e.code != "NoSuchUpload"
        {
            warn!(key = %self.key, "parts of an unfinished upload remain in {location}: {}", e.text());
        }
    }

    fn refused(&self, failure: &Failure) -> Error {
        refused(&self.store, &self.key, failure)
    }
}

async fn send_part(
    store: S3Store,
    name: Arc<str>,
    id: Arc<str>,
    number: usize,
    bytes: Bytes,
) -> Result<CompletedPart, Failure> {
    let Inner { client, location, patience, .. } = &*store.inner;
    let number = i32::try_from(number).map_err(|_| Failure::local(false, "there are too many parts"))?;
    let limits = Limits::sending(*patience, bytes.len());
    let request = || {
        let request = client.upload_part().bucket(&location.bucket).key(&*name).upload_id(&*id);
        request.part_number(number).body(ByteStream::from(bytes.clone())).send()
    };
    let sent = insist("sending a part", limits, request).await?;
    Ok(CompletedPart::builder()
        .part_number(number)
        .set_e_tag(sent.e_tag)
        .set_checksum_crc32(sent.checksum_crc32)
        .set_checksum_crc32_c(sent.checksum_crc32_c)
        .set_checksum_crc64_nvme(sent.checksum_crc64_nvme)
        .set_checksum_sha1(sent.checksum_sha1)
        .set_checksum_sha256(sent.checksum_sha256)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_hold_a_terabyte() {
        let total: usize = (1..=10_000).map(part_size).sum();
        assert!(total > 1_400_000_000_000, "{total}");
        assert!(part_size(10_000) < 320 << 20);
        assert_eq!(part_size(1000), PART);
    }
}
