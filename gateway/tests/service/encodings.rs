//! Compressed bodies: all of the encodings, their ends, and what only looks like them.

use async_compression::tokio::bufread::{GzipEncoder, ZlibEncoder, ZstdEncoder};
use async_compression::zstd::CParameter;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::installation::{Answer, Gateway, Installation, answer};

const EVENT: &[u8] = br#"{"userId":"u","type":"like","eventId":"e"}"#;
const MIB: usize = 1 << 20;

async fn all(mut encoder: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut encoded = Vec::new();
    encoder.read_to_end(&mut encoded).await.unwrap();
    encoded
}

async fn gzip(plain: &[u8]) -> Vec<u8> {
    all(GzipEncoder::new(plain)).await
}

async fn submit(gateway: &Gateway, encoding: &str, body: Vec<u8>) -> Answer {
    let request = gateway.request("/api/events").header("content-encoding", encoding);
    answer(request.body(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_deflate_and_zstd_are_read() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    for (encoding, body) in [
        ("gzip", gzip(EVENT).await),
        ("x-gzip", gzip(EVENT).await),
        ("GZIP", [gzip(b" ").await, gzip(EVENT).await].concat()),
        ("deflate", all(ZlibEncoder::new(EVENT)).await),
        ("zstd", all(ZstdEncoder::new(EVENT)).await),
        ("identity", EVENT.to_vec()),
    ] {
        let answer = submit(&gateway, encoding, body).await;
        assert_eq!((answer.status, &answer.json["accepted"]), (202, &json!(1)), "{encoding}");
    }
    assert_eq!(tallyman.event_ids().await, ["e"; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_compression_is_told_apart_from_broken_json() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let whole = gzip(EVENT).await;
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (encoding, body) in [
        ("gzip", EVENT.to_vec()),
        ("gzip", whole[..whole.len() - 5].to_vec()),
        ("gzip", flipped),
        ("deflate", EVENT.to_vec()),
        ("zstd", EVENT.to_vec()),
        ("zstd", all(ZstdEncoder::new(EVENT)).await[..20].to_vec()),
    ] {
        let answer = submit(&gateway, encoding, body).await;
        let expected = (400, &json!("broken_compression"));
        assert_eq!((answer.status, &answer.json["code"]), expected, "{encoding}");
    }
    let unannounced = gateway.submit(whole).await;
    assert!(unannounced.json["detail"].as_str().unwrap().contains("Content-Encoding: gzip"));
    assert_eq!(tallyman.records().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_have_twenty_mebibytes_when_decompressed() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let spaces = |bytes: usize| [vec![b' '; bytes - EVENT.len()], EVENT.to_vec()].concat();
    let fits = submit(&gateway, "gzip", gzip(&spaces(20 * MIB)).await).await;
    assert_eq!(fits.status, 202);
    for more in [20 * MIB + 1, 200 * MIB] {
        for (encoding, bomb) in [
            ("gzip", gzip(&spaces(more)).await),
            ("zstd", all(ZstdEncoder::new(&*spaces(more))).await),
        ] {
            let answer = submit(&gateway, encoding, bomb).await;
            let expected = (413, &json!("body_too_large"));
            assert_eq!((answer.status, &answer.json["code"]), expected, "{encoding} {more}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zstd_frame_that_wants_a_huge_window_is_refused() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let window = [CParameter::window_log(27)];
    let plain = vec![b' '; 12 * MIB];
    let frame =
        ZstdEncoder::with_quality_and_params(&*plain, async_compression::Level::Fastest, &window);
    let answer = submit(&gateway, "zstd", all(frame).await).await;
    assert_eq!((answer.status, &answer.json["code"]), (400, &json!("broken_compression")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoding_we_do_not_know_is_refused_with_those_we_do() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    for encoding in ["br", "gzip, gzip", "compress"] {
        let answer = submit(&gateway, encoding, EVENT.to_vec()).await;
        let expected = (415, &json!("unsupported_encoding"));
        assert_eq!((answer.status, &answer.json["code"]), expected, "{encoding}");
        assert_eq!(answer.header("accept-encoding"), "gzip, deflate, zstd");
    }
}
