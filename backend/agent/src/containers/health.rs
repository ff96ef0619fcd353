//! How a container is checked and what its checks come to: pure.

use std::time::Duration;

use serde::Deserialize;
use wharf_shared::container::NetworkMode;
use wharf_shared::health::{
    HealthAction, HealthCheck, HealthStatus, HealthTest, INTERVAL_MIN_MS, RETRIES_MAX, TIME_MAX_MS,
};

/// Docker's defaults.
const INTERVAL_MS: u64 = 30_000;
const TIMEOUT_MS: u64 = 30_000;
const START_INTERVAL_MS: u64 = 5_000;
const RETRIES: u32 = 3;

/// A check as it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) test: HealthTest,
    pub(crate) timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) on_unhealthy: HealthAction,
    interval: Duration,
    start_period: Duration,
    start_interval: Duration,
}

/// What the checks so far come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) status: HealthStatus,
    pub(crate) failing_streak: u32,
}

/// An image's check as Docker writes it; times in nanoseconds, 0 for the default.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ImageCheck {
    test: Option<Vec<String>>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    start_interval: u64,
    retries: u32,
}

/// The check that holds: what was asked for over what the image says. `None` when there is nothing to
/// ask. What the image says is its author's: nonsense is no check, and times are cut to what is allowed.
pub(crate) fn effective(
    asked: Option<&HealthCheck>,
    image: Option<&serde_json::Value>,
    network: NetworkMode,
) -> Option<Check> {
    let image = image.and_then(|image| ImageCheck::deserialize(image).ok()).unwrap_or_default();
    let none = HealthCheck::default();
    let asked = asked.unwrap_or(&none);
    let test = match &asked.test {
        Some(test) => test.clone(),
        None => image_test(image.test.as_deref())?,
    };
    if test == HealthTest::None || test.check(network).is_err() {
        return None;
    }
    let time = |asked: Option<u64>, image_ns: u64, otherwise_ms: u64, least_ms: u64| {
        let image_ms = (image_ns > 0).then_some(image_ns / 1_000_000);
        Duration::from_millis(asked.or(image_ms).unwrap_or(otherwise_ms).clamp(least_ms, TIME_MAX_MS))
    };
    let retries = asked.retries.or((image.retries > 0).then_some(image.retries)).unwrap_or(RETRIES);
    Some(Check {
        test,
        timeout: time(asked.timeout_ms, image.timeout, TIMEOUT_MS, 1),
        retries: retries.clamp(1, RETRIES_MAX),
        on_unhealthy: asked.on_unhealthy,
        interval: time(asked.interval_ms, image.interval, INTERVAL_MS, INTERVAL_MIN_MS),
        start_period: time(asked.start_period_ms, image.start_period, 0, 0),
        start_interval: time(
            asked.start_interval_ms,
            image.start_interval,
            START_INTERVAL_MS,
            INTERVAL_MIN_MS,
        ),
    })
}

fn image_test(words: Option<&[String]>) -> Option<HealthTest> {
    match words? {
        [kind, line] if kind == "CMD-SHELL" => Some(HealthTest::Shell(line.clone())),
        [kind, command @ ..] if kind == "CMD" => Some(HealthTest::Command(command.to_vec())),
        _ => None,
    }
}

impl Check {
    /// How long to wait for the next check of a container that has run so long.
    pub(crate) fn wait(&self, status: HealthStatus, ran_for: Duration) -> Duration {
        if status == HealthStatus::Starting && self.is_starting(ran_for) {
            self.start_interval
        } else {
            self.interval
        }
    }

    /// Whether failures do not count yet.
    pub(crate) fn is_starting(&self, ran_for: Duration) -> bool {
        ran_for < self.start_period
    }

