//! What needs a machine of its own: cgroup v2 alone, a disk, and a clock that may be set.
//!
//! `cargo xtask test` runs these in the guest, where `sync` and the wall clock are nobody else's.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::time::{ClockId, clock_gettime, clock_settime};
use serde_json::json;
use wharf_e2e::{World, run, run_with};
use wharf_shared::container::ContainerView;
use wharf_shared::page::Page;
use wharf_shared::reading::{ReadingKind, ReadingRecord, SeriesKey};
use wharf_shared::tenant::TenantView;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, Quality, UsageRow};

/// What the writing container leaves dirty: 8 MiB, no `fsync`.
const WRITTEN: u128 = 8 << 20;
const WRITE: &str = "dd if=/dev/zero of=/data/big bs=65536 count=128 2>/dev/null";

/// A directory of the host on a disk that holds no container's root: with a root the whole file system below
/// it is written when it is unmounted, before the end is seen (`ovl_sync_fs`).
fn spare(world: &World) -> Result<PathBuf> {
    let disk = std::env::var_os("WHARF_KEPT").context("a disk beside that of the agent")?;
    Ok(Path::new(&disk).join(&world.instance))
}

/// Has a container of this tenant write. The kernel writes nothing back until [`sync`], however slow the guest.
fn writes(world: &World, tenant: &TenantView) -> Result<ContainerView> {
    fs::write("/proc/sys/vm/dirty_writeback_centisecs", "0").context("hold back what is dirty")?;
    let dir = spare(world)?;
    fs::create_dir_all(&dir).context("make a directory to write in")?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).context("open it to all")?;
    let volumes = json!([{ "source": { "host": dir }, "target": "/data" }]);
    world.script(tenant, WRITE, json!({ "volumes": volumes }))
}

/// The readings of a container, in order.
fn readings(world: &World, view: &ContainerView) -> Result<Vec<ReadingRecord>> {
    let all = world.readings()?.into_iter();
    Ok(all.filter(|of| of.series.container.as_ref() == Some(&view.id)).collect())
}

/// How much a reading says was written, and how well that is known.
fn written(reading: Option<&ReadingRecord>) -> Result<(u128, Quality)> {
    let meter =
        reading.and_then(|reading| reading.meter(Meter::BlockWrite)).context("a reading of writes")?;
    Ok((meter.cum, meter.quality))
}

/// Ends of a container's series, in order.
fn ends(of: &[ReadingRecord]) -> Vec<ReadingKind> {
    of.iter().map(|reading| reading.kind).filter(|kind| kind.is_end()).collect()
}

fn has_tail(world: &World, view: &ContainerView) -> Result<bool> {
    Ok(ends(&readings(world, view)?) == [ReadingKind::Final, ReadingKind::FinalBlock])
}

/// Has the kernel write everything; what is dirty is charged now and not in half a minute.
fn sync() -> Result<()> {
    ensure!(Command::new("sync").status().context("run sync")?.success());
    Ok(())
}

#[test]
#[ignore = "needs cgroup v2 alone: runs in the guest"]
fn what_is_written_back_after_the_end_is_the_containers_and_none_of_it_is_lost_with_an_agent() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = writes(world, &tenant)?;
        let (at_end, _) = written(readings(world, &view)?.last())?;
        ensure!(at_end < WRITTEN, "it was written at once, so there is nothing to wait for: {at_end}");
        ensure!(!world.container_cgroups().is_empty(), "its cgroup has to linger");
        // Killed while it waits, and right behind what it waited for.
        world.kill_agent()?;
        world.start_agent()?;
        world.arm("agent.tail.booked")?;
        sync()?;
        world.killed()?;
        world.bury_agent()?;
        world.start_agent()?;
        world.until("the cgroup goes", || Ok(world.container_cgroups().is_empty()))?;
        ensure!(has_tail(world, &view)?, "{:?}", readings(world, &view)?);
        assert_eq!(written(readings(world, &view)?.last())?, (WRITTEN, Quality::Measured));
        assert_eq!(world.quantity(&view, Meter::BlockWrite)?, WRITTEN);
        eprintln!("{WRITTEN} bytes written without sync, {at_end} of them at the end: all are billed");
        Ok(())
    })
}

