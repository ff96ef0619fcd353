//! A path of the container, as the container would understand it.
//!
//! Each component is opened by itself, never following: links are read and walked by us, `..` goes back to
//! a directory that we came through, and both end at the root. So nothing that runs in the container can
//! swap a directory for a link and lead us out (CVE-2018-15664). Source: `path_resolution(7)`.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::mounts::told;
use super::{Found, Root, RootError, check_depth, clones, is_directory, is_whiteout, refused, uppermost};

/// As many links as the kernel follows in one path.
pub(super) const LINKS_MAX: usize = 40;

/// What to do with a link at the end of a path; those before it are always followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Follow,
    Keep,
}

/// Where a path leads.
pub(super) struct Place {
    /// Relative to the root, without links.
    pub(super) path: PathBuf,
    /// The directory that it is in, in every layer that has it; for the root, the root's.
    pub(super) parent: Vec<OwnedFd>,
    /// Its name there; the root has none.
    pub(super) name: Option<OsString>,
    /// What is there, if anything.
    pub(super) found: Option<Found>,
}

impl Place {
    pub(super) fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        self.parent.iter().map(AsFd::as_fd).collect()
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device.
    Special,
}

/// What a path of a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStat {
    /// Last component; empty for the root.
    pub name: OsString,
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a file.
    pub size_bytes: u64,
    /// Permission bits, with the set-id and sticky ones.
    pub mode: u32,
    /// When it was last written, in seconds since 1970.
    pub modified_s: i64,
    /// Where a link leads.
    pub target: Option<OsString>,
}

/// One directory on the way, and how it was found.
struct Step {
    name: OsString,
    found: Found,
    directories: Vec<OwnedFd>,
}

impl Root {
    /// Tells what a path is. A link at its end is told as a link unless it is to be followed.
    ///
    /// # Errors
    /// [`RootError::Absent`], [`RootError::Unfit`], or what the kernel says.
    pub fn stat(&self, path: &Path, follow: bool) -> Result<FileStat, RootError> {
        let last = if follow { Links::Follow } else { Links::Keep };
        let sought = self.seek(path, last)?;
        let stat = sought.root.stat_found(&sought.path, last).map_err(told(&sought.path, path))?;
        Ok(FileStat { name: sought.name.unwrap_or(stat.name), ..stat })
    }

    fn stat_found(&self, path: &Path, last: Links) -> Result<FileStat, RootError> {
        let place = self.resolve(path, last)?;
        let Some(Found { at, stat }) = &place.found else {
            return Err(RootError::Absent { path: path.to_owned() });
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Link,
            _ => FileKind::Special,
        };
        let name = place.name.clone().unwrap_or_default();
        let target = match place.borrowed().get(*at) {
            Some(directory) if kind == FileKind::Link => {
                Some(link_target(*directory, &name).map_err(refused("read the link", path))?)
            }
            _ => None,
        };
        Ok(FileStat {
            name,
            kind,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & 0o7777,
            modified_s: stat.st_mtime,
            target,
        })
    }

    /// Walks a path. What lies before its last component must be there.
    pub(super) fn resolve(&self, path: &Path, last: Links) -> Result<Place, RootError> {
        let absent = || RootError::Absent { path: path.to_owned() };
        let unfit = |problem| RootError::Unfit { path: path.to_owned(), problem };
        let failed = |call| move |errno| refused(call, path)(errno);
        let mut steps: Vec<Step> = Vec::new();
        let mut wanted: VecDeque<OsString> = VecDeque::new();
        prepend(&mut wanted, path.as_os_str());
        // A slash at the end says that it is a directory.
        if path.as_os_str().as_bytes().ends_with(b"/") {
            wanted.push_back(".".into());
        }
        let mut links = 0;
        let mut end = None;
        while let Some(component) = wanted.pop_front() {
            match component.as_bytes() {
                b"." => continue,
                b".." => {
                    steps.pop();
                    continue;
                }
                _ => check_depth(steps.len(), path)?,
            }
            let tops = self.tops();
            let directories: Vec<BorrowedFd<'_>> = match steps.last() {
                Some(step) => step.directories.iter().map(AsFd::as_fd).collect(),
                None => tops,
            };
            let found = uppermost(&directories, &component)
                .map_err(failed("look at"))?
                .filter(|found| !is_whiteout(&found.stat));
            let Some(found) = found else {
                if wanted.iter().all(|next| next == ".") {
                    end = Some((component, None));
                    break;
                }
                return Err(absent());
            };
            if is_link(&found.stat) && (last == Links::Follow || !wanted.is_empty()) {
                links += 1;
                if links > LINKS_MAX {
                    return Err(unfit("leads through too many links"));
                }
                let Some(directory) = directories.get(found.at) else { return Err(absent()) };
                let target = link_target(*directory, &component).map_err(failed("read the link"))?;
                if target.as_bytes().starts_with(b"/") {
                    steps.clear();
                }
                prepend(&mut wanted, &target);
            } else if is_directory(&found.stat) {
                let opened = self.enter(&directories, found.at, &component).map_err(failed("open"))?;
                if opened.is_empty() {
                    return Err(unfit("is the kernel's, or the host's, and not the container's to read"));
                }
                steps.push(Step { name: component, found, directories: opened });
            } else if wanted.is_empty() {
                end = Some((component, Some(found)));
            } else {
                return Err(unfit("is not a directory"));
            }
        }
        let mut own: PathBuf = steps.iter().map(|step| &step.name).collect();
        let (name, found) = match end {
            Some((name, found)) => {
                own.push(&name);
                (Some(name), found)
            }
            None => match steps.pop() {
                Some(step) => (Some(step.name), Some(step.found)),
                None => (None, self.top()?),
            },
        };
        let parent = match steps.pop() {
            Some(step) => step.directories,
            None => clones(&self.tops()).map_err(failed("open"))?,
        };
        Ok(Place { path: own, parent, name, found })
    }

    fn top(&self) -> Result<Option<Found>, RootError> {
        let Some(top) = self.tops().first().copied() else { return Ok(None) };
        let stat = rustix::fs::fstat(top).map_err(refused("look at", Path::new("/")))?;
        Ok(Some(Found { at: 0, stat }))
    }
}

/// Puts the components of a path before those that are to come.
pub(super) fn prepend(wanted: &mut VecDeque<OsString>, path: &OsStr) {
    for component in path.as_bytes().split(|byte| *byte == b'/').rev() {
        if !component.is_empty() {
            wanted.push_front(OsStr::from_bytes(component).to_owned());
        }
    }
}

pub(super) fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

pub(super) fn link_target(directory: BorrowedFd<'_>, name: &OsStr) -> Result<OsString, Errno> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(OsStr::from_bytes(target.as_bytes()).to_owned())
}
