//! What the agent asks, and what it is answered.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Signal;
use wharf_runtime::cgroup::CgroupError;
use wharf_shim::clock::Moment;
use wharf_shim::connection::Received;
use wharf_shim::exit::ExitStatus;
use wharf_shim::failpoint;
use wharf_shim::protocol::{Failure, Message, Notice, Phase, Reply, Request, StateReport};
use wharf_sys::process::{pidfd_open, pidfd_send_signal};

use super::{Life, Supervisor};
use crate::exec::Given;
use crate::forge::refuse;

/// Messages taken from the agent in one turn.
const MESSAGES_PER_TURN: usize = 16;
/// The status of a program that could not be executed, as every shell gives it.
const PROGRAM_NOT_FOUND: i32 = 127;
const PROGRAM_NOT_EXECUTABLE: i32 = 126;

/// What a request comes to: a reply, and a descriptor for some.
type Answer = Result<(Reply, Option<OwnedFd>), Failure>;

const DONE: (Reply, Option<OwnedFd>) = (Reply::Done, None);

impl Supervisor {
    /// Answers what the agent asks; tells whether it released the shim.
    pub(super) fn hear_agent(&mut self) -> bool {
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
            let (starts, releases) = (request == Request::Start, request == Request::Release);
            let (reply, descriptor) =
                self.answer(request, descriptors).unwrap_or_else(|failure| (Reply::Failed(failure), None));
            let done = reply == Reply::Done;
            let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
            if let Some(agent) = &self.agent
                && agent.send(&Message::Reply { seq, reply }, &descriptors).is_err()
            {
                self.lose_agent();
            }
            if starts && done {
                failpoint::reach("shim.start.answered");
                self.tell(Notice::Started, None);
            }
            if releases && done {
                std::fs::remove_file(self.run_dir.state_file()).ok();
                failpoint::reach("shim.stop.released");
                return true;
            }
        }
        false
    }

    fn answer(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Answer {
        match request {
            Request::Start => self.start().map(|()| DONE),
            Request::Signal { signo, all } => self.signal(signo, all).map(|()| DONE),
            Request::Exec { stdin, stdout, stderr } => {
                self.exec(descriptors, Given { stdin, stdout, stderr })
            }
            Request::ExecSignal { exec_id, signo } => match self.execs.find(&exec_id) {
                Some(pidfd) => send_signal(pidfd, signo).map(|()| DONE),
                None => Err(Failure::refused("signal", Errno::SRCH, "no such exec runs")),
            },
            Request::Stdin => {
                let Some(stdin) = &self.streams.stdin else {
                    return Err(Failure::refused("stdin", Errno::PIPE, "standard input is not open"));
                };
                let stdin = stdin.try_clone().map_err(|error| Failure::new("stdin", &error))?;
                Ok((Reply::Stdin, Some(stdin)))
            }
            Request::CloseStdin => {
                self.streams.stdin = None;
                Ok(DONE)
            }
            Request::State => Ok(self.report()),
            Request::Release if matches!(self.life, Life::Exited { .. }) => Ok(DONE),
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
        // Before the deed: whoever finds the file and no shim has to know that the program may have run.
        self.set_phase(Phase::Running);
        let started = Moment::now();
        match created.start() {
            Ok(running) => {
                failpoint::reach("shim.start.executed");
                self.life = Life::Running { running: Box::new(running), started };
                Ok(())
            }
            Err(error) => {
                // The process is gone without having run the program; its end is recorded as any other.
                let failure = Failure::new("start", &error);
                let not_found = failure.errno == Errno::NOENT.raw_os_error();
                let code = if not_found { PROGRAM_NOT_FOUND } else { PROGRAM_NOT_EXECUTABLE };
                self.take_stock(ExitStatus::Code(code), None);
                Err(failure)
            }
        }
    }

    fn signal(&self, signo: i32, all: bool) -> Result<(), Failure> {
        failpoint::reach("shim.stop.asked");
        if !matches!(self.life, Life::Created(_) | Life::Running { .. }) {
            return Err(Failure::refused("signal", Errno::SRCH, "the container has ended"));
        }
        if !all {
            let sent = send_signal(&self.init_pidfd, signo);
            failpoint::reach("shim.stop.signalled");
            return sent;
        }
        let failed = |error: CgroupError| Failure::new("signal", &error);
        if signo == Signal::KILL.as_raw() {
            return self.cgroup.kill().map_err(failed);
        }
        // Opened first and compared afterwards: a pid that was reused meanwhile is not in the list.
        let candidates = self.cgroup.pids().map_err(failed)?.into_iter();
        let candidates: Vec<(i32, OwnedFd)> =
            candidates.filter_map(|pid| Some((pid, pidfd_open(pid).ok()?))).collect();
        let members = self.cgroup.pids().map_err(failed)?;
        candidates
            .iter()
            .filter(|(pid, _)| members.contains(pid))
            .try_for_each(|(_, pidfd)| send_signal(pidfd, signo))
    }

    fn exec(&mut self, descriptors: Vec<OwnedFd>, given: Given) -> Answer {
        let Life::Running { running, .. } = &self.life else {
            return Err(Failure::refused("exec", Errno::SRCH, "the container does not run"));
        };
        failpoint::reach("shim.exec.asked");
        let (pid, master) = self
            .execs
            .start(&running.target, descriptors, given)
            .map_err(|error| Failure::new("exec", &error))?;
        failpoint::reach("shim.exec.started");
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

/// A process that has ended already was reached by every signal that it could be.
fn send_signal(pidfd: &OwnedFd, signo: i32) -> Result<(), Failure> {
    match pidfd_send_signal(pidfd.as_fd(), signo) {
        Err(error) if error.raw() != Errno::SRCH.raw_os_error() => Err(Failure::new("signal", &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
