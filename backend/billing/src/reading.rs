//! Counters of the kernel → readings of the journal.
//!
//! - A counter's difference is what it rose by since the reading before. If it fell, although it is
//!   the same cgroup, it was reset: the difference is its new value, and the reading says so.
//! - Memory is a level, not a counter: the level found at the reading before holds until this one, so
//!   the difference is that level × the time between (left step).
//! - What could not be read counts nothing and is marked. A counter that can be read again later
//!   shows then what it rose by meanwhile; a level that is not known is a gap. Nothing is guessed.
//!
//! Time is `CLOCK_BOOTTIME`, so setting the wall clock changes no duration.

use std::collections::{BTreeMap, BTreeSet};

use wharf_shared::reading::{MeterReading, ReadingKind, ReadingLimits, ReadingRecord, SeriesKey};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Measured, Meter, Quality};

/// Key of [`ReadingRecord::source`] that names the meters whose counters were reset.
pub const RESET_METERS: &str = "reset";
/// Key of [`ReadingRecord::source`] that names the meters that could not be read.
pub const UNREAD_METERS: &str = "unread";

/// What was read at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When, by `CLOCK_BOOTTIME`.
    pub boot_ns: u64,
    /// When, by the wall clock.
    pub utc: Timestamp,
    /// Counters in their meters' units; for [`Meter::MemoryUsed`] the level in bytes.
    pub counters: BTreeMap<Meter, Measured>,
    /// The limits in force since the reading before.
    pub limits: ReadingLimits,
    /// Where it was read.
    pub source: BTreeMap<String, String>,
}

/// Why a sample cannot continue a series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadingError {
    /// The clock that never goes back went back: the sample is of another boot, or too late.
    #[error("the sample at {sample_ns} ns is earlier than the reading before it, at {before_ns} ns")]
    Earlier {
        /// The sample's time.
        sample_ns: u64,
        /// The earlier reading's time.
        before_ns: u64,
    },
    /// A sum has no room in 128 bits.
    #[error("meter {} does not fit into 128 bits", meter.as_str())]
    Overflow {
        /// Which.
        meter: Meter,
    },
}

/// The first reading of a series: it counts nothing, everything after it counts from here.
pub fn open(series: SeriesKey, sample: Sample) -> ReadingRecord {
    let counters = sample.counters.iter().filter(|(meter, _)| is_read(**meter));
    let meters = counters.clone().map(|(meter, measured)| MeterReading {
        meter: *meter,
        raw: measured.value(),
        cum: 0,
        delta: 0,
        quality: quality(*measured),
    });
    let unread = counters.filter(|(_, measured)| matches!(measured, Measured::Unreadable(_)));
    let mut source = sample.source;
    name_meters(&mut source, UNREAD_METERS, unread.map(|(meter, _)| *meter));
    ReadingRecord {
        series,
        kind: ReadingKind::Open,
        t0_boot_ns: sample.boot_ns,
        t1_boot_ns: sample.boot_ns,
        t0_utc: sample.utc,
        t1_utc: sample.utc,
        meters: meters.collect(),
        limits: sample.limits,
        source,
    }
}

/// The reading that continues a series after `before`.
pub fn next(
    before: &ReadingRecord,
    kind: ReadingKind,
    sample: Sample,
) -> Result<ReadingRecord, ReadingError> {
    let Some(duration_ns) = sample.boot_ns.checked_sub(before.t1_boot_ns) else {
        return Err(ReadingError::Earlier { sample_ns: sample.boot_ns, before_ns: before.t1_boot_ns });
    };
    let mut meters: BTreeMap<Meter, MeterReading> = BTreeMap::new();
    let (mut reset, mut unread) = (BTreeSet::new(), BTreeSet::new());
    let was_unread = |meter: Meter| {
        before
            .source
            .get(UNREAD_METERS)
            .is_some_and(|list| list.split(',').any(|name| name == meter.as_str()))
    };
    // Every meter of the series stays in it; one that was not sampled could not be read.
    let sampled = sample.counters.keys().copied().filter(|meter| is_read(*meter));
    for meter in before.meters.iter().map(|earlier| earlier.meter).chain(sampled) {
        let earlier = before.meter(meter);
        let measured = sample.counters.get(&meter).copied();
        let step = if meter == Meter::MemoryUsed {
            // What lingers after the end is the host's cache, not the container's memory.
            let counts = kind != ReadingKind::FinalBlock;
            level_step(earlier, measured, if counts { duration_ns } else { 0 })
        } else {
            counter_step(earlier, measured, was_unread(meter))
        };
        if step.reset {
            reset.insert(meter);
        }
        if matches!(measured, None | Some(Measured::Unreadable(_))) {
            unread.insert(meter);
        }
        let cum = earlier.map_or(0, |earlier| earlier.cum).checked_add(step.delta);
        let cum = cum.ok_or(ReadingError::Overflow { meter })?;
        meters.insert(
            meter,
            MeterReading { meter, raw: step.raw, cum, delta: step.delta, quality: step.quality },
        );
    }
    let mut source = sample.source;
    let was_reset = !reset.is_empty();
    name_meters(&mut source, RESET_METERS, reset);
    name_meters(&mut source, UNREAD_METERS, unread);
    Ok(ReadingRecord {
        series: before.series.clone(),
        kind: if was_reset && kind == ReadingKind::Periodic { ReadingKind::Reset } else { kind },
        t0_boot_ns: before.t1_boot_ns,
        t1_boot_ns: sample.boot_ns,
        t0_utc: before.t1_utc,
        t1_utc: sample.utc,
        meters: meters.into_values().collect(),
        limits: sample.limits,
        source,
    })
}

