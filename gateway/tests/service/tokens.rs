//! JWTs: what they let their bearers do, and whose keys they are checked by.

use serde_json::{Value, json};

use crate::installation::{Answer, Gateway, Installation, answer, eventually, json_of};
use crate::issuer::Issuer;
use crate::signing::{Signer, in_seconds};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const EVENT: &str = r#"{"userId":"u","type":"like"}"#;

fn of(sub: &str, rights: impl Into<Value>) -> Value {
    json!({"sub": sub, "exp": in_seconds(60), "rights": rights.into()})
}

async fn submit(gateway: &Gateway, token: &str, body: &str) -> Answer {
    let request = gateway.client.post(gateway.url("/api/events")).bearer_auth(token);
    answer(request.body(body.to_owned())).await
}

async fn code(gateway: &Gateway, token: &str) -> (u16, String) {
    let answer = submit(gateway, token, EVENT).await;
    (answer.status, answer.json["code"].as_str().unwrap_or_default().to_owned())
}

fn refused(code: &str) -> (u16, String) {
    (401, code.to_owned())
}

fn accepted() -> (u16, String) {
    (202, String::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_the_right_writes_for_anybody_and_one_without_rights_for_itself() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--jwt-secret", SECRET]).await;
    let signer = Signer::hs256(SECRET);
    let writer = signer.token(&of("service", json!(["write"])));
    assert_eq!(submit(&gateway, &writer, EVENT).await.status, 202);
    let reader = signer.token(&of("service", "read"));
    let refused = submit(&gateway, &reader, EVENT).await;
    assert_eq!((refused.status, &refused.json["code"]), (403, &json!("missing_right")));

    let own = signer.token(&json!({"sub": "me", "exp": in_seconds(60)}));
    let mixed = format!(
        r#"[{EVENT},{{"type":"view"}},{{"type":"view","userId":"me"}},{{"type":"view","user_id":"you"}}]"#
    );
    let some = submit(&gateway, &own, &mixed).await;
    assert_eq!((some.status, some.json["accepted"].as_u64()), (207, Some(2)));
    assert_eq!(some.reasons(), [("user_mismatch", "/0/userId"), ("user_mismatch", "/3/userId")]);
    let single = submit(&gateway, &own, EVENT).await;
    assert_eq!((single.status, &single.json["code"]), (422, &json!("user_mismatch")));
    let table = gateway.client.post(gateway.url("/api/events")).bearer_auth(&own);
    let table = table.header("content-type", "text/csv").body("type,postId\nlike,1\n");
    assert_eq!(answer(table).await.status, 202);
    let records = tallyman.records().await;
    let mut users: Vec<_> =
        records.iter().map(|it| json_of(it)["userId"].as_str().unwrap().to_owned()).collect();
    users.sort();
    assert_eq!(users, ["me", "me", "me", "u"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_found_wherever_a_client_can_put_one() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--jwt-secret", SECRET]).await;
    let good = Signer::hs256(SECRET).token(&of("u", "write"));
    let bad = Signer::hs256(&SECRET.to_uppercase()).token(&of("u", "write"));
    for (token, status) in [(&good, 202), (&bad, 401)] {
        let post = |path: &str| gateway.client.post(gateway.url(path)).body(EVENT);
        for request in [
            post("/api/events").bearer_auth(token),
            post(&format!("/api/events?access_token={token}")),
            post("/api/events").header("sec-websocket-protocol", format!("bearer, {token}")),
        ] {
            assert_eq!(answer(request).await.status, status);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_told_why_only_if_its_signature_is_right() {
    let tallyman = Installation::new().await;
    let settings =
        ["--jwt-secret", SECRET, "--jwt-audience", "tallyman", "--jwt-issuer", "https://id"];
    let gateway = tallyman.start(&settings).await;
    let signer = Signer::hs256(SECRET);
    let with = |claim: &str, value: Value| {
        let mut claims = of("u", "write");
        claims["aud"] = "tallyman".into();
        claims["iss"] = "https://id".into();
        claims[claim] = value;
        claims
    };
    let good = with("sub", json!("u"));
    assert_eq!(code(&gateway, &signer.token(&good)).await, accepted());
    let expired = with("exp", json!(in_seconds(-60)));
    for (claims, expected) in [
        (expired.clone(), "expired_token"),
        (with("nbf", json!(in_seconds(60))), "invalid_token"),
        (with("aud", json!("others")), "invalid_token"),
        (with("iss", json!("https://other")), "invalid_token"),
        (with("exp", Value::Null), "invalid_token"),
    ] {
        let answer = submit(&gateway, &signer.token(&claims), EVENT).await;
        assert_eq!((answer.status, &answer.json["code"]), (401, &json!(expected)), "{claims}");
        assert!(answer.header("www-authenticate").contains(r#"error="invalid_token""#));
    }
    let forged = Signer::hs256(&SECRET.to_uppercase()).token(&expired);
    assert_eq!(code(&gateway, &forged).await, refused("invalid_token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_the_issuer_change_and_tokens_with_them() {
    let (first, second, third) = (Signer::rs256(), Signer::es256(), Signer::ed_dsa());
    let issuer = Issuer::publishing(&[first.jwk("1"), second.jwk("2")]).await;
    let tallyman = Installation::new().await;
    let settings = ["--jwt-jwks-url", &issuer.jwks_url, "--jwt-jwks-refresh-seconds", "1"];
    let gateway = tallyman.start(&settings).await;
    let claims = of("u", "write");
    let tokens = [first.token_by("1", &claims), second.token_by("2", &claims)];
    for token in &tokens {
        assert_eq!(code(&gateway, token).await, accepted());
    }
    let third = third.token_by("3", &claims);
    assert_eq!(code(&gateway, &third).await, refused("invalid_token"));

    let other = Signer::ed_dsa();
    issuer.publish(&[second.jwk("2"), other.jwk("4")]);
    let withdrawn = || async { code(&gateway, &tokens[0]).await == refused("invalid_token") };
    eventually("the withdrawn key counts no more, not even for a token seen before", withdrawn)
        .await;
    assert_eq!(code(&gateway, &tokens[1]).await, accepted());
    assert_eq!(code(&gateway, &other.token_by("4", &claims)).await, accepted());

    issuer.go_away();
    eventually("the gateway notices", || async {
        let said = gateway.get("/readyz?verbose").await.1;
        serde_json::from_str::<Value>(&said).unwrap()["jwks"] != "ok"
    })
    .await;
    let again = second.token_by("2", &of("v", "write"));
    assert_eq!(code(&gateway, &again).await, accepted(), "by the keys known so far");
    let unknown = submit(&gateway, &third, EVENT).await;
    assert_eq!((unknown.status, unknown.header("retry-after")), (503, "1"), "it may be a new one");
    assert_eq!(gateway.get("/readyz").await.0, 200, "it can do its work");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_counts_at_once_and_invented_ones_do_not_trouble_the_issuer() {
    let (old, new) = (Signer::es256(), Signer::ed_dsa());
    let issuer = Issuer::publishing(&[old.jwk("old")]).await;
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--jwt-jwks-url", &issuer.jwks_url]).await;
    assert_eq!(issuer.fetches(), 1);
    let claims = of("u", "write");
    assert_eq!(code(&gateway, &old.token_by("old", &claims)).await, accepted());
    issuer.publish(&[old.jwk("old"), new.jwk("new")]);
    assert_eq!(code(&gateway, &new.token_by("new", &claims)).await, accepted());
    assert_eq!(issuer.fetches(), 2);
    for kid in 0..30 {
        let invented = new.token_by(&format!("kid-{kid}"), &claims);
        assert_eq!(code(&gateway, &invented).await, refused("invalid_token"));
    }
    assert!(issuer.fetches() <= 4, "{} fetches", issuer.fetches());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_at_the_start_is_found_later() {
    let signer = Signer::es256();
    let issuer = Issuer::publishing(&[]).await;
    issuer.go_away();
    let tallyman = Installation::new().await;
    let settings = ["--jwt-jwks-url", &issuer.jwks_url, "--jwt-jwks-refresh-seconds", "1"];
    let gateway = tallyman.start(&settings).await;
    let token = signer.token_by("k", &of("u", "write"));
    assert_eq!(submit(&gateway, &token, EVENT).await.status, 503);
    assert_eq!(gateway.submit(EVENT).await.status, 202, "keys do not need it");
    issuer.publish(&[signer.jwk("k")]);
    eventually("the token is good", || async { code(&gateway, &token).await == accepted() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_do_not_need_postgres() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--jwt-secret", SECRET]).await;
    tallyman.lock_database().await;
    let token = Signer::hs256(SECRET).token(&of("u", "write"));
    assert_eq!(code(&gateway, &token).await, accepted());
    let unknown = gateway.client.post(gateway.url("/api/events")).bearer_auth("tm_w_0").body(EVENT);
    assert_eq!(answer(unknown).await.status, 503);
    tallyman.unlock_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_tokens_is_limited_by_address_before_they_are_checked() {
    let tallyman = Installation::new().await;
    let settings = ["--jwt-secret", SECRET, "--rate-limit-ip-per-min", "2"];
    let gateway = tallyman.start(&settings).await;
    let token = Signer::hs256(SECRET).token(&of("service", "write"));
    assert_eq!(code(&gateway, &token).await, accepted());
    let forged = format!("{token}x");
    assert_eq!(code(&gateway, &forged).await, refused("invalid_token"));
    for token in [&token, &forged] {
        assert_eq!(code(&gateway, token).await, (429, "rate_limited".to_owned()));
    }
    let checks = "gateway_credentials_checked_total{outcome=\"unknown\"} 1\n";
    assert!(gateway.get("/metrics").await.1.contains(checks));
    gateway.stop().await.unwrap();
}
