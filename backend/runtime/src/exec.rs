//! A further process in a running container: born in its cgroup, joined to its namespaces, confined
//! like its first.
//!
//! A process cannot change its own pid namespace, only that of its children. So the supervisor (one
//! thread) points its children at the container's for the one clone and back again; going back is
//! always permitted, its own namespace being the one it lives in. Source: `pid_namespaces(7)`,
//! setns(2) with a pidfd (Linux 5.8).

use std::cell::Cell;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_dumpable;
use nix::sys::stat::{Mode, umask};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use wharf_sys::process::{CloneArgs, clone3, reset_signals};

use crate::apparmor;
use crate::cgroup::{Cgroup, Entrance, Layout};
use crate::error::{AtStage, LaunchError, Stage, StepError};
use crate::init;
use crate::launch::{
    Attempt, HalfMade, Last, Stdio, Streams, await_gate, connect, finish, raise_limits, retry_stillborn,
};
use crate::program::Program;
use crate::rootfs::resolve::{Links, open_path};
use crate::spec::{ExecSpec, IdMap};
use crate::sync::{Answer, Channel};
use crate::user;

const DEVPTS_MAGIC: FsType = FsType(0x1cd1);

/// A running container to join. Holds the recorded first process by descriptor, so that a recycled
/// process number can never be joined instead.
#[derive(Debug)]
pub struct ExecTarget {
    init: OwnedFd,
    cgroup: PathBuf,
    id_map: Option<IdMap>,
}

impl ExecTarget {
    /// Describes a container by its first process, its cgroup and the ids of its user namespace.
    pub fn new(init: OwnedFd, cgroup: PathBuf, id_map: Option<IdMap>) -> Self {
        Self { init, cgroup, id_map }
    }
}

/// A process that was executed in a container.
#[derive(Debug)]
pub struct ExecStarted {
    /// The process, as the host counts.
    pub pid: i32,
    /// The same, by descriptor; to be waited for by this process.
    pub pidfd: OwnedFd,
    /// The supervisor's side of its terminal.
    pub pty_master: Option<OwnedFd>,
}

/// Executes a program in a running container. The caller has one thread, and is not dumpable any more
/// afterwards: its copy is in reach of the container's processes while it still has its memory.
///
/// # Errors
/// A description that cannot work, a container that has ended (`ESRCH`), or the step that failed.
/// The process has ended then.
pub fn exec(target: &ExecTarget, spec: &ExecSpec, stdio: Stdio) -> Result<ExecStarted, LaunchError> {
    exec_in(&Layout::detect()?, target, spec, stdio, false)
}

/// As [`exec`], where the container is in the hierarchies of this layout only. What `outlives` its caller
/// does not end with it.
///
/// # Errors
/// As for [`exec`].
pub fn exec_in(
    layout: &Layout,
    target: &ExecTarget,
    spec: &ExecSpec,
    stdio: Stdio,
    outlives: bool,
) -> Result<ExecStarted, LaunchError> {
    spec.validate()?;
    let group = Cgroup::open(layout, &target.cgroup)?;
    stdio.give_to(target.id_map)?;
    // The copy shows in the container's process list before it can say so itself.
    set_dumpable(false).at(Stage::DropPrivileges, "dumpable")?;
    let joining = Joining { target, spec, stdio: &stdio, outlives };
    let made = retry_stillborn(&group, |birth| attempt(joining, &group.entrance(birth)?));
    // From now on the child alone holds its ends.
    drop(stdio);
    made
}

/// What both halves know before they part.
#[derive(Debug, Clone, Copy)]
struct Joining<'all> {
    target: &'all ExecTarget,
    spec: &'all ExecSpec,
    stdio: &'all Stdio,
    outlives: bool,
}

