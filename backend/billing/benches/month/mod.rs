//! The month that the benches compute: a tenant's 386 containers with five meters, and the prices for them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use wharf_billing::price::PriceBooks;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, Quality, UsageHour};

pub(crate) const TENANT: &str = "tnt_00000000-0000-7000-8000-000000000001";
/// In a month of 720 hours they make 277,920 container-hours.
pub(crate) const CONTAINERS: u64 = 386;
const METERS: [(Meter, u128); 5] = [
    (Meter::CpuUsed, 900_000_000_123),
    (Meter::CpuReserved, 1_800_000_000_000_000),
    (Meter::MemoryUsed, 700_000_000_000_000_000_123),
    (Meter::MemoryReserved, 966_367_641_600_000_000_000_000),
    (Meter::BlockWrite, 123_456_789),
];

/// The rows of one hour.
pub(crate) fn hour(hour: Timestamp, labels: &BTreeMap<String, String>) -> Vec<UsageHour> {
    let row = |container: u64, (meter, quantity): (Meter, u128)| UsageHour {
        hour,
        tenant: TENANT.parse().expect("an id"),
        container: format!("{container:064x}").parse().ok(),
        meter,
        tenant_name: "blue".to_owned(),
        container_name: format!("web-{container}"),
        labels: labels.clone(),
        quantity: quantity + u128::from(container),
        quality: Quality::Measured,
    };
    (0..CONTAINERS).flat_map(|container| METERS.map(|of| row(container, of))).collect()
}

/// Three of the meters are charged: by tiers, with an allowance, and for the greater of two.
pub(crate) fn prices() -> PriceBooks {
    let books = json!([{ "id": "prb_00000000-0000-7000-8000-000000000001", "created_at": "2026-01-01T00:00:00Z",
        "book": { "currency": "EUR", "effective_from": "2026-01-01T00:00:00Z", "prices": [
            { "meter": "cpu_used", "policy": "max", "unit": "Core-Hours", "unit_price": "0.0378" },
            { "meter": "memory_reserved", "unit": "GiB-Hours", "allowance": "100", "tiers": [
                { "from": "100", "to": "10000", "unit_price": "0.004" },
                { "from": "10000", "unit_price": "0.0035" }] },
            { "meter": "block_write", "unit_price": "0.08" }] } }]);
    PriceBooks::new(&serde_json::from_value::<Vec<_>>(books).expect("books")).expect("well-formed")
}

/// For how long this thread has been on a processor: what others do on the machine hardly shows in it.
pub(crate) fn cpu_time() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the thread's times");
    let running = times.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(running.expect("nanoseconds"))
}
