//! Further processes in a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use wharf_runtime::LaunchError;
use wharf_runtime::exec::{ExecTarget, exec_in};
use wharf_runtime::launch::Stdio;
use wharf_runtime::spec::ExecSpec;
use wharf_shim::exit::ExitStatus;
use wharf_shim::memfd::{SpecFileError, read_spec};
use wharf_shim::protocol::RunningExec;
use wharf_sys::process::try_reap;

use crate::host;

/// More than any sane use; each costs a descriptor and a line in the state.
const MAX_EXECS: usize = 256;

/// Why an exec was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartExecError {
    #[error(transparent)]
    SpecFile(#[from] SpecFileError),
    #[error("could not decode the spec")]
    Decode(#[source] wharf_runtime::spec::SpecError),
    #[error("an exec {exec_id} runs already")]
    Exists { exec_id: String },
    #[error("{MAX_EXECS} execs run already")]
    TooMany,
    #[error("an exec came with the wrong descriptors")]
    Descriptors,
    #[error("could not start the process")]
    Start(#[source] LaunchError),
}

/// Which standard streams came with an exec.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// The execs that run.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    running: Vec<Exec>,
}

#[derive(Debug)]
struct Exec {
    id: String,
    pid: i32,
    pidfd: OwnedFd,
}

impl Execs {
    /// Starts one; returns its pid and its terminal's master, if it has one.
    pub(crate) fn start(
        &mut self,
        target: &ExecTarget,
        descriptors: Vec<OwnedFd>,
        given: Given,
    ) -> Result<(i32, Option<OwnedFd>), StartExecError> {
        let mut descriptors = descriptors.into_iter();
        let spec = descriptors.next().ok_or(StartExecError::Descriptors)?;
        let mut stream = |given: bool| given.then(|| descriptors.next()).flatten();
        let stdio =
            Stdio { stdin: stream(given.stdin), stdout: stream(given.stdout), stderr: stream(given.stderr) };
        let spec = ExecSpec::decode(&read_spec(spec)?).map_err(StartExecError::Decode)?;
        if self.find(&spec.exec_id).is_some() {
            return Err(StartExecError::Exists { exec_id: spec.exec_id });
        }
        if self.running.len() >= MAX_EXECS {
            return Err(StartExecError::TooMany);
        }
        let layout = host::layout().map_err(|error| StartExecError::Start(error.into()))?;
        let started = exec_in(layout, target, &spec, stdio, false).map_err(StartExecError::Start)?;
        self.running.push(Exec { id: spec.exec_id, pid: started.pid, pidfd: started.pidfd });
        Ok((started.pid, started.pty_master))
    }

    /// What to wait for: readable when a process ended.
    pub(crate) fn pidfds(&self) -> impl Iterator<Item = &OwnedFd> {
        self.running.iter().map(|exec| &exec.pidfd)
    }

    /// Returns the descriptor of one.
    pub(crate) fn find(&self, exec_id: &str) -> Option<&OwnedFd> {
        self.running.iter().find(|exec| exec.id == exec_id).map(|exec| &exec.pidfd)
    }

    /// Takes those that ended.
    pub(crate) fn reap(&mut self) -> Vec<(String, ExitStatus)> {
        let mut ended = Vec::new();
        self.running.retain_mut(|exec| match try_wait(&exec.pidfd) {
            Some(child) => {
                ended.push((std::mem::take(&mut exec.id), child.status));
                false
            }
            None => true,
        });
        ended
    }

    /// Takes the rest, whose end can no longer be seen.
    pub(crate) fn abandon(&mut self) -> Vec<(String, ExitStatus)> {
        self.running.drain(..).map(|exec| (exec.id, ExitStatus::Unknown)).collect()
    }

    /// Describes those that run.
    pub(crate) fn report(&self) -> Vec<RunningExec> {
        self.running.iter().map(|exec| RunningExec { exec_id: exec.id.clone(), pid: exec.pid }).collect()
    }

    /// Tells whether none runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

/// How a child ended, and what the kernel says of its CPU time, if it says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reaped {
    pub(crate) status: ExitStatus,
    pub(crate) cpu: Option<Duration>,
}

/// Reaps a child if it ended. A child that somebody else reaped has ended in an unknown way.
pub(crate) fn try_wait(pidfd: &OwnedFd) -> Option<Reaped> {
    match try_reap(pidfd.as_fd()) {
        Ok(Some(child)) => Some(Reaped { status: child.ended.into(), cpu: Some(child.cpu) }),
        Ok(None) => None,
        Err(_) => Some(Reaped { status: ExitStatus::Unknown, cpu: None }),
    }
}
