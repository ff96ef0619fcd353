//! Exports that a bill is made from: what is final, what has which number, and that files add up.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::header::{CONTENT_DISPOSITION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;
use tower::ServiceExt as _;
use wharf_billing::parquet::Rows;
use wharf_billing::{check, focus};
use wharf_shared::id::TenantId;
use wharf_shared::time::{DAY_US, HOUR_US, Timestamp};
use wharf_shared::user::Role;
use wharf_store::usage;

use super::statements::{post, priced, used};
use super::world::{Who, World, request};

const MONTH: &str = "2026-11";
const GB: u128 = 1_000_000_000;

async fn file(world: &World, who: &Who, query: &str) -> (HeaderMap, Bytes) {
    let path = format!("/api/v1/usage/export?{query}");
    let (status, headers, bytes) = world.ask_for_bytes(request(who, "GET", &path, None)).await;
    assert_eq!(status, StatusCode::OK, "{query}: {}", String::from_utf8_lossy(&bytes));
    (headers, bytes)
}

/// A problem's status and words.
async fn refused(world: &World, who: &Who, query: &str) -> (StatusCode, String) {
    let reply = world.get(who, &format!("/api/v1/usage/export?{query}")).await;
    let of_metadata = world.get(who, &format!("/api/v1/usage/export/metadata?{query}")).await;
    if !query.contains("format=") {
        assert_eq!((of_metadata.status, of_metadata.kind()), (reply.status, reply.kind()), "{query}");
    }
    (reply.status, reply.json()["detail"].as_str().expect("words").to_owned())
}

/// Rows of a Parquet file, each as its columns.
fn rows(file: Bytes) -> Vec<BTreeMap<String, Option<String>>> {
    let rows = Rows::open(file).expect("Parquet");
    let names: Vec<_> = rows.columns().iter().map(|(name, _)| name.clone()).collect();
    rows.map(|row| names.iter().cloned().zip(row.expect("a row")).collect()).collect()
}

/// Two tenants, whose month is over and waits to be issued: one pays 3.5 GB with a gift and with tax, which makes
/// rows that are no usage, one 1/3 of a GB, which has to be rounded.
async fn month_that_is_over(world: &World) -> (Who, TenantId, TenantId) {
    let admin = world.caller("ada", Role::Admin, None).await;
    let (shop, bank) = (world.tenant("shop").await, world.tenant("bank").await);
    priced(world, &admin).await;
    let hour = world.app.clock.now().hour_start();
    let gift = json!({ "tenant": shop, "from": hour.to_string(),
        "credits": [{ "name": "gift", "amount": "1" }], "taxes": { "standard": "19" } });
    assert_eq!(post(world, &admin, "contracts", gift).await.0, StatusCode::CREATED);
    used(world, &shop, hour, 2 * GB).await;
    used(world, &shop, Timestamp(hour.0 + HOUR_US), 2 * GB + GB / 2).await;
    used(world, &bank, hour, GB + GB / 3).await;
    world.clock.advance(10 * DAY_US);
    (admin, shop, bank)
}

async fn issue(world: &World, admin: &Who, tenant: &TenantId) -> serde_json::Value {
    let (status, issued) = post(world, admin, &format!("statements/{tenant}.{MONTH}/issue"), json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{issued}");
    issued
}

#[tokio::test]
async fn hours_that_may_still_change_are_exported_only_to_who_asks_for_them() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    priced(&world, &admin).await;
    let hour = world.app.clock.now().hour_start();
    used(&world, &shop, hour, GB).await;
    let next = Timestamp(hour.0 + HOUR_US);
    let present = format!("from={hour}&to={next}");
    let (status, why) = refused(&world, &admin, &present).await;
    assert!(status == StatusCode::CONFLICT && why.contains("provisional=true"), "{why}");
    let lines = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text").lines().count();
    let name = |headers: &HeaderMap| headers[CONTENT_DISPOSITION].to_str().expect("text").to_owned();
    let (headers, bytes) = file(&world, &admin, &format!("{present}&provisional=true")).await;
    assert_eq!((lines(&bytes), name(&headers).contains("usage-provisional.csv")), (2, true));
    // Who says no hours gets those that are over, or also the present one.
    assert_eq!(lines(&file(&world, &admin, "").await.1), 1);
    assert_eq!(lines(&file(&world, &admin, "provisional=true").await.1), 2);

    world.clock.advance(HOUR_US);
    let (headers, bytes) = file(&world, &admin, &present).await;
    assert_eq!((lines(&bytes), name(&headers).contains("\"usage.csv\"")), (2, true));
    let silent = crate::ids::new("hst_").expect("an id");
    let mut tx = world.app.db.begin().await.expect("begun");
    usage::report(&mut tx, &silent, hour).await.expect("noted");
    tx.commit().await.expect("committed");
    let (status, why) = refused(&world, &admin, &present).await;
    assert!(status == StatusCode::CONFLICT && why.contains(silent.as_str()), "{why}");
    let path = format!("/api/v1/usage/export/metadata?{present}&provisional=true");
    let about = world.get(&admin, &path).await.json();
    assert_eq!((&about["x_PeriodStatus"], &about["x_PeriodEnd"]), (&json!("provisional"), &json!(next)));
    let columns = about["Schema"]["ColumnDefinition"].as_array().expect("columns").len();
    assert_eq!(columns, focus::columns().len());
}

