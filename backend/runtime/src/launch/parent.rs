//! The parent's half of a launch.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::SFlag;
use nix::unistd::{Gid, Uid, fchown};
use wharf_sys::limits;
use wharf_sys::process::{CloneArgs, clone3};

use super::child;
use super::created::{Created, HalfMade, Held, Mounts, start_time_ticks};
use crate::cgroup::{Birth, Cgroup, Entrance, Layout};
use crate::checkpoint;
use crate::error::{AtStage, LaunchError, Stage, StepError};
use crate::rootfs::attach::Trees;
use crate::rootfs::overlay::{self, Rootfs};
use crate::rootfs::resolve::kind_of;
use crate::rootfs::{devices, id_map};
use crate::spec::{IdMap, LaunchSpec, NetworkNamespace, ProcessSpec};
use crate::sync::{Answer, Channel};

/// The child's ends of its standard streams; `None` means the null device. With a terminal they are
/// not used. This process keeps its own descriptors 0, 1 and 2 open.
#[derive(Debug, Default)]
pub struct Stdio {
    /// What the child reads.
    pub stdin: Option<OwnedFd>,
    /// Where its output goes.
    pub stdout: Option<OwnedFd>,
    /// Where its errors go.
    pub stderr: Option<OwnedFd>,
}

impl Stdio {
    /// Gives pipes and sockets to the container's root, who may then hand them to the program's user:
    /// a program that opens `/dev/stdout` again needs that.
    pub(crate) fn give_to(&self, id_map: Option<IdMap>) -> Result<(), StepError> {
        let Some(map) = id_map else { return Ok(()) };
        for fd in [&self.stdin, &self.stdout, &self.stderr].into_iter().flatten() {
            if is_pipe_or_socket(fd.as_fd()).at(Stage::ConnectStreams, "")? {
                let (uid, gid) = (Uid::from_raw(map.host_base), Gid::from_raw(map.host_base));
                fchown(fd, Some(uid), Some(gid)).at(Stage::ConnectStreams, "")?;
            }
        }
        Ok(())
    }
}

/// Returns whether an owner of a stream means anything for others than this process.
pub(super) fn is_pipe_or_socket(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    kind_of(fd).map(|kind| kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK)
}

/// Who lets a container that waits at its gate through.
#[derive(Debug)]
pub enum Gate {
    /// This process, whose death is also the container's.
    Supervisor,
    /// Whoever connects to this listening `SOCK_SEQPACKET` socket, by [`super::open_gate`]; the
    /// container outlives this process.
    Socket(OwnedFd),
}

/// Builds a container up to its gate, in all hierarchies of this host. The caller has one thread; its
/// cgroup exists, with limits.
///
/// # Errors
/// A description that cannot work, a cgroup that is not there, or the step that failed. Nothing is
/// left behind then but directories that were made in the container's own upper directory.
pub fn create(spec: &LaunchSpec, stdio: Stdio) -> Result<Created, LaunchError> {
    create_in(&Layout::detect()?, spec, stdio, &Gate::Supervisor, &mut || {})
}

/// As [`create`], in the hierarchies of this layout only. What this process has to do `meanwhile` does not
/// hold up the child, which takes longer than its parent; it may be called again when the child is made anew.
///
/// # Errors
/// As for [`create`].
pub fn create_in(
    layout: &Layout,
    spec: &LaunchSpec,
    stdio: Stdio,
    gate: &Gate,
    meanwhile: &mut dyn FnMut(),
) -> Result<Created, LaunchError> {
    spec.validate()?;
    stdio.give_to(spec.id_map)?;
    if let Some(from) = &spec.restore {
        return checkpoint::restore(layout, spec, from, &stdio);
    }
    let group = Cgroup::open(layout, &spec.cgroup)?;
    let plan = Plan { spec, layout, stdio: &stdio, gate };
    let made = retry_stillborn(&group, |birth| attempt(plan, &group.entrance(birth)?, meanwhile));
    // From now on the child alone holds its ends.
    drop(stdio);
    made
}

