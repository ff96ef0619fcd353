//! Price books, rated usage and its export.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde_json::{Value, json};
use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageHour};
use wharf_shared::user::Role;
use wharf_store::usage;

use super::world::{Who, World};

/// The hour in which every test begins.
fn hour(world: &World) -> Timestamp {
    world.app.clock.now().hour_start()
}

fn container(last: char) -> ContainerId {
    format!("{}{last}", "c".repeat(63)).parse().expect("an id")
}

/// Usage as metering writes it.
async fn used(world: &World, seq: i64, rows: &[(&TenantId, &str, char, Timestamp, Meter, u128)]) {
    let rows: Vec<_> = rows
        .iter()
        .map(|&(tenant, tenant_name, last, hour, meter, quantity)| UsageHour {
            hour,
            tenant: tenant.clone(),
            container: Some(container(last)),
            meter,
            tenant_name: tenant_name.to_owned(),
            container_name: format!("web-{last}"),
            labels: [("app".to_owned(), "shop".to_owned())].into(),
            quantity,
            quality: Quality::Measured,
        })
        .collect();
    let host = crate::ids::new("hst_").expect("an id");
    let mut tx = world.app.db.begin().await.expect("begun");
    assert!(usage::apply(&mut tx, &host, 0, seq, &rows).await.expect("applied"));
    tx.commit().await.expect("committed");
}

async fn add_prices(world: &World, admin: &Who, effective_from: Timestamp, unit_price: &str) -> Value {
    let prices = json!([{ "meter": "cpu_used", "unit_price": unit_price }]);
    let body = json!({ "currency": "EUR", "effective_from": effective_from.to_string(), "prices": prices });
    world.send(admin, "POST", "/api/v1/billing/price-books", Some(body)).await.json()
}

#[tokio::test]
async fn an_hour_costs_what_the_book_in_force_says_to_the_last_digit() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let (shop, bank) = (world.tenant("shop").await, world.tenant("bank").await);
    let mia = world.caller("mia", Role::Member, Some(&shop)).await;
    let first = hour(&world);
    let second = Timestamp(first.0 + HOUR_US);
    add_prices(&world, &admin, first, "0.000011").await;
    add_prices(&world, &admin, second, "0.00002").await;
    used(
        &world,
        1,
        &[
            (&shop, "shop", 'a', first, Meter::CpuUsed, 3_600_000_000_001),
            (&shop, "shop", 'a', second, Meter::CpuUsed, 1_500_000_000),
            (&bank, "bank", 'b', first, Meter::CpuUsed, 7),
        ],
    )
    .await;
    world.clock.advance(HOUR_US);
    let rows = world.get(&mia, "/api/v1/usage").await.json();
    let seen: Vec<_> = rows["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| {
            [&row["tenant_name"], &row["quantity"], &row["amount"], &row["currency"]].map(Value::to_string)
        })
        .collect();
    let row =
        |quantity: &str, amount: &str| ["shop", quantity, amount, "EUR"].map(|text| format!("{text:?}"));
    // 3600.000000001 s × 0.000011 and 1.5 s × 0.00002.
    assert_eq!(seen, [row("3600000000001", "0.039600000000011"), row("1500000000", "0.00003")]);
}

