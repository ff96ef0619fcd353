//! A process that is named across restarts of its observer: pid and start time together.
//!
//! A pid alone is reused; with the start time (field 22 of `/proc/<pid>/stat`, `proc_pid_stat(5)`)
//! it names one process of this boot.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use wharf_sys::process::Ended;

use crate::protocol::ExitStatus;

/// Pid and start time of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Its pid, seen from the host.
    pub pid: i32,
    /// Its start in clock ticks since boot.
    pub start_time_ticks: u64,
}

impl ProcessRef {
    /// Describes the calling process.
    ///
    /// # Errors
    /// When `/proc/self/stat` cannot be read.
    pub fn current() -> io::Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::of(pid)
    }

    /// Describes the process that has `pid` now.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let stat = parse_stat(&stat).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "unexpected form of /proc/<pid>/stat")
        })?;
        Ok(Self { pid, start_time_ticks: stat.start_time_ticks })
    }

    /// Tells whether exactly this process still runs; a zombie does not.
    ///
    /// # Errors
    /// When `/proc` cannot be read; a missing process is `Ok(false)`.
    pub fn is_alive(&self) -> io::Result<bool> {
        Ok(self.stat()?.is_some_and(|stat| !stat.has_ended()))
    }

    /// What `/proc` says of exactly this process; `None` when it is gone.
    fn stat(&self) -> io::Result<Option<Stat>> {
        match std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Ok(line) => Ok(parse_stat(&line).filter(|stat| stat.start_time_ticks == self.start_time_ticks)),
            // ESRCH: it went away between open and read.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a descriptor of exactly this process, or `None` when it is gone: the start time is
    /// compared after the descriptor pins the process.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than the process's absence.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        self.open_if(|stat| !stat.has_ended())
    }

    fn open_if(&self, wanted: impl FnOnce(&Stat) -> bool) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(self.stat()?.is_some_and(|stat| wanted(&stat)).then_some(pidfd)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Holds on to exactly this process, which may have ended, or `None` when it is gone.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn pin(&self) -> io::Result<Option<Pinned>> {
        Ok(self.open_if(|_| true)?.map(|pidfd| Pinned { process: *self, pidfd }))
    }
}

/// A process that is held on to, so that its end can be told although it is not our child.
#[derive(Debug)]
pub struct Pinned {
    process: ProcessRef,
    pidfd: OwnedFd,
}

impl Pinned {
    /// Returns how it ended. `None` while that is not known: it runs, or it was waited for on a kernel that
    /// cannot tell afterwards (before Linux 6.15).
    pub fn exit_status(&self) -> Option<ExitStatus> {
        // Whoever inherits an orphan may take seconds to wait for it; until then it is in /proc. What is waited
        // for between the two looks is told at the next.
        exit_status(self.pidfd.as_fd()).or_else(|| {
            let stat = self.process.stat().ok()??;
            let status = stat.exit_code.filter(|_| stat.has_ended())?;
            Some(Ended::from_wait_status(status).into())
        })
    }
}

/// Returns how the process of a pidfd ended, though it is not our child; `None` while that is not
/// known: it runs, was not reaped yet, or the kernel cannot tell (before Linux 6.15).
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    wharf_sys::process::pidfd_exit_status(pidfd).ok()?.map(ExitStatus::from)
}

impl From<Ended> for ExitStatus {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Code(code) => Self::Code(code),
            Ended::Signal(number) => Self::Signal(number),
        }
    }
}

/// What is read of a `stat` line.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    start_time_ticks: u64,
    state: u8,
    /// The status word of wait(2), where it may be read (`ptrace(2)`, "access mode checking").
    exit_code: Option<i32>,
}

impl Stat {
    fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// The command name may hold spaces and parentheses, so fields are counted from the last closing parenthesis.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(')')?;
    // Fields 3, 22 and 52.
    let mut fields = fields.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let start_time_ticks = fields.nth(18)?.parse().ok()?;
    let exit_code = fields.nth(29).and_then(|code| code.parse().ok());
    Some(Stat { start_time_ticks, state, exit_code })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn reads_past_a_command_name_that_imitates_the_line() {
        let line = "7 (a) S 1 (b)) R 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 100";
        let expected = Stat { start_time_ticks: 4242, state: b'R', exit_code: None };
        assert_eq!(parse_stat(line), Some(expected));
    }

    #[test]
    fn how_a_process_ended_is_told_before_and_after_it_is_waited_for() {
        let waiting = |script: &str| {
            let child =
                Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().expect("a child");
            let process = ProcessRef::of(i32::try_from(child.id()).expect("a pid")).expect("its stat");
            (child, process.pin().expect("its pidfd").expect("it waits for a line"))
        };
        for (script, expected) in
            [("read x; exit 7", ExitStatus::Code(7)), ("read x; kill -9 $$", ExitStatus::Signal(9))]
        {
            let (mut child, pinned) = waiting(script);
            assert_eq!(pinned.exit_status(), None, "it runs");
            drop(child.stdin.take());
            let mut ended = [PollFd::new(&pinned.pidfd, PollFlags::IN)];
            poll(&mut ended, None).expect("it ends");
            assert_eq!(pinned.exit_status(), Some(expected), "{script}: not waited for yet");
            let late = pinned.process.pin().expect("its pidfd").expect("it was not waited for");
            assert_eq!(late.exit_status(), Some(expected), "{script}: pinned late");
            child.wait().expect("its end");
            let told = exit_status(pinned.pidfd.as_fd());
            assert!(told.is_none() || told == Some(expected), "{script}: {told:?}");
            assert_eq!(pinned.exit_status(), told, "{script}: waited for");
        }
    }

    /// Attacks: A6.
    #[test]
    fn this_process_is_alive_and_another_start_time_is_not() {
        let own = ProcessRef::current().expect("own stat");
        assert!(own.is_alive().expect("own stat"));
        assert!(own.open().expect("own pidfd").is_some());
        let reused = ProcessRef { start_time_ticks: own.start_time_ticks + 1, ..own };
        assert!(!reused.is_alive().expect("own stat"));
        assert!(reused.open().expect("own pidfd").is_none());
    }

    #[test]
    fn a_pid_that_cannot_exist_is_not_alive() {
        let nobody = ProcessRef { pid: i32::MAX, start_time_ticks: 1 };
        assert!(!nobody.is_alive().expect("absence is no failure"));
        assert!(nobody.open().expect("absence is no failure").is_none());
    }
}
