//! Contracts, statements, and what issuing them asks of usage.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use wharf_billing::statement::content_hash;
use wharf_shared::billing::ContractSpec;
use wharf_shared::id::{ContractId, HostId, TenantId};
use wharf_shared::statement::{StatementKind, StatementView};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageHour};
use wharf_store::pagination::PageRequest;
use wharf_store::statements::{self, Mark, UsedCredit};
use wharf_store::usage::UsageQuery;
use wharf_store::{Db, Scope, StoreError, Tx, contracts, late, usage};

use super::{NOW, container_id, id};

/// What a container of this tenant used in the fifth hour.
fn used(tenant: &TenantId) -> UsageHour {
    UsageHour {
        hour: Timestamp(5 * HOUR_US),
        tenant: tenant.clone(),
        container: Some(container_id(1)),
        meter: Meter::CpuUsed,
        tenant_name: "blue".to_owned(),
        container_name: "c1".to_owned(),
        labels: BTreeMap::new(),
        quantity: 1,
        quality: Quality::Measured,
    }
}

pub(crate) async fn contracts_begin_once_and_get_one_end(db: Db) {
    let (blue, green): (TenantId, TenantId) = (id("tnt"), id("tnt"));
    let contract = |tenant: &TenantId, from: i64, to: Option<i64>| -> ContractSpec {
        let spec = serde_json::json!({ "tenant": tenant, "from": Timestamp(from * HOUR_US),
            "to": to.map(|to| Timestamp(to * HOUR_US)), "discount_percent": "5" });
        serde_json::from_value(spec).expect("a contract")
    };
    let mut tx = db.begin().await.expect("begins");
    let first: ContractId = id("ctr");
    let open = contract(&blue, 5, None);
    contracts::insert(&mut tx, &first, &open, NOW, "alice").await.expect("added");
    let again = contracts::insert(&mut tx, &id("ctr"), &contract(&blue, 5, Some(9)), NOW, "alice").await;
    assert!(matches!(again, Err(StoreError::Taken(_))));
    contracts::insert(&mut tx, &id("ctr"), &contract(&green, 5, Some(9)), NOW, "alice").await.expect("added");
    let ended = contracts::end(&mut tx, &first, Timestamp(8 * HOUR_US)).await.expect("ended");
    assert_eq!(contracts::get(&mut tx, &first).await.expect("reads"), ended);
    let again = contracts::end(&mut tx, &first, Timestamp(9 * HOUR_US)).await;
    assert!(matches!(again, Err(StoreError::Stale(_))));
    assert_eq!(contracts::all(&mut tx).await.expect("reads").len(), 2);
    let own = contracts::list(&mut tx, Some(&blue), &PageRequest::default()).await.expect("reads");
    assert_eq!(own.items, [ended]);
}

fn issued(tenant: &TenantId, number: &str, kind: StatementKind) -> StatementView {
    let mut body = serde_json::json!({
        "id": number, "kind": kind, "status": "issued", "provider": "Example", "tenant": tenant,
        "tenant_name": "blue", "from": Timestamp(0), "to": Timestamp(HOUR_US), "currency": "EUR",
        "price_books": [], "contracts": [], "lines": [], "net": "1", "tax": "0", "total": "1",
        "adjustment": "0", "evidence_hash": "", "is_unattributed": false,
    });
    body["content_hash"] = serde_json::Value::Null;
    let view: StatementView = serde_json::from_value(body).expect("a statement");
    let content_hash = content_hash(&view).ok();
    StatementView { content_hash, ..view }
}

