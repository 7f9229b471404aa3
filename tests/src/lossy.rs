//! A proxy that forwards requests and throws the first answers away: why clients send a second time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What a client gets in place of an answer that was thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Status(StatusCode),
    Reset,
}

/// Until it is dropped.
pub struct LossyProxy {
    pub url: String,
    requests: Arc<AtomicUsize>,
    _listening: JoinSet<()>,
}

/// What one connection needs.
#[derive(Clone)]
struct Route {
    gateway: String,
    client: reqwest::Client,
    loss: Loss,
    /// How many answers are thrown away.
    losses: usize,
    requests: Arc<AtomicUsize>,
}

/// The connection is to be reset.
#[derive(Debug)]
struct ResetNow;

impl std::fmt::Display for ResetNow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer is thrown away")
    }
}

impl std::error::Error for ResetNow {}

impl LossyProxy {
    /// Before a gateway, whose first `losses` answers are lost.
    pub async fn start(gateway: &str, loss: Loss, losses: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listen")?;
        let url = format!("http://{}", listener.local_addr()?);
        let requests = Arc::new(AtomicUsize::new(0));
        let route = Route {
            gateway: gateway.to_owned(),
            client: reqwest::Client::builder().no_gzip().build()?,
            loss,
            losses,
            requests: requests.clone(),
        };
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _peer)) = listener.accept().await {
                connections.spawn(serve(stream, route.clone()));
            }
        });
        Ok(Self { url, requests, _listening: listening })
    }

    /// So many requests came through here.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, route: Route) {
    // The same socket once more, to tell how it is to be closed.
    let Ok((stream, twin)) = twins(stream) else { return };
    let answer = service_fn(|request| {
        let (route, twin) = (&route, &twin);
        async move {
            let answer = route.forward(request).await;
            if answer.is_err() {
                twin.set_zero_linger().expect("the socket is open");
            }
            answer
        }
    });
    // A client that leaves in between has its reasons.
    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

fn twins(stream: TcpStream) -> std::io::Result<(TcpStream, TcpStream)> {
    let stream = stream.into_std()?;
    let twin = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, TcpStream::from_std(twin)?))
}

impl Route {
    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, ResetNow> {
        let answer = self.ask(request).await.unwrap_or_else(|error| {
            let text = format!("the proxy failed: {error:#}");
            response(StatusCode::BAD_GATEWAY, text.into())
        });
        let nth = self.requests.fetch_add(1, Ordering::Relaxed);
        if nth >= self.losses {
            return Ok(answer);
        }
        match self.loss {
            Loss::Reset => Err(ResetNow),
            Loss::Status(status) => {
                let code = status.as_u16();
                let body = format!(r#"{{"code":{code},"message":"lost","error":"lost"}}"#);
                let mut answer = response(status, body.into());
                answer.headers_mut().insert(RETRY_AFTER, 1.into());
                Ok(answer)
            }
        }
    }

    async fn ask(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        head.headers.remove(HOST);
        head.headers.remove(CONTENT_LENGTH);
        head.headers.remove("transfer-encoding");
        head.headers.remove("connection");
        let url = format!("{}{}", self.gateway, head.uri);
        let asked = self.client.request(head.method, url).headers(head.headers).body(body);
        let answered = asked.send().await?;
        let (status, headers) = (answered.status(), answered.headers().clone());
        let mut answer = response(status, answered.bytes().await?);
        for name in [CONTENT_TYPE, RETRY_AFTER] {
            if let Some(value) = headers.get(&name) {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        Ok(answer)
    }
}

fn response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}
