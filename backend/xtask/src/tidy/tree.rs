//! The source files of the checkout.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Directories that hold products or other people's sources.
const OUTSIDE: &[&str] = &[".git", "dist", "node_modules", "target", "vendor"];

/// One source file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Path from the repository's root.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

impl SourceFile {
    /// A file of this path with this text.
    #[cfg(test)]
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Reads a file below the root.
    pub(crate) fn read(root: &Path, path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let relative = path.strip_prefix(root).unwrap_or(path);
        Ok(Self { path: relative.to_string_lossy().into_owned(), text })
    }
}

/// All Rust files of the repository.
pub(crate) fn rust_files(root: &Path) -> Result<Vec<SourceFile>> {
    let enter = |dir: &Path| !OUTSIDE.iter().any(|name| dir.ends_with(name));
    let mut paths: Vec<PathBuf> = Vec::new();
    files_below(root, &enter, &mut paths)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    paths.iter().map(|path| SourceFile::read(root, path)).collect()
}

/// Collects the files below `root` in the order of their names; `enter` says which directories to
/// look into. A path that does not exist has no files.
fn files_below(root: &Path, enter: &dyn Fn(&Path) -> bool, files: &mut Vec<PathBuf>) -> Result<()> {
    let kind = match fs::symlink_metadata(root) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("look at {}", root.display())),
    };
    if kind.is_file() {
        files.push(root.to_path_buf());
    } else if kind.is_dir() && enter(root) {
        let entries = fs::read_dir(root).with_context(|| format!("list {}", root.display()))?;
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("list {}", root.display()))?;
        paths.sort();
        for path in paths {
            files_below(&path, enter, files)?;
        }
    }
    Ok(())
}
