//! A collector of traces: keeps what the programs tell it.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What was done, as a program told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub name: String,
    pub trace: String,
    pub span: String,
    pub parent: String,
}

type Spans = Arc<Mutex<Vec<Told>>>;

pub struct Collector {
    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub url: String,
    spans: Spans,
    _server: JoinSet<std::io::Result<()>>,
}

impl Collector {
    pub async fn start() -> anyhow::Result<Self> {
        let spans = Spans::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().route("/v1/traces", post(take)).with_state(spans.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, spans, _server: server })
    }

    /// What was told of a trace so far.
    pub fn told(&self, trace: &str) -> Vec<Told> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.iter().filter(|span| span.trace == trace).cloned().collect()
    }
}

async fn take(State(spans): State<Spans>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    let told = scopes.flat_map(|scope| scope.spans).map(|span| Told {
        name: span.name,
        trace: hex(&span.trace_id),
        span: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
    });
    spans.lock().unwrap_or_else(PoisonError::into_inner).extend(told);
    StatusCode::OK
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
