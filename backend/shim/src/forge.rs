//! The forge: a launcher that is small, has one thread and outlives the agent.
//!
//! Forking the agent would cost milliseconds, copy its secrets into every container's first moments
//! and be unsound with its threads; so the agent asks this process. It runs from a sealed copy of its
//! own program in memory, so that no container can overwrite the host's binary through
//! `/proc/<pid>/exe` (CVE-2019-5736), and is not dumpable, so that none can look into it
//! (CVE-2016-9962). Its whole state is its listener, its connections and the doors of shims that wait for
//! a launch: if it dies, those end, the agent starts another, and shims that have a container do not notice.
//!
//! One forge per run root: it holds a lock for its life. A newer agent asks an older forge to
//! [`Request::Quit`] and starts its own.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use wharf_runtime::spec::DEFAULT_CAPABILITIES;
use wharf_shim::build_id::BuildId;
use wharf_shim::connection::{Connection, ConnectionError, Listener, Received};
use wharf_shim::failpoint;
use wharf_shim::paths::RunRoot;
use wharf_shim::protocol::{Failure, Message, Reply, Request, Seq};
use wharf_sys::SysError;
use wharf_sys::image::{is_sealed, sealed_copy};
use wharf_sys::process::{close_on_exec_from, fork, fork_sibling};

use crate::{host, supervisor};

