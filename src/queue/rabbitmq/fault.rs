//! What may go wrong with a broker: what passes if one tries again, and what does not.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use tracing::{debug, warn};

use crate::error::{Error, Kind, Result};

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// Likely to pass: an outage, a closed channel, a refused message.
    Passing(Error),
    /// A queue that should be there is not.
    Missing(Error),
    /// Trying again would not help.
    Final(Error),
}

impl Fault {
    /// The error in it.
    pub fn into_error(self) -> Error {
        match self {
            Self::Passing(error) | Self::Missing(error) | Self::Final(error) => error,
        }
    }
}

impl From<lapin::Error> for Fault {
    fn from(error: lapin::Error) -> Self {
        let wrap = |message: &str| Error::queue(message).because(error.clone());
        match soft(&error) {
            Some(AMQPSoftError::ACCESSREFUSED) => Self::Final(wrap(
                "the broker does not permit this: grant its user to configure, write and read what begins with queue.prefix",
            )),
            Some(AMQPSoftError::NOTFOUND) => Self::Missing(wrap("a queue is missing")),
            _ if matches!(error.kind(), ErrorKind::ChannelsLimitReached) => Self::Final(wrap(
                "too many consumers for one connection: run fewer workers in this process or raise the broker's channel_max",
            )),
            _ => Self::Passing(wrap("the broker failed")),
        }
    }
}

/// The error that closed a channel only.
pub(super) fn soft(error: &lapin::Error) -> Option<AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(e) => match e.kind() {
            AMQPErrorKind::Soft(kind) => Some(kind.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// The same of an attempt to connect, where a refusal stands: wrong name, password, virtual host, certificate.
pub(super) fn connecting(error: lapin::Error, user: &str, place: &str) -> Fault {
    let refused = soft(&error) == Some(AMQPSoftError::ACCESSREFUSED);
    let not_allowed = matches!(error.kind(), ErrorKind::ProtocolError(e)
        if *e.kind() == AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) && !error.to_string().contains("limit"));
    let untrusted = matches!(error.kind(), ErrorKind::IOError(e) if e.kind() == std::io::ErrorKind::InvalidData);
    let advice = if refused {
        "refused the login: check user and password in queue.url"
    } else if not_allowed {
        "refused the virtual host: check that it exists and that the user may use it"
    } else if untrusted {
        "and this program do not trust each other: check queue.ca, queue.certificate, queue.key and the host's name"
    } else if matches!(error.kind(), ErrorKind::InvalidProtocolVersion(_)) {
        "does not speak AMQP 0-9-1: check the port in queue.url"
    } else {
        let message = format!("cannot reach the broker at {place}: check queue.url, and that the broker runs");
        return Fault::Passing(Error::queue(message).because(error));
    };
    Fault::Final(Error::queue(format!("the broker at {place} (user {user}) {advice}")).because(error))
}

/// Attempts at one thing: how long to wait between them, and when to give up.
pub(super) struct Trial {
    started: Instant,
    patience: Option<Duration>,
    delays: ExponentialBackoff,
    failures: u32,
}

impl Trial {
    /// The first attempt is about to begin. Without `patience` there is no last one.
    pub fn new(patience: Option<Duration>) -> Self {
        let delays = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(8))
            .without_max_times()
            .with_jitter();
        Self { started: Instant::now(), patience, delays: delays.build(), failures: 0 }
    }

    /// How much patience is left.
    pub fn left(&self) -> Option<Duration> {
        self.patience.map(|p| p.saturating_sub(self.started.elapsed()))
    }

    /// Failed attempts so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// After a failed attempt: waits a while; or returns the failure, if there shall be no other attempt.
    pub async fn again(&mut self, fault: Fault) -> Result<()> {
        let error = match fault {
            Fault::Final(error) => return Err(error),
            Fault::Passing(error) | Fault::Missing(error) => error,
        };
        let delay = self.delays.next().unwrap_or(Duration::from_secs(8));
        if self.left().is_some_and(|left| left <= delay) {
            let seconds = self.started.elapsed().as_secs();
            return Err(Error::new(
                Kind::Queue,
                format!("gave up after {seconds} s and {} attempts", self.failures + 1),
            )
            .because(error));
        }
        self.failures += 1;
        // One lost channel is everyday business; what fails again on a new one is not.
        if self.failures == 4 {
            warn!(error = %error.chain(), "the broker keeps failing; trying on");
        } else {
            debug!(error = %error.chain(), attempt = self.failures, "trying again");
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }
}
