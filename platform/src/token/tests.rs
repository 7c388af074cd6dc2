use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_700_000_000;

struct Signer {
    key: SigningKey,
    id: &'static str,
}

impl Signer {
    fn new(seed: u8, id: &'static str) -> Self {
        Self {
            key: SigningKey::from_bytes(&[seed; 32]),
            id,
        }
    }

    fn x(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes())
    }

    fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.id, "x": self.x()})
    }

    fn header(&self) -> Header {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(ACCESS_TOKEN_TYPE.into());
        header.kid = Some(self.id.into());
        header
    }

    fn sign_as(&self, header: &Header, claims: &Value) -> String {
        let der = self.key.to_pkcs8_der().unwrap();
        jsonwebtoken::encode(header, claims, &EncodingKey::from_ed_der(der.as_bytes())).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }
}

fn jwks(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": Uuid::from_u128(1), "sid": Uuid::from_u128(2),
        "role": "user", "email_verified": true, "gv": 0, "iat": NOW, "exp": NOW + 900,
        "jti": Uuid::from_u128(3),
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn known(signers: &[&Signer]) -> KeySet {
    let keys = KeySet::new();
    keys.update_from_jwks(&jwks(signers)).unwrap();
    keys
}

fn is_invalid(result: Result<Claims, TokenError>) -> bool {
    matches!(result, Err(TokenError::Invalid(_)))
}

#[test]
fn a_good_token_is_accepted_until_it_expires() {
    let signer = Signer::new(1, "one");
    let keys = known(&[&signer]);
    let token = signer.sign(&claims());
    let read = keys.verify(&token, at(NOW)).unwrap();
    assert_eq!(
        (read.sub, read.sid, read.role),
        (Uuid::from_u128(1), Uuid::from_u128(2), Role::User)
    );
    assert_eq!(
        keys.verify(&token, at(NOW + 899)).unwrap(),
        read,
        "from the cache"
    );
    assert_eq!(keys.verify(&token, at(NOW + 900)), Err(TokenError::Expired));
    assert_eq!(
        keys.verify(&token, at(NOW + 900)),
        Err(TokenError::Expired),
        "not from the cache"
    );
}

#[test]
fn times_are_numbers_within_bounds() {
    let signer = Signer::new(1, "one");
    let keys = known(&[&signer]);
    let verify = |claims: Value| keys.verify(&signer.sign(&claims), at(NOW));
    assert!(is_invalid(verify(with(
        "exp",
        json!((NOW + 900).to_string())
    ))));
    assert!(is_invalid(verify(with("exp", json!(1.7e9)))));
    assert!(is_invalid(verify(with("exp", json!(u64::MAX)))));
    assert!(is_invalid(verify(with("exp", Value::Null))));
    assert!(
        verify(with("iat", json!(NOW + 60))).is_ok(),
        "clocks differ"
    );
    assert!(is_invalid(verify(with("iat", json!(NOW + 61)))));
    assert!(is_invalid(verify(with("nbf", json!(NOW + 61)))));
    assert_eq!(verify(with("exp", json!(NOW))), Err(TokenError::Expired));
}

#[test]
fn tokens_for_another_use_are_refused() {
    let signer = Signer::new(1, "one");
    let keys = known(&[&signer]);
    let verify =
        |header: &Header, claims: &Value| keys.verify(&signer.sign_as(header, claims), at(NOW));
    assert!(is_invalid(verify(
        &signer.header(),
        &with("iss", json!("other"))
    )));
    assert!(is_invalid(verify(
        &signer.header(),
        &with("aud", json!("other"))
    )));
    assert!(is_invalid(verify(
        &signer.header(),
        &with("aud", json!([AUDIENCE]))
    )));
    assert!(is_invalid(verify(
        &signer.header(),
        &with("role", json!("emperor"))
    )));
    assert!(is_invalid(verify(
        &signer.header(),
        &with("sub", json!("../1"))
    )));
    for typ in [None, Some("JWT"), Some("svc+jwt"), Some("AT+JWT ")] {
        let mut header = signer.header();
        header.typ = typ.map(str::to_owned);
        assert!(is_invalid(verify(&header, &claims())), "{typ:?}");
    }
    let mut header = signer.header();
    header.kid = None;
    assert!(is_invalid(verify(&header, &claims())));
    let mut header = signer.header();
    header.crit = Some(vec!["exp".into()]);
    assert!(is_invalid(verify(&header, &claims())));
}

#[test]
fn algorithms_cannot_be_confused() {
    let signer = Signer::new(1, "one");
    let keys = known(&[&signer]);
    let good = signer.sign(&claims());
    let payload = good.split('.').nth(1).unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt","kid":"one"}"#);
    for forged in [
        format!("{none}.{payload}."),
        format!("{none}.{payload}"),
        format!("{none}.{payload}.x"),
    ] {
        assert!(is_invalid(keys.verify(&forged, at(NOW))));
    }
    for secret in [
        signer.key.verifying_key().as_bytes().to_vec(),
        signer.x().into_bytes(),
    ] {
        let mut header = signer.header();
        header.alg = Algorithm::HS256;
        let forged =
            jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&secret)).unwrap();
        assert!(is_invalid(keys.verify(&forged, at(NOW))));
    }
}

