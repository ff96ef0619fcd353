//! The cases, by noun, and the databases they run on.

pub(crate) mod access;
pub(crate) mod budgets;
pub(crate) mod containers;
pub(crate) mod database;
pub(crate) mod money;
pub(crate) mod objects;
pub(crate) mod outbox;
pub(crate) mod records;
pub(crate) mod tenants;

use std::sync::atomic::{AtomicU64, Ordering};

use wharf_shared::container::ContainerSpec;
use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::tenant::Quota;
use wharf_shared::time::Timestamp;
use wharf_store::Db;
use wharf_store::containers::{ContainerRecord, Desired, Observed};
use wharf_store::tenants::{NewTenant, TenantRanges, TenantRecord};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

/// An id of a kind with this prefix.
pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(prefix: &str) -> T {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_00000000-0000-7000-8000-{number:012x}").parse().expect("a well-formed id")
}

pub(crate) fn container_id(number: u64) -> ContainerId {
    format!("{number:064x}").parse().expect("a well-formed id")
}

pub(crate) async fn tenant(db: &Db, name: &str) -> TenantRecord {
    let new = NewTenant { id: id("tnt"), name: name.to_owned(), quota: Quota::default(), created_at: NOW };
    let mut tx = db.begin().await.expect("begins");
    let tenant = wharf_store::tenants::insert(&mut tx, &new, &TenantRanges::default()).await.expect("made");
    tx.commit().await.expect("committed");
    tenant
}

pub(crate) fn container(tenant: &TenantId, number: u64, name: &str) -> ContainerRecord {
    ContainerRecord {
        id: container_id(number),
        tenant: tenant.clone(),
        tenant_name: String::new(),
        name: name.to_owned(),
        spec: ContainerSpec { image: "busybox".to_owned(), ..ContainerSpec::default() },
        desired: Desired::Running,
        created_at: Timestamp(NOW.0 + i64::try_from(number).expect("small")),
        version: 1,
        observed: Observed::default(),
    }
}
