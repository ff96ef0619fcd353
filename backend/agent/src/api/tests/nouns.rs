//! Tenants, users and events over the API.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use futures_util::StreamExt;
use serde_json::json;
use tower::ServiceExt;
use wharf_shared::user::Role;

use super::world::{PASSWORD, World, request};
use crate::ctx::Scope;

#[tokio::test]
async fn a_member_sees_its_own_tenant_and_no_other() {
    let world = World::new().await;
    let (shop, bank) = (world.tenant("shop").await, world.tenant("bank").await);
    let mia = world.caller("mia", Role::Member, Some(&shop)).await;
    let seen = world.get(&mia, "/api/v1/tenants").await.json();
    assert_eq!(seen["items"].as_array().expect("a list").len(), 1);
    assert_eq!(seen["items"][0]["name"], "shop");
    for other in ["bank", bank.as_str(), "no-such-tenant"] {
        assert_eq!(world.get(&mia, &format!("/api/v1/tenants/{other}")).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(world.get(&mia, "/api/v1/tenants/shop").await.json()["id"], shop.as_str());
}

#[tokio::test]
async fn a_tenant_with_a_user_is_not_removed() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    let mia = world.user("mia", Role::Member, Some(&shop)).await;
    assert_eq!(world.send(&admin, "DELETE", "/api/v1/tenants/shop", None).await.kind(), "in-use");
    world.send(&admin, "DELETE", &format!("/api/v1/users/{}", mia.id), None).await;
    assert_eq!(
        world.send(&admin, "DELETE", "/api/v1/tenants/shop", None).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn a_user_is_made_whole_or_not_at_all() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    let make = async |name: &str, password: &str, role: &str, tenant: Option<&str>| {
        let body = json!({ "name": name, "password": password, "role": role, "tenant": tenant });
        world.send(&admin, "POST", "/api/v1/users", Some(body)).await
    };
    assert_eq!(make("mia", PASSWORD, "member", Some(shop.as_str())).await.status, StatusCode::CREATED);
    assert_eq!(make("mia", PASSWORD, "operator", None).await.kind(), "name-taken");
    let gone = "tnt_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b";
    for (name, password, role, tenant, field) in [
        ("a b", PASSWORD, "operator", None, "name"),
        ("max", "short", "operator", None, "password"),
        ("max", PASSWORD, "member", None, "tenant"),
        ("max", PASSWORD, "admin", Some(shop.as_str()), "tenant"),
        ("max", PASSWORD, "member", Some(gone), "tenant"),
        ("max", PASSWORD, "root", None, "role"),
    ] {
        let reply = make(name, password, role, tenant).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{name} {role}");
        assert_eq!(reply.json()["fields"][0]["field"], field, "{name} {role}");
    }
}

#[tokio::test]
async fn the_last_admin_stays() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let users = world.get(&admin, "/api/v1/users").await.json();
    let path = format!("/api/v1/users/{}", users["items"][0]["id"].as_str().expect("an id"));
    assert_eq!(world.send(&admin, "DELETE", &path, None).await.kind(), "conflict");
}

#[tokio::test]
async fn lists_are_paged_without_gap_or_repeat() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    for number in 0..5 {
        world.tenant(&format!("t{number}")).await;
    }
    let (mut names, mut query) = (Vec::new(), String::new());
    loop {
        let page = world.get(&admin, &format!("/api/v1/tenants?limit=2{query}")).await.json();
        let items = page["items"].as_array().expect("a list");
        assert!(items.len() <= 2);
        names.extend(items.iter().map(|tenant| tenant["name"].as_str().expect("a name").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("&cursor={cursor}");
    }
    assert_eq!(names, ["t0", "t1", "t2", "t3", "t4"]);
}

#[tokio::test]
async fn events_are_resumed_where_they_broke_off_and_stay_in_the_tenant() {
    let world = World::new().await;
    let (shop, _bank) = (world.tenant("shop").await, world.tenant("bank").await);
    let mia = world.caller("mia", Role::Member, Some(&shop)).await;
    let page = world.get(&mia, "/api/v1/events?follow=false").await.json();
    let kinds: Vec<_> =
        page["items"].as_array().expect("a list").iter().map(|event| &event["subject_name"]).collect();
    assert_eq!(kinds, ["shop"], "neither the other tenant's nor the host's");
    assert_eq!(world.get(&mia, "/api/v1/events?tenant=bank").await.status, StatusCode::NOT_FOUND);

    let mut request = request(&mia, "GET", "/api/v1/events?follow=true", None);
    request.headers_mut().insert("last-event-id", "0".parse().expect("a header"));
    let response = world.router.clone().oneshot(request).await.expect("the router never fails");
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    let mut frames = response.into_body().into_data_stream();
    let first = frames.next().await.expect("a frame").expect("read");
    let first = String::from_utf8(first.to_vec()).expect("text");
    assert!(first.contains("\"tenant.created\"") && first.contains("id: 1\n"), "{first}");
    let admin = world.caller("ada", Role::Admin, None).await;
    let update = json!({ "quota": { "containers": 3 } });
    assert_eq!(
        world.send(&admin, "PATCH", "/api/v1/tenants/shop", Some(update)).await.status,
        StatusCode::OK
    );
    let next = frames.next().await.expect("a frame").expect("read");
    let next = String::from_utf8(next.to_vec()).expect("text");
    assert!(next.contains("\"tenant.updated\""), "{next}");
}

#[tokio::test]
async fn old_records_go_and_who_resumes_before_them_is_told() {
    const DAY_US: i64 = 86_400_000_000;
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    for name in ["one", "two", "three"] {
        world.tenant(name).await;
    }
    let all = world.get(&admin, "/api/v1/events?follow=false").await.json();
    let old = all["items"].as_array().expect("a list").len();
    world.clock.advance(100 * DAY_US);
    world.tenant("four").await;
    let retention = world.app.config.retention;
    let (events, entries) = world.app.events.purge(&retention).await.expect("removed");
    assert_eq!((usize::try_from(events).expect("few"), entries), (old, 0), "the trail is kept for longer");

    // Asked of the bus: the caller's token is too old by now.
    let kinds = async |after: i64| {
        let events = world.app.events.list(&Scope::All, after, 100).await.expect("read");
        events.into_iter().map(|event| (event.seq, event.kind)).collect::<Vec<_>>()
    };
    let purged = i64::try_from(old).expect("few");
    let made = (purged + 1, "tenant.created".to_owned());
    assert_eq!(kinds(1).await, [(purged, "events.gap".to_owned()), made.clone()]);
    assert_eq!(kinds(purged).await, vec![made.clone()], "nothing is missing after the last one removed");
    assert_eq!(kinds(0).await, [made], "0 asks for whatever is kept");

    world.clock.advance(700 * DAY_US);
    let (events, entries) = world.app.events.purge(&retention).await.expect("removed");
    assert!(events == 1 && entries > 0, "{events} {entries}");
    assert_eq!(kinds(1).await, [(purged + 1, "events.gap".to_owned())]);
}

#[tokio::test]
async fn a_followed_stream_ends_when_the_agent_stops() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let request = request(&admin, "GET", "/api/v1/events?follow=true", None);
    let response = world.router.clone().oneshot(request).await.expect("the router never fails");
    world.app.tasks.stopping().cancel();
    let frames: Vec<_> = response.into_body().into_data_stream().collect().await;
    assert!(frames.iter().all(Result::is_ok));
}