#[test]
fn changed_and_malformed_tokens_are_refused() {
    let signer = Signer::new(1, "one");
    let keys = known(&[&signer]);
    let good = signer.sign(&claims());
    let parts: Vec<_> = good.split('.').collect();
    let payload = URL_SAFE_NO_PAD.encode(with("role", json!("super_admin")).to_string());
    let swapped = format!("{}.{payload}.{}", parts[0], parts[2]);
    let long = "x".repeat(100_000);
    for bad in [
        "",
        ".",
        "..",
        "a.b.c",
        "\u{0}",
        &swapped,
        &good[..good.len() - 2],
        &long,
    ] {
        assert!(is_invalid(keys.verify(bad, at(NOW))), "{bad:.40}");
    }
}

#[test]
fn keys_that_a_token_brings_along_are_ignored() {
    let signer = Signer::new(1, "one");
    let thief = Signer::new(2, "one");
    let keys = known(&[&signer]);
    let mut header = thief.header();
    header.jku = Some("https://thief.example/jwks.json".into());
    header.x5u = header.jku.clone();
    header.jwk = Some(serde_json::from_value(thief.jwk()).unwrap());
    assert!(is_invalid(
        keys.verify(&thief.sign_as(&header, &claims()), at(NOW))
    ));
}

#[tokio::test]
async fn an_unknown_key_is_told_apart_and_asked_for() {
    let (old, new) = (Signer::new(1, "one"), Signer::new(2, "two"));
    let keys = KeySet::new();
    assert_eq!(
        keys.verify(&old.sign(&claims()), at(NOW)),
        Err(TokenError::NoKeys)
    );
    keys.update_from_jwks(&jwks(&[&old])).unwrap();
    assert_eq!(
        keys.verify(&new.sign(&claims()), at(NOW)),
        Err(TokenError::UnknownKey)
    );
    keys.unknown_key_seen().await;
    keys.update_from_jwks(&jwks(&[&old, &new])).unwrap();
    assert!(keys.verify(&new.sign(&claims()), at(NOW)).is_ok());
    assert!(keys.verify(&old.sign(&claims()), at(NOW)).is_ok());
}

#[test]
fn a_withdrawn_key_takes_its_tokens_along() {
    let (old, new) = (Signer::new(1, "one"), Signer::new(2, "two"));
    let keys = known(&[&old]);
    let token = old.sign(&claims());
    assert!(keys.verify(&token, at(NOW)).is_ok());
    keys.update_from_jwks(&jwks(&[&new])).unwrap();
    assert_eq!(keys.verify(&token, at(NOW)), Err(TokenError::UnknownKey));
}

#[test]
fn a_useless_key_set_changes_nothing() {
    let signer = Signer::new(1, "one");
    let keys = known(&[&signer]);
    let weak = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "w", "x": URL_SAFE_NO_PAD.encode([0u8; 32])}]});
    let rsa = json!({"keys": [{"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"}]});
    for bad in [
        "",
        "{}",
        r#"{"keys": []}"#,
        &weak.to_string(),
        &rsa.to_string(),
    ] {
        assert!(keys.update_from_jwks(bad).is_err(), "{bad}");
    }
    assert_eq!(keys.key_ids(), ["one"]);
}

#[test]
fn service_tokens_are_made_seldom_and_live_shortly() {
    let tokens = ServiceTokens::new(&[7; 32]);
    let first = tokens.issue("gateway", at(NOW));
    assert_eq!(first, tokens.issue("gateway", at(NOW + 29)));
    assert_ne!(first, tokens.issue("gateway", at(NOW + 30)));
    assert_ne!(first, tokens.issue("wallet-service", at(NOW)));
    assert_eq!(tokens.verify(&first, at(NOW + 59)).unwrap(), "gateway");
    assert_eq!(
        tokens.verify(&first, at(NOW + 60)),
        Err(TokenError::Expired)
    );
    assert!(
        ServiceTokens::new(&[8; 32])
            .verify(&first, at(NOW))
            .is_err()
    );
    assert!(tokens.verify(&first, at(NOW - 61)).is_err());
}

#[test]
fn service_and_access_tokens_are_never_taken_for_each_other() {
    let signer = Signer::new(1, "one");
    let keys = known(&[&signer]);
    let secret = [7; 32];
    let tokens = ServiceTokens::new(&secret);
    assert!(is_invalid(
        keys.verify(&tokens.issue("gateway", at(NOW)), at(NOW))
    ));
    assert!(tokens.verify(&signer.sign(&claims()), at(NOW)).is_err());

    let good = json!({"iss": ISSUER, "aud": SERVICE_AUDIENCE, "sub": "gateway", "iat": NOW, "exp": NOW + 60});
    let sign = |header: &Header, claims: &Value| {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(&secret)).unwrap()
    };
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(SERVICE_TOKEN_TYPE.into());
    assert_eq!(
        tokens.verify(&sign(&header, &good), at(NOW)).unwrap(),
        "gateway"
    );
    for (key, value) in [
        ("aud", json!(AUDIENCE)),
        ("iss", json!("x")),
        ("sub", json!("")),
        ("exp", json!(NOW + 61)),
        ("exp", json!("1")),
        ("iat", json!(NOW + 61)),
    ] {
        let mut bad = good.clone();
        bad[key] = value.clone();
        assert!(
            tokens.verify(&sign(&header, &bad), at(NOW)).is_err(),
            "{key} {value}"
        );
    }
    header.typ = Some(ACCESS_TOKEN_TYPE.into());
    assert!(tokens.verify(&sign(&header, &good), at(NOW)).is_err());
    let mut confused = Header::new(Algorithm::HS512);
    confused.typ = Some(SERVICE_TOKEN_TYPE.into());
    assert!(tokens.verify(&sign(&confused, &good), at(NOW)).is_err());
}
