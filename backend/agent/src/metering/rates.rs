//! From two readings of the same counters to what the dashboard shows: pure.
//!
//! A counter that cannot be read stays "unreadable"; it never becomes 0.

use wharf_runtime::usage::{Counters, Measured as Counter, Reading, Strain as Suffered};
use wharf_shared::decimal::Decimal;
use wharf_shared::id::ContainerId;
use wharf_shared::live::{MetricsPoint, Strain};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Measured;

/// A point without its price.
pub(super) fn point(
    container: &ContainerId,
    before: &Reading,
    now: &Reading,
    suffered: &Suffered,
    memory_limit_bytes: Option<u64>,
) -> MetricsPoint {
    let per_second = |counter: fn(&Counters) -> Counter| rate(before, now, counter, 1_000_000_000);
    MetricsPoint {
        container: container.clone(),
        at: Timestamp(now.realtime_us),
        // Nanoseconds of CPU per nanosecond are CPUs; a thousandth of one is the unit.
        cpu_millis: rate(before, now, |counters| counters.cpu_usage_ns, 1_000),
        memory_working_set_bytes: wire(now.counters.memory_working_set_bytes),
        memory_current_bytes: wire(now.counters.memory_current_bytes),
        memory_limit_bytes,
        network_receive_bytes_per_s: per_second(|counters| counters.network_receive_bytes),
        network_transmit_bytes_per_s: per_second(|counters| counters.network_transmit_bytes),
        io_read_bytes_per_s: per_second(|counters| counters.io_read_bytes),
        io_write_bytes_per_s: per_second(|counters| counters.io_write_bytes),
        pids: wire(now.counters.pids_current),
        strain: Some(Box::new(strain(&now.counters, suffered))),
        cost_per_hour: Decimal::zero(),
        currency: String::new(),
    }
}

fn strain(counters: &Counters, suffered: &Suffered) -> Strain {
    let throttled = match wire(counters.cpu_throttled_ns) {
        Measured::Value(time) => Measured::Value(time / 1_000),
        other => other,
    };
    Strain {
        cpu_throttled_periods: wire(counters.cpu_throttled_periods),
        cpu_throttled_us: throttled,
        oom_kills: wire(counters.oom_kills),
        memory_high_events: wire(suffered.memory_high_events),
        memory_max_events: wire(suffered.memory_max_events),
        cpu_pressure_us: wire(suffered.cpu_pressure_us),
        memory_pressure_us: wire(suffered.memory_pressure_us),
        io_pressure_us: wire(suffered.io_pressure_us),
    }
}

/// The kernel's number as it crosses the wire.
pub(super) fn wire(counter: Counter) -> Measured {
    match counter {
        Counter::Value(value) => Measured::Value(value),
        // A container's first reading asks for every counter; one that was never read is not known.
        Counter::NotRead | Counter::NotMeasurable => Measured::NotMeasurable,
        Counter::Unreadable(errno) => Measured::Unreadable(errno),
    }
}

/// How fast a counter grew, in `scale` per nanosecond. One that went down was reset: it counted what
/// it says since.
fn rate(before: &Reading, now: &Reading, counter: fn(&Counters) -> Counter, scale: u128) -> Measured {
    let value = match counter(&now.counters) {
        Counter::Value(value) => value,
        other => return wire(other),
    };
    let earlier = match counter(&before.counters) {
        Counter::Value(value) => value,
        other => return wire(other),
    };
    let elapsed = u128::from(now.boot_ns.saturating_sub(before.boot_ns)).max(1);
    let grown = u128::from(value.checked_sub(earlier).unwrap_or(value));
    Measured::Value(u64::try_from(grown * scale / elapsed).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_count_of_strain_is_not_0() {
        let mut counters = crate::metering::series::all(Counter::NotMeasurable);
        counters.cpu_throttled_ns = Counter::Value(2_500);
        let nothing = Counter::Unreadable(5);
        let suffered = Suffered {
            memory_high_events: Counter::NotMeasurable,
            memory_max_events: Counter::Value(3),
            cpu_pressure_us: nothing,
            memory_pressure_us: nothing,
            io_pressure_us: nothing,
        };
        let strain = strain(&counters, &suffered);
        assert_eq!(
            (strain.cpu_throttled_us, strain.memory_max_events),
            (Measured::Value(2), Measured::Value(3))
        );
        assert_eq!(strain.io_pressure_us, Measured::Unreadable(5));
        assert_eq!(
            (strain.memory_high_events, strain.oom_kills),
            (Measured::NotMeasurable, Measured::NotMeasurable)
        );
    }

    fn reading(boot_ns: u64, cpu: Counter) -> Reading {
        let mut reading = Reading {
            boot_ns,
            realtime_us: 0,
            counters: crate::metering::series::all(Counter::NotMeasurable),
        };
        reading.counters.cpu_usage_ns = cpu;
        reading
    }

    #[test]
    fn half_a_cpu_for_two_seconds_is_500_millis() {
        let (before, now) =
            (reading(0, Counter::Value(0)), reading(2_000_000_000, Counter::Value(1_000_000_000)));
        let rate = rate(&before, &now, |counters| counters.cpu_usage_ns, 1_000);
        assert_eq!(rate, Measured::Value(500));
    }

    #[test]
    fn a_reset_counter_shows_what_it_counted_since() {
        let (before, now) = (reading(0, Counter::Value(900)), reading(1_000_000_000, Counter::Value(5)));
        let rate = rate(&before, &now, |counters| counters.cpu_usage_ns, 1_000_000_000);
        assert_eq!(rate, Measured::Value(5));
    }

    #[test]
    fn what_cannot_be_read_is_not_zero() {
        let (before, now) = (reading(0, Counter::Value(0)), reading(1, Counter::Unreadable(19)));
        let rate = rate(&before, &now, |counters| counters.cpu_usage_ns, 1_000);
        assert_eq!(rate, Measured::Unreadable(19));
    }
}