/// Closes a series whose end was not seen (power loss): it counts nothing, and marks the hour in which
/// the readings stop. `found_at` is when the loss was found; the end lies before it.
pub fn gap(before: &ReadingRecord, found_at: Timestamp) -> ReadingRecord {
    let meters = before.meters.iter().map(|earlier| MeterReading {
        delta: 0,
        quality: earlier.quality.and(Quality::Partial),
        ..earlier.clone()
    });
    ReadingRecord {
        series: before.series.clone(),
        kind: ReadingKind::Gap,
        t0_boot_ns: before.t1_boot_ns,
        t1_boot_ns: before.t1_boot_ns,
        t0_utc: before.t1_utc,
        t1_utc: found_at,
        meters: meters.collect(),
        limits: before.limits,
        source: BTreeMap::new(),
    }
}

/// Whether a meter is read from the kernel; the others follow from limits and time.
const fn is_read(meter: Meter) -> bool {
    !matches!(meter, Meter::CpuReserved | Meter::MemoryReserved)
}

const fn quality(measured: Measured) -> Quality {
    match measured {
        Measured::Value(_) => Quality::Measured,
        Measured::NotMeasurable => Quality::NotMeasurable,
        Measured::Unreadable(_) => Quality::Partial,
    }
}

fn name_meters(source: &mut BTreeMap<String, String>, key: &str, meters: impl IntoIterator<Item = Meter>) {
    let names: Vec<_> = meters.into_iter().map(Meter::as_str).collect();
    if !names.is_empty() {
        source.insert(key.to_owned(), names.join(","));
    }
}

struct Step {
    delta: u128,
    raw: Option<u64>,
    quality: Quality,
    reset: bool,
}

fn counter_step(earlier: Option<&MeterReading>, measured: Option<Measured>, was_unread: bool) -> Step {
    let known = earlier.and_then(|earlier| earlier.raw);
    let nothing = |raw, quality| Step { delta: 0, raw, quality, reset: false };
    match (measured, known) {
        (Some(Measured::Value(now)), Some(before)) => {
            let reset = now < before;
            // After a failure the difference also holds what rose before this interval.
            let whole = !reset && !was_unread;
            Step {
                delta: now.checked_sub(before).unwrap_or(now).into(),
                raw: Some(now),
                quality: if whole { Quality::Measured } else { Quality::Partial },
                reset,
            }
        }
        // From here on it counts; what it counted before is not known.
        (Some(Measured::Value(now)), None) => nothing(Some(now), Quality::Partial),
        (Some(Measured::NotMeasurable), _) => nothing(known, Quality::NotMeasurable),
        (Some(Measured::Unreadable(_)) | None, _) => nothing(known, Quality::Partial),
    }
}