const OWN_PROGRAM: &str = "/proc/self/exe";
/// What the forge tells its parent when it listens.
const LISTENING: &[u8] = b"\0listening";
/// As many agents (one, and a few tests or tools) may be connected.
const MAX_CONNECTIONS: usize = 16;
/// A forge that was asked to end, or that is about to listen, does so within this time.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);
const TAKEOVER_RETRY: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// So many shims wait for a launch: a burst of starts finds one each.
const PARKED: usize = 4;
/// Shims are parked when nothing was asked for so long: what a launch has just begun needs the processors.
const LULL: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Why a forge could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForgeError {
    #[error("could not {call} {path}", path = path.display())]
    File { call: &'static str, path: PathBuf, source: io::Error },
    #[error("could not copy the own program into memory")]
    Seal(#[source] SysError),
    #[error("could not execute the copy of the own program in memory")]
    Execute(#[source] io::Error),
    #[error("could not become undumpable")]
    Dumpable(#[source] Errno),
    #[error("{path} does not belong to this user alone (mode 0700)", path = path.display())]
    OpenRunRoot { path: PathBuf },
    #[error("another forge holds {path} but does not answer", path = path.display())]
    Stuck { path: PathBuf },
    #[error("could not listen")]
    Listen(#[source] ConnectionError),
    #[error("could not talk to the copy")]
    Pipe(#[source] io::Error),
    #[error("could not fork")]
    Fork(#[source] SysError),
    #[error("the copy ended: {message}")]
    Ended { message: String },
    #[error("could not detach from the caller")]
    Detach(#[source] Errno),
}

/// Starts a forge in the background and returns when it listens, or when another one does.
pub(crate) fn start(run_root: &RunRoot) -> Result<(), ForgeError> {
    let file = |call, path: &Path| {
        let path = path.to_owned();
        move |source| ForgeError::File { call, path, source }
    };
    let mut program = File::open(OWN_PROGRAM).map_err(file("open", Path::new(OWN_PROGRAM)))?;
    if !matches!(is_sealed(&program), Ok(true)) {
        return Err(execute_sealed(program));
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(ForgeError::Dumpable)?;
    let build_id = BuildId::of(&mut program).map_err(file("read", Path::new(OWN_PROGRAM)))?;
    drop(program);
    failpoint::arm(run_root);
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(run_root.path())
        .map_err(file("make", run_root.path()))?;
    let metadata = std::fs::metadata(run_root.path()).map_err(file("examine", run_root.path()))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(ForgeError::OpenRunRoot { path: run_root.path().to_owned() });
    }
    let Some(lock) = lock(run_root)? else { return Ok(()) };
    // The caller waits for this process; the forge is its child, and soon nobody's. It listens itself,
    // because a listener's credentials (SO_PEERCRED) are those of who called listen(2).
    let (outcome_reader, outcome_writer) = io::pipe().map_err(ForgeError::Pipe)?;
    let (mut outcome_reader, mut outcome_writer) = (Some(outcome_reader), Some(outcome_writer));
    let socket = run_root.forge_socket();
    fork(|| {
        outcome_reader = None;
        let forge = detach().and_then(|()| Forge::listen(socket, build_id, lock));
        let outcome =
            forge.as_ref().map_or_else(|error| crate::chain(error).into_bytes(), |_| LISTENING.to_vec());
        let told = outcome_writer.take().is_some_and(|mut writer| writer.write_all(&outcome).is_ok());
        match forge {
            Ok(forge) if told => forge.run(),
            _ => 1,
        }
    })
    .map_err(ForgeError::Fork)?;
    drop(outcome_writer);
    let mut outcome = Vec::new();
    if let Some(reader) = &mut outcome_reader {
        reader.read_to_end(&mut outcome).map_err(ForgeError::Pipe)?;
    }
    if outcome == LISTENING {
        return Ok(());
    }
    Err(ForgeError::Ended { message: String::from_utf8_lossy(&outcome).into_owned() })
}

/// Starts this program again, from a sealed copy in memory; returns only on failure.
fn execute_sealed(program: File) -> ForgeError {
    let copy = match sealed_copy(c"wharf-shim", program, true) {
        Ok(copy) => copy,
        Err(error) => return ForgeError::Seal(error),
    };
    // What the caller leaked is not passed on: a forge lives long, and containers are born from it.
    if let Err(error) = close_on_exec_from(3) {
        return ForgeError::Seal(error);
    }
    // The kernel resolves the path before it closes the descriptor (close-on-exec).
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    let error = Command::new(path).arg0("wharf-forge").args(std::env::args_os().skip(1)).env_clear().exec();
    ForgeError::Execute(error)
}

/// Takes the lock of the run root; `None` when another forge has it and listens.
fn lock(run_root: &RunRoot) -> Result<Option<File>, ForgeError> {
    let path = run_root.forge_lock();
    let failed = |source| ForgeError::File { call: "lock", path: path.clone(), source };
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)
        .map_err(failed)?;
    let deadline = Instant::now() + TAKEOVER_TIMEOUT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {}
        }
        if Connection::connect(&run_root.forge_socket()).is_ok() {
            return Ok(None);
        }
        if Instant::now() > deadline {
            return Err(ForgeError::Stuck { path });
        }
        // Nothing tells when a lock is free but taking it, so this waits a little.
        match poll(&mut [], Some(&TAKEOVER_RETRY)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

/// Lets go of the caller's session, directory and standard streams.
fn detach() -> Result<(), ForgeError> {
    rustix::process::setsid().map_err(ForgeError::Detach)?;
    // Its program is a descriptor, and so would its name be.
    rustix::thread::set_name(c"wharf-forge").map_err(ForgeError::Detach)?;
    rustix::process::chdir("/").map_err(ForgeError::Detach)?;
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(ForgeError::Detach)?;
    rustix::stdio::dup2_stdin(&null).map_err(ForgeError::Detach)?;
    rustix::stdio::dup2_stdout(&null).map_err(ForgeError::Detach)?;
    rustix::stdio::dup2_stderr(&null).map_err(ForgeError::Detach)
}

/// The running forge.
#[derive(Debug)]
struct Forge {
    socket: PathBuf,
    build_id: BuildId,
    /// `None` in a copy that is becoming a shim.
    held: Option<Held>,
    connections: Vec<Connection>,
    parked: Vec<Parked>,
    /// So many more are to be parked; one that fails is not tried again before the next launch.
    to_park: usize,
}

/// A shim that waits for its launch.
#[derive(Debug)]
struct Parked {
    pid: i32,
    door: Connection,
}

/// What only the forge itself may hold.
#[derive(Debug)]
struct Held {
    listener: Listener,
    /// Closed with the process; never unlocked, because a copy of this process may share it.
    _lock: File,
}

/// What to do after a message.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Serve,
    Quit,
}

impl Forge {
    fn listen(socket: PathBuf, build_id: BuildId, lock: File) -> Result<Self, ForgeError> {
        let listener = Listener::bind(&socket).map_err(ForgeError::Listen)?;
        let held = Some(Held { listener, _lock: lock });
        // The shims, copies of this process, have both from birth. A host without cgroups is told by the launch.
        wharf_runtime::seccomp::default_program(&DEFAULT_CAPABILITIES);
        host::layout().ok();
        Ok(Self { socket, build_id, held, connections: Vec::new(), parked: Vec::new(), to_park: PARKED })
    }

    /// Serves until asked to end; returns the exit status of the process.
    fn run(mut self) -> i32 {
        loop {
            let ready = match self.wait() {
                Ok(Some(ready)) => ready,
                Ok(None) => {
                    self.to_park = self.to_park.saturating_sub(1);
                    // Only a matter of speed: a launch that finds none has its own made.
                    self.park().ok();
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(_) => return 1,
            };
            let (listener, connections) = ready.split_first().unwrap_or((&false, &[]));
            let mut lost = Vec::new();
            for (index, _) in connections.iter().enumerate().filter(|(_, ready)| **ready) {
                match self.serve(index) {
                    Ok(Next::Serve) => {}
                    Ok(Next::Quit) => return 0,
                    Err(_) => lost.push(index),
                }
            }
            for index in lost.into_iter().rev() {
                drop(self.connections.swap_remove(index));
            }
            if *listener {
                self.accept();
            }
        }
    }

    /// Waits until something is readable: the listener first, then the connections in order. `None` when
    /// there is time to park another shim.
    fn wait(&self) -> Result<Option<Vec<bool>>, Errno> {
        let Some(held) = &self.held else { return Err(Errno::BADF) };
        let descriptors =
            std::iter::once(held.listener.as_fd()).chain(self.connections.iter().map(AsFd::as_fd));
        let mut descriptors: Vec<PollFd<'_>> =
            descriptors.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let lull = (self.to_park > 0).then_some(&LULL);
        if poll(&mut descriptors, lull)? == 0 {
            return Ok(None);
        }
        Ok(Some(descriptors.iter().map(|fd| !fd.revents().is_empty()).collect()))
    }

    fn accept(&mut self) {
        let Some(held) = &self.held else { return };
        // A foreign or vanished caller is simply not served.
        if let Ok(Some(connection)) = held.listener.accept()
            && self.connections.len() < MAX_CONNECTIONS
        {
            self.connections.push(connection);
        }
    }

    /// Answers one message of a connection; an error loses the connection.
    fn serve(&mut self, index: usize) -> Result<Next, ConnectionError> {
        let Some(connection) = self.connections.get(index) else { return Ok(Next::Serve) };
        let received = match connection.try_recv() {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(Next::Serve),
            Err(error) => return refuse(connection, error).map(|()| Next::Serve),
        };
        let Received { message: Message::Request { seq, request }, descriptors } = received else {
            return Ok(Next::Serve);
        };
        let quit = request == Request::Quit;
        let reply = self.answer(request, descriptors).unwrap_or_else(Reply::Failed);
        if quit {
            // Before the answer, and while the lock is held: the next forge binds only with the lock.
            std::fs::remove_file(&self.socket).ok();
        }
        let Some(connection) = self.connections.get(index) else { return Ok(Next::Serve) };
        let sent = connection.send(&Message::Reply { seq, reply }, &[]);
        if quit { Ok(Next::Quit) } else { sent.map(|()| Next::Serve) }
    }

    fn answer(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Result<Reply, Failure> {
        match request {
            Request::Ping => {
                let pid = rustix::process::getpid().as_raw_nonzero().get();
                Ok(Reply::Forge { build_id: self.build_id.0, pid })
            }
            Request::Quit => Ok(Reply::Done),
            Request::Launch { id, generation } => {
                let Ok([spec, socket]) = <[OwnedFd; 2]>::try_from(descriptors) else {
                    return Err(Failure::refused("launch", Errno::BADF, "two descriptors are needed"));
                };
                let launch = supervisor::Launch { id, generation, spec, socket };
                let shim_pid = self.launch(launch).map_err(|error| Failure::new("launch", &error))?;
                Ok(Reply::Launched { shim_pid })
            }
            Request::Start
            | Request::Signal { .. }
            | Request::Exec { .. }
            | Request::ExecSignal { .. }
            | Request::Stdin
            | Request::CloseStdin
            | Request::State
            | Request::Release => {
                Err(Failure::refused("forge", Errno::OPNOTSUPP, "ask the container's shim"))
            }
        }
    }

    /// Hands a launch to a parked shim, or to a new one.
    fn launch(&mut self, launch: supervisor::Launch) -> Result<i32, LaunchError> {
        failpoint::reach("forge.start.asked");
        while let Some(parked) = self.parked.pop() {
            self.to_park = PARKED.saturating_sub(self.parked.len());
            failpoint::reach("forge.start.halfway");
            // One that was killed while it waited does not take it.
            if supervisor::hand_over(&parked.door, &launch).is_ok() {
                failpoint::reach("forge.start.forked");
                return Ok(parked.pid);
            }
        }
        self.copy(|| supervisor::run(launch))
    }

    /// Makes a shim that waits for what it is to launch: to copy a process costs more than all that a shim
    /// does before it copies itself. It ends when this process does.
    fn park(&mut self) -> Result<(), LaunchError> {
        let (ours, theirs) = Connection::pair().map_err(LaunchError::Door)?;
        let mut ours = Some(ours);
        let pid = self.copy(|| {
            ours = None;
            // Only to be told apart by people.
            rustix::thread::set_name(c"wharf-parked").ok();
            supervisor::wait_for_launch(&theirs)
        })?;
        self.parked.extend(ours.map(|door| Parked { pid, door }));
        Ok(())
    }

    /// Has a copy of this process become a shim. It is no child of the forge but, as the forge itself, of
    /// the machine's init, which reaps it.
    fn copy(&mut self, shim: impl FnOnce() -> i32) -> Result<i32, LaunchError> {
        fork_sibling(|| {
            self.held = None;
            self.connections.clear();
            self.parked.clear();
            if rustix::process::setsid().is_ok() { shim() } else { 1 }
        })
        .map_err(LaunchError::Fork)
    }
}

#[derive(Debug, thiserror::Error)]
enum LaunchError {
    #[error("could not make a door for the shim")]
    Door(#[source] ConnectionError),
    #[error("could not fork")]
    Fork(#[source] SysError),
}

/// Answers a message that could not be read, if its sender can be told; else the connection is lost.
pub(crate) fn refuse(connection: &Connection, error: ConnectionError) -> Result<(), ConnectionError> {
    let (ConnectionError::Decode { seq: Some(seq), .. }
    | ConnectionError::Descriptors { seq: Some(seq), .. }) = error
    else {
        return Err(error);
    };
    let failure = Failure { errno: Errno::PROTO.raw_os_error(), ..Failure::new("protocol", &error) };
    send_reply(connection, seq, Reply::Failed(failure), &[])
}

fn send_reply(
    connection: &Connection,
    seq: Seq,
    reply: Reply,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), ConnectionError> {
    connection.send(&Message::Reply { seq, reply }, descriptors)
}
