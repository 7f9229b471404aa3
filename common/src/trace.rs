//! Traces (OpenTelemetry): the way of one action from its request to its row and its notification.
//!
//! A place in a trace travels in the header `traceparent` (W3C Trace Context), over HTTP and in Kafka's
//! records alike. Spans are told to a collector when one is configured; without one the header is only
//! handed on.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
pub use opentelemetry::trace::SpanKind;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan};

use crate::config::TraceConfig;
use crate::kafka::Headers;

/// The header under which a place in a trace travels.
pub const HEADER: &str = "traceparent";

/// How long a stopping daemon waits for the collector to take its last spans.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(3);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Tells spans until it is dropped.
#[must_use]
pub struct Tracing(Option<SdkTracerProvider>);

impl Tracing {
    /// Starts telling spans of this daemon to the collector, if there is one. Not from within a
    /// runtime: the exporter makes one of its own.
    pub fn start(daemon: &'static str, config: &TraceConfig) -> anyhow::Result<Self> {
        let Some(endpoint) = &config.otlp_endpoint else { return Ok(Self(None)) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .context("set up the export of traces to OTEL_EXPORTER_OTLP_ENDPOINT")?;
        let sampler = Sampler::TraceIdRatioBased(config.trace_ratio);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(Resource::builder().with_service_name(daemon).build())
            .build();
        let _first_of_this_process = TRACER.set(provider.tracer("tallyman"));
        Ok(Self(Some(provider)))
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_TIME_MAX)
        {
            tracing::debug!(%error, "the last spans were not told");
        }
    }
}

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl TraceContext {
    fn of(span: &SpanContext) -> Self {
        Self { trace: span.trace_id(), span: span.span_id(), flags: span.trace_flags() }
    }

    fn as_parent(self) -> Context {
        let Self { trace, span, flags } = self;
        let parent = SpanContext::new(trace, span, flags, true, TraceState::NONE);
        Context::new().with_remote_span_context(parent)
    }
}

/// The value of the header, version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags.to_u8())
    }
}

/// Why a text is not a place in a trace.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent")]
pub struct NotATraceparent;

impl FromStr for TraceContext {
    type Err = NotATraceparent;

    /// Later versions may have more behind the flags; `ff` is none.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|it| it.len() == digits)?;
            let is_lower = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
            part.bytes().all(is_lower).then_some(part)
        };
        let fields = (hex(2), hex(32), hex(16), hex(2));
        let (Some(version), Some(trace), Some(span), Some(flags)) = fields else {
            return Err(NotATraceparent);
        };
        let ends_here = parts.next().is_none();
        let trace = TraceId::from_hex(trace).map_err(|_| NotATraceparent)?;
        let span = SpanId::from_hex(span).map_err(|_| NotATraceparent)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NotATraceparent)?;
        let is_valid = version != "ff" && (ends_here || version != "00");
        if !is_valid || trace == TraceId::INVALID || span == SpanId::INVALID {
            return Err(NotATraceparent);
        }
        Ok(Self { trace, span, flags: TraceFlags::new(flags) })
    }
}

/// The place from which a record's way goes on.
pub fn place_in(headers: &Headers) -> Option<TraceContext> {
    headers.text(HEADER)?.parse().ok()
}

/// What is being done at a place in a trace; it ends when this is dropped.
pub struct Span(SdkSpan);

impl Span {
    pub fn context(&self) -> TraceContext {
        TraceContext::of(self.0.span_context())
    }

    pub fn note(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        self.0.set_attribute(KeyValue::new(name, value));
    }
}

/// Begins a span, unless nobody would be told of it.
pub fn begin(
    name: &'static str,
    kind: SpanKind,
    parent: Option<TraceContext>,
    at: SystemTime,
) -> Option<Span> {
    let tracer = TRACER.get()?;
    let parent = parent.map_or_else(Context::new, TraceContext::as_parent);
    let span = tracer.span_builder(name).with_kind(kind).with_start_time(at);
    let span = span.start_with_context(tracer, &parent);
    span.is_recording().then_some(Span(span))
}

/// Tells that something was done between then and now for an action under way; returns the place
/// from which it goes on.
pub fn tell(name: &'static str, parent: TraceContext, since: SystemTime) -> TraceContext {
    begin(name, SpanKind::Consumer, Some(parent), since).map_or(parent, |span| span.context())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_and_written_as_the_standard_says() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(text.parse::<TraceContext>().unwrap().to_string(), text);
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future";
        assert!(later.parse::<TraceContext>().is_ok());
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ] {
            assert_eq!(wrong.parse::<TraceContext>(), Err(NotATraceparent), "{wrong}");
        }
    }

    #[test]
    fn without_a_collector_the_place_stays_what_it_was() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        assert_eq!(tell("judge", parent, SystemTime::now()), parent);
    }
}