    /// What one more result makes of the tally. Within the start period only a success counts, and
    /// ends it.
    pub(crate) fn after(&self, tally: Tally, passed: bool, ran_for: Duration) -> Tally {
        if passed {
            return Tally { status: HealthStatus::Healthy, failing_streak: 0 };
        }
        if tally.status == HealthStatus::Starting && self.is_starting(ran_for) {
            return tally;
        }
        let failing_streak = tally.failing_streak.saturating_add(1);
        let status = if failing_streak >= self.retries { HealthStatus::Unhealthy } else { tally.status };
        Tally { status, failing_streak }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NEW: Tally = Tally { status: HealthStatus::Starting, failing_streak: 0 };
    const LONG: Duration = Duration::from_hours(1);

    fn of_image(image: &serde_json::Value) -> Option<Check> {
        effective(None, Some(image), NetworkMode::Tenant)
    }

    #[test]
    fn the_images_check_holds_with_its_own_times() {
        let image = json!({"Test": ["CMD", "/check", "now"], "Interval": 2_000_000_000_u64, "Retries": 5});
        let check = of_image(&image).expect("a check");
        assert_eq!(check.test, HealthTest::Command(vec!["/check".to_owned(), "now".to_owned()]));
        assert_eq!((check.interval, check.retries), (Duration::from_secs(2), 5));
        assert_eq!(check.timeout, Duration::from_secs(30));
        let shell = of_image(&json!({"Test": ["CMD-SHELL", "curl x"]})).expect("a check");
        assert_eq!(shell.test, HealthTest::Shell("curl x".to_owned()));
    }

    #[test]
    fn what_was_asked_for_wins_over_the_image() {
        let image = json!({"Test": ["CMD", "/check"], "Timeout": 7_000_000_000_u64});
        let asked = HealthCheck { interval_ms: Some(1_500), ..HealthCheck::default() };
        let check = effective(Some(&asked), Some(&image), NetworkMode::Tenant).expect("a check");
        assert_eq!(check.test, HealthTest::Command(vec!["/check".to_owned()]));
        assert_eq!((check.interval, check.timeout), (Duration::from_millis(1_500), Duration::from_secs(7)));
        let off = HealthCheck { test: Some(HealthTest::None), ..HealthCheck::default() };
        assert_eq!(effective(Some(&off), Some(&image), NetworkMode::Tenant), None);
        assert_eq!(effective(None, None, NetworkMode::Tenant), None);
    }

    #[test]
    fn an_image_cannot_ask_for_more_than_a_tenant() {
        let greedy =
            json!({"Test": ["CMD", "/check"], "Interval": 1, "Timeout": u64::MAX, "Retries": u32::MAX});
        let check = of_image(&greedy).expect("a check");
        assert_eq!(check.interval, Duration::from_millis(INTERVAL_MIN_MS));
        assert_eq!((check.timeout, check.retries), (Duration::from_millis(TIME_MAX_MS), RETRIES_MAX));
        for nonsense in [
            json!({"Test": ["NONE"]}),
            json!({"Test": []}),
            json!({"Test": null}),
            json!({"Test": ["CMD"]}),
            json!({"Test": ["CMD", "/check"], "Interval": -1}),
            json!(["CMD", "/check"]),
            json!("CMD"),
        ] {
            assert_eq!(of_image(&nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn so_many_failures_in_a_row_are_unhealthy_and_one_success_is_not() {
        let check = of_image(&json!({"Test": ["CMD", "/check"], "Retries": 2})).expect("a check");
        let once = check.after(NEW, false, LONG);
        assert_eq!(once, Tally { status: HealthStatus::Starting, failing_streak: 1 });
        let twice = check.after(once, false, LONG);
        assert_eq!(twice, Tally { status: HealthStatus::Unhealthy, failing_streak: 2 });
        let well = check.after(twice, true, LONG);
        assert_eq!(well, Tally { status: HealthStatus::Healthy, failing_streak: 0 });
        assert_eq!(check.after(well, false, LONG).status, HealthStatus::Healthy);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_until_a_success() {
        let image = json!({"Test": ["CMD", "/check"], "Retries": 1, "StartPeriod": 60_000_000_000_u64});
        let check = of_image(&image).expect("a check");
        let soon = Duration::from_secs(1);
        assert_eq!(check.after(NEW, false, soon), NEW);
        assert_eq!(check.wait(HealthStatus::Starting, soon), Duration::from_secs(5));
        let well = check.after(NEW, true, soon);
        assert_eq!(check.after(well, false, soon).status, HealthStatus::Unhealthy);
        assert_eq!(check.wait(HealthStatus::Healthy, soon), Duration::from_secs(30));
    }
}
