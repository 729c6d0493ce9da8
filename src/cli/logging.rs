//! What the program says of itself on stderr, and the traces that it sends.

use serde_json::json;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::error::{Error, Result};
use crate::trace;

/// Names the form of the log, `text` or `json`.
const FORMAT: &str = "HARDY_LOG_FORMAT";

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
    let lines = match std::env::var(FORMAT).as_deref() {
        Err(_) | Ok("" | "text") => lines.boxed(),
        Ok("json") => lines.json().flatten_event(true).with_span_list(false).with_span_events(FmtSpan::CLOSE).boxed(),
        Ok(other) => {
            let other = other.escape_debug();
            return Err(Error::usage(format!("{FORMAT} = {other}: allowed are text and json")));
        }
    };
    let (traces, exporter) = trace::layer()?.unzip();
    // A quiet log is no reason for traces with holes.
    let traces = traces.map(|layer| layer.with_filter(EnvFilter::new("hardy=info")));
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces).init();
    Ok(Logging { _exporter: exporter })
}

/// Says on stderr why the program ends, in the form of its log, whatever that leaves out.
pub fn explain(error: &Error) {
    eprintln!("{}", last_line(error, std::env::var(FORMAT).as_deref().unwrap_or_default()));
}

fn last_line(error: &Error, format: &str) -> String {
    let message = error.chain();
    match format {
        "json" => {
            let timestamp = jiff::Timestamp::now().to_string();
            json!({ "timestamp": timestamp, "level": "ERROR", "message": message }).to_string()
        }
        _ => format!("hardy: {message}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_has_the_form_of_the_log() {
        let error = Error::usage("no \"such\" flag");
        assert_eq!(last_line(&error, "text"), "hardy: no \"such\" flag");
        let found: serde_json::Value = serde_json::from_str(&last_line(&error, "json")).unwrap();
        assert_eq!((&found["level"], &found["message"]), (&json!("ERROR"), &json!("no \"such\" flag")));
        assert!(found["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{found}");
    }
}
