//! The child's half of a launch: from clone to execve, in the container's namespaces.
//!
//! It runs in a copy of the supervisor's memory and never returns into the supervisor's code. What
//! fails is told over the channel; the exit status is then of no interest.

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_dumpable;
use nix::sys::stat::{Mode, SFlag, fstat, makedev, umask};
use nix::unistd::{Gid, Uid, fchdir, fchown, getcwd, setgroups, sethostname, setresgid, setresuid};
use wharf_sys::mount::{attach, clone_tree};
use wharf_sys::process::{reset_signals, set_standard_stream};
use wharf_sys::seccomp::Instruction;
use wharf_sys::{net, tty};

use super::parent::{Gate, Plan, Stdio, is_pipe_or_socket};
use crate::apparmor;
use crate::cgroup::Entrance;
use crate::confine::confine;
use crate::error::{AtStage, Stage, StepError};
use crate::init;
use crate::program::Program;
use crate::rootfs::attach::{OwnTrees, Trees, enter};
use crate::rootfs::resolve::{Links, make_directory, open, open_path};
use crate::spec::{NetworkNamespace, ProcessSpec};
use crate::sync::Channel;
use crate::user::{self, Identity};

/// Runs the whole sequence; returns only when it failed.
pub(super) fn run(plan: Plan<'_>, entrance: &Entrance, channel: &Channel) -> i32 {
    let passed = OnceCell::new();
    let error = match sequence(plan, entrance, channel, &passed) {
        Ok(error) | Err(error) => error,
    };
    // Who built the container may have gone; who let it through waits for its word.
    passed.get().unwrap_or(channel).failed(&error);
    127
}

/// `passed` is filled with the connection that opened the gate, where it was not the supervisor's.
fn sequence(
    plan: Plan<'_>,
    entrance: &Entrance,
    channel: &Channel,
    passed: &OnceCell<Channel>,
) -> Result<StepError, StepError> {
    let Plan { spec, layout, stdio, gate } = plan;
    set_dumpable(false).at(Stage::DropPrivileges, "dumpable")?;
    // First of all, while the kernel takes the short way: one thread that moves itself.
    entrance.enter().at(Stage::EnterCgroup, "")?;
    apparmor::take_on_exec(spec.process.apparmor.as_deref())?;
    // An init of ours executes nothing.
    let own = spec.process.apparmor.as_deref().filter(|_| spec.init);
    let label = apparmor::Later::prepare(own)?;
    let mut namespaces = CloneFlags::CLONE_NEWCGROUP;
    namespaces.set(CloneFlags::CLONE_NEWNET, spec.network == NetworkNamespace::Private);
    unshare(namespaces).at(Stage::EnterNamespaces, "cgroup, network")?;
    reset_signals().at(Stage::Sync, "signals")?;
    if spec.id_map.is_some() {
        channel.await_order()?;
        become_root().at(Stage::BecomeRoot, "")?;
    }
    umask(Mode::from_bits_truncate(0o022));
    let own = OwnTrees::make(spec, layout)?;
    if !spec.host.uts {
        sethostname(&spec.hostname).at(Stage::SetHostname, spec.hostname.as_str())?;
    }
    if spec.network == NetworkNamespace::Private {
        net::set_loopback_up().at(Stage::SetLoopback, "")?;
    }
    let filter = crate::seccomp::program(&spec.process);
    let trees = Trees::of_fds(channel.await_order()?, spec)?;
    let attached = enter(spec, own, trees)?;
    let identity = user::find(attached.root.as_fd(), &spec.process)?;
    let streams =
        Streams { stdio, dev: attached.dev.as_fd(), devpts: attached.devpts.as_fd(), console: true };
    let master = connect(&spec.process, streams, &identity)?;
    let terminal = spec.process.terminal;
    let last = Last {
        outlives: matches!(gate, Gate::Socket(_)),
        filter: filter.as_deref(),
        wait: || {
            if !spec.init {
                init::lead_session(terminal)?;
            }
            channel.ready(master.as_ref().map(AsFd::as_fd))?;
            drop(master);
            match gate {
                Gate::Supervisor => channel.await_order().map(drop),
                Gate::Socket(listener) => {
                    let connection = Channel::accept(listener.as_fd())?;
                    passed.get_or_init(|| connection).await_order().map(drop)
                }
            }
        },
        go: |program: &Program| {
            let channel = passed.get().unwrap_or(channel);
            if spec.init { init::run(program, channel, terminal, label.as_ref()) } else { program.execute() }
        },
    };
    finish(&spec.process, attached.root.as_fd(), &identity, last)
}

