//! Health checks: what is asked of a running container, and what came of it.

use serde::{Deserialize, Serialize};

use crate::container::{ARGUMENTS_MAX_BYTES, NetworkMode};
use crate::problem::FieldProblem;
use crate::time::Timestamp;

/// Results that are kept of a container, as many as Docker keeps.
pub const RESULTS_KEPT: usize = 5;
/// What is kept of a check's output, as much as Docker keeps.
pub const OUTPUT_MAX_BYTES: usize = 4_096;
/// Between two checks at least: they run on everybody's host.
pub const INTERVAL_MIN_MS: u64 = 1_000;
/// No time of a check is longer.
pub const TIME_MAX_MS: u64 = 24 * 3_600 * 1_000;
/// Most failures in a row that are waited for.
pub const RETRIES_MAX: u32 = 100;

/// How a container is checked while it runs. What is left out comes from the image, then from Docker's
/// defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheck {
    /// What is asked; the image's own check when absent.
    pub test: Option<HealthTest>,
    /// From the end of a check to the next; 30 s when absent.
    pub interval_ms: Option<u64>,
    /// A check that takes longer has failed, and is killed; 30 s when absent.
    pub timeout_ms: Option<u64>,
    /// So long after a start failures do not count; 0 when absent.
    pub start_period_ms: Option<u64>,
    /// Between checks in the start period; 5 s when absent.
    pub start_interval_ms: Option<u64>,
    /// Failures in a row until it is unhealthy; 3 when absent.
    pub retries: Option<u32>,
    /// What is done when it has become unhealthy.
    pub on_unhealthy: HealthAction,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// Nothing: the image's check is off too.
    None,
    /// A program and its arguments, run in the container; healthy when it ends with 0.
    Command(Vec<String>),
    /// A line for the container's own `/bin/sh`; healthy when it ends with 0.
    Shell(String),
    /// `GET` from the host to the container's address; redirections are not followed.
    Http(HttpTest),
    /// A connection from the host to the container's address.
    Tcp {
        /// Port inside.
        port: u16,
    },
}

/// A request to the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HttpTest {
    /// Port inside.
    pub port: u16,
    /// Path, with a query if need be.
    #[serde(default = "root")]
    pub path: String,
    /// Least status that is healthy.
    #[serde(default = "status_min")]
    pub status_min: u16,
    /// Greatest status that is healthy.
    #[serde(default = "status_max")]
    pub status_max: u16,
}

fn root() -> String {
    "/".to_owned()
}

fn status_min() -> u16 {
    200
}

fn status_max() -> u16 {
    399
}

/// What is done when a container has become unhealthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthAction {
    /// It is told, as Docker does.
    #[default]
    None,
    /// It is stopped and started again, whatever its restart policy.
    Restart,
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Not known yet.
    Starting,
    /// The last check succeeded, or too few failed since.
    Healthy,
    /// As many checks in a row failed as it may have.
    Unhealthy,
}

impl HealthStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Starting, Self::Healthy, Self::Unhealthy];

    /// The word for it, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What came of a container's checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthView {
    /// How it is.
    pub status: HealthStatus,
    /// Failures in a row; counted anew when the agent starts.
    pub failing_streak: u32,
    /// The last checks, the latest last; none in a list, and none from before the agent's start.
    pub results: Vec<HealthResult>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthResult {
    /// When it began.
    pub started_at: Timestamp,
    /// When it had ended.
    pub ended_at: Timestamp,
    /// It succeeded.
    pub passed: bool,
    /// The command's exit code or the answer's HTTP status; absent when there was none.
    pub code: Option<i32>,
    /// The beginning of what it printed or was answered, or what went wrong.
    pub output: String,
}

impl HealthCheck {
    /// Checks everything that can be checked without a host. Fields begin with `health.`.
    pub fn problems(&self, network: NetworkMode) -> Vec<FieldProblem> {
        let mut found = Vec::new();
        let mut add = |field: &str, detail: String| {
            found.push(FieldProblem { field: format!("health.{field}"), detail });
        };
        for (field, value, least) in [
            ("interval_ms", self.interval_ms, INTERVAL_MIN_MS),
            ("timeout_ms", self.timeout_ms, 1),
            ("start_period_ms", self.start_period_ms, 0),
            ("start_interval_ms", self.start_interval_ms, INTERVAL_MIN_MS),
        ] {
            if value.is_some_and(|value| !(least..=TIME_MAX_MS).contains(&value)) {
                add(field, format!("must lie between {least} and {TIME_MAX_MS} milliseconds"));
            }
        }
        if self.retries.is_some_and(|retries| !(1..=RETRIES_MAX).contains(&retries)) {
            add("retries", format!("must lie between 1 and {RETRIES_MAX}"));
        }
        if let Some(Err(detail)) = self.test.as_ref().map(|test| test.check(network)) {
            add("test", detail);
        }
        found
    }
}