#[tokio::test]
async fn a_month_that_was_issued_is_one_file_whose_rows_add_up_to_each_statement() {
    let world = World::new().await;
    let (admin, shop, bank) = month_that_is_over(&world).await;
    let shop_total = issue(&world, &admin, &shop).await["total"].clone();
    let (status, why) = refused(&world, &admin, &format!("period={MONTH}")).await;
    assert!(status == StatusCode::CONFLICT && why.contains(bank.as_str()), "it has no number yet: {why}");
    let bank_total = issue(&world, &admin, &bank).await["total"].clone();
    assert_eq!((&shop_total, &bank_total), (&json!("2.98"), &json!("0.33")));

    let query = format!("period={MONTH}");
    let (headers, csv) = file(&world, &admin, &query).await;
    assert!(headers[CONTENT_DISPOSITION].to_str().expect("text").contains("\"usage.csv\""));
    let (_, parquet) = file(&world, &admin, &format!("{query}&format=parquet")).await;
    let report = check::csv(&csv[..], 10).expect("readable");
    let typed = check::parquet(parquet.clone(), 10).expect("readable");
    assert!(report.is_clean() && typed.is_clean(), "{:?} {:?}", report.findings, typed.findings);
    assert_eq!((report.rows, &report.totals), (typed.rows, &typed.totals));
    for (tenant, total) in [(&shop, &shop_total), (&bank, &bank_total)] {
        assert_eq!(json!(report.totals[tenant.as_str()].to_string()), *total);
    }
    let mut seen = BTreeMap::<_, Vec<_>>::new();
    for row in rows(parquet.clone()) {
        let of = row["InvoiceId"].clone().expect("a number");
        seen.entry(of).or_default().push(row["ChargeCategory"].clone().expect("a category"));
    }
    assert_eq!(seen["S-000001"], ["Usage", "Usage", "Usage", "Credit", "Tax", "Adjustment"]);
    assert_eq!(seen["S-000002"], ["Usage", "Usage", "Adjustment"]);
    assert_eq!(
        Rows::open(parquet.clone()).expect("Parquet").metadata().map(|text| text.contains("\"final\"")),
        Some(true)
    );
    assert_eq!(file(&world, &admin, &format!("{query}&format=parquet")).await.1, parquet, "other bytes");

    // One of them, by its number or by tenant and month, also for its tenant alone.
    let mia = world.caller("mia", Role::Member, Some(&shop)).await;
    let alone = file(&world, &mia, "statement=S-000001").await.1;
    assert_eq!(file(&world, &mia, &format!("statement={shop}.{MONTH}")).await.1, alone);
    assert_eq!(file(&world, &mia, &query).await.1, alone);
    assert_eq!(check::csv(&alone[..], 1).expect("readable").rows, 6);
    for of in ["S-000002".to_owned(), format!("{bank}.{MONTH}")] {
        assert_eq!(refused(&world, &mia, &format!("statement={of}")).await.0, StatusCode::NOT_FOUND, "{of}");
    }

    // Hours of an issued month have its number too.
    let hours = format!("from={}&to={}&format=parquet", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
    let hours = rows(file(&world, &admin, &hours).await.1);
    let numbers: Vec<_> = hours.iter().map(|row| row["InvoiceId"].as_deref()).collect();
    assert_eq!((numbers.len(), numbers.iter().filter(|of| **of == Some("S-000001")).count()), (5, 3));
}

#[tokio::test]
async fn rows_that_are_not_those_of_the_statement_any_more_are_no_export_of_it() {
    let world = World::new().await;
    let (admin, shop, _) = month_that_is_over(&world).await;
    let draft = format!("statement={shop}.{MONTH}");
    assert_eq!(refused(&world, &admin, &draft).await.0, StatusCode::CONFLICT, "a draft may change");
    let bytes = file(&world, &admin, &format!("{draft}&provisional=true")).await.1;
    let report = check::csv(&bytes[..], 10).expect("readable");
    assert!(report.is_clean() && report.rows == 6, "{:?}", report.findings);
    issue(&world, &admin, &shop).await;
    used(&world, &shop, Timestamp(world.app.clock.now().hour_start().0 - 9 * DAY_US), GB).await;
    let bytes = file(&world, &admin, "statement=S-000001&format=parquet").await.1;
    assert!(check::parquet(bytes, 10).expect("readable").is_clean(), "what is late is none of it");

    let (status, _) = post(&world, &admin, "statements/S-000001/void", json!({ "reason": "late" })).await;
    assert_eq!(status, StatusCode::CREATED);
    used(&world, &shop, Timestamp(world.app.clock.now().hour_start().0 - 9 * DAY_US), GB).await;
    let (status, why) = refused(&world, &admin, "statement=S-000001&format=parquet").await;
    assert!(status == StatusCode::CONFLICT && why.contains("S-000001"), "{why}");
    assert_eq!(refused(&world, &admin, "statement=C-000001").await.0, StatusCode::CONFLICT);
    issue(&world, &admin, &shop).await;
    let bytes = file(&world, &admin, "statement=S-000002&format=parquet").await.1;
    assert!(check::parquet(bytes, 10).expect("readable").is_clean());
}

#[tokio::test]
async fn as_long_as_exports_are_sent_there_is_no_room_for_more() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let path = "/api/v1/usage/export?provisional=true";
    let begun =
        async || world.router.clone().oneshot(request(&admin, "GET", path, None)).await.expect("an answer");
    let (first, second) = (begun().await, begun().await);
    assert_eq!([first.status(), second.status()], [StatusCode::OK; 2]);
    let refused = begun().await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key(RETRY_AFTER));
    // Whoever gives up makes room, and so does whoever has read all.
    drop(first);
    assert_eq!(world.get(&admin, path).await.status, StatusCode::OK);
    assert_eq!(world.get(&admin, path).await.status, StatusCode::OK);
    drop(second);
}