/// Becomes user and group 0 of the own user namespace, whose capabilities it has from birth.
fn become_root() -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// Where the standard streams come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams<'fd> {
    pub(crate) stdio: &'fd Stdio,
    pub(crate) dev: BorrowedFd<'fd>,
    pub(crate) devpts: BorrowedFd<'fd>,
    /// Show the terminal at `/dev/console` as well.
    pub(crate) console: bool,
}

/// Connects standard streams; returns the master of a terminal.
pub(crate) fn connect(
    spec: &ProcessSpec,
    streams: Streams<'_>,
    identity: &Identity,
) -> Result<Option<OwnedFd>, StepError> {
    let owner = Some(Uid::from_raw(identity.uid));
    if spec.terminal {
        let (master, slave) = tty::open_pair(streams.devpts).at(Stage::OpenTerminal, "")?;
        if let Some((rows, columns)) = spec.terminal_size {
            tty::set_size(&master, rows, columns).at(Stage::OpenTerminal, "size")?;
        }
        fchown(&slave, owner, None).at(Stage::OpenTerminal, "owner")?;
        if streams.console {
            let place = open_path(streams.dev, Path::new("console"), Links::Refuse);
            let place = place.at(Stage::OpenTerminal, "/dev/console")?;
            clone_tree(slave.as_fd(), c"", false)
                .and_then(|tree| attach(tree.as_fd(), place.as_fd()))
                .at(Stage::OpenTerminal, "/dev/console")?;
        }
        for number in 0..=2 {
            set_standard_stream(slave.as_fd(), number).at(Stage::ConnectStreams, "")?;
        }
        return Ok(Some(master));
    }
    let Stdio { stdin, stdout, stderr } = streams.stdio;
    for (number, stream) in (0..).zip([stdin, stdout, stderr]) {
        let Some(stream) = stream else {
            let null = null_device(streams.dev).at(Stage::ConnectStreams, "/dev/null")?;
            set_standard_stream(null.as_fd(), number).at(Stage::ConnectStreams, "")?;
            continue;
        };
        if is_pipe_or_socket(stream.as_fd()).at(Stage::ConnectStreams, "")? {
            fchown(stream, owner, Some(Gid::from_raw(identity.gid))).at(Stage::ConnectStreams, "owner")?;
        }
        set_standard_stream(stream.as_fd(), number).at(Stage::ConnectStreams, "")?;
    }
    Ok(None)
}

/// Opens the null device, and makes sure that it is one: a running container may have changed it.
fn null_device(dev: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let null = open(dev, Path::new("null"), flags, Links::Refuse)?;
    let stat = fstat(&null)?;
    let character = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits();
    if character && stat.st_rdev == makedev(1, 3) { Ok(null) } else { Err(Errno::ENODEV) }
}

/// How the last steps go, where a container and an exec differ.
#[derive(Debug)]
pub(crate) struct Last<'all, Wait, Go> {
    /// The process lives on when its parent dies.
    pub(crate) outlives: bool,
    /// The system call filter.
    pub(crate) filter: Option<&'all [Instruction]>,
    /// Waits at the gate.
    pub(crate) wait: Wait,
    /// Executes the program; returns only when that failed.
    pub(crate) go: Go,
}

/// The last steps, the same for a container and an exec: directory, confinement, gate, program.
pub(crate) fn finish(
    spec: &ProcessSpec,
    root: BorrowedFd<'_>,
    identity: &Identity,
    last: Last<'_, impl FnOnce() -> Result<(), StepError>, impl FnOnce(&Program) -> StepError>,
) -> Result<StepError, StepError> {
    enter_directory(root, &spec.cwd).at(Stage::EnterDirectory, spec.cwd.as_str())?;
    let program = Program::prepare(spec, identity)?;
    match last.filter {
        // This one needs privileges to load, and the gate lies before the filter.
        Some(filter) if !spec.no_new_privs => {
            (last.wait)()?;
            confine(spec, identity, last.outlives, Some(filter))?;
        }
        filter => {
            confine(spec, identity, last.outlives, None)?;
            (last.wait)()?;
            filter.map_or(Ok(()), wharf_sys::seccomp::load).at(Stage::LoadSeccomp, "")?;
        }
    }
    Ok((last.go)(&program))
}

/// Enters the working directory, and makes it when it is missing. A magic link (`/proc/self/fd/7`)
/// is refused, and a directory outside the root is noticed (CVE-2024-21626).
fn enter_directory(root: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    let path = Path::new(path);
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if !plain {
        return Err(Errno::EINVAL);
    }
    fchdir(make_directory(root, path, Links::Inside)?)?;
    if getcwd()?.is_absolute() { Ok(()) } else { Err(Errno::EXDEV) }
}
