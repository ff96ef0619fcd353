//! The processes of a checkpoint, up to the gate.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, mkdirat, umask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::getpid;
use wharf_sys::mount::{Attributes, attach, set_attributes};
use wharf_sys::process::{CloneArgs, clone3, pidfd_open, reset_signals};
use wharf_sys::{SysError, net};

use super::mounts::{Outside, OutsideKind};
use crate::cgroup::{Birth, Cgroup, Entrance, Layout};
use crate::error::{AtStage, LaunchError, Stage, StepError};
use crate::launch::{Created, HalfMade, Held, Mounts, Stdio, make_trees, namespace_of, start_time_ticks};
use crate::rootfs::attach::{Cgroups, KERNEL_FS, Trees};
use crate::rootfs::devices::{empty, is_directory};
use crate::rootfs::id_map::user_namespace;
use crate::spec::{LaunchSpec, MountSource, NetworkNamespace, RestoreSpec};

/// Covered by a tmpfs in CRIU's own mount namespace: a place that the container's root, who opens what
/// is there, may pass through (the state directory has mode 0700).
const STAGE: &str = "/run";
const LOG: &str = "restore.log";
const PID_FILE: &str = "restore.pid";

/// Restores a container up to its gate. The caller has one thread; its cgroup exists, with limits.
pub(crate) fn restore(
    layout: &Layout,
    spec: &LaunchSpec,
    from: &RestoreSpec,
    stdio: &Stdio,
) -> Result<Created, LaunchError> {
    let group = Cgroup::open(layout, &spec.cgroup)?;
    let ids = spec.id_map.map(user_namespace).transpose()?;
    let trees = make_trees(spec, ids.as_ref().map(AsFd::as_fd))?;
    let staged = Staged::plan(spec, from)?;
    let open_dir = |path: &Path| {
        open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .at(Stage::Restore, path.display().to_string())
    };
    let (images, work) = (open_dir(&from.images)?, open_dir(&spec.state_dir)?);
    for file in [LOG, PID_FILE] {
        match fs::remove_file(spec.state_dir.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).at(Stage::Restore, file).map_err(Into::into);
            }
            _ => {}
        }
    }
    let entrance = group.entrance(Birth::Inside)?;
    let args =
        CloneArgs { namespaces: CloneFlags::CLONE_NEWNS, cgroup: entrance.unified.as_ref().map(AsFd::as_fd) };
    let trees = Cell::new(Some(trees));
    let (_, criu) = clone3(args, || {
        let Some(trees) = trees.take() else { return 1 };
        let inputs = Inputs { layout, entrance: &entrance, images: &images, work: &work };
        // Its only witness is the log, which CRIU has not opened yet.
        let failed = match execute(spec, from, &inputs, stdio, trees, &staged) {
            Ok(error) => format!("Error: cannot execute {}: {error}\n", from.criu.display()),
            Err(error) => format!("Error: {error}: {}\n", error.errno),
        };
        fs::write(format!("/proc/self/fd/{}/{LOG}", work.as_raw_fd()), failed).ok();
        1
    })
    .at(Stage::Clone, "")?;
    drop(trees.take());
    let status = wait(criu.as_fd()).at(Stage::Restore, "")?;
    if !matches!(status, WaitStatus::Exited(_, 0)) {
        return Err(LaunchError::Restore { reason: super::failure(&spec.state_dir.join(LOG)) });
    }
    adopt(spec, group)
}

