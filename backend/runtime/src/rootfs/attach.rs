//! Puts the container's mounts together, in its own namespaces, and leaves the host's behind.
//!
//! Order: root → `/proc` `/dev` `/sys` → mounts of the description → masks → read-only root → pivot. Nothing is reached by a path of the host, and the image's own files are
//! reached only as [`super::resolve`] does.

use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, mkdirat};
use nix::sys::statfs::{
    CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs,
};
use nix::unistd::{chdir, fchdir, pivot_root};
use wharf_sys::SysError;
use wharf_sys::mount::{Attributes, FsContext, attach, attach_at, clone_tree, set_attributes};

use super::devices::{attributes_of, is_directory};
use super::populate::populate;
use super::resolve::{Links, kind_of, make_directory, make_target, open_path};
use crate::cgroup::{Controller, Layout, LayoutKind};
use crate::error::{AtStage, Stage, StepError};
use crate::spec::{LaunchSpec, MountSource, MountSpec, NetworkNamespace};

/// The mounts that the parent made, in the order in which they cross.
#[derive(Debug)]
pub(crate) struct Trees {
    pub(crate) root: OwnedFd,
    pub(crate) dev: OwnedFd,
    /// Only for containers in a network that is not theirs.
    pub(crate) sys: Option<OwnedFd>,
    /// One for each mount of the description that is a bind.
    pub(crate) binds: Vec<OwnedFd>,
    /// What the root was made from; it does not cross.
    pub(crate) scaffold: Vec<OwnedFd>,
}

impl Trees {
    pub(crate) fn as_fds(&self) -> Vec<BorrowedFd<'_>> {
        [&self.root, &self.dev].into_iter().chain(&self.sys).chain(&self.binds).map(AsFd::as_fd).collect()
    }

    pub(crate) fn of_fds(fds: Vec<OwnedFd>, spec: &LaunchSpec) -> Result<Self, StepError> {
        let missing = || Err(Errno::EBADMSG).at(Stage::Sync, "");
        let mut fds = fds.into_iter();
        let (Some(root), Some(dev)) = (fds.next(), fds.next()) else { return missing() };
        let sys = if spec.network == NetworkNamespace::Private { None } else { fds.next() };
        let binds: Vec<OwnedFd> = fds.collect();
        let wanted =
            spec.mounts.iter().filter(|mount| matches!(mount.source, MountSource::Bind { .. })).count();
        if binds.len() == wanted {
            Ok(Self { root, dev, sys, binds, scaffold: Vec::new() })
        } else {
            missing()
        }
    }
}

/// The mounts that belong to the child's own namespaces, made while the parent makes the others.
#[derive(Debug)]
pub(crate) struct OwnTrees {
    /// The host's root directory, on which the container's is put.
    host: OwnedFd,
    proc: OwnedFd,
    devpts: OwnedFd,
    shm: OwnedFd,
    mqueue: OwnedFd,
    /// Unless the parent makes it.
    sys: Option<OwnedFd>,
    cgroups: Option<Cgroups>,
    /// What covers masked directories.
    empty: Option<OwnedFd>,
}

/// What is to be seen below `/sys/fs/cgroup`: copies of the host's mounts, each rooted at the container's
/// own group. A mount of its own for each hierarchy would be a file system of its own, made and taken
/// apart at every start.
#[derive(Debug)]
pub(crate) enum Cgroups {
    /// The one tree.
    Unified(OwnedFd),
    /// Directories on a small file system, as programs of the v1 age look for them.
    Each { base: OwnedFd, trees: Vec<(String, OwnedFd)> },
}

