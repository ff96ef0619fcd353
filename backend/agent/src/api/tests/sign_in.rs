//! Sign-in, sessions, tokens, tickets, the first admin (SECURITY.md H8, H11).

use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use serde_json::{Value, json};
use wharf_shared::time::{DAY_US, HOUR_US, SECOND_US};
use wharf_shared::user::Role;

use super::world::{PASSWORD, Reply, Who, World};

async fn login(world: &World, name: &str, password: &str) -> Reply {
    let body = json!({ "name": name, "password": password });
    world.send(&Who::Nobody, "POST", "/api/v1/auth/login", Some(body)).await
}

async fn audit(world: &World) -> Vec<Value> {
    let admin = world.caller("auditor", Role::Admin, None).await;
    world.get(&admin, "/api/v1/audit").await.json()["items"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn the_first_admin_is_made_once_with_the_printed_secret() {
    let world = World::new().await;
    assert_eq!(world.get(&Who::Nobody, "/api/v1/auth/setup").await.json(), json!({ "needed": true }));
    let old = world.app.auth.setup_secret().await.expect("a secret").expect("needed");
    let secret = world.app.auth.setup_secret().await.expect("a secret").expect("still needed");
    let set_up = async |secret: &str, name: &str| {
        let body = json!({ "secret": secret, "name": name, "password": PASSWORD });
        world.send(&Who::Nobody, "POST", "/api/v1/auth/setup", Some(body)).await
    };
    assert_eq!(set_up(&"x".repeat(43), "eve").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(set_up(old.reveal(), "eve").await.status, StatusCode::UNAUTHORIZED, "a later one voids it");
    let reply = set_up(secret.reveal(), "ada").await;
    assert_eq!((reply.status, &reply.json()["user"]["role"]), (StatusCode::OK, &json!("admin")));
    assert_eq!(set_up(secret.reveal(), "eve").await.status, StatusCode::UNAUTHORIZED, "used");
    assert_eq!(world.get(&Who::Nobody, "/api/v1/auth/setup").await.json(), json!({ "needed": false }));
    assert!(world.app.auth.setup_secret().await.expect("asked").is_none());
    assert_eq!(login(&world, "ada", PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_session_cookie_is_out_of_reach_for_scripts_and_other_sites() {
    let world = World::new().await;
    world.user("ada", Role::Admin, None).await;
    let reply = login(&world, "ada", PASSWORD).await;
    let cookie = reply.headers[SET_COOKIE].to_str().expect("text");
    for part in ["wharf_session=", "; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age="] {
        assert!(cookie.contains(part), "{part} is missing in {cookie}");
    }
}

#[tokio::test]
async fn wrong_name_and_wrong_password_are_told_apart_by_nobody() {
    let world = World::new().await;
    world.user("ada", Role::Admin, None).await;
    let told = async |name, password| {
        let reply = login(&world, name, password).await;
        let mut problem = reply.json();
        problem["instance"] = Value::Null;
        (reply.status, problem)
    };
    let wrong_password = told("ada", "not the right one").await;
    assert_eq!(wrong_password.0, StatusCode::UNAUTHORIZED);
    assert_eq!(told("nobody", PASSWORD).await, wrong_password);
    assert_eq!(told("no such name/", PASSWORD).await, wrong_password);
}

/// Attacks: H8.
#[tokio::test]
async fn guessing_ends_after_ten_tries_and_goes_on_slowly() {
    let world = World::new().await;
    world.user("ada", Role::Admin, None).await;
    for _ in 0..10 {
        assert_eq!(login(&world, "ada", "a wrong password").await.status, StatusCode::UNAUTHORIZED);
    }
    let refused = login(&world, "ada", PASSWORD).await;
    assert_eq!((refused.status, refused.kind().as_str()), (StatusCode::TOO_MANY_REQUESTS, "rate-limited"));
    assert!(refused.headers.contains_key("retry-after"));
    world.user("bob", Role::Operator, None).await;
    assert_eq!(login(&world, "bob", PASSWORD).await.status, StatusCode::OK, "others are not locked out");
    world.clock.advance(30 * SECOND_US);
    assert_eq!(login(&world, "ada", PASSWORD).await.status, StatusCode::OK);
}

/// Attacks: H8.
#[tokio::test]
async fn parallel_guesses_do_not_slip_past_the_bound() {
    let world = World::new().await;
    world.user("ada", Role::Admin, None).await;
    let guesses = (0..25).map(|guess| {
        let world = &world;
        async move { login(world, "ada", &format!("a wrong password {guess}")).await.status }
    });
    let statuses = futures_util::future::join_all(guesses).await;
    let tried = statuses.iter().filter(|&&status| status == StatusCode::UNAUTHORIZED).count();
    assert_eq!(tried, 10);
}

#[tokio::test]
async fn a_session_ends_when_idle_and_lives_on_when_used() {
    let world = World::new().await;
    world.user("ada", Role::Admin, None).await;
    let (idle, used) = (world.browser("ada").await, world.browser("ada").await);
    world.clock.advance(11 * HOUR_US);
    assert_eq!(world.get(&used, "/api/v1/auth/session").await.status, StatusCode::OK);
    world.clock.advance(2 * HOUR_US);
    assert_eq!(world.get(&idle, "/api/v1/auth/session").await.status, StatusCode::UNAUTHORIZED);
    // Thirteen hours have gone; from here it is used every eleven, until a week is over.
    for _ in 0..15 {
        assert_eq!(world.get(&used, "/api/v1/auth/session").await.status, StatusCode::OK);
        world.clock.advance(11 * HOUR_US);
    }
    assert_eq!(
        world.get(&used, "/api/v1/auth/session").await.status,
        StatusCode::UNAUTHORIZED,
        "a week is the most"
    );
}

#[tokio::test]
async fn signing_out_and_removing_the_user_end_everything_at_once() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let bob = world.user("bob", Role::Operator, None).await;
    let (first, second) = (world.browser("bob").await, world.browser("bob").await);
    let token = world.send(&second, "POST", "/api/v1/tokens", Some(json!({ "name": "ci" }))).await;
    let token = Who::Token(token.json()["secret"].as_str().expect("a secret").to_owned());
    assert_eq!(world.send(&first, "POST", "/api/v1/auth/logout", None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.get(&first, "/api/v1/auth/session").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.get(&second, "/api/v1/auth/session").await.status, StatusCode::OK);
    assert_eq!(world.get(&token, "/api/v1/auth/session").await.status, StatusCode::OK);
    let removed = world.send(&admin, "DELETE", &format!("/api/v1/users/{}", bob.id), None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    for gone in [&second, &token] {
        assert_eq!(world.get(gone, "/api/v1/auth/session").await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let world = World::new().await;
    world.user("ada", Role::Admin, None).await;
    let (own, other) = (world.browser("ada").await, world.browser("ada").await);
    let change = |current: &str| Some(json!({ "current": current, "new": "an even better password" }));
    let wrong = world.send(&own, "POST", "/api/v1/auth/password", change("not the present one")).await;
    assert_eq!(wrong.json()["fields"][0]["field"], "current");
    let right = world.send(&own, "POST", "/api/v1/auth/password", change(PASSWORD)).await;
    assert_eq!(right.status, StatusCode::NO_CONTENT);
    assert_eq!(world.get(&own, "/api/v1/auth/session").await.status, StatusCode::OK);
    assert_eq!(world.get(&other, "/api/v1/auth/session").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(login(&world, "ada", PASSWORD).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(login(&world, "ada", "an even better password").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_ends_on_its_date_and_when_it_is_removed() {
    let world = World::new().await;
    let ada = world.caller("ada", Role::Admin, None).await;
    let made =
        world.send(&ada, "POST", "/api/v1/tokens", Some(json!({ "name": "ci", "expires_in_days": 2 }))).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let ci = Who::Token(made.json()["secret"].as_str().expect("a secret").to_owned());
    assert!(matches!(&ci, Who::Token(secret) if secret.starts_with("wharf_")));
    world.clock.advance(DAY_US);
    assert_eq!(world.get(&ci, "/api/v1/tokens").await.status, StatusCode::OK);
    world.clock.advance(DAY_US);
    assert_eq!(world.get(&ci, "/api/v1/tokens").await.status, StatusCode::UNAUTHORIZED);
    for days in [0, 367] {
        let body = json!({ "name": "long", "expires_in_days": days });
        assert_eq!(world.send(&ada, "POST", "/api/v1/tokens", Some(body)).await.kind(), "invalid");
    }
    let again = world.send(&ada, "POST", "/api/v1/tokens", Some(json!({ "name": "test" }))).await;
    assert_eq!(again.kind(), "name-taken");
}

#[tokio::test]
async fn another_users_token_is_neither_shown_nor_removed() {
    let world = World::new().await;
    let tenant = world.tenant("shop").await;
    let mia = world.caller("mia", Role::Member, Some(&tenant)).await;
    let max = world.caller("max", Role::Member, Some(&tenant)).await;
    let own = world.get(&mia, "/api/v1/tokens").await.json();
    assert_eq!(own["items"].as_array().expect("a list").len(), 1);
    let id = own["items"][0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/tokens/{id}");
    assert_eq!(world.send(&max, "DELETE", &path, None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.send(&mia, "DELETE", &path, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.get(&mia, "/api/v1/tokens").await.status, StatusCode::UNAUTHORIZED);
}

/// Attacks: H8.
#[tokio::test]
async fn no_secret_is_in_the_database_in_the_clear() {
    let world = World::new().await;
    let setup = world.app.auth.setup_secret().await.expect("a secret").expect("needed");
    let Who::Token(token) = world.caller("ada", Role::Admin, None).await else { unreachable!("a token") };
    let Who::Browser { cookie, .. } = world.browser("ada").await else { unreachable!("a browser") };
    let session = cookie.trim_start_matches("wharf_session=").to_owned();
    world.app.db.close().await;
    let bytes = world.database_bytes();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("ada"), "this is the database");
    for secret in [setup.reveal(), &token, &session, PASSWORD] {
        assert!(!holds(secret), "a secret is readable");
    }
}

#[tokio::test]
async fn a_ticket_opens_one_socket_within_thirty_seconds() {
    let world = World::new().await;
    let tenant = world.tenant("shop").await;
    let mia = world.caller("mia", Role::Member, Some(&tenant)).await;
    let issue = async || {
        let reply = world.send(&mia, "POST", "/api/v1/auth/ws-ticket", None).await;
        reply.json()["ticket"].as_str().expect("a ticket").to_owned()
    };
    let ticket = issue().await;
    let ctx = world.app.auth.ticket_ctx(&ticket).await.expect("good");
    assert_eq!((ctx.actor.as_str(), ctx.tenant), ("mia", Some(tenant)));
    assert!(world.app.auth.ticket_ctx(&ticket).await.is_err(), "used");
    let late = issue().await;
    world.clock.advance(30 * SECOND_US);
    assert!(world.app.auth.ticket_ctx(&late).await.is_err(), "too old");
}

/// Attacks: H11.
#[tokio::test]
async fn the_trail_names_the_signed_in_user_whatever_a_body_says() {
    let world = World::new().await;
    let bob = world.caller("bob", Role::Operator, None).await;
    let body = json!({ "name": "shop", "actor": "ada" });
    assert_eq!(world.send(&bob, "POST", "/api/v1/tenants", Some(body)).await.kind(), "invalid");
    let made = world.send(&bob, "POST", "/api/v1/tenants", Some(json!({ "name": "shop" }))).await;
    assert_eq!(login(&world, "bob", "a wrong password").await.status, StatusCode::UNAUTHORIZED);
    let trail = audit(&world).await;
    let entry = |action: &str| trail.iter().find(|entry| entry["action"] == action).expect(action).clone();
    let create = entry("tenant.create");
    assert_eq!((&create["actor"], &create["outcome"]), (&json!("bob"), &json!("done")));
    assert_eq!(create["request_id"], made.headers["x-request-id"].to_str().expect("text"));
    assert_eq!(entry("session.login")["outcome"], "unauthenticated");
}

/// Attacks: H8.
#[tokio::test]
async fn a_tenants_members_cannot_flood_the_agent_with_changes() {
    let world = World::new().await;
    let (shop, bank) = (world.tenant("shop").await, world.tenant("bank").await);
    let mia = world.caller("mia", Role::Member, Some(&shop)).await;
    let max = world.caller("max", Role::Member, Some(&bank)).await;
    let burst = world.app.config.access.tenant_changes_per_s * 4;
    for _ in 0..burst {
        assert_ne!(
            world.send(&mia, "POST", "/api/v1/tenants", None).await.status,
            StatusCode::TOO_MANY_REQUESTS
        );
    }
    assert_eq!(world.send(&mia, "POST", "/api/v1/tenants", None).await.kind(), "rate-limited");
    assert_eq!(world.get(&mia, "/api/v1/tenants").await.status, StatusCode::OK, "reading goes on");
    assert_ne!(world.send(&max, "POST", "/api/v1/tenants", None).await.status, StatusCode::TOO_MANY_REQUESTS);
    world.clock.advance(SECOND_US);
    assert_ne!(world.send(&mia, "POST", "/api/v1/tenants", None).await.status, StatusCode::TOO_MANY_REQUESTS);
}