fn wait(process: BorrowedFd<'_>) -> Result<WaitStatus, Errno> {
    loop {
        match waitid(Id::PIDFd(process), WaitPidFlag::WEXITED) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Takes the restored first process, which is a child of ours, and gives its network what a new one has.
fn adopt(spec: &LaunchSpec, group: Cgroup) -> Result<Created, LaunchError> {
    let path = spec.state_dir.join(PID_FILE);
    let text = fs::read_to_string(&path).at(Stage::Restore, path.display().to_string())?;
    let pid: i32 =
        text.trim().parse().map_err(|_not_a_number| Errno::EBADMSG).at(Stage::Restore, "pid file")?;
    let pidfd = pidfd_open(pid).at(Stage::Restore, pid.to_string())?;
    // Nobody else can wait for a child of ours, so its number is its own.
    if parent_of(pid).at(Stage::Restore, pid.to_string())? != getpid().as_raw() {
        return Err(Errno::ECHILD).at(Stage::Restore, pid.to_string()).map_err(Into::into);
    }
    let half_made = HalfMade::new(&pidfd)?;
    let netns = match spec.network {
        NetworkNamespace::Private => {
            let netns = namespace_of(pid, "net")?;
            set_up_network(spec, netns.as_fd())?;
            Some(netns)
        }
        NetworkNamespace::Host | NetworkNamespace::Path(_) => None,
    };
    Ok(Created {
        pid,
        pidfd,
        start_time_ticks: start_time_ticks(pid)?,
        netns,
        pty_master: None,
        mounts: Mounts::of(namespace_of(pid, "mnt")?, Vec::new()),
        held: Held::Stopped(group),
        half_made,
        cgroup: spec.cgroup.clone(),
        id_map: spec.id_map,
    })
}

fn parent_of(pid: i32) -> io::Result<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.and_then(|pid| pid.trim().parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Loopback and parameters, by a process in the new namespace: CRIU made that empty.
fn set_up_network(spec: &LaunchSpec, netns: BorrowedFd<'_>) -> Result<(), StepError> {
    let args = CloneArgs { namespaces: CloneFlags::empty(), cgroup: None };
    let set = || {
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        net::set_loopback_up().map_err(|error| error.errno)?;
        let own = spec.sysctls.iter().filter(|(key, _)| key.starts_with("net."));
        for (key, value) in own {
            let path = crate::sysctl::path_of(key, true).ok_or(Errno::EINVAL)?;
            // `/proc/sys/net` shows the network of who opens it.
            let file = File::options().write(true).open(format!("/proc/sys/{path}"));
            let written = file.and_then(|mut file| file.write_all(value.as_bytes()));
            written.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        }
        Ok::<(), Errno>(())
    };
    let (_, child) = clone3(args, || set().map_or_else(|errno| SysError::new("", errno).raw(), |()| 0))
        .at(Stage::Clone, "")?;
    match wait(child.as_fd()).at(Stage::SetParameter, "network")? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)).at(Stage::SetParameter, "network"),
        _ => Err(Errno::ECHILD).at(Stage::SetParameter, "network"),
    }
}

/// Where each mount that CRIU is to find lies below [`STAGE`], in the order of the checkpoint.
#[derive(Debug)]
struct Staged(Vec<(usize, String)>);

impl Staged {
    fn plan(spec: &LaunchSpec, from: &RestoreSpec) -> Result<Self, StepError> {
        let place = |mount: &Outside| match mount.kind {
            OutsideKind::Dev => Ok(format!("{STAGE}/dev")),
            OutsideKind::Null => Ok(format!("{STAGE}/dev/null")),
            OutsideKind::Empty => Ok(format!("{STAGE}/empty")),
            OutsideKind::Cgroup => Ok(match mount.target.strip_prefix("/sys/fs/cgroup/") {
                Some(hierarchy) => format!("{STAGE}/cgroup-{hierarchy}"),
                None => format!("{STAGE}/cgroup"),
            }),
            OutsideKind::Bind => binds(spec)
                .position(|target| target == mount.target)
                .map(|at| format!("{STAGE}/{at}"))
                .ok_or(Errno::ENOENT)
                .at(Stage::Restore, mount.target.as_str()),
        };
        let places = from.outside.iter().enumerate();
        places.map(|(at, mount)| place(mount).map(|place| (at, place))).collect::<Result<_, _>>().map(Self)
    }
}

/// The targets of the binds, in their order.
fn binds(spec: &LaunchSpec) -> impl Iterator<Item = &str> {
    let binds = spec.mounts.iter().filter(|mount| matches!(mount.source, MountSource::Bind { .. }));
    binds.map(|mount| mount.target.as_str())
}

/// What the copy that becomes CRIU needs of its parent.
struct Inputs<'a> {
    layout: &'a Layout,
    entrance: &'a Entrance,
    images: &'a OwnedFd,
    work: &'a OwnedFd,
}