impl OwnTrees {
    /// Makes them all, detached. From here on nothing that is mounted shows outside.
    pub(crate) fn make(spec: &LaunchSpec, layout: &Layout) -> Result<Self, StepError> {
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).at(Stage::Mount, "/")?;
        let host = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .at(Stage::Mount, "/")?;
        let proc = make(c"proc", &[], KERNEL_FS).at(Stage::Mount, "/proc")?;
        for (key, value) in &spec.sysctls {
            set_parameter(proc.as_fd(), key, value, spec.network == NetworkNamespace::Private)
                .at(Stage::SetParameter, key.as_str())?;
        }
        let nosuid_noexec = Attributes::NO_SUID.with(Attributes::NO_EXEC);
        // Group 5 is `tty` everywhere; a range too small to hold it gets root's.
        let group = if spec.id_map.is_none_or(|map| map.size > 5) { "5" } else { "0" };
        let options = [(c"newinstance", ""), (c"ptmxmode", "0666"), (c"mode", "0620"), (c"gid", group)];
        let size = spec.shm_size_bytes.to_string();
        let read_only = KERNEL_FS.with(Attributes::READ_ONLY);
        Ok(Self {
            host,
            proc,
            devpts: make(c"devpts", &options, nosuid_noexec).at(Stage::Mount, "/dev/pts")?,
            shm: make(c"tmpfs", &[(c"mode", "1777"), (c"size", &size)], KERNEL_FS)
                .at(Stage::Mount, "/dev/shm")?,
            mqueue: make(c"mqueue", &[], KERNEL_FS).at(Stage::Mount, "/dev/mqueue")?,
            sys: match spec.network {
                NetworkNamespace::Private => Some(make(c"sysfs", &[], KERNEL_FS).at(Stage::Mount, "/sys")?),
                NetworkNamespace::Host | NetworkNamespace::Path(_) => None,
            },
            cgroups: if spec.show_cgroups { Some(Cgroups::make(spec, layout)?) } else { None },
            empty: if spec.masked_paths.is_empty() {
                None
            } else {
                let options = [(c"mode", "555"), (c"nr_inodes", "1")];
                Some(make(c"tmpfs", &options, read_only).at(Stage::Mask, "")?)
            },
        })
    }
}

impl Cgroups {
    pub(crate) fn make(spec: &LaunchSpec, layout: &Layout) -> Result<Self, StepError> {
        let own = |root: &Path| {
            let path = root.join(&spec.cgroup);
            let detail = || path.display().to_string();
            let group = open(&path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .at(Stage::Mount, detail())?;
            clone_tree(group.as_fd(), c"", false).at(Stage::Mount, detail())
        };
        // Who divides its group gets to see that tree alone, on a hybrid host as well: that is what init
        // systems know best, the newest of them nothing else.
        let alone = layout.kind() == LayoutKind::V2 || spec.delegate;
        if let Some(unified) = layout.unified().filter(|_| alone) {
            return own(unified).map(Self::Unified);
        }
        let options = [(c"mode", "755"), (c"size", "64k")];
        let base = make(c"tmpfs", &options, KERNEL_FS).at(Stage::Mount, "/sys/fs/cgroup")?;
        let mut trees = Vec::new();
        for (name, root) in legacy_groups(layout) {
            trees.push((name, own(root)?));
        }
        if let Some(unified) = layout.unified() {
            trees.push(("unified".to_owned(), own(unified)?));
        }
        Ok(Self::Each { base, trees })
    }
}

/// What is still needed once the root has changed.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The container's root directory.
    pub(crate) root: OwnedFd,
    /// Its `/dev`.
    pub(crate) dev: OwnedFd,
    /// Its devpts.
    pub(crate) devpts: OwnedFd,
}

