//! The rules of tokens, each with one that keeps it and one that breaks it.

#[path = "../../../tests/service/signing.rs"]
mod signing;

use serde_json::{Value, json};

use self::signing::{Signer, base64url, in_seconds};
use super::*;
use crate::auth::{Caller, Right};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn config() -> AuthConfig {
    AuthConfig {
        jwt_secret: None,
        jwt_jwks_url: None,
        jwt_jwks_refresh_seconds: 300,
        jwt_audience: Vec::new(),
        jwt_issuer: Vec::new(),
        jwt_leeway_seconds: 10,
        allow_anonymous_write: false,
    }
}

/// What becomes of a token that is signed with the secret.
async fn judged(config: &AuthConfig, claims: &Value) -> Result<Bearer, AuthError> {
    let token = Signer::hs256(SECRET).token(claims);
    Tokens::new(Some(SECRET), None, config).bearer(&token).await
}

async fn refusal(config: &AuthConfig, claims: &Value) -> AuthError {
    judged(config, claims).await.expect_err("it breaks a rule")
}

/// What becomes of a token where these keys are published.
fn judged_by(published: &[Value], token: &str) -> Result<(), AuthError> {
    let document = json!({"keys": published}).to_string();
    let keys = KeySet::read(document.as_bytes(), 1).unwrap();
    let tokens = Tokens::new(Some(SECRET), None, &config());
    let header = jsonwebtoken::decode_header(token).map_err(|error| reaction(&error))?;
    tokens.decode_by(&keys, token, &header).map(|_claims| ())
}

fn writer(claims: &Value) -> Value {
    let mut all = json!({"sub": "u", "exp": in_seconds(60), "rights": ["write"]});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    all
}

#[test]
fn a_token_of_each_algorithm_is_good_by_the_key_of_its_issuer() {
    for signer in [Signer::rs256(), Signer::es256(), Signer::ed_dsa()] {
        let published = [Signer::es256().jwk("other"), signer.jwk("mine")];
        let claims = writer(&json!({}));
        assert_eq!(judged_by(&published, &signer.token_by("mine", &claims)), Ok(()));
        assert_eq!(judged_by(&published, &signer.token(&claims)), Ok(()), "without a kid");
        for refused in [
            signer.token_by("other", &claims),
            signer.token_by("third", &claims),
            signer.token_by("mine", &claims).replace(".ey", ".eY"),
            Signer::es256().token_by("mine", &claims),
        ] {
            assert_eq!(judged_by(&published, &refused), Err(AuthError::InvalidToken), "{refused}");
        }
    }
}

#[test]
fn a_key_checks_its_own_algorithm_whatever_the_token_says() {
    let (rsa, claims) = (Signer::rs256(), writer(&json!({})));
    let published = [rsa.jwk("k")];
    let modulus = published[0]["n"].as_str().unwrap().to_owned();
    // The old trick: the public key as the secret of an HMAC.
    for secret in [modulus.clone(), rsa.jwk("k").to_string()] {
        let token = Signer::hs256(&secret).token_by("k", &claims);
        assert_eq!(judged_by(&published, &token), Err(AuthError::InvalidToken));
    }
    for algorithm in ["RS384", "RS512", "PS256", "ES256", "HS256", "EdDSA"] {
        let token = rsa.token_with(&json!({"alg": algorithm, "kid": "k"}), &claims);
        assert_eq!(judged_by(&published, &token), Err(AuthError::InvalidToken), "{algorithm}");
    }
    // A key that says what it is for is for nothing else, and one for secrets is for nothing.
    for (member, value) in [("alg", "RS512"), ("use", "enc")] {
        let mut other = rsa.jwk("k");
        other[member] = value.into();
        let token = rsa.token_by("k", &claims);
        assert_eq!(judged_by(&[other], &token), Err(AuthError::InvalidToken), "{member}");
    }
    let shared = Signer::hs256(SECRET);
    assert_eq!(
        judged_by(&[shared.jwk("k")], &shared.token_by("k", &claims)),
        Err(AuthError::InvalidToken)
    );
}

