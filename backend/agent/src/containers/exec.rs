//! A further process in a running container: pipes or a terminal, and how it ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::sync::oneshot;
use wharf_runtime::spec::{ExecSpec as Spec, ProcessSpec, SPEC_VERSION};
use wharf_shared::container::ExecSpec;
use wharf_shim::protocol::{ExitStatus, Reply, Request};
use wharf_shim::{failpoint, memfd};

use super::launch;
use crate::engine::{EngineError, Session, SessionError};
use crate::error::{Result, ServiceError};

/// What the actor is asked for.
pub(super) struct ExecAsk {
    pub(super) exec_id: String,
    pub(super) spec: ExecSpec,
}

/// Our ends of a process's standard streams.
#[derive(Debug)]
pub(crate) enum Streams {
    /// One terminal for all three.
    Terminal(OwnedFd),
    /// Pipes; no input where the caller wants none.
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
}

/// An exec that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) exec_id: String,
    pub(crate) streams: Streams,
    pub(crate) exit: oneshot::Receiver<ExitStatus>,
}

/// The container's own standard input.
#[derive(Debug)]
pub(crate) struct Stdin {
    pub(crate) fd: OwnedFd,
    /// It is the terminal's master, so its size can be set.
    pub(crate) terminal: bool,
}

/// Has the shim start it. The process's ends of the pipes are closed here once it has them.
pub(super) async fn start(
    session: &Session,
    ask: ExecAsk,
    process: ProcessSpec,
    exit: oneshot::Receiver<ExitStatus>,
) -> Result<Running> {
    let failed = |error: std::io::Error| ServiceError::internal("no descriptors for the process", error);
    let terminal = process.terminal;
    let wants_input = process.stdin;
    let spec = Spec { version: SPEC_VERSION, exec_id: ask.exec_id.clone(), process };
    let sealed = memfd::seal_spec(
        &spec.encode().map_err(|error| ServiceError::internal("the process cannot be described", error))?,
    )
    .map_err(|error| ServiceError::internal("no memory file for the process", error))?;
    failpoint::reach("agent.exec.described");
    if terminal {
        let request = Request::Exec { stdin: false, stdout: false, stderr: false };
        let (_, mut descriptors) = asked(session, request, &[sealed.as_fd()]).await?;
        let master = descriptors
            .pop()
            .ok_or_else(|| ServiceError::internal("the supervisor gave no terminal", SessionError::HungUp))?;
        return Ok(Running { exec_id: ask.exec_id, streams: Streams::Terminal(master), exit });
    }
    let (our_stdout, stdout) = std::io::pipe().map_err(failed)?;
    let (our_stderr, stderr) = std::io::pipe().map_err(failed)?;
    let stdin = wants_input.then(std::io::pipe).transpose().map_err(failed)?;
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![sealed.as_fd()];
    descriptors.extend(stdin.as_ref().map(|(theirs, _)| theirs.as_fd()));
    descriptors.extend([stdout.as_fd(), stderr.as_fd()]);
    let request = Request::Exec { stdin: wants_input, stdout: true, stderr: true };
    asked(session, request, &descriptors).await?;
    failpoint::reach("agent.exec.started");
    let streams = Streams::Pipes {
        stdin: stdin.map(|(_, ours)| ours.into()),
        stdout: our_stdout.into(),
        stderr: our_stderr.into(),
    };
    Ok(Running { exec_id: ask.exec_id, streams, exit })
}

async fn asked(
    session: &Session,
    request: Request,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(Reply, Vec<OwnedFd>)> {
    session.ask(request, descriptors).await.map_err(|error| {
        launch::session_refused("the process cannot be started", EngineError::Session(error))
    })
}
