//! The root file system: an overlay of the image's layers and the container's own directory.
//!
//! Made detached, so that the host's mount table stays as it is. The layers belong to the host's
//! root on disk and are shared by all tenants; *one* idmapped copy of the mount that they are on makes
//! them the tenant's, and each layer is opened beneath it. The upper directory is plain and chowned to
//! the tenant's range: an idmapped upper makes overlayfs fall back to read-only without a word, which
//! is why the result is checked. Options for layers that are not trusted: `redirect_dir=nofollow`,
//! `metacopy=off` (CVE-2021-3493 and its like). Source: `filesystems/overlayfs.rst` of the kernel.

use std::ffi::CString;
use std::fmt::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use wharf_sys::mount::{Attributes, FsContext, attach, clone_tree, set_attributes, set_id_map};
use wharf_sys::process::{CloneArgs, clone3};

use crate::error::{AtStage, Stage, StepError};
use crate::spec::RootfsSpec;
use crate::sync::{Answer, Channel};

const OPTIONS: [(&std::ffi::CStr, &std::ffi::CStr); 4] =
    [(c"redirect_dir", c"nofollow"), (c"metacopy", c"off"), (c"index", c"off"), (c"xino", c"off")];

/// No sync of the file system below, ever (Linux 5.10).
const VOLATILE: &std::ffi::CStr = c"volatile";

/// How the layers get into the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverlayMethod {
    /// By descriptors of a detached mount (Linux 6.13).
    Descriptors,
    /// By paths, the idmapped mount being attached in a mount namespace made for this only: before
    /// 6.13 overlayfs takes no descriptors, and before 6.5 no detached idmapped layers.
    Attached,
}

/// A root file system, detached.
#[derive(Debug)]
pub(crate) struct Rootfs {
    /// Its mount.
    pub(crate) root: OwnedFd,
    /// The copies of mounts that it was made from. It does not need them any more, but to take a mount
    /// down waits for all processors, so that is better done when nobody waits.
    pub(crate) scaffold: Vec<OwnedFd>,
}

/// Makes the root file system, an overlay by the first method that this kernel has.
pub(crate) fn make(spec: &RootfsSpec, user_namespace: Option<BorrowedFd<'_>>) -> Result<Rootfs, StepError> {
    if spec.layers.is_empty() {
        return Ok(Rootfs { root: directory(spec)?, scaffold: Vec::new() });
    }
    match make_by(OverlayMethod::Descriptors, spec, user_namespace) {
        // 6.1 answers EOPNOTSUPP, kernels that know `lowerdir+` by path only EINVAL.
        Err(error) if matches!(error.errno, Errno::EINVAL | Errno::EOPNOTSUPP) => {
            make_by(OverlayMethod::Attached, spec, user_namespace)
        }
        other => other,
    }
}

/// Returns a detached copy of a directory, as it is: nothing is shifted or put on top. What is mounted
/// below it on the host does not show.
fn directory(spec: &RootfsSpec) -> Result<OwnedFd, StepError> {
    let detail = || spec.layer_root.display().to_string();
    let tree =
        clone_tree(open_directory(&spec.layer_root)?.as_fd(), c"", false).at(Stage::MakeRootfs, detail())?;
    set_attributes(tree.as_fd(), Attributes::NO_DEV, false).at(Stage::MakeRootfs, detail())?;
    Ok(tree)
}

