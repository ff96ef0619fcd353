//! Events, audit, price books and usage.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use wharf_shared::billing::{PriceBookSpec, PriceSpec, Rounding};
use wharf_shared::id::{HostId, PriceBookId, TenantId};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality};
use wharf_store::audit::{self, NewAudit};
use wharf_store::events::{self, NewEvent};
use wharf_store::pagination::PageRequest;
use wharf_store::retention::Keep;
use wharf_store::usage::{self, UsageCursor, UsageHour, UsageQuery, UsageStream};
use wharf_store::{Db, Scope, StoreError, prices};

use super::{NOW, container_id, id};

fn event(tenant: Option<&TenantId>, at: i64) -> NewEvent {
    NewEvent {
        at: Timestamp(at),
        kind: "container.started".to_owned(),
        tenant: tenant.cloned(),
        subject: "id".to_owned(),
        subject_name: "web".to_owned(),
        detail: BTreeMap::from([("image".to_owned(), "busybox".to_owned())]),
    }
}

pub(crate) async fn events_are_numbered_without_gaps(db: Db) {
    let (blue, red): (TenantId, TenantId) = (id("tnt"), id("tnt"));
    let mut tasks = JoinSet::new();
    for number in 0..30 {
        let (db, tenant) = (db.clone(), if number % 2 == 0 { blue.clone() } else { red.clone() });
        tasks.spawn(async move {
            let mut tx = db.begin().await.expect("begins");
            events::append(&mut tx, event(Some(&tenant), number)).await.expect("recorded");
            if number % 3 == 0 {
                tx.rollback().await.expect("undone");
            } else {
                tx.commit().await.expect("committed");
            }
        });
    }
    tasks.join_all().await;
    let mut tx = db.begin().await.expect("begins");
    let all = events::list(&mut tx, &Scope::All, 0, 100).await.expect("reads");
    assert_eq!(all.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    assert_eq!(events::last_seq(&mut tx).await.expect("reads"), 20);
    let own = events::list(&mut tx, &Scope::Tenant(blue.clone()), 0, 100).await.expect("reads");
    assert!(own.len() == 10 && own.iter().all(|event| event.tenant.as_ref() == Some(&blue)));
    let later = events::list(&mut tx, &Scope::All, 18, 1).await.expect("reads");
    assert_eq!(later.iter().map(|event| event.seq).collect::<Vec<_>>(), [19]);
    let host = events::append(&mut tx, event(None, 99)).await.expect("recorded");
    assert_eq!(events::list(&mut tx, &Scope::All, 20, 9).await.expect("reads"), [host]);
    assert_eq!(events::purged_to(&mut tx).await.expect("reads"), 0);
    let keep = |since: Option<i64>, rows| Keep { since: since.map(Timestamp), rows };
    assert_eq!(events::purge(&mut tx, &keep(None, None)).await.expect("purges"), 0);
    assert_eq!(events::purge(&mut tx, &keep(None, Some(16))).await.expect("purges"), 5);
    assert_eq!(events::purged_to(&mut tx).await.expect("reads"), 5);
    assert_eq!(events::list(&mut tx, &Scope::All, 0, 1).await.expect("reads")[0].seq, 6);
    assert_eq!(events::purge(&mut tx, &keep(Some(99), Some(16))).await.expect("purges"), 15);
    assert_eq!(events::purge(&mut tx, &keep(Some(100), None)).await.expect("purges"), 1);
    assert_eq!(events::purged_to(&mut tx).await.expect("reads"), 21, "none is left");
    let next = events::append(&mut tx, event(None, 100)).await.expect("recorded");
    assert_eq!(next.seq, 22, "numbers are not given twice");
}

pub(crate) async fn the_audit_trail_is_read_backwards(db: Db) {
    let mut tx = db.begin().await.expect("begins");
    for number in 1..=3 {
        let new = NewAudit {
            at: NOW,
            actor: "alice".to_owned(),
            address: Some("192.0.2.1".to_owned()),
            request_id: format!("r{number}"),
            action: "container.create".to_owned(),
            tenant: None,
            subject: "id".to_owned(),
            outcome: "done".to_owned(),
            detail: BTreeMap::new(),
        };
        assert_eq!(audit::append(&mut tx, &new).await.expect("written"), number);
    }
    let seqs =
        |views: Vec<wharf_shared::event::AuditView>| views.iter().map(|view| view.seq).collect::<Vec<_>>();
    assert_eq!(seqs(audit::list(&mut tx, None, 2).await.expect("reads")), [3, 2]);
    assert_eq!(seqs(audit::list(&mut tx, Some(2), 9).await.expect("reads")), [1]);
}

pub(crate) async fn price_books_have_one_currency_and_one_begin(db: Db) {
    let book = |currency: &str, hour: i64| PriceBookSpec {
        currency: currency.to_owned(),
        effective_from: Timestamp(hour * HOUR_US),
        prices: vec![PriceSpec::flat(Meter::CpuUsed, "0.0000105".parse().expect("decimal"))],
        price_unattributed: false,
        rounding: Rounding::HalfEven,
    };
    let mut tx = db.begin().await.expect("begins");
    for hour in [5, 3, 4] {
        prices::insert(&mut tx, &id::<PriceBookId>("prb"), &book("EUR", hour), NOW, "alice")
            .await
            .expect("added");
    }
    let refused = prices::insert(&mut tx, &id("prb"), &book("USD", 6), NOW, "alice").await;
    assert!(matches!(refused, Err(StoreError::Refused(_))));
    let refused = prices::insert(&mut tx, &id("prb"), &book("EUR", 4), NOW, "alice").await;
    assert!(matches!(refused, Err(StoreError::Taken("begin of validity"))));
    let all = prices::all(&mut tx).await.expect("reads");
    assert_eq!(
        all.iter().map(|view| view.book.clone()).collect::<Vec<_>>(),
        [3, 4, 5].map(|h| book("EUR", h))
    );
    let page = prices::list(&mut tx, &PageRequest { cursor: None, limit: Some(2) }).await.expect("reads");
    assert_eq!(
        page.items.iter().map(|view| view.book.effective_from.0 / HOUR_US).collect::<Vec<_>>(),
        [5, 4]
    );
    let page = prices::list(&mut tx, &PageRequest { cursor: page.next_cursor, limit: Some(2) })
        .await
        .expect("reads");
    assert_eq!((page.items.len(), page.next_cursor), (1, None));
}

fn used(tenant: &TenantId, container: Option<u64>, hour: i64, meter: Meter, quantity: u128) -> UsageHour {
    UsageHour {
        hour: Timestamp(hour * HOUR_US),
        tenant: tenant.clone(),
        container: container.map(container_id),
        meter,
        tenant_name: "blue".to_owned(),
        container_name: container.map(|number| format!("c{number}")).unwrap_or_default(),
        labels: container.map(|number| ("app".to_owned(), format!("a{number}"))).into_iter().collect(),
        quantity,
        quality: Quality::Measured,
    }
}

pub(crate) async fn usage_is_added_once_and_exactly(db: Db) {
    let (blue, host): (TenantId, HostId) = (id("tnt"), id("hst"));
    let huge = 10_u128.pow(38);
    let first = used(&blue, Some(1), 5, Meter::MemoryUsed, huge);
    let addition = [
        first.clone(),
        UsageHour {
            quality: Quality::Partial,
            container_name: "renamed".to_owned(),
            labels: [].into(),
            ..first.clone()
        },
        used(&blue, Some(1), 6, Meter::MemoryUsed, 1),
    ];
    // The same stretch of the journal, sent by several at once, counts once.
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let (db, host, addition) = (db.clone(), host.clone(), addition.clone());
        tasks.spawn(async move {
            let mut tx = db.begin().await.expect("begins");
            let applied = usage::apply(&mut tx, &host, 0, 10, &addition).await.expect("applies");
            tx.commit().await.expect("committed");
            applied
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|applied| *applied).count(), 1);

    let mut tx = db.begin().await.expect("begins");
    assert_eq!(usage::watermark(&mut tx, &host).await.expect("reads"), 10);
    assert_eq!(usage::watermark(&mut tx, &id("hst")).await.expect("reads"), 0);
    assert!(!usage::apply(&mut tx, &host, 5, 20, &addition).await.expect("reads"), "overlaps");
    assert!(!usage::apply(&mut tx, &host, 11, 20, &addition).await.expect("reads"), "leaves a gap");
    assert!(usage::apply::<UsageHour>(&mut tx, &host, 10, 9, &[]).await.is_err(), "goes back");
    assert!(usage::apply(&mut tx, &host, 10, 20, std::slice::from_ref(&first)).await.expect("applies"));
    let query = UsageQuery { from: Timestamp(0), to: Timestamp(6 * HOUR_US), container: None };
    let rows = usage::list(&mut tx, &Scope::All, &query, None, 10).await.expect("reads");
    let sum = UsageHour { quantity: 3 * huge, quality: Quality::Partial, ..first.clone() };
    assert_eq!(rows, [sum]);

    // The sum would not fit: nothing of the stretch is taken, and the store says so.
    let overflow = UsageHour { quantity: u128::MAX, ..first };
    assert!(usage::apply(&mut tx, &host, 20, 21, &[overflow]).await.is_err());
    drop(tx);
    let mut tx = db.begin().await.expect("begins");
    usage::clear(&mut tx).await.expect("clears");
    assert_eq!(usage::watermark(&mut tx, &host).await.expect("reads"), 0);
    assert!(usage::list(&mut tx, &Scope::All, &query, None, 10).await.expect("reads").is_empty());
}

pub(crate) async fn usage_streams_by_tenant_and_hour(db: Db) {
    let (blue, red, host): (TenantId, TenantId, HostId) = (id("tnt"), id("tnt"), id("hst"));
    let mut additions = Vec::new();
    for hour in 0..3 {
        for container in [None, Some(1), Some(2)] {
            for meter in Meter::ALL {
                additions.push(used(&blue, container, hour, meter, 7));
            }
        }
        // More than one fetch of one tenant's hour.
        for container in 100..260 {
            for meter in Meter::ALL {
                additions.push(used(&red, Some(container), hour, meter, 1));
            }
        }
    }
    let mut tx = db.begin().await.expect("begins");
    assert!(usage::apply(&mut tx, &host, 0, 1, &additions).await.expect("applies"));
    let query = UsageQuery { from: Timestamp(0), to: Timestamp(2 * HOUR_US), container: None };
    let mut stream = UsageStream::new(Scope::All, query.clone());
    let mut sizes = Vec::new();
    loop {
        let group = stream.next(&mut tx).await.expect("reads");
        let Some(first) = group.first() else { break };
        assert!(group.iter().all(|row| row.hour == first.hour && row.tenant == first.tenant));
        sizes.push((first.hour.0 / HOUR_US, group.len()));
    }
    let [few, many] = [3, 160].map(|series| series * Meter::ALL.len());
    assert_eq!(sizes, [(0, few), (0, many), (1, few), (1, many)]);
    assert!(stream.next(&mut tx).await.expect("reads").is_empty(), "it stays at its end");

    let own = Scope::Tenant(blue.clone());
    let rows = usage::list(&mut tx, &own, &query, None, 100).await.expect("reads");
    assert!(rows.len() == 2 * few && rows.iter().all(|row| row.tenant == blue));
    let cursor = UsageCursor::from(&rows[10]);
    assert_eq!(cursor.to_string().parse::<UsageCursor>().expect("its own text"), cursor);
    assert!("0.x".parse::<UsageCursor>().is_err());
    let rest = usage::list(&mut tx, &own, &query, Some(&cursor), 100).await.expect("reads");
    assert_eq!(rest, rows[11..]);
    let one = UsageQuery { container: Some(container_id(2)), ..query };
    let rows = usage::list(&mut tx, &Scope::All, &one, None, 100).await.expect("reads");
    assert_eq!(rows.len(), 2 * Meter::ALL.len());
    assert_eq!(usage::list(&mut tx, &Scope::Tenant(red), &one, None, 100).await.expect("reads"), []);
}