/// What both halves know before they part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'all> {
    pub(super) spec: &'all LaunchSpec,
    pub(super) layout: &'all Layout,
    pub(super) stdio: &'all Stdio,
    pub(super) gate: &'all Gate,
}

/// What came of a child.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    /// It came as far as it should.
    Made(T),
    /// It was killed before it could say a word.
    Stillborn(StepError),
}

/// Tries again, by the other way into the group, when the kernel's mistake in [`Birth`] is the reason.
///
/// A child that somebody *wanted* dead is not tried again: then the group is marked.
pub(crate) fn retry_stillborn<T>(
    group: &Cgroup,
    mut attempt: impl FnMut(Birth) -> Result<Attempt<T>, LaunchError>,
) -> Result<T, LaunchError> {
    let first = group.birth();
    let mut made = attempt(first)?;
    if matches!(made, Attempt::Stillborn(_)) && first == Birth::Inside && !group.was_killed() {
        made = attempt(Birth::Outside)?;
    }
    match made {
        Attempt::Made(made) => Ok(made),
        Attempt::Stillborn(error) => Err(error.into()),
    }
}

fn attempt(
    plan: Plan<'_>,
    entrance: &Entrance,
    meanwhile: &mut dyn FnMut(),
) -> Result<Attempt<Created>, LaunchError> {
    let spec = plan.spec;
    let (ours, theirs) = Channel::pair()?;
    let ours = Cell::new(Some(ours));
    let args = CloneArgs { namespaces: namespaces(spec), cgroup: entrance.unified.as_ref().map(AsFd::as_fd) };
    let joined = JoinedNetwork::enter(&spec.network)?;
    let cloned = clone3(args, || {
        // The child must not hold the parent's end, or it would never see its parent go.
        drop(ours.take());
        child::run(plan, entrance, &theirs)
    });
    let returned = joined.leave();
    let (pid, pidfd) = cloned.at(Stage::Clone, "")?;
    let half_made = HalfMade::new(&pidfd)?;
    returned?;
    drop(theirs);
    let Some(channel) = ours.take() else { return Err(Errno::EBADF).at(Stage::Sync, "").map_err(Into::into) };
    let (pty_master, scaffold) = match bring_to_gate(spec, pid, &channel, meanwhile) {
        Err(error) if half_made.is_stillborn(&error) => return Ok(Attempt::Stillborn(error)),
        other => other?,
    };
    let netns = match spec.network {
        NetworkNamespace::Private => Some(namespace_of(pid, "net")?),
        NetworkNamespace::Host | NetworkNamespace::Path(_) => None,
    };
    Ok(Attempt::Made(Created {
        pid,
        pidfd,
        start_time_ticks: start_time_ticks(pid)?,
        netns,
        pty_master,
        mounts: Mounts::of(namespace_of(pid, "mnt")?, scaffold),
        held: Held::Channel(channel),
        half_made,
        cgroup: spec.cgroup.clone(),
        id_map: spec.id_map,
    }))
}

/// Opens a namespace of a process that cannot be waited for by another.
pub(crate) fn namespace_of(pid: i32, name: &str) -> Result<OwnedFd, StepError> {
    let path = format!("/proc/{pid}/ns/{name}");
    File::open(&path).map(OwnedFd::from).at(Stage::Sync, path)
}