fn level_step(earlier: Option<&MeterReading>, measured: Option<Measured>, duration_ns: u64) -> Step {
    let raw = measured.and_then(Measured::value);
    let (delta, known) = match earlier.and_then(|earlier| earlier.raw) {
        // The product of two 64-bit numbers fits into 128 bits.
        Some(level) => (u128::from(level).saturating_mul(duration_ns.into()), true),
        None => (0, false),
    };
    let quality = match measured.map(quality) {
        Some(Quality::NotMeasurable) if !known => Quality::NotMeasurable,
        Some(Quality::Measured) if known => Quality::Measured,
        _ => Quality::Partial,
    };
    Step { delta, raw, quality, reset: false }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(boot_ns: u64, counters: &[(Meter, Measured)]) -> Sample {
        Sample {
            boot_ns,
            utc: Timestamp(i64::try_from(boot_ns / 1_000).expect("small")),
            counters: counters.iter().copied().collect(),
            limits: ReadingLimits::default(),
            source: BTreeMap::new(),
        }
    }

    fn series() -> SeriesKey {
        SeriesKey {
            boot_id: "boot".to_owned(),
            tenant: None,
            container: "a".repeat(64).parse().ok(),
            incarnation: 1,
        }
    }

    fn of(record: &ReadingRecord, meter: Meter) -> (u128, u128, Quality) {
        let reading = record.meter(meter).expect("the meter is in it");
        (reading.cum, reading.delta, reading.quality)
    }

    use Measured::{NotMeasurable, Unreadable, Value};

    #[test]
    fn counts_from_the_opening_value_and_through_a_reset() {
        let cpu = |value| [(Meter::CpuUsed, value)];
        let first = open(series(), sample(0, &cpu(Value(40))));
        assert_eq!(of(&first, Meter::CpuUsed), (0, 0, Quality::Measured));
        let second = next(&first, ReadingKind::Periodic, sample(10, &cpu(Value(100)))).expect("later");
        assert_eq!(of(&second, Meter::CpuUsed), (60, 60, Quality::Measured));
        let third = next(&second, ReadingKind::Periodic, sample(20, &cpu(Value(5)))).expect("later");
        assert_eq!((third.kind, of(&third, Meter::CpuUsed)), (ReadingKind::Reset, (65, 5, Quality::Partial)));
        assert_eq!(third.source.get(RESET_METERS).map(String::as_str), Some("cpu_used"));
        assert!(
            next(&third, ReadingKind::Final, sample(19, &cpu(Value(6)))).is_err(),
            "time does not go back"
        );
    }

    #[test]
    fn a_counter_that_could_not_be_read_shows_later_what_it_rose_by() {
        let cpu = |value| [(Meter::CpuUsed, value)];
        let first = open(series(), sample(0, &cpu(Value(0))));
        let second = next(&first, ReadingKind::Periodic, sample(10, &cpu(Unreadable(5)))).expect("later");
        assert_eq!(of(&second, Meter::CpuUsed), (0, 0, Quality::Partial));
        let absent = next(&second, ReadingKind::Periodic, sample(20, &[])).expect("later");
        assert_eq!(of(&absent, Meter::CpuUsed), (0, 0, Quality::Partial));
        let third = next(&absent, ReadingKind::Periodic, sample(30, &cpu(Value(70)))).expect("later");
        assert_eq!(of(&third, Meter::CpuUsed), (70, 70, Quality::Partial));
        let fourth = next(&third, ReadingKind::Periodic, sample(40, &cpu(Value(71)))).expect("later");
        assert_eq!(of(&fourth, Meter::CpuUsed), (71, 1, Quality::Measured));
    }

    #[test]
    fn a_level_holds_until_the_next_reading_and_an_unknown_one_is_a_gap() {
        let memory = |value| [(Meter::MemoryUsed, value)];
        let first = open(series(), sample(0, &memory(Value(100))));
        let second = next(&first, ReadingKind::Periodic, sample(10, &memory(Value(300)))).expect("later");
        assert_eq!(of(&second, Meter::MemoryUsed), (1_000, 1_000, Quality::Measured));
        let third = next(&second, ReadingKind::Periodic, sample(20, &memory(Unreadable(5)))).expect("later");
        assert_eq!(of(&third, Meter::MemoryUsed), (4_000, 3_000, Quality::Partial));
        let fourth = next(&third, ReadingKind::Periodic, sample(30, &memory(Value(7)))).expect("later");
        assert_eq!(of(&fourth, Meter::MemoryUsed), (4_000, 0, Quality::Partial));
        let last = next(&fourth, ReadingKind::Final, sample(40, &memory(Value(0)))).expect("later");
        assert_eq!(of(&last, Meter::MemoryUsed), (4_070, 70, Quality::Measured));
        let lingers = next(&fourth, ReadingKind::FinalBlock, sample(50, &memory(Value(0)))).expect("later");
        assert_eq!(of(&lingers, Meter::MemoryUsed).1, 0);
    }

    #[test]
    fn what_this_host_cannot_measure_stays_marked_and_counts_nothing() {
        let both = [(Meter::BlockRead, NotMeasurable), (Meter::MemoryUsed, NotMeasurable)];
        let first = open(series(), sample(0, &both));
        let second = next(&first, ReadingKind::Periodic, sample(10, &both)).expect("later");
        for meter in [Meter::BlockRead, Meter::MemoryUsed] {
            assert_eq!(of(&second, meter), (0, 0, Quality::NotMeasurable));
        }
        let lost = gap(&second, Timestamp(1));
        assert_eq!((lost.kind, lost.duration_ns(), of(&lost, Meter::BlockRead).1), (ReadingKind::Gap, 0, 0));
    }

    proptest! {
        #[test]
        fn reading_more_often_counts_the_same(
            rises in proptest::collection::vec((1_u64..1_000_000, 0_u64..1_000_000), 1..30),
            keep in proptest::collection::vec(any::<bool>(), 30),
        ) {
            let (mut boot_ns, mut value) = (0_u64, 0_u64);
            let first = open(series(), sample(0, &[(Meter::CpuUsed, Value(0))]));
            let (mut often, mut seldom) = (first.clone(), first);
            for ((time, rise), keep) in rises.iter().zip(keep) {
                boot_ns += time;
                value += rise;
                let now = sample(boot_ns, &[(Meter::CpuUsed, Value(value))]);
                often = next(&often, ReadingKind::Periodic, now.clone()).expect("later");
                if keep {
                    seldom = next(&seldom, ReadingKind::Periodic, now).expect("later");
                }
            }
            let end = sample(boot_ns, &[(Meter::CpuUsed, Value(value))]);
            let [often, seldom] = [often, seldom]
                .map(|last| next(&last, ReadingKind::Final, end.clone()).expect("not earlier"));
            prop_assert_eq!(of(&often, Meter::CpuUsed).0, u128::from(value));
            prop_assert_eq!(of(&seldom, Meter::CpuUsed).0, u128::from(value));
        }
    }
}
