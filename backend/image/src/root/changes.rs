//! What a container has changed in its image, in Docker's words.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::{
    Root, RootError, check_depth, descend, is_directory, is_opaque, is_whiteout, look, merged, names, refused,
};

/// Where the runtime mounts, and makes a place for it: of no meaning to anybody.
const PLACES: [&str; 6] = ["/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys"];

/// One path that differs from the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute, in the container.
    pub path: PathBuf,
    /// How it differs.
    pub kind: ChangeKind,
}

/// How a path differs from the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is in the image too; a directory is also when only something in it is.
    Changed,
    /// It is not in the image.
    Added,
    /// It is only in the image.
    Deleted,
}

impl Root {
    /// Lists what differs from the image, by path; at most so many, and whether there are more.
    ///
    /// # Errors
    /// [`RootError`]; what goes away meanwhile is left out.
    pub fn changes(&self, most: usize) -> Result<(Vec<Change>, bool), RootError> {
        let image: Vec<BorrowedFd<'_>> = self.image.iter().map(AsFd::as_fd).collect();
        let mut found = Vec::new();
        if let Some(writable) = &self.writable {
            compare(writable.as_fd(), &image, Path::new("/"), 0, most, &mut found)?;
        }
        let more = found.len() > most;
        found.truncate(most);
        found.sort();
        Ok((found, more))
    }
}

fn compare(
    upper: BorrowedFd<'_>,
    lower: &[BorrowedFd<'_>],
    path: &Path,
    depth: usize,
    most: usize,
    found: &mut Vec<Change>,
) -> Result<(), RootError> {
    check_depth(depth, path)?;
    let below = merged(lower, path)?;
    let mut add = |path: PathBuf, kind| found.push(Change { path, kind });
    let mut directories = Vec::new();
    let all: BTreeSet<_> = names(upper, path)?.into_iter().collect();
    for name in &all {
        let inner = path.join(name);
        let Some(stat) = look(upper, name).map_err(refused("look at", &inner))? else { continue };
        match (is_whiteout(&stat), below.get(name)) {
            (true, Some(_)) => add(inner, ChangeKind::Deleted),
            (true, None) => {}
            (false, None) if PLACES.iter().any(|place| inner == Path::new(place)) => {}
            (false, there) => {
                let kind = if there.is_some() { ChangeKind::Changed } else { ChangeKind::Added };
                add(inner, kind);
                if is_directory(&stat) {
                    directories.push(name);
                }
            }
        }
    }
    if depth > 0 && is_opaque(upper) {
        for name in below.keys().filter(|name| !all.contains(*name)) {
            add(path.join(name), ChangeKind::Deleted);
        }
    }
    for name in directories {
        if found.len() > most {
            return Ok(());
        }
        let inner = path.join(name);
        let own = descend(&[upper], 0, name).map_err(refused("open", &inner))?;
        // It went away meanwhile.
        let Some(own) = own.first() else { continue };
        let shown = below.get(name).filter(|found| is_directory(&found.stat));
        let theirs = shown.map_or(Ok(Vec::new()), |found| descend(lower, found.at, name));
        let theirs = theirs.map_err(refused("open", &inner))?;
        let theirs: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
        compare(own.as_fd(), &theirs, &inner, depth + 1, most, found)?;
    }
    Ok(())
}
