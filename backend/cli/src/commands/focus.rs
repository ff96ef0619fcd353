//! `wharf focus`: checks files of costs on this machine, without an agent.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use wharf_billing::check::{self, Report};

use super::Shell;
use crate::output::{document, line, note, visible};

/// Something is wrong in the file.
const VIOLATED: u8 = 1;
/// There is nothing that could be checked.
const UNREADABLE: u8 = 2;
/// What a file of Parquet begins with.
const PARQUET: [u8; 4] = *b"PAR1";

/// `wharf focus`.
#[derive(Debug, Subcommand)]
pub(crate) enum FocusCommand {
    /// Check a file of FOCUS 1.2, CSV or Parquet, ours or another's; ends with 1 if something is wrong in it,
    /// with 2 if it cannot be read.
    Check {
        /// The file.
        file: PathBuf,
        /// Show so many findings; all are counted.
        #[arg(long, value_name = "COUNT", default_value_t = 20)]
        show: usize,
    },
}

/// Checks a file and returns the exit code.
pub(crate) fn focus(shell: &Shell, command: &FocusCommand) -> Result<u8> {
    let FocusCommand::Check { file, show } = command;
    let report = match read(file, *show) {
        Ok(report) => report,
        Err(error) => {
            note(&format!("wharf: {}", visible(&format!("{error:#}"))));
            return Ok(UNREADABLE);
        }
    };
    if shell.output.json {
        document(&report)?;
    } else {
        for text in words(&report) {
            line(&visible(&text))?;
        }
    }
    Ok(if report.is_clean() { 0 } else { VIOLATED })
}

fn read(path: &Path, show: usize) -> Result<Report> {
    let what = || format!("check {}", path.display());
    let mut file = File::open(path).with_context(what)?;
    let mut begin = Vec::new();
    file.by_ref().take(PARQUET.len() as u64).read_to_end(&mut begin).with_context(what)?;
    file.rewind().with_context(what)?;
    if begin == PARQUET {
        return check::parquet(file, show).with_context(what);
    }
    check::csv(BufReader::new(file), show).with_context(what)
}

/// The report for people: findings, how many there are by rule, and the verdict.
fn words(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let total: u64 = report.counts.values().sum();
    if total > report.findings.len() as u64 {
        lines.push(format!("… and {} more", total - report.findings.len() as u64));
    }
    lines.extend(report.counts.iter().map(|(rule, count)| format!("{rule}: {count}")));
    lines.push(match total {
        0 => format!("{} rows of FOCUS 1.2, nothing wrong", report.rows),
        total => format!("{} rows, {total} violations of FOCUS 1.2", report.rows),
    });
    lines
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn checked(bytes: &[u8]) -> Result<Report> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        read(file.path(), 2)
    }

    #[test]
    fn findings_are_shown_and_all_are_counted() {
        let report = checked(b"BilledCost,Note\n1,2\n+1,2\n").expect("readable");
        let lines = words(&report);
        assert!(lines.iter().any(|line| line.starts_with("… and ")), "{lines:?}");
        assert!(lines.contains(&"number-form: 1".to_owned()), "{lines:?}");
        assert!(lines.last().is_some_and(|line| line.starts_with("2 rows, ")), "{lines:?}");
    }

    #[test]
    fn what_is_no_table_is_an_error_that_names_the_file() {
        for bad in [&b"PAR1 but no more"[..], b"a,b\n1,\"2", b"\xff\xfe\n"] {
            let error = format!("{:#}", checked(bad).expect_err("unreadable"));
            assert!(error.starts_with("check /"), "{error}");
        }
        assert!(read(Path::new("/no/such/file"), 1).is_err());
    }
}
