//! The shim: parent of a container's first process, from its creation to its exit record.
//!
//! ```text
//! Creating ──► Created ──► Running ──► Exited ──► gone
//!    │            └───────────────────────▲         (released, or nobody connected for 10 s)
//!    └──► gone (nothing is left, CreateFailed was sent)
//! ```
//! One thread, one poll(2) over everything; what is waited for follows from the state in each turn,
//! so there are no registrations that could be forgotten. It never waits for the agent: one that
//! does not read is dropped, connects anew and asks for the state. One agent is connected at a
//! time, the newest.
//!
//! Exit: everything in the container's cgroup is killed, output is drained, the counters are read,
//! the record is written to disk, and only then anybody is told. While the record cannot be written
//! (a full disk), the container counts as running and the shim tries again.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use wharf_runtime::LaunchError;
use wharf_runtime::cgroup::{Cgroup, CgroupError, Layout, LayoutError};
use wharf_runtime::launch::{Created, Running, create};
use wharf_runtime::spec::{LaunchSpec, SpecError};
use wharf_runtime::usage::{Reading, UsageError, UsageReader};
use wharf_shim::clock::{Moment, realtime_ns};
use wharf_shim::connection::{Connection, ConnectionError, Listener, Received};
use wharf_shim::exit::{EXIT_RECORD_VERSION, ExitRecord, ExitRecordError, ExitStatus};
use wharf_shim::logfile::{LogError, LogWriter, MAX_RECORD_BYTES};
use wharf_shim::memfd::{SpecFileError, read_spec};
use wharf_shim::paths::{RunDir, StateDir};
use wharf_shim::process_ref::ProcessRef;
use wharf_shim::protocol::{Failure, Message, Notice, Phase, Reply, Request, StateReport};
use wharf_shim::state::{STATE_VERSION, StateError, StateFile, boot_id};
use wharf_sys::SysError;
use wharf_sys::process::{pidfd_open, pidfd_send_signal};

use crate::exec::{Execs, Given, try_wait};
use crate::forge::refuse;
use crate::oom::OomWatch;
use crate::output::{Progress, Streams};

/// After exit, with the record on disk, the shim waits this long for an agent to come.
const LINGER: Duration = Duration::from_secs(10);
/// Between attempts to write the exit record.
const RECORD_RETRY: Duration = Duration::from_secs(1);
/// Processes of a killed cgroup are gone within this time, or are not waited for.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Ends of execs that nobody could be told yet.
const MAX_UNDELIVERED: usize = 256;
/// The status of a program that could not be executed, as every shell gives it.
const PROGRAM_NOT_FOUND: i32 = 127;
const PROGRAM_NOT_EXECUTABLE: i32 = 126;
/// Messages taken from the agent in one turn.
const MESSAGES_PER_TURN: usize = 16;

/// What the forge hands to a new shim.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) id: String,
    pub(crate) generation: u64,
    pub(crate) spec: OwnedFd,
    pub(crate) socket: OwnedFd,
}