#[tokio::test]
async fn no_signature_is_not_a_signature() {
    let tokens = Tokens::new(Some(SECRET), None, &config());
    let payload = base64url(writer(&json!({})).to_string());
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        let header = base64url(json!({"alg": algorithm}).to_string());
        for signature in ["", "AAAA", &base64url(SECRET)] {
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(tokens.bearer(&token).await.unwrap_err(), AuthError::InvalidToken);
        }
    }
    let unsigned = format!("{}.{payload}.", base64url(r#"{"alg":"HS256"}"#));
    for nonsense in [unsigned.as_str(), "..", "a.b.c", "🦀.🦀.🦀"] {
        assert_eq!(tokens.bearer(nonsense).await.unwrap_err(), AuthError::InvalidToken);
    }
    let other = Signer::hs256("another secret of thirty-two bytes").token(&writer(&json!({})));
    assert_eq!(tokens.bearer(&other).await.unwrap_err(), AuthError::InvalidToken);
    let demanding = json!({"alg": "HS256", "crit": ["b64"], "b64": true});
    let demanding = Signer::hs256(SECRET).token_with(&demanding, &writer(&json!({})));
    assert_eq!(tokens.bearer(&demanding).await.unwrap_err(), AuthError::InvalidToken);
}

#[tokio::test]
async fn without_a_secret_no_hmac_counts_not_even_of_an_empty_one() {
    let tokens = Tokens::new(None, None, &config());
    for secret in [SECRET, ""] {
        let token = Signer::hs256(secret).token(&writer(&json!({})));
        assert_eq!(tokens.bearer(&token).await.unwrap_err(), AuthError::InvalidToken);
    }
}

#[tokio::test]
async fn a_token_is_good_within_its_time_give_or_take_the_leeway() {
    let config = config();
    for (claim, seconds, refused) in [
        ("exp", 60, None),
        ("exp", -5, None),
        ("exp", -30, Some(AuthError::ExpiredToken)),
        ("nbf", -60, None),
        ("nbf", 5, None),
        ("nbf", 30, Some(AuthError::ImmatureToken)),
    ] {
        let token = writer(&json!({claim: in_seconds(seconds)}));
        assert_eq!(judged(&config, &token).await.err(), refused, "{claim} in {seconds} s");
    }
    let mut endless = writer(&json!({}));
    endless.as_object_mut().unwrap().remove("exp");
    assert_eq!(refusal(&config, &endless).await, AuthError::EndlessToken);
    for (claim, value) in [
        ("exp", json!("tomorrow")),
        ("exp", Value::Null),
        ("exp", json!(-1)),
        ("nbf", json!("now")),
    ] {
        let token = writer(&json!({claim: value}));
        assert!(judged(&config, &token).await.is_err(), "{claim}: {value}");
    }
    let precise = writer(&json!({"exp": in_seconds(60) as f64 + 0.5}));
    assert!(judged(&config, &precise).await.is_ok());
}

#[tokio::test]
async fn audience_and_issuer_must_fit_where_they_are_configured() {
    let open = config();
    let token = writer(&json!({"aud": "others", "iss": "anyone"}));
    assert!(judged(&open, &token).await.is_ok(), "not configured, not looked at");
    let strict = AuthConfig {
        jwt_audience: vec!["tallyman".into(), "events".into()],
        jwt_issuer: vec!["https://id.example".into()],
        ..config()
    };
    let ours = json!({"aud": "tallyman", "iss": "https://id.example"});
    assert!(judged(&strict, &writer(&ours)).await.is_ok());
    let several = json!({"aud": ["x", "events"], "iss": "https://id.example"});
    assert!(judged(&strict, &writer(&several)).await.is_ok());
    for foreign in [
        json!({"aud": "others", "iss": "https://id.example"}),
        json!({"aud": ["a", "b"], "iss": "https://id.example"}),
        json!({"aud": "tallyman", "iss": "https://id.example.evil"}),
        json!({"aud": "tallyman"}),
        json!({"iss": "https://id.example"}),
    ] {
        let refused = refusal(&strict, &writer(&foreign)).await;
        assert_eq!(refused, AuthError::ForeignToken, "{foreign}");
    }
}

/// May it write, for whom; may it read; may it administer; whom does it hear of?
async fn grants(claims: Value) -> [Option<String>; 4] {
    let bearer = judged(&config(), &claims).await.unwrap();
    let told = |caller: Result<Caller, AuthError>| {
        caller.ok().map(|it| it.confined_to.map_or("any".into(), |user| user.to_string()))
    };
    [
        told(bearer.clone().caller(Right::Write)),
        told(bearer.clone().caller(Right::Read)),
        told(bearer.clone().caller(Right::Admin)),
        told(bearer.listener()),
    ]
}

#[tokio::test]
async fn rights_are_an_array_or_a_text_and_without_them_a_token_speaks_for_itself() {
    let exp = in_seconds(60);
    let own = Some("u".to_owned());
    let any = || Some("any".to_owned());
    for (claims, expected) in [
        (json!({"sub": "u"}), [own.clone(), None, None, own.clone()]),
        (json!({"sub": "u", "rights": null}), [own.clone(), None, None, own.clone()]),
        (json!({"sub": "u", "rights": ["write"]}), [any(), None, None, own.clone()]),
        (json!({"sub": "u", "rights": "write read"}), [any(), any(), None, any()]),
        (json!({"sub": "u", "rights": ["admin"]}), [any(), any(), any(), any()]),
        (json!({"sub": "u", "rights": "read"}), [None, any(), None, any()]),
        (json!({"sub": "u", "rights": []}), [None, None, None, own.clone()]),
        (json!({"sub": "u", "rights": "billing Write"}), [None, None, None, own.clone()]),
        (json!({"rights": ["write", "billing"]}), [any(), None, None, None]),
        (json!({}), [None, None, None, None]),
        (json!({"sub": ""}), [None, None, None, None]),
        (json!({"sub": "x".repeat(257)}), [None, None, None, None]),
        (json!({"sub": "\0"}), [None, None, None, None]),
    ] {
        let mut all = claims.clone();
        all["exp"] = exp.into();
        assert_eq!(grants(all).await, expected, "{claims}");
    }
    for rights in [json!(7), json!([7]), json!({"write": true})] {
        let token = json!({"sub": "u", "exp": exp, "rights": rights});
        assert_eq!(refusal(&config(), &token).await, AuthError::InvalidToken, "{rights}");
    }
}

#[tokio::test]
async fn a_client_keeps_its_identity_from_token_to_token() {
    let identity = async |claims: Value| {
        judged(&config(), &claims).await.unwrap().caller(Right::Write).unwrap().identity
    };
    let first = identity(writer(&json!({"iss": "a"}))).await;
    assert_eq!(identity(writer(&json!({"iss": "a", "exp": in_seconds(90)}))).await, first);
    let same_text = [json!({"iss": "ab", "sub": "c"}), json!({"iss": "a", "sub": "bc"})];
    assert_ne!(identity(writer(&same_text[0])).await, identity(writer(&same_text[1])).await);
    assert_ne!(identity(writer(&json!({}))).await, first);
    let nameless = |seconds| json!({"exp": in_seconds(seconds), "rights": "write"});
    assert_ne!(identity(nameless(60)).await, identity(nameless(90)).await);
}

#[tokio::test]
async fn a_token_is_remembered_but_not_past_its_end_nor_its_key_set() {
    let recent = Recent::default();
    let bearer = judged(&config(), &writer(&json!({}))).await.unwrap();
    let hash = [7; 32];
    recent.insert(hash, bearer.clone(), in_seconds(60) as f64, 1);
    assert!(recent.get(&hash, 1).is_some());
    assert!(recent.get(&hash, 2).is_none(), "by another key set");
    assert!(recent.get(&[8; 32], 1).is_none());
    recent.insert(hash, bearer.clone(), in_seconds(-1) as f64, 1);
    assert!(recent.get(&hash, 1).is_none(), "it has expired, if within the leeway");
    for token in 0..25_000_u32 {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&token.to_be_bytes());
        recent.insert(hash, bearer.clone(), in_seconds(60) as f64, 1);
        assert!(recent.get(&hash, 1).is_some());
    }
    assert!(recent.len() <= 10_000);
}

#[test]
fn a_key_set_is_read_whatever_else_is_in_it() {
    let known = Signer::ed_dsa().jwk("k");
    let document = json!({"keys": [{"kty": "future"}, 7, {"kty": "RSA"}, known], "more": 1});
    assert_eq!(KeySet::read(document.to_string().as_bytes(), 1).unwrap().len(), 1);
    for broken in ["", "[]", "<html>", r#"{"keys":7}"#] {
        assert!(KeySet::read(broken.as_bytes(), 1).is_err(), "{broken}");
    }
}

#[tokio::test]
async fn a_secret_that_others_know_or_can_guess_is_refused() {
    for (secret, accepted) in
        [(SECRET, true), (&SECRET[1..], false), ("change-me-change-me-change-me-change-me", false)]
    {
        let config = AuthConfig { jwt_secret: Some(secret.into()), ..config() };
        assert_eq!(Tokens::connect(&config).await.is_ok(), accepted, "{secret}");
    }
}
