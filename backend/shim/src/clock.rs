//! The two clocks of every record: how long (boot time, never set back) and when (real time).

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// `CLOCK_BOOTTIME` in nanoseconds: runs through suspend, comparable within one boot only.
    pub boot_ns: u64,
    /// `CLOCK_REALTIME` in microseconds since 1970.
    pub realtime_us: i64,
}

impl Moment {
    /// Reads both clocks.
    pub fn now() -> Self {
        let boot = clock_gettime(ClockId::Boottime);
        let real = clock_gettime(ClockId::Realtime);
        Self {
            boot_ns: nanoseconds(boot.tv_sec, boot.tv_nsec),
            realtime_us: real.tv_sec.saturating_mul(1_000_000).saturating_add(real.tv_nsec / 1_000),
        }
    }
}

/// Returns `CLOCK_REALTIME` in nanoseconds since 1970, for log records.
pub fn realtime_ns() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    nanoseconds(now.tv_sec, now.tv_nsec)
}

/// A moment before the clock's zero counts as zero.
fn nanoseconds(seconds: i64, nanoseconds: i64) -> u64 {
    u64::try_from(seconds)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(nanoseconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_does_not_run_backwards() {
        let first = Moment::now();
        let second = Moment::now();
        assert!(second.boot_ns >= first.boot_ns);
    }

    #[test]
    fn both_forms_of_real_time_agree() {
        let before = Moment::now().realtime_us;
        let between = i64::try_from(realtime_ns() / 1_000).expect("fits until the year 294247");
        let after = Moment::now().realtime_us;
        assert!(before <= between && between <= after);
    }
}
