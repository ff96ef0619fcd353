//! Whether and when a container that ended is started again: pure.

use std::time::Duration;

use wharf_shared::container::{ExitView, RestartPolicy};

/// First wait; doubles with each restart in a row.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// No wait is longer.
const BACKOFF_MOST: Duration = Duration::from_mins(1);
/// A container that ran this long starts anew with the first wait.
pub(crate) const STEADY_AFTER: Duration = Duration::from_secs(10);

/// How long to wait before the next start; `None` when there is none.
pub(crate) fn after_exit(
    policy: RestartPolicy,
    exit: &ExitView,
    stopped_by_hand: bool,
    restarts_in_a_row: u32,
) -> Option<Duration> {
    if stopped_by_hand {
        return None;
    }
    let again = match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max_retries } => {
            exit.code != Some(0) && (max_retries == 0 || restarts_in_a_row < max_retries)
        }
    };
    again.then(|| (BACKOFF_FIRST * 2_u32.saturating_pow(restarts_in_a_row.min(16))).min(BACKOFF_MOST))
}

/// Whether a container that is not running is started when the agent comes up after a reboot.
pub(crate) fn after_boot(policy: RestartPolicy, stopped_by_hand: bool) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !stopped_by_hand,
        RestartPolicy::No | RestartPolicy::OnFailure { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: ExitView =
        ExitView { code: Some(1), signal: None, oom_killed: false, supervisor_lost: false };
    const FINE: ExitView = ExitView { code: Some(0), ..FAILED };

    #[test]
    fn the_wait_doubles_up_to_a_minute() {
        let wait = |restarts| after_exit(RestartPolicy::Always, &FINE, false, restarts).expect("again");
        assert_eq!(wait(0), Duration::from_millis(100));
        assert_eq!(wait(3), Duration::from_millis(800));
        assert_eq!(wait(1_000), Duration::from_mins(1));
    }

    #[test]
    fn on_failure_counts_and_a_stop_by_hand_ends_it() {
        let policy = RestartPolicy::OnFailure { max_retries: 2 };
        assert!(after_exit(policy, &FAILED, false, 1).is_some());
        assert!(after_exit(policy, &FAILED, false, 2).is_none());
        assert!(after_exit(policy, &FINE, false, 0).is_none());
        assert!(after_exit(RestartPolicy::Always, &FAILED, true, 0).is_none());
        assert!(after_exit(RestartPolicy::No, &FAILED, false, 0).is_none());
    }

    #[test]
    fn a_reboot_starts_what_was_not_stopped_by_hand() {
        assert!(after_boot(RestartPolicy::Always, true));
        assert!(!after_boot(RestartPolicy::UnlessStopped, true));
        assert!(after_boot(RestartPolicy::UnlessStopped, false));
        assert!(!after_boot(RestartPolicy::No, false));
    }
}
