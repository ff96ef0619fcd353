//! The agent's side in blocking form: find or start the forge, ask and wait for the answer.
//!
//! The agent proper waits on connections by their descriptors and calls only the functions that
//! start or find a forge (on a blocking thread); tests use all of it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use wharf_runtime::spec::{ExecSpec, LaunchSpec, SpecError};
use wharf_sys::SysError;

use crate::build_id::BuildId;
use crate::connection::{Connection, ConnectionError, Received};
use crate::memfd;
use crate::paths::{RunDir, RunRoot};
use crate::protocol::{Failure, Message, Notice, Reply, Request, Seq, StateReport};

/// A local process that is not stuck answers long before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A question to forge or shim that got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The executable of the forge could not be read.
    #[error("could not read the forge's executable {path}", path = path.display())]
    Executable {
        /// The executable.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The forge could not be started.
    #[error("could not start the forge {path}", path = path.display())]
    Spawn {
        /// The executable.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The forge ended before it listened.
    #[error("the forge did not come up ({status}): {message}")]
    ForgeEnded {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        message: String,
    },
    /// The other side refused.
    #[error("refused")]
    Refused(#[from] Failure),
    /// The answer is none to this question.
    #[error("an answer does not fit its question: {reply:?}")]
    UnexpectedReply {
        /// What came.
        reply: Box<Reply>,
    },
    /// A spec could not be written.
    #[error("could not encode a spec")]
    EncodeSpec(#[source] SpecError),
    /// A spec could not be put into a sealed file.
    #[error("could not put a spec into a sealed memory file")]
    SealSpec(#[source] SysError),
}

/// Tells which build a forge started from `executable` would run.
///
/// # Errors
/// [`ClientError::Executable`].
pub fn build_id_of(executable: &Path) -> Result<BuildId, ClientError> {
    let failed = |source| ClientError::Executable { path: executable.to_owned(), source };
    let mut file = File::open(executable).map_err(failed)?;
    BuildId::of(&mut file).map_err(failed)
}

/// Connects to the forge that runs in `run_root`; `None` when there is none.
///
/// # Errors
/// [`ClientError::Connection`].
pub fn connect_forge(run_root: &RunRoot) -> Result<Option<Client>, ClientError> {
    match Connection::connect(&run_root.forge_socket()) {
        Ok(connection) => Ok(Some(Client::new(connection))),
        Err(error) if error.nobody_listens() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Starts a forge from `executable` and returns when it listens. The run root must exist. When
/// another forge already runs there, this one ends and the connection is to the other.
///
/// # Errors
/// [`ClientError::Spawn`] and [`ClientError::ForgeEnded`].
pub fn spawn_forge(run_root: &RunRoot, executable: &Path) -> Result<Client, ClientError> {
    // The process that is spawned ends as soon as the forge, its child, listens.
    let output = Command::new(executable)
        .arg("--forge")
        .arg(run_root.path())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|source| ClientError::Spawn { path: executable.to_owned(), source })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        return Err(ClientError::ForgeEnded { status: output.status, message });
    }
    Ok(Client::new(Connection::connect(&run_root.forge_socket())?))
}

/// Returns a connection to a forge that runs the build of `executable`: the one that is there, or
/// a new one after the old one was asked to end. Shims of the old one are not affected.
///
/// # Errors
/// Those of [`connect_forge`] and [`spawn_forge`].
pub fn ensure_forge(run_root: &RunRoot, executable: &Path) -> Result<Client, ClientError> {
    let wanted = build_id_of(executable)?;
    if let Some(mut forge) = connect_forge(run_root)? {
        match forge.ping() {
            Ok(found) if found == wanted => return Ok(forge),
            Ok(_) => forge.quit()?,
            // It was about to end, or speaks another version of the protocol.
            Err(ClientError::Connection(_)) => {}
            Err(error) => return Err(error),
        }
    }
    spawn_forge(run_root, executable)
}

/// Connects to the shim of a container; [`ConnectionError::nobody_listens`] when it is gone.
///
/// # Errors
/// [`ClientError::Connection`].
pub fn connect_shim(run_dir: &RunDir) -> Result<Client, ClientError> {
    Ok(Client::new(Connection::connect(&run_dir.shim_socket())?))
}

/// One connection with forge or shim, and the notices that came between answers.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    next_seq: Seq,
    notices: VecDeque<(Notice, Vec<OwnedFd>)>,
}

impl Client {
    /// Speaks over `connection`.
    pub fn new(connection: Connection) -> Self {
        Self { connection, next_seq: Seq::MIN, notices: VecDeque::new() }
    }

    /// Gives the connection back, for waiting on it by its descriptor.
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    /// Returns the connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Asks and waits for the answer; notices that come before it are kept.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the answer is a refusal.
    pub fn call(
        &mut self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), ClientError> {
        let seq = self.next_seq;
        self.next_seq = seq.checked_add(1).unwrap_or(Seq::MIN);
        self.connection.send(&Message::Request { seq, request }, descriptors)?;
        loop {
            let Received { message, descriptors } = self.connection.recv(ANSWER_TIMEOUT)?;
            match message {
                Message::Reply { seq: answered, reply } if answered == seq => {
                    return match reply {
                        Reply::Failed(failure) => Err(failure.into()),
                        reply => Ok((reply, descriptors)),
                    };
                }
                Message::Notice(notice) => self.notices.push_back((notice, descriptors)),
                // The late answer to a question that was given up.
                Message::Reply { .. } | Message::Request { .. } => {}
            }
        }
    }

    /// Waits for the next notice.
    ///
    /// # Errors
    /// [`ConnectionError::Timeout`], [`ConnectionError::Closed`].
    pub fn next_notice(&mut self, timeout: Duration) -> Result<(Notice, Vec<OwnedFd>), ClientError> {
        if let Some(notice) = self.notices.pop_front() {
            return Ok(notice);
        }
        loop {
            let Received { message, descriptors } = self.connection.recv(timeout)?;
            if let Message::Notice(notice) = message {
                return Ok((notice, descriptors));
            }
        }
    }

    /// Asks the forge which build it runs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ping(&mut self) -> Result<BuildId, ClientError> {
        match self.call(Request::Ping, &[])? {
            (Reply::Forge { build_id, .. }, _) => Ok(BuildId(build_id)),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Asks the forge to end, and waits until it has.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn quit(mut self) -> Result<(), ClientError> {
        self.done(Request::Quit, &[])?;
        loop {
            match self.connection.recv(ANSWER_TIMEOUT) {
                Ok(_) => {}
                Err(ConnectionError::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks the forge for a shim; returns the shim's pid and a connection with it, on which
    /// [`Notice::Created`] or [`Notice::CreateFailed`] comes next.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn launch(&mut self, spec: &LaunchSpec) -> Result<(i32, Self), ClientError> {
        let sealed = memfd::seal_spec(&spec.encode().map_err(ClientError::EncodeSpec)?)
            .map_err(ClientError::SealSpec)?;
        let (own, theirs) = Connection::pair()?;
        let request = Request::Launch { id: spec.id.clone(), generation: spec.generation };
        match self.call(request, &[sealed.as_fd(), theirs.as_fd()])? {
            (Reply::Launched { shim_pid }, _) => Ok((shim_pid, Self::new(own))),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Asks a shim for one of the things that are only done or refused.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn done(&mut self, request: Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        match self.call(request, descriptors)? {
            (Reply::Done, _) => Ok(()),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Asks a shim for its state, and the container's network namespace if it has its own.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn state(&mut self) -> Result<(StateReport, Option<OwnedFd>), ClientError> {
        match self.call(Request::State, &[])? {
            (Reply::State(report), mut descriptors) => Ok((report, descriptors.pop())),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Asks a shim to run another process; returns its pid, and its terminal's master if it has one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn exec(
        &mut self,
        spec: &ExecSpec,
        stdio: ExecStdio<'_>,
    ) -> Result<(i32, Option<OwnedFd>), ClientError> {
        let sealed = memfd::seal_spec(&spec.encode().map_err(ClientError::EncodeSpec)?)
            .map_err(ClientError::SealSpec)?;
        let ExecStdio { stdin, stdout, stderr } = stdio;
        let request =
            Request::Exec { stdin: stdin.is_some(), stdout: stdout.is_some(), stderr: stderr.is_some() };
        let given = [Some(sealed.as_fd()), stdin, stdout, stderr];
        let descriptors: Vec<_> = given.into_iter().flatten().collect();
        match self.call(request, &descriptors)? {
            (Reply::ExecStarted { pid, .. }, mut descriptors) => Ok((pid, descriptors.pop())),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Asks a shim for the write end of standard input, or the terminal's master.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn stdin(&mut self) -> Result<OwnedFd, ClientError> {
        match self.call(Request::Stdin, &[])? {
            (Reply::Stdin, mut descriptors) if !descriptors.is_empty() => Ok(descriptors.remove(0)),
            (reply, _) => Err(unexpected(reply)),
        }
    }
}

/// The ends that an exec gets as its standard streams.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecStdio<'a> {
    /// Read by the exec; `/dev/null` without.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Written by the exec.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Written by the exec.
    pub stderr: Option<BorrowedFd<'a>>,
}

fn unexpected(reply: Reply) -> ClientError {
    ClientError::UnexpectedReply { reply: Box::new(reply) }
}
