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

mod create;
mod ending;
mod requests;

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use wharf_runtime::cgroup::Cgroup;
use wharf_runtime::launch::{Created, Running};
use wharf_runtime::usage::{Depth, UsageReader};
use wharf_shim::clock::Moment;
use wharf_shim::connection::{Connection, ConnectionError, Listener, Received};
use wharf_shim::exit::{ExitRecord, ExitStatus};
use wharf_shim::failpoint;
use wharf_shim::logfile::LogWriter;
use wharf_shim::paths::{RunDir, StateDir};
use wharf_shim::process_ref::ProcessRef;
use wharf_shim::protocol::{Failure, Message, Notice, Phase, Request, Seq};
use wharf_shim::state::StateFile;

use crate::exec::{Execs, try_wait};
use crate::oom::OomWatch;
use crate::output::{Buffer, Progress, Streams};

/// After exit, with the record on disk, the shim waits this long for an agent to come.
const LINGER: Duration = Duration::from_secs(10);
/// A shim that waits for its launch looks up this often, for no reason.
const FOREVER: Duration = Duration::from_hours(1);
/// Ends of execs that nobody could be told yet.
const MAX_UNDELIVERED: usize = 256;

/// What the forge hands to a new shim.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) id: String,
    pub(crate) generation: u64,
    pub(crate) spec: OwnedFd,
    pub(crate) socket: OwnedFd,
}

/// Hands a launch to a shim that was made beforehand.
pub(crate) fn hand_over(door: &Connection, launch: &Launch) -> Result<(), ConnectionError> {
    let Launch { id, generation, spec, socket } = launch;
    let request = Request::Launch { id: id.clone(), generation: *generation };
    door.send(&Message::Request { seq: Seq::MIN, request }, &[spec.as_fd(), socket.as_fd()])
}

/// The life of a shim that was made beforehand; it ends when nobody is left who could hand it a launch.
pub(crate) fn wait_for_launch(door: &Connection) -> i32 {
    loop {
        match door.recv(FOREVER) {
            Ok(Received { message: Message::Request { request, .. }, descriptors }) => {
                let (Request::Launch { id, generation }, Ok([spec, socket])) =
                    (request, <[OwnedFd; 2]>::try_from(descriptors))
                else {
                    return 1;
                };
                return run(Launch { id, generation, spec, socket });
            }
            Err(ConnectionError::Timeout { .. }) => {}
            Ok(_) | Err(_) => return 1,
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
    match create::create(&id, generation, spec) {
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
    /// What the first process used, once it was waited for.
    init_cpu: Option<Duration>,
    network: Option<OwnedFd>,
    cgroup: Cgroup,
    usage: UsageReader,
    oom: OomWatch,
    streams: Streams,
    log: LogWriter,
    buffer: Buffer,
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

/// What can become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Listener,
    Agent,
    Init,
    Memory,
    Exec,
    /// One of the outputs, by position.
    Output(usize),
}

impl Supervisor {
    /// Serves until the container's end was taken or recorded.
    fn serve(&mut self) {
        let created = Notice::Created {
            pid: self.init.pid,
            start_time_ticks: self.init.start_time_ticks,
            network_namespace: self.network.is_some(),
        };
        let network = self.network.as_ref().and_then(|network| network.try_clone().ok());
        self.tell(created, network.as_ref());
        failpoint::reach("shim.start.told");
        loop {
            // A poll that fails is only repeated: the container must not be left alone.
            let ready = self.wait().unwrap_or_default();
            let now = Instant::now();
            self.copy_output(&ready, now);
            if ready.contains(&Event::Exec) {
                self.reap_execs();
            }
            if ready.contains(&Event::Memory) {
                self.oom.notified(now);
            }
            if self.oom.look_at().is_some_and(|at| at <= now) {
                self.look_for_oom();
            }
            if ready.contains(&Event::Init)
                && let Some(init) = try_wait(&self.init_pidfd)
            {
                self.init_cpu = init.cpu;
                self.ended(init.status);
            }
            self.record_exit(now);
            if ready.contains(&Event::Listener) {
                self.accept();
            }
            let released = ready.contains(&Event::Agent) && self.hear_agent();
            if released || self.go_at().is_some_and(|at| at <= now) {
                break;
            }
        }
        // Connections are refused from here on, which sends an agent to the files.
        std::fs::remove_file(self.run_dir.shim_socket()).ok();
    }

    /// What to wait for now.
    fn interests(&self) -> Vec<(Event, BorrowedFd<'_>, PollFlags)> {
        let mut interests = vec![(Event::Listener, self.listener.as_fd(), PollFlags::IN)];
        interests.extend(self.agent.iter().map(|agent| (Event::Agent, agent.as_fd(), PollFlags::IN)));
        if matches!(self.life, Life::Created(_) | Life::Running { .. }) {
            interests.push((Event::Init, self.init_pidfd.as_fd(), PollFlags::IN));
            interests.extend(self.oom.interest().map(|(fd, flags)| (Event::Memory, fd, flags)));
        }
        interests.extend(self.execs.pidfds().map(|pidfd| (Event::Exec, pidfd.as_fd(), PollFlags::IN)));
        for (index, output) in self.streams.outputs.iter().enumerate() {
            if output.paused_until().is_none() {
                interests.push((Event::Output(index), output.as_fd(), PollFlags::IN));
            }
        }
        interests
    }

    fn wait(&self) -> Result<Vec<Event>, Errno> {
        let interests = self.interests();
        let mut fds: Vec<PollFd<'_>> =
            interests.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        poll(&mut fds, self.timeout().as_ref())?;
        let ready = interests.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|((event, _, _), _)| *event).collect())
    }

    /// How long nothing is due.
    fn timeout(&self) -> Option<Timespec> {
        let pauses = self.streams.outputs.iter().filter_map(crate::output::Output::paused_until);
        let retry = match &self.life {
            Life::Ended { retry_at, .. } => Some(*retry_at),
            Life::Created(_) | Life::Running { .. } | Life::Exited { .. } | Life::Changing => None,
        };
        let due = pauses.chain(self.oom.look_at()).chain(retry).chain(self.go_at()).min()?;
        let left = due.saturating_duration_since(Instant::now());
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        })
    }

    fn copy_output(&mut self, ready: &[Event], now: Instant) {
        let (buffer, log) = (&mut self.buffer, &mut self.log);
        let mut index = 0;
        self.streams.outputs.retain_mut(|output| {
            output.resume(now);
            let readable = ready.contains(&Event::Output(index));
            index += 1;
            !readable || output.copy(buffer, log) != Progress::Ended
        });
    }

    fn look_for_oom(&mut self) {
        let count = self.usage.read(Depth::Live).counters.oom_kills;
        if self.oom.looked(count) {
            let kills = self.oom.kills();
            self.tell(Notice::Oom { kills }, None);
        }
    }

    fn reap_execs(&mut self) {
        for (exec_id, status) in self.execs.reap() {
            failpoint::reach("shim.exec.reaped");
            self.tell(Notice::ExecExited { exec_id, status }, None);
        }
    }

    /// The phase in the file is a hint for people and for an agent that finds no shim: the exit
    /// record and the processes decide.
    fn set_phase(&mut self, phase: Phase) {
        self.state.phase = phase;
        self.state.write(&self.run_dir).ok();
    }

    /// When the shim may go although nobody released it.
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
    fn tell(&mut self, notice: Notice, descriptor: Option<&OwnedFd>) {
        let message = Message::Notice(notice);
        if let Some(agent) = &self.agent {
            let descriptors: Vec<_> = descriptor.into_iter().map(AsFd::as_fd).collect();
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
}
