//! The files of a container: its writable layer above its image's layers, as overlayfs would show them.
//!
//! Read without a mount, because this works for a container that does not run, on every kernel and by a
//! process with threads. What is in the writable layer belongs to a hostile root that may change it
//! meanwhile: everything is opened by its directory's descriptor and its last name, no link is followed, and
//! only regular files are opened for reading, so that neither a link nor a pipe nor a device leads anywhere.
//! The root of a container that runs is read, and written to, in the same way: what it sees as `/`, as one
//! layer, with the volumes that are mounted there ([`Root::live`]).
//! Sources: the kernel's `filesystems/overlayfs.rst` ("whiteouts and opaque directories"), openat2(2).

mod capability;
mod changes;
mod mounts;
mod pack;
mod place;
mod resolve;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use wharf_sys::landlock::Allowed;

use crate::unpack::UnpackError;
use crate::walls::{self, WallsError};

pub use changes::{Change, ChangeKind};
pub use mounts::{Mount, Mounted};
pub use place::Placed;
pub use resolve::{FileKind, FileStat};

/// Directories within each other that are followed; a container may make deeper ones.
const DEPTH_MAX: usize = 256;
/// Names in one directory, over all layers.
const NAMES_MAX: usize = 1 << 20;

/// Ids that a container has.
const IDS: u32 = 65_536;
const OPAQUE: &str = "trusted.overlay.opaque";
/// File systems that keep files: btrfs, ext2 to ext4, f2fs, overlayfs, tmpfs, xfs, zfs (`linux/magic.h`, statfs(2)).
const KEEPS_FILES: [rustix::fs::FsWord; 7] =
    [0x9123_683e, 0xef53, 0xf2f5_2010, 0x794c_7630, 0x0102_1994, 0x5846_5342, 0x2fc1_2fc1];
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A container's files cannot be read or written out.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The kernel refused.
    #[error("cannot {call} {path}", path = path.display())]
    Read {
        /// What was attempted.
        call: &'static str,
        /// In the container.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// It is nested too deeply or has too many names.
    #[error("{path} {problem}", path = path.display())]
    Limit {
        /// In the container.
        path: PathBuf,
        /// What is too much.
        problem: &'static str,
    },
    /// A name that means something else in a layer.
    #[error("{path} has a name that hides files in a layer; rename it", path = path.display())]
    Whiteout {
        /// In the container.
        path: PathBuf,
    },
    /// There is no such path.
    #[error("there is no {path} in the container", path = path.display())]
    Absent {
        /// As it was given.
        path: PathBuf,
    },
    /// The path is not what it is used as.
    #[error("{path} {problem}", path = path.display())]
    Unfit {
        /// In the container.
        path: PathBuf,
        /// What it is, or is not.
        problem: &'static str,
    },
    /// The archive to be unpacked is refused, or the disk is full.
    #[error("the archive cannot be unpacked there")]
    Unpack(#[from] UnpackError),
    /// It cannot be read or written behind walls.
    #[error(transparent)]
    Walls(#[from] WallsError),
    /// Whoever takes the archive has gone, or its disk is full.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

/// A container's root.
#[derive(Debug)]
pub struct Root {
    /// The writable layer; a container that never ran has none.
    writable: Option<OwnedFd>,
    /// The image's, uppermost first.
    image: Vec<OwnedFd>,
    /// First id of the container's range; the image's layers have the container's own ids.
    id_base: u32,
    /// It is what a running container sees.
    live: bool,
    /// What else would be mounted if it ran.
    mounts: Vec<Mount>,
    /// It is mounted read-only when it runs.
    read_only: bool,
}

/// One name in a directory, as the uppermost layer that has it says.
struct Found {
    /// Position in the list of directories that it was found in.
    at: usize,
    stat: Stat,
}

impl Root {
    /// Opens the layers: the writable one, which a container that never ran lacks, and the image's,
    /// uppermost first.
    ///
    /// # Errors
    /// When one of the image's is not there.
    pub fn open(writable: &Path, image: &[PathBuf], id_base: u32) -> Result<Self, RootError> {
        let open = |path: &Path| {
            rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(|source| RootError::Read {
                call: "open the layer",
                path: path.to_owned(),
                source,
            })
        };
        let writable = match open(writable) {
            Err(RootError::Read { source: Errno::NOENT, .. }) => None,
            other => Some(other?),
        };
        let image = image.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
        Ok(Self { writable, image, id_base, live: false, mounts: Vec::new(), read_only: false })
    }

    /// The root directory of a container that runs, as its first process sees it (`/proc/<pid>/root`), or one that
    /// is mounted in it ([`Root::with_mounts`]). Without a base the ids in it are the container's own.
    pub fn live(root: OwnedFd, id_base: u32) -> Self {
        Self {
            writable: Some(root),
            image: Vec::new(),
            id_base,
            live: true,
            mounts: Vec::new(),
            read_only: false,
        }
    }

    /// Opens a directory that was found, with those of lower layers that show through it; none when it
    /// went away, or is on a file system that files are not copied from or to.
    fn enter(
        &self,
        directories: &[BorrowedFd<'_>],
        from: usize,
        name: &OsStr,
    ) -> Result<Vec<OwnedFd>, Errno> {
        let mut opened = descend(directories, from, name)?;
        if let [only] = opened.as_slice()
            && !(self.keeps_files(only.as_fd())? && self.may_read(&rustix::fs::fstat(only)?))
        {
            opened.clear();
        }
        Ok(opened)
    }

    /// Whether this belongs to one of the container's users, so that its root may do as it likes with it. What
    /// an operator has mounted from the host may not, and we would open it with the host's rights.
    fn owns(&self, stat: &Stat) -> bool {
        let own = |id: u32| id.checked_sub(self.id_base).is_some_and(|id| id < IDS);
        // Without a base its root is the host's.
        !self.live || self.id_base == 0 || (own(stat.st_uid) && own(stat.st_gid))
    }

    /// Whether the container's root may read it: its own, or what everybody may.
    fn may_read(&self, stat: &Stat) -> bool {
        let everybody = if is_directory(stat) { 0o005 } else { 0o004 };
        self.owns(stat) || stat.st_mode & everybody == everybody
    }

    /// Whether this is on a file system that keeps files. A running container has others mounted, whose
    /// files act on the kernel or show what only the host's root may read, as which we open them.
    fn keeps_files(&self, node: BorrowedFd<'_>) -> Result<bool, Errno> {
        Ok(!self.live || KEEPS_FILES.contains(&rustix::fs::fstatfs(node)?.f_type))
    }

    /// Does work that may use this root's files and no others; of its layers the writable one as `allowed`.
    fn within_walls<T: Send>(
        &self,
        allowed: Allowed,
        work: impl FnOnce() -> Result<T, RootError> + Send,
    ) -> Result<T, RootError> {
        let writable = self.writable.iter().map(|layer| (layer.as_fd(), allowed));
        let image = self.image.iter().map(|layer| (layer.as_fd(), Allowed::Read));
        let mounted = self
            .mounted()
            .map(|(directory, may_change)| (directory, if may_change { allowed } else { Allowed::Read }));
        walls::within(&writable.chain(image).chain(mounted).collect::<Vec<_>>(), work)?
    }

    /// The tops of all layers, uppermost first.
    fn tops(&self) -> Vec<BorrowedFd<'_>> {
        self.writable.iter().chain(&self.image).map(AsFd::as_fd).collect()
    }

    /// The container's own id of an owner on disk; of one that it does not have, nobody's.
    fn container_id(&self, id: u32) -> u32 {
        const NOBODY: u32 = 65_534;
        match id.checked_sub(self.id_base) {
            Some(own) if own < IDS => own,
            _ if id < IDS => id,
            _ => NOBODY,
        }
    }
}

fn refused(call: &'static str, path: &Path) -> impl FnOnce(Errno) -> RootError {
    let path = path.to_owned();
    move |source| RootError::Read { call, path, source }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether a directory hides those of its name in lower layers.
fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0; 1];
    matches!(rustix::fs::fgetxattr(directory, OPAQUE, &mut value), Ok(1) if value == *b"y")
}

/// Looks at a name without following it; `None` when it is not there (any more).
fn look(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The names of one directory, of one layer.
fn names(directory: BorrowedFd<'_>, path: &Path) -> Result<Vec<OsString>, RootError> {
    let mut all = Vec::new();
    for entry in Dir::read_from(directory).map_err(refused("list", path))? {
        let entry = entry.map_err(refused("list", path))?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            all.push(OsStr::from_bytes(name).to_owned());
        }
        if all.len() > NAMES_MAX {
            return Err(RootError::Limit { path: path.to_owned(), problem: "has too many names" });
        }
    }
    Ok(all)
}

/// The uppermost layer that has a name, be it a whiteout.
fn uppermost(directories: &[BorrowedFd<'_>], name: &OsStr) -> Result<Option<Found>, Errno> {
    for (at, directory) in directories.iter().enumerate() {
        if let Some(stat) = look(*directory, name)? {
            return Ok(Some(Found { at, stat }));
        }
    }
    Ok(None)
}

/// What overlayfs shows of one directory, which is these of the layers, uppermost first.
fn merged(directories: &[BorrowedFd<'_>], path: &Path) -> Result<BTreeMap<OsString, Found>, RootError> {
    let mut all: BTreeMap<OsString, Option<Found>> = BTreeMap::new();
    for (at, directory) in directories.iter().enumerate() {
        for name in names(*directory, path)? {
            if all.contains_key(&name) {
                continue;
            }
            let Some(stat) = look(*directory, &name).map_err(refused("look at", &path.join(&name)))? else {
                continue;
            };
            all.insert(name, (!is_whiteout(&stat)).then_some(Found { at, stat }));
        }
    }
    Ok(all.into_iter().filter_map(|(name, found)| Some((name, found?))).collect())
}

/// Opens a directory that was found, with those of lower layers that show through it.
fn descend(directories: &[BorrowedFd<'_>], from: usize, name: &OsStr) -> Result<Vec<OwnedFd>, Errno> {
    let mut opened = Vec::new();
    for directory in directories.iter().skip(from) {
        match rustix::fs::openat(*directory, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => {
                let last = is_opaque(fd.as_fd());
                opened.push(fd);
                if last {
                    break;
                }
            }
            Err(Errno::NOENT) => {}
            // A file, a link or a whiteout ends it.
            Err(Errno::NOTDIR | Errno::LOOP) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(opened)
}

fn check_depth(depth: usize, path: &Path) -> Result<(), RootError> {
    if depth < DEPTH_MAX {
        return Ok(());
    }
    Err(RootError::Limit { path: path.to_owned(), problem: "is nested too deeply" })
}

fn clones(directories: &[BorrowedFd<'_>]) -> Result<Vec<OwnedFd>, Errno> {
    let clone = |directory: &BorrowedFd<'_>| directory.try_clone_to_owned();
    directories
        .iter()
        .map(clone)
        .collect::<Result<_, _>>()
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))
}
