//! Budgets against usage that is put into the store, and a clock that is moved by hand.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::time::{DAY_US, HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageHour};
use wharf_shared::user::Role;
use wharf_store::usage;

use super::world::{Who, World};
use crate::tasks::{OnEnd, Tasks};

const SECOND_NS: u128 = 1_000_000_000;

/// Prices from the present hour on: a second of CPU costs 0.01.
async fn price(world: &World, admin: &Who) {
    price_with(world, admin, json!([{ "meter": "cpu_used", "unit_price": "0.01" }])).await;
}

async fn price_with(world: &World, admin: &Who, prices: Value) {
    let from = world.app.clock.now().hour_start().to_string();
    let body = json!({ "currency": "EUR", "effective_from": from, "prices": prices });
    let reply = world.send(admin, "POST", "/api/v1/billing/price-books", Some(body)).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
}

/// So many seconds of CPU in an hour.
async fn used(world: &World, tenant: &TenantId, hour: Timestamp, seconds: u128) {
    let row = |meter| UsageHour {
        hour,
        tenant: tenant.clone(),
        container: Some("c".repeat(64).parse::<ContainerId>().expect("an id")),
        meter,
        tenant_name: "shop".to_owned(),
        container_name: "web".to_owned(),
        labels: [].into(),
        quantity: seconds * SECOND_NS,
        quality: Quality::Measured,
    };
    let host = crate::ids::new("hst_").expect("an id");
    let mut tx = world.app.db.begin().await.expect("begun");
    assert!(
        usage::apply(&mut tx, &host, 0, 1, &[row(Meter::CpuUsed), row(Meter::ContainerTime)])
            .await
            .expect("applied")
    );
    tx.commit().await.expect("committed");
}

fn budget(amount: &str, thresholds: &Value) -> Value {
    json!({ "amount": amount, "currency": "EUR", "thresholds": thresholds })
}

