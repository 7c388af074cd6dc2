use reqwest::Method;
use serde_json::Value;

use crate::harness::house;

#[tokio::test]
async fn every_documented_operation_is_served() {
    let house = house().await;
    let document: Value = house
        .get("/openapi.json")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let path = path.replace("{id}", &house.user.to_string());
            let response = house.request(method.clone(), &path).send().await.unwrap();
            let status = response.status().as_u16();
            assert!(![404, 405].contains(&status), "{method} {path}: {status}");
            count += 1;
        }
    }
    assert!(count > 35, "{count}");
}

#[test]
fn every_route_is_documented() {
    // Routes get into the router through `routes!` only, which documents them.
    let mut files = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src"
    ))];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for way in [
            ".route(",
            ".route_service(",
            ".nest(",
            ".nest_service(",
            ".fallback(",
        ] {
            assert!(!text.contains(way), "{} in {}", way, path.display());
        }
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let house = house().await;
    let response = house.get("/docs").send().await.unwrap();
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.contains("script-src 'sha256-") && policy.contains("connect-src 'self'"));
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    let page = response.text().await.unwrap();
    assert!(
        page.contains("/openapi.json") && !page.contains("http://") && !page.contains("https://")
    );
}

#[tokio::test]
async fn health_names_each_dependency() {
    let house = house().await;
    let live: Value = house
        .get("/health/live")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(live["status"], "live");
    let ready: Value = house
        .get("/health/ready")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(ready["status"], "ready");
    for service in [
        "auth-service",
        "wallet-service",
        "notify-service",
        "scheduler-service",
    ] {
        assert_eq!(ready["dependencies"][service]["state"], "up", "{service}");
        assert!(ready["dependencies"][service]["latency_ms"].is_number());
    }
}

#[tokio::test]
async fn keys_are_served_and_kept_for_a_moment() {
    let house = house().await;
    for _ in 0..3 {
        let response = house.get("/.well-known/jwks.json").send().await.unwrap();
        assert_eq!(
            response.headers()["content-type"],
            "application/jwk-set+json"
        );
        assert_eq!(response.text().await.unwrap(), r#"{"keys":[]}"#);
    }
    assert_eq!(house.seen.count("get_jwks"), 1);
}

#[tokio::test]
async fn long_answers_are_compressed_and_those_with_tokens_are_not() {
    let house = house().await;
    let ask = |path: &str| house.get(path).header("accept-encoding", "gzip");
    let document = ask("/openapi.json").send().await.unwrap();
    assert_eq!(document.headers()["content-encoding"], "gzip");
    let body = serde_json::json!({"email": "a@b.c", "password": "p".repeat(5_000)});
    let login = house.request(Method::POST, "/v1/auth/login").json(&body);
    let login = login
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert!(!login.headers().contains_key("content-encoding"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_of_a_verification_mail_leads_to_a_page_that_uses_nothing_up() {
    let house = house().await;
    let response = house
        .get("/verify-email?token=5C95T2a_94HQ")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("referrer-policy"), "no-referrer");
    let policy = header("content-security-policy");
    assert!(policy.contains("script-src 'sha256-") && policy.contains("connect-src 'self'"));
    let page = response.text().await.unwrap();
    assert!(page.contains("v1/auth/email/verify"), "{page}");
    assert!(
        !page.contains("5C95T2a_94HQ"),
        "the token is not written into the page"
    );
}
