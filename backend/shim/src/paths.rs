//! Where everything lies below the run root (`/run/wharf`, memory) and the state root
//! (`/var/lib/wharf`, disk), so that agent, forge and shim agree without talking.
//!
//! ```text
//! <run root>/forge.sock            the forge listens here
//! <run root>/forge.lock            held by the one living forge
//! <run root>/failpoint             of tests, and of debug builds only
//! <run root>/c/<id>/shim.sock      the shim of a container listens here
//! <run root>/c/<id>/state.json     who supervises, who is pid 1, in which phase
//! <state root>/c/<id>/exit-<generation>.json   how that start of the container ended
//! <state root>/c/<id>/log/         its output
//! ```
//! All directories have mode 0700 and belong to root.

use std::path::{Path, PathBuf};

/// The forge's socket, relative to the run root.
pub const FORGE_SOCKET: &str = "forge.sock";
/// The lock that the living forge holds, relative to the run root.
pub const FORGE_LOCK: &str = "forge.lock";
/// A shim's socket, relative to the container's run directory.
pub const SHIM_SOCKET: &str = "shim.sock";
/// A container's state file, relative to its run directory.
pub const STATE_FILE: &str = "state.json";

const CONTAINERS: &str = "c";
const LOG: &str = "log";
const ID_CHARACTERS: usize = 64;

/// A container id that is not 64 lower-case hexadecimal characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("container id {id:?} is not 64 lower-case hexadecimal characters")]
pub struct BadContainerId {
    /// What was given.
    pub id: String,
}

/// Checks that `id` may become a path component: 64 lower-case hexadecimal characters.
///
/// # Errors
/// [`BadContainerId`] otherwise.
pub fn check_container_id(id: &str) -> Result<(), BadContainerId> {
    let hexadecimal = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if id.len() == ID_CHARACTERS && hexadecimal { Ok(()) } else { Err(BadContainerId { id: id.to_owned() }) }
}

/// The directory of sockets and state files; emptied by a reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRoot(PathBuf);

impl RunRoot {
    /// Names the run root at `path`; touches nothing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the forge's socket.
    pub fn forge_socket(&self) -> PathBuf {
        self.0.join(FORGE_SOCKET)
    }

    /// Returns the lock file of the forge.
    pub fn forge_lock(&self) -> PathBuf {
        self.0.join(FORGE_LOCK)
    }

    /// Returns the directory that holds one directory per container.
    pub fn containers(&self) -> PathBuf {
        self.0.join(CONTAINERS)
    }

    /// Returns the run directory of a container.
    ///
    /// # Errors
    /// [`BadContainerId`] when `id` is not a container id.
    pub fn container(&self, id: &str) -> Result<RunDir, BadContainerId> {
        check_container_id(id)?;
        Ok(RunDir(self.containers().join(id)))
    }
}

/// The run directory of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Takes the directory that a launch spec names.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the shim's socket.
    pub fn shim_socket(&self) -> PathBuf {
        self.0.join(SHIM_SOCKET)
    }

    /// Returns the state file.
    pub fn state_file(&self) -> PathBuf {
        self.0.join(STATE_FILE)
    }
}

/// The directory of everything that survives a reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRoot(PathBuf);

impl StateRoot {
    /// Names the state root at `path`; touches nothing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the directory that holds one directory per container.
    pub fn containers(&self) -> PathBuf {
        self.0.join(CONTAINERS)
    }

    /// Returns the state directory of a container.
    ///
    /// # Errors
    /// [`BadContainerId`] when `id` is not a container id.
    pub fn container(&self, id: &str) -> Result<StateDir, BadContainerId> {
        check_container_id(id)?;
        Ok(StateDir(self.containers().join(id)))
    }
}

/// The state directory of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Takes the directory that a launch spec names.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the exit record of one start of the container; each start has its own, so that a
    /// restart cannot overwrite a reading that was not yet billed.
    pub fn exit_record(&self, generation: u64) -> PathBuf {
        self.0.join(format!("exit-{generation}.json"))
    }

    /// Returns the directory of the log files.
    pub fn log(&self) -> PathBuf {
        self.0.join(LOG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attacks: B15.
    #[test]
    fn accepts_only_64_lower_case_hexadecimal_characters() {
        let good = "0123456789abcdef".repeat(4);
        assert_eq!(check_container_id(&good), Ok(()));
        for bad in [
            "",
            ".",
            "..",
            &"a".repeat(63),
            &format!("{good}0"),
            &good.to_uppercase(),
            &format!("../{}", "a".repeat(61)),
            &format!("{}\0", "a".repeat(63)),
        ] {
            assert_eq!(check_container_id(bad), Err(BadContainerId { id: bad.to_owned() }), "{bad:?}");
        }
    }

    /// Attacks: B15.
    #[test]
    fn refuses_a_directory_for_an_id_that_climbs_out() {
        assert!(RunRoot::new("/run/wharf").container("../../etc").is_err());
        assert!(StateRoot::new("/var/lib/wharf").container("../../etc").is_err());
    }

    #[test]
    fn gives_each_generation_its_own_exit_record() {
        let dir = StateDir::new("/x");
        assert_ne!(dir.exit_record(1), dir.exit_record(2));
    }
}
