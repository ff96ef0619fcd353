//! The ledger after a power cut, where the journal knows more than the store.

use wharf_shared::container::ContainerSpec;
use wharf_shared::id::TenantId;
use wharf_shared::reading::{ReadingKind, ReadingLimits, ReadingRecord, SeriesKey};
use wharf_shared::time::Timestamp;
use wharf_store::containers::{self, ContainerRecord, Desired, Observed};

use super::world::World;

/// The start of a container in a boot before, whose end nobody saw.
fn opened(tenant: &TenantId, container: char, incarnation: u64) -> ReadingRecord {
    ReadingRecord {
        series: SeriesKey {
            boot_id: "before".to_owned(),
            tenant: Some(tenant.clone()),
            container: container.to_string().repeat(64).parse().ok(),
            incarnation,
        },
        kind: ReadingKind::Open,
        t0_boot_ns: 0,
        t1_boot_ns: 0,
        t0_utc: Timestamp(0),
        t1_utc: Timestamp(0),
        meters: Vec::new(),
        limits: ReadingLimits::default(),
        source: [].into(),
    }
}

#[tokio::test]
async fn a_start_that_the_store_forgot_with_the_power_ends_with_a_gap() {
    let world = World::new().await;
    let tenant = world.tenant("shop").await;
    // The journal is on the disk at once, what the row says of a start a little later.
    let mut tx = world.app.db.begin().await.expect("begun");
    for (name, generation) in [("a", 0), ("b", 1)] {
        let row = ContainerRecord {
            id: name.repeat(64).parse().expect("an id"),
            tenant: tenant.clone(),
            tenant_name: "shop".to_owned(),
            name: name.to_owned(),
            spec: ContainerSpec::default(),
            desired: Desired::Running,
            created_at: Timestamp(0),
            version: 1,
            observed: Observed { generation, ..Observed::default() },
        };
        containers::insert(&mut tx, &row, &[]).await.expect("inserted");
    }
    tx.commit().await.expect("committed");
    let starts = [opened(&tenant, 'a', 1), opened(&tenant, 'b', 1), opened(&tenant, 'c', 1)];
    world.app.metering.append_as_read(&starts).await.expect("appended");
    world.app.metering.close_lost(&world.app.db).await.expect("closed");
    let entries = world.app.metering.ledger_entries(0, 100).await.expect("read");
    let gaps = entries.iter().map(|entry| &entry.record).filter(|record| record.kind == ReadingKind::Gap);
    let ended: Vec<_> =
        gaps.filter_map(|gap| gap.series.container.as_ref()?.as_str().chars().next()).collect();
    assert_eq!(ended, ['a', 'c'], "what its row knows ends by what its supervisor left");
}
