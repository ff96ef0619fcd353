//! The state file in a container's run directory: who supervises it, who is its first process.
//!
//! Written by the shim, read by an agent that finds containers which it does not remember. It is
//! believed only after every check of [`StateFile::read`], and even then the processes that it names
//! are compared by start time before anything is sent to them: a forged or stale file cannot make
//! the agent adopt or kill a foreign process.

use serde::{Deserialize, Serialize};

use crate::paths::RunDir;
use crate::process_ref::ProcessRef;
use crate::protocol::Phase;
use crate::record_file::{self, Durability};

pub use crate::record_file::RecordFileError;

/// The form of [`StateFile`] that this build writes.
pub const STATE_VERSION: u16 = 1;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What a shim leaves for an agent that does not know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// [`STATE_VERSION`] of the writer.
    pub version: u16,
    /// The container.
    pub id: String,
    /// Which start of it.
    pub generation: u64,
    /// The kernel's boot in which this holds ([`boot_id`]).
    pub boot_id: String,
    /// The supervisor.
    pub shim: ProcessRef,
    /// The first process, once there is one.
    pub init: Option<ProcessRef>,
    /// How far the container is.
    pub phase: Phase,
    /// The container's cgroup, relative to the root of each hierarchy.
    pub cgroup: std::path::PathBuf,
    /// Inodes of the pipes that are its standard input, output and error, where they are pipes.
    #[serde(default)]
    pub pipes: [Option<u64>; 3],
}

/// A state file that cannot be written or must not be believed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] RecordFileError),
    /// The machine's boot id could not be read.
    #[error("could not read {BOOT_ID}")]
    BootId(#[source] std::io::Error),
    /// It was written by another build in another form.
    #[error("the state file of {id} has version {version}; this build reads {STATE_VERSION}")]
    Version {
        /// Of the container.
        id: String,
        /// Of the writer.
        version: u16,
    },
    /// It lies in the directory of another container.
    #[error("the state file in the directory of {expected} is that of {found}")]
    Foreign {
        /// The directory's container.
        expected: String,
        /// The file's container.
        found: String,
    },
    /// It speaks of the time before the machine was started; its pids mean nothing.
    #[error("the state file of {id} is from before the machine was started")]
    EarlierBoot {
        /// Of the container.
        id: String,
    },
    /// It names a pid that no process can have.
    #[error("the state file of {id} names the impossible pid {pid}")]
    Pid {
        /// Of the container.
        id: String,
        /// What it names.
        pid: i32,
    },
}

impl StateFile {
    /// Puts the file in place in one step.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn write(&self, dir: &RunDir) -> Result<(), StateError> {
        Ok(record_file::write(&dir.state_file(), self, Durability::Boot)?)
    }

    /// Reads the state file of container `id`; `None` when there is none.
    ///
    /// # Errors
    /// [`StateError`] says why it must not be believed.
    pub fn read(dir: &RunDir, id: &str) -> Result<Option<Self>, StateError> {
        let Some(state) = record_file::read::<Self>(&dir.state_file())? else { return Ok(None) };
        let id = id.to_owned();
        if state.version != STATE_VERSION {
            return Err(StateError::Version { id, version: state.version });
        }
        if state.id != id {
            return Err(StateError::Foreign { expected: id, found: state.id });
        }
        if state.boot_id != boot_id().map_err(StateError::BootId)? {
            return Err(StateError::EarlierBoot { id });
        }
        let pids = [Some(state.shim.pid), state.init.map(|init| init.pid)];
        // 1 is the machine's own init: never a supervisor, never a container.
        if let Some(pid) = pids.into_iter().flatten().find(|pid| *pid <= 1) {
            return Err(StateError::Pid { id, pid });
        }
        Ok(Some(state))
    }
}

/// Returns the identity of the kernel's current boot.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string(BOOT_ID)?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> StateFile {
        StateFile {
            version: STATE_VERSION,
            id: "c1".to_owned(),
            generation: 3,
            boot_id: boot_id().expect("boot id"),
            shim: ProcessRef { pid: 100, start_time_ticks: 5 },
            init: Some(ProcessRef { pid: 101, start_time_ticks: 6 }),
            phase: Phase::Running,
            cgroup: "wharf/tenant/c1".into(),
            pipes: [None; 3],
        }
    }

    fn round(state: &StateFile) -> Result<Option<StateFile>, StateError> {
        let dir = tempfile::tempdir().expect("temp dir");
        let dir = RunDir::new(dir.path());
        state.write(&dir)?;
        StateFile::read(&dir, "c1")
    }

    #[test]
    fn reads_back_what_it_writes() {
        assert_eq!(round(&state()).expect("believed"), Some(state()));
    }

    #[test]
    fn a_file_that_speaks_of_something_else_is_refused() {
        let other_version = StateFile { version: 9, ..state() };
        assert!(matches!(round(&other_version), Err(StateError::Version { version: 9, .. })));
        let other_container = StateFile { id: "c2".to_owned(), ..state() };
        assert!(matches!(round(&other_container), Err(StateError::Foreign { .. })));
        let other_boot = StateFile { boot_id: "x".to_owned(), ..state() };
        assert!(matches!(round(&other_boot), Err(StateError::EarlierBoot { .. })));
    }

    /// Attacks: H10.
    #[test]
    fn a_file_that_names_the_machines_init_or_a_process_group_is_refused() {
        for pid in [1, 0, -1, i32::MIN] {
            let shim = StateFile { shim: ProcessRef { pid, start_time_ticks: 1 }, ..state() };
            assert!(matches!(round(&shim), Err(StateError::Pid { .. })), "{pid}");
            let init = StateFile { init: Some(ProcessRef { pid, start_time_ticks: 1 }), ..state() };
            assert!(matches!(round(&init), Err(StateError::Pid { .. })), "{pid}");
        }
    }

    #[test]
    fn no_file_is_none() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(StateFile::read(&RunDir::new(dir.path()), "c1").expect("absent"), None);
    }
}