pub(crate) async fn statements_are_numbered_without_gaps_and_kept_as_they_were_issued(db: Db) {
    let blue: TenantId = id("tnt");
    let contract: ContractId = id("ctr");
    // Many at once, and some that come to nothing.
    let mut tasks = JoinSet::new();
    for turn in 0..8 {
        let (db, blue) = (db.clone(), blue.clone());
        tasks.spawn(async move {
            let mut tx = db.begin().await.expect("begins");
            let number = statements::next_number(&mut tx, StatementKind::Statement).await.expect("counts");
            let view = issued(&blue, &number, StatementKind::Statement);
            statements::insert(&mut tx, &view, &[]).await.expect("kept");
            if turn % 2 == 0 {
                tx.commit().await.expect("committed");
            }
        });
    }
    tasks.join_all().await;
    let mut tx = db.begin().await.expect("begins");
    let page = PageRequest { cursor: None, limit: Some(3) };
    let first = statements::list(&mut tx, &Scope::All, Some(Timestamp(0)), &page).await.expect("reads");
    let rest = PageRequest { cursor: first.next_cursor, ..page };
    let rest = statements::list(&mut tx, &Scope::All, None, &rest).await.expect("reads");
    let numbers: Vec<_> = first.items.iter().chain(&rest.items).map(|of| of.number.clone()).collect();
    assert_eq!(numbers, ["S-000004", "S-000003", "S-000002", "S-000001"]);

    let credit = UsedCredit { contract, name: "gift".to_owned(), amount: "0.5".to_owned() };
    let number = statements::next_number(&mut tx, StatementKind::Statement).await.expect("counts");
    let view = issued(&blue, &number, StatementKind::Statement);
    statements::insert(&mut tx, &view, std::slice::from_ref(&credit)).await.expect("kept");
    assert_eq!(statements::used_credits(&mut tx, &blue).await.expect("reads"), [credit]);
    let own = Scope::Tenant(blue.clone());
    assert_eq!(statements::get(&mut tx, &own, &number).await.expect("reads").issued().expect("whole"), view);
    let foreign = statements::get(&mut tx, &Scope::Tenant(id("tnt")), &number).await;
    assert!(matches!(foreign, Err(StoreError::NotFound(_))));

    let found = statements::of_period(&mut tx, &blue, Timestamp(0)).await.expect("reads").expect("one");
    assert_eq!(found.number, number);
    assert!(statements::mark(&mut tx, &number, Mark::Voided, NOW, "alice", "C-000001").await.expect("noted"));
    assert!(
        !statements::mark(&mut tx, &number, Mark::Voided, NOW, "alice", "C-000002").await.expect("reads")
    );
    let voided = statements::get(&mut tx, &own, &number).await.expect("reads");
    assert_eq!(voided.voided_by.as_deref(), Some("C-000001"));
    assert!(statements::used_credits(&mut tx, &blue).await.expect("reads").is_empty(), "they are back");
    let found = statements::of_period(&mut tx, &blue, Timestamp(0)).await.expect("reads").expect("one");
    assert_eq!(found.number, "S-000004");
}

pub(crate) async fn hours_are_provisional_until_every_host_was_rolled_up(db: Db) {
    let (near, far): (HostId, HostId) = (id("hst"), id("hst"));
    let mut tx = db.begin().await.expect("begins");
    assert_eq!(usage::host_behind(&mut tx, Timestamp(HOUR_US)).await.expect("reads"), None);
    usage::report(&mut tx, &near, Timestamp(2 * HOUR_US)).await.expect("noted");
    usage::report(&mut tx, &far, Timestamp(HOUR_US / 2)).await.expect("noted");
    assert_eq!(usage::host_behind(&mut tx, Timestamp(HOUR_US)).await.expect("reads"), Some(far.clone()));
    usage::report(&mut tx, &far, Timestamp(HOUR_US)).await.expect("noted");
    assert_eq!(usage::host_behind(&mut tx, Timestamp(HOUR_US)).await.expect("reads"), None);
    let blue: TenantId = id("tnt");
    let row = used(&blue);
    assert!(usage::apply(&mut tx, &near, 0, 1, &[row]).await.expect("applies"));
    let tenants = async |tx: &mut Tx, from: i64, to: i64| {
        let hours = (Timestamp(from * HOUR_US), Timestamp(to * HOUR_US));
        usage::tenants(tx, &Scope::All, hours, &PageRequest::default()).await.expect("reads").items
    };
    assert_eq!(tenants(&mut tx, 5, 6).await, [(blue, "blue".to_owned())]);
    assert!(tenants(&mut tx, 6, 9).await.is_empty());
}

