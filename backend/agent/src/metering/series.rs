//! From the kernel's counters to readings of one series: pure.
//!
//! Each reading carries, for each meter, the value so far and the difference to the reading before,
//! so that nothing can be lost or counted twice unseen. Counters are differences of what the kernel
//! counted. Memory is a level: it counts as the level at the interval's begin times its length
//! (left step), and only over intervals whose begin this agent has seen; after an absence the level
//! in between is unknown and is not billed. A counter that cannot be read now adds nothing and keeps
//! its last value; the next good reading makes up for it, and is marked because it covers more than
//! its own interval. A counter that went down was reset: its new value is what it counted since, and
//! that reading is of kind [`ReadingKind::Reset`]. What was counted before the reset is lost, so it is
//! marked too.

use std::collections::BTreeMap;

use wharf_runtime::usage::{Measured, Reading};
use wharf_shared::reading::{MeterReading, ReadingKind, ReadingLimits, ReadingRecord, SeriesKey};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, Quality};

use super::traffic::{self, Look};

/// A meter, and where its counter is among what was seen.
type Source = (Meter, fn(&Look) -> Measured);

/// What is read of a cgroup; reserved meters follow from limits and time.
const OF_GROUP: [Source; 4] = [
    (Meter::CpuUsed, |now| now.reading.counters.cpu_usage_ns),
    (Meter::MemoryUsed, |now| now.reading.counters.memory_current_bytes),
    (Meter::BlockRead, |now| now.reading.counters.io_read_bytes),
    (Meter::BlockWrite, |now| now.reading.counters.io_write_bytes),
];

/// Every meter that is read, with what was found. One of traffic is there from its first byte on: most
/// containers know few of the classes, and a record has less to carry.
fn read(now: &Look) -> impl Iterator<Item = (Meter, Measured)> {
    let group = OF_GROUP.into_iter().map(|(meter, read)| (meter, read(now)));
    group.chain(traffic::METERS.into_iter().map(|(meter, class, way)| (meter, now.bytes(class, way))))
}

/// The supervisor and the agent read the same counters. A reading that began less than this after
/// the last one may have looked at a counter before that one did; a lower value is no reset then.
const OVERLAP_NS: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    raw: Option<u64>,
    cum: u128,
    /// The last reading could not read it.
    missed: bool,
}

impl Progress {
    /// Of a counter that counts from 0 since the series began.
    fn begun() -> Self {
        Self { raw: Some(0), ..Self::default() }
    }
}

/// What one meter did between two readings.
struct Step {
    raw: Option<u64>,
    delta: u128,
    quality: Quality,
    reset: bool,
}

impl Step {
    const fn counted(raw: u64, delta: u128, quality: Quality) -> Self {
        Self { raw: Some(raw), delta, quality, reset: false }
    }

    const fn nothing(raw: Option<u64>, quality: Quality) -> Self {
        Self { raw, delta: 0, quality, reset: false }
    }
}

/// One incarnation of a container as it is metered.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    key: SeriesKey,
    limits: ReadingLimits,
    source: BTreeMap<String, String>,
    progress: BTreeMap<Meter, Progress>,
    at_boot_ns: u64,
    at_utc: Timestamp,
    /// The memory level at `at_boot_ns` is known.
    level_known: bool,
}

impl Series {
    /// Begins a series of a cgroup that was just made: its counters count from 0, and the network
    /// namespace's too.
    pub(crate) fn open(
        key: SeriesKey,
        limits: ReadingLimits,
        source: BTreeMap<String, String>,
        now: &Look,
    ) -> (Self, ReadingRecord) {
        let mut series = Self {
            key,
            limits,
            source,
            progress: OF_GROUP.iter().map(|(meter, _)| (*meter, Progress::begun())).collect(),
            at_boot_ns: now.reading.boot_ns,
            at_utc: Timestamp(now.reading.realtime_us),
            level_known: true,
        };
        let (record, _) = series.record(ReadingKind::Open, now);
        (series, record)
    }

