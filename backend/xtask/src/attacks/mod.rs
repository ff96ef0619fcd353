//! `cargo xtask attacks`: what a hostile tenant must not achieve, line by line, and the tests that try.
//!
//! The lines are in [`lines`]. A test says which of them it attacks, in the last line of its doc comment:
//! `/// Attacks: A3, D1.` The table is made of these each time, so that it cannot be older than the tests, and
//! `cargo xtask tidy` fails when a test names no line, or a line has neither a test nor a reason.

mod lines;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::say;
use crate::tidy::{Finding, SourceFile, rust_files};
use lines::{LINES, Standing};

/// What a doc comment begins with that names lines.
const MARK: &str = "/// Attacks: ";
/// Where [`LINES`] are, for findings about them.
const LIST: &str = "backend/xtask/src/attacks/lines.rs";

/// Tests by the line that they attack: file and function.
type Tests = BTreeMap<String, Vec<String>>;

/// Prints the table.
pub(crate) fn run(repo: &Path) -> Result<ExitCode> {
    let files = rust_files(repo)?;
    let (tests, _) = collect(&files);
    for line in LINES {
        let found = tests.get(line.id).map(Vec::as_slice).unwrap_or_default();
        say::line(&format!("{:<4}{}", line.id, line.statement));
        for test in found {
            say::line(&format!("      {test}"));
        }
        match line.standing {
            Standing::Tested => {}
            Standing::Elsewhere(reason) => say::line(&format!("      does not apply: {reason}")),
        }
    }
    let attacked = LINES.iter().filter(|line| tests.contains_key(line.id)).count();
    let others = LINES.len() - attacked;
    say::line(&format!("{} lines, {attacked} attacked by tests, {others} do not apply", LINES.len()));
    Ok(ExitCode::SUCCESS)
}

/// Compares the list with the marks.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let (tests, mut findings) = collect(files);
    for line in LINES {
        let attacked = tests.contains_key(line.id);
        let wrong = match line.standing {
            Standing::Tested if !attacked => "has no test: mark one, or say why it has none",
            Standing::Elsewhere(_) if attacked => "is said not to apply, and a test attacks it",
            _ => continue,
        };
        findings.push(Finding::of_file(LIST, format!("{} {wrong}", line.id)));
    }
    findings
}

/// Reads every mark; one that names no line is a finding.
fn collect(files: &[SourceFile]) -> (Tests, Vec<Finding>) {
    let (mut tests, mut findings) = (Tests::new(), Vec::new());
    for file in files {
        let lines: Vec<&str> = file.text.lines().map(str::trim_start).collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(marked) = line.strip_prefix(MARK) else { continue };
            let below = lines.get(at + 1..).unwrap_or_default().iter();
            let Some(name) = below.take(4).find_map(|line| function(line)) else {
                findings.push(Finding::new(&file.path, at + 1, "names attacks above no function"));
                continue;
            };
            for id in marked.trim_end_matches('.').split(", ") {
                if LINES.iter().any(|line| line.id == id) {
                    tests.entry(id.to_owned()).or_default().push(format!("{} {name}", file.path));
                } else {
                    findings.push(Finding::new(&file.path, at + 1, format!("{id:?} is no line of {LIST}")));
                }
            }
        }
    }
    (tests, findings)
}

/// The name of the function that a line begins, if it does.
fn function(line: &str) -> Option<&str> {
    let line = ["pub ", "pub(crate) "].iter().find_map(|prefix| line.strip_prefix(prefix)).unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split('(').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> [SourceFile; 1] {
        [SourceFile::new("e2e/tests/x.rs", text)]
    }

    #[test]
    fn a_mark_names_the_function_below_it() {
        let text = "/// Attacks: A1, B2.\n#[test]\nfn holds() {}\n    /// Attacks: A1.\n    pub(crate) async fn again() {}\n";
        let (tests, findings) = collect(&file(text));
        assert_eq!(findings, []);
        assert_eq!(tests["A1"], ["e2e/tests/x.rs holds", "e2e/tests/x.rs again"]);
        assert_eq!(tests["B2"], ["e2e/tests/x.rs holds"]);
    }

    #[test]
    fn a_mark_of_no_line_and_one_above_no_function_are_findings() {
        assert_eq!(collect(&file("/// Attacks: Z9.\nfn x() {}\n")).1.len(), 1);
        assert_eq!(collect(&file("/// Attacks: A1.\nstruct X;\n")).1.len(), 1);
    }

    #[test]
    fn a_line_without_a_test_is_a_finding() {
        let found = check(&file(""));
        assert!(found.iter().any(|finding| finding.to_string().contains("A3 has no test")));
    }

    #[test]
    fn every_line_stands_once_and_in_order() {
        let order = |id: &str| {
            let number =
                id.get(1..).and_then(|number| number.parse::<u32>().ok()).expect("a letter and a number");
            (id.chars().next(), number)
        };
        let ids: Vec<_> = LINES.iter().map(|line| order(line.id)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    }
}
