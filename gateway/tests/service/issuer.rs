//! An issuer of tokens: publishes its keys over HTTP, replaces them, and can be away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[derive(Clone, Default)]
struct Published {
    /// `None`: away.
    keys: Arc<Mutex<Option<Vec<Value>>>>,
    fetches: Arc<AtomicUsize>,
}

pub struct Issuer {
    published: Published,
    pub jwks_url: String,
    _server: JoinSet<std::io::Result<()>>,
}

impl Issuer {
    pub async fn publishing(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let jwks_url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let published = Published::default();
        let router = Router::new().route("/jwks.json", get(answer)).with_state(published.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await });
        let issuer = Self { published, jwks_url, _server: server };
        issuer.publish(keys);
        issuer
    }

    pub fn publish(&self, keys: &[Value]) {
        *self.published.keys.lock().unwrap() = Some(keys.to_vec());
    }

    pub fn go_away(&self) {
        *self.published.keys.lock().unwrap() = None;
    }

    pub fn fetches(&self) -> usize {
        self.published.fetches.load(Ordering::SeqCst)
    }
}

async fn answer(State(published): State<Published>) -> Response {
    published.fetches.fetch_add(1, Ordering::SeqCst);
    match &*published.keys.lock().unwrap() {
        Some(keys) => json!({"keys": keys}).to_string().into_response(),
        None => (StatusCode::BAD_GATEWAY, "away").into_response(),
    }
}
