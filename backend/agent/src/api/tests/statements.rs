//! Contracts, statements, what explains them, and what a price book would change.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use serde_json::{Value, json};
use wharf_billing::rating::period;
use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::reading::{MeterReading, ReadingKind, ReadingLimits, ReadingRecord, SeriesKey};
use wharf_shared::statement::IssueSpec;
use wharf_shared::time::{DAY_US, HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageHour};
use wharf_shared::user::Role;
use wharf_store::usage;

use super::world::{Who, World};
use crate::ctx::Ctx;

const MONTH: &str = "2026-11";
const GB: u128 = 1_000_000_000;

/// The hour in which every test begins, 2026-11-23T12:00:00Z.
fn hour(world: &World) -> Timestamp {
    world.app.clock.now().hour_start()
}

fn container() -> ContainerId {
    "c".repeat(64).parse().expect("an id")
}

/// Bytes that the tenant's container read, as metering writes them.
pub(super) async fn used(world: &World, tenant: &TenantId, hour: Timestamp, quantity: u128) {
    let row = UsageHour {
        hour,
        tenant: tenant.clone(),
        container: Some(container()),
        meter: Meter::BlockRead,
        tenant_name: "shop".to_owned(),
        container_name: "web".to_owned(),
        labels: [].into(),
        quantity,
        quality: Quality::Measured,
    };
    let host = crate::ids::new("hst_").expect("an id");
    let mut tx = world.app.db.begin().await.expect("begun");
    assert!(usage::apply(&mut tx, &host, 0, 1, &[row]).await.expect("applied"));
    // That host is not heard of again; it has told all there is.
    usage::report(&mut tx, &host, Timestamp(i64::MAX / 2)).await.expect("noted");
    tx.commit().await.expect("committed");
}

/// A price of 1 EUR for each GB that is read, from now on.
pub(super) async fn priced(world: &World, admin: &Who) {
    let book = json!({ "currency": "EUR", "effective_from": hour(world).to_string(),
        "prices": [{ "meter": "block_read", "unit_price": "1", "allowance": "1" }] });
    let reply = world.send(admin, "POST", "/api/v1/billing/price-books", Some(book)).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
}

pub(super) async fn post(world: &World, who: &Who, path: &str, body: Value) -> (StatusCode, Value) {
    let reply = world.send(who, "POST", &format!("/api/v1/{path}"), Some(body)).await;
    (reply.status, reply.json())
}

async fn get(world: &World, who: &Who, path: &str) -> Value {
    world.get(who, &format!("/api/v1/{path}")).await.json()
}

