//! What supervision costs: log throughput, time from request to exit, memory per shim.
//!
//! `cargo bench -p wharf-shim`, as root, on an otherwise idle machine; prints one line per figure. The
//! log is to be at least five times as fast as dockerd's json-file (26 MB/s on the same machine), a
//! shim is to have less than 1 MiB of its own (PSS).
#![expect(clippy::expect_used, clippy::panic, reason = "a bench that cannot run fails")]

#[path = "../tests/host/support.rs"]
#[expect(dead_code, reason = "shared with the tests, which use all of it")]
mod support;

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use support::Host;
use wharf_shim::exit::ExitStatus;
use wharf_shim::protocol::Request;

const MEBIBYTE: u64 = 1024 * 1024;

fn main() {
    // `cargo test --benches` builds and starts this too; there is nothing to check then.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    beside(&format!(
        "log, 64 KiB writes: {} MB/s",
        log_megabytes_per_second("64k", 1024 * MEBIBYTE / 65_536)
    ));
    beside(&format!("log, 128 byte writes: {} MB/s", log_megabytes_per_second("128", 128 * MEBIBYTE / 128)));
    let times = start_times(50);
    beside(&format!("launch to created, median of {}: {:?}", times.len(), median(times.iter().map(|t| t.0))));
    beside(&format!("start to exit recorded: {:?}", median(times.iter().map(|t| t.1))));
    beside(&format!("memory per shim, PSS of 20: {} KiB", pss_kib(20)));
}

/// A line of `cargo xtask bench`'s table, as `wharf_e2e::figures` has them.
fn beside(figure: &str) {
    writeln!(std::io::stdout(), "  beside: {figure}").expect("standard output");
}

fn log_megabytes_per_second(block: &str, count: u64) -> u64 {
    let mut host = Host::new();
    let spec = host.spec(&["dd", "if=/dev/zero", &format!("bs={block}"), &format!("count={count}")]);
    let mut container = host.create(&spec);
    let begin = Instant::now();
    container.shim.done(Request::Start, &[]).expect("start");
    assert_eq!(container.wait(), ExitStatus::Code(0));
    let elapsed_ms = u64::try_from(begin.elapsed().as_millis()).expect("short").max(1);
    let end = wharf_shim::logfile::LogReader::open(&spec.log.dir, wharf_shim::logfile::Start::End);
    end.expect("log").cursor() / elapsed_ms / 1000
}

fn start_times(count: usize) -> Vec<(Duration, Duration)> {
    let mut host = Host::new();
    (0..count)
        .map(|_| {
            let spec = host.spec(&["true"]);
            let begin = Instant::now();
            let mut container = host.create(&spec);
            let created = begin.elapsed();
            let begin = Instant::now();
            container.shim.done(Request::Start, &[]).expect("start");
            container.wait();
            let exited = begin.elapsed();
            container.shim.done(Request::Release, &[]).expect("release");
            (created, exited)
        })
        .collect()
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn pss_kib(count: u64) -> u64 {
    let mut host = Host::new();
    let specs: Vec<_> = (0..count).map(|_| host.spec(&["sleep", "1000"])).collect();
    let containers: Vec<_> = specs.iter().map(|spec| host.start(spec)).collect();
    let sum: u64 = containers
        .iter()
        .map(|container| {
            let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", container.shim_process.pid));
            let rollup = rollup.expect("rollup");
            let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("pss");
            pss.trim().trim_end_matches(" kB").parse::<u64>().expect("number")
        })
        .sum();
    sum / count
}
