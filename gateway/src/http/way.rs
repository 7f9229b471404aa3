//! Where a request stands in a trace: the span that is told of it, else the place its client named.

use std::time::SystemTime;

use axum::http::{HeaderMap, StatusCode};
use common::kafka::Headers;
use common::trace::{self, Span, SpanKind, TraceContext};

pub struct Way {
    span: Option<Span>,
    place: Option<TraceContext>,
}

impl Way {
    pub fn begin(headers: &HeaderMap) -> Self {
        let named = headers.get(trace::HEADER).and_then(|it| it.to_str().ok()?.parse().ok());
        let span = trace::begin("submit", SpanKind::Server, named, SystemTime::now());
        Self { place: span.as_ref().map(Span::context).or(named), span }
    }

    /// What the records of this request carry, so that the trace goes on from here.
    pub fn headers(&self) -> Headers {
        let mut headers = Headers::default();
        if let Some(place) = self.place {
            headers.push(trace::HEADER, place.to_string());
        }
        headers
    }

    pub fn end(self, status: StatusCode) {
        if let Some(mut span) = self.span {
            span.note("http.response.status_code", i64::from(status.as_u16()));
        }
    }
}
