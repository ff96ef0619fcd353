//! Checkpoints: a running container's processes in files, and back. Done by CRIU.
//!
//! [`dump()`] asks CRIU for the processes of a container and leaves them stopped, so that the caller can copy
//! the files that they write before it lets them go on or ends them. A launch whose description says so
//! ([`crate::spec::RestoreSpec`]) has CRIU make the processes in place of executing a program:
//!
//! ```text
//! supervisor                              CRIU, in the container's cgroup and a mount namespace of its own
//! overlay, /dev, binds, all detached ───► attached below a fresh tmpfs at /run, named `--external`
//! wait for its end                        makes user, pid, mount, IPC, UTS and network namespaces, and in
//!                                         them the processes: children of the supervisor, stopped
//! parameters and loopback of the new network namespace
//!       … Created: the agent attaches the network …
//! start: SIGCONT to all
//! ```
//! The processes come back in the container's own id range, with their filters, capabilities and limits
//! as CRIU found them. What CRIU costs is charged to the container, as it runs in its cgroup.
//! Source: criu(8), 4.1.

mod dump;
mod mounts;
mod program;
mod restore;

pub use dump::{Dump, DumpError, dump, resume};
pub use mounts::{BadTarget, Outside, OutsideKind};
pub use program::{CriuError, criu};
pub(crate) use restore::restore;

use std::path::Path;

/// Errors that CRIU tells in its log and goes on after.
const HARMLESS: [&str; 3] = ["Can't setup RLIMIT_NOFILE", "Unable to create tun", "FAILED"];

/// What CRIU failed on: the first error of its log that it did not go on after.
fn failure(log: &Path) -> String {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let harmless = |line: &str| HARMLESS.iter().any(|part| line.contains(part));
    let error = text.lines().find(|line| line.contains("Error") && !harmless(line));
    // "     1: Error (criu/namespaces.c:258): Can't …"
    let error = error.map(|line| line.split_once("): ").map_or(line, |(_, rest)| rest).trim().to_owned());
    error.unwrap_or_else(|| format!("it says why in {}", log.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_error_that_matters_is_told() {
        let dir = tempfile::tempdir().expect("directory");
        let log = dir.path().join("log");
        let text = "Warn  (criu/x.c:1): y\n\
                    Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: no\n     \
                    1: Error (criu/mount-v2.c:319): mnt-v2: Failed to open_tree /run/x: Invalid argument\n\
                    Error (criu/cr-restore.c:2320): Restoring FAILED.\n";
        std::fs::write(&log, text).expect("log");
        assert_eq!(super::failure(&log), "mnt-v2: Failed to open_tree /run/x: Invalid argument");
        assert!(super::failure(&dir.path().join("none")).contains("says why in"));
    }
}
