//! API keys over HTTP: made, listed, rotated and revoked by administrators alone.

use gateway::auth::{KeyTerms, Right};
use reqwest::Method;
use serde_json::{Value, json};

use crate::installation::{Answer, Gateway, Installation, answer, eventually};

const EVENT: &str = r#"{"userId":"u","type":"like"}"#;

/// An administrator at the keys.
struct Admin<'a> {
    gateway: &'a Gateway,
    key: String,
}

impl<'a> Admin<'a> {
    async fn of(tallyman: &Installation, gateway: &'a Gateway) -> Self {
        let key = tallyman.store().create("admin", Right::Admin).await.unwrap().secret;
        Self { gateway, key }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = self.gateway.client.request(method, self.gateway.url(path));
        let request = request.header("x-api-key", &self.key);
        answer(if body.is_null() { request } else { request.body(body.to_string()) }).await
    }

    async fn make(&self, wish: &Value) -> Answer {
        self.ask(Method::POST, "/api/keys", wish).await
    }

    async fn rotate(&self, id: &str, how: &Value) -> Answer {
        self.ask(Method::POST, &format!("/api/keys/{id}/rotate"), how).await
    }

    async fn revoke(&self, id: &str) -> Answer {
        self.ask(Method::DELETE, &format!("/api/keys/{id}"), &Value::Null).await
    }

    /// The key of this id, as listed.
    async fn listed(&self, id: &str) -> Value {
        let list = self.ask(Method::GET, "/api/keys", &Value::Null).await;
        assert_eq!(list.status, 200);
        let keys = list.json["keys"].as_array().unwrap();
        keys.iter().find(|key| key["id"] == id).unwrap().clone()
    }
}

fn text<'a>(answer: &'a Answer, member: &str) -> &'a str {
    answer.json[member].as_str().unwrap()
}

