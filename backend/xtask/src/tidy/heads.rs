//! Every source file begins by saying what it is and why it exists.

use super::Finding;
use super::tree::SourceFile;

/// Checks one file.
pub(crate) fn check(file: &SourceFile) -> Option<Finding> {
    let first = file.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//!").is_some_and(|text| text.trim().len() > 3);
    (!says).then(|| Finding::new(&file.path, 1, "must begin with `//!` and what the file is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_head_is_found() {
        let found = |text: &str| check(&SourceFile::new("a.rs", text)).is_some();
        assert!(found("") && found("use std::fs;\n") && found("//!\n") && found("// A comment.\n"));
        assert!(!found("//! Reads cgroup files.\n"));
    }
}
