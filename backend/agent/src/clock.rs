//! The only place that asks what time of day it is.
//!
//! Wall time is recorded and shown; durations in metering come from the boot clock in each reading,
//! which goes on while the machine sleeps and is never set.

use std::sync::Arc;

use nix::time::{ClockId, clock_gettime};
use wharf_shared::time::Timestamp;

/// Tells the time.
pub(crate) trait Clock: Send + Sync + std::fmt::Debug {
    /// UTC.
    fn now(&self) -> Timestamp;

    /// `CLOCK_BOOTTIME` in nanoseconds: durations are differences of this.
    fn boot_ns(&self) -> u64;
}

/// The machine's own clock.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl SystemClock {
    pub(crate) fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // The clock exists on every kernel we run on; 1970 would be refused by every check of time.
        clock_gettime(ClockId::CLOCK_REALTIME)
            .map_or(Timestamp(0), |time| Timestamp(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000))
    }

    fn boot_ns(&self) -> u64 {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME);
        time.ok()
            .and_then(|time| u64::try_from(time.tv_sec() * 1_000_000_000 + time.tv_nsec()).ok())
            .unwrap_or(0)
    }
}
