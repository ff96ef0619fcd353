//! SQL is in `backend/store` alone: statements, and the library that runs them.

use super::Finding;
use super::source::{Kind, pieces, words};
use super::tree::SourceFile;

/// Where it may be: its home, and this check's own examples.
const HOMES: &[&str] = &["backend/store/", "backend/xtask/src/tidy/sql.rs"];

/// Beginnings of statements, upper-case as the conventions want them.
const STATEMENTS: &[&[&str]] = &[
    &["SELECT"],
    &["INSERT", "INTO"],
    &["INSERT", "OR"],
    &["UPDATE"],
    &["DELETE", "FROM"],
    &["CREATE", "TABLE"],
    &["CREATE", "INDEX"],
    &["CREATE", "UNIQUE"],
    &["ALTER", "TABLE"],
    &["DROP", "TABLE"],
    &["PRAGMA"],
];

/// Checks one file.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    if HOMES.iter().any(|home| file.path.starts_with(home)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for piece in pieces(&file.text) {
        match piece.kind {
            Kind::Text if is_statement(piece.text) => {
                findings.push(Finding::new(&file.path, piece.line, "an SQL statement outside backend/store"));
            }
            Kind::Code => findings.extend(
                words(&piece)
                    .filter(|(_, word)| *word == "sqlx")
                    .map(|(line, _)| Finding::new(&file.path, line, "sqlx outside backend/store")),
            ),
            Kind::Text | Kind::Comment => {}
        }
    }
    findings
}

fn is_statement(text: &str) -> bool {
    let given: Vec<&str> = text.split_whitespace().take(3).collect();
    STATEMENTS.iter().any(|begin| given.len() > begin.len() && given.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&SourceFile::new(path, text)).len()
    }

    #[test]
    fn a_statement_and_the_library_are_found_outside_the_store() {
        assert_eq!(found("backend/agent/src/a.rs", "const A: &str = \"SELECT id FROM containers\";"), 1);
        assert_eq!(found("backend/agent/src/a.rs", "const A: &str = \"\n  DELETE FROM x\";"), 1);
        assert_eq!(found("backend/agent/src/a.rs", "use sqlx::Row;"), 1);
        assert_eq!(found("backend/store/src/a.rs", "const A: &str = \"SELECT id FROM containers\";"), 0);
    }

    #[test]
    fn words_for_people_are_no_statement() {
        assert_eq!(found("frontend/src/a.rs", "\"Select a container\"; \"UPDATE\"; // SELECT a FROM b"), 0);
    }
}