/// Makes the overlay by one method.
pub(crate) fn make_by(
    method: OverlayMethod,
    spec: &RootfsSpec,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<Rootfs, StepError> {
    let rootfs = match method {
        OverlayMethod::Descriptors => by_descriptors(spec, user_namespace)?,
        OverlayMethod::Attached => Rootfs { root: by_paths(spec, user_namespace)?, scaffold: Vec::new() },
    };
    let flags = fstatvfs(&rootfs.root).at(Stage::MakeRootfs, "")?.flags();
    if flags.contains(FsFlags::ST_RDONLY) {
        return Err(Errno::EROFS).at(Stage::MakeRootfs, "the overlay came up read-only");
    }
    Ok(rootfs)
}

fn by_descriptors(spec: &RootfsSpec, user_namespace: Option<BorrowedFd<'_>>) -> Result<Rootfs, StepError> {
    let base = layer_base(spec, user_namespace)?;
    let context = FsContext::open(c"overlay").at(Stage::MakeRootfs, "overlay")?;
    let text = |key, value| context.set_string(key, value).at(Stage::MakeRootfs, "overlay option");
    text(c"source", c"overlay")?;
    for (key, value) in OPTIONS {
        text(key, value)?;
    }
    if spec.ephemeral {
        context.set_flag(VOLATILE).at(Stage::MakeRootfs, "overlay option")?;
    }
    let directory = |key, fd: &OwnedFd, path: &Path| {
        context.set_fd(key, fd.as_fd()).at(Stage::MakeRootfs, path.display().to_string())
    };
    for layer in &spec.layers {
        directory(c"lowerdir+", &open_beneath(&base, layer)?, layer)?;
    }
    // Through a detached copy too, or the container would read its place on the host in its mount table.
    let writable = clone_tree(open_directory(&spec.writable)?.as_fd(), c"", false)
        .at(Stage::MakeRootfs, spec.writable.display().to_string())?;
    for (key, name) in [(c"upperdir", "upper"), (c"workdir", "work")] {
        directory(key, &open_beneath(&writable, Path::new(name))?, Path::new(name))?;
    }
    let root = context.mount(Attributes::NO_DEV).at(Stage::MakeRootfs, "overlay")?;
    Ok(Rootfs { root, scaffold: vec![base, writable] })
}

/// Returns a detached, read-only copy of the mount above the layers, with the tenant's ids.
fn layer_base(spec: &RootfsSpec, user_namespace: Option<BorrowedFd<'_>>) -> Result<OwnedFd, StepError> {
    let plain = open_directory(&spec.layer_root)?;
    let path = spec.layer_root.display().to_string();
    let tree = clone_tree(plain.as_fd(), c"", false).at(Stage::MakeRootfs, path.as_str())?;
    set_attributes(tree.as_fd(), Attributes::READ_ONLY, false).at(Stage::MakeRootfs, path.as_str())?;
    if let Some(user_namespace) = user_namespace {
        set_id_map(tree.as_fd(), user_namespace).at(Stage::MapIds, path)?;
    }
    Ok(tree)
}

fn open_directory(path: &Path) -> Result<OwnedFd, StepError> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .at(Stage::MakeRootfs, path.display().to_string())
}

fn open_beneath(base: &OwnedFd, path: &Path) -> Result<OwnedFd, StepError> {
    let beneath =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(beneath);
    openat2(base, path, how).at(Stage::MakeRootfs, path.display().to_string())
}

/// Runs a process with a mount namespace of its own that makes the overlay and sends it back.
///
/// Its namespace, and so everything that it attached there, ends with it.
fn by_paths(spec: &RootfsSpec, user_namespace: Option<BorrowedFd<'_>>) -> Result<OwnedFd, StepError> {
    let (ours, theirs) = Channel::pair()?;
    let args = CloneArgs { namespaces: CloneFlags::CLONE_NEWNS, cgroup: None };
    let (pid, _pidfd) = clone3(args, || match mount_by_paths(spec, user_namespace) {
        Ok(root) => i32::from(theirs.ready(Some(root.as_fd())).is_err()),
        Err(error) => {
            theirs.failed(&error);
            1
        }
    })
    .at(Stage::Clone, "")?;
    drop(theirs);
    let answer = ours.await_answer();
    waitpid(Pid::from_raw(pid), None).at(Stage::Sync, "")?;
    match answer? {
        Answer::Ready(Some(root)) => Ok(root),
        Answer::Failed(error) => Err(error),
        Answer::Ready(None) | Answer::Closed => Err(Errno::EPIPE).at(Stage::MakeRootfs, "overlay"),
    }
}

fn mount_by_paths(spec: &RootfsSpec, user_namespace: Option<BorrowedFd<'_>>) -> Result<OwnedFd, StepError> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).at(Stage::MakeRootfs, "/")?;
    let tree = layer_base(spec, user_namespace)?;
    let place = open_directory(&spec.layer_root)?;
    attach(tree.as_fd(), place.as_fd()).at(Stage::MakeRootfs, spec.layer_root.display().to_string())?;
    let base = open_directory(&spec.layer_root)?;
    let layers: Vec<OwnedFd> =
        spec.layers.iter().map(|layer| open_beneath(&base, layer)).collect::<Result<_, _>>()?;
    let upper = open_directory(&spec.writable.join("upper"))?;
    let work = open_directory(&spec.writable.join("work"))?;
    // Descriptors as paths keep the option text below its limit of one page, and free of commas.
    let lower: Vec<String> = layers.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let mut options = format!(
        "lowerdir={},upperdir=/proc/self/fd/{},workdir=/proc/self/fd/{}",
        lower.join(":"),
        upper.as_raw_fd(),
        work.as_raw_fd()
    );
    for (key, value) in OPTIONS {
        // Writing to a String cannot fail.
        write!(options, ",{}={}", key.to_string_lossy(), value.to_string_lossy()).ok();
    }
    if spec.ephemeral {
        write!(options, ",{}", VOLATILE.to_string_lossy()).ok();
    }
    let options = CString::new(options).map_err(|_nul| Errno::EINVAL).at(Stage::MakeRootfs, "overlay")?;
    let detail = || spec.writable.display().to_string();
    mount(Some("overlay"), &spec.writable, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_c_str()))
        .at(Stage::MakeRootfs, detail())?;
    clone_tree(open_directory(&spec.writable)?.as_fd(), c"", false).at(Stage::MakeRootfs, detail())
}