pub(crate) async fn usage_is_in_the_statement_or_late_however_they_meet(db: Db) {
    const HOUR: i64 = 5;
    let blue: TenantId = id("tnt");
    let (from, next) = (Timestamp(0), Timestamp(31 * 24 * HOUR_US));
    let rounds = 24_u32;
    for round in 0..rounds {
        let host: HostId = id("hst");
        let (blue, mut row) = (id::<TenantId>("tnt"), used(&blue));
        row.tenant = blue.clone();
        let roll_up = async |db: &Db, seq: i64| {
            let mut tx = db.begin().await.expect("begins");
            assert!(usage::apply(&mut tx, &host, seq, seq + 1, &[row.clone()]).await.expect("applies"));
            tx.commit().await.expect("committed");
        };
        roll_up(&db, 0).await;
        let issue = async {
            let mut tx = db.read().await.expect("reads");
            let version = late::version(&mut tx, &blue, from).await.expect("reads");
            let at = UsageQuery { from, to: next, container: None };
            let hours = usage::list(&mut tx, &Scope::All, &at, None, 1_000).await.expect("reads");
            let computed: u128 = hours.iter().filter(|of| of.tenant == blue).map(|of| of.quantity).sum();
            drop(tx);
            let mut tx = db.begin().await.expect("begins");
            let number = statements::next_number(&mut tx, StatementKind::Statement).await.expect("counts");
            if late::hold(&mut tx, &blue, from).await.expect("holds") != version {
                return None;
            }
            let view = issued(&blue, &number, StatementKind::Statement);
            statements::insert(&mut tx, &view, &[]).await.expect("kept");
            tx.commit().await.expect("committed");
            Some((number, computed))
        };
        // Some turns begin with the one, some with the other.
        let (issued, ()) = if round % 2 == 0 {
            tokio::join!(issue, roll_up(&db, 1))
        } else {
            let (rolled_up, issued) = tokio::join!(roll_up(&db, 1), issue);
            (issued, rolled_up)
        };
        let mut tx = db.read().await.expect("reads");
        let found = late::list(&mut tx, &blue, (next, Timestamp(i64::MAX))).await.expect("reads");
        match issued {
            Some((number, computed)) => {
                let quantities: Vec<u128> = found.iter().map(|of| of.quantity).collect();
                assert_eq!(
                    computed + quantities.iter().sum::<u128>(),
                    2,
                    "round {round}: {computed}, {found:?}"
                );
                for of in &found {
                    assert_eq!((of.hour.0, of.booked_hour, &of.statement), (HOUR * HOUR_US, next, &number));
                }
            }
            None => assert!(found.is_empty(), "nothing was billed, so nothing is late: {found:?}"),
        }
    }
}

pub(crate) async fn what_is_taken_away_late_comes_off_hours_that_have_it(db: Db) {
    let (blue, host): (TenantId, HostId) = (id("tnt"), id("hst"));
    let next = 31 * 24 * HOUR_US;
    let at = |hour: i64, quantity| UsageHour { hour: Timestamp(hour), quantity, ..used(&blue) };
    let mut tx = db.begin().await.expect("begins");
    let rows = [at(0, 9), at(next, 2), at(next + HOUR_US, 5)];
    assert!(usage::apply(&mut tx, &host, 0, 1, &rows).await.expect("applies"));
    assert!(late::list(&mut tx, &blue, (Timestamp(0), Timestamp(i64::MAX))).await.expect("reads").is_empty());
    let number = statements::next_number(&mut tx, StatementKind::Statement).await.expect("counts");
    statements::insert(&mut tx, &issued(&blue, &number, StatementKind::Statement), &[]).await.expect("kept");
    assert!(usage::clear(&mut tx).await.is_err(), "what was billed is not counted anew");

    let taken = |hour: i64, taken| usage::Addition { hour: at(hour, 0), taken };
    // Two of one stretch do not both come off the same.
    assert!(usage::apply(&mut tx, &host, 1, 9, &[taken(0, 3), taken(HOUR_US, 3)]).await.expect("applies"));
    let query = UsageQuery { from: Timestamp(0), to: Timestamp(i64::MAX), container: None };
    let hours = usage::list(&mut tx, &Scope::All, &query, None, 10).await.expect("reads");
    let left: Vec<_> = hours.iter().map(|of| (of.hour.0, of.quantity)).collect();
    assert_eq!(left, [(0, 9), (next, 0), (next + HOUR_US, 1)]);
    let found = late::list(&mut tx, &blue, (Timestamp(next), Timestamp(i64::MAX))).await.expect("reads");
    assert_eq!(found.iter().map(|of| of.taken).sum::<u128>(), 6);
    assert!(found.iter().all(|of| of.seqs == (2, 9) && of.statement == number));
}
