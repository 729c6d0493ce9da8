//! Figures for Prometheus: what is counted where it happens, and the text they are told in.
//!
//! Figures about the whole cluster come from the coordinator that leads and from no other, so that sums
//! over all processes are right. Those of one worker begin with `hardy_worker_` or `hardy_gpu_`.

mod coordinator;
mod gpu;
mod worker;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::error::{Context, Kind, Result};

pub(crate) use coordinator::queue_name;
pub use coordinator::{CoordinatorMetrics, Sight};
pub use gpu::Gpu;
pub use worker::WorkerMetrics;

/// The media type of [`text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper ends of the classes of durations in seconds: from a merge on a fast machine to the time after
/// which a broker takes a task away.
const SECONDS: [f64; 12] = [0.05, 0.2, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0];

/// A figure that may have a fraction.
type Real = Gauge<f64, AtomicU64>;

/// Durations by label.
type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// No label; a family of such figures is told only once one was set.
type Alone = [(&'static str, &'static str); 0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    kind: &'static str,
    outcome: &'static str,
}

/// Tasks and how long they took.
#[derive(Debug, Clone)]
struct Tasks {
    outcomes: Family<OutcomeLabels, Counter>,
    seconds: Durations<KindLabel>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { outcomes: Family::default(), seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)) }
    }
}

impl Tasks {
    fn expect(&self, kind: &'static str, outcome: &'static str) {
        drop(self.outcomes.get_or_create(&OutcomeLabels { kind, outcome }));
    }

    fn ended(&self, kind: &'static str, outcome: &'static str) {
        self.outcomes.get_or_create(&OutcomeLabels { kind, outcome }).inc();
    }

    fn took(&self, kind: &'static str, seconds: f64) {
        self.seconds.get_or_create(&KindLabel { kind }).observe(seconds);
    }
}

/// Everything in `registry` as OpenMetrics text.
pub fn text(registry: &Registry) -> Result<String> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)
        .context(Kind::Internal, || "the figures cannot be written down".into())?;
    Ok(text)
}
