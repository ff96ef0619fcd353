//! Old events and audit entries go after a while, or the store would fill the disk.

use std::time::Duration;

use wharf_shared::time::Timestamp;
use wharf_store::retention::Keep;
use wharf_store::{audit, events};

use super::EventBus;
use crate::config::Retention;
use crate::error::{Result, chain};
use crate::tasks::{OnEnd, Tasks};

/// Between two looks; days matter, not minutes.
const EVERY: Duration = Duration::from_hours(1);
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

impl EventBus {
    /// Removes what is too old or too much, now and every hour until the agent stops.
    pub(crate) fn retain(&self, retention: Retention, tasks: &Tasks) {
        let (bus, stop) = (self.clone(), tasks.stopping());
        tasks.spawn("remove old records", OnEnd::Fine, async move {
            loop {
                match bus.purge(&retention).await {
                    Ok((0, 0)) => {}
                    Ok((events, entries)) => tracing::info!(events, entries, "old records were removed"),
                    Err(error) => tracing::error!(
                        error = chain(&error),
                        "old records were not removed; it is tried again in an hour"
                    ),
                }
                // Dropping the sleep loses nothing.
                tokio::select! {
                    () = tokio::time::sleep(EVERY) => {}
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    /// Removes what need not be kept any more; returns how many events and how many audit entries.
    pub(crate) async fn purge(&self, retention: &Retention) -> Result<(u64, u64)> {
        let now = self.clock.now();
        let kept_events = keep(now, retention.events_days, retention.events_max);
        let kept_entries = keep(now, retention.audit_days, retention.audit_max);
        let (mut removed_events, mut removed_entries) = (0, 0);
        loop {
            let mut tx = self.db.begin().await?;
            let events = events::purge(&mut tx, &kept_events).await?;
            let entries = audit::purge(&mut tx, &kept_entries).await?;
            tx.commit().await?;
            removed_events += events;
            removed_entries += entries;
            if (events, entries) == (0, 0) {
                return Ok((removed_events, removed_entries));
            }
        }
    }
}

/// What these settings keep; 0 is no bound.
fn keep(now: Timestamp, days: u32, rows: u32) -> Keep {
    Keep {
        since: (days > 0).then(|| Timestamp(now.0.saturating_sub(i64::from(days).saturating_mul(DAY_US)))),
        rows: (rows > 0).then_some(i64::from(rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_bound() {
        let now = Timestamp(10 * DAY_US);
        assert_eq!(keep(now, 0, 0), Keep::default());
        assert_eq!(keep(now, 3, 5), Keep { since: Some(Timestamp(7 * DAY_US)), rows: Some(5) });
    }
}
