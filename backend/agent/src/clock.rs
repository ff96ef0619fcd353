//! The only place that asks what time it is.
//!
//! Wall time is recorded and shown; durations in metering come from CLOCK_BOOTTIME, which goes on
//! while the machine sleeps and is never set (`clock_gettime(2)`).

use std::sync::Arc;

use nix::time::{ClockId, clock_gettime};
use wharf_shared::time::Timestamp;

/// Tells the time.
pub(crate) trait Clock: Send + Sync + std::fmt::Debug {
    /// UTC.
    fn now(&self) -> Timestamp;
    /// Nanoseconds since boot, sleep included.
    fn boot_ns(&self) -> u64;
}

/// The machine's own clocks.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl SystemClock {
    pub(crate) fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // Both clocks exist on every kernel we run on; 1970 would be refused by every check of time.
        clock_gettime(ClockId::CLOCK_REALTIME)
            .map_or(Timestamp(0), |time| Timestamp(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000))
    }

    fn boot_ns(&self) -> u64 {
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
            u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
                + u64::try_from(time.tv_nsec()).unwrap_or(0)
        })
    }
}