/// Puts everything together and makes it the root of this process.
pub(crate) fn enter(spec: &LaunchSpec, own: OwnTrees, trees: Trees) -> Result<Attached, StepError> {
    let Trees { root, dev, sys, binds, .. } = trees;
    let sys = own.sys.or(sys).ok_or(Errno::EBADMSG).at(Stage::Sync, "")?;
    attach(root.as_fd(), own.host.as_fd()).at(Stage::Mount, "/")?;
    attach_own(&root, &own.proc, "/proc")?;
    attach_own(&root, &dev, "/dev")?;
    for (tree, name) in [(&own.devpts, c"pts"), (&own.shm, c"shm"), (&own.mqueue, c"mqueue")] {
        attach_at(tree.as_fd(), dev.as_fd(), name).at(Stage::Mount, "/dev")?;
    }
    attach_own(&root, &sys, "/sys")?;
    if let Some(cgroups) = own.cgroups {
        attach_cgroups(&sys, &cgroups, spec.delegate)?;
    }
    let attributes = if spec.writable_sys { KERNEL_FS } else { KERNEL_FS.with(Attributes::READ_ONLY) };
    set_attributes(sys.as_fd(), attributes, false).at(Stage::Mount, "/sys")?;
    let mut binds = binds.into_iter();
    for wanted in &spec.mounts {
        attach_wanted(&root, wanted, &mut binds).at(Stage::Mount, wanted.target.as_str())?;
    }
    if let Some(empty) = own.empty {
        hide(&root, &dev, &empty, &spec.masked_paths)?;
    }
    for path in &spec.read_only_paths {
        protect(&root, path).at(Stage::Mask, path.as_str())?;
    }
    if spec.rootfs.read_only {
        set_attributes(root.as_fd(), Attributes::READ_ONLY, false).at(Stage::Mount, "/")?;
    }
    pivot(&root).at(Stage::PivotRoot, "")?;
    Ok(Attached { root, dev, devpts: own.devpts })
}

pub(crate) const KERNEL_FS: Attributes =
    Attributes::NO_SUID.with(Attributes::NO_DEV).with(Attributes::NO_EXEC);

fn make(kind: &CStr, options: &[(&CStr, &str)], attributes: Attributes) -> Result<OwnedFd, Errno> {
    let context = FsContext::open(kind).map_err(|error| error.errno)?;
    for (key, value) in options {
        let value = CString::new(*value).map_err(|_nul| Errno::EINVAL)?;
        let set = if value.is_empty() { context.set_flag(key) } else { context.set_string(key, &value) };
        set.map_err(|error| error.errno)?;
    }
    context.mount(attributes).map_err(|error| error.errno)
}

/// Attaches one of the standard mounts; no link of the image is followed on the way.
fn attach_own(root: &OwnedFd, tree: &OwnedFd, path: &str) -> Result<(), StepError> {
    let target = make_directory(root.as_fd(), Path::new(path), Links::Refuse).at(Stage::Mount, path)?;
    attach(tree.as_fd(), target.as_fd()).at(Stage::Mount, path)
}

/// All but the unified tree of a container that may divide it is read-only.
fn attach_cgroups(sys: &OwnedFd, cgroups: &Cgroups, delegate: bool) -> Result<(), StepError> {
    let protect = |tree: &OwnedFd, writable: bool| {
        let attributes = if writable { KERNEL_FS } else { KERNEL_FS.with(Attributes::READ_ONLY) };
        set_attributes(tree.as_fd(), attributes, false).at(Stage::Mount, "/sys/fs/cgroup")
    };
    let on = |tree: &OwnedFd| match attach_at(tree.as_fd(), sys.as_fd(), c"fs/cgroup") {
        // This kernel shows no such place.
        Err(error) if error.errno == Errno::ENOENT => Ok(false),
        other => other.map(|()| true).at(Stage::Mount, "/sys/fs/cgroup"),
    };
    match cgroups {
        Cgroups::Unified(tree) => {
            on(tree)?;
            protect(tree, delegate)
        }
        Cgroups::Each { base, trees } => {
            if !on(base)? {
                return Ok(());
            }
            for (name, tree) in trees {
                let detail = || format!("/sys/fs/cgroup/{name}");
                let text =
                    CString::new(name.as_str()).map_err(|_nul| Errno::EINVAL).at(Stage::Mount, detail())?;
                mkdirat(base, text.as_c_str(), Mode::from_bits_truncate(0o755)).at(Stage::Mount, detail())?;
                attach_at(tree.as_fd(), base.as_fd(), &text).at(Stage::Mount, detail())?;
                protect(tree, false)?;
            }
            protect(base, false)
        }
    }
}

/// Returns the name of each v1 hierarchy's directory, all of its controllers, and where it is mounted.
fn legacy_groups(layout: &Layout) -> Vec<(String, &Path)> {
    let group = |path: &Path| {
        let all = Controller::ALL.iter().filter(|controller| layout.legacy(**controller) == Some(path));
        all.map(|controller| controller.name()).collect::<Vec<_>>().join(",")
    };
    layout.legacy_hierarchies().into_iter().map(|(_, path)| (group(path), path)).collect()
}

