//! Traces over OTLP, with the feature `otel` and an endpoint in `OTEL_EXPORTER_OTLP_ENDPOINT`.
//!
//! All spans of a job belong to one trace, whichever process they come from, without any message carrying
//! it: the ids of the trace and of its root are made of the job's name.

use tracing::Span;

use crate::task::JobId;

#[cfg(feature = "otel")]
mod otlp;

#[cfg(feature = "otel")]
pub use otlp::{Exporter, layer};

/// Makes `span` a part of the trace of `job`. Call it before the span is entered.
#[cfg_attr(not(feature = "otel"), expect(unused_variables, reason = "there are no traces then"))]
pub fn of_job(span: &Span, job: &JobId) {
    #[cfg(feature = "otel")]
    otlp::adopt(span, job);
}

/// Sends the root of the trace of `job`, which began at `began` and has ended.
#[cfg_attr(not(feature = "otel"), expect(unused_variables, reason = "there are no traces then"))]
pub fn ended(job: &JobId, state: &'static str, began: std::time::SystemTime) {
    #[cfg(feature = "otel")]
    otlp::root(job, state, began);
}
