//! What is mounted in a container that does not run, and which of them a path of it is in.
//!
//! A container that runs shows its mounts itself. For one that does not, each is a root of its own. A path is
//! walked by name, links and all, to the one that it ends in, and there it is walked again as any path is: who
//! changes a volume meanwhile (a container that runs may have it too) leads nowhere but within it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::resolve::{LINKS_MAX, Links, is_link, link_target, prepend};
use super::{Root, RootError, check_depth, is_directory, merged, names, refused};

/// Something that is mounted in a container.
#[derive(Debug)]
pub struct Mount {
    /// Absolute, in the container.
    pub target: PathBuf,
    /// What is there.
    pub what: Mounted,
}

/// What is mounted.
#[derive(Debug)]
pub enum Mounted {
    /// A directory.
    Directory {
        /// Its files.
        root: Root,
        /// None of them may be changed.
        read_only: bool,
        /// While it is empty, a start fills it with what the image has at its place.
        filled: bool,
    },
    /// What is there while the container runs alone, and why, to follow the path.
    Absent(&'static str),
}

/// The root that a path is in.
pub(super) struct Sought<'a> {
    pub(super) root: &'a Root,
    /// Within that.
    pub(super) path: PathBuf,
    /// The last name of the path, where it is that of a mount.
    pub(super) name: Option<OsString>,
    /// The whole path without links, relative to the container's root.
    pub(super) whole: PathBuf,
    mount: Option<&'a Mount>,
}

impl Root {
    /// Adds what is mounted when the container starts, and whether its root may be changed.
    #[must_use]
    pub fn with_mounts(mut self, mut mounts: Vec<Mount>, read_only: bool) -> Self {
        self.read_only = read_only;
        mounts.sort_by_key(|mount| mount.target.components().count());
        for mut mount in mounts {
            let names = mount.target.components().filter(|part| matches!(part, Component::Normal(_)));
            let plain = names.collect();
            // A link of the image leads to another place, as it does at the start.
            mount.target = self.walk(&mount.target, Links::Follow).unwrap_or(plain);
            self.mounts.push(mount);
        }
        self
    }

    /// The directories of its mounts, and whether they may be changed.
    pub(super) fn mounted(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.mounts.iter().filter_map(|mount| match &mount.what {
            Mounted::Directory { root, read_only, .. } => {
                root.writable.as_ref().map(|directory| (directory.as_fd(), !read_only))
            }
            Mounted::Absent(_) => None,
        })
    }

