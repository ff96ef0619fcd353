//! A group that another program made and gave to us, as systemd does for a unit with `Delegate=yes`.
//!
//! It has a process as a rule, or its owner would take it for unused. But v2 lets a group have processes or hand
//! controllers down, not both. Sources: `cgroup-v2.rst` of the kernel, "No Internal Process Constraint";
//! `CGROUP_DELEGATION.md` of systemd.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use nix::errno::Errno;

use super::{CgroupError, Layout, LayoutKind};

/// Group for the processes that were in the way.
const ANCHOR: &str = "anchor";
/// Who forks at that moment has its child moved in the next round.
const ROUNDS: u32 = 10;

/// Moves the processes that are in a v2 group itself into a group of their own below it. A group that is not
/// there, and one on another kind of host, is fine as it is; so is the root, which may have both, and whose
/// kernel threads cannot be moved.
///
/// # Errors
/// When a process cannot be moved.
pub fn vacate(layout: &Layout, group: &Path) -> Result<(), CgroupError> {
    let is_given = layout.kind() == LayoutKind::V2 && !group.as_os_str().is_empty();
    let Some(dir) = layout.unified().filter(|_| is_given).map(|root| root.join(group)) else { return Ok(()) };
    let (list, anchor) = (dir.join("cgroup.procs"), dir.join(ANCHOR));
    let door = anchor.join("cgroup.procs");
    for _ in 0..ROUNDS {
        let pids = match fs::read_to_string(&list) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            read => read.map_err(|source| CgroupError::Read { path: list.clone(), source })?,
        };
        if pids.trim().is_empty() {
            return Ok(());
        }
        match fs::create_dir(&anchor) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                return Err(CgroupError::Make { path: anchor, source });
            }
            _ => {}
        }
        for pid in pids.lines() {
            fs::write(&door, pid).or_else(gone).map_err(|source| CgroupError::Write {
                path: door.clone(),
                value: pid.to_owned(),
                source,
            })?;
        }
    }
    Err(CgroupError::Timeout { path: group.to_owned(), state: "vacated" })
}

/// A process that has ended need not be moved.
fn gone(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(Errno::ESRCH as i32) { Ok(()) } else { Err(error) }
}