/// Becomes CRIU, with everything that it is to find in place; returns only when that failed.
fn execute(
    spec: &LaunchSpec,
    from: &RestoreSpec,
    inputs: &Inputs<'_>,
    stdio: &Stdio,
    trees: Trees,
    staged: &Staged,
) -> Result<io::Error, StepError> {
    inputs.entrance.enter().at(Stage::EnterCgroup, "")?;
    // The restored processes inherit it: CRIU makes none when it leaves cgroups alone.
    unshare(CloneFlags::CLONE_NEWCGROUP).at(Stage::EnterCgroup, "namespace")?;
    reset_signals().at(Stage::Sync, "signals")?;
    umask(Mode::from_bits_truncate(0o022));
    set_stage(spec, inputs.layout, trees)?;

    let mut command = Command::new(&from.criu);
    command.args(["restore", "-v2", "--log-file", LOG, "--pidfile", PID_FILE]);
    command.args(["--restore-detached", "--restore-sibling", "--leave-stopped"]);
    command.args(["--manage-cgroups=ignore", "--empty-ns", "net", "--tcp-close", "--file-locks"]);
    command.args(["--root".to_owned(), format!("{STAGE}/root")]);
    command.args(["--images-dir".to_owned(), inherited(inputs.images.as_fd())?]);
    command.args(["--work-dir".to_owned(), inherited(inputs.work.as_fd())?]);
    for (at, place) in &staged.0 {
        command.args(["--external".to_owned(), format!("mnt[m{at}]:{place}")]);
    }
    let streams = [&stdio.stdin, &stdio.stdout, &stdio.stderr];
    for (pipe, stream) in from.pipes.iter().zip(streams) {
        if let (Some(inode), Some(fd)) = (pipe, stream) {
            inherited(fd.as_fd())?;
            command.args(["--inherit-fd".to_owned(), format!("fd[{}]:pipe:[{inode}]", fd.as_raw_fd())]);
        }
    }
    Ok(command.env_clear().current_dir("/").exec())
}

/// Lets CRIU inherit a descriptor; returns its path.
fn inherited(fd: BorrowedFd<'_>) -> Result<String, StepError> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).at(Stage::Restore, "descriptor")?;
    Ok(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Attaches everything below a fresh [`STAGE`].
fn set_stage(spec: &LaunchSpec, layout: &Layout, trees: Trees) -> Result<(), StepError> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).at(Stage::Mount, "/")?;
    let options = Some("mode=755,size=1m");
    mount(Some("none"), STAGE, Some("tmpfs"), MsFlags::MS_NODEV, options).at(Stage::Mount, STAGE)?;
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let stage = open(STAGE, directory, Mode::empty()).at(Stage::Mount, STAGE)?;
    let place = |name: &str, is_directory: bool| {
        let path = format!("{STAGE}/{name}");
        if is_directory {
            mkdirat(&stage, name, Mode::from_bits_truncate(0o755)).at(Stage::Mount, path.as_str())?;
        } else {
            File::create(&path).at(Stage::Mount, path.as_str())?;
        }
        open(path.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at(Stage::Mount, path)
    };
    let put = |tree: &OwnedFd, name: &str| {
        let directory = is_directory(tree.as_fd()).at(Stage::Mount, name)?;
        attach(tree.as_fd(), place(name, directory)?.as_fd()).at(Stage::Mount, name)
    };
    let Trees { root, dev, binds, .. } = trees;
    put(&root, "root")?;
    put(&dev, "dev")?;
    put(&empty(spec)?, "empty")?;
    for (at, bind) in binds.iter().enumerate() {
        put(bind, &at.to_string())?;
    }
    let read_only = |tree: &OwnedFd, name: &str| {
        set_attributes(tree.as_fd(), KERNEL_FS.with(Attributes::READ_ONLY), false).at(Stage::Mount, name)
    };
    let (above, hierarchies) = match Cgroups::make(spec, layout)? {
        Cgroups::Unified(tree) => (tree, Vec::new()),
        Cgroups::Each { base, trees } => (base, trees),
    };
    put(&above, "cgroup")?;
    for (name, tree) in hierarchies {
        // Beside the directory above, not in it: a user namespace may not look below a mount that it did
        // not make, so CRIU could not copy the one without the other.
        mkdirat(&above, name.as_str(), Mode::from_bits_truncate(0o755)).at(Stage::Mount, name.as_str())?;
        let beside = format!("cgroup-{name}");
        put(&tree, &beside)?;
        read_only(&tree, &beside)?;
    }
    read_only(&above, "cgroup")
}