fn lines(statement: &Value) -> Vec<(String, String)> {
    let line = |line: &Value| ["description", "amount"].map(|key| line[key].as_str().expect(key).to_owned());
    statement["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .map(line)
        .map(|[what, amount]| (what, amount))
        .collect()
}

#[tokio::test]
async fn a_month_goes_from_open_to_issued_to_paid_and_never_changes_in_between() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    let mia = world.caller("mia", Role::Member, Some(&shop)).await;
    priced(&world, &admin).await;
    used(&world, &shop, hour(&world), 3 * GB).await;
    let live = format!("statements/{shop}.{MONTH}");
    let open = get(&world, &mia, &live).await;
    assert_eq!((open["status"].as_str(), open["total"].as_str()), (Some("open"), Some("2")));
    let (status, problem) = post(&world, &admin, &format!("{live}/issue"), json!({})).await;
    assert_eq!((status, problem["kind"].as_str()), (StatusCode::CONFLICT, Some("conflict")), "it goes on");

    world.clock.advance(8 * DAY_US);
    assert_eq!(get(&world, &mia, &live).await["status"], "draft");
    let (status, problem) = post(&world, &admin, &format!("{live}/issue"), json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    assert!(problem["detail"].as_str().expect("text").contains("override_reason"), "{problem}");

    world.clock.advance(2 * DAY_US);
    let (status, issued) = post(&world, &admin, &format!("{live}/issue"), json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{issued}");
    assert_eq!((issued["id"].as_str(), issued["status"].as_str()), (Some("S-000001"), Some("issued")));
    let (again, _) = post(&world, &admin, &format!("{live}/issue"), json!({})).await;
    assert_eq!(again, StatusCode::CONFLICT);

    // What comes late does not change it, by number or by period, and is billed in the next one.
    used(&world, &shop, Timestamp(hour(&world).0 - 10 * DAY_US), 7 * GB).await;
    for path in ["statements/S-000001", &live] {
        assert_eq!(get(&world, &mia, path).await["total"], "2", "{path}");
    }
    let explained = get(&world, &mia, "statements/S-000001/lines/2/explain").await;
    assert_eq!(explained["is_unchanged"], true);
    let next = get(&world, &mia, &format!("statements/{shop}.2026-12")).await;
    assert_eq!(next["total"], "6", "7 GB less the free one");
    let late = json!([{ "statement": "S-000001", "meter": "block_read", "quantity": "7000000000", "unit": "bytes" }]);
    assert_eq!(next["late"], late);
    let row = &get(&world, &mia, &format!("statements/{shop}.2026-12/lines/2/explain")).await["rows"][0];
    let evidence = (&row["late"][0]["statement"], &row["late"][0]["hour"], &row["late"][0]["delta"]);
    let was = Timestamp(hour(&world).0 - 10 * DAY_US).to_string();
    assert_eq!(evidence, (&json!("S-000001"), &json!(was), &json!("7000000000")), "{row}");

    world.clock.advance(31 * DAY_US);
    assert_eq!(get(&world, &mia, "statements/S-000001").await["status"], "overdue");
    let paid = world.send(&admin, "POST", "/api/v1/statements/S-000001/pay", None).await.json();
    assert_eq!(paid["status"], "paid");
    let twice = world.send(&admin, "POST", "/api/v1/statements/S-000001/pay", None).await;
    assert_eq!(twice.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn usage_that_comes_between_computing_and_issuing_is_billed_once() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    priced(&world, &admin).await;
    let at = hour(&world);
    used(&world, &shop, at, 3 * GB).await;
    world.clock.advance(10 * DAY_US);
    let billing = &world.app.billing;
    let (ctx, spec) = (Ctx::system("test"), IssueSpec::default());
    let computed = async || billing.compute(&shop, period(at), &spec).await.expect("computed");
    let issue = async |computed| {
        let ledger = world.app.metering.ledger().await.expect("a ledger");
        billing.issue_computed(&ctx, &spec, computed, ledger).await.expect("no error")
    };

    let early = computed().await;
    used(&world, &shop, at, 2 * GB).await;
    assert!(issue(early).await.is_none(), "it would lack 2 GB");
    let whole = computed().await;
    // Another tenant's usage, or that of another period, is none of it.
    used(&world, &world.tenant("bank").await, at, GB).await;
    used(&world, &shop, hour(&world), 6 * GB).await;
    let issued = issue(whole).await.expect("issued");
    assert_eq!((issued.id.as_str(), issued.total.as_str()), ("S-000001", "4"), "numbers have no gap");

    used(&world, &shop, at, 5 * GB).await;
    assert_eq!(get(&world, &admin, "statements/S-000001").await["total"], "4");
    assert_eq!(get(&world, &admin, &format!("statements/{shop}.2026-12")).await["total"], "10");
    let exported = world.get(&admin, "/api/v1/usage/export?statement=S-000001").await;
    assert_eq!(exported.status, StatusCode::OK, "its rows are what they were: {}", exported.text);
}

#[tokio::test]
async fn a_statement_is_taken_back_by_a_credit_note_and_issued_anew() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    priced(&world, &admin).await;
    let gift = json!({ "tenant": shop, "from": hour(&world).to_string(),
        "credits": [{ "name": "gift", "amount": "5" }], "taxes": { "standard": "10" }, "payment_days": 5 });
    let (status, contract) = post(&world, &admin, "contracts", gift).await;
    assert_eq!(status, StatusCode::CREATED, "{contract}");
    used(&world, &shop, hour(&world), 9 * GB).await;
    world.clock.advance(10 * DAY_US);
    let live = format!("statements/{shop}.{MONTH}");
    let (_, issued) = post(&world, &admin, &format!("{live}/issue"), json!({})).await;
    let expected = [
        ("Block read, allowance", "0"),
        ("Block read, tier 1", "8"),
        ("Credit gift", "-5"),
        ("Tax standard, 10 % of 3", "0.3"),
    ];
    assert_eq!(lines(&issued), expected.map(|(what, amount)| (what.to_owned(), amount.to_owned())));
    let days =
        |name: &str| issued[name].as_str().expect(name).parse::<Timestamp>().expect("a time").0 / DAY_US;
    assert_eq!(days("due_at") - days("issued_at"), 5);

    let reason = json!({ "reason": "wrong price" });
    let (status, note) = post(&world, &admin, "statements/S-000001/void", reason.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{note}");
    assert_eq!((note["id"].as_str(), note["total"].as_str()), (Some("C-000001"), Some("-3.3")));
    let voided = get(&world, &admin, "statements/S-000001").await;
    assert_eq!((&voided["status"], &voided["refers_to"]), (&json!("voided"), &json!("C-000001")));
    for path in ["statements/S-000001/void", "statements/C-000001/void"] {
        assert_eq!(post(&world, &admin, path, reason.clone()).await.0, StatusCode::CONFLICT, "{path}");
    }
    let (_, again) = post(&world, &admin, &format!("{live}/issue"), json!({})).await;
    assert_eq!(
        (again["id"].as_str(), again["total"].as_str()),
        (Some("S-000002"), Some("3.3")),
        "the credit is back"
    );
    let all = get(&world, &admin, "statements").await;
    let ids: Vec<_> = all["items"].as_array().expect("a list").iter().map(|of| of["id"].clone()).collect();
    assert_eq!(ids, ["S-000002", "C-000001", "S-000001"]);
    let month = get(&world, &admin, "statements?period=2026-11").await;
    assert_eq!(month["items"].as_array().expect("a list").len(), 1);
}

/// A reading of so many bytes, as the journal has it; each is another container's.
async fn read(world: &World, tenant: &TenantId, container: char, bytes: u64) {
    let now = world.app.clock.now();
    let boot_ns = world.app.clock.boot_ns();
    let (cum, quality) = (u128::from(bytes), Quality::Measured);
    let reading = ReadingRecord {
        series: SeriesKey {
            boot_id: "boot".to_owned(),
            tenant: Some(tenant.clone()),
            container: Some(container.to_string().repeat(64).parse().expect("an id")),
            incarnation: 1,
        },
        kind: ReadingKind::Open,
        t0_boot_ns: boot_ns,
        t1_boot_ns: boot_ns,
        t0_utc: now,
        t1_utc: now,
        meters: vec![MeterReading { meter: Meter::BlockRead, raw: Some(bytes), cum, delta: cum, quality }],
        limits: ReadingLimits::default(),
        source: [].into(),
    };
    world.app.metering.append_as_read(&[reading]).await.expect("appended");
    world.app.metering.roll_up_now(&world.app.db).await.expect("rolled up");
}

#[tokio::test]
async fn a_correction_of_a_billed_period_falls_into_the_next_open_one() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    priced(&world, &admin).await;
    read(&world, &shop, 'a', 3_000_000_000).await;
    let seq = world.app.metering.ledger_head().await.expect("a head");
    let correct = async |delta: &str| {
        world.clock.advance(1_000_000);
        let body = json!({ "refers_to": seq, "meter": "block_read", "delta": delta, "reason": "a test" });
        post(&world, &admin, "ledger/corrections", body).await
    };
    let before = hour(&world).to_string();
    let (status, view) = correct("1000000000").await;
    assert_eq!((status, view["hour"].as_str()), (StatusCode::CREATED, Some(before.as_str())), "{view}");
    let row = &get(&world, &admin, &format!("statements/{shop}.{MONTH}/lines/1/explain")).await["rows"][0];
    let made = json!([{ "seq": view["seq"], "refers_to": seq, "delta": "1000000000", "reason": "a test",
        "author": "ada" }]);
    assert_eq!((&row["corrections"], &row["readings_total"], &row["late"]), (&made, &json!(1), &json!([])));

    world.clock.advance(10 * DAY_US);
    let live = format!("statements/{shop}.{MONTH}");
    let early = json!({ "override_reason": "the host is a test" });
    let (status, issued) = post(&world, &admin, &format!("{live}/issue"), early.clone()).await;
    assert_eq!((status, issued["total"].as_str()), (StatusCode::CREATED, Some("3")), "{issued}");
    let explained = async || get(&world, &admin, "statements/S-000001/lines/2/explain").await;

    // Nothing was read since, so there is nothing to take away from; the statement would have to go.
    let (status, problem) = correct("-500000000").await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    assert!(problem["detail"].as_str().expect("text").contains("void S-000001"), "{problem}");
    // More is booked to the next month's first hour, and what was billed stays what it was.
    let (status, view) = correct("2000000000").await;
    assert_eq!(
        (status, view["hour"].as_str()),
        (StatusCode::CREATED, Some("2026-12-01T00:00:00Z")),
        "{view}"
    );
    let (status, view) = correct("-500000000").await;
    assert_eq!((status, view["quantity"].as_str()), (StatusCode::CREATED, Some("1500000000")), "{view}");
    assert_eq!(explained().await["is_unchanged"], true);
    assert_eq!(get(&world, &admin, "statements/S-000001").await["total"], "3");
    let next = get(&world, &admin, &format!("statements/{shop}.2026-12")).await;
    assert_eq!(next["total"], "0.5", "1.5 GB less the free one");

    // A statement that is taken back bills its period no longer.
    let why = json!({ "reason": "a wrong hour" });
    assert_eq!(post(&world, &admin, "statements/S-000001/void", why).await.0, StatusCode::CREATED);
    let (status, view) = correct("-1000000000").await;
    assert_eq!((status, view["hour"].as_str()), (StatusCode::CREATED, Some(before.as_str())), "{view}");
    let (_, again) = post(&world, &admin, &format!("{live}/issue"), early).await;
    assert_eq!(again["total"], "2");
}

#[tokio::test]
async fn hours_that_a_host_has_not_reported_are_provisional() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    priced(&world, &admin).await;
    used(&world, &shop, hour(&world), 3 * GB).await;
    let silent = crate::ids::new("hst_").expect("an id");
    let mut tx = world.app.db.begin().await.expect("begun");
    usage::report(&mut tx, &silent, hour(&world)).await.expect("noted");
    tx.commit().await.expect("committed");
    world.clock.advance(20 * DAY_US);
    let path = format!("statements/{shop}.{MONTH}/issue");
    let (status, problem) = post(&world, &admin, &path, json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().expect("text").contains(silent.as_str()), "{problem}");
    let (status, _) = post(&world, &admin, &path, json!({ "override_reason": " " })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "a reason says something");
    let why = "the host <burnt> down";
    let (status, _) = post(&world, &admin, &path, json!({ "override_reason": why })).await;
    assert_eq!(status, StatusCode::CREATED);
    let page = world.get(&admin, "/api/v1/statements/S-000001?format=html").await;
    assert!(page.text.contains("the host &lt;burnt&gt; down"), "it is printed: {}", page.text);
    assert_eq!(page.headers[CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(page.headers[CONTENT_SECURITY_POLICY].to_str().expect("text").starts_with("default-src 'none'"));
    let csv = world.get(&admin, "/api/v1/statements/S-000001?format=csv").await;
    assert_eq!(csv.text.lines().count(), 5);
    let taken = post(&world, &admin, "statements/S-000001/void", json!({ "reason": "it is retired" })).await;
    assert_eq!(taken.0, StatusCode::CREATED);

    // It will never report again: then nobody waits for it, and the statement says what is not known.
    let retire = async |who: &Who, host: &str| {
        post(&world, who, &format!("metering/hosts/{host}/retire"), json!({ "reason": why })).await
    };
    let own = world.app.metering.host().clone();
    world.app.metering.roll_up_now(&world.app.db).await.expect("rolled up");
    assert_eq!(retire(&admin, own.as_str()).await.0, StatusCode::CONFLICT, "it is not gone");
    let (status, view) = retire(&admin, silent.as_str()).await;
    assert_eq!((status, view["reason"].as_str()), (StatusCode::OK, Some(why)), "{view}");
    assert_eq!(retire(&admin, silent.as_str()).await.0, StatusCode::CONFLICT, "once");
    let (status, issued) = post(&world, &admin, &path, json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{issued}");
    assert_eq!(issued["ended_hosts"][0]["host"], silent.as_str());
    let page = world.get(&admin, "/api/v1/statements/S-000002?format=html").await;
    assert!(page.text.contains(silent.as_str()), "the gap is printed: {}", page.text);
    let audit = get(&world, &admin, "audit").await;
    assert!(audit["items"].as_array().expect("a list").iter().any(|of| of["action"] == "host.retire"));

    // If it does report, it is waited for again.
    let mut tx = world.app.db.begin().await.expect("begun");
    usage::report(&mut tx, &silent, world.app.clock.now()).await.expect("noted");
    tx.commit().await.expect("committed");
    let hosts = get(&world, &admin, "metering/hosts").await;
    let back = hosts.as_array().expect("a list").iter().find(|of| of["host"] == silent.as_str());
    assert_eq!(back.expect("listed")["retired_at"], Value::Null);
}

#[tokio::test]
async fn a_contract_for_nobody_or_over_another_or_for_the_past_is_refused() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    let now = hour(&world);
    let at = |hours: i64| Timestamp(now.0 + hours * HOUR_US).to_string();
    let ghost = "tnt_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b";
    let first = json!({ "tenant": shop, "from": at(2) });
    let (status, made) = post(&world, &admin, "contracts", first).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    for (spec, field) in [
        (json!({ "tenant": ghost, "from": at(0) }), "tenant"),
        (json!({ "tenant": shop, "from": at(-1) }), "from"),
        (json!({ "tenant": shop, "from": at(1) }), "from"),
        (json!({ "tenant": shop, "from": at(0), "to": at(3) }), "from"),
        (
            json!({ "tenant": shop, "from": at(0), "to": at(1), "discount_percent": "101" }),
            "discount_percent",
        ),
    ] {
        let (status, problem) = post(&world, &admin, "contracts", spec).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        assert_eq!(problem["fields"][0]["field"], field, "{problem}");
    }
    let path = format!("/api/v1/contracts/{}", made["id"].as_str().expect("an id"));
    let end = |to: String| world.send(&admin, "PATCH", &path, Some(json!({ "to": to })));
    assert_eq!(end(at(2)).await.status, StatusCode::UNPROCESSABLE_ENTITY, "it would end before it begins");
    assert_eq!(end(at(5)).await.status, StatusCode::OK);
    assert_eq!(end(at(6)).await.status, StatusCode::CONFLICT, "an end never changes");
    let (status, second) = post(&world, &admin, "contracts", json!({ "tenant": shop, "from": at(5) })).await;
    assert_eq!(status, StatusCode::CREATED, "{second}");
}

#[tokio::test]
async fn a_member_sees_its_own_statements_and_contracts_only() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let (shop, bank) = (world.tenant("shop").await, world.tenant("bank").await);
    let ben = world.caller("ben", Role::Member, Some(&bank)).await;
    priced(&world, &admin).await;
    post(&world, &admin, "contracts", json!({ "tenant": shop, "from": hour(&world).to_string() })).await;
    used(&world, &shop, hour(&world), GB).await;
    world.clock.advance(10 * DAY_US);
    let (status, _) = post(&world, &admin, &format!("statements/{shop}.{MONTH}/issue"), json!({})).await;
    assert_eq!(status, StatusCode::CREATED);
    for path in ["contracts".to_owned(), "statements".to_owned(), format!("statements?period={MONTH}")] {
        assert_eq!(get(&world, &ben, &path).await["items"], json!([]), "{path}");
    }
    for path in [
        "statements/S-000001".to_owned(),
        format!("statements/{shop}.{MONTH}"),
        "statements/S-000001/lines/1/explain".to_owned(),
        "statements/S-1".to_owned(),
        "statements/%2e%2e".to_owned(),
    ] {
        assert_eq!(world.get(&ben, &format!("/api/v1/{path}")).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_page_in_the_middle_of_a_month_knows_what_was_used_before() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    priced(&world, &admin).await;
    let first = hour(&world);
    used(&world, &shop, first, GB).await;
    used(&world, &shop, Timestamp(first.0 + HOUR_US), GB).await;
    world.clock.advance(2 * HOUR_US);
    let from = Timestamp(first.0 + HOUR_US);
    for query in [format!("from={from}"), format!("from={from}&container={}", container())] {
        let page = get(&world, &admin, &format!("usage?{query}")).await;
        let amounts: Vec<_> =
            page["items"].as_array().expect("a list").iter().map(|row| row["amount"].clone()).collect();
        assert_eq!(amounts, ["1"], "the allowance is used up: {query}");
    }
}

#[tokio::test]
async fn a_simulation_says_per_tenant_what_a_book_would_change_and_keeps_nothing() {
    let world = World::new().await;
    let admin = world.caller("ada", Role::Admin, None).await;
    let shop = world.tenant("shop").await;
    priced(&world, &admin).await;
    used(&world, &shop, hour(&world), 3 * GB).await;
    let book = |currency: &str| {
        json!({ "currency": currency, "effective_from": "2020-01-01T00:00:00Z",
            "prices": [{ "meter": "block_read", "unit_price": "0.505" }] })
    };
    let path = "billing/price-books/simulate";
    let (status, found) = post(&world, &admin, path, json!({ "book": book("EUR"), "period": MONTH })).await;
    assert_eq!(status, StatusCode::OK, "{found}");
    let tenant = &found["tenants"][0];
    let seen = ["current", "simulated", "difference"].map(|key| tenant[key].as_str().expect(key));
    assert_eq!(seen, ["2", "1.52", "-0.48"]);
    assert_eq!(found["difference"], "-0.48");
    let (status, problem) = post(&world, &admin, path, json!({ "book": book("USD"), "period": MONTH })).await;
    assert_eq!(
        (status, &problem["fields"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("book.currency"))
    );
    let (status, _) = post(&world, &admin, path, json!({ "book": book("EUR"), "period": "2026-13" })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let books = get(&world, &admin, "billing/price-books").await;
    assert_eq!(books["items"].as_array().expect("a list").len(), 1);
}
