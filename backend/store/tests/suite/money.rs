//! Contracts, statements, and what issuing them asks of usage.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use wharf_shared::billing::ContractSpec;
use wharf_shared::id::{ContractId, HostId, TenantId};
use wharf_shared::statement::{StatementKind, StatementView};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageHour};
use wharf_store::pagination::PageRequest;
use wharf_store::statements::{self, Mark, UsedCredit};
use wharf_store::{Db, Scope, StoreError, Tx, contracts, usage};

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
    body["content_hash"] = "hash".into();
    serde_json::from_value(body).expect("a statement")
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
    let numbers: Vec<_> = first.items.iter().chain(&rest.items).map(|of| of.issued.id.clone()).collect();
    assert_eq!(numbers, ["S-000004", "S-000003", "S-000002", "S-000001"]);

    let credit = UsedCredit { contract, name: "gift".to_owned(), amount: "0.5".to_owned() };
    let number = statements::next_number(&mut tx, StatementKind::Statement).await.expect("counts");
    let view = issued(&blue, &number, StatementKind::Statement);
    statements::insert(&mut tx, &view, std::slice::from_ref(&credit)).await.expect("kept");
    assert_eq!(statements::used_credits(&mut tx, &blue).await.expect("reads"), [credit]);
    let own = Scope::Tenant(blue.clone());
    assert_eq!(statements::get(&mut tx, &own, &number).await.expect("reads").issued, view);
    let foreign = statements::get(&mut tx, &Scope::Tenant(id("tnt")), &number).await;
    assert!(matches!(foreign, Err(StoreError::NotFound(_))));

    let found = statements::of_period(&mut tx, &blue, Timestamp(0)).await.expect("reads").expect("one");
    assert_eq!(found.issued.id, number);
    assert!(statements::mark(&mut tx, &number, Mark::Voided, NOW, "alice", "C-000001").await.expect("noted"));
    assert!(
        !statements::mark(&mut tx, &number, Mark::Voided, NOW, "alice", "C-000002").await.expect("reads")
    );
    let voided = statements::get(&mut tx, &own, &number).await.expect("reads");
    assert_eq!(voided.voided_by.as_deref(), Some("C-000001"));
    assert!(statements::used_credits(&mut tx, &blue).await.expect("reads").is_empty(), "they are back");
    let found = statements::of_period(&mut tx, &blue, Timestamp(0)).await.expect("reads").expect("one");
    assert_eq!(found.issued.id, "S-000004");
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