/// Does the parent's part until the child waits; returns the master of its terminal, and what the root was
/// made from.
fn bring_to_gate(
    spec: &LaunchSpec,
    pid: i32,
    channel: &Channel,
    meanwhile: &mut dyn FnMut(),
) -> Result<(Option<OwnedFd>, Vec<OwnedFd>), StepError> {
    if let Some(map) = spec.id_map {
        id_map::write(pid, map)?;
        // The child makes its own file systems while this process makes the others.
        channel.order_or_hear(&[])?;
    }
    let ids = spec.id_map.map(|_| namespace_of(pid, "user")).transpose()?;
    let trees = make_trees(spec, ids.as_ref().map(AsFd::as_fd))?;
    channel.order_or_hear(&trees.as_fds())?;
    meanwhile();
    let pty_master = await_gate(channel)?;
    raise_limits(pid, &spec.process)?;
    Ok((pty_master, trees.scaffold))
}

/// The child makes the others itself: its cgroup namespace once it is in its cgroups, and that of the
/// network, the most costly of all, while this process makes file systems.
fn namespaces(spec: &LaunchSpec) -> CloneFlags {
    let mut flags = CloneFlags::CLONE_NEWNS;
    flags.set(CloneFlags::CLONE_NEWPID, !spec.host.pid);
    flags.set(CloneFlags::CLONE_NEWUTS, !spec.host.uts);
    flags.set(CloneFlags::CLONE_NEWIPC, !spec.host.ipc);
    flags.set(CloneFlags::CLONE_NEWUSER, spec.id_map.is_some());
    flags
}

/// This process in the network namespace that its child is to be born in: only it has the right to
/// enter one that does not belong to the child's user namespace.
#[derive(Debug)]
struct JoinedNetwork(Option<File>);

impl JoinedNetwork {
    fn enter(network: &NetworkNamespace) -> Result<Self, StepError> {
        let NetworkNamespace::Path(path) = network else { return Ok(Self(None)) };
        let detail = || path.display().to_string();
        let own = File::open("/proc/self/ns/net").at(Stage::EnterNamespaces, "/proc/self/ns/net")?;
        let wanted = File::open(path).at(Stage::EnterNamespaces, detail())?;
        setns(&wanted, CloneFlags::CLONE_NEWNET).at(Stage::EnterNamespaces, detail())?;
        Ok(Self(Some(own)))
    }

    fn leave(self) -> Result<(), StepError> {
        let Some(own) = self.0 else { return Ok(()) };
        setns(&own, CloneFlags::CLONE_NEWNET).at(Stage::EnterNamespaces, "/proc/self/ns/net")
    }
}

/// Makes the mounts that need the host's rights, all detached.
pub(crate) fn make_trees(
    spec: &LaunchSpec,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<Trees, StepError> {
    let mut binds = Vec::new();
    for mount in &spec.mounts {
        binds.extend(devices::bind(mount, user_namespace)?);
    }
    let Rootfs { root, scaffold } = overlay::make(&spec.rootfs, user_namespace)?;
    Ok(Trees {
        root,
        scaffold,
        dev: devices::make(spec)?,
        sys: match spec.network {
            NetworkNamespace::Host | NetworkNamespace::Path(_) => Some(devices::host_sys()?),
            NetworkNamespace::Private => None,
        },
        binds,
    })
}

/// Waits until the child has done all but execve; returns the master of its terminal.
pub(crate) fn await_gate(channel: &Channel) -> Result<Option<OwnedFd>, StepError> {
    match channel.await_answer()? {
        Answer::Ready(terminal) => Ok(terminal),
        Answer::Failed(error) => Err(error),
        Answer::Closed => Err(Errno::ECHILD).at(Stage::Sync, "it ended before it was ready"),
    }
}

/// Raises limits and sets the out-of-memory score from outside: inside, no container's root may.
///
/// The child has set its limits as far as it could itself, so what this process may not raise stays.
pub(crate) fn raise_limits(pid: i32, process: &ProcessSpec) -> Result<(), StepError> {
    for limit in &process.rlimits {
        match limits::set(pid, limit.resource, limit.soft, limit.hard).map_err(|error| error.errno) {
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno).at(Stage::SetLimit, limit.resource.to_string()),
        }
    }
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    match fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other.at(Stage::SetLimit, "oom_score_adj"),
    }
}
