//! Listings: page after page.

use std::collections::VecDeque;

use aws_sdk_s3::types::{EncodingType, Object};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use percent_encoding::percent_decode_str;

use super::retry::insist;
use super::{Inner, S3Store};
use crate::error::{Context, Error, Kind, Result};
use crate::store::{Entry, Key};

/// An object, or why it can be none of a store: its name is no key.
type Listed = Result<Entry>;

/// S3 lists in the order of the keys, but servers that keep objects as files do not: `a/1` comes before
/// `a.txt` there. So the whole listing is fetched, and put in order where it is not. Names that are no keys come last.
pub(super) fn list(store: &S3Store, prefix: Option<&Key>) -> BoxStream<'static, Listed> {
    let all = listed(store, prefix).try_collect::<Vec<Listed>>();
    let ordered = async {
        let mut all = all.await?;
        all.sort_by(|a, b| match (a, b) {
            (Ok(a), Ok(b)) => a.key.cmp(&b.key),
            _ => a.is_err().cmp(&b.is_err()),
        });
        Ok(stream::iter(all))
    };
    stream::once(ordered).try_flatten().boxed()
}

fn listed(store: &S3Store, prefix: Option<&Key>) -> BoxStream<'static, Result<Listed>> {
    let location = &store.inner.location;
    let Some(prefix) = prefix else { return pages(store.clone(), location.root()) };
    // What begins with `job` may be `jobs`, in any number: ask for `job` itself, then for what begins with `job/`.
    let name = location.name(prefix);
    let below = pages(store.clone(), format!("{name}/"));
    let (store, itself) = (store.clone(), prefix.clone());
    let exact = async move {
        let (first, _) = page(&store, &name, None, Some(1)).await?;
        Ok(first.into_iter().find(|entry| entry.as_ref().is_ok_and(|entry| entry.key == itself)))
    };
    stream::once(exact).try_filter_map(|entry| async { Ok(entry) }).chain(below).boxed()
}

/// All objects whose names begin with `start`.
fn pages(store: S3Store, start: String) -> BoxStream<'static, Result<Listed>> {
    struct At {
        store: S3Store,
        start: String,
        fetched: VecDeque<Listed>,
        token: Option<String>,
        last: bool,
    }
    let at = At { store, start, fetched: VecDeque::new(), token: None, last: false };
    let next = |mut at: At| async move {
        loop {
            if let Some(entry) = at.fetched.pop_front() {
                return Ok(Some((entry, at)));
            }
            if at.last {
                return Ok(None);
            }
            let (fetched, token) = page(&at.store, &at.start, at.token.take(), None).await?;
            at = At { fetched: fetched.into(), last: token.is_none(), token, ..at };
        }
    };
    stream::try_unfold(at, next).boxed()
}

/// One page, and the token for the next.
async fn page(
    store: &S3Store,
    start: &str,
    token: Option<String>,
    limit: Option<i32>,
) -> Result<(Vec<Listed>, Option<String>)> {
    let Inner { client, location, .. } = &*store.inner;
    let request = || {
        // XML cannot hold every character that a key may have.
        let request = client.list_objects_v2().bucket(&location.bucket).prefix(start).encoding_type(EncodingType::Url);
        request.set_continuation_token(token.clone()).set_max_keys(limit).send()
    };
    let page = insist("listing objects", store.small(), request)
        .await
        .map_err(|e| store.error(format!("{location} cannot be listed"), &e))?;
    let encoded = page.encoding_type() == Some(&EncodingType::Url);
    let entries = page.contents().iter().filter_map(|object| entry(store, object, encoded).transpose()).collect();
    let next = page.next_continuation_token.filter(|_| page.is_truncated == Some(true));
    Ok((entries, next))
}

fn entry(store: &S3Store, object: &Object, encoded: bool) -> Result<Option<Entry>> {
    let name = object.key().unwrap_or_default();
    let name = if encoded { decode(name)? } else { name.into() };
    let size = object.size().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    // Consoles make empty objects that stand for folders.
    if name.ends_with('/') && size == 0 {
        return Ok(None);
    }
    // Older servers may list what lies beside the prefix.
    let Some(key) = store.inner.location.key(&name) else { return Ok(None) };
    let tag = object.e_tag().map(|tag| tag.trim_matches('"').to_string());
    let stamp = tag.or_else(|| object.last_modified().map(ToString::to_string));
    Ok(Some(Entry { key: Key::new(key)?, size, stamp }))
}

/// As in a form: `+` is a space, and a plus is `%2B`.
fn decode(name: &str) -> Result<String> {
    let spaced = name.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let decoded =
        decoded.context(Kind::Data, || format!("the object name {} is not valid UTF-8", name.escape_debug()))?;
    if decoded.is_empty() {
        return Err(Error::storage("the server lists an object without a name"));
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_as_servers_write_them() {
        assert_eq!(decode("a+b%20c%2B%25").unwrap(), "a b c+%");
        assert_eq!(decode("ros%C3%A9s/line%0Abreak").unwrap(), "rosés/line\nbreak");
        assert_eq!(decode("%FF").unwrap_err().kind(), Kind::Data);
    }
}
