//! Budgets and the marks of their thresholds.

use wharf_shared::budget::{BudgetSpec, NoticeState};
use wharf_shared::id::TenantId;
use wharf_shared::time::{DAY_US, Timestamp};
use wharf_store::budgets::{self, BudgetMark, MarkKey};
use wharf_store::pagination::PageRequest;
use wharf_store::{Db, Scope, StoreError, Tx};

use super::{NOW, id, tenant};

const FROM: Timestamp = Timestamp(NOW.0 - DAY_US);

fn spec(amount: &str) -> BudgetSpec {
    let spec = serde_json::json!({ "amount": amount, "currency": "EUR", "webhook_url": "http://localhost/hook",
        "thresholds": [{ "percent": 50, "actions": ["webhook"] }, { "percent": 100, "actions": ["stop"] }] });
    serde_json::from_value(spec).expect("a budget")
}

fn mark(percent: u32) -> BudgetMark {
    BudgetMark {
        percent,
        at: NOW,
        spent: "12345678901234567890123456789.000000000000000001".to_owned(),
        notice: "{}".to_owned(),
        notice_state: if percent == 50 { NoticeState::Queued } else { NoticeState::None },
        notice_problem: None,
    }
}

fn key(tenant: &TenantId, version: i64, percent: u32) -> MarkKey {
    MarkKey { tenant: tenant.clone(), from: FROM, version, percent }
}

async fn marked(tx: &mut Tx, tenant: &TenantId, from: Timestamp, version: i64) -> Vec<BudgetMark> {
    budgets::marks(tx, tenant, from, version).await.expect("reads")
}

pub(crate) async fn a_budget_is_one_s_own_and_changes_with_its_marks(db: Db) {
    let (blue, green) = (tenant(&db, "blue").await.id, tenant(&db, "green").await.id);
    let mut tx = db.begin().await.expect("begins");
    assert!(matches!(budgets::get(&mut tx, &blue).await, Err(StoreError::NotFound(_))));
    budgets::put(&mut tx, &blue, &spec("5"), NOW).await.expect("set");
    budgets::put(&mut tx, &green, &spec("6"), NOW).await.expect("set");
    let first = budgets::get(&mut tx, &blue).await.expect("reads");
    assert_eq!((first.version, first.tenant_name.as_str(), &first.budget), (1, "blue", &spec("5")));
    assert!(budgets::mark(&mut tx, &key(&blue, 1, 50), &mark(50)).await.expect("marks"));
    assert_eq!(marked(&mut tx, &blue, FROM, 1).await, [mark(50)]);
    // Another version, another month, another tenant: nothing was reached.
    budgets::put(&mut tx, &blue, &spec("7"), Timestamp(NOW.0 + 1)).await.expect("set");
    let second = budgets::get(&mut tx, &blue).await.expect("reads");
    assert_eq!((second.version, second.set_at.0, second.budget), (2, NOW.0 + 1, spec("7")));
    assert_eq!(marked(&mut tx, &blue, FROM, 2).await, []);
    assert_eq!(marked(&mut tx, &blue, NOW, 1).await, []);
    assert_eq!(marked(&mut tx, &green, FROM, 1).await, []);

    assert_eq!(budgets::all(&mut tx).await.expect("reads").len(), 2);
    let own = budgets::list(&mut tx, &Scope::Tenant(blue.clone()), &PageRequest::default()).await;
    assert_eq!(own.expect("reads").items.len(), 1);
    let one = PageRequest { limit: Some(1), cursor: None };
    let page = budgets::list(&mut tx, &Scope::All, &one).await.expect("reads");
    let rest = PageRequest { cursor: page.next_cursor.clone(), ..one };
    let last = budgets::list(&mut tx, &Scope::All, &rest).await.expect("reads");
    assert_eq!((page.items.len(), last.items.len(), last.next_cursor), (1, 1, None));
    assert_ne!(page.items, last.items);

    budgets::remove(&mut tx, &blue).await.expect("removed");
    assert!(matches!(budgets::remove(&mut tx, &blue).await, Err(StoreError::NotFound(_))));
    budgets::put(&mut tx, &blue, &spec("5"), NOW).await.expect("set");
    assert_eq!(marked(&mut tx, &blue, FROM, 1).await, [], "marks go with their budget");
    wharf_store::tenants::delete(&mut tx, &blue).await.expect("a tenant goes with its budget");
    assert_eq!(budgets::all(&mut tx).await.expect("reads").len(), 1);
}

pub(crate) async fn a_threshold_is_marked_once_and_its_webhook_waits_until_it_is_taken(db: Db) {
    let blue = tenant(&db, "blue").await.id;
    let nobody: TenantId = id("tnt");
    let mut tx = db.begin().await.expect("begins");
    budgets::put(&mut tx, &blue, &spec("5"), NOW).await.expect("set");
    assert!(budgets::mark(&mut tx, &key(&blue, 1, 50), &mark(50)).await.expect("marks"));
    let other = BudgetMark { spent: "1".to_owned(), ..mark(50) };
    assert!(!budgets::mark(&mut tx, &key(&blue, 1, 50), &other).await.expect("is marked"));
    assert!(budgets::mark(&mut tx, &key(&blue, 1, 100), &mark(100)).await.expect("marks"));
    assert_eq!(marked(&mut tx, &blue, FROM, 1).await, [mark(50), mark(100)]);

    let due = |at: i64| Timestamp(NOW.0 + at);
    assert_eq!(budgets::notices(&mut tx, due(-1), 9).await.expect("reads"), []);
    let found = budgets::notices(&mut tx, due(0), 9).await.expect("reads");
    assert_eq!(found.len(), 1, "only one has a webhook: {found:?}");
    assert_eq!((&found[0].key, found[0].attempts), (&key(&blue, 1, 50), 0));
    let later = (NoticeState::Queued, due(10), Some("no answer"));
    budgets::settle_notice(&mut tx, &found[0].key, later.0, later.1, later.2).await.expect("settles");
    assert_eq!(budgets::notices(&mut tx, due(9), 9).await.expect("reads"), []);
    // A budget that was set anew meanwhile says where to.
    let moved = BudgetSpec { webhook_url: Some("http://localhost/moved".to_owned()), ..spec("5") };
    budgets::put(&mut tx, &blue, &moved, NOW).await.expect("set");
    let again = budgets::notices(&mut tx, due(10), 9).await.expect("reads");
    assert_eq!((again[0].attempts, &again[0].url, &again[0].body), (1, &moved.webhook_url, &found[0].body));
    budgets::settle_notice(&mut tx, &again[0].key, NoticeState::Sent, due(11), None).await.expect("settles");
    // What was taken stays taken.
    budgets::settle_notice(&mut tx, &again[0].key, later.0, later.1, later.2).await.expect("does nothing");
    let seen = &marked(&mut tx, &blue, FROM, 1).await[0];
    assert_eq!((seen.notice_state, &seen.notice_problem), (NoticeState::Sent, &None));
    assert_eq!(budgets::notices(&mut tx, due(99), 9).await.expect("reads"), []);
    tx.commit().await.expect("committed");

    let mut tx = db.begin().await.expect("begins");
    assert!(budgets::mark(&mut tx, &key(&nobody, 1, 50), &mark(50)).await.is_err(), "of no budget");
}
