//! The official validator of FOCUS files, in a virtual environment of its own under `target/`.
//!
//! It asks for Python 3.12 because of one line, which Debian 12's 3.11 cannot read: an f-string with a backslash
//! inside. That line is written in another way, which means the same to both. Everything else is as it was
//! published, every package at a known version: with a newer polars than 1.34 whole numbers of more than 64 bits
//! become a type that its pyarrow does not know, and no file of ours can be read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{process, say};

/// Debian packages that are needed to fetch it.
pub(crate) const PACKAGES: &[&str] = &["python3", "python3-venv"];

/// What `pip freeze` said of an environment in which it works.
const REQUIREMENTS: &str = include_str!("focus_requirements.txt");
/// The file with the line.
const PATCHED: &str = "focus_validator/config_objects/focus_to_duckdb_converter.py";
const LINE: &str = r#"f"'{k.replace('\"', '\"\"')}'""#;
const LINE_FOR_3_11: &str = r#""'" + k.replace('"', '""') + "'""#;

/// Makes the environment, unless it is there already.
pub(crate) fn fetch(repo: &Path) -> Result<()> {
    let dir = repo.join("target/focus");
    let whole = dir.join("requirements.txt");
    if fs::read_to_string(&whole).is_ok_and(|text| text == REQUIREMENTS) {
        return Ok(());
    }
    say::line("Fetching the official validator of FOCUS");
    // Its programs name the directory in which they were made, so it is made where it stays.
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    process::run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    let list = dir.join("list.txt");
    fs::write(&list, REQUIREMENTS).with_context(|| format!("write {}", list.display()))?;
    let mut pip = Command::new(dir.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    process::run(pip.args(["--ignore-requires-python", "--requirement"]).arg(&list))?;
    let packages = packages(&dir)?;
    patch(&packages.join(PATCHED))?;
    // It opens a table of its own by a path relative to where it runs.
    let run = dir.join("run");
    fs::create_dir(&run).with_context(|| format!("create {}", run.display()))?;
    let link = run.join("focus_validator");
    symlink(packages.join("focus_validator"), &link).with_context(|| format!("link {}", link.display()))?;
    fs::rename(&list, &whole).with_context(|| format!("rename {}", list.display()))
}

/// Where the environment's packages are; the path has Python's version in it.
fn packages(dir: &Path) -> Result<PathBuf> {
    let lib = dir.join("lib");
    for entry in fs::read_dir(&lib).with_context(|| format!("read {}", lib.display()))? {
        let packages = entry.with_context(|| format!("read {}", lib.display()))?.path().join("site-packages");
        if packages.is_dir() {
            return Ok(packages);
        }
    }
    bail!("{} has no site-packages", lib.display())
}

fn patch(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let patched = patched(&text).with_context(|| {
        format!("{} has not the line that Python 3.11 cannot read; is it another version?", path.display())
    })?;
    fs::write(path, patched).with_context(|| format!("write {}", path.display()))
}

fn patched(text: &str) -> Option<String> {
    text.contains(LINE).then(|| text.replace(LINE, LINE_FOR_3_11))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_becomes_one_that_python_3_11_reads_and_another_text_is_refused() {
        let line = r#"+ ", ".join(f"'{k.replace('\"', '\"\"')}'" for k in ignore_keys)"#;
        let expected = r#"+ ", ".join("'" + k.replace('"', '""') + "'" for k in ignore_keys)"#;
        assert_eq!(patched(line).as_deref(), Some(expected));
        assert_eq!(patched(expected), None);
    }

    #[test]
    fn every_package_has_one_known_version() {
        for line in REQUIREMENTS.lines() {
            assert!(
                line.split_once("==").is_some_and(|(name, version)| !name.is_empty() && !version.is_empty()),
                "{line}"
            );
        }
    }
}
