//! Reaching into a root file system that a tenant controls.
//!
//! Everything goes by `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`: links resolve inside the
//! root or not at all, `/proc` links never. Paths of the runtime itself (`/proc`, `/dev`…) follow no
//! link at all, so an image with `/proc → /etc` fails instead of getting mounts elsewhere
//! (CVE-2021-30465, CVE-2019-19921). What is opened is used by its descriptor, never by name again.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};

/// Which links may be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// None: paths of the runtime.
    Refuse,
    /// Those that stay inside the root: paths that a tenant chose.
    Inside,
}

impl Links {
    fn flags(self) -> ResolveFlag {
        let always = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        if self == Self::Refuse { always | ResolveFlag::RESOLVE_NO_SYMLINKS } else { always }
    }
}

/// Opens a path below `root`.
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlag, links: Links) -> Result<OwnedFd, Errno> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(links.flags());
    loop {
        match openat2(root, path, how) {
            // The kernel asks to try again when a rename raced with the lookup (openat2(2)).
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Opens a place to mount on or look at.
pub(crate) fn open_path(root: BorrowedFd<'_>, path: &Path, links: Links) -> Result<OwnedFd, Errno> {
    open(root, path, OFlag::O_PATH, links)
}

/// Opens a directory and makes those of its parts that are missing, with mode 0755.
pub(crate) fn make_directory(root: BorrowedFd<'_>, path: &Path, links: Links) -> Result<OwnedFd, Errno> {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
    match open(root, path, directory, links) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    let mut reached = PathBuf::new();
    let mut dir = open(root, &reached, directory, links)?;
    for part in path.strip_prefix("/").unwrap_or(path).components() {
        reached.push(part);
        dir = match open(root, &reached, directory, links) {
            Err(Errno::ENOENT) => {
                let name: &Path = part.as_ref();
                match mkdirat(&dir, name, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
                open(root, &reached, directory, links)?
            }
            other => other?,
        };
    }
    Ok(dir)
}

/// Opens a place for a mount and makes it, as a directory or an empty file, when it is missing.
pub(crate) fn make_target(
    root: BorrowedFd<'_>,
    path: &Path,
    directory: bool,
    links: Links,
) -> Result<OwnedFd, Errno> {
    if directory {
        return make_directory(root, path, links);
    }
    match open_path(root, path, links) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
    let parent = make_directory(root, parent, links)?;
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_WRONLY;
    drop(openat(&parent, Path::new(name), flags, Mode::from_bits_truncate(0o644))?);
    open_path(root, path, links)
}

/// Reads a regular file of at most `limit_bytes`; links that stay inside are followed.
pub(crate) fn read_text(root: BorrowedFd<'_>, path: &str, limit_bytes: u64) -> Result<String, Errno> {
    // O_NONBLOCK: opening a FIFO that the image put there must not wait for a writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::from(open(root, Path::new(path), flags, Links::Inside)?);
    if kind(&fstat(&file)?) != SFlag::S_IFREG {
        return Err(Errno::EINVAL);
    }
    let mut bytes = Vec::new();
    let read = file.take(limit_bytes + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit_bytes) {
        return Err(Errno::EFBIG);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the file type of what is open, also for `O_PATH` descriptors.
pub(crate) fn kind_of(fd: impl AsFd) -> Result<SFlag, Errno> {
    fstatat(fd, c"", AtFlags::AT_EMPTY_PATH).map(|stat| kind(&stat))
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wharf-resolve-{}-{name}", std::process::id()));
            drop(std::fs::remove_dir_all(&path));
            std::fs::create_dir_all(path.join("root/real")).expect("directory");
            std::fs::create_dir_all(path.join("outside")).expect("directory");
            Self(path)
        }

        fn open(&self) -> OwnedFd {
            File::open(self.0.join("root")).expect("root").into()
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_link_out_of_the_root_stays_inside_or_fails() {
        let root = Root::new("link");
        symlink(root.0.join("outside"), root.0.join("root/evil")).expect("link");
        symlink("../../outside", root.0.join("root/up")).expect("link");
        let fd = root.open();
        for path in ["evil/made", "up/made"] {
            assert!(make_directory(fd.as_fd(), Path::new(path), Links::Inside).is_err(), "{path}");
            assert_eq!(make_directory(fd.as_fd(), Path::new(path), Links::Refuse).err(), Some(Errno::ELOOP));
        }
        assert_eq!(std::fs::read_dir(root.0.join("outside")).expect("outside").count(), 0);
    }

    #[test]
    fn a_link_inside_is_followed_for_tenants_and_refused_for_the_runtime() {
        let root = Root::new("inside");
        symlink("/real", root.0.join("root/alias")).expect("link");
        let fd = root.open();
        make_target(fd.as_fd(), Path::new("/alias/file"), false, Links::Inside).expect("follows");
        assert!(root.0.join("root/real/file").is_file());
        let refused = make_target(fd.as_fd(), Path::new("/alias/other"), false, Links::Refuse);
        assert_eq!(refused.err(), Some(Errno::ELOOP));
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let root = Root::new("read");
        nix::unistd::mkfifo(&root.0.join("root/fifo"), Mode::S_IRWXU).expect("fifo");
        std::fs::write(root.0.join("root/big"), "x".repeat(100)).expect("file");
        symlink("/etc/passwd", root.0.join("root/hosts-own")).expect("link");
        let fd = root.open();
        assert_eq!(read_text(fd.as_fd(), "fifo", 10).err(), Some(Errno::EINVAL));
        assert_eq!(read_text(fd.as_fd(), "big", 99).err(), Some(Errno::EFBIG));
        assert_eq!(read_text(fd.as_fd(), "big", 100).expect("fits").len(), 100);
        assert_eq!(read_text(fd.as_fd(), "hosts-own", 9999).err(), Some(Errno::ENOENT), "not the host's");
    }
}