    /// The root that a path is in, for reading.
    pub(super) fn seek(&self, path: &Path, last: Links) -> Result<Sought<'_>, RootError> {
        if self.mounts.is_empty() {
            let (path, whole) = (path.to_owned(), PathBuf::new());
            return Ok(Sought { root: self, path, name: None, whole, mount: None });
        }
        let whole = self.walk(path, last)?;
        let (root, mut inner, mount) = self.mount_of(&whole, path)?;
        let name = whole.file_name().filter(|_| inner.as_os_str().is_empty()).map(OsString::from);
        if path.as_os_str().as_bytes().ends_with(b"/") {
            // That it is a directory is looked at there.
            inner.push("");
        }
        Ok(Sought { root, path: inner, name, whole, mount })
    }

    /// The root that a directory is in, for writing.
    pub(super) fn seek_writable(&self, path: &Path) -> Result<Sought<'_>, RootError> {
        let sought = self.seek(path, Links::Follow)?;
        let unfit = |problem| Err(RootError::Unfit { path: path.to_owned(), problem });
        match sought.mount.map(|mount| &mount.what) {
            None if self.read_only => unfit("is read-only"),
            Some(Mounted::Directory { read_only: true, .. }) => unfit("is read-only"),
            Some(Mounted::Directory { filled: true, root, .. }) if self.would_fill(root, &sought)? => {
                unfit("is in a volume that the container's first start fills from the image; start it once")
            }
            _ => Ok(sought),
        }
    }

    /// Mounts below a directory that was sought, relative to it: what is written there would be hidden.
    pub(super) fn mounts_below(&self, sought: &Sought<'_>) -> Vec<PathBuf> {
        let below = self.mounts.iter().filter_map(|mount| mount.target.strip_prefix(&sought.whole).ok());
        below.filter(|target| !target.as_os_str().is_empty()).map(Path::to_owned).collect()
    }

    fn would_fill(&self, volume: &Root, sought: &Sought<'_>) -> Result<bool, RootError> {
        let Some(mount) = sought.mount else { return Ok(false) };
        for top in volume.tops() {
            if !names(top, &mount.target)?.is_empty() {
                return Ok(false);
            }
        }
        let place = match self.resolve(&mount.target, Links::Follow) {
            Err(RootError::Absent { .. }) => return Ok(false),
            other => other?,
        };
        let (Some(name), Some(found)) = (&place.name, &place.found) else { return Ok(false) };
        if !is_directory(&found.stat) {
            return Ok(false);
        }
        let opened = self.enter(&place.borrowed(), found.at, name).map_err(refused("open", &mount.target))?;
        let opened: Vec<BorrowedFd<'_>> = opened.iter().map(|directory| directory.as_fd()).collect();
        Ok(!merged(&opened, &mount.target)?.is_empty())
    }

    /// The innermost mount that a path without links is in, and the path within it.
    fn mount_of(&self, at: &Path, path: &Path) -> Result<(&Root, PathBuf, Option<&Mount>), RootError> {
        let within = self.mounts.iter().filter(|mount| at.starts_with(&mount.target));
        let Some(mount) = within.max_by_key(|mount| mount.target.components().count()) else {
            return Ok((self, at.to_owned(), None));
        };
        match &mount.what {
            Mounted::Absent(problem) => Err(RootError::Unfit { path: path.to_owned(), problem }),
            Mounted::Directory { root, .. } => {
                let inner = at.strip_prefix(&mount.target).unwrap_or(at).to_owned();
                Ok((root, inner, Some(mount)))
            }
        }
    }

    /// Follows a path by name, over mounts, to one without links; what is missing at its end is left to
    /// whoever opens it.
    fn walk(&self, path: &Path, last: Links) -> Result<PathBuf, RootError> {
        let (mut at, mut wanted, mut links) = (PathBuf::new(), VecDeque::new(), 0);
        prepend(&mut wanted, path.as_os_str());
        if path.as_os_str().as_bytes().ends_with(b"/") {
            wanted.push_back(".".into());
        }
        while let Some(component) = wanted.pop_front() {
            match component.as_bytes() {
                b"." => continue,
                b".." => {
                    at.pop();
                    continue;
                }
                _ => check_depth(at.components().count(), path)?,
            }
            let next = at.join(&component);
            let (root, inner, _) = self.mount_of(&next, path)?;
            let place = root.resolve(&inner, Links::Keep).map_err(told(&inner, path))?;
            let found = place.found.as_ref().filter(|found| is_link(&found.stat));
            let (Some(found), Some(name)) = (found, &place.name) else {
                at = next;
                continue;
            };
            if last == Links::Keep && wanted.is_empty() {
                at = next;
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                let problem = "leads through too many links";
                return Err(RootError::Unfit { path: path.to_owned(), problem });
            }
            let borrowed = place.borrowed();
            let directory = borrowed.get(found.at);
            let directory = directory.ok_or_else(|| RootError::Absent { path: path.to_owned() })?;
            let target = link_target(*directory, name).map_err(refused("read the link", path))?;
            if target.as_bytes().starts_with(b"/") {
                at.clear();
            }
            prepend(&mut wanted, &target);
        }
        Ok(at)
    }
}

/// What is missing or unfit by its path within a mount, by the one that was given.
pub(super) fn told<'a>(inner: &'a Path, given: &'a Path) -> impl Fn(RootError) -> RootError + 'a {
    move |error| match error {
        RootError::Absent { path } if path == inner => RootError::Absent { path: given.to_owned() },
        RootError::Unfit { path, problem } if path == inner => {
            RootError::Unfit { path: given.to_owned(), problem }
        }
        other => other,
    }
}
