//! Reading: a body that breaks off or stalls goes on where it stopped.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tracing::warn;

use super::failure::Failure;
use super::retry::{Limits, insist, pause};
use super::{Inner, S3Store};
use crate::error::{Error, Kind, Result};
use crate::store::{Key, Reader};

/// How long a body may bring nothing.
const STALL: Duration = Duration::from_secs(20);

/// So much must arrive before an interruption counts as overcome.
const PROGRESS: u64 = 1 << 20;

type Bytes = Pin<Box<dyn AsyncRead + Send>>;

pub(super) async fn get(store: &S3Store, key: &Key) -> Result<Reader> {
    let object = request(store, key, Limits::small(store.inner.patience), None).await.map_err(|e| {
        let location = &store.inner.location;
        if e.no_such_key() {
            return Error::not_found(format!("there is no object {key} in {location}"));
        }
        store.error(format!("{key} cannot be read from {location}"), &e)
    })?;
    Ok(Box::new(Body {
        store: store.clone(),
        key: key.clone(),
        etag: object.e_tag.clone(),
        length: object.content_length.and_then(|n| u64::try_from(n).ok()),
        offset: 0,
        state: State::Open(bytes(object)),
        stall: None,
        trouble: None,
    }))
}

/// From where an object is read on, and which object it must be.
struct Rest {
    offset: u64,
    etag: String,
}

async fn request(store: &S3Store, key: &Key, limits: Limits, rest: Option<Rest>) -> Result<GetObjectOutput, Failure> {
    let Inner { client, location, .. } = &*store.inner;
    let request = || {
        let request = client.get_object().bucket(&location.bucket).key(location.name(key));
        match &rest {
            None => request.send(),
            Some(Rest { offset: 0, etag }) => request.if_match(etag).send(),
            Some(Rest { offset, etag }) => request.if_match(etag).range(format!("bytes={offset}-")).send(),
        }
    };
    let object = insist("reading an object", limits, request).await?;
    if let Some(Rest { offset, etag }) = rest {
        let starts = object.content_range().is_some_and(|range| range.starts_with(&format!("bytes {offset}-")));
        if object.e_tag() != Some(&etag) {
            return Err(Failure::local(false, "the object was replaced while it was read"));
        }
        if offset > 0 && !starts {
            return Err(Failure::local(false, "the server does not send parts of objects"));
        }
    }
    Ok(object)
}

fn bytes(object: GetObjectOutput) -> Bytes {
    Box::pin(object.body.into_async_read())
}

enum State {
    Open(Bytes),
    Reopening(BoxFuture<'static, Result<Bytes, Failure>>),
    Failed,
}

/// A run of interruptions without much progress between them.
struct Trouble {
    since: Instant,
    tries: u32,
    offset: u64,
}

struct Body {
    store: S3Store,
    key: Key,
    etag: Option<String>,
    length: Option<u64>,
    offset: u64,
    state: State,
    /// Runs while the reader waits.
    stall: Option<Pin<Box<Sleep>>>,
    trouble: Option<Trouble>,
}

impl Body {
    fn poll_open(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), String>> {
        let State::Open(bytes) = &mut self.state else { return Poll::Ready(Ok(())) };
        let before = buf.filled().len();
        let Poll::Ready(read) = bytes.as_mut().poll_read(cx, buf) else {
            let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL)));
            ready!(stall.as_mut().poll(cx));
            return Poll::Ready(Err(format!("nothing came for {} s", STALL.as_secs())));
        };
        self.stall = None;
        read.map_err(|e| Error::storage("the connection broke off").because(e).chain())?;
        self.offset += (buf.filled().len() - before) as u64;
        let ended = buf.filled().len() == before && buf.remaining() > 0;
        if ended && self.length.is_some_and(|length| self.offset < length) {
            return Poll::Ready(Err("the body ended early".into()));
        }
        if self.trouble.as_ref().is_some_and(|t| self.offset - t.offset >= PROGRESS) {
            self.trouble = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Decides how to go on after an interruption.
    fn interrupted(&mut self, why: &str) -> State {
        self.stall = None;
        let patience = self.store.inner.patience;
        let offset = self.offset;
        let trouble = self.trouble.get_or_insert_with(|| Trouble { since: Instant::now(), tries: 0, offset });
        trouble.tries += 1;
        let (tries, deadline) = (trouble.tries, trouble.since + patience);
        let Some(etag) = self.etag.clone() else { return self.give_up(why) };
        // Whole, and yet wrong: the rest of nothing cannot be asked for.
        if self.length == Some(offset) || tries > 1 && Instant::now() > deadline {
            return self.give_up(why);
        }
        warn!(key = %self.key, offset, tries, "S3: {why} while an object was read; reading on");
        let (store, key) = (self.store.clone(), self.key.clone());
        State::Reopening(Box::pin(async move {
            sleep(pause(tries)).await;
            let limits = Limits { deadline, ..Limits::small(patience) };
            request(&store, &key, limits, Some(Rest { offset, etag })).await.map(bytes)
        }))
    }

    fn give_up(&self, why: &str) -> State {
        let failed = Failure::local(false, format!("{why} at byte {}", self.offset));
        State::Reopening(Box::pin(std::future::ready(Err(failed))))
    }

    fn failed(&mut self, failure: &Failure) -> io::Error {
        self.state = State::Failed;
        let what = format!("{} cannot be read from {}", self.key, self.store.inner.location);
        let error = match failure.code.as_str() {
            "PreconditionFailed" => Error::storage(what).because("the object was replaced while it was read"),
            _ if failure.no_such_key() => Error::storage(what).because("the object was deleted while it was read"),
            _ => self.store.error(what, failure),
        };
        io::Error::other(error)
    }
}

impl AsyncRead for Body {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                State::Open(_) => match ready!(self.poll_open(cx, buf)) {
                    Ok(()) => return Poll::Ready(Ok(())),
                    Err(why) => self.state = self.interrupted(&why),
                },
                State::Reopening(reopening) => match ready!(reopening.as_mut().poll(cx)) {
                    Ok(bytes) => self.state = State::Open(bytes),
                    Err(failure) => return Poll::Ready(Err(self.failed(&failure))),
                },
                State::Failed => {
                    let error = Error::new(Kind::Storage, format!("{} already failed to be read", self.key));
                    return Poll::Ready(Err(io::Error::other(error)));
                }
            }
        }
    }
}
