//! How long a big tenant's statement takes: 278,000 container-hours, what 10⁸ readings roll up to.
//!
//! `cargo bench -p wharf-billing`; prints one line per figure. Of each container-hour there is what CPU and
//! memory were used and reserved, and what was sent: five rows. Three are charged, by prices with tiers, an
//! allowance and the greater of two. The hours are in memory; reading them from the store is not in it.
#![expect(clippy::expect_used, reason = "a bench that cannot run fails")]

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;
use wharf_billing::contract::Contracts;
use wharf_billing::price::PriceBooks;
use wharf_billing::rating::{Rater, period};
use wharf_billing::statement::StatementBuilder;
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageHour};

/// The containers of a month of 720 hours that make 277,920 container-hours.
const CONTAINERS: u64 = 386;
const HOURS: i64 = 720;
const METERS: [(Meter, u128); 5] = [
    (Meter::CpuUsed, 900_000_000_123),
    (Meter::CpuReserved, 1_800_000_000_000_000),
    (Meter::MemoryUsed, 700_000_000_000_000_000_123),
    (Meter::MemoryReserved, 966_367_641_600_000_000_000_000),
    (Meter::BlockWrite, 123_456_789),
];

fn main() {
    // `cargo test --benches` builds and starts this too; there is nothing to check then.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let rounds = std::env::var("WHARF_BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let mut times: Vec<_> = (0..rounds).map(|_| statement()).collect();
    times.sort_unstable();
    let (median, cpu) = times.get(times.len() / 2).copied().unwrap_or_default();
    let verdict = if median <= Duration::from_secs(1) { "reached" } else { "missed" };
    let (seconds, rows) = (median.as_secs_f64(), CONTAINERS * 720 * 5);
    let text = format!(
        "  {verdict}: a statement of {} container-hours, {rows} rows: {seconds:.3} s (bar: at most 1 s)\n  \
         beside: the same statement, on a processor: {:.3} s",
        CONTAINERS * 720,
        cpu.as_secs_f64()
    );
    writeln!(std::io::stdout(), "{text}").expect("standard output");
}

/// The rows of one hour.
fn hour(hour: Timestamp) -> Vec<UsageHour> {
    let row = |container: u64, (meter, quantity): (Meter, u128)| UsageHour {
        hour,
        tenant: "tnt_00000000-0000-7000-8000-000000000001".parse().expect("an id"),
        container: format!("{container:064x}").parse().ok(),
        meter,
        tenant_name: "blue".to_owned(),
        container_name: format!("web-{container}"),
        labels: BTreeMap::new(),
        quantity: quantity + u128::from(container),
        quality: Quality::Measured,
    };
    (0..CONTAINERS).flat_map(|container| METERS.map(|of| row(container, of))).collect()
}

/// For how long this thread has been on a processor: what others do on the machine hardly shows in it.
fn cpu_time() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the thread's times");
    let running = times.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(running.expect("nanoseconds"))
}

/// How long it takes from the hours to the statement, and how much of that on a processor.
fn statement() -> (Duration, Duration) {
    let books = json!([{ "id": "prb_00000000-0000-7000-8000-000000000001", "created_at": "2026-01-01T00:00:00Z",
        "book": { "currency": "EUR", "effective_from": "2026-01-01T00:00:00Z", "prices": [
            { "meter": "cpu_used", "policy": "max", "unit": "Core-Hours", "unit_price": "0.0378" },
            { "meter": "memory_reserved", "unit": "GiB-Hours", "allowance": "100", "tiers": [
                { "from": "100", "to": "10000", "unit_price": "0.004" },
                { "from": "10000", "unit_price": "0.0035" }] },
            { "meter": "block_write", "unit_price": "0.08" }] } }]);
    let books =
        PriceBooks::new(&serde_json::from_value::<Vec<_>>(books).expect("books")).expect("well-formed");
    let contracts = Contracts::default();
    let (from, to) = period("2026-11-01T00:00:00Z".parse().expect("a time"));
    let hours: Vec<_> = (0..HOURS).map(|number| hour(Timestamp(from.0 + number * HOUR_US))).collect();

    let (begin, before) = (Instant::now(), cpu_time());
    let tenant = "tnt_00000000-0000-7000-8000-000000000001".parse().expect("an id");
    let mut builder = StatementBuilder::new(&books, &contracts, tenant, "blue".to_owned(), (from, to));
    let mut rater = Rater::new(&books, &contracts);
    for rows in hours {
        builder.add(&rater.rate_hour(rows));
    }
    let made = builder.finish("Example".to_owned(), Vec::new()).expect("short numbers");
    let taken = (begin.elapsed(), cpu_time().saturating_sub(before));
    assert_eq!(made.view.lines.len(), 5, "{:#?}", made.view.lines);
    taken
}
