//! What the program says of itself on stderr, and the traces that it sends.

use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::error::{Error, Result};
use crate::trace;

/// The log of this process. Dropped, it sends what is left of its traces.
#[derive(Debug)]
pub struct Logging {
    _exporter: Option<trace::Exporter>,
}

/// Starts to log from `level` on, as `HARDY_LOG` and `HARDY_LOG_FORMAT` may ask for otherwise.
pub(super) fn start(level: &str) -> Result<Logging> {
    let filter = EnvFilter::try_from_env("HARDY_LOG").unwrap_or_else(|_| {
        // lapin reports on its own what Hardy says in its own words.
        format!("{level},lapin=off").into()
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match std::env::var("HARDY_LOG_FORMAT").as_deref() {
        Err(_) | Ok("" | "text") => lines.boxed(),
        Ok("json") => lines.json().flatten_event(true).with_span_list(false).with_span_events(FmtSpan::CLOSE).boxed(),
        Ok(other) => {
            let other = other.escape_debug();
            return Err(Error::usage(format!("HARDY_LOG_FORMAT = {other}: allowed are text and json")));
        }
    };
    let (traces, exporter) = trace::layer()?.unzip();
    tracing_subscriber::registry().with(lines).with(filter).with(traces).init();
    Ok(Logging { _exporter: exporter })
}
