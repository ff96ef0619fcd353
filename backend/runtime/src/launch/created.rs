//! The child's life as seen by its parent: half made, created, running.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use wharf_sys::process::pidfd_send_signal;

use crate::cgroup::Cgroup;
use crate::checkpoint;
use crate::error::{AtStage, LaunchError, Stage, StepError};
use crate::exec::ExecTarget;
use crate::spec::IdMap;
use crate::sync::{Answer, Channel};

const SIGKILL: i32 = 9;

/// A child that is killed and waited for unless it is let go.
#[derive(Debug)]
pub(crate) struct HalfMade {
    pidfd: Option<OwnedFd>,
}

impl HalfMade {
    pub(crate) fn new(pidfd: &OwnedFd) -> Result<Self, StepError> {
        match pidfd.try_clone() {
            Ok(pidfd) => Ok(Self { pidfd: Some(pidfd) }),
            Err(error) => {
                // Out of descriptors: the child goes first.
                end(pidfd.as_fd()).at(Stage::Sync, "")?;
                Err(error).at(Stage::Sync, "")
            }
        }
    }

    /// Lets the child live.
    pub(crate) fn release(mut self) {
        self.pidfd = None;
    }

    /// Returns whether the child was killed, and that is why it did not answer.
    pub(crate) fn is_stillborn(&self, error: &StepError) -> bool {
        let silent = error.stage == Stage::Sync
            && matches!(error.errno, Errno::EPIPE | Errno::ECHILD | Errno::ECONNRESET);
        // Its end of the channel is closed, so it has ended or is about to. It stays to be waited for.
        silent
            && self.pidfd.as_ref().is_some_and(|pidfd| {
                let status = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
                matches!(status, Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)))
            })
    }

    fn end(&mut self) -> Result<(), Errno> {
        self.pidfd.take().map_or(Ok(()), |pidfd| end(pidfd.as_fd()))
    }
}

/// Kills a child and waits for its end.
fn end(child: BorrowedFd<'_>) -> Result<(), Errno> {
    match pidfd_send_signal(child, SIGKILL).map_err(|error| error.errno) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(errno),
    }
    loop {
        match waitid(Id::PIDFd(child), WaitPidFlag::WEXITED) {
            Ok(_) | Err(Errno::ECHILD) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        // Nobody is left to tell; the cgroup's kill is the second line.
        self.end().ok();
    }
}

/// A container's mounts: while this is held, its end does not wait for the unmounting of its root (which
/// syncs the whole file system below).
#[derive(Debug)]
pub struct Mounts {
    _namespace: OwnedFd,
    _scaffold: Vec<OwnedFd>,
}

impl Mounts {
    pub(crate) fn of(namespace: OwnedFd, scaffold: Vec<OwnedFd>) -> Self {
        Self { _namespace: namespace, _scaffold: scaffold }
    }
}

/// A container that waits for permission to execute its program. Dropping it ends it.
#[derive(Debug)]
pub struct Created {
    /// Its first process, as the host counts.
    pub pid: i32,
    /// The same process, by descriptor.
    pub pidfd: OwnedFd,
    /// When the process started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub start_time_ticks: u64,
    /// Its network namespace, unless it is the host's.
    pub netns: Option<OwnedFd>,
    /// The supervisor's side of its terminal.
    pub pty_master: Option<OwnedFd>,
    pub(crate) mounts: Mounts,
    pub(crate) held: Held,
    pub(crate) half_made: HalfMade,
    pub(crate) cgroup: PathBuf,
    pub(crate) id_map: Option<IdMap>,
}

/// What holds the process back.
#[derive(Debug)]
pub(crate) enum Held {
    /// It waits for a word on its channel, then executes its program.
    Channel(Channel),
    /// It was restored, and all of its group are stopped.
    Stopped(Cgroup),
}

impl Created {
    /// Opens the gate and waits until the program is executed, or lets restored processes go on.
    ///
    /// # Errors
    /// Stage [`Stage::Execute`] when there is no such program or it cannot be executed. The process
    /// has ended then and nothing of it is left.
    pub fn start(self) -> Result<Running, LaunchError> {
        match &self.held {
            Held::Channel(channel) => pass(channel)?,
            Held::Stopped(group) => checkpoint::resume(group)?,
        }
        let init = self.pidfd.try_clone().at(Stage::Sync, "")?;
        self.half_made.release();
        Ok(Running {
            pid: self.pid,
            pidfd: self.pidfd,
            start_time_ticks: self.start_time_ticks,
            netns: self.netns,
            pty_master: self.pty_master,
            mounts: self.mounts,
            target: ExecTarget::new(init, self.cgroup, self.id_map),
        })
    }

    /// Leaves the container waiting for whoever opens its gate ([`super::Gate::Socket`]); it is the
    /// child of this process until that ends.
    pub fn leave(self) {
        self.half_made.release();
    }

    /// Ends the process, which has executed nothing, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be signalled or waited for.
    pub fn abort(mut self) -> Result<(), LaunchError> {
        self.half_made.end().at(Stage::Sync, "")?;
        Ok(())
    }
}

/// Tells the process at the other end to go on, and waits until its program is executed.
fn pass(channel: &Channel) -> Result<(), StepError> {
    channel.order(&[])?;
    match channel.await_answer()? {
        Answer::Closed => Ok(()),
        Answer::Failed(error) => Err(error),
        Answer::Ready(_) => Err(Errno::EBADMSG).at(Stage::Sync, ""),
    }
}

/// Opens the gate of a container that was left waiting, by a connection to its socket, and waits until
/// its program is executed.
///
/// # Errors
/// As for [`Created::start`].
pub fn open_gate(connection: OwnedFd) -> Result<(), LaunchError> {
    pass(&Channel::of(connection)).map_err(Into::into)
}

/// A container whose program was executed. Its end is seen by waiting for `pidfd`.
#[derive(Debug)]
pub struct Running {
    /// Its first process, as the host counts.
    pub pid: i32,
    /// The same process, by descriptor; to be waited for by this process.
    pub pidfd: OwnedFd,
    /// When the process started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub start_time_ticks: u64,
    /// Its network namespace, unless it is the host's; holding it keeps it alive.
    pub netns: Option<OwnedFd>,
    /// The supervisor's side of its terminal.
    pub pty_master: Option<OwnedFd>,
    /// To be dropped once its end was reported.
    pub mounts: Mounts,
    /// What [`crate::exec::exec`] needs to join it.
    pub target: ExecTarget,
}

/// Reads when a process started.
///
/// # Errors
/// When there is no such process.
pub(crate) fn start_time_ticks(pid: i32) -> Result<u64, StepError> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).at(Stage::Sync, path.as_str())?;
    // The name in field 2 may hold blanks and parentheses; fields are counted behind its last one.
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
    let field = after_name.and_then(|mut fields| fields.nth(19)).and_then(|field| field.parse().ok());
    field.ok_or(Errno::EBADMSG).at(Stage::Sync, path)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_start_time_of_this_process_is_read() {
        let own = i32::try_from(std::process::id()).expect("pid");
        assert!(super::start_time_ticks(own).expect("stat") > 0);
    }
}
