//! `/dev`: a small tmpfs of ours with the standard nodes, and other mounts that the parent makes.
//!
//! Made by the parent because nodes on a file system of a user namespace cannot be opened; this one
//! belongs to the host's, and only its owner is the container's root. Masks use *these* nodes, never
//! the image's (CVE-2025-31133).

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknodat, umask};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use wharf_sys::mount::{Attributes, FsContext, clone_tree, set_attributes, set_id_map};

use super::resolve::{Links, kind_of, make_directory};
use crate::error::{AtStage, Stage, StepError};
use crate::spec::{DeviceNode, LaunchSpec, MountSource, MountSpec};

const STANDARD: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Makes the detached file system of `/dev`.
pub(crate) fn make(spec: &LaunchSpec) -> Result<OwnedFd, StepError> {
    let owner = spec.id_map.map_or(0, |map| map.host_base);
    // Room for the standard nodes, and for those of the description with directories above them.
    let inodes = 256 + 2 * spec.devices.len();
    let options = [("mode", "755".into()), ("size", "65536".into()), ("nr_inodes", inodes.to_string())];
    let dev = tmpfs(&options, owner).at(Stage::MakeDevices, "/dev")?;
    let old = umask(Mode::empty());
    let filled = fill(dev.as_fd(), spec, owner);
    umask(old);
    filled.map(|()| dev)
}

fn tmpfs(options: &[(&str, String)], owner: u32) -> Result<OwnedFd, Errno> {
    let context = FsContext::open(c"tmpfs").map_err(|error| error.errno)?;
    let ids = [("uid", owner.to_string()), ("gid", owner.to_string())];
    for (key, value) in options.iter().chain(&ids) {
        let (key, value) = (CString::new(*key), CString::new(value.as_str()));
        let (Ok(key), Ok(value)) = (key, value) else { return Err(Errno::EINVAL) };
        context.set_string(&key, &value).map_err(|error| error.errno)?;
    }
    context.mount(Attributes::NO_SUID.with(Attributes::NO_EXEC)).map_err(|error| error.errno)
}

/// Makes the detached, empty directory that hides another.
pub(crate) fn empty(spec: &LaunchSpec) -> Result<OwnedFd, StepError> {
    let owner = spec.id_map.map_or(0, |map| map.host_base);
    let tree = tmpfs(&[("mode", "555".into()), ("nr_inodes", "1".into())], owner).at(Stage::Mask, "")?;
    let attributes = Attributes::READ_ONLY.with(Attributes::NO_SUID).with(Attributes::NO_DEV);
    set_attributes(tree.as_fd(), attributes.with(Attributes::NO_EXEC), false).at(Stage::Mask, "")?;
    Ok(tree)
}

fn fill(dev: BorrowedFd<'_>, spec: &LaunchSpec, owner: u32) -> Result<(), StepError> {
    let own = |name: &str| {
        if owner == 0 {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
        fchownat(dev, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
    };
    for (path, major, minor) in STANDARD {
        let node = DeviceNode { path: path.to_owned(), character: true, major, minor, mode: 0o666 };
        make_node(dev, &node).and_then(|()| own(path)).at(Stage::MakeDevices, path)?;
    }
    for device in &spec.devices {
        make_node(dev, device)
            .and_then(|()| own(&device.path))
            .at(Stage::MakeDevices, device.path.as_str())?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(dev, name, Mode::from_bits_truncate(0o755))
            .and_then(|()| own(name))
            .at(Stage::MakeDevices, name)?;
    }
    for (to, name) in LINKS {
        symlinkat(to, dev, name).and_then(|()| own(name)).at(Stage::MakeDevices, name)?;
    }
    if spec.process.terminal {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        openat(dev, "console", flags, Mode::from_bits_truncate(0o600))
            .and_then(|_| own("console"))
            .at(Stage::MakeDevices, "console")?;
    }
    Ok(())
}

fn make_node(dev: BorrowedFd<'_>, node: &DeviceNode) -> Result<(), Errno> {
    let path = Path::new(&node.path);
    let parent = path.parent().ok_or(Errno::EINVAL)?;
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let below;
    let parent = if parent.as_os_str().is_empty() {
        dev
    } else {
        below = make_directory(dev, parent, Links::Refuse)?;
        below.as_fd()
    };
    let kind = if node.character { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
    let number = makedev(node.major.into(), node.minor.into());
    mknodat(parent, Path::new(name), kind, Mode::from_bits_truncate(node.mode & 0o777), number)
}

/// Makes the detached copy of a host's directory or file that a mount shows.
///
/// `None` for mounts that the child makes itself.
pub(crate) fn bind(
    mount: &MountSpec,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<Option<OwnedFd>, StepError> {
    let MountSource::Bind { path, idmap } = &mount.source else { return Ok(None) };
    let detail = || path.display().to_string();
    let source = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at(Stage::Mount, detail())?;
    // An idmapped copy cannot carry mounts below it that do not know id maps.
    let shift = user_namespace.filter(|_| *idmap);
    let recursive = shift.is_none() && !mount.shallow;
    let tree = clone_tree(source.as_fd(), c"", recursive).at(Stage::Mount, detail())?;
    // A volume becomes read-only in the child, once it was filled.
    let attributes = attributes_of(mount, mount.read_only && !*idmap);
    set_attributes(tree.as_fd(), attributes, recursive).at(Stage::Mount, detail())?;
    if let Some(user_namespace) = shift {
        set_id_map(tree.as_fd(), user_namespace).at(Stage::MapIds, detail())?;
    }
    Ok(Some(tree))
}

/// Returns the properties of a mount of the description.
pub(crate) fn attributes_of(mount: &MountSpec, read_only: bool) -> Attributes {
    let base = Attributes::NO_SUID.with(Attributes::NO_DEV);
    let base = if read_only { base.with(Attributes::READ_ONLY) } else { base };
    if mount.no_exec { base.with(Attributes::NO_EXEC) } else { base }
}

/// Returns whether a bound thing is a directory.
pub(crate) fn is_directory(tree: BorrowedFd<'_>) -> Result<bool, Errno> {
    kind_of(tree).map(|kind| kind == SFlag::S_IFDIR)
}

/// Makes a detached copy of the host's `/sys`: for containers in a network that is not theirs, whose own
/// user namespace may not mount one. The child makes it read-only.
pub(crate) fn host_sys() -> Result<OwnedFd, StepError> {
    let sys = open("/sys", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .at(Stage::Mount, "/sys")?;
    let tree = clone_tree(sys.as_fd(), c"", false).at(Stage::Mount, "/sys")?;
    Ok(tree)
}
