//! When a reading of a container goes into the journal, and when it is a full one: pure.
//!
//! Each container has a phase of its own in the interval, which follows from its id, so that a host
//! with many of them writes a few at every tick and never all at once. Every five minutes of UTC all
//! are written, so that hours and prices begin with a reading.

use std::time::Duration;

use wharf_shared::time::{SECOND_US, Timestamp};

/// All are read at whole multiples of this.
const EDGE_US: i64 = 300 * SECOND_US;

/// Whose turn it is: a reading is due when this is not what it was at the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    own: i64,
    edge: i64,
}

/// The turn of this id at this moment.
pub(super) fn turn(id: &str, now: Timestamp, interval: Duration) -> Turn {
    let interval_us = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX).max(1);
    // FNV-1a: the same in every build, unlike the standard library's hash.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let phase_us = i64::try_from(hash >> 1).unwrap_or(0) % interval_us;
    Turn { own: (now.0 + phase_us).div_euclid(interval_us), edge: now.0.div_euclid(EDGE_US) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn id(number: u64) -> String {
        format!("{number:064x}")
    }

    /// How many of these are due at each second of `seconds`.
    fn due(ids: u64, seconds: std::ops::Range<i64>) -> Vec<usize> {
        seconds
            .map(|second| {
                let at = |second: i64, id: &str| turn(id, Timestamp(second * SECOND_US), INTERVAL);
                (0..ids).map(id).filter(|id| at(second, id) != at(second - 1, id)).count()
            })
            .collect()
    }

    #[test]
    fn each_is_due_once_in_an_interval_and_they_are_spread_over_it() {
        let counts = due(1_000, 1..11);
        assert_eq!(counts.iter().sum::<usize>(), 1_000);
        assert!(counts.iter().all(|count| (60..150).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_is_due_every_minute_is_due_at_a_turn_of_ten_seconds_too() {
        let at = |number, second: i64, interval| turn(&id(number), Timestamp(second * SECOND_US), interval);
        let due = |number, second, interval| at(number, second, interval) != at(number, second - 1, interval);
        for number in 0..50 {
            for second in 1..=61 {
                let written = due(number, second, Duration::from_mins(1));
                assert!(!written || due(number, second, INTERVAL), "{number} at {second}");
            }
        }
    }

    #[test]
    fn all_are_due_at_every_fifth_minute_and_so_at_each_full_hour() {
        assert_eq!(due(50, 300..301), [50]);
        assert_eq!(due(50, 3_600..3_601), [50]);
    }
}
