//! Fills an empty volume with what the image has at its place, as Docker does.
//!
//! Runs in the child, with no more rights than the container's root has, before anything of the
//! container runs. No link is followed: both sides are walked by descriptors, name by name, and a link is
//! copied as a link. Hard links within the tree stay links of each other. Of extended attributes, those of
//! users, capabilities of programs and access lists come along, unless the container's root may not set
//! them (`SETFCAP` was dropped) or the volume's file system has none. Device nodes stay behind: a tenant's
//! root may make none, and what Docker would copy here is what device rules are there to prevent. A failure
//! leaves the volume as it was, so that the next start tries again.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Entry};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, futimens, mkdirat, mknodat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use rustix::fs::{XattrFlags, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query, fsetxattr};

/// Deeper trees are refused: each level holds two descriptors.
const DEPTH_MAX: u32 = 128;
const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Attributes that are copied: of these names, or with these beginnings.
const ATTRIBUTES: [&[u8]; 3] = [b"user.", b"security.capability", b"system.posix_acl_"];

/// Copies the directory `image` into `volume` if that is empty, with owners, modes, times and
/// attributes.
pub(crate) fn populate(image: BorrowedFd<'_>, volume: BorrowedFd<'_>) -> Result<(), Errno> {
    let from = openat(image, c".", DIRECTORY, Mode::empty())?;
    let to = openat(volume, c".", DIRECTORY, Mode::empty())?;
    if !names(&to)?.is_empty() {
        return Ok(());
    }
    let mut copying = Copying { volume: &to, linked: HashMap::new() };
    copying.directory(&from, &to, Path::new("."), DEPTH_MAX).inspect_err(|_| {
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

/// A copy of a tree under way.
struct Copying<'a> {
    volume: &'a OwnedFd,
    /// Files with several names, by device and inode: where the first of these was copied to.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copying<'_> {
    /// `at` is the path of `to` in the volume.
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, at: &Path, depth: u32) -> Result<(), Errno> {
        let deeper = depth.checked_sub(1).ok_or(Errno::ENAMETOOLONG)?;
        for name in names(from)? {
            self.entry(from, to, &name, &at.join(OsStr::from_bytes(name.to_bytes())), deeper)?;
        }
        // Last: it may take away what making the entries needs.
        adopt(from.as_fd(), to.as_fd())
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        at: &Path,
        depth: u32,
    ) -> Result<(), Errno> {
        let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        if kind == SFlag::S_IFDIR {
            mkdirat(to, name, Mode::S_IRWXU)?;
            let below = openat(from, name, DIRECTORY, Mode::empty())?;
            return self.directory(&below, &openat(to, name, DIRECTORY, Mode::empty())?, at, depth);
        }
        if stat.st_nlink > 1 {
            let file = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.linked.get(&file) {
                return self.link(first, to, name);
            }
            self.linked.insert(file, at.to_owned());
        }
        match kind {
            SFlag::S_IFREG => copy_file(from, to, name),
            SFlag::S_IFLNK => {
                symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?;
                fchownat(to, name, Some(owner(&stat)), Some(group(&stat)), AtFlags::AT_SYMLINK_NOFOLLOW)
            }
            SFlag::S_IFIFO | SFlag::S_IFSOCK => {
                mknodat(to, name, kind, Mode::S_IRUSR, 0)?;
                fchownat(to, name, Some(owner(&stat)), Some(group(&stat)), AtFlags::AT_SYMLINK_NOFOLLOW)?;
                fchmodat(to, name, mode(&stat), FchmodatFlags::FollowSymlink)
            }
            _ => Ok(()),
        }
    }

    /// Gives the file that was copied to `first` another name. Somebody else may be at work in the volume
    /// already: no link of theirs leads anywhere.
    fn link(&self, first: &Path, to: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        let (Some(parent), Some(file)) = (first.parent(), first.file_name()) else {
            return Err(Errno::EINVAL);
        };
        let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let parent = openat2(self.volume, parent, OpenHow::new().flags(DIRECTORY).resolve(inside))?;
        match linkat(&parent, file, to, name, AtFlags::empty()) {
            // The first was a device.
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut source = File::from(openat(from, name, read, Mode::empty())?);
    let mut target = File::from(openat(to, name, write, Mode::S_IRUSR | Mode::S_IWUSR)?);
    std::io::copy(&mut source, &mut target)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    adopt(source.as_fd(), target.as_fd())
}

/// Gives the copy everything but its content. The order matters: a change of owner takes set-id bits and
/// capabilities away, and an access list is finer than the mode.
fn adopt(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let stat = fstat(from)?;
    fchown(to, Some(owner(&stat)), Some(group(&stat)))?;
    fchmod(to, mode(&stat))?;
    copy_attributes(from, to)?;
    touch(to, &stat)
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    use rustix::io::Errno as Raw;
    let copy = |name: &CStr| {
        let mut value = vec![0_u8; fgetxattr_query(from, name)?];
        let length = fgetxattr(from, name, &mut value[..])?;
        fsetxattr(to, name, value.get(..length).unwrap_or_default(), XattrFlags::empty())
    };
    let all = || {
        let mut list = vec![0_u8; flistxattr_query(from)?];
        let length = flistxattr(from, &mut list[..])?;
        for name in list.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == 0) {
            let name = CStr::from_bytes_with_nul(name).map_err(|_cut_off| Raw::INVAL)?;
            if ATTRIBUTES.iter().any(|wanted| name.to_bytes().starts_with(wanted)) {
                match copy(name) {
                    // A capability may also be of a root that has no number here.
                    Ok(()) | Err(Raw::PERM | Raw::OPNOTSUPP | Raw::OVERFLOW) => {}
                    other => return other,
                }
            }
        }
        Ok(())
    };
    match all() {
        Err(Raw::OPNOTSUPP) => Ok(()),
        other => other.map_err(|error| Errno::from_raw(error.raw_os_error())),
    }
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
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
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
        drop(UnixListener::bind(place.path("image/socket")).expect("socket"));
        place.populate().expect("copies");
        assert_eq!(fs::read_to_string(place.path("volume/sub/file")).expect("file"), "content");
        assert_eq!(mode_of(&place.path("volume/sub/file")), 0o2751);
        assert_eq!(mode_of(&place.path("volume")), 0o750);
        assert!(place.path("volume/pipe").exists());
        let kind = fs::metadata(place.path("volume/socket")).expect("is there").file_type();
        assert!(kind.is_socket(), "{kind:?}");
        let time = |path: &str| fs::metadata(place.path(path)).expect("is there").mtime();
        assert_eq!(time("volume/sub/file"), time("image/sub/file"));
    }

    #[test]
    fn the_names_of_one_file_stay_names_of_one_file() {
        let place = Place::new("hard");
        fs::write(place.path("image/sub/one"), "content").expect("file");
        fs::hard_link(place.path("image/sub/one"), place.path("image/two")).expect("link");
        fs::hard_link(place.path("image/sub/one"), place.path("image/sub/three")).expect("link");
        // A name that is not in the tree makes no link in the copy.
        fs::write(place.path("outside"), "outside").expect("file");
        fs::hard_link(place.path("outside"), place.path("image/alone")).expect("link");
        symlink("nowhere", place.path("image/soft")).expect("link");
        fs::hard_link(place.path("image/soft"), place.path("image/sub/soft")).expect("link");
        place.populate().expect("copies");
        let of = |path: &str| {
            let of = fs::symlink_metadata(place.path(path)).expect("is there");
            (of.ino(), of.nlink())
        };
        let (inode, names) = of("volume/two");
        assert_eq!(names, 3);
        for path in ["volume/sub/one", "volume/sub/three"] {
            assert_eq!(of(path), (inode, 3), "{path}");
            assert_eq!(fs::read_to_string(place.path(path)).expect("file"), "content");
        }
        assert_eq!(of("volume/alone").1, 1);
        assert_eq!(of("volume/soft"), of("volume/sub/soft"));
    }

    #[test]
    fn extended_attributes_come_along() {
        // Version 2, effective, CAP_NET_BIND_SERVICE.
        const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let place = Place::new("attributes");
        fs::write(place.path("image/sub/file"), "content").expect("file");
        let all = [
            ("sub/file", c"user.note", &b"kept"[..]),
            ("sub/file", c"user.empty", b""),
            ("sub/file", c"security.capability", &CAPABILITY),
            ("sub", c"user.note", b"of a directory"),
            ("", c"user.note", b"of the root"),
        ];
        for (path, name, value) in all {
            wharf_sys::xattr::set(&place.path("image").join(path), name, value).expect("attribute");
        }
        wharf_sys::xattr::set(&place.path("image/sub/file"), c"trusted.secret", b"x").expect("attribute");
        place.populate().expect("copies");
        for (path, name, value) in all {
            let file = File::open(place.path("volume").join(path)).expect("opens");
            let mut found = [0_u8; 64];
            let length = fgetxattr(&file, name, &mut found[..]).expect("attribute");
            assert_eq!(found.get(..length), Some(value), "{path} {name:?}");
        }
        let leaked = wharf_sys::xattr::has(&place.path("volume/sub/file"), c"trusted.secret");
        assert!(!leaked.expect("asked"));
        place.populate().expect("does nothing");
    }

    #[test]
    fn device_nodes_stay_behind() {
        let place = Place::new("device");
        let null = nix::sys::stat::makedev(1, 3);
        nix::sys::stat::mknod(&place.path("image/null"), SFlag::S_IFCHR, Mode::S_IRUSR, null).expect("root");
        fs::hard_link(place.path("image/null"), place.path("image/sub/null")).expect("link");
        place.populate().expect("copies");
        for path in ["volume/null", "volume/sub/null"] {
            assert!(!place.path(path).exists(), "{path}");
        }
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