impl HealthTest {
    /// Checks what is asked, for a container in this network.
    ///
    /// # Errors
    /// In words, what is wrong.
    pub fn check(&self, network: NetworkMode) -> Result<(), String> {
        match self {
            Self::None => Ok(()),
            Self::Command(words) => {
                if words.first().is_none_or(String::is_empty) {
                    return Err("say what to run".to_owned());
                }
                check_words(words)
            }
            Self::Shell(line) if line.trim().is_empty() => Err("say what to run".to_owned()),
            Self::Shell(line) => check_words(std::slice::from_ref(line)),
            Self::Http(HttpTest { port, path, status_min, status_max }) => {
                check_port(*port, network)?;
                let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
                if !path.starts_with('/') || path.len() > 2_048 || !path.bytes().all(plain) {
                    return Err("the path begins with '/' and has at most 2048 printable ASCII characters, \
                        no blanks and no '#'"
                        .to_owned());
                }
                if 100 > *status_min || status_min > status_max || *status_max > 599 {
                    return Err("the statuses lie between 100 and 599, the least first".to_owned());
                }
                Ok(())
            }
            Self::Tcp { port } => check_port(*port, network),
        }
    }
}

fn check_words(words: &[String]) -> Result<(), String> {
    let bytes: usize = words.iter().map(|word| word.len() + 1).sum();
    if bytes > ARGUMENTS_MAX_BYTES {
        return Err(format!("the command has {bytes} bytes, at most {ARGUMENTS_MAX_BYTES} fit"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err("NUL characters cannot be passed".to_owned());
    }
    Ok(())
}

fn check_port(port: u16, network: NetworkMode) -> Result<(), String> {
    if port == 0 {
        return Err("a port from 1 to 65535 is needed".to_owned());
    }
    if network == NetworkMode::None {
        return Err("without a network nothing can be asked from outside; check with a command".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(test: &HealthTest) -> bool {
        test.check(NetworkMode::Tenant).is_err()
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        assert!(refused(&HealthTest::Command(Vec::new())));
        assert!(refused(&HealthTest::Shell(" ".to_owned())));
        assert!(refused(&HealthTest::Shell("a\0b".to_owned())));
        assert!(refused(&HealthTest::Tcp { port: 0 }));
        let http = |path: &str, status_min, status_max| {
            HealthTest::Http(HttpTest { port: 80, path: path.to_owned(), status_min, status_max })
        };
        assert!(!refused(&http("/ready?full=1", 200, 299)));
        for wrong in [
            http("ready", 200, 299),
            http("/a b", 200, 299),
            http("/\r\nX: y", 200, 299),
            http("/", 300, 299),
        ] {
            assert!(refused(&wrong), "{wrong:?}");
        }
        assert!(HealthTest::Tcp { port: 80 }.check(NetworkMode::None).is_err());
    }

    #[test]
    fn times_have_bounds() {
        let check = HealthCheck {
            interval_ms: Some(1),
            timeout_ms: Some(0),
            retries: Some(0),
            ..HealthCheck::default()
        };
        let fields: Vec<_> =
            check.problems(NetworkMode::Tenant).into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["health.interval_ms", "health.timeout_ms", "health.retries"]);
        assert!(HealthCheck::default().problems(NetworkMode::None).is_empty());
    }

    #[test]
    fn a_request_has_docker_like_defaults() {
        let test: HealthTest = serde_json::from_str(r#"{"http":{"port":80}}"#).expect("a test");
        let wanted = HttpTest { port: 80, path: "/".to_owned(), status_min: 200, status_max: 399 };
        assert_eq!(test, HealthTest::Http(wanted));
        assert_eq!(serde_json::from_str::<HealthTest>(r#""none""#).expect("a test"), HealthTest::None);
    }
}
