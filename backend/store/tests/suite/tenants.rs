//! Tenants.

use std::collections::BTreeSet;

use tokio::task::JoinSet;
use wharf_shared::tenant::Quota;
use wharf_store::pagination::PageRequest;
use wharf_store::tenants::{self, NewTenant, TenantRanges};
use wharf_store::{Db, Scope, StoreError, containers};

use super::{NOW, container, id, tenant};

fn new(name: &str) -> NewTenant {
    NewTenant { id: id("tnt"), name: name.to_owned(), quota: Quota::default(), created_at: NOW }
}

pub(crate) async fn ids_and_networks_are_unique_however_many_are_made_at_once(db: Db) {
    let mut tasks = JoinSet::new();
    for number in 0..20 {
        let db = db.clone();
        tasks.spawn(async move { tenant(&db, &format!("tenant-{number}")).await });
    }
    let made = tasks.join_all().await;
    let ids: BTreeSet<_> = made.iter().map(|tenant| tenant.id_base).collect();
    let networks: BTreeSet<_> = made.iter().map(|tenant| tenant.network_index).collect();
    assert_eq!(
        ids.into_iter().collect::<Vec<_>>(),
        (0..20).map(|n| 1_000_000_000 + n * 65_536).collect::<Vec<_>>()
    );
    assert_eq!(networks.into_iter().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());

    let gone = made.iter().find(|tenant| tenant.network_index == 7).expect("one of the twenty");
    let mut tx = db.begin().await.expect("begins");
    tenants::delete(&mut tx, &gone.id).await.expect("nothing is in it");
    let next = tenants::insert(&mut tx, &new("next"), &TenantRanges::default()).await.expect("made");
    assert_eq!(next.network_index, 7, "a free network is used again");
    assert_eq!(next.id_base, 1_000_000_000 + 20 * 65_536, "host ids are not");
    let few = TenantRanges { networks: 20, ..TenantRanges::default() };
    assert!(matches!(
        tenants::insert(&mut tx, &new("one too many"), &few).await,
        Err(StoreError::Exhausted("network"))
    ));
    let high = TenantRanges { id_first: u32::MAX - 65_536 * 22, ..TenantRanges::default() };
    assert!(matches!(
        tenants::insert(&mut tx, &new("beyond"), &high).await,
        Err(StoreError::Exhausted("range of host ids"))
    ));
}

pub(crate) async fn a_tenant_changes_and_goes(db: Db) {
    let (blue, red) = (tenant(&db, "blue").await, tenant(&db, "red").await);
    let mut tx = db.begin().await.expect("begins");
    assert!(matches!(
        tenants::insert(&mut tx, &new("blue"), &TenantRanges::default()).await,
        Err(StoreError::Taken("name"))
    ));

    let quota = Quota { containers: Some(3), memory_bytes: Some(1 << 40), ..Quota::default() };
    let mut changed = tenants::TenantRecord { quota: quota.clone(), ..blue.clone() };
    changed = tenants::update_if(&mut tx, &changed).await.expect("nobody else changed it");
    assert_eq!((changed.quota.clone(), changed.version), (quota, 2));
    assert!(matches!(tenants::update_if(&mut tx, &blue).await, Err(StoreError::Stale("tenant"))));
    "red".clone_into(&mut changed.name);
    assert!(matches!(tenants::update_if(&mut tx, &changed).await, Err(StoreError::Taken("name"))));

    let own = Scope::Tenant(blue.id.clone());
    assert_eq!(tenants::find(&mut tx, &own, "red").await.expect("reads"), None, "not its own");
    assert_eq!(tenants::find(&mut tx, &Scope::All, red.id.as_str()).await.expect("reads"), Some(red.clone()));
    let page = PageRequest { cursor: None, limit: Some(1) };
    let first = tenants::list(&mut tx, &Scope::All, &page).await.expect("reads");
    assert_eq!(first.items.iter().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>(), ["blue"]);
    let page = PageRequest { cursor: first.next_cursor, limit: Some(1) };
    let second = tenants::list(&mut tx, &Scope::All, &page).await.expect("reads");
    assert_eq!((second.items, second.next_cursor), (vec![red.clone()], None));
    assert_eq!(tenants::list(&mut tx, &own, &PageRequest::whole()).await.expect("reads").items.len(), 1);

    containers::insert(&mut tx, &container(&red.id, 1, "web"), &[]).await.expect("made");
    assert_eq!(tenants::get(&mut tx, &red.id).await.expect("there").containers, 1);
    assert!(matches!(tenants::delete(&mut tx, &red.id).await, Err(StoreError::InUse("tenant"))));
    tenants::delete(&mut tx, &blue.id).await.expect("nothing is in it");
    assert!(matches!(tenants::get(&mut tx, &blue.id).await, Err(StoreError::NotFound("tenant"))));
    tx.commit().await.expect("committed");
}
