//! `cargo xtask tidy`: the rules of this code that neither compiler nor clippy can check.
//!
//! Seven checks: the dependency table, what comes from elsewhere, unsafe code, SQL, file heads, the commands
//! and links of the documents, and the list of attacks ([`crate::attacks`]). Each is a pure function from a file's text to findings.

mod dependencies;
mod heads;
mod layers;
mod readme;
mod source;
mod sql;
mod supply;
mod tree;
mod unsafety;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;

use crate::{attacks, process, say};

pub(crate) use tree::{SourceFile, rust_files};

/// Documents whose commands and links are checked.
const DOCUMENTS: &[&str] = &["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"];

/// Something that is against a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    line: Option<usize>,
    message: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: Some(line), message: message.into() }
    }

    pub(crate) fn of_file(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Runs the checks as a command.
pub(crate) fn run(repo: &Path) -> Result<ExitCode> {
    check(repo).map(|()| ExitCode::SUCCESS)
}

/// Runs the checks, prints what they find and fails if that is anything.
pub(crate) fn check(repo: &Path) -> Result<()> {
    let mut metadata = process::cargo(repo);
    metadata.args(["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    let mut findings = dependencies::check_packages(&process::read(&mut metadata)?)?;
    let mut metadata = process::cargo(repo);
    metadata.args(["metadata", "--format-version", "1", "--locked"]);
    let settings = fs::read_to_string(repo.join("deny.toml")).context("read deny.toml")?;
    findings.extend(supply::check(&process::read(&mut metadata)?, &settings)?);
    let files = rust_files(repo)?;
    for file in &files {
        findings.extend(dependencies::check_boundaries(file));
        findings.extend(unsafety::check(file));
        findings.extend(sql::check(file));
        findings.extend(heads::check(file));
    }
    for name in DOCUMENTS {
        let document = SourceFile::read(repo, &repo.join(name))?;
        findings.extend(readme::check(name, &document.text, repo, &is_command));
    }
    findings.extend(attacks::check(&files));
    for finding in &findings {
        say::line(&finding.to_string());
    }
    if !findings.is_empty() {
        bail!("tidy found {} things in {} files", findings.len(), files.len());
    }
    say::line(&format!("tidy: {} files are in order", files.len()));
    Ok(())
}

fn is_command(words: &[&str]) -> bool {
    crate::Arguments::try_parse_from(["cargo xtask"].iter().chain(words)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_that_exist_are_commands() {
        assert!(is_command(&["up"]) && is_command(&["down", "--purge"]) && is_command(&["test", "ports"]));
        assert!(!is_command(&["fly"]) && !is_command(&["up", "--sideways"]));
    }
}