#[tokio::test]
async fn an_export_is_whole_clean_and_only_ones_own() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let (shop, bank) = (world.tenant("shop").await, world.tenant("bank").await);
    let mia = world.caller("mia", Role::Member, Some(&shop)).await;
    let now = hour(&world);
    add_prices(&world, &admin, now, "0.5").await;
    used(
        &world,
        1,
        &[
            (&shop, "shop", 'a', now, Meter::CpuUsed, 2_000_000_000),
            (&shop, "shop", 'a', now, Meter::NetworkInternetOut, 5),
            (&bank, "bank", 'b', now, Meter::CpuUsed, 4_000_000_000),
        ],
    )
    .await;
    let csv = world.get(&mia, "/api/v1/usage/export?provisional=true").await;
    assert_eq!(csv.headers[CONTENT_TYPE], "text/csv; charset=utf-8");
    assert!(csv.headers[CONTENT_DISPOSITION].to_str().expect("text").starts_with("attachment"));
    let report = wharf_billing::check::csv(csv.text.as_bytes(), 10).expect("readable");
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.rows, 2);
    let total = |tenant: &TenantId| report.totals.get(tenant.as_str()).map(ToString::to_string);
    assert_eq!((total(&shop).as_deref(), total(&bank)), (Some("1"), None));

    let jsonl = world.get(&admin, "/api/v1/usage/export?provisional=true&format=jsonl").await;
    let lines: Vec<Value> = jsonl.text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let totals: Vec<_> =
        lines.iter().filter(|line| line["type"] == "total").map(|line| &line["total_amount"]).collect();
    assert_eq!((lines.len(), totals.len()), (5, 2));
    assert!(totals.contains(&&json!("1")) && totals.contains(&&json!("2")));
}

#[tokio::test]
async fn pages_of_usage_have_neither_gap_nor_repeat() {
    let world = World::new().await;
    let (shop, bank) = (world.tenant("shop").await, world.tenant("bank").await);
    let operator = world.caller("olga", Role::Operator, None).await;
    let first = hour(&world);
    let second = Timestamp(first.0 + HOUR_US);
    let mut rows = Vec::new();
    for at in [first, second] {
        for (tenant, name) in [(&shop, "shop"), (&bank, "bank")] {
            for last in ['a', 'b', 'c'] {
                rows.push((tenant, name, last, at, Meter::CpuUsed, 1));
            }
        }
    }
    used(&world, 1, &rows).await;
    world.clock.advance(HOUR_US);
    let (mut seen, mut query, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = world.get(&operator, &format!("/api/v1/usage?limit=2{query}")).await.json();
        for row in page["items"].as_array().expect("a list") {
            seen.push(["hour", "tenant", "container"].map(|key| row[key].as_str().expect(key).to_owned()));
        }
        pages += 1;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("&cursor={cursor}");
    }
    assert_eq!((seen.len(), pages), (12, 4), "a page ends with a tenant's hour");
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, seen);
}

#[tokio::test]
async fn a_price_never_changes_afterwards() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let now = hour(&world);
    let kind = |reply: &Value| reply["kind"].as_str().map(ToOwned::to_owned);
    assert_eq!(
        kind(&add_prices(&world, &admin, Timestamp(now.0 - HOUR_US), "1").await).as_deref(),
        Some("invalid")
    );
    assert_eq!(
        kind(&add_prices(&world, &admin, Timestamp(now.0 + 1), "1").await).as_deref(),
        Some("invalid")
    );
    assert_eq!(kind(&add_prices(&world, &admin, now, "-1").await).as_deref(), Some("invalid"));
    assert_eq!(kind(&add_prices(&world, &admin, now, "1").await), None);
    assert_eq!(kind(&add_prices(&world, &admin, now, "2").await).as_deref(), Some("conflict"));
    let other =
        json!({ "currency": "USD", "effective_from": Timestamp(now.0 + HOUR_US).to_string(), "prices": [] });
    let reply = world.send(&admin, "POST", "/api/v1/billing/price-books", Some(other)).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    let books = world.get(&admin, "/api/v1/billing/price-books").await.json();
    assert_eq!(books["items"].as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn a_period_that_is_none_is_refused() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    for (query, kind) in [
        ("from=2026-11-23T12:30:00Z", "invalid"),
        ("from=2026-11-24&to=2026-11-23", "invalid"),
        ("from=yesterday", "malformed"),
        ("cursor=nonsense", "invalid"),
        ("container=abc", "not-found"),
    ] {
        assert_eq!(world.get(&admin, &format!("/api/v1/usage?{query}")).await.kind(), kind, "{query}");
    }
}
