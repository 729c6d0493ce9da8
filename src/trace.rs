//! Traces for an OTLP collector, over HTTP, with an endpoint in `OTEL_EXPORTER_OTLP_ENDPOINT`.
//!
//! All spans of a job belong to one trace, whichever process they come from, without any message carrying
//! it: the ids of the trace and of its root are made of the job's name.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, Status as Code, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer, TracerProvider,
};
use opentelemetry::{Context as Ancestry, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracerProvider};
use sha2::{Digest, Sha256};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::error::{Context, Kind, Result};
use crate::jobs::{State, Status};
use crate::task::JobId;

/// What a collector is found by.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// How long a collector may take to answer.
const PROMPT: Duration = Duration::from_secs(10);

/// The program's name among others, unless `OTEL_SERVICE_NAME` says otherwise.
const NAME: &str = "hardy";

/// Sends what is left when it is dropped.
#[derive(Debug)]
pub struct Exporter(SdkTracerProvider);

impl Drop for Exporter {
    fn drop(&mut self) {
        // Nobody is left to be told that the collector did not answer.
        let _ = self.0.shutdown();
    }
}

/// What takes spans down and sends them; nothing without an endpoint.
///
/// # Errors
/// Of kind `Usage` for an endpoint that is none.
pub fn layer<S>() -> Result<Option<(impl Layer<S> + Send + Sync, Exporter)>>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    if !ENDPOINTS.iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty())) {
        return Ok(None);
    }
    let exporter = SpanExporter::builder().with_http().with_http_client(Client::new()).build();
    let exporter = exporter.context(Kind::Usage, || format!("{} cannot be used", ENDPOINTS[0]))?;
    Ok(Some(sending(exporter)))
}

fn sending<S>(exporter: SpanExporter) -> (impl Layer<S> + Send + Sync, Exporter)
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let resource = Resource::builder();
    let resource = match std::env::var_os("OTEL_SERVICE_NAME") {
        Some(_) => resource.build(),
        None => resource.with_service_name(NAME).build(),
    };
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_id_generator(Ids)
        .with_resource(resource)
        .build();
    opentelemetry::global::set_tracer_provider(provider.clone());
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(NAME));
    (layer.with_location(false).with_threads(false), Exporter(provider))
}

/// Makes `span` a part of the trace of `job`. Call it before the span is entered.
pub fn of_job(span: &Span, job: &JobId) {
    let (trace, root) = ids(job);
    let root = SpanContext::new(trace, root, TraceFlags::SAMPLED, true, TraceState::default());
    // Without a collector there is nothing to take it down.
    let _ = span.set_parent(Ancestry::new().with_remote_span_context(root));
}

/// Sends the root of the trace of a job that has ended just now: it began when the job was submitted.
pub fn ended(status: &Status) {
    let (job, tracer) = (&status.job, opentelemetry::global::tracer(NAME));
    let submitted = status.submitted.parse::<jiff::Timestamp>();
    let began = submitted.map_or_else(|_| SystemTime::now(), SystemTime::from);
    NEXT.set(Some(ids(job)));
    let builder = SpanBuilder::from_name(format!("job {job}")).with_start_time(began);
    let mut span = tracer.build_with_context(builder, &Ancestry::new());
    NEXT.set(None);
    span.set_attribute(KeyValue::new("job", job.to_string()));
    span.set_attribute(KeyValue::new("state", status.state.name()));
    if status.state == State::Failed {
        span.set_status(Code::error(status.error.as_ref().map_or_else(String::new, |(_, why)| why.clone())));
    }
    span.end();
}

/// The ids of a job's trace and of its root.
fn ids(job: &JobId) -> (TraceId, SpanId) {
    let digest = Sha256::digest(&job.0);
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    trace.copy_from_slice(&digest[..16]);
    span.copy_from_slice(&digest[16..24]);
    (TraceId::from_bytes(trace), SpanId::from_bytes(span))
}

thread_local! {
    /// The ids of the span that this thread begins next, where they are not random.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Random ids, but for roots of jobs.
#[derive(Debug)]
struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| RandomIdGenerator::default().new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| RandomIdGenerator::default().new_span_id(), |(_, span)| span)
    }
}

/// Sends from the exporter's own thread, which may block.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new() -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PROMPT));
        Self(config.build().into())
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let response = self.0.run(Request::from_parts(parts, body.to_vec()))?;
        let (parts, mut body) = response.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use opentelemetry_otlp::WithExportConfig;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Takes one request and answers it; its first line and its body.
    fn receive(listener: &TcpListener) -> (String, Vec<u8>) {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        (first, body)
    }

    fn count(body: &[u8], part: &[u8]) -> usize {
        body.windows(part.len()).filter(|w| *w == part).count()
    }

    #[test]
    fn a_job_is_one_trace_whoever_works_on_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let collector = std::thread::spawn(move || receive(&listener));
        let job: JobId = "night".parse().unwrap();
        let exporter = SpanExporter::builder().with_http().with_http_client(Client::new()).with_endpoint(endpoint);
        let (layer, exporter) = sending(exporter.build().unwrap());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for task in ["shard-1", "train-2"] {
                let span = tracing::info_span!("task", %job, task, outcome = tracing::field::Empty);
                of_job(&span, &job);
                span.in_scope(|| tracing::info!("computed"));
                span.record("outcome", "lost in thought");
            }
        });
        let mut status = Status::waiting(&job, "2026-01-02T03:04:05Z");
        (status.state, status.error) = (State::Failed, Some((3, "the shard is corrupt".into())));
        ended(&status);
        drop(exporter);
        let (first, body) = collector.join().unwrap();
        assert!(first.starts_with("POST /v1/traces "), "{first}");
        let (trace, root) = ids(&job);
        assert_eq!(count(&body, &trace.to_bytes()), 3, "two tasks and the root");
        assert_eq!(count(&body, &root.to_bytes()), 3, "the root itself, and twice as a parent");
        for name in ["task", "shard-1", "train-2", "job night", "computed", "hardy", "failed", "the shard is corrupt"] {
            assert!(count(&body, name.as_bytes()) > 0, "{name}");
        }
        assert_eq!(count(&body, b"lost in thought"), 2, "what is recorded later");
        let submitted = 1_767_323_045_000_000_000_u64;
        assert_eq!(count(&body, &submitted.to_le_bytes()), 1, "the root begins when the job was submitted");
    }
}
