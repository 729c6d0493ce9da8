//! What `hardy doctor` asks a server: whether everything that Hardy needs works, and what time it has there.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use futures_util::TryStreamExt;
use tokio::time::timeout;

use super::failure::Failure;
use super::{Inner, S3Store};
use crate::error::{Error, Result};
use crate::store::{Key, Store};

/// A question and its answer.
#[derive(Debug)]
pub struct Check {
    /// What was tried, in a few words.
    pub name: &'static str,
    /// What was found, in a few words.
    pub result: Result<String>,
}

impl S3Store {
    /// Writes, reads, lists and deletes a small object under a name of its own.
    pub async fn probe(&self) -> Vec<Check> {
        let token = hex::encode(rand::random::<u64>().to_be_bytes());
        let key = match Key::new(format!(".probe/{token}")) {
            Ok(key) => key,
            Err(e) => return vec![Check { name: "name an object", result: Err(e) }],
        };
        let store: &dyn Store = self;
        let mut checks = Vec::new();
        let mut check = |name, result| checks.push(Check { name, result });
        let written = store.put_bytes(&key, token.clone()).await;
        check("write an object", written.as_ref().map(|_| self.inner.location.to_string()).map_err(copy));
        if let Ok(blob) = &written {
            check("read it back", store.get_blob(blob).await.map(|_| "the same bytes".into()));
            check("list it", self.lists(&key).await);
            check("write it only if it is new", self.conditional(&key).await);
            check("delete it", self.deletes(&key).await);
        }
        check("the server's clock", self.clock(&key).await);
        checks
    }

    async fn lists(&self, key: &Key) -> Result<String> {
        let found: Vec<_> = self.list(Some(key)).await?.try_collect().await?;
        match found.iter().any(|entry| entry.key == *key) {
            true => Ok("found".into()),
            false => Err(Error::storage(format!("the listing does not have {key}, which was just written"))),
        }
    }

    async fn deletes(&self, key: &Key) -> Result<String> {
        self.delete(key).await?;
        match self.get(key).await {
            Err(e) if e.kind() == crate::error::Kind::NotFound => Ok("gone".into()),
            Err(e) => Err(e),
            Ok(_) => Err(Error::storage(format!("{key} is still there after it was deleted"))),
        }
    }

    /// Jobs do not need it; without it, of two promotions of a model in the same instant the later one wins.
    async fn conditional(&self, key: &Key) -> Result<String> {
        let Inner { client, location, .. } = &*self.inner;
        let request = client.put_object().bucket(&location.bucket).key(location.name(key)).if_none_match("*");
        let answer = self.once(request.body(ByteStream::from_static(b"second")).send()).await;
        match answer {
            Ok(Ok(_)) => Ok("not supported: of two promotions at once the later one wins".into()),
            Ok(Err(e)) if e.raw_response().is_some_and(|r| r.status().as_u16() == 412) => Ok("supported".into()),
            Ok(Err(e)) => {
                Ok(format!("not supported ({}): of two promotions at once the later one wins", Failure::of(&e).text()))
            }
            Err(e) => Err(self.error("a conditional write failed".into(), &e)),
        }
    }

    /// Signatures are refused when the clocks differ by a quarter of an hour.
    async fn clock(&self, key: &Key) -> Result<String> {
        let Inner { client, location, .. } = &*self.inner;
        let date = Date::default();
        // With a prefix: who may only look below the store's own may not list without.
        let request = client.list_objects_v2().bucket(&location.bucket).prefix(location.name(key)).max_keys(1);
        let request = request.customize().interceptor(date.clone());
        let failed = |e: Failure| self.error("the server's time cannot be had".into(), &e);
        self.once(request.send()).await.map_err(failed)?.map_err(|e| failed(Failure::of(&e)))?;
        let text = date.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let text = text.ok_or_else(|| failed(Failure::local(false, "its answers have no date")))?;
        let theirs = DateTime::from_str(&text, DateTimeFormat::HttpDate)
            .map_err(|e| Error::storage(format!("the server's date {text} cannot be read")).because(e))?;
        let ours = jiff::Timestamp::now().as_second();
        match theirs.secs() - ours {
            apart if apart.abs() <= 2 => Ok("the same as here".into()),
            apart if apart.abs() <= 300 => Ok(format!("{apart:+} s from this machine's")),
            apart => Err(Error::storage(format!(
                "the server's clock is {apart:+} s from this machine's; beyond 900 s it refuses every request"
            ))),
        }
    }

    async fn once<T>(&self, request: impl Future<Output = T>) -> Result<T, Failure> {
        let limit = super::retry::ANSWER.min(self.inner.patience);
        timeout(limit, request).await.map_err(|_| Failure::silent(limit))
    }
}

fn copy(error: &Error) -> Error {
    Error::new(error.kind(), error.chain())
}

/// Keeps the `Date` header of an answer.
#[derive(Debug, Clone, Default)]
struct Date(Arc<Mutex<Option<String>>>);

impl Intercept for Date {
    fn name(&self) -> &'static str {
        "date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_string);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}
