//! Below the requests: versions of HTTP, TLS, web pages of other origins, and heads that never end.

use std::path::Path;
use std::time::Duration;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use reqwest::header::{ALLOW, HeaderMap};
use reqwest::{Certificate, Client, Method, StatusCode, Version};
use tempfile::TempDir;

use crate::installation::{Gateway, Installation, eventually};
use crate::raw::Raw;

const EVENT: &str = r#"{"userId":"u","type":"like","postId":"1"}"#;

/// A certificate for 127.0.0.1 in files, as an operator has it.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> (Self, Certificate) {
        let this = Self { folder: TempDir::new().unwrap() };
        let certificate = this.renew();
        (this, certificate)
    }

    /// Replaces both files; returns what a client has to trust.
    fn renew(&self) -> Certificate {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(self.path("key.pem"), signing_key.serialize_pem()).unwrap();
        std::fs::write(self.path("cert.pem"), cert.pem()).unwrap();
        Certificate::from_pem(cert.pem().as_bytes()).unwrap()
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).to_str().unwrap().to_owned()
    }

    async fn serve(&self, tallyman: &Installation) -> Gateway {
        let (cert, key) = (self.path("cert.pem"), self.path("key.pem"));
        tallyman.start(&["--gateway-tls-cert", &cert, "--gateway-tls-key", &key]).await
    }
}

/// A client that trusts one certificate and has no connection yet.
fn trusting(certificate: &Certificate) -> Client {
    Client::builder().tls_certs_only([certificate.clone()]).build().unwrap()
}

async fn version_spoken(client: &Client, gateway: &Gateway, scheme: &str) -> Option<Version> {
    let url = format!("{scheme}://{}/api/events", gateway.address);
    let request = client.post(url).header("x-api-key", &gateway.write_key).body(EVENT);
    let answer = request.send().await.ok()?;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    Some(answer.version())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_both_versions_of_http_are_spoken() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let http2 = Client::builder().http2_prior_knowledge().build().unwrap();
    assert_eq!(version_spoken(&gateway.client, &gateway, "http").await, Some(Version::HTTP_11));
    assert_eq!(version_spoken(&http2, &gateway, "http").await, Some(Version::HTTP_2));
    assert_eq!(tallyman.records().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_everything_is_tls_and_a_renewed_one_is_taken_into_use() {
    let tallyman = Installation::new().await;
    let (certificates, first) = Certificates::new();
    let gateway = certificates.serve(&tallyman).await;
    assert_eq!(
        version_spoken(&trusting(&first), &gateway, "https").await,
        Some(Version::HTTP_2),
        "the better version is negotiated"
    );
    let in_the_clear = gateway.client.post(gateway.url("/api/events")).body(EVENT).send().await;
    assert!(in_the_clear.is_err());

    let second = certificates.renew();
    eventually("the new certificate is shown", async || {
        version_spoken(&trusting(&second), &gateway, "https").await.is_some()
    })
    .await;
    assert_eq!(version_spoken(&trusting(&first), &gateway, "https").await, None);

    // Half of a renewal that failed: the key of another certificate.
    let stranger = KeyPair::generate().unwrap();
    std::fs::write(certificates.path("key.pem"), stranger.serialize_pem()).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(version_spoken(&trusting(&second), &gateway, "https").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_is_told_at_the_start() {
    let tallyman = Installation::new().await;
    let (certificates, _) = Certificates::new();
    std::fs::write(certificates.path("key.pem"), KeyPair::generate().unwrap().serialize_pem())
        .unwrap();
    let refused = tallyman
        .refusal(&[
            "--gateway-tls-cert",
            &certificates.path("cert.pem"),
            "--gateway-tls-key",
            &certificates.path("key.pem"),
        ])
        .await;
    assert!(refused.contains("does not belong to the certificate"), "{refused}");
    let nowhere = Path::new("/nowhere/cert.pem").to_str().unwrap();
    let refused = tallyman
        .refusal(&[
            "--gateway-tls-cert",
            nowhere,
            "--gateway-tls-key",
            &certificates.path("key.pem"),
        ])
        .await;
    assert!(refused.contains("/nowhere/cert.pem"), "{refused}");
}

/// What a browser asks before it lets a script of this page send an event with a key.
async fn preflight(gateway: &Gateway, page: &str) -> HeaderMap {
    let asked = gateway
        .client
        .request(Method::OPTIONS, gateway.url("/api/events"))
        .header("origin", page)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-api-key");
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.headers().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_of_any_page_may_send_events_and_read_why_they_were_refused() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let allowed = preflight(&gateway, "https://shop.example").await;
    assert_eq!(allowed["access-control-allow-origin"], "*");
    assert_eq!(allowed["access-control-allow-headers"], "content-type,x-api-key");
    assert!(!allowed.contains_key("access-control-allow-credentials"));

    let beacon = gateway
        .client
        .post(gateway.url(&format!("/api/events?api_key={}", gateway.write_key)))
        .header("origin", "https://shop.example")
        .header("content-type", "text/plain;charset=UTF-8")
        .body(EVENT);
    let answer = beacon.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");

    let refused =
        gateway.client.post(gateway.url("/api/events")).header("origin", "https://a.example");
    let refused = refused.body(EVENT).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers()["access-control-allow-origin"], "*");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_named_pages_may_read_when_some_are_named() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--cors-origins", "https://shop.example"]).await;
    let allowed = preflight(&gateway, "https://shop.example").await;
    assert_eq!(allowed["access-control-allow-origin"], "https://shop.example");
    let stranger = preflight(&gateway, "https://other.example").await;
    assert!(!stranger.contains_key("access-control-allow-origin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_path_takes_can_be_asked_and_a_slash_at_its_end_changes_nothing() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let ask = |method: Method, path: &str| gateway.client.request(method, gateway.url(path)).send();
    let options = ask(Method::OPTIONS, "/api/events").await.unwrap();
    assert_eq!(options.status(), StatusCode::NO_CONTENT);
    let mut allowed: Vec<_> = options.headers()[ALLOW].to_str().unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    let head = ask(Method::HEAD, "/readyz/").await.unwrap();
    assert_eq!((head.status(), head.bytes().await.unwrap().len()), (StatusCode::OK, 0));
    for path in ["/api/events/", "/product_events/", "/api-fast/view-event/"] {
        assert_eq!(gateway.submit_to(path, EVENT).await.status, 202, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_or_never_ends_is_cut_off() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--gateway-idle-seconds", "1"]).await;
    let mut large = Raw::connect(&gateway).await;
    let long = "x".repeat(9_000);
    large.send(&format!("POST /api/events HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n")).await;
    let refused = large.receive_until("}]}").await;
    assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
    assert!(refused.contains(r#""code":"head_too_large""#), "{refused}");

    for beginning in ["", "P", "POST /api/events HTTP/1.1\r\nhost: x\r\n"] {
        let mut slow = Raw::connect(&gateway).await;
        slow.send(beginning).await;
        let answer = slow.receive_until("nothing like it").await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}