async fn set(world: &World, who: &Who, body: Value) -> Value {
    let reply = world.send(who, "PUT", "/api/v1/budgets/shop", Some(body)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()
}

async fn look(world: &World) {
    world.app.budgets.look().await.expect("looked");
}

/// The thresholds that were told, in their order: by events, and as many times in the audit trail.
async fn told(world: &World, admin: &Who) -> Vec<String> {
    let of = |page: Value, kind: &str| {
        let items = page["items"].as_array().expect("a list").clone();
        let found = items.into_iter().filter(|item| item[kind] == "budget.threshold_reached");
        found.map(|item| item["detail"]["percent"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let events = world.get(admin, "/api/v1/events").await;
    let events = of(events.json(), "kind");
    let mut audited = of(world.get(admin, "/api/v1/audit").await.json(), "action");
    audited.reverse();
    assert_eq!(events, audited);
    events
}

#[tokio::test]
async fn a_bad_budget_is_refused_with_its_field() {
    let world = World::with(|config| config.budgets.webhook_hosts = vec!["hooks.example".to_owned()]).await;
    let admin = world.caller("ada", Role::Admin, None).await;
    world.tenant("shop").await;
    let send = async |path: &str, body: Value| {
        let reply = world.send(&admin, "PUT", path, Some(body)).await;
        let problem = reply.json();
        (reply.status.as_u16(), problem["fields"][0]["field"].as_str().unwrap_or_default().to_owned())
    };
    let path = "/api/v1/budgets/shop";
    let good = budget("5", &json!([{ "percent": 50 }, { "percent": 100, "actions": ["freeze"] }]));
    assert_eq!(send(path, good.clone()).await, (422, "currency".to_owned()), "there are no prices yet");
    price(&world, &admin).await;
    let with = |key: &str, value: Value| {
        let mut bad = good.clone();
        bad[key] = value;
        bad
    };
    for (bad, field) in [
        (with("currency", json!("EUX")), "currency"),
        (with("currency", json!("USD")), "currency"),
        (with("amount", json!("-5")), "amount"),
        (with("amount", json!("0")), "amount"),
        (with("thresholds", json!([])), "thresholds"),
        (with("thresholds", json!([{ "percent": 90 }, { "percent": 50 }])), "thresholds[1].percent"),
        (with("thresholds", json!([{ "percent": 90 }, { "percent": 90 }])), "thresholds[1].percent"),
        (with("thresholds", json!([{ "percent": 50, "actions": ["webhook"] }])), "webhook_url"),
        (with("webhook_url", json!("hooks.example")), "webhook_url"),
        (with("webhook_url", json!("http://169.254.169.254/")), "webhook_url"),
    ] {
        assert_eq!(send(path, bad.clone()).await, (422, field.to_owned()), "{bad}");
    }
    for malformed in
        [with("amount", json!(5)), with("thresholds", json!([{ "percent": 1, "actions": ["x"] }]))]
    {
        assert_eq!(send(path, malformed).await.0, 422);
    }
    assert_eq!(send("/api/v1/budgets/nobody", good.clone()).await.0, 404);
    assert_eq!(world.get(&admin, path).await.kind(), "not-found");
    assert_eq!(world.send(&admin, "DELETE", path, None).await.kind(), "not-found");
    assert_eq!(send(path, with("webhook_url", json!("https://hooks.example/x"))).await.0, 200);
}

#[tokio::test]
async fn each_threshold_is_told_once_in_a_month_and_what_it_orders_holds_until_the_month_ends() {
    let world = World::new().await;
    let (admin, shop) = (world.caller("ada", Role::Admin, None).await, world.tenant("shop").await);
    let mia = world.caller("mia", Role::Member, Some(&shop)).await;
    price(&world, &admin).await;
    let hour = world.app.clock.now().hour_start();
    let thresholds = json!([{ "percent": 50 }, { "percent": 100, "actions": ["refuse_starts"] }]);
    set(&world, &admin, budget("10", &thresholds)).await;
    look(&world).await;
    assert_eq!(told(&world, &admin).await, [] as [&str; 0]);

    used(&world, &shop, hour, 499).await;
    world.clock.advance(40_000_000);
    look(&world).await;
    assert_eq!(told(&world, &admin).await, [] as [&str; 0]);
    used(&world, &shop, hour, 1).await;
    for _ in 0..3 {
        world.clock.advance(40_000_000);
        look(&world).await;
    }
    assert_eq!(told(&world, &admin).await, ["50"]);
    let create = json!({ "image": "busybox:1.36", "name": "idle" });
    assert_eq!(world.send(&mia, "POST", "/api/v1/containers", Some(create)).await.status, 201);

    used(&world, &shop, hour, 501).await;
    world.clock.advance(40_000_000);
    look(&world).await;
    assert_eq!(told(&world, &admin).await, ["50", "100"]);
    let view = world.get(&mia, "/api/v1/budgets/shop").await.json();
    assert_eq!((&view["spent"], &view["spent_percent"]), (&json!("10.01"), &json!("100.1")));
    assert_eq!(view["in_force"], json!(["refuse_starts"]));
    let refused = [
        ("/api/v1/containers/idle/start".to_owned(), None),
        ("/api/v1/containers/idle/restart".to_owned(), Some(json!({}))),
        ("/api/v1/containers?start=true".to_owned(), Some(json!({ "image": "busybox:1.36" }))),
    ];
    for (path, body) in refused {
        let reply = world.send(&mia, "POST", &path, body).await;
        assert_eq!(reply.kind(), "budget-exceeded", "{path}");
        let detail = reply.json()["detail"].as_str().expect("text").to_owned();
        for part in
            ["tenant shop", "10 EUR a month", "100 %", "2026-12-01T00:00:00Z", "wharf budget set shop"]
        {
            assert!(detail.contains(part), "{detail}");
        }
    }
    let idle = world.get(&mia, "/api/v1/containers/idle").await.json();
    assert_eq!(idle["state"], "created", "a refused start changes nothing");

    // A new agent on the same state refuses before it has looked at anything.
    world.app.budgets.recover().await.expect("recovered");
    assert_eq!(
        world.send(&mia, "POST", "/api/v1/containers/idle/start", None).await.kind(),
        "budget-exceeded"
    );

    // The month ends: nothing is spent, nothing holds, and the next month tells again.
    world.clock.advance(8 * DAY_US);
    look(&world).await;
    let view = world.get(&admin, "/api/v1/budgets/shop").await.json();
    assert_eq!((&view["spent"], &view["in_force"], &view["reached"]), (&json!("0"), &json!([]), &json!([])));
    assert_eq!(
        (&view["from"], &view["to"]),
        (&json!("2026-12-01T00:00:00Z"), &json!("2027-01-01T00:00:00Z"))
    );
    used(&world, &shop, world.app.clock.now().hour_start(), 600).await;
    world.clock.advance(40_000_000);
    look(&world).await;
    assert_eq!(told(&world, &admin).await, ["50", "100", "50"]);
    // What comes late for the month that is over is nothing of this one's.
    used(&world, &shop, hour, 10_000).await;
    world.clock.advance(40_000_000);
    look(&world).await;
    assert_eq!(told(&world, &admin).await, ["50", "100", "50"]);
}

#[tokio::test]
async fn a_budget_that_is_raised_lifts_its_orders_and_tells_its_thresholds_anew() {
    let world = World::new().await;
    let (admin, shop) = (world.caller("ada", Role::Admin, None).await, world.tenant("shop").await);
    let olga = world.caller("olga", Role::Operator, None).await;
    price(&world, &admin).await;
    used(&world, &shop, world.app.clock.now().hour_start(), 1_000).await;
    let thresholds = json!([{ "percent": 80 }, { "percent": 100, "actions": ["stop"] }]);
    set(&world, &admin, budget("10", &thresholds)).await;
    look(&world).await;
    let view = world.get(&admin, "/api/v1/budgets/shop").await.json();
    assert_eq!(view["in_force"], json!(["refuse_starts", "stop"]));
    assert_eq!(view["reached"].as_array().expect("a list").len(), 2);
    set(&world, &olga, budget("12", &thresholds)).await;
    look(&world).await;
    let view = world.get(&admin, "/api/v1/budgets/shop").await.json();
    assert_eq!((&view["in_force"], &view["reached"][0]["percent"]), (&json!([]), &json!(80)));
    assert_eq!(told(&world, &admin).await, ["80", "100", "80"]);
    assert_eq!(world.send(&olga, "DELETE", "/api/v1/budgets/shop", None).await.status, 204);
    look(&world).await;
    assert_eq!(world.get(&admin, "/api/v1/budgets/shop").await.kind(), "not-found");
}

#[tokio::test]
async fn a_forecast_goes_on_as_it_went_since_the_first_use() {
    let world = World::new().await;
    let (admin, shop) = (world.caller("ada", Role::Admin, None).await, world.tenant("shop").await);
    price(&world, &admin).await;
    set(&world, &admin, budget("100", &json!([{ "percent": 100 }]))).await;
    let seen = async || {
        let view = world.get(&admin, "/api/v1/budgets/shop").await.json();
        ["spent", "forecast", "forecast_at_burn", "overshoot_limit"]
            .map(|key| view[key].as_str().expect(key).to_owned())
    };
    assert_eq!(seen().await, ["0"; 4], "nothing was used");
    // It is noon of the 23rd: seven and a half days are left.
    used(&world, &shop, world.app.clock.now().hour_start(), 100).await;
    world.clock.advance(HOUR_US);
    // One EUR in one hour, and 179 hours to come; nothing runs now.
    assert_eq!(seen().await, ["1", "180", "1", "0"]);
    world.clock.advance(HOUR_US);
    assert_eq!(seen().await[1], "90");
    world.clock.advance(178 * HOUR_US - 1);
    assert!(seen().await[1].starts_with("1.0000"), "{:?}", seen().await);
}

#[tokio::test]
async fn a_member_sees_its_own_budget_without_the_webhook_and_changes_none() {
    let world = World::new().await;
    let (admin, shop) = (world.caller("ada", Role::Admin, None).await, world.tenant("shop").await);
    let bank = world.tenant("bank").await;
    let mia = world.caller("mia", Role::Member, Some(&shop)).await;
    let max = world.caller("max", Role::Member, Some(&bank)).await;
    price(&world, &admin).await;
    let mut body = budget("10", &json!([{ "percent": 50, "actions": ["webhook"] }]));
    body["webhook_url"] = json!("https://hooks.example/?key=s3cret");
    assert_eq!(set(&world, &admin, body.clone()).await["budget"], body);
    for path in ["/api/v1/budgets", "/api/v1/budgets/shop"] {
        let reply = world.get(&mia, path).await;
        assert!(reply.text.contains("shop") && !reply.text.contains("s3cret"), "{}", reply.text);
    }
    assert_eq!(world.get(&max, "/api/v1/budgets").await.json()["items"], json!([]));
    assert_eq!(world.get(&max, "/api/v1/budgets/shop").await.status, 404);
    assert_eq!(world.send(&mia, "PUT", "/api/v1/budgets/shop", Some(body)).await.status, 403);
    assert_eq!(world.send(&mia, "DELETE", "/api/v1/budgets/shop", None).await.status, 403);
}

#[tokio::test]
async fn what_is_kept_of_hours_that_are_over_never_changes_what_was_spent() {
    let world = World::new().await;
    let (admin, shop) = (world.caller("ada", Role::Admin, None).await, world.tenant("shop").await);
    // What an hour costs depends on all before it, and some of each quantity is carried on.
    let tiers =
        json!([{ "from": "0.5", "to": "1.3", "unit_price": "7" }, { "from": "1.3", "unit_price": "3" }]);
    let prices = json!([{ "meter": "cpu_used", "unit": "Core-Hours", "allowance": "0.5", "tiers": tiers,
        "monthly_cap": "30" }, { "meter": "container_time", "unit": "Container-Hours", "unit_price": "1",
        "minimum_quantity": "2" }]);
    price_with(&world, &admin, prices).await;
    let first = world.app.clock.now().hour_start();
    let (billing, mut known) = (&world.app.billing, None);
    let mut differed = 0;
    for step in 0_u32..60 {
        let now = world.app.clock.now();
        let seconds = u128::from((step * 7_919) % 1_301);
        used(&world, &shop, now.hour_start(), seconds).await;
        let is_late = step % 20 == 11;
        if is_late {
            used(&world, &shop, first, 777).await;
        }
        let kept = billing.spent(&shop, now, &mut known).await.expect("rated");
        let anew = billing.spent(&shop, now, &mut None).await.expect("rated");
        if kept != anew {
            differed += 1;
            // What came late is found within ten minutes.
            let soon = Timestamp(now.0 + HOUR_US / 6);
            let kept = billing.spent(&shop, soon, &mut known).await.expect("rated");
            assert_eq!(kept, billing.spent(&shop, soon, &mut None).await.expect("rated"), "step {step}");
        }
        world.clock.advance(HOUR_US / 15);
    }
    assert!((1..=3).contains(&differed), "{differed} times it was not what rating anew says");
}

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<(Vec<String>, Vec<u16>)>>);

/// An endpoint that answers with these statuses, and then with 200.
async fn endpoint(statuses: &[u16]) -> (Receiver, String) {
    let receiver = Receiver::default();
    receiver.0.lock().expect("a list").1 = statuses.iter().rev().copied().collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook?key=s3cret", listener.local_addr().expect("an address"));
    let receive = async |State(receiver): State<Receiver>, body: String| {
        let mut inner = receiver.0.lock().expect("a list");
        inner.0.push(body);
        StatusCode::from_u16(inner.1.pop().unwrap_or(200)).expect("a status")
    };
    let router = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
    Tasks::default().spawn("endpoint", OnEnd::Fine, async move {
        axum::serve(listener, router).await.expect("it serves");
    });
    (receiver, url)
}

#[tokio::test]
async fn a_webhook_is_sent_again_with_the_same_bytes_until_it_is_taken() {
    let world = World::new().await;
    let (admin, shop) = (world.caller("ada", Role::Admin, None).await, world.tenant("shop").await);
    price(&world, &admin).await;
    let (receiver, url) = endpoint(&[503, 404]).await;
    let mut body = budget("10", &json!([{ "percent": 50, "actions": ["webhook"] }, { "percent": 100 }]));
    body["webhook_url"] = json!(url);
    set(&world, &admin, body).await;
    used(&world, &shop, world.app.clock.now().hour_start(), 600).await;
    look(&world).await;
    let send = async || {
        world.app.budgets.send_notices().await.expect("sent");
        let view = world.get(&admin, "/api/v1/budgets/shop").await.json();
        let reached = view["reached"][0].clone();
        (reached["notice"].clone(), reached["notice_problem"].as_str().unwrap_or_default().to_owned())
    };
    let (state, problem) = send().await;
    assert!(state == "queued" && problem.contains("503") && !problem.contains("s3cret"), "{problem}");
    send().await;
    assert_eq!(receiver.0.lock().expect("a list").0.len(), 1, "it waits before it is sent again");
    world.clock.advance(10_000_000);
    assert!(send().await.1.contains("404"), "a wrong address says nothing about the event");
    world.clock.advance(20_000_000);
    assert_eq!(send().await, (json!("sent"), String::new()));
    world.clock.advance(HOUR_US);
    send().await;
    let bodies = receiver.0.lock().expect("a list").0.clone();
    assert!(bodies.len() == 3 && bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    let event: Value = serde_json::from_str(&bodies[0]).expect("JSON");
    assert_eq!((&event["type"], &event["subject"]), (&json!("budget.threshold_reached.v1"), &json!(shop)));
    for (key, value) in [("percent", json!(50)), ("spent", json!("6")), ("amount", json!("10"))] {
        assert_eq!(event["data"][key], value);
    }
}

#[tokio::test]
async fn a_webhook_that_is_refused_or_taken_away_is_not_sent_again() {
    let world = World::new().await;
    let (admin, shop) = (world.caller("ada", Role::Admin, None).await, world.tenant("shop").await);
    price(&world, &admin).await;
    let (receiver, url) = endpoint(&[422]).await;
    let thresholds = json!([{ "percent": 50, "actions": ["webhook"] }]);
    let mut body = budget("10", &thresholds);
    body["webhook_url"] = json!(url);
    set(&world, &admin, body.clone()).await;
    used(&world, &shop, world.app.clock.now().hour_start(), 600).await;
    look(&world).await;
    for _ in 0..2 {
        world.app.budgets.send_notices().await.expect("sent");
        world.clock.advance(HOUR_US);
    }
    let view = world.get(&admin, "/api/v1/budgets/shop").await.json();
    assert_eq!(view["reached"][0]["notice"], "refused");
    assert_eq!(receiver.0.lock().expect("a list").0.len(), 1);

    set(&world, &admin, body).await;
    look(&world).await;
    set(&world, &admin, budget("10", &json!([{ "percent": 50 }]))).await;
    world.app.budgets.send_notices().await.expect("sent");
    assert_eq!(
        receiver.0.lock().expect("a list").0.len(),
        1,
        "its address was taken away before it was sent"
    );
}
