//! The time of this machine, for ages in tables and for spans such as `--since 10m`.

use std::time::{SystemTime, UNIX_EPOCH};

use wharf_shared::time::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