#[tokio::test]
async fn what_makes_no_export_is_refused_with_its_field() {
    let world = World::new().await;
    let (admin, shop, _) = month_that_is_over(&world).await;
    issue(&world, &admin, &shop).await;
    for (query, status) in [
        ("statement=S-000001&from=2026-11-01", StatusCode::UNPROCESSABLE_ENTITY),
        ("statement=S-000001&period=2026-11", StatusCode::UNPROCESSABLE_ENTITY),
        ("statement=S-000001&tenant=shop", StatusCode::UNPROCESSABLE_ENTITY),
        ("period=2026-11&container=web", StatusCode::UNPROCESSABLE_ENTITY),
        ("period=2026-13", StatusCode::UNPROCESSABLE_ENTITY),
        ("statement=S-000001&format=jsonl", StatusCode::UNPROCESSABLE_ENTITY),
        ("statement=S-000009", StatusCode::NOT_FOUND),
        ("statement=nonsense", StatusCode::NOT_FOUND),
        ("provisional=perhaps", StatusCode::BAD_REQUEST),
        ("format=pdf", StatusCode::BAD_REQUEST),
        ("from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(refused(&world, &admin, query).await.0, status, "{query}");
    }
}

#[tokio::test]
async fn a_number_that_parquet_has_no_room_for_is_refused_and_csv_has_it() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    priced(&world, &admin).await;
    let hour = world.app.clock.now().hour_start();
    // 10^20 GB for 1 EUR each: 21 digits before the point.
    used(&world, &shop, hour, 10_u128.pow(29)).await;
    world.clock.advance(HOUR_US);
    let (status, why) = refused(&world, &admin, "format=parquet").await;
    assert!(status == StatusCode::UNPROCESSABLE_ENTITY && why.contains("export it as CSV"), "{why}");
    assert!(check::csv(&file(&world, &admin, "").await.1[..], 1).expect("readable").is_clean());
}
