//! What runs in a container, told from `/proc` for the processes of its cgroup.
//!
//! The numbers are the container's own: process ids as its pid namespace counts them, user ids as its
//! user namespace does. Nobody in it can tell the host's numbers from this.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use wharf_runtime::cgroup::{Cgroup, CgroupError};
use wharf_shared::container::ProcessView;

/// A command line is cut here; a process may make its own as long as it likes.
const COMMAND_MAX_BYTES: u64 = 4096;
/// Clock ticks are hundredths of a second on every architecture we run on (`time(7)`, `USER_HZ`).
const TICK_MS: u64 = 10;

/// The processes of a cgroup, oldest id first. `id_base` is the host's id of the container's root;
/// `host_pids` says that it counts its processes as the host does.
pub(super) fn list(cgroup: &Cgroup, id_base: u32, host_pids: bool) -> Result<Vec<ProcessView>, CgroupError> {
    let pids = cgroup.pids()?;
    let depth = usize::from(!host_pids);
    let mut found: Vec<(i32, Facts)> =
        pids.into_iter().filter_map(|pid| Some((pid, read(pid, depth)?))).collect();
    // An id may belong to a stranger by now: one of ours is in the group still.
    let still: HashSet<i32> = cgroup.pids()?.into_iter().collect();
    found.retain(|(pid, _)| still.contains(pid));
    let inside: HashMap<i32, u32> = found.iter().map(|(pid, facts)| (*pid, facts.pid)).collect();
    let mut views: Vec<ProcessView> = found
        .into_iter()
        .map(|(_, facts)| ProcessView {
            pid: facts.pid,
            parent: inside.get(&facts.parent).copied(),
            user: facts.user.checked_sub(id_base),
            state: facts.state,
            cpu_ms: facts.ticks * TICK_MS,
            memory_bytes: facts.memory_bytes,
            command: facts.command,
        })
        .collect();
    views.sort_unstable_by_key(|view| view.pid);
    Ok(views)
}

/// What `/proc` says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    /// In its container.
    pid: u32,
    /// On the host.
    parent: i32,
    /// On the host.
    user: u32,
    state: String,
    ticks: u64,
    memory_bytes: u64,
    command: String,
}

/// `None`: it has ended, or it is not in a pid namespace below ours (a supervisor).
fn read(pid: i32, depth: usize) -> Option<Facts> {
    let dir = Path::new("/proc").join(pid.to_string());
    let status = std::fs::read_to_string(dir.join("status")).ok()?;
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    let mut command = Vec::new();
    File::open(dir.join("cmdline")).ok()?.take(COMMAND_MAX_BYTES).read_to_end(&mut command).ok()?;
    facts(&status, &stat, &command, depth)
}

/// Reads `status`, `stat` and `cmdline` (`proc_pid_status(5)` and its neighbours) of a process in a pid
/// namespace so many levels below ours.
fn facts(status: &str, stat: &str, command: &[u8], depth: usize) -> Option<Facts> {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim)
    };
    // As our namespace counts it, then as the next below does.
    let pid = field("NSpid")?.split_ascii_whitespace().nth(depth)?.parse().ok()?;
    // The name before it may hold anything, closing brackets too.
    let (_, rest) = stat.rsplit_once(')')?;
    // Fields 14 and 15; the rest begins with field 3.
    let mut times = rest.split_ascii_whitespace().skip(11);
    let ticks = times.next()?.parse::<u64>().ok()?.checked_add(times.next()?.parse().ok()?)?;
    let name = || format!("[{}]", field("Name").unwrap_or_default());
    let command: Vec<_> = command.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    let command = command.join(" ").trim_end().to_owned();
    Some(Facts {
        pid,
        parent: field("PPid")?.parse().ok()?,
        // The effective one.
        user: field("Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
        state: field("State")?.chars().next()?.to_string(),
        ticks,
        // A process without memory of its own, as a zombie, has no such line.
        memory_bytes: field("VmRSS")
            .and_then(|size| size.split(' ').next()?.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024,
        command: if command.is_empty() { name() } else { command },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh\nState:\tS (sleeping)\nPid:\t811\nPPid:\t800\n\
        Uid:\t165536\t165537\t165536\t165536\nNSpid:\t811\t7\t1\nVmRSS:\t     512 kB\n";
    const STAT: &str = "811 (a) b ) S 800 811 811 0 -1 4194304 10 0 0 0 25 17 3 4 20 0 1 0 9 1 1";

    #[test]
    fn reads_what_the_kernel_writes() {
        let expected = Facts {
            pid: 7,
            parent: 800,
            user: 165_537,
            state: "S".to_owned(),
            ticks: 42,
            memory_bytes: 512 * 1024,
            command: "sh -c sleep 9".to_owned(),
        };
        assert_eq!(facts(STATUS, STAT, b"sh\0-c\0sleep 9\0", 1), Some(expected));
    }

    #[test]
    fn a_zombie_has_its_name_and_no_memory() {
        let status = STATUS.replace("VmRSS:\t     512 kB\n", "").replace("S (sleeping)", "Z (zombie)");
        let facts = facts(&status, STAT, b"", 1).expect("facts");
        assert_eq!((facts.command.as_str(), facts.state.as_str(), facts.memory_bytes), ("[sh]", "Z", 0));
    }

    #[test]
    fn a_process_of_our_own_namespace_is_none_of_the_container() {
        assert_eq!(facts(&STATUS.replace("811\t7\t1", "811"), STAT, b"sh", 1), None);
        assert_eq!(facts("", "", b"", 1), None);
    }
}
