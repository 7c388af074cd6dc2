use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use platform::token::KeySet;
use proto::identity::v1::*;
use serde_json::Value;

use crate::world::World;

fn header(token: &str) -> HashMap<String, Value> {
    let part = token.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn jwks(world: &World) -> String {
    let request = world.edge(GetJwksRequest {});
    world
        .client
        .clone()
        .get_jwks(request)
        .await
        .unwrap()
        .into_inner()
        .jwks_json
}

#[tokio::test]
async fn access_tokens_are_signed_with_a_published_key() {
    let world = World::start().await;
    let (user, tokens) = world.member("asha@example.org").await;
    let claims = world.claims(&tokens.access_token).await;
    assert_eq!(claims.sub.to_string(), user.id);
    assert_eq!(
        (claims.iss.as_str(), claims.aud.as_str()),
        ("coffer", "coffer-api")
    );

    let header = header(&tokens.access_token);
    assert_eq!(
        (&header["alg"], &header["typ"]),
        (&"EdDSA".into(), &"at+jwt".into())
    );
    let set: Value = serde_json::from_str(&jwks(&world).await).unwrap();
    assert_eq!(set["keys"][0]["kid"], header["kid"]);
    assert!(set["keys"][0].get("d").is_none(), "never the private half");
    world.end().await;
}

#[tokio::test]
async fn keys_and_tokens_survive_a_restart() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let mut restarted = world.replica(world.config.clone()).await;
    let request = world.edge(GetJwksRequest {});
    let after = restarted
        .get_jwks(request)
        .await
        .unwrap()
        .into_inner()
        .jwks_json;
    assert_eq!(after, jwks(&world).await);
    let request = platform::grpc::client::as_user(GetProfileRequest {}, &tokens.access_token);
    restarted.get_profile(request).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let keys = KeySet::new();
    keys.update_from_jwks(&jwks(&world).await).unwrap();
    let parts: Vec<_> = tokens.access_token.split('.').collect();
    let claims = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let raised = String::from_utf8(claims)
        .unwrap()
        .replace(r#""user""#, r#""admin""#);
    let forged = format!(
        "{}.{}.{}",
        parts[0],
        URL_SAFE_NO_PAD.encode(raised),
        parts[2]
    );
    let now = world.platform.clock().now();
    assert!(keys.verify(&tokens.access_token, now).is_ok());
    assert!(keys.verify(&forged, now).is_err());
    assert!(world.profile(&forged).await.is_err());
    world.end().await;
}

#[cfg(unix)]
#[tokio::test]
async fn signing_keys_belong_to_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start().await;
    let dir = world.platform.handles().keys.dir().to_owned();
    let mut found = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("signing-") && name.ends_with(".pem") {
            found += 1;
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o777,
                0o600,
                "{name}"
            );
        }
    }
    assert_eq!(found, 1);
    world.end().await;
}