fn attempt(joining: Joining<'_>, entrance: &Entrance) -> Result<Attempt<ExecStarted>, LaunchError> {
    let Joining { target, spec, .. } = joining;
    let (ours, theirs) = Channel::pair()?;
    let ours = Cell::new(Some(ours));
    let cgroup = entrance.unified.as_ref().map(AsFd::as_fd);
    let args = CloneArgs { namespaces: CloneFlags::empty(), cgroup };

    let own_pids = File::open("/proc/self/ns/pid").at(Stage::EnterNamespaces, "/proc/self/ns/pid")?;
    setns(&target.init, CloneFlags::CLONE_NEWPID).at(Stage::EnterNamespaces, "pid")?;
    let cloned = clone3(args, || {
        drop(ours.take());
        let error = match sequence(joining, entrance, &theirs) {
            Ok(error) | Err(error) => error,
        };
        theirs.failed(&error);
        127
    });
    let returned = setns(&own_pids, CloneFlags::CLONE_NEWPID).at(Stage::EnterNamespaces, "pid");
    let (pid, pidfd) = cloned.at(Stage::Clone, "")?;
    let half_made = HalfMade::new(&pidfd)?;
    returned?;
    drop(theirs);
    let Some(channel) = ours.take() else { return Err(Errno::EBADF).at(Stage::Sync, "").map_err(Into::into) };

    let pty_master = match await_gate(&channel) {
        Err(error) if half_made.is_stillborn(&error) => return Ok(Attempt::Stillborn(error)),
        other => other?,
    };
    raise_limits(pid, &spec.process)?;
    channel.order(&[])?;
    match channel.await_answer()? {
        Answer::Closed => {}
        Answer::Failed(error) => return Err(error.into()),
        Answer::Ready(_) => return Err(Errno::EBADMSG).at(Stage::Sync, "").map_err(Into::into),
    }
    half_made.release();
    Ok(Attempt::Made(ExecStarted { pid, pidfd, pty_master }))
}

fn sequence(joining: Joining<'_>, entrance: &Entrance, channel: &Channel) -> Result<StepError, StepError> {
    let Joining { target, spec, stdio, outlives } = joining;
    set_dumpable(false).at(Stage::DropPrivileges, "dumpable")?;
    entrance.enter().at(Stage::EnterCgroup, "")?;
    apparmor::take_on_exec(spec.process.apparmor.as_deref())?;
    reset_signals().at(Stage::Sync, "signals")?;
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    namespaces.set(CloneFlags::CLONE_NEWUSER, target.id_map.is_some());
    setns(&target.init, namespaces).at(Stage::EnterNamespaces, "")?;
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).at(Stage::BecomeRoot, "")?;
    setresgid(gid, gid, gid).at(Stage::BecomeRoot, "")?;
    setresuid(uid, uid, uid).at(Stage::BecomeRoot, "")?;
    umask(Mode::from_bits_truncate(0o022));

    // Since setns the root is the container's.
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open("/", directory, Mode::empty()).at(Stage::EnterNamespaces, "/")?;
    let dev = open_path(root.as_fd(), Path::new("/dev"), Links::Refuse).at(Stage::ConnectStreams, "/dev")?;
    let devpts = devpts(root.as_fd()).at(Stage::OpenTerminal, "/dev/pts")?;
    let identity = user::find(root.as_fd(), &spec.process)?;
    let streams = Streams { stdio, dev: dev.as_fd(), devpts: devpts.as_fd(), console: false };
    let master = connect(&spec.process, streams, &identity)?;
    let filter = crate::seccomp::program(&spec.process);
    let last = Last {
        outlives,
        filter: filter.as_deref(),
        wait: || {
            init::lead_session(spec.process.terminal)?;
            channel.ready(master.as_ref().map(AsFd::as_fd))?;
            drop(master);
            channel.await_order().map(drop)
        },
        go: Program::execute,
    };
    finish(&spec.process, root.as_fd(), &identity, last)
}

/// Opens the container's devpts, and makes sure that it is one.
fn devpts(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let devpts = open_path(root, Path::new("/dev/pts"), Links::Refuse)?;
    if fstatfs(&devpts)?.filesystem_type() == DEVPTS_MAGIC { Ok(devpts) } else { Err(Errno::ENODEV) }
}
