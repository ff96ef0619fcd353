//! SECURITY.md H1, H3, H5, H12: what is refused whoever sends it, and what every answer says.

use axum::body::Body;
use axum::http::header::{
    ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use serde_json::json;
use wharf_shared::auth::CSRF_HEADER;
use wharf_shared::user::Role;

use super::world::{PASSWORD, Who, World, request};

/// Attacks: H1.
#[tokio::test]
async fn another_host_is_refused_on_every_route() {
    let world = World::new().await;
    for path in ["/", "/healthz", "/metrics", "/api/v1/auth/setup", "/api/v1/nothing"] {
        let mut request = request(&Who::Nobody, "GET", path, None);
        request.headers_mut().insert(HOST, HeaderValue::from_static("evil.example"));
        let reply = world.ask(request).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(reply.kind(), "forbidden", "{path}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_gets_nothing_even_with_good_credentials() {
    let world = World::new().await;
    world.user("ada", Role::Admin, None).await;
    let ada = world.browser("ada").await;
    for origin in ["http://evil.example", "http://localhost:3000", "null"] {
        let mut request = request(&ada, "POST", "/api/v1/auth/ws-ticket", None);
        request.headers_mut().insert(ORIGIN, origin.parse().expect("a header"));
        assert_eq!(world.ask(request).await.status, StatusCode::FORBIDDEN, "{origin}");
    }
    let mut own = request(&ada, "POST", "/api/v1/auth/ws-ticket", None);
    own.headers_mut().insert(ORIGIN, HeaderValue::from_static("http://localhost:8080"));
    assert_eq!(world.ask(own).await.status, StatusCode::OK);
}

/// Attacks: H3.
#[tokio::test]
async fn a_cookie_alone_changes_nothing() {
    let world = World::new().await;
    world.user("ada", Role::Admin, None).await;
    let ada = world.browser("ada").await;
    let spec = || Some(json!({ "name": "shop" }));
    for csrf in [None, Some(""), Some("guess")] {
        let mut request = request(&ada, "POST", "/api/v1/tenants", spec());
        request.headers_mut().remove(CSRF_HEADER);
        if let Some(csrf) = csrf {
            request.headers_mut().insert(CSRF_HEADER, csrf.parse().expect("a header"));
        }
        assert_eq!(world.ask(request).await.kind(), "forbidden", "{csrf:?}");
    }
    assert_eq!(world.get(&ada, "/api/v1/tenants").await.json()["items"], json!([]));
    assert_eq!(world.send(&ada, "POST", "/api/v1/tenants", spec()).await.status, StatusCode::CREATED);
}

/// Attacks: H3.
#[tokio::test]
async fn a_form_cannot_sign_anybody_in() {
    let world = World::new().await;
    world.user("ada", Role::Admin, None).await;
    let body = json!({ "name": "ada", "password": PASSWORD }).to_string();
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let mut request = request(&Who::Nobody, "POST", "/api/v1/auth/login", None);
        request.headers_mut().insert(CONTENT_TYPE, content_type.parse().expect("a header"));
        *request.body_mut() = Body::from(body.clone());
        assert_eq!(world.ask(request).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
    }
}

#[tokio::test]
async fn a_busy_agent_says_when_to_come_again() {
    let world = World::with(|config| config.access.max_requests = 0).await;
    let reply = world.get(&Who::Nobody, "/api/v1/auth/setup").await;
    assert_eq!((reply.status, reply.kind().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"));
    assert_eq!(reply.headers[CONTENT_TYPE], "application/problem+json");
    let seconds: u64 = reply.headers[RETRY_AFTER].to_str().expect("text").parse().expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
}

/// Attacks: H5.
#[tokio::test]
async fn a_body_of_two_megabytes_is_refused_whole() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let spec = json!({ "name": "shop", "quota": {}, "padding": "x".repeat(2 << 20) });
    let reply = world.send(&admin, "POST", "/api/v1/tenants", Some(spec)).await;
    assert_eq!((reply.status, reply.kind().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too-large"));
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_its_name() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let reply =
        world.send(&admin, "POST", "/api/v1/tenants", Some(json!({ "name": "a", "qouta": {} }))).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.json()["fields"][0]["field"], "qouta");
    let reply = world.get(&admin, "/api/v1/tenants?limt=3").await;
    assert_eq!(reply.kind(), "malformed");
    assert!(reply.text.contains("limt"), "{}", reply.text);
}

#[tokio::test]
async fn every_failure_is_a_problem_with_the_requests_id() {
    let world = World::new().await;
    for (method, path, status) in [
        ("GET", "/api/v1/nothing", StatusCode::NOT_FOUND),
        ("PUT", "/api/v1/auth/login", StatusCode::METHOD_NOT_ALLOWED),
        ("GET", "/api/v1/tenants", StatusCode::UNAUTHORIZED),
    ] {
        let reply = world.send(&Who::Nobody, method, path, None).await;
        assert_eq!(reply.status, status, "{method} {path}");
        assert_eq!(reply.headers[CONTENT_TYPE], "application/problem+json", "{method} {path}");
        assert_eq!(reply.json()["instance"].as_str().expect("an id"), reply.headers["x-request-id"]);
        assert_eq!(reply.json()["status"], status.as_u16());
    }
    let reply = world.send(&Who::Nobody, "PUT", "/api/v1/auth/login", None).await;
    assert_eq!(reply.headers[ALLOW], "POST");
}

/// Attacks: H12.
#[tokio::test]
async fn no_answer_may_run_or_be_framed() {
    let world = World::new().await;
    for path in ["/", "/healthz", "/api/v1/auth/setup", "/api/v1/nothing"] {
        let reply = world.get(&Who::Nobody, path).await;
        let policy = reply.headers[CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(
            policy.contains("default-src 'none'") || policy.contains("default-src 'self'"),
            "{path}: {policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("script-src 'unsafe-inline'"), "{path}: {policy}");
        assert_eq!(reply.headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
    }
}

#[tokio::test]
async fn health_is_told_to_anybody_and_metrics_are_not() {
    let world = World::new().await;
    let health = world.get(&Who::Nobody, "/healthz").await;
    assert_eq!((health.status, health.text.as_str()), (StatusCode::OK, "ok\n"));
    assert_eq!(world.get(&Who::Nobody, "/metrics").await.status, StatusCode::UNAUTHORIZED);
    let operator = world.caller("olga", Role::Operator, None).await;
    let metrics = world.get(&operator, "/metrics").await;
    assert!(
        metrics
            .text
            .contains(r#"wharf_http_requests_seconds_count{method="GET",route="/healthz",status="200"} 1"#)
    );
    let tenant = world.tenant("shop").await;
    let member = world.caller("mia", Role::Member, Some(&tenant)).await;
    assert_eq!(world.get(&member, "/metrics").await.status, StatusCode::FORBIDDEN);
}