async fn writes(gateway: &Gateway, secret: &str) -> u16 {
    answer(gateway.client.post(gateway.url("/api/events")).bearer_auth(secret).body(EVENT))
        .await
        .status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_listed_without_its_secret_and_revoked_at_once() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let admin = Admin::of(&tallyman, &gateway).await;
    let wish = json!({
        "name": "shop", "rights": "write", "limitPerMin": 600, "expiresAt": "2099-01-01T00:00:00Z"
    });
    let made = admin.make(&wish).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
    let (id, secret) = (text(&made, "id"), text(&made, "secret"));
    assert_eq!(writes(&gateway, secret).await, 202);

    let listed = admin.listed(id).await;
    assert!(secret.starts_with(listed["prefix"].as_str().unwrap()));
    for (member, value) in wish.as_object().unwrap() {
        assert_eq!(&listed[member], value);
    }
    let all = admin.ask(Method::GET, "/api/keys", &Value::Null).await.json.to_string();
    assert!(!all.contains(secret) && !all.contains("hash"), "{all}");

    assert_eq!(admin.revoke(id).await.status, 204);
    assert_eq!(writes(&gateway, secret).await, 401, "no waiting on the gateway that was told");
    assert_eq!(admin.revoke(id).await.status, 204, "again changes nothing");
    assert!(admin.listed(id).await["revokedAt"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_administrator_gets_at_keys() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let read = tallyman.store().create("reader", Right::Read).await.unwrap();
    let paths = [
        (Method::GET, "/api/keys".to_owned()),
        (Method::POST, "/api/keys".to_owned()),
        (Method::POST, format!("/api/keys/{}/rotate", read.id)),
        (Method::DELETE, format!("/api/keys/{}", read.id)),
    ];
    for (method, path) in paths {
        let ask = || gateway.client.request(method.clone(), gateway.url(&path)).body("{}");
        assert_eq!(answer(ask()).await.status, 401);
        for key in [&gateway.write_key, &read.secret] {
            let refused = answer(ask().bearer_auth(key)).await;
            assert_eq!((refused.status, &refused.json["code"]), (403, &json!("missing_right")));
            assert!(text(&refused, "detail").contains("`admin`"));
        }
    }
    let keys = tallyman.store().list().await.unwrap();
    assert!(keys.iter().all(|key| key.revoked_at.is_none()) && keys.len() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_key_is_refused_at_its_place() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let admin = Admin::of(&tallyman, &gateway).await;
    for (wish, code, pointer) in [
        (json!({"name": " ", "rights": "read"}), "invalid_member", "/name"),
        (json!({"name": "\u{0}", "rights": "read"}), "invalid_member", "/name"),
        (json!({"name": "x".repeat(201), "rights": "read"}), "invalid_member", "/name"),
        (json!({"name": "x", "rights": "all"}), "invalid_member", ""),
        (json!({"name": "x"}), "invalid_member", ""),
        (json!({"name": "x", "rights": "read", "limit": 5}), "invalid_member", ""),
        (
            json!({"name": "x", "rights": "read", "limitPerMin": 0}),
            "invalid_member",
            "/limitPerMin",
        ),
        (
            json!({"name": "x", "rights": "read", "limitPerMin": 3_000_000_000_u32}),
            "invalid_member",
            "/limitPerMin",
        ),
        (
            json!({"name": "x", "rights": "read", "expiresAt": "2020-01-01T00:00:00Z"}),
            "invalid_member",
            "/expiresAt",
        ),
        (Value::Null, "empty_body", ""),
    ] {
        let refused = admin.make(&wish).await;
        assert_eq!((refused.status, text(&refused, "code")), (400, code), "{wish}");
        assert_eq!(refused.json["errors"][0]["pointer"], pointer, "{wish}");
        assert_eq!(refused.header("content-type"), "application/problem+json");
    }
    for id in ["7", "00000000-0000-0000-0000-000000000000"] {
        for unknown in [admin.revoke(id).await, admin.rotate(id, &Value::Null).await] {
            assert_eq!((unknown.status, text(&unknown, "code")), (404, "unknown_key"), "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_overlaps_with_its_successor_and_ends() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let admin = Admin::of(&tallyman, &gateway).await;
    let first = admin.make(&json!({"name": "a", "rights": "write", "limitPerMin": 7})).await;
    let (id, secret) = (text(&first, "id"), text(&first, "secret"));
    let second = admin.rotate(id, &Value::Null).await;
    assert_eq!(second.status, 201);
    for member in ["name", "rights", "limitPerMin"] {
        assert_eq!(second.json[member], first.json[member]);
    }
    assert_ne!(text(&second, "secret"), secret);
    assert_eq!(second.json["expiresAt"], Value::Null, "only the old one ends");
    for secret in [secret, text(&second, "secret")] {
        assert_eq!(writes(&gateway, secret).await, 202);
    }
    let old = admin.listed(id).await;
    assert_eq!(old["replacedBy"], second.json["id"]);
    assert!(old["expiresAt"].is_string());
    let again = admin.rotate(id, &Value::Null).await;
    assert_eq!((again.status, text(&again, "code")), (409, "not_rotatable"));

    let third = admin.rotate(text(&second, "id"), &json!({"overlap": "0s"})).await;
    assert_eq!(writes(&gateway, text(&second, "secret")).await, 401, "no overlap, no grace");
    assert_eq!(writes(&gateway, text(&third, "secret")).await, 202);
    let nonsense = admin.rotate(text(&third, "id"), &json!({"overlap": "soon"})).await;
    assert_eq!(
        (nonsense.status, &nonsense.json["errors"][0]["pointer"]),
        (400, &json!("/overlap"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_is_refused_as_an_unknown_one_on_every_gateway() {
    let tallyman = Installation::new().await;
    let gateways = [tallyman.start(&[]).await, tallyman.start(&[]).await];
    let admin = Admin::of(&tallyman, &gateways[0]).await;
    for gateway in &gateways {
        // The first event of a gateway makes its topic known.
        assert_eq!(gateway.submit(EVENT).await.status, 202);
    }
    let soon = jiff::Timestamp::now() + std::time::Duration::from_secs(5);
    let terms = KeyTerms {
        name: "brief",
        rights: Right::Write,
        expires_at: Some(soon),
        limit_per_min: None,
    };
    let brief = tallyman.store().create_with(terms).await.unwrap().secret;
    let rotated = admin.make(&json!({"name": "a", "rights": "write"})).await;
    let rotated = (text(&rotated, "id").to_owned(), text(&rotated, "secret").to_owned());
    for gateway in &gateways {
        for secret in [&brief, &rotated.1] {
            assert_eq!(writes(gateway, secret).await, 202);
        }
    }
    admin.rotate(&rotated.0, &json!({"overlap": "1s"})).await;
    let unknown = format!("tm_w_{}", "0".repeat(48));
    for gateway in &gateways {
        for secret in [&brief, &rotated.1] {
            eventually("it ends", || async { writes(gateway, secret).await == 401 }).await;
            let refusal = |secret: &str| {
                answer(
                    gateway
                        .client
                        .post(gateway.url("/api/events"))
                        .header("x-request-id", "same")
                        .bearer_auth(secret)
                        .body(EVENT),
                )
            };
            assert_eq!(refusal(secret).await.json, refusal(&unknown).await.json);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_key_stays() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let admin = Admin::of(&tallyman, &gateway).await;
    let first = tallyman.store().list().await.unwrap();
    let first = first.iter().find(|key| key.rights == Right::Admin).unwrap().id.to_string();
    let refused = admin.revoke(&first).await;
    assert_eq!((refused.status, text(&refused, "code")), (409, "last_admin_key"));

    // Two who revoke each other's key at the same moment: one of them stays.
    for _round in 0..5 {
        let made = admin.make(&json!({"name": "second", "rights": "admin"})).await;
        let other = Admin { gateway: &gateway, key: text(&made, "secret").to_owned() };
        let (first_says, second_says) =
            tokio::join!(admin.revoke(text(&made, "id")), other.revoke(&first));
        if second_says.status == 204 {
            assert_ne!(first_says.status, 204, "both are gone");
            return;
        }
        assert_eq!(first_says.status, 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_nobody_is_told_that_there_are_no_keys() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let admin = Admin::of(&tallyman, &gateway).await;
    assert_eq!(admin.ask(Method::GET, "/api/keys", &Value::Null).await.status, 200);
    tallyman.lock_database().await;
    let away = admin.ask(Method::GET, "/api/keys", &Value::Null).await;
    assert_eq!((away.status, text(&away, "code")), (503, "postgres_away"));
    assert!(!away.header("retry-after").is_empty());
    tallyman.unlock_database().await;
}
