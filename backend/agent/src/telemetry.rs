//! The agent's own log: structured lines on standard error, for people or as JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogFormat};

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("log.filter {filter:?} is not acceptable")]
    Filter { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("a log was set up before")]
    Twice { source: Box<dyn std::error::Error + Send + Sync> },
}

/// Sets up the log of the whole process; once, at its start.
pub(crate) fn start(log: &Log) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|source| TelemetryError::Filter { filter: log.filter.clone(), source })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_span_events(FmtSpan::NONE);
    match log.format {
        LogFormat::Pretty => lines.try_init(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
    }
    .map_err(|source| TelemetryError::Twice { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_means_nothing_is_refused_with_its_text() {
        let log = Log { filter: "wharf=loud".to_owned(), ..Log::default() };
        let error = start(&log).expect_err("no such level");
        assert!(error.to_string().contains("wharf=loud"));
    }
}