    /// Goes on from the last reading in the journal, taken by an earlier agent of this boot.
    pub(crate) fn resume(last: &ReadingRecord) -> Self {
        Self {
            key: last.series.clone(),
            limits: last.limits,
            source: last.source.clone(),
            progress: last
                .meters
                .iter()
                .map(|of| {
                    let missed = of.quality == Quality::Partial;
                    (of.meter, Progress { raw: of.raw, cum: of.cum, missed })
                })
                .collect(),
            at_boot_ns: last.t1_boot_ns,
            at_utc: last.t1_utc,
            level_known: false,
        }
    }

    pub(crate) fn limits(&self) -> ReadingLimits {
        self.limits
    }

    /// New limits hold from the last reading on; take a [`ReadingKind::Config`] reading first.
    pub(crate) fn set_limits(&mut self, limits: ReadingLimits) {
        self.limits = limits;
    }

    /// The reading from the last one until `now`. Where a counter was reset, the interval is of that
    /// kind, and one without length says why it was looked at.
    pub(crate) fn advance(&mut self, kind: ReadingKind, now: &Look) -> Vec<ReadingRecord> {
        match self.record(kind, now) {
            (record, false) => vec![record],
            (record, true) => {
                let reset = ReadingRecord { kind: ReadingKind::Reset, ..record };
                let why = (kind != ReadingKind::Periodic).then(|| self.record(kind, now).0);
                std::iter::once(reset).chain(why).collect()
            }
        }
    }

    /// The end of a series whose counters are gone: nothing after the last reading is known. On the
    /// boot clock the gap has no length, because that clock may have been another one since.
    pub(crate) fn gap(&mut self, now: Timestamp) -> ReadingRecord {
        let meters = self.progress.iter().map(|(meter, before)| {
            let quality = before.raw.map_or(Quality::NotMeasurable, |_| Quality::Partial);
            MeterReading { meter: *meter, raw: before.raw, cum: before.cum, delta: 0, quality }
        });
        ReadingRecord {
            series: self.key.clone(),
            kind: ReadingKind::Gap,
            t0_boot_ns: self.at_boot_ns,
            t1_boot_ns: self.at_boot_ns,
            t0_utc: self.at_utc,
            t1_utc: now,
            meters: meters.collect(),
            limits: self.limits,
            source: self.source.clone(),
        }
    }

    /// What was written back between the end of a container and `now`; all else stays as the end left it.
    /// Unless `is_whole`, more of it was still to come.
    pub(crate) fn tail(&self, now: &Reading, is_whole: bool) -> ReadingRecord {
        let mut meters = Vec::with_capacity(self.progress.len());
        for (meter, before) in &self.progress {
            let step = match meter {
                Meter::BlockRead => self.count(*before, now.counters.io_read_bytes, now.boot_ns),
                Meter::BlockWrite => self.count(*before, now.counters.io_write_bytes, now.boot_ns),
                _ => Step::nothing(
                    before.raw,
                    before.raw.map_or(Quality::NotMeasurable, |_| Quality::Measured),
                ),
            };
            let quality = match step.quality {
                Quality::Measured if *meter == Meter::BlockWrite && !is_whole => Quality::Partial,
                quality => quality,
            };
            let Step { raw, delta, .. } = step;
            meters.push(MeterReading { meter: *meter, raw, cum: before.cum + delta, delta, quality });
        }
        ReadingRecord {
            series: self.key.clone(),
            kind: ReadingKind::FinalBlock,
            t0_boot_ns: self.at_boot_ns,
            t1_boot_ns: now.boot_ns.max(self.at_boot_ns),
            t0_utc: self.at_utc,
            t1_utc: Timestamp(now.realtime_us),
            meters,
            limits: self.limits,
            source: self.source.clone(),
        }
    }

