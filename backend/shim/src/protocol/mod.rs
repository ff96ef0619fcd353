//! What agent, forge and shim say to each other.
//!
//! One message is one packet of a `SOCK_SEQPACKET` socket between two processes of root:
//!
//! ```text
//! header   magic u32 | version u16 | kind u16 | seq u32                 (little-endian)
//! fields   tag u16 | length u16 | value …                              (repeated)
//! ```
//! Descriptors travel beside it (`SCM_RIGHTS`), their number follows from the message. The agent
//! asks with a [`Request`] that carries a sequence number, the answer is a [`Reply`] with the same
//! number, and a [`Notice`] comes unasked.
//!
//! Version matrix: a shim lives as long as its container, so a new agent meets old shims.
//! [`VERSION`] changes only when old and new cannot understand each other at all. Within one
//! version a message may gain fields whose tag has the bit [`wire::OPTIONAL`]: who does not know them
//! skips them. Everything else is strict: an unknown kind, an unknown field without that bit, a
//! missing, repeated or ill-sized field is an error, and no input panics.

mod codec;
pub mod wire;

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

pub use codec::ProtocolError;

/// The version in every header.
pub const VERSION: u16 = 1;
/// No message is longer.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// No message carries more descriptors.
pub const MAX_DESCRIPTORS: usize = 4;
/// A [`Failure`]'s text is cut at this length.
pub const FAILURE_TEXT_MAX_BYTES: usize = 4 * 1024;

/// Pairs a reply with its request.
pub type Seq = NonZeroU32;

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The agent asks.
    Request {
        /// Chosen by the agent.
        seq: Seq,
        /// The question.
        request: Request,
    },
    /// Forge or shim answers.
    Reply {
        /// The request's number.
        seq: Seq,
        /// The answer.
        reply: Reply,
    },
    /// The shim tells something unasked.
    Notice(Notice),
}

/// What the agent asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To the forge: which build are you? → [`Reply::Forge`]
    Ping,
    /// To the forge: end; shims are not affected. → [`Reply::Done`]
    Quit,
    /// To the forge: start a shim. Descriptors: the sealed spec, and the shim's end of a fresh socket
    /// pair, its first connection with the agent. → [`Reply::Launched`], then from the shim
    /// [`Notice::Created`] or [`Notice::CreateFailed`]
    Launch {
        /// The container, as in the spec.
        id: String,
        /// Its start, as in the spec.
        generation: u64,
    },
    /// To the shim: let the first process run. → [`Reply::Done`] and [`Notice::Started`], or
    /// [`Reply::Failed`] and [`Notice::Exited`]
    Start,
    /// To the shim: send a signal. → [`Reply::Done`]
    Signal {
        /// Kernel number.
        signo: i32,
        /// Every process of the container instead of its first.
        all: bool,
    },
    /// To the shim: run another process in the container. Descriptors: the sealed spec, then those
    /// of `stdin`, `stdout`, `stderr` that are given. → [`Reply::ExecStarted`]
    Exec {
        /// A standard input is given (else `/dev/null`).
        stdin: bool,
        /// A standard output is given.
        stdout: bool,
        /// A standard error is given.
        stderr: bool,
    },
    /// To the shim: send a signal to an exec. → [`Reply::Done`]
    ExecSignal {
        /// As in its spec.
        exec_id: String,
        /// Kernel number.
        signo: i32,
    },
    /// To the shim: hand over the write end of standard input, or the terminal's master. → [`Reply::Stdin`]
    Stdin,
    /// To the shim: close its write end of standard input. → [`Reply::Done`]
    CloseStdin,
    /// To the shim: how are you? → [`Reply::State`]
    State,
    /// To the shim, after exit: the exit record was taken, you may go. → [`Reply::Done`]
    Release,
}

/// What forge and shim answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// It was not done.
    Failed(Failure),
    /// The forge describes itself.
    Forge {
        /// The build that it runs ([`crate::build_id::BuildId`]).
        build_id: u64,
        /// Its pid.
        pid: i32,
    },
    /// A shim runs; what comes of the launch comes from the shim.
    Launched {
        /// Its pid.
        shim_pid: i32,
    },
    /// An exec runs. Descriptor: the terminal's master, if its spec asks for one.
    ExecStarted {
        /// Its pid, seen from the host.
        pid: i32,
        /// Whether the terminal's master comes along.
        terminal: bool,
    },
    /// Descriptor: the write end of standard input, or the terminal's master.
    Stdin,
    /// The shim describes the container. Descriptor: its network namespace, if it has its own.
    State(StateReport),
}

