//! What the gateway is compared with: an axum handler that reads the body and answers 202.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use tokio::net::TcpListener;

/// Serves until it is killed; says its port on standard output.
pub async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let router =
        Router::new().route("/api/events", post(async |_body: Bytes| StatusCode::ACCEPTED));
    Ok(axum::serve(listener, router).await?)
}