/// Why a container was not created.
#[derive(Debug, thiserror::Error)]
enum CreateError {
    #[error(transparent)]
    SpecFile(#[from] SpecFileError),
    #[error("could not decode the spec")]
    Decode(#[source] SpecError),
    #[error("the spec is that of container {id}, start {generation}")]
    ForeignSpec { id: String, generation: u64 },
    #[error("could not make the run directory")]
    RunDirectory(#[source] io::Error),
    #[error("another shim supervises the container")]
    Supervised,
    #[error("the first process of an earlier start still runs with pid {pid}")]
    StillRuns { pid: i32 },
    #[error("this start has already ended")]
    AlreadyEnded,
    #[error("this start ran already and lost its supervisor")]
    Lost,
    #[error(transparent)]
    ExitRecord(#[from] ExitRecordError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("could not read own facts from /proc")]
    Proc(#[source] io::Error),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("could not make the standard streams")]
    Streams(#[source] io::Error),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("could not build the container")]
    Launch(#[source] LaunchError),
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("could not listen")]
    Listen(#[source] ConnectionError),
}

impl CreateError {
    fn stage(&self) -> &'static str {
        match self {
            Self::SpecFile(_) | Self::Decode(_) | Self::ForeignSpec { .. } => "spec",
            Self::Supervised | Self::StillRuns { .. } | Self::AlreadyEnded | Self::Lost => "duplicate",
            Self::Launch(_) => "launch",
            Self::Layout(_) | Self::Cgroup(_) | Self::Usage(_) => "cgroup",
            Self::Log(_) => "log",
            Self::RunDirectory(_)
            | Self::ExitRecord(_)
            | Self::State(_)
            | Self::Proc(_)
            | Self::Streams(_)
            | Self::Listen(_) => "shim",
        }
    }
}

/// The whole life of a shim; returns the exit status of the process.
pub(crate) fn run(launch: Launch) -> i32 {
    // Only cosmetic, or only of use for orphans of an exec.
    rustix::thread::set_name(c"wharf-shim").ok();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ok();
    let Launch { id, generation, spec, socket } = launch;
    let agent = Connection::from_socket(socket).ok();
    match Supervisor::create(&id, generation, spec) {
        Ok(mut supervisor) => {
            supervisor.agent = agent;
            supervisor.serve();
            0
        }
        Err(error) => {
            if let Some(agent) = agent {
                let failure = Failure::new(error.stage(), &error);
                // An agent that is gone finds no shim and no state, and launches anew.
                agent.send(&Message::Notice(Notice::CreateFailed(failure)), &[]).ok();
            }
            1
        }
    }
}

/// One container under supervision.
#[derive(Debug)]
struct Supervisor {
    state: StateFile,
    run_dir: RunDir,
    state_dir: StateDir,
    /// Held for the shim's life: one supervisor per container.
    _lock: File,
    listener: Listener,
    agent: Option<Connection>,
    nobody_since: Instant,
    /// Ends of execs, for the next agent.
    undelivered: VecDeque<Notice>,
    init: ProcessRef,
    init_pidfd: OwnedFd,
    network: Option<OwnedFd>,
    cgroup: Cgroup,
    usage: UsageReader,
    oom: OomWatch,
    /// The group's count of kills before the launch.
    oom_kills_before: u64,
    streams: Streams,
    log: LogWriter,
    buffer: Box<[u8; MAX_RECORD_BYTES]>,
    execs: Execs,
    life: Life,
}

/// What belongs to one phase.
#[derive(Debug)]
enum Life {
    Created(Box<Created>),
    Running {
        running: Box<Running>,
        started: Moment,
    },
    /// Ended, the record is not on disk yet.
    Ended {
        record: Box<ExitRecord>,
        retry_at: Instant,
    },
    Exited {
        status: ExitStatus,
    },
    /// Between two others, within one function.
    Changing,
}

/// What became readable.
#[derive(Debug, Default)]
struct Ready {
    listener: bool,
    agent: bool,
    init: bool,
    memory: bool,
    execs: bool,
    outputs: Vec<bool>,
}

/// What a request comes to.
type Answer = Result<(Reply, Option<OwnedFd>), Failure>;

impl Supervisor {
    /// Builds the container up to the gate of its first process.
    fn create(id: &str, generation: u64, spec: OwnedFd) -> Result<Self, CreateError> {
        let spec = LaunchSpec::decode(&read_spec(spec)?).map_err(CreateError::Decode)?;
        if spec.id != id || spec.generation != generation {
            return Err(CreateError::ForeignSpec { id: spec.id, generation: spec.generation });
        }
        let run_dir = RunDir::new(&spec.run_dir);
        let state_dir = StateDir::new(&spec.state_dir);
        let lock = claim(&run_dir, &state_dir, &spec)?;
        let mut state = StateFile {
            version: STATE_VERSION,
            id: spec.id.clone(),
            generation,
            boot_id: boot_id().map_err(CreateError::Proc)?,
            shim: ProcessRef::current().map_err(CreateError::Proc)?,
            init: None,
            phase: Phase::Creating,
            cgroup: spec.cgroup.clone(),
        };
        state.write(&run_dir)?;
        let result = Self::build(&spec, &mut state, run_dir.clone(), state_dir, lock);
        if result.is_err() {
            // Without its file the container is unknown, which is what it is now.
            std::fs::remove_file(run_dir.shim_socket()).ok();
            std::fs::remove_file(run_dir.state_file()).ok();
        }
        result
    }

    fn build(
        spec: &LaunchSpec,
        state: &mut StateFile,
        run_dir: RunDir,
        state_dir: StateDir,
        lock: File,
    ) -> Result<Self, CreateError> {
        let layout = Layout::detect()?;
        let cgroup = Cgroup::open(&layout, &spec.cgroup)?;
        let oom = OomWatch::open(&cgroup);
        let before = UsageReader::open(&layout, &spec.cgroup, None)?.read(false);
        let log = LogWriter::open(&spec.log)?;
        let (mut streams, theirs) = Streams::new(&spec.process).map_err(CreateError::Streams)?;
        let listener = Listener::bind(&run_dir.shim_socket()).map_err(CreateError::Listen)?;
        let mut created = create(spec, theirs).map_err(CreateError::Launch)?;
        let init = ProcessRef { pid: created.pid, start_time_ticks: created.start_time_ticks };
        state.init = Some(init);
        state.phase = Phase::Created;
        let mut rest = || -> Result<_, CreateError> {
            state.write(&run_dir)?;
            let usage = UsageReader::open(&layout, &spec.cgroup, Some(init.pid))?;
            if let Some(master) = created.pty_master.take() {
                streams.add_terminal(master).map_err(CreateError::Streams)?;
            }
            let init_pidfd = created.pidfd.try_clone().map_err(CreateError::Streams)?;
            Ok((usage, init_pidfd, created.netns.take()))
        };
        let (usage, init_pidfd, network) = match rest() {
            Ok(rest) => rest,
            Err(error) => {
                // The first failure is the one to tell.
                created.abort().ok();
                return Err(error);
            }
        };
        Ok(Self {
            state: state.clone(),
            run_dir,
            state_dir,
            _lock: lock,
            listener,
            agent: None,
            nobody_since: Instant::now(),
            undelivered: VecDeque::new(),
            init,
            init_pidfd,
            network,
            cgroup,
            usage,
            oom,
            oom_kills_before: before.counters.oom_kills.value().unwrap_or(0),
            streams,
            log,
            buffer: Box::new([0; MAX_RECORD_BYTES]),
            execs: Execs::default(),
            life: Life::Created(Box::new(created)),
        })
    }

    /// Serves until the container's end was taken or recorded.
    fn serve(&mut self) {
        let created = Notice::Created {
            pid: self.init.pid,
            start_time_ticks: self.init.start_time_ticks,
            network_namespace: self.network.is_some(),
        };
        let network = self.network.as_ref().and_then(|network| network.try_clone().ok());
        self.tell(created, network);
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(Errno::INTR) => continue,
                // Not a failure that passing it on could mend; the container must not be left alone.
                Err(_) => Ready::default(),
            };
            let now = Instant::now();
            self.copy_output(&ready.outputs, now);
            if ready.execs {
                self.reap_execs();
            }
            if ready.memory {
                self.oom.notified(now);
            }
            if self.oom.look_at().is_some_and(|at| at <= now) {
                self.look_for_oom();
            }
            if ready.init
                && let Some(status) = try_wait(&self.init_pidfd)
            {
                self.ended(status);
            }
            self.record_exit(now);
            if ready.listener {
                self.accept();
            }
            if ready.agent && self.hear_agent() {
                break;
            }
            if self.may_go(now) {
                break;
            }
        }
        // Connections are refused from here on, which sends an agent to the files.
        std::fs::remove_file(self.run_dir.shim_socket()).ok();
    }

    fn wait(&self) -> Result<Ready, Errno> {
        let mut fds = vec![PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN)];
        let mut add = |fd, flags| {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            fds.len() - 1
        };
        let agent = self.agent.as_ref().map(|agent| add(agent.as_fd(), PollFlags::IN));
        let alive = matches!(self.life, Life::Created(_) | Life::Running { .. });
        let init = alive.then(|| add(self.init_pidfd.as_fd(), PollFlags::IN));
        let memory = alive.then(|| self.oom.interest()).flatten().map(|(fd, flags)| add(fd, flags));
        let outputs: Vec<Option<usize>> = self
            .streams
            .outputs
            .iter()
            .map(|output| output.paused_until().is_none().then(|| add(output.as_fd(), PollFlags::IN)))
            .collect();
        let execs: Vec<usize> = self.execs.pidfds().map(|pidfd| add(pidfd.as_fd(), PollFlags::IN)).collect();
        poll(&mut fds, self.timeout().as_ref())?;
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            listener: ready(0),
            agent: agent.is_some_and(ready),
            init: init.is_some_and(ready),
            memory: memory.is_some_and(ready),
            execs: execs.into_iter().any(ready),
            outputs: outputs.into_iter().map(|index| index.is_some_and(ready)).collect(),
        })
    }

    /// How long nothing is due.
    fn timeout(&self) -> Option<Timespec> {
        let pauses = self.streams.outputs.iter().filter_map(|output| output.paused_until());
        let retry = match &self.life {
            Life::Ended { retry_at, .. } => Some(*retry_at),
            _ => None,
        };
        let due = pauses.chain(self.oom.look_at()).chain(retry).chain(self.go_at()).min()?;
        let left = due.saturating_duration_since(Instant::now());
        // Rounded up: a wait that ends a little too early would only be repeated.
        let left = left + Duration::from_millis(1);
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        })
    }

    fn copy_output(&mut self, ready: &[bool], now: Instant) {
        let mut ready = ready.iter();
        let (buffer, log) = (&mut self.buffer, &mut self.log);
        self.streams.outputs.retain_mut(|output| {
            output.resume(now);
            let readable = ready.next().is_some_and(|ready| *ready);
            !readable || output.copy(buffer, log) != Progress::Ended
        });
    }

    fn look_for_oom(&mut self) {
        let kills = self.usage.read(false).counters.oom_kills.value();
        if self.oom.looked(kills.map(|kills| kills.saturating_sub(self.oom_kills_before))) {
            let kills = self.oom.kills();
            self.tell(Notice::Oom { kills }, None);
        }
    }

    fn reap_execs(&mut self) {
        for (exec_id, status) in self.execs.reap() {
            self.tell(Notice::ExecExited { exec_id, status }, None);
        }
    }

    /// The first process ended: takes stock of the container and prepares its record.
    fn ended(&mut self, status: ExitStatus) {
        let exited = Moment::now();
        let started = match std::mem::replace(&mut self.life, Life::Changing) {
            Life::Running { started, .. } => Some(started),
            Life::Created(created) => {
                // It was killed at its gate.
                created.abort().ok();
                None
            }
            other @ (Life::Ended { .. } | Life::Exited { .. } | Life::Changing) => {
                self.life = other;
                return;
            }
        };
        self.kill_rest();
        for output in &mut self.streams.outputs {
            output.drain(&mut self.buffer, &mut self.log);
        }
        self.log.finish(realtime_ns());
        self.streams.outputs.clear();
        self.streams.stdin = None;
        let reading = self.usage.read(true);
        self.prepare_record(status, started, exited, reading);
    }

    fn prepare_record(
        &mut self,
        status: ExitStatus,
        started: Option<Moment>,
        exited: Moment,
        reading: Reading,
    ) {
        let kills = reading.counters.oom_kills.value();
        self.oom.looked(kills.map(|kills| kills.saturating_sub(self.oom_kills_before)));
        let record = ExitRecord {
            version: EXIT_RECORD_VERSION,
            id: self.state.id.clone(),
            generation: self.state.generation,
            boot_id: self.state.boot_id.clone(),
            status,
            oom_killed: self.oom.kills() > 0,
            started,
            exited,
            reading,
            log_dropped_bytes: self.log.dropped_total_bytes(),
        };
        self.life = Life::Ended { record: Box::new(record), retry_at: Instant::now() };
    }

    /// Kills what the first process left. Its own pid namespace is empty already; this is for what
    /// came from elsewhere.
    fn kill_rest(&mut self) {
        let deadline = Instant::now() + KILL_PATIENCE;
        while !matches!(self.cgroup.is_empty(), Ok(true)) || !self.execs.is_empty() {
            // A failure shows as a group that is not empty.
            self.cgroup.kill().ok();
            self.reap_execs();
            if Instant::now() > deadline {
                break;
            }
            let pause = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            let mut pidfds: Vec<PollFd<'_>> =
                self.execs.pidfds().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
            poll(&mut pidfds, Some(&pause)).ok();
        }
        for (exec_id, status) in self.execs.abandon() {
            self.tell(Notice::ExecExited { exec_id, status }, None);
        }
    }

    /// Writes the exit record when it is due, and tells when it is on disk.
    fn record_exit(&mut self, now: Instant) {
        let Life::Ended { record, retry_at } = &mut self.life else { return };
        if *retry_at > now {
            return;
        }
        if record.write(&self.state_dir).is_err() {
            // Perhaps the directory was removed; what was used must be told all the same.
            DirBuilder::new().recursive(true).mode(0o700).create(self.state_dir.path()).ok();
            *retry_at = now + RECORD_RETRY;
            return;
        }
        let (status, oom_killed) = (record.status, record.oom_killed);
        self.life = Life::Exited { status };
        self.set_phase(Phase::Exited);
        self.nobody_since = now;
        self.tell(Notice::Exited { status, oom_killed }, None);
    }

    /// The phase in the file is a hint for people and for an agent that finds no shim: the exit
    /// record and the processes decide.
    fn set_phase(&mut self, phase: Phase) {
        self.state.phase = phase;
        self.state.write(&self.run_dir).ok();
    }

    fn may_go(&self, now: Instant) -> bool {
        self.go_at().is_some_and(|at| at <= now)
    }

    fn go_at(&self) -> Option<Instant> {
        let exited = matches!(self.life, Life::Exited { .. });
        (exited && self.agent.is_none()).then(|| self.nobody_since + LINGER)
    }

    fn accept(&mut self) {
        let Ok(Some(agent)) = self.listener.accept() else { return };
        self.agent = Some(agent);
        for notice in std::mem::take(&mut self.undelivered) {
            self.tell(notice, None);
        }
    }

    /// Tells the agent, or remembers what the state does not tell.
    fn tell(&mut self, notice: Notice, descriptor: Option<OwnedFd>) {
        let message = Message::Notice(notice);
        if let Some(agent) = &self.agent {
            let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
            if agent.send(&message, &descriptors).is_ok() {
                return;
            }
            self.lose_agent();
        }
        if let Message::Notice(notice @ Notice::ExecExited { .. }) = message {
            if self.undelivered.len() == MAX_UNDELIVERED {
                self.undelivered.pop_front();
            }
            self.undelivered.push_back(notice);
        }
    }

    fn lose_agent(&mut self) {
        self.agent = None;
        self.nobody_since = Instant::now();
    }

    /// Answers what the agent asks; tells whether it released the shim.
    fn hear_agent(&mut self) -> bool {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(agent) = &self.agent else { return false };
            let Received { message, descriptors } = match agent.try_recv() {
                Ok(Some(received)) => received,
                Ok(None) => return false,
                Err(error) => {
                    if refuse(agent, error).is_err() {
                        self.lose_agent();
                        return false;
                    }
                    continue;
                }
            };
            let Message::Request { seq, request } = message else { continue };
            let released = request == Request::Release && matches!(self.life, Life::Exited { .. });
            let starting = request == Request::Start;
            let (reply, descriptor) =
                self.answer(request, descriptors).unwrap_or_else(|failure| (Reply::Failed(failure), None));
            let started = starting && reply == Reply::Done;
            let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
            if let Some(agent) = &self.agent
                && agent.send(&Message::Reply { seq, reply }, &descriptors).is_err()
            {
                self.lose_agent();
            }
            if started {
                self.tell(Notice::Started, None);
            }
            if released {
                std::fs::remove_file(self.run_dir.state_file()).ok();
                return true;
            }
        }
        false
    }

    fn answer(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Answer {
        match request {
            Request::Start => self.start().map(|()| (Reply::Done, None)),
            Request::Signal { signo, all } => self.signal(signo, all).map(|()| (Reply::Done, None)),
            Request::Exec { stdin, stdout, stderr } => {
                self.exec(descriptors, Given { stdin, stdout, stderr })
            }
            Request::ExecSignal { exec_id, signo } => {
                let Some(pidfd) = self.execs.find(&exec_id) else {
                    return Err(Failure::refused("signal", Errno::SRCH, "no such exec runs"));
                };
                send_signal(pidfd, signo)?;
                Ok((Reply::Done, None))
            }
            Request::Stdin => {
                let Some(stdin) = &self.streams.stdin else {
                    return Err(Failure::refused("stdin", Errno::PIPE, "standard input is not open"));
                };
                let stdin = stdin.try_clone().map_err(|error| Failure::new("stdin", &error))?;
                Ok((Reply::Stdin, Some(stdin)))
            }
            Request::CloseStdin => {
                self.streams.stdin = None;
                Ok((Reply::Done, None))
            }
            Request::State => Ok(self.report()),
            Request::Release if matches!(self.life, Life::Exited { .. }) => Ok((Reply::Done, None)),
            Request::Release => Err(Failure::refused("release", Errno::BUSY, "the container has not ended")),
            Request::Ping | Request::Quit | Request::Launch { .. } => {
                Err(Failure::refused("shim", Errno::OPNOTSUPP, "ask the forge"))
            }
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        let created = match std::mem::replace(&mut self.life, Life::Changing) {
            Life::Created(created) => created,
            other => {
                self.life = other;
                return Err(Failure::refused("start", Errno::ALREADY, "the container was started before"));
            }
        };
        let started = Moment::now();
        match created.start() {
            Ok(running) => {
                self.life = Life::Running { running: Box::new(running), started };
                self.set_phase(Phase::Running);
                Ok(())
            }
            Err(error) => {
                // The process ended without running the program; its end is recorded as any other.
                let failure = Failure::new("start", &error);
                let status = ExitStatus::Code(if failure.errno == Errno::NOENT.raw_os_error() {
                    PROGRAM_NOT_FOUND
                } else {
                    PROGRAM_NOT_EXECUTABLE
                });
                self.kill_rest();
                self.streams.outputs.clear();
                self.streams.stdin = None;
                let reading = self.usage.read(true);
                self.prepare_record(status, None, Moment::now(), reading);
                Err(failure)
            }
        }
    }

    fn signal(&self, signo: i32, all: bool) -> Result<(), Failure> {
        if !matches!(self.life, Life::Created(_) | Life::Running { .. }) {
            return Err(Failure::refused("signal", Errno::SRCH, "the container has ended"));
        }
        if !all {
            return send_signal(&self.init_pidfd, signo);
        }
        let failed = |error: CgroupError| Failure::new("signal", &error);
        if signo == rustix::process::Signal::KILL.as_raw() {
            return self.cgroup.kill().map_err(failed);
        }
        // Opened first and compared afterwards: a pid that was reused meanwhile is not in the list.
        let candidates: Vec<(i32, OwnedFd)> = self
            .cgroup
            .pids()
            .map_err(failed)?
            .into_iter()
            .filter_map(|pid| Some((pid, pidfd_open(pid).ok()?)))
            .collect();
        let members = self.cgroup.pids().map_err(failed)?;
        for (_, pidfd) in candidates.iter().filter(|(pid, _)| members.contains(pid)) {
            send_signal(pidfd, signo)?;
        }
        Ok(())
    }

    fn exec(&mut self, descriptors: Vec<OwnedFd>, given: Given) -> Answer {
        let Life::Running { running, .. } = &self.life else {
            return Err(Failure::refused("exec", Errno::SRCH, "the container does not run"));
        };
        let (pid, master) = self
            .execs
            .start(&running.target, descriptors, given)
            .map_err(|error| Failure::new("exec", &error))?;
        Ok((Reply::ExecStarted { pid, terminal: master.is_some() }, master))
    }

    fn report(&self) -> (Reply, Option<OwnedFd>) {
        let (phase, exit) = match &self.life {
            Life::Created(_) => (Phase::Created, None),
            Life::Running { .. } | Life::Ended { .. } | Life::Changing => (Phase::Running, None),
            Life::Exited { status } => (Phase::Exited, Some(*status)),
        };
        let network = self.network.as_ref().and_then(|network| network.try_clone().ok());
        let report = StateReport {
            id: self.state.id.clone(),
            generation: self.state.generation,
            phase,
            pid: self.init.pid,
            start_time_ticks: self.init.start_time_ticks,
            exit,
            oom_kills: self.oom.kills(),
            log_dropped_bytes: self.log.dropped_total_bytes(),
            network_namespace: network.is_some(),
            execs: self.execs.report(),
        };
        (Reply::State(report), network)
    }
}

/// Makes sure that this is the only shim of the container, and that this start is a new one.
fn claim(run_dir: &RunDir, state_dir: &StateDir, spec: &LaunchSpec) -> Result<File, CreateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(run_dir.path())
        .map_err(CreateError::RunDirectory)?;
    let lock = File::open(run_dir.path()).map_err(CreateError::RunDirectory)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(CreateError::Supervised),
        Err(TryLockError::Error(error)) => return Err(CreateError::RunDirectory(error)),
    }
    if ExitRecord::read(state_dir, &spec.id, spec.generation)?.is_some() {
        return Err(CreateError::AlreadyEnded);
    }
    let earlier = match StateFile::read(run_dir, &spec.id) {
        Ok(earlier) => earlier,
        // Pids of an earlier boot mean nothing.
        Err(StateError::EarlierBoot { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let Some(earlier) = earlier else { return Ok(lock) };
    if let Some(init) = earlier.init
        && init.is_alive().map_err(CreateError::Proc)?
    {
        return Err(CreateError::StillRuns { pid: init.pid });
    }
    let has_run = matches!(earlier.phase, Phase::Running | Phase::Exited);
    if has_run && earlier.generation == spec.generation {
        return Err(CreateError::Lost);
    }
    Ok(lock)
}

fn send_signal(pidfd: &OwnedFd, signo: i32) -> Result<(), Failure> {
    match pidfd_send_signal(pidfd.as_fd(), signo) {
        // It ended already, which is what most signals are for.
        Err(error @ SysError { .. }) if error.raw() != Errno::SRCH.raw_os_error() => {
            Err(Failure::new("signal", &error))
        }
        _ => Ok(()),
    }
}
