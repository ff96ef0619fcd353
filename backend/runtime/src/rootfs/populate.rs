//! Fills an empty volume with what the image has at its place, as Docker does.
//!
//! Runs in the child, with no more rights than the container's root has, before anything of the
//! container runs. No link is followed: both sides are walked by descriptors, name by name, and a link is
//! copied as a link. Devices and sockets stay behind, extended attributes too. A failure leaves the volume
//! as it was, so that the next start tries again.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::{Dir, Entry};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, futimens, mkdirat, mknodat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat};

/// Deeper trees are refused: each level holds two descriptors.
const DEPTH_MAX: u32 = 128;
const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Copies the directory `image` into `volume` if that is empty, with owners, modes and times.
pub(crate) fn populate(image: BorrowedFd<'_>, volume: BorrowedFd<'_>) -> Result<(), Errno> {
    let from = openat(image, c".", DIRECTORY, Mode::empty())?;
    let to = openat(volume, c".", DIRECTORY, Mode::empty())?;
    if !names(&to)?.is_empty() {
        return Ok(());
    }
    copy_directory(&from, &to, DEPTH_MAX).inspect_err(|_| {
        // What cannot be removed either is found, as a volume that is not empty. One level more: of a tree
        // that is too deep, the first directory too many was made.
        clear(&to, DEPTH_MAX + 1).ok();
    })
}

fn names(directory: &OwnedFd) -> Result<Vec<std::ffi::CString>, Errno> {
    // A descriptor of its own: reading moves its position.
    let mut dir = Dir::from_fd(openat(directory, c".", DIRECTORY, Mode::empty())?)?;
    let entries: Result<Vec<Entry>, Errno> = dir.iter().collect();
    let all = entries?.into_iter().map(|entry| entry.file_name().to_owned());
    Ok(all.filter(|name| ![c".", c".."].contains(&name.as_c_str())).collect())
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, depth: u32) -> Result<(), Errno> {
    let deeper = depth.checked_sub(1).ok_or(Errno::ENAMETOOLONG)?;
    for name in names(from)? {
        copy(from, to, &name, deeper)?;
    }
    // Last: it may take away what making the entries needs.
    let stat = fstat(from)?;
    fchown(to, Some(owner(&stat)), Some(group(&stat)))?;
    fchmod(to, mode(&stat))?;
    touch(to.as_fd(), &stat)
}

fn copy(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: u32) -> Result<(), Errno> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU)?;
            let below = openat(from, name, DIRECTORY, Mode::empty())?;
            copy_directory(&below, &openat(to, name, DIRECTORY, Mode::empty())?, depth)
        }
        SFlag::S_IFREG => copy_file(from, to, name),
        SFlag::S_IFLNK => {
            symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?;
            fchownat(to, name, Some(owner(&stat)), Some(group(&stat)), AtFlags::AT_SYMLINK_NOFOLLOW)
        }
        SFlag::S_IFIFO => {
            mknodat(to, name, SFlag::S_IFIFO, Mode::S_IRUSR, 0)?;
            fchownat(to, name, Some(owner(&stat)), Some(group(&stat)), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            fchmodat(to, name, mode(&stat), FchmodatFlags::FollowSymlink)
        }
        _ => Ok(()),
    }
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut source = File::from(openat(from, name, read, Mode::empty())?);
    let mut target = File::from(openat(to, name, write, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let stat = fstat(&source)?;
    std::io::copy(&mut source, &mut target)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    fchown(&target, Some(owner(&stat)), Some(group(&stat)))?;
    // After the owner, whose change takes set-id bits away.
    fchmod(&target, mode(&stat))?;
    touch(target.as_fd(), &stat)
}

fn touch(fd: BorrowedFd<'_>, stat: &FileStat) -> Result<(), Errno> {
    let at = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    futimens(fd, &at, &at)
}

fn clear(directory: &OwnedFd, depth: u32) -> Result<(), Errno> {
    let deeper = depth.checked_sub(1).ok_or(Errno::ENAMETOOLONG)?;
    for name in names(directory)? {
        match openat(directory, name.as_c_str(), DIRECTORY, Mode::empty()) {
            Ok(below) => {
                clear(&below, deeper)?;
                unlinkat(directory, name.as_c_str(), UnlinkatFlags::RemoveDir)?;
            }
            Err(_) => unlinkat(directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?,
        }
    }
    Ok(())
}

fn owner(stat: &FileStat) -> Uid {
    Uid::from_raw(stat.st_uid)
}

fn group(stat: &FileStat) -> Gid {
    Gid::from_raw(stat.st_gid)
}

fn mode(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wharf-populate-{}-{name}", std::process::id()));
            drop(fs::remove_dir_all(&path));
            for part in ["image/sub", "volume"] {
                fs::create_dir_all(path.join(part)).expect("directory");
            }
            Self(path)
        }

        fn populate(&self) -> Result<(), Errno> {
            let open = |name: &str| File::open(self.0.join(name)).expect("opens");
            populate(open("image").as_fd(), open("volume").as_fd())
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.join(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("is there").mode() & 0o7777
    }

    #[test]
    fn an_empty_volume_gets_what_the_image_has() {
        let place = Place::new("copy");
        fs::write(place.path("image/sub/file"), "content").expect("file");
        fs::set_permissions(place.path("image/sub/file"), fs::Permissions::from_mode(0o2751)).expect("mode");
        fs::set_permissions(place.path("image"), fs::Permissions::from_mode(0o750)).expect("mode");
        nix::unistd::mkfifo(&place.path("image/pipe"), Mode::S_IRWXU).expect("fifo");
        place.populate().expect("copies");
        assert_eq!(fs::read_to_string(place.path("volume/sub/file")).expect("file"), "content");
        assert_eq!(mode_of(&place.path("volume/sub/file")), 0o2751);
        assert_eq!(mode_of(&place.path("volume")), 0o750);
        assert!(place.path("volume/pipe").exists());
        let time = |path: &str| fs::metadata(place.path(path)).expect("is there").mtime();
        assert_eq!(time("volume/sub/file"), time("image/sub/file"));
    }

    #[test]
    fn a_link_is_copied_and_never_followed() {
        let place = Place::new("links");
        fs::create_dir(place.path("outside")).expect("directory");
        fs::write(place.path("outside/secret"), "secret").expect("file");
        symlink(place.path("outside"), place.path("image/evil")).expect("link");
        symlink("../../outside/secret", place.path("image/sub/up")).expect("link");
        place.populate().expect("copies");
        for link in ["volume/evil", "volume/sub/up"] {
            assert!(fs::symlink_metadata(place.path(link)).expect("is there").is_symlink(), "{link}");
        }
        assert_eq!(fs::read_dir(place.path("outside")).expect("outside").count(), 1);
    }

    #[test]
    fn a_volume_with_anything_in_it_is_left_alone() {
        let place = Place::new("full");
        fs::write(place.path("volume/own"), "own").expect("file");
        place.populate().expect("does nothing");
        assert_eq!(fs::read_dir(place.path("volume")).expect("volume").count(), 1);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused_and_leaves_nothing() {
        let place = Place::new("deep");
        let mut path = place.path("image");
        for _ in 0..=DEPTH_MAX {
            path.push("d");
        }
        fs::create_dir_all(&path).expect("directories");
        assert_eq!(place.populate(), Err(Errno::ENAMETOOLONG));
        assert_eq!(fs::read_dir(place.path("volume")).expect("volume").count(), 0);
    }
}
