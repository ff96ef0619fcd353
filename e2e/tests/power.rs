//! The power of a machine is cut in mid-run, again and again: what the journal had is there, each series has a
//! gap, and that is no longer than an interval.
//!
//! One boot of the guest is one run of this test: it looks at what the cut before left, goes on, and cuts the
//! power; `cargo xtask test` boots the machine again, with the same disk, and repeats what was said of the cut. The
//! last run ends.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::termios::tcdrain;
use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use wharf_e2e::{readings_in, run};
use wharf_shared::reading::{ReadingKind, ReadingRecord, SeriesKey};

/// The agent's usual interval, and the second at which it looks whether one is over.
const INTERVAL_NS: u64 = 11_000_000_000;
/// How late an emulated machine may be that shares its processors.
const LATE_NS: u64 = 10_000_000_000;
/// A boot of an emulated machine with a debug build takes its time.
const PATIENCE: Duration = Duration::from_mins(3);
const WORKS: &str = "while sleep 0.2; do i=0; while [ $i -lt 200 ]; do i=$((i+1)); done; done";

#[test]
#[ignore = "cuts the machine's power: runs in the guest"]
fn a_power_cut_loses_at_most_an_interval_and_is_a_gap_in_every_series() -> Result<()> {
    let kept = PathBuf::from(std::env::var_os("WHARF_KEPT").context("a disk that outlives the machine")?);
    let cut = std::env::var("WHARF_CUT").context("what was said of the cut before")?;
    let named = kept.join("world");
    if cut == "none" {
        return run(|world| {
            let tenant = world.tenant("acme")?;
            for command in [["sh", "-c", WORKS], ["sleep", "100000", "1"]] {
                world.start(&tenant, &command, json!({ "restart": "always" }))?;
            }
            fs::write(&named, format!("{} {}", world.instance, world.dir().display()))?;
            fs::File::open(&named)?.sync_all()?;
            fs::File::open(&kept)?.sync_all()?;
            cut_power(&world.state_dir())
        });
    }
    let cut = cut.split('.').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let &[cut_ns, written, last_ns] = cut.as_slice() else { bail!("{cut:?} is said of the cut") };
    let text = fs::read_to_string(&named).context("read where the world is")?;
    let (instance, dir) = text.split_once(' ').context("a name and a directory")?;
    let state = Path::new(dir).join("state");
    let there = readings_in(&state)?;
    let last = usize::try_from(written)?.checked_sub(1).and_then(|at| there.get(at));
    let last = last.with_context(|| format!("of {written} readings {} are left", there.len()))?;
    ensure!(last.t1_boot_ns == last_ns, "another reading is in the place of the last one: {last:?}");
    go_on(instance, Path::new(dir))?;
    let lost = until_closed(&state)?;
    ensure!(lost.len() >= 3, "two containers and their tenant: {lost:?}");
    let mut most_ns = 0;
    for (series, [last, end]) in &lost {
        ensure!(end.kind == ReadingKind::Gap, "{series:?} has no gap: {end:?}");
        ensure!(end.t0_utc == last.t1_utc && end.meters.iter().all(|meter| meter.delta == 0), "{end:?}");
        let lost_ns = cut_ns.saturating_sub(last.t1_boot_ns);
        ensure!(lost_ns <= INTERVAL_NS + LATE_NS, "{series:?} lost {lost_ns} ns: {last:?}");
        most_ns = most_ns.max(lost_ns);
    }
    say(&format!("{} series were cut, at most {most_ns} ns of them is lost", lost.len()))?;
    if std::env::var_os("WHARF_CUT_LAST").is_some() { Ok(()) } else { cut_power(&state) }
}

/// Starts the agent on what the cut left; what was in memory, the run directory too, is gone.
fn go_on(instance: &str, dir: &Path) -> Result<()> {
    let run = dir.join("run");
    if run.exists() {
        fs::remove_dir_all(&run).context("forget what a cut forgets")?;
    }
    let programs = PathBuf::from(std::env::var_os("WHARF_PROGRAMS").context("the programs")?);
    let log = fs::File::create(dir.join("agent.log")).context("make the log")?;
    let mut agent = Command::new(programs.join("wharfd"));
    agent.args(["--instance", instance, "--listen", "127.0.0.1:0", "serve"]).stdin(Stdio::null());
    agent.arg("--state-dir").arg(dir.join("state")).arg("--run-dir").arg(run);
    agent.stdout(log.try_clone()?).stderr(log).spawn().context("start wharfd").map(drop)
}

/// Waits until every series of the boot before has an end and as many are open again; returns the last two
/// readings of each that the cut left open.
fn until_closed(state: &Path) -> Result<BTreeMap<SeriesKey, [ReadingRecord; 2]>> {
    let deadline = Instant::now() + PATIENCE;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    loop {
        let readings = readings_in(state)?;
        let before =
            readings.iter().rev().find(|of| of.series.boot_id != boot_id).context("a boot before")?;
        let before = before.series.boot_id.clone();
        let mut series: BTreeMap<SeriesKey, Vec<ReadingRecord>> = BTreeMap::new();
        let mut open = 0;
        for reading in readings.into_iter().filter(|of| of.series.tenant.is_some()) {
            open += usize::from(reading.series.boot_id == boot_id && reading.kind == ReadingKind::Open);
            if reading.series.boot_id == before {
                series.entry(reading.series.clone()).or_default().push(reading);
            }
        }
        let ends = |of: &Vec<ReadingRecord>| of.last().is_some_and(|last| last.kind.is_end());
        if series.values().all(ends) && open >= series.len() {
            let two = |of: Vec<ReadingRecord>| of.last_chunk::<2>().cloned();
            return Ok(series.into_iter().filter_map(|(key, of)| Some((key, two(of)?))).collect());
        }
        ensure!(Instant::now() < deadline, "not all are closed and open again: {open} open, {series:?}");
        pause(Duration::from_secs(2));
    }
}

/// At some instant of the second interval from now on, so that what is first read of a series does not do.
/// Nothing is written to the disk any more, not even what is on its way.
fn cut_power(state: &Path) -> Result<()> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    pause(Duration::from_nanos(INTERVAL_NS + u64::from_le_bytes(random) % INTERVAL_NS));
    // Of a copy in memory: whoever opens the journal itself may make the disk take more than the agent did.
    let copy = tempfile::tempdir_in("/tmp").context("make a directory in memory")?;
    for name in ["journal.db", "journal.db-wal"] {
        fs::copy(state.join(name), copy.path().join(name)).with_context(|| format!("copy {name}"))?;
    }
    let written = readings_in(copy.path())?;
    let last = written.last().context("nothing was written")?;
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    say(&format!("cut {}.{}.{}", now.as_nanos(), written.len(), last.t1_boot_ns))?;
    fs::write("/proc/sysrq-trigger", "b").context("reset the machine")?;
    pause(PATIENCE);
    bail!("the machine runs on")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a cut comes at a time and not at a state, and no runtime is here"
)]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// A line of its own on the console, which has left the machine: a cut takes what waits in the serial port too.
fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\npower: {text}")?;
    out.flush()?;
    tcdrain(&out).context("wait for the console")
}