    /// The record, and whether a counter was reset in it.
    fn record(&mut self, kind: ReadingKind, now: &Look) -> (ReadingRecord, bool) {
        let boot_ns = now.reading.boot_ns;
        let mut meters = Vec::with_capacity(OF_GROUP.len());
        let mut reset = false;
        for (meter, value) in read(now) {
            let mut before = match self.progress.get(&meter) {
                Some(before) => *before,
                None if meter.is_network() => {
                    if !matches!(value, Measured::Value(1..)) {
                        continue;
                    }
                    Progress::begun()
                }
                None => Progress::default(),
            };
            if kind == ReadingKind::Open && value == Measured::NotMeasurable {
                before.raw = None;
            }
            let step = if meter == Meter::MemoryUsed {
                self.level(before, value, boot_ns)
            } else {
                self.count(before, value, boot_ns)
            };
            reset |= step.reset;
            let Step { raw, delta, quality, .. } = step;
            let cum = before.cum + delta;
            let missed = quality == Quality::Partial && !matches!(value, Measured::Value(_));
            self.progress.insert(meter, Progress { raw, cum, missed });
            meters.push(MeterReading { meter, raw, cum, delta, quality });
        }
        let record = ReadingRecord {
            series: self.key.clone(),
            kind,
            t0_boot_ns: self.at_boot_ns,
            t1_boot_ns: boot_ns.max(self.at_boot_ns),
            t0_utc: self.at_utc,
            t1_utc: Timestamp(now.reading.realtime_us),
            meters,
            limits: self.limits,
            source: self.source.clone(),
        };
        self.at_boot_ns = record.t1_boot_ns;
        self.at_utc = record.t1_utc;
        self.level_known = matches!(now.reading.counters.memory_current_bytes, Measured::Value(_));
        (record, reset)
    }

    /// A level counts as what it was at the begin, times the length.
    fn level(&self, before: Progress, now: Measured, boot_ns: u64) -> Step {
        let elapsed = u128::from(boot_ns.saturating_sub(self.at_boot_ns));
        match (now, before.raw) {
            (Measured::Value(level), Some(before)) if self.level_known => {
                Step::counted(level, u128::from(before) * elapsed, Quality::Measured)
            }
            // Without length there is nothing to know.
            (Measured::Value(level), _) if elapsed == 0 => Step::counted(level, 0, Quality::Measured),
            (Measured::Value(level), _) => Step::counted(level, 0, Quality::Partial),
            (Measured::NotMeasurable, None) => Step::nothing(None, Quality::NotMeasurable),
            (_, raw) => Step::nothing(raw, Quality::Partial),
        }
    }

    fn count(&self, before: Progress, now: Measured, boot_ns: u64) -> Step {
        let whole = if before.missed { Quality::Partial } else { Quality::Measured };
        match (now, before.raw) {
            (Measured::Value(value), Some(before)) if value >= before => {
                Step::counted(value, u128::from(value - before), whole)
            }
            (Measured::Value(_), Some(before)) if boot_ns < self.at_boot_ns.saturating_add(OVERLAP_NS) => {
                Step::counted(before, 0, whole)
            }
            (Measured::Value(value), Some(_)) => {
                Step { reset: true, ..Step::counted(value, value.into(), Quality::Partial) }
            }
            // It begins only now: what it counted before belongs to nobody knows when.
            (Measured::Value(value), None) => Step::counted(value, 0, Quality::Partial),
            (Measured::NotMeasurable, None) => Step::nothing(None, Quality::NotMeasurable),
            // It was there, and now it cannot be read.
            (Measured::NotMeasurable | Measured::Unreadable(_) | Measured::NotRead, raw) => {
                Step::nothing(raw, Quality::Partial)
            }
        }
    }
}

