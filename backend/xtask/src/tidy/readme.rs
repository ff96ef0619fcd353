//! What the documents at the top tell people to type and to open exists.
//!
//! The lines that begin with `wharf` are parsed by a test of the command line itself.

use std::path::Path;

use super::Finding;

/// Checks one document: its `cargo xtask` lines against `accepts`, its relative links against `root`.
pub(crate) fn check(path: &str, text: &str, root: &Path, accepts: &dyn Fn(&[&str]) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_block = false;
    for (line, number) in text.lines().zip(1..) {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            if let Some(command) = line.trim().strip_prefix("cargo xtask ") {
                let command = command.split(" #").next().unwrap_or_default();
                let words: Vec<&str> = command.split_whitespace().collect();
                if !accepts(&words) {
                    let message = format!("there is no `cargo xtask {}`", command.trim());
                    findings.push(Finding::new(path, number, message));
                }
            }
        } else {
            for target in links(line) {
                let file = target.split('#').next().unwrap_or_default();
                if !file.is_empty() && !file.contains("://") && !root.join(file).exists() {
                    findings.push(Finding::new(
                        path,
                        number,
                        format!("links to {file}, which does not exist"),
                    ));
                }
            }
        }
    }
    findings
}

/// Targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let accepts = |words: &[&str]| words.first() == Some(&"up");
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        check("README.md", text, dir, &accepts).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_command_that_does_not_exist_is_found() {
        assert_eq!(
            found("```sh\ncargo xtask up   # go\ncargo xtask fly\n```\n"),
            ["README.md:3: there is no `cargo xtask fly`"]
        );
        assert_eq!(found("Say cargo xtask fly.\n"), [""; 0]);
    }

    #[test]
    fn a_link_to_nowhere_is_found() {
        assert_eq!(found("See [it](Cargo.toml#a), [us](https://example.org/x) and [me](#here).\n"), [""; 0]);
        assert_eq!(
            found("See [it](no/such.md).\n"),
            ["README.md:1: links to no/such.md, which does not exist"]
        );
    }
}
