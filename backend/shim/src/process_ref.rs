//! A process that is named across restarts of its observer: pid and start time together.
//!
//! A pid alone is reused; with the start time (field 22 of `/proc/<pid>/stat`, `proc_pid_stat(5)`)
//! it names one process of this boot.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

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
        let (start_time_ticks, _) = parse_stat(&stat).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "unexpected form of /proc/<pid>/stat")
        })?;
        Ok(Self { pid, start_time_ticks })
    }

    /// Tells whether exactly this process still runs; a zombie does not.
    ///
    /// # Errors
    /// When `/proc` cannot be read; a missing process is `Ok(false)`.
    pub fn is_alive(&self) -> io::Result<bool> {
        match std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Ok(stat) => Ok(parse_stat(&stat).is_some_and(|(start, state)| {
                start == self.start_time_ticks && !matches!(state, b'Z' | b'X')
            })),
            // ESRCH: it went away between open and read.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
            {
                Ok(false)
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
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(self.is_alive()?.then_some(pidfd)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
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

/// Start time and state of a `stat` line. The command name may hold spaces and parentheses, so
/// fields are counted from the last closing parenthesis.
fn parse_stat(stat: &str) -> Option<(u64, u8)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let start_time_ticks = fields.nth(18)?.parse().ok()?;
    Some((start_time_ticks, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_past_a_command_name_that_imitates_the_line() {
        let line = "7 (a) S 1 (b)) R 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 100";
        assert_eq!(parse_stat(line), Some((4242, b'R')));
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
