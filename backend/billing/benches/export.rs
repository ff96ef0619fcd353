//! How fast files are written, and with how much memory: FOCUS as CSV and as Parquet, hours as JSON lines.
//!
//! `cargo bench -p wharf-billing --bench export`; prints one line per figure. Each file is a month of 386
//! containers with five meters, rated hour by hour as it is written, by prices with tiers, an allowance and the
//! greater of two. Rating is in the figures; reading the hours from the store, which goes on beside it on
//! another thread, is not. Memory is the most that the process has had.
#![expect(clippy::expect_used, reason = "a bench that cannot run fails")]

mod month;

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use wharf_billing::contract::Contracts;
use wharf_billing::export::ExportWriter;
use wharf_billing::focus::metadata::Period;
use wharf_billing::focus::{FocusContext, OnBill};
use wharf_billing::rating::{Rater, period};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::ExportFormat;

use crate::month::cpu_time;

const MEMORY_BAR_MB: u64 = 100;

fn main() {
    // `cargo test --benches` builds and starts this too; there is nothing to check then.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let rounds = std::env::var("WHARF_BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    for (what, format, bar) in [
        ("rows of hours as JSON lines", ExportFormat::Jsonl, 200_000),
        ("rows of FOCUS as CSV", ExportFormat::Csv, 50_000),
        ("rows of FOCUS as Parquet", ExportFormat::Parquet, 50_000),
    ] {
        let mut times: Vec<_> = (0..rounds).map(|_| export(format)).collect();
        times.sort_unstable();
        let (taken, cpu, rows) = times.get(times.len() / 2).copied().expect("a round");
        let [per_second, of_cpu] =
            [taken, cpu].map(|time| u128::from(rows) * 1_000_000 / time.as_micros().max(1));
        line(per_second >= bar, &format!("{what}: {per_second} a second (bar: at least {bar} a second)"));
        say(&format!("  beside: {what}, by time on a processor: {of_cpu} a second"));
    }
    let most = memory_mb();
    line(most <= MEMORY_BAR_MB, &format!("memory of exports: {most} MB (bar: at most {MEMORY_BAR_MB} MB)"));
}

fn line(is_reached: bool, text: &str) {
    let verdict = if is_reached { "reached" } else { "missed" };
    say(&format!("  {verdict}: {text}"));
}

fn say(text: &str) {
    writeln!(std::io::stdout(), "{text}").expect("standard output");
}

/// The most that this process has had in memory (proc(5), `VmHWM`).
fn memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its most memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1_000
}

/// How long it takes from the hours to the file, how much of that on a processor, and how many rows it has.
fn export(format: ExportFormat) -> (Duration, Duration, u64) {
    let (books, contracts) = (month::prices(), Contracts::default());
    let labels = BTreeMap::from([("app".to_owned(), "shop".to_owned())]);
    let context = FocusContext {
        provider_name: "Example".to_owned(),
        billing_account_id: "account-1".to_owned(),
        billing_account_name: "Example".to_owned(),
        region: "eu-1".to_owned(),
        host: "hst_00000000-0000-7000-8000-000000000001".to_owned(),
    };
    let (from, to) = period("2026-11-01T00:00:00Z".parse().expect("a time"));
    let file = BufWriter::with_capacity(1 << 18, tempfile::tempfile().expect("a file"));
    let of = Period { from, to, is_provisional: false };
    let mut writer = ExportWriter::new(format, file, of, &context).expect("begun");
    let mut rater = Rater::new(&books, &contracts);
    let bill = OnBill { invoice: Some("S-000001"), ..OnBill::default() };
    let (mut taken, mut cpu, mut rows) = (Duration::ZERO, Duration::ZERO, 0);
    let mut next = from;
    while next < to {
        // Making them up is not what is measured.
        let hours = month::hour(next, &labels);
        let (begin, before) = (Instant::now(), cpu_time());
        let rated = rater.rate_hour(hours);
        rated.iter().try_for_each(|row| writer.row(row, bill)).expect("written");
        taken += begin.elapsed();
        cpu += cpu_time().saturating_sub(before);
        rows += rated.len() as u64;
        next = Timestamp(next.0 + HOUR_US);
    }
    let (begin, before) = (Instant::now(), cpu_time());
    writer.finish().expect("a file");
    (taken + begin.elapsed(), cpu + cpu_time().saturating_sub(before), rows)
}
