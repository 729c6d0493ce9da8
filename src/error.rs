//! The one error type: a kind that decides the exit code, and a sentence for a person.

use std::error::Error as StdError;
use std::{fmt, io};

/// Shorthand for results with Hardy's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, coarsely; each kind has its own exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A fault of the program itself (exit code 1).
    Internal,
    /// A flag, a setting or an environment variable is wrong (2).
    Usage,
    /// The photos, shards or lists given are unusable (3).
    Data,
    /// A model or a weights file is unusable (4).
    Model,
    /// The store, a folder or the disk refused (5).
    Storage,
    /// The broker refused or is out of reach (6).
    Queue,
    /// The job ended as failed (7).
    Job,
    /// A model did not pass its gate (8).
    Rejected,
    /// An object or a name does not exist (9).
    NotFound,
    /// Interrupted by a signal; the work can be resumed (130).
    Interrupted,
}

impl Kind {
    /// The process exit code of this kind, as documented in `hardy --help`.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Internal => 1,
            Kind::Usage => 2,
            Kind::Data => 3,
            Kind::Model => 4,
            Kind::Storage => 5,
            Kind::Queue => 6,
            Kind::Job => 7,
            Kind::Rejected => 8,
            Kind::NotFound => 9,
            Kind::Interrupted => 130,
        }
    }

    /// Whether store or broker failed, and not what they hold: it may pass, and whoever waits can go on.
    pub fn is_outage(self) -> bool {
        matches!(self, Kind::Storage | Kind::Queue)
    }
}

/// An error with its kind, its message and what caused it.
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

macro_rules! constructors {
    ($($name:ident => $kind:ident),*) => {$(
        #[doc = concat!("An error of kind [`Kind::", stringify!($kind), "`].")]
        pub fn $name(message: impl Into<String>) -> Self {
            Self::new(Kind::$kind, message)
        }
    )*};
}

impl Error {
    /// An error of `kind`; `message` is lower-case and has no full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    constructors! {
        internal => Internal, usage => Usage, data => Data, model => Model, storage => Storage,
        queue => Queue, job => Job, not_found => NotFound
    }

    /// The same error, caused by `source`.
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it comes of a local disk that has no room.
    pub fn is_full_disk(&self) -> bool {
        let mut next = self.source();
        while let Some(cause) = next {
            let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
            if matches!(io, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
                return true;
            }
            next = cause.source();
        }
        false
    }

    /// The message and its causes on one line, `a: b: c`.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = self.source();
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

/// Adds a kind and a sentence to any error on its way up.
pub trait Context<T> {
    /// Wraps the error as the cause of a new one.
    fn context(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::new(kind, message()).because(e))
    }
}
