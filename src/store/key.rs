//! Names of objects.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The name of an object: parts joined by `/`, none empty, `.` or `..`, no NUL, at most 900 bytes.
/// It can therefore never leave the folder or bucket prefix of its store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// Checks `text` and makes it a key.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let sound = text.len() <= 900
            && !text.contains('\0')
            && text.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if sound {
            Ok(Self(text))
        } else {
            Err(Error::data(format!("'{}' is no valid object key", text.escape_debug())))
        }
    }

    /// The key `self/part`. `part` may hold several parts.
    ///
    /// # Panics
    /// When `part` is not sound; use it with names that the program makes.
    pub fn join(&self, part: impl fmt::Display) -> Self {
        #[expect(clippy::expect_used, reason = "documented: only for names the program makes")]
        Self::new(format!("{}/{part}", self.0)).expect("a sound key part")
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last `/`.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

impl FromStr for Key {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<String> for Key {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_leaves_the_store() {
        for bad in ["", "/etc/passwd", "a//b", "a/../b", "..", "a/.", "a/", "nul\0"] {
            assert!(Key::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn takes_the_names_people_give_photos() {
        for good in ["train/daisy/a b.jpg", "rosés/ü\n.png", "..a/b..", "jobs/x/log/0001.json"] {
            assert_eq!(Key::new(good).unwrap().as_str(), good);
        }
    }
}
