//! What needs a machine of its own: a clock that may be set.
//!
//! `cargo xtask test` runs these in the guest, where the wall clock is nobody else's.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::time::{ClockId, clock_gettime, clock_settime};
use serde_json::json;
use wharf_e2e::{World, run_with};
use wharf_shared::container::ContainerView;
use wharf_shared::page::Page;
use wharf_shared::reading::{ReadingKind, ReadingRecord, SeriesKey};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, UsageRow};

/// The readings of a container, in order.
fn readings(world: &World, view: &ContainerView) -> Result<Vec<ReadingRecord>> {
    let all = world.readings()?.into_iter();
    Ok(all.filter(|of| of.series.container.as_ref() == Some(&view.id)).collect())
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