/// What the shim tells unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The container is built and its first process waits for [`Request::Start`]. Descriptor: the
    /// network namespace, if it has its own.
    Created {
        /// Pid of the first process, seen from the host.
        pid: i32,
        /// Its start in clock ticks since boot.
        start_time_ticks: u64,
        /// Whether the network namespace comes along.
        network_namespace: bool,
    },
    /// The container could not be built; nothing of it is left, and the shim ends.
    CreateFailed(Failure),
    /// The first process runs.
    Started,
    /// The first process ended, nothing of the container runs, and the exit record is on disk.
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// Whether the kernel killed a process of the container for want of memory.
        oom_killed: bool,
    },
    /// An exec ended.
    ExecExited {
        /// As in its spec.
        exec_id: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The kernel killed a process of the container for want of memory.
    Oom {
        /// How many since the launch.
        kills: u64,
    },
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: {message}")]
pub struct Failure {
    /// What was being done.
    pub stage: String,
    /// The kernel's error number, or 0 when the kernel did not refuse.
    pub errno: i32,
    /// The whole chain of causes, for people.
    pub message: String,
}

impl Failure {
    /// Describes an error with its whole chain of causes.
    pub fn new(stage: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut errno = errno_of(error);
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            errno = errno.or_else(|| errno_of(error));
            cause = error.source();
        }
        message.truncate(message.floor_char_boundary(FAILURE_TEXT_MAX_BYTES));
        Self { stage: stage.to_owned(), errno: errno.unwrap_or(0), message }
    }

    /// Describes a refusal that no error stands behind.
    pub fn refused(stage: &str, errno: rustix::io::Errno, message: &str) -> Self {
        Self { stage: stage.to_owned(), errno: errno.raw_os_error(), message: message.to_owned() }
    }
}

fn errno_of(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        return error.raw_os_error();
    }
    if let Some(error) = error.downcast_ref::<wharf_sys::SysError>() {
        return Some(error.raw());
    }
    if let Some(error) = error.downcast_ref::<wharf_runtime::LaunchError>() {
        return error.errno();
    }
    error.downcast_ref::<rustix::io::Errno>().map(|errno| errno.raw_os_error())
}

/// What a shim knows of its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateReport {
    /// The container.
    pub id: String,
    /// Which start of it.
    pub generation: u64,
    /// How far it is.
    pub phase: Phase,
    /// Pid of the first process, seen from the host.
    pub pid: i32,
    /// Its start in clock ticks since boot.
    pub start_time_ticks: u64,
    /// How it ended, in [`Phase::Exited`].
    pub exit: Option<ExitStatus>,
    /// Processes killed for want of memory since the launch, as far as noticed.
    pub oom_kills: u64,
    /// Output that could not be written to the log.
    pub log_dropped_bytes: u64,
    /// Whether the network namespace comes along.
    pub network_namespace: bool,
    /// The execs that run.
    pub execs: Vec<RunningExec>,
}

/// One exec that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningExec {
    /// As in its spec.
    pub exec_id: String,
    /// Its pid, seen from the host.
    pub pid: i32,
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The shim builds it.
    Creating,
    /// Its first process waits for permission to run.
    Created,
    /// Its first process runs.
    Running,
    /// Its first process ended and the exit record is on disk.
    Exited,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Nobody saw it end.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_whole_chain_and_the_first_error_number() {
        #[derive(Debug, thiserror::Error)]
        #[error("could not open /x")]
        struct Outer(#[source] std::io::Error);
        let failure = Failure::new("rootfs", &Outer(std::io::Error::from_raw_os_error(2)));
        assert_eq!(failure.errno, 2);
        assert!(failure.message.starts_with("could not open /x: No such file"), "{}", failure.message);
    }

    #[test]
    fn a_long_failure_is_cut_between_characters() {
        let failure = Failure::new("x", &std::io::Error::other("é".repeat(FAILURE_TEXT_MAX_BYTES)));
        assert!(failure.message.len() <= FAILURE_TEXT_MAX_BYTES);
        assert!(failure.message.chars().all(|character| character == 'é'));
    }
}