/// Writes a parameter through our own procfs; the path crosses no mount and no link.
fn set_parameter(proc: BorrowedFd<'_>, key: &str, value: &str, own_network: bool) -> Result<(), Errno> {
    let path = crate::sysctl::path_of(key, own_network).ok_or(Errno::EINVAL)?;
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC).resolve(resolve);
    let file = openat2(proc, format!("sys/{path}").as_str(), how)?;
    let written = std::fs::File::from(file).write_all(value.as_bytes());
    written.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// Attaches a mount of the description. Its target is the tenant's choice: links inside the root are
/// followed, but not onto a file system of the kernel (CVE-2019-16884).
fn attach_wanted(
    root: &OwnedFd,
    wanted: &MountSpec,
    binds: &mut impl Iterator<Item = OwnedFd>,
) -> Result<(), Errno> {
    let sys = |error: SysError| error.errno;
    let mut volume = false;
    let (tree, directory) = match &wanted.source {
        MountSource::Bind { idmap, .. } => {
            let tree = binds.next().ok_or(Errno::EBADMSG)?;
            let directory = is_directory(tree.as_fd())?;
            volume = *idmap;
            (tree, directory)
        }
        MountSource::Tmpfs { size_bytes, mode } => {
            let options = [(c"size", size_bytes.to_string()), (c"mode", format!("{mode:o}"))];
            let options = options.each_ref().map(|(key, value)| (*key, value.as_str()));
            (make(c"tmpfs", &options, attributes_of(wanted, wanted.read_only))?, true)
        }
    };
    let target = make_target(root.as_fd(), Path::new(&wanted.target), directory, Links::Inside)?;
    let on = fstatfs(&target)?.filesystem_type();
    if [PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC].contains(&on) {
        return Err(Errno::EPERM);
    }
    // What lies below another mount is not the image's.
    if volume && directory && on == OVERLAYFS_SUPER_MAGIC {
        populate(target.as_fd(), tree.as_fd())?;
    }
    attach(tree.as_fd(), target.as_fd()).map_err(sys)?;
    if volume && wanted.read_only {
        set_attributes(tree.as_fd(), Attributes::READ_ONLY, true).map_err(sys)?;
    }
    Ok(())
}

/// Covers paths by an empty directory or the null device of ours; what is not there needs no cover.
fn hide(root: &OwnedFd, dev: &OwnedFd, empty: &OwnedFd, paths: &[String]) -> Result<(), StepError> {
    let mut covered_any = false;
    for path in paths {
        let target = match open_path(root.as_fd(), Path::new(path), Links::Refuse) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            other => other.at(Stage::Mask, path.as_str())?,
        };
        let cover = |tree: BorrowedFd<'_>| attach(tree, target.as_fd()).at(Stage::Mask, path.as_str());
        let copy =
            |from: &OwnedFd, name| clone_tree(from.as_fd(), name, false).at(Stage::Mask, path.as_str());
        if kind_of(&target).at(Stage::Mask, path.as_str())? != SFlag::S_IFDIR {
            cover(copy(dev, c"null")?.as_fd())?;
        } else if covered_any {
            cover(copy(empty, c"")?.as_fd())?;
        } else {
            // The first is covered by itself: before Linux 6.15 only what is attached can be copied.
            cover(empty.as_fd())?;
            covered_any = true;
        }
    }
    Ok(())
}

/// Binds a path onto itself, read-only with all that is mounted below it.
fn protect(root: &OwnedFd, path: &str) -> Result<(), Errno> {
    let target = match open_path(root.as_fd(), Path::new(path), Links::Refuse) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let protect = |target: &OwnedFd| {
        let tree = clone_tree(target.as_fd(), c"", true)?;
        set_attributes(tree.as_fd(), Attributes::READ_ONLY, true)?;
        attach(tree.as_fd(), target.as_fd())
    };
    protect(&target).map_err(|error| error.errno)
}

/// Makes the new root the root, and lets go of the old one (`pivot_root(2)`, "NOTES").
fn pivot(root: &OwnedFd) -> Result<(), Errno> {
    fchdir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}
