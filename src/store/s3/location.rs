//! `s3://bucket/prefix`: where in S3 a store lies, and how its keys are named there.

use std::fmt;

use crate::error::{Error, Result};
use crate::store::Key;

/// S3 takes names of 1,024 bytes, a [`Key`] may have 900, and one is the slash between the two.
const LONGEST_PREFIX: usize = 123;

/// A bucket and a prefix in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) bucket: String,
    prefix: Option<Key>,
}

impl Location {
    /// Reads `s3://bucket` or `s3://bucket/prefix`, with or without a slash at the end.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let malformed = |why: &str| Error::usage(format!("'{}' is no store.url: {why}", url.escape_debug()));
        let rest = url.strip_prefix("s3://").ok_or_else(|| malformed("it must look like s3://bucket/prefix"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains('@') && rest.contains(':') {
            // Whatever stands before the @ may be a password: it is not repeated.
            return Err(Error::usage(
                "store.url must not hold credentials: they come from AWS's environment variables",
            ));
        }
        if bucket.is_empty() {
            return Err(malformed("the name of the bucket is missing"));
        }
        if !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
            return Err(malformed("the name of a bucket has only letters, digits, '-', '.' and '_'"));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.len() > LONGEST_PREFIX {
            return Err(malformed(&format!("the prefix must not be longer than {LONGEST_PREFIX} bytes")));
        }
        let prefix = match prefix {
            "" => None,
            _ => Some(Key::new(prefix).map_err(|_| malformed("the prefix has an empty part, a '.' or a '..'"))?),
        };
        Ok(Self { bucket: bucket.into(), prefix })
    }

    /// The name in the bucket of the object `key`.
    pub(super) fn name(&self, key: &Key) -> String {
        match &self.prefix {
            Some(prefix) => format!("{}/{}", prefix.as_str(), key.as_str()),
            None => key.as_str().into(),
        }
    }

    /// What the names of all objects begin with.
    pub(super) fn root(&self) -> String {
        self.prefix.as_ref().map_or(String::new(), |prefix| format!("{}/", prefix.as_str()))
    }

    /// The part of a name that is the object's key.
    pub(super) fn key<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&self.root())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        self.prefix.as_ref().map_or(Ok(()), |prefix| write!(f, "/{prefix}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn takes_a_bucket_with_and_without_a_prefix() {
        let key = Key::new("a b").unwrap();
        for (url, name, shown) in [
            ("s3://b", "a b", "s3://b"),
            ("s3://b/", "a b", "s3://b"),
            ("s3://b/x/y", "x/y/a b", "s3://b/x/y"),
            ("s3://b/x/", "x/a b", "s3://b/x"),
        ] {
            let location = Location::parse(url).unwrap();
            assert_eq!(location.name(&key), name);
            assert_eq!(location.key(name), Some("a b"));
            assert_eq!(location.to_string(), shown);
        }
    }

    #[test]
    fn refuses_what_is_no_place_in_s3() {
        let long = format!("s3://b/{}", "x".repeat(124));
        for url in ["s3:/b", "s3://", "s3:///x", "s3://b//x", "s3://b/../x", "s3://b?x", "s3://b:9/x", &long] {
            let error = Location::parse(url).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{url}");
            assert!(error.to_string().contains("store.url"), "{url}");
        }
        let error = Location::parse("s3://key:secret@bucket/x").unwrap_err();
        assert!(!error.chain().contains("secret"), "{error}");
    }
}