/// Counters that all have this value.
#[cfg(test)]
pub(super) fn all(value: Measured) -> wharf_runtime::usage::Counters {
    wharf_runtime::usage::Counters {
        cpu_usage_ns: value,
        cpu_user_ns: value,
        cpu_system_ns: value,
        cpu_periods: value,
        cpu_throttled_periods: value,
        cpu_throttled_ns: value,
        memory_current_bytes: value,
        memory_peak_bytes: value,
        memory_working_set_bytes: value,
        memory_swap_bytes: value,
        oom_kills: value,
        pids_current: value,
        io_read_bytes: value,
        io_write_bytes: value,
        io_reads: value,
        io_writes: value,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(second: u64, cpu: Measured, memory: u64) -> Look {
        let mut counters = all(Measured::NotMeasurable);
        counters.cpu_usage_ns = cpu;
        counters.memory_current_bytes = Measured::Value(memory);
        wharf_runtime::usage::Reading { boot_ns: second * 1_000_000_000, realtime_us: 0, counters }.into()
    }

    fn opened(now: &Look) -> (Series, ReadingRecord) {
        let key = SeriesKey { boot_id: "boot".to_owned(), tenant: None, container: None, incarnation: 1 };
        Series::open(key, ReadingLimits::default(), BTreeMap::new(), now)
    }

    fn one(series: &mut Series, kind: ReadingKind, now: &Look) -> ReadingRecord {
        let mut records = series.advance(kind, now);
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0)
    }

    fn meter(record: &ReadingRecord, meter: Meter) -> (u128, u128, Quality) {
        let reading = record.meter(meter).expect("read");
        (reading.cum, reading.delta, reading.quality)
    }

    #[test]
    fn cpu_spent_before_the_first_reading_is_counted() {
        let (_, open) = opened(&reading(1, Measured::Value(700), 0));
        assert_eq!(meter(&open, Meter::CpuUsed), (700, 700, Quality::Measured));
    }

    #[test]
    fn traffic_is_in_a_record_from_its_first_byte_on() {
        let with = |second, bytes| {
            let mut traffic = wharf_network::Traffic::default();
            let count = wharf_network::Count { bytes, packets: 1 };
            traffic.add(wharf_network::Class::Internet, wharf_network::Direction::Out, count);
            Look { traffic: Ok(traffic), ..reading(second, Measured::Value(0), 0) }
        };
        let (mut series, open) = opened(&with(0, 0));
        assert!(open.meter(Meter::NetworkInternetOut).is_none(), "nothing was sent yet");
        // An agent that was killed meanwhile knows of it as little.
        let mut later = Series::resume(&open);
        for series in [&mut series, &mut later] {
            let first = one(series, ReadingKind::Periodic, &with(1, 700));
            assert_eq!(meter(&first, Meter::NetworkInternetOut), (700, 700, Quality::Measured));
            assert!(first.meter(Meter::NetworkInternetIn).is_none());
            let still = one(series, ReadingKind::Periodic, &with(2, 700));
            assert_eq!(meter(&still, Meter::NetworkInternetOut), (700, 0, Quality::Measured));
            let gone = Look { traffic: Err(Measured::Unreadable(2)), ..with(3, 0) };
            let lost = one(series, ReadingKind::Final, &gone);
            assert_eq!(meter(&lost, Meter::NetworkInternetOut), (700, 0, Quality::Partial));
        }
    }

    #[test]
    fn memory_counts_as_the_level_at_the_begin_times_the_length() {
        let (mut series, _) = opened(&reading(0, Measured::Value(0), 10));
        let record = one(&mut series, ReadingKind::Periodic, &reading(2, Measured::Value(0), 50));
        assert_eq!(meter(&record, Meter::MemoryUsed).1, 20_000_000_000);
    }

    #[test]
    fn an_unreadable_counter_adds_nothing_and_the_reading_that_makes_up_for_it_is_marked() {
        let (mut series, _) = opened(&reading(0, Measured::Value(100), 0));
        let lost = one(&mut series, ReadingKind::Periodic, &reading(1, Measured::Unreadable(5), 0));
        assert_eq!(meter(&lost, Meter::CpuUsed), (100, 0, Quality::Partial));
        let mut later = Series::resume(&lost);
        for series in [&mut series, &mut later] {
            let next = one(series, ReadingKind::Periodic, &reading(2, Measured::Value(300), 0));
            assert_eq!(meter(&next, Meter::CpuUsed), (300, 200, Quality::Partial));
            let whole = one(series, ReadingKind::Periodic, &reading(3, Measured::Value(301), 0));
            assert_eq!(meter(&whole, Meter::CpuUsed), (301, 1, Quality::Measured));
        }
    }

    #[test]
    fn a_counter_that_was_there_and_is_gone_is_not_called_unmeasurable() {
        let (mut series, _) = opened(&reading(0, Measured::Value(100), 0));
        let gone = one(&mut series, ReadingKind::Final, &reading(1, Measured::NotMeasurable, 0));
        assert_eq!(meter(&gone, Meter::CpuUsed), (100, 0, Quality::Partial));
    }

    #[test]
    fn after_an_absence_cpu_is_counted_and_the_unknown_memory_is_not() {
        let (mut series, _) = opened(&reading(0, Measured::Value(0), 10));
        let last = one(&mut series, ReadingKind::Periodic, &reading(1, Measured::Value(5), 10));
        let mut back = Series::resume(&last);
        let adopted = one(&mut back, ReadingKind::Adopt, &reading(60, Measured::Value(905), 10));
        assert_eq!(meter(&adopted, Meter::CpuUsed), (905, 900, Quality::Measured));
        assert_eq!(meter(&adopted, Meter::MemoryUsed).1, 0);
        assert_eq!(adopted.t0_boot_ns, last.t1_boot_ns);
    }

    #[test]
    fn what_this_host_cannot_measure_is_never_a_zero() {
        let (_, open) = opened(&reading(0, Measured::Value(0), 0));
        let block = open.meter(Meter::BlockRead).expect("listed");
        assert_eq!((block.raw, block.quality), (None, Quality::NotMeasurable));
    }

    #[test]
    fn a_counter_that_was_reset_counts_its_new_value_in_a_reading_of_that_kind() {
        let (mut series, _) = opened(&reading(0, Measured::Value(100), 7));
        let reset = one(&mut series, ReadingKind::Periodic, &reading(10, Measured::Value(3), 7));
        assert_eq!(reset.kind, ReadingKind::Reset);
        assert_eq!(meter(&reset, Meter::CpuUsed), (103, 3, Quality::Partial));
        assert_eq!(meter(&reset, Meter::MemoryUsed), (70_000_000_000, 70_000_000_000, Quality::Measured));
        let next = one(&mut series, ReadingKind::Periodic, &reading(20, Measured::Value(8), 7));
        assert_eq!((next.kind, meter(&next, Meter::CpuUsed).1), (ReadingKind::Periodic, 5));
    }

    #[test]
    fn a_reset_seen_at_the_end_of_a_series_does_not_hide_the_end() {
        let (mut series, _) = opened(&reading(0, Measured::Value(100), 0));
        let ends = series.advance(ReadingKind::Final, &reading(10, Measured::Value(3), 0));
        let kinds: Vec<_> = ends.iter().map(|record| (record.kind, record.duration_ns())).collect();
        assert_eq!(kinds, [(ReadingKind::Reset, 10_000_000_000), (ReadingKind::Final, 0)]);
        assert_eq!(ends.iter().map(|record| meter(record, Meter::CpuUsed).1).sum::<u128>(), 3);
    }

    #[test]
    fn a_look_that_may_be_older_than_the_last_one_is_no_reset() {
        let (mut series, _) = opened(&reading(5, Measured::Value(100), 0));
        for second in [4, 5] {
            let late = one(&mut series, ReadingKind::Final, &reading(second, Measured::Value(99), 0));
            assert_eq!(meter(&late, Meter::CpuUsed), (100, 0, Quality::Measured));
            assert_eq!(late.duration_ns(), 0);
        }
        let after = one(&mut series, ReadingKind::Periodic, &reading(6, Measured::Value(101), 0));
        assert_eq!(meter(&after, Meter::CpuUsed).1, 1, "nothing is counted twice");
    }

    #[test]
    fn a_gap_has_no_length_on_the_boot_clock_and_counts_nothing() {
        let (mut series, open) = opened(&reading(500, Measured::Value(100), 9));
        let gap = series.gap(Timestamp(77));
        assert_eq!(
            (gap.kind, gap.t0_boot_ns, gap.t1_boot_ns),
            (ReadingKind::Gap, 500_000_000_000, 500_000_000_000)
        );
        assert_eq!((gap.t0_utc, gap.t1_utc), (open.t1_utc, Timestamp(77)));
        assert_eq!(meter(&gap, Meter::CpuUsed), (100, 0, Quality::Partial));
        assert_eq!(meter(&gap, Meter::MemoryUsed).1, 0);
        assert_eq!(meter(&gap, Meter::BlockRead).2, Quality::NotMeasurable);
    }

    #[test]
    fn behind_the_end_only_writes_are_counted_and_marked_if_more_was_to_come() {
        let with = |second, cpu, written| {
            let mut look = reading(second, Measured::Value(cpu), 7);
            look.reading.counters.io_read_bytes = Measured::Value(0);
            look.reading.counters.io_write_bytes = Measured::Value(written);
            look
        };
        let (mut series, _) = opened(&with(0, 0, 0));
        let end = one(&mut series, ReadingKind::Final, &with(10, 500, 4_096));
        for (is_whole, quality) in [(true, Quality::Measured), (false, Quality::Partial)] {
            let tail = Series::resume(&end).tail(&with(40, 777, 65_536).reading, is_whole);
            assert_eq!((tail.kind, tail.duration_ns()), (ReadingKind::FinalBlock, 30_000_000_000));
            assert_eq!(meter(&tail, Meter::BlockWrite), (65_536, 61_440, quality));
            assert_eq!(meter(&tail, Meter::BlockRead), (0, 0, Quality::Measured));
            assert_eq!(meter(&tail, Meter::CpuUsed), (500, 0, Quality::Measured));
            assert_eq!(meter(&tail, Meter::MemoryUsed).1, 0);
            wharf_billing::ledger::series::check(Some(&end), &tail).expect("it goes on from the end");
        }
    }

    proptest! {
        /// Counters that grow, reset and cannot be read in any order: what is billed is every rise that
        /// the kernel still showed, never more than it counted, and the series telescopes.
        #[test]
        fn whatever_a_counter_does_the_differences_are_its_rises(
            steps in proptest::collection::vec((0_u8..8, 0_u64..1_000_000), 1..60)
        ) {
            let (mut series, open) = opened(&reading(0, Measured::Value(0), 0));
            let (mut counter, mut seen, mut truth, mut billed) = (0_u64, 0_u64, 0_u128, 0_u128);
            let mut cum = meter(&open, Meter::CpuUsed).0;
            for (second, (what, by)) in (1_u64..).zip(steps) {
                let down = what == 0 && by < seen;
                counter = if down { by } else { counter + by };
                let value = if what == 1 { Measured::Unreadable(5) } else { Measured::Value(counter) };
                if what == 1 {
                    let lost = one(&mut series, ReadingKind::Periodic, &reading(10 * second, value, 0));
                    prop_assert_eq!(meter(&lost, Meter::CpuUsed), (cum, 0, Quality::Partial));
                } else {
                    truth += u128::from(if counter < seen { counter } else { counter - seen });
                    let reset = counter < seen;
                    seen = counter;
                    let records = series.advance(ReadingKind::Periodic, &reading(10 * second, value, 0));
                    prop_assert_eq!(records.iter().any(|record| record.kind == ReadingKind::Reset), reset);
                    for record in &records {
                        let (now, delta, _) = meter(record, Meter::CpuUsed);
                        prop_assert_eq!(now - delta, cum);
                        cum = now;
                        billed += delta;
                    }
                }
                prop_assert_eq!(billed, truth);
            }
        }
    }
}
