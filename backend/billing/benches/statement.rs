//! How long a big tenant's statement takes: 278,000 container-hours, what 10⁸ readings roll up to.
//!
//! `cargo bench -p wharf-billing`; prints one line per figure. Of each container-hour there is what CPU and
//! memory were used and reserved, and what was sent: five rows. Three are charged, by prices with tiers, an
//! allowance and the greater of two. The hours are in memory; reading them from the store is not in it.
#![expect(clippy::expect_used, reason = "a bench that cannot run fails")]

mod month;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use wharf_billing::contract::Contracts;
use wharf_billing::rating::{Rater, period};
use wharf_billing::statement::StatementBuilder;
use wharf_shared::time::{HOUR_US, Timestamp};

use crate::month::{CONTAINERS, cpu_time};

const HOURS: i64 = 720;

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

/// How long it takes from the hours to the statement, and how much of that on a processor.
fn statement() -> (Duration, Duration) {
    let (books, contracts) = (month::prices(), Contracts::default());
    let (from, to) = period("2026-11-01T00:00:00Z".parse().expect("a time"));
    let hours: Vec<_> = (0..HOURS)
        .map(|number| month::hour(Timestamp(from.0 + number * HOUR_US), &BTreeMap::new()))
        .collect();

    let (begin, before) = (Instant::now(), cpu_time());
    let tenant = month::TENANT.parse().expect("an id");
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
