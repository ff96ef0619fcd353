//! The processes of a running container into files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::mounts::{BadTarget, Outside, outside};
use crate::cgroup::{Cgroup, CgroupError};

const LOG: &str = "dump.log";
/// A SIGSTOP is obeyed within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to write where.
#[derive(Debug)]
pub struct Dump<'a> {
    /// CRIU's program.
    pub criu: &'a Path,
    /// The container's first process, as the host counts.
    pub pid: i32,
    /// The container's cgroup, with all its processes.
    pub group: &'a Cgroup,
    /// An empty directory for the images.
    pub images: &'a Path,
}

/// A container could not be dumped; its processes run on.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// A mount cannot be described.
    #[error(transparent)]
    Target(#[from] BadTarget),
    /// A file about the container cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// CRIU cannot be executed.
    #[error("cannot execute {program}", program = program.display())]
    Execute {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The processes of the group cannot be listed.
    #[error(transparent)]
    Group(#[from] CgroupError),
    /// CRIU saved them, and they do not stop.
    #[error("the processes do not stop")]
    Unstopped,
    /// CRIU refused.
    #[error("CRIU cannot save the processes: {reason}")]
    Refused {
        /// In its own words.
        reason: String,
    },
}

/// Has CRIU save the processes, and leaves them stopped: [`resume`] or a kill comes next.
///
/// Connections with others do not come along; sockets that listen do.
///
/// # Errors
/// [`DumpError`]; the processes run on then.
pub fn dump(what: &Dump<'_>) -> Result<Vec<Outside>, DumpError> {
    let path = PathBuf::from(format!("/proc/{}/mountinfo", what.pid));
    let mountinfo = fs::read_to_string(&path).map_err(|source| DumpError::Read { path, source })?;
    let outside = outside(&mountinfo)?;
    let mut command = Command::new(what.criu);
    command.args(["dump", "-v2", "--log-file", LOG, "--tree", &what.pid.to_string(), "--images-dir"]);
    command.arg(what.images).args(["--leave-stopped", "--manage-cgroups=ignore", "--empty-ns", "net"]);
    command.args(["--tcp-close", "--network-lock=skip", "--file-locks", "--ghost-limit", "64M"]);
    for (at, mount) in outside.iter().enumerate() {
        command.args(["--external".to_owned(), format!("mnt[{}]:m{at}", mount.target)]);
    }
    command.env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status =
        command.status().map_err(|source| DumpError::Execute { program: what.criu.to_owned(), source })?;
    if !status.success() {
        return Err(DumpError::Refused { reason: super::failure(&what.images.join(LOG)) });
    }
    // CRIU leaves each with a SIGSTOP on its way.
    let deadline = Instant::now() + PATIENCE;
    while !what.group.pids()?.into_iter().all(has_stopped) {
        if Instant::now() > deadline {
            resume(what.group)?;
            return Err(DumpError::Unstopped);
        }
        // An interrupted wait is only a shorter one.
        poll(&mut [], PollTimeout::from(1_u8)).ok();
    }
    Ok(outside)
}

/// A process that has ended does nothing either.
fn has_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_none_or(|state| matches!(state, 'T' | 'Z' | 'X'))
}

/// Lets the stopped processes of a container go on.
///
/// # Errors
/// When they cannot be listed. One that has ended meanwhile is fine.
pub fn resume(group: &Cgroup) -> Result<(), CgroupError> {
    // They are stopped, so that none can end and leave its number to another meanwhile; a kill from
    // outside empties the whole group.
    for pid in group.pids()? {
        match kill(Pid::from_raw(pid), Signal::SIGCONT) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                let path = group.path().to_owned();
                return Err(CgroupError::Write {
                    path,
                    value: format!("SIGCONT {pid}"),
                    source: errno.into(),
                });
            }
        }
    }
    Ok(())
}