/// Sets the wall clock by so many seconds.
fn step(seconds: i64) -> Result<()> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).context("read the clock")?;
    clock_settime(ClockId::CLOCK_REALTIME, now + TimeSpec::seconds(seconds)).context("set the clock")
}

/// The clock that nobody sets.
fn boot_ns() -> Result<u64> {
    Ok(u64::try_from(clock_gettime(ClockId::CLOCK_BOOTTIME)?.num_nanoseconds())?)
}

#[test]
#[ignore = "sets the clock of the machine: runs in the guest"]
fn a_clock_that_is_set_changes_no_duration_and_no_reading_overlaps_another() -> Result<()> {
    const DAY_S: i64 = 86_400;
    run_with(&["metering.journal_interval_ms=1000"], |world| {
        let tenant = world.tenant("acme")?;
        let limits = json!({ "limits": { "cpu_millis": 1000, "memory_bytes": 32 << 20 } });
        let before_ns = boot_ns()?;
        let view = world.start(&tenant, &["sleep", "1000"], limits)?;
        let count = |kind| -> Result<usize> {
            Ok(world.readings()?.iter().filter(|reading| reading.kind == kind).count())
        };
        let goes_on = || -> Result<()> {
            let before = readings(world, &view)?.len();
            world.until("it is read on", || Ok(readings(world, &view)?.len() > before + 2))
        };
        goes_on()?;
        for (number, by) in [(1, DAY_S), (2, -2 * DAY_S), (3, DAY_S)] {
            step(by)?;
            world.until("the step is recorded", || Ok(count(ReadingKind::ClockStep)? == number))?;
            goes_on()?;
        }
        world.api().act(&format!("/containers/{}/stop", view.id), &json!({ "grace_s": 0 }))?;
        world.ended(view.id.as_str())?;
        let after_ns = boot_ns()?;

        let steps: Vec<i64> = world
            .readings()?
            .iter()
            .filter(|reading| reading.kind == ReadingKind::ClockStep)
            .map(|reading| Ok(reading.source.get("step_us").context("by how much")?.parse()?))
            .collect::<Result<_>>()?;
        for (found, wanted) in steps.iter().zip([DAY_S, -2 * DAY_S, DAY_S]) {
            ensure!((found - wanted * 1_000_000).abs() < 1_000_000, "{steps:?}");
        }
        let mut series: BTreeMap<SeriesKey, Vec<ReadingRecord>> = BTreeMap::new();
        for reading in world.readings()?.into_iter().filter(|of| of.series.tenant.is_some()) {
            series.entry(reading.series.clone()).or_default().push(reading);
        }
        ensure!(series.len() == 2, "a container and its tenant: {:?}", series.keys());
        for (before, after) in series.values().flat_map(|of| of.iter().zip(of.iter().skip(1))) {
            ensure!(
                before.t1_boot_ns == after.t0_boot_ns && after.t0_boot_ns <= after.t1_boot_ns,
                "{before:?} {after:?}"
            );
        }
        let of = readings(world, &view)?;
        let begin_ns = of.first().context("a first one")?.t0_boot_ns;
        let end_ns = of.iter().find(|of| of.kind == ReadingKind::Final).context("an end")?.t1_boot_ns;
        let lived_ns = u128::from(end_ns - begin_ns);
        ensure!(u128::from(after_ns - before_ns) >= lived_ns, "it was there for less than {lived_ns} ns");
        let days = |days: i64| Timestamp(view.created_at.0 + days * DAY_S * 1_000_000).hour_start();
        let path = format!("/usage?container={}&from={}&to={}", view.id, days(-3), days(3));
        for (meter, each) in [(Meter::CpuReserved, 1_000), (Meter::ContainerTime, 1)] {
            world.until("it is on the bill as long as it ran, whatever the clock said", || {
                let page: Page<UsageRow> = world.api().get(&path)?;
                let rows = page.items.iter().filter(|row| row.meter == meter);
                let billed: Vec<u128> =
                    rows.map(|row| Ok(row.quantity.as_str().parse()?)).collect::<Result<_>>()?;
                Ok(billed.iter().sum::<u128>() == each * lived_ns)
            })?;
        }
        eprintln!("the clock was set by {steps:?} us; {} readings of {lived_ns} ns", of.len());
        Ok(())
    })
}
