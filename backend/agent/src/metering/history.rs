//! The last points of a container, for its charts.
//!
//! They are the largest thing that the agent keeps for a container that does nothing, so each is a row of plain
//! numbers: without the container's id and the currency, which are the same in all, and without strain.

use std::collections::VecDeque;

use wharf_shared::decimal::Decimal;
use wharf_shared::id::ContainerId;
use wharf_shared::live::MetricsPoint;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Measured;

/// So many are kept: 15 minutes at one in 5 s.
const POINTS: usize = 180;
/// Set in a number that is none.
const NO_VALUE: u64 = 1 << 63;
const NOT_MEASURABLE: u64 = u64::MAX;

/// The points, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    points: VecDeque<Past>,
    currency: String,
}

#[derive(Debug)]
struct Past {
    at: Timestamp,
    memory_limit_bytes: Option<u64>,
    cost_per_hour: Box<str>,
    numbers: [u64; 8],
}

impl History {
    /// Adds one, and drops the oldest when there are too many.
    pub(super) fn push(&mut self, point: &MetricsPoint) {
        if self.points.len() >= POINTS {
            self.points.pop_front();
        }
        if self.currency != point.currency {
            self.currency.clone_from(&point.currency);
        }
        self.points.push_back(Past {
            at: point.at,
            memory_limit_bytes: point.memory_limit_bytes,
            cost_per_hour: point.cost_per_hour.to_string().into(),
            numbers: [
                point.cpu_millis,
                point.memory_working_set_bytes,
                point.memory_current_bytes,
                point.network_receive_bytes_per_s,
                point.network_transmit_bytes_per_s,
                point.io_read_bytes_per_s,
                point.io_write_bytes_per_s,
                point.pids,
            ]
            .map(pack),
        });
    }

    /// All of them as points of this container, at the currency of today.
    pub(super) fn points(&self, container: &ContainerId) -> Vec<MetricsPoint> {
        let point = |past: &Past| {
            let [cpu, working_set, current, receive, transmit, read, write, pids] = past.numbers.map(unpack);
            MetricsPoint {
                container: container.clone(),
                at: past.at,
                cpu_millis: cpu,
                memory_working_set_bytes: working_set,
                memory_current_bytes: current,
                memory_limit_bytes: past.memory_limit_bytes,
                network_receive_bytes_per_s: receive,
                network_transmit_bytes_per_s: transmit,
                io_read_bytes_per_s: read,
                io_write_bytes_per_s: write,
                pids,
                strain: None,
                cost_per_hour: past.cost_per_hour.parse().unwrap_or_else(|_never| Decimal::zero()),
                currency: self.currency.clone(),
            }
        };
        self.points.iter().map(point).collect()
    }
}

/// One word: no counter of this kernel comes near 2⁶³, and an errno is small.
fn pack(measured: Measured) -> u64 {
    match measured {
        Measured::Value(value) => value.min(NO_VALUE - 1),
        Measured::NotMeasurable => NOT_MEASURABLE,
        Measured::Unreadable(errno) => NO_VALUE | u64::from(errno.unsigned_abs()),
    }
}

fn unpack(word: u64) -> Measured {
    match word {
        NOT_MEASURABLE => Measured::NotMeasurable,
        value if value & NO_VALUE == 0 => Measured::Value(value),
        failed => Measured::Unreadable(i32::try_from(failed & !NO_VALUE).unwrap_or(i32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: i64) -> MetricsPoint {
        let container: ContainerId = "c".repeat(64).parse().expect("an id");
        MetricsPoint {
            container,
            at: Timestamp(at),
            cpu_millis: Measured::Value(1_500),
            memory_working_set_bytes: Measured::Unreadable(5),
            memory_current_bytes: Measured::Value(0),
            memory_limit_bytes: Some(u64::MAX),
            network_receive_bytes_per_s: Measured::NotMeasurable,
            network_transmit_bytes_per_s: Measured::Value((1 << 63) - 1),
            io_read_bytes_per_s: Measured::Unreadable(0),
            io_write_bytes_per_s: Measured::Value(7),
            pids: Measured::Value(3),
            strain: None,
            cost_per_hour: "0.000012".parse().expect("a number"),
            currency: "EUR".to_owned(),
        }
    }

    #[test]
    fn the_last_points_come_back_as_they_were() {
        let mut history = History::default();
        for at in 0..200 {
            history.push(&point(at));
        }
        let container: ContainerId = "c".repeat(64).parse().expect("an id");
        let expected: Vec<_> = (20..200).map(point).collect();
        assert_eq!(history.points(&container), expected);
    }
}
