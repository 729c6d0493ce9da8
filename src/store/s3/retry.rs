//! The one place where requests to S3 are repeated; the SDK's own retries are off.
//!
//! The SDK bounds its retries by their number and by a budget that all requests of a client share: an
//! outage of seconds uses up both. Here the bound is time.

use std::error::Error as StdError;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::failure::Failure;

/// How long a server may take to begin its answer.
pub(super) const ANSWER: Duration = Duration::from_secs(20);

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Until when, and how long each time, a request is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// After this no new attempt begins.
    pub(super) deadline: Instant,
    /// For one attempt, from its first byte to the beginning of the answer.
    pub(super) attempt: Duration,
}

impl Limits {
    /// Limits for a request without a body to speak of.
    pub(super) fn small(patience: Duration) -> Self {
        Self { deadline: Instant::now() + patience, attempt: ANSWER.min(patience) }
    }

    /// Limits for a request that sends `bytes`, at 128 KiB/s if need be.
    pub(super) fn sending(patience: Duration, bytes: usize) -> Self {
        let small = Self::small(patience);
        Self { attempt: small.attempt + Duration::from_secs(bytes as u64 / (128 << 10)), ..small }
    }
}

/// Sends a request until it succeeds, fails for good or `limits` are reached.
pub(super) async fn insist<T, E, F>(what: &str, limits: Limits, mut attempt: impl FnMut() -> F) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + StdError + 'static,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    let mut tries = 0;
    loop {
        let mut failure = match timeout(limits.attempt, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::silent(limits.attempt),
        };
        tries += 1;
        failure.tries = tries;
        let pause = pause(tries);
        if !failure.transient || Instant::now() + pause >= limits.deadline {
            return Err(failure);
        }
        warn!(tries, "S3: {what}: {}; trying again", failure.text());
        sleep(pause).await;
    }
}

/// How long to wait after the `tries`th failure in a row: doubling, with half of it left to chance, so
/// that a hundred workers do not come back in the same instant.
pub(super) fn pause(tries: u32) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    full.mul_f64(rand::random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert!(pause(1) < Duration::from_millis(200));
        assert!(pause(3) >= Duration::from_millis(400));
        for tries in [6, 20, u32::MAX] {
            assert!(pause(tries) <= LONGEST_PAUSE && pause(tries) >= LONGEST_PAUSE / 4, "{tries}");
        }
    }
}
