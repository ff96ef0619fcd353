//! Points at which a test has agent, forge or shim killed, as a `kill -9` at exactly that step would.
//!
//! This is for debug builds only: in a release build [`arm`] and [`reach`] do nothing, and no trace of them
//! is in the programs. In a debug build a test writes the name of one point into `<run root>/failpoint`. The
//! run root belongs to root and has mode 0700, so no tenant can. The first process that reaches the
//! point removes the file, so that it acts once, and sends itself SIGKILL: no destructor runs and no
//! buffer is written.
//!
//! A point is named `<who>.<operation>.<what was just done>`; the end-to-end tests go through all of them.

use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::process::{Signal, getpid, kill_process};

use crate::paths::RunRoot;

/// Every point.
pub const POINTS: &[&str] = &[
    "agent.create.written",
    "agent.start.intended",
    "agent.start.prepared",
    "agent.start.numbered",
    "agent.start.furnished",
    "agent.start.asked",
    "agent.start.built",
    "agent.start.connected",
    "agent.start.metered",
    "agent.start.started",
    "agent.start.told",
    "agent.exec.described",
    "agent.exec.started",
    "agent.exec.ended",
    "agent.stop.intended",
    "agent.stop.signalled",
    "agent.stop.killed",
    "agent.stop.heard",
    "agent.stop.booked",
    "agent.stop.told",
    "agent.stop.released",
    "agent.stop.disconnected",
    "agent.stop.forgotten",
    "agent.remove.intended",
    "agent.remove.deleted",
    "agent.remove.rolled_up",
    "agent.remove.committed",
    "agent.recover.found",
    "agent.recover.adopted",
    "agent.sweep.ended",
    "agent.sweep.booked",
    "agent.budget.decided",
    "agent.budget.held",
    "agent.tail.booked",
    "forge.start.asked",
    "forge.start.halfway",
    "forge.start.forked",
    "shim.start.claimed",
    "shim.start.listening",
    "shim.start.built",
    "shim.start.recorded",
    "shim.start.told",
    "shim.start.executed",
    "shim.start.answered",
    "shim.exec.asked",
    "shim.exec.started",
    "shim.exec.reaped",
    "shim.stop.asked",
    "shim.stop.signalled",
    "shim.stop.reaped",
    "shim.stop.emptied",
    "shim.stop.recorded",
    "shim.stop.told",
    "shim.stop.released",
];

/// The file that names the point, relative to the run root.
pub const FILE: &str = "failpoint";

static ARMED: OnceLock<PathBuf> = OnceLock::new();

/// Looks below this run root from now on; forks of this process do too.
pub fn arm(run_root: &RunRoot) {
    if cfg!(debug_assertions) {
        ARMED.get_or_init(|| run_root.path().join(FILE));
    }
}

/// Ends this process here, if a test has asked for it.
#[inline]
pub fn reach(point: &str) {
    if cfg!(debug_assertions)
        && let Some(file) = ARMED.get()
        && std::fs::read_to_string(file).is_ok_and(|named| named == point)
        && std::fs::remove_file(file).is_ok()
    {
        // It cannot be refused, and this process sees nothing after it.
        kill_process(getpid(), Signal::KILL).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn reached(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                reached(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                let calls = text.split("failpoint::reach(\"").skip(1);
                found.extend(calls.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }

    #[test]
    fn the_list_names_each_point_of_the_code_once_and_no_other() {
        let mut found = Vec::new();
        for dir in ["src", "../agent/src"] {
            reached(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut found);
        }
        let listed: BTreeSet<_> = POINTS.iter().map(|point| (*point).to_owned()).collect();
        assert_eq!(listed, found.iter().cloned().collect());
        assert_eq!((listed.len(), listed.len()), (POINTS.len(), found.len()));
    }
}
