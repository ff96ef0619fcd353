//! From two readings of the same counters to what the dashboard shows: pure.
//!
//! A counter that cannot be read stays "unreadable"; it never becomes 0.

use wharf_network::Direction;
use wharf_runtime::usage::{Counters, Measured as Counter, Strain as Suffered};
use wharf_shared::decimal::Decimal;
use wharf_shared::id::ContainerId;
use wharf_shared::live::{MetricsPoint, Strain};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Measured, Meter};

use super::traffic::{self, Look};

/// A point without its price.
pub(super) fn point(
    container: &ContainerId,
    before: &Look,
    now: &Look,
    suffered: &Suffered,
    memory_limit_bytes: Option<u64>,
) -> MetricsPoint {
    let per_second = |counter: fn(&Look) -> Counter| rate(before, now, counter, 1_000_000_000);
    let counters = &now.reading.counters;
    MetricsPoint {
        container: container.clone(),
        at: Timestamp(now.reading.realtime_us),
        // Nanoseconds of CPU per nanosecond are CPUs; a thousandth of one is the unit.
        cpu_millis: rate(before, now, |of| of.reading.counters.cpu_usage_ns, 1_000),
        memory_working_set_bytes: wire(counters.memory_working_set_bytes),
        memory_current_bytes: wire(counters.memory_current_bytes),
        memory_limit_bytes,
        network_receive_bytes_per_s: per_second(|of| of.total(Direction::In, |count| count.bytes)),
        network_transmit_bytes_per_s: per_second(|of| of.total(Direction::Out, |count| count.bytes)),
        io_read_bytes_per_s: per_second(|of| of.reading.counters.io_read_bytes),
        io_write_bytes_per_s: per_second(|of| of.reading.counters.io_write_bytes),
        pids: wire(counters.pids_current),
        strain: Some(Box::new(strain(counters, suffered))),
        cost_per_hour: Decimal::zero(),
        currency: String::new(),
    }
}

/// What each class of traffic counts in a second like this one, in bytes.
pub(super) fn traffic(before: &Look, now: &Look) -> Vec<(Meter, u64)> {
    let growing = traffic::METERS.into_iter().filter_map(|(meter, class, direction)| {
        let per_second = rate(before, now, |of| of.bytes(class, direction), 1_000_000_000);
        Some((meter, per_second.value().filter(|bytes| *bytes > 0)?))
    });
    growing.collect()
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
fn rate(before: &Look, now: &Look, counter: impl Fn(&Look) -> Counter, scale: u128) -> Measured {
    let value = match counter(now) {
        Counter::Value(value) => value,
        other => return wire(other),
    };
    let earlier = match counter(before) {
        Counter::Value(value) => value,
        other => return wire(other),
    };
    let elapsed = u128::from(now.reading.boot_ns.saturating_sub(before.reading.boot_ns)).max(1);
    let grown = u128::from(value.checked_sub(earlier).unwrap_or(value));
    Measured::Value(u64::try_from(grown * scale / elapsed).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use wharf_network::{Class, Count};

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

    fn reading(boot_ns: u64, cpu: Counter) -> Look {
        let mut reading = wharf_runtime::usage::Reading {
            boot_ns,
            realtime_us: 0,
            counters: crate::metering::series::all(Counter::NotMeasurable),
        };
        reading.counters.cpu_usage_ns = cpu;
        reading.into()
    }

    #[test]
    fn half_a_cpu_for_two_seconds_is_500_millis() {
        let (before, now) =
            (reading(0, Counter::Value(0)), reading(2_000_000_000, Counter::Value(1_000_000_000)));
        let rate = rate(&before, &now, |of| of.reading.counters.cpu_usage_ns, 1_000);
        assert_eq!(rate, Measured::Value(500));
    }

    #[test]
    fn traffic_is_told_apart_by_whom_it_is_with() {
        let mut looks = [0_u64, 2_000_000_000].map(|at| reading(at, Counter::Value(0)));
        let mut traffic = wharf_network::Traffic::default();
        looks[0].traffic = Ok(traffic);
        traffic.add(Class::Host, Direction::In, Count { bytes: 600, packets: 2 });
        traffic.add(Class::Cross, Direction::In, Count { bytes: 400, packets: 1 });
        looks[1].traffic = Ok(traffic);
        let classes = super::traffic(&looks[0], &looks[1]);
        assert_eq!(classes, [(Meter::NetworkCrossIn, 200), (Meter::NetworkHostIn, 300)]);
        let all =
            rate(&looks[0], &looks[1], |of| of.total(Direction::In, |count| count.bytes), 1_000_000_000);
        assert_eq!(all, Measured::Value(500));
        looks[1].traffic = Err(Counter::Unreadable(2));
        assert_eq!(super::traffic(&looks[0], &looks[1]), []);
    }

    #[test]
    fn a_reset_counter_shows_what_it_counted_since() {
        let (before, now) = (reading(0, Counter::Value(900)), reading(1_000_000_000, Counter::Value(5)));
        let rate = rate(&before, &now, |of| of.reading.counters.cpu_usage_ns, 1_000_000_000);
        assert_eq!(rate, Measured::Value(5));
    }

    #[test]
    fn what_cannot_be_read_is_not_zero() {
        let (before, now) = (reading(0, Counter::Value(0)), reading(1, Counter::Unreadable(19)));
        let rate = rate(&before, &now, |of| of.reading.counters.cpu_usage_ns, 1_000);
        assert_eq!(rate, Measured::Unreadable(19));
    }
}
