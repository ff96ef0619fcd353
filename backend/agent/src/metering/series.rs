//! From the kernel's counters to readings of one series: pure.
//!
//! Each reading carries, for each meter, the value so far and the difference to the reading before,
//! so that nothing can be lost or counted twice unseen. Counters are differences of what the kernel
//! counted. Memory is a level: it counts as the level at the interval's begin times its length
//! (left step), and only over intervals whose begin this agent has seen; after an absence the level
//! in between is unknown and is not billed. A counter that cannot be read now adds nothing and keeps
//! its last value, so the next good reading makes up for it.

use std::collections::BTreeMap;

use wharf_runtime::usage::{Counters, Measured, Reading};
use wharf_shared::reading::{MeterReading, ReadingKind, ReadingLimits, ReadingRecord, SeriesKey};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, Quality};

/// A meter, and where its counter is among those that were read.
type Source = (Meter, fn(&Counters) -> Measured);

/// The meters that are read; reserved ones follow from limits and time.
const READ: [Source; 6] = [
    (Meter::CpuUsed, |counters| counters.cpu_usage_ns),
    (Meter::MemoryUsed, |counters| counters.memory_current_bytes),
    (Meter::NetworkIn, |counters| counters.network_receive_bytes),
    (Meter::NetworkOut, |counters| counters.network_transmit_bytes),
    (Meter::BlockRead, |counters| counters.io_read_bytes),
    (Meter::BlockWrite, |counters| counters.io_write_bytes),
];

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    raw: Option<u64>,
    cum: u128,
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
        now: &Reading,
    ) -> (Self, ReadingRecord) {
        let mut series = Self {
            key,
            limits,
            source,
            progress: READ.iter().map(|(meter, _)| (*meter, Progress { raw: Some(0), cum: 0 })).collect(),
            at_boot_ns: now.boot_ns,
            at_utc: Timestamp(now.realtime_us),
            level_known: true,
        };
        let record = series.advance(ReadingKind::Open, now);
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
                .map(|reading| (reading.meter, Progress { raw: reading.raw, cum: reading.cum }))
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

    /// The reading from the last one until `now`.
    pub(crate) fn advance(&mut self, kind: ReadingKind, now: &Reading) -> ReadingRecord {
        let elapsed = now.boot_ns.saturating_sub(self.at_boot_ns);
        let mut meters = Vec::with_capacity(READ.len());
        for (meter, read) in READ {
            let before = self.progress.get(&meter).copied().unwrap_or_default();
            let (raw, delta, quality) = match (read(&now.counters), before.raw) {
                (Measured::NotMeasurable, _) => (None, 0, Quality::NotMeasurable),
                (Measured::Unreadable(_) | Measured::NotRead, raw) => (raw, 0, Quality::Partial),
                (Measured::Value(level), raw) if meter == Meter::MemoryUsed => match raw {
                    Some(before) if self.level_known => {
                        (Some(level), u128::from(before) * u128::from(elapsed), Quality::Measured)
                    }
                    _ => (Some(level), 0, Quality::Partial),
                },
                (Measured::Value(value), Some(before)) if value >= before => {
                    (Some(value), u128::from(value - before), Quality::Measured)
                }
                // The counter went down, or begins only now: what it counted in between is unknown.
                (Measured::Value(value), _) => (Some(value), 0, Quality::Partial),
            };
            let cum = before.cum + delta;
            self.progress.insert(meter, Progress { raw, cum });
            meters.push(MeterReading { meter, raw, cum, delta, quality });
        }
        let record = ReadingRecord {
            series: self.key.clone(),
            kind,
            t0_boot_ns: self.at_boot_ns,
            t1_boot_ns: now.boot_ns.max(self.at_boot_ns),
            t0_utc: self.at_utc,
            t1_utc: Timestamp(now.realtime_us),
            meters,
            limits: self.limits,
            source: self.source.clone(),
        };
        self.at_boot_ns = record.t1_boot_ns;
        self.at_utc = record.t1_utc;
        self.level_known = matches!(now.counters.memory_current_bytes, Measured::Value(_));
        record
    }
}

/// Counters that all have this value.
pub(super) fn all(value: Measured) -> Counters {
    Counters {
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
        network_receive_bytes: value,
        network_transmit_bytes: value,
        network_receive_packets: value,
        network_transmit_packets: value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(second: u64, cpu: Measured, memory: u64) -> Reading {
        let mut counters = all(Measured::NotMeasurable);
        counters.cpu_usage_ns = cpu;
        counters.memory_current_bytes = Measured::Value(memory);
        Reading { boot_ns: second * 1_000_000_000, realtime_us: 0, counters }
    }

    fn opened(now: &Reading) -> (Series, ReadingRecord) {
        let key = SeriesKey { boot_id: "boot".to_owned(), tenant: None, container: None, incarnation: 1 };
        Series::open(key, ReadingLimits::default(), BTreeMap::new(), now)
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
    fn memory_counts_as_the_level_at_the_begin_times_the_length() {
        let (mut series, _) = opened(&reading(0, Measured::Value(0), 10));
        let record = series.advance(ReadingKind::Periodic, &reading(2, Measured::Value(0), 50));
        assert_eq!(meter(&record, Meter::MemoryUsed).1, 20_000_000_000);
    }

    #[test]
    fn an_unreadable_counter_adds_nothing_and_the_next_reading_makes_up_for_it() {
        let (mut series, _) = opened(&reading(0, Measured::Value(100), 0));
        let lost = series.advance(ReadingKind::Periodic, &reading(1, Measured::Unreadable(5), 0));
        assert_eq!(meter(&lost, Meter::CpuUsed), (100, 0, Quality::Partial));
        let next = series.advance(ReadingKind::Periodic, &reading(2, Measured::Value(300), 0));
        assert_eq!(meter(&next, Meter::CpuUsed), (300, 200, Quality::Measured));
    }

    #[test]
    fn after_an_absence_cpu_is_counted_and_the_unknown_memory_is_not() {
        let (mut series, _) = opened(&reading(0, Measured::Value(0), 10));
        let last = series.advance(ReadingKind::Periodic, &reading(1, Measured::Value(5), 10));
        let mut back = Series::resume(&last);
        let adopted = back.advance(ReadingKind::Adopt, &reading(60, Measured::Value(905), 10));
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
    fn a_counter_that_went_down_bills_nothing_for_the_interval() {
        let (mut series, _) = opened(&reading(0, Measured::Value(100), 0));
        let reset = series.advance(ReadingKind::Reset, &reading(1, Measured::Value(3), 0));
        assert_eq!(meter(&reset, Meter::CpuUsed), (100, 0, Quality::Partial));
    }
}
