//! The only place that writes to the terminal.
//!
//! A closed pipe (`cargo xtask tidy | head`) ends the output, not the work: write errors are dropped.

use std::io::Write as _;

/// Writes a line to standard output.
pub(crate) fn line(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// Writes a heading to standard output.
pub(crate) fn heading(text: &str) {
    line(&format!("\n==== {text}"));
}

/// Writes a failure to standard error.
pub(crate) fn error(text: &str) {
    drop(writeln!(std::io::stderr(), "xtask: {text}"));
}
