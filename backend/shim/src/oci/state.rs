//! What is known of a container between two commands: a directory of its own with one file.
//!
//! ```text
//! <root>/<id>/            0700
//!   state.json            who it is; written once it has a process
//!   gate                  socket at which it waits until it is started; gone from then on
//! ```
//! Its status is never written down: it follows from the process and the gate.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wharf_runtime::cgroup::Layout;
use wharf_runtime::spec::IdMap;
use wharf_shim::process_ref::ProcessRef;

/// The version of the specification that states are told in.
const OCI_VERSION: &str = "1.2.0";

/// Why a container's state is not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error("there is a container {0} already")]
    Exists(String),
    #[error("there is no container {0}")]
    Missing(String),
    #[error("could not {call} {path}", path = path.display())]
    File { call: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is damaged", path = path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
}

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) id: String,
    pub(super) init: ProcessRef,
    pub(super) bundle: PathBuf,
    /// Relative to the root of each hierarchy of `layout`.
    pub(super) cgroup: PathBuf,
    /// The hierarchies that it is in.
    pub(super) layout: Layout,
    pub(super) id_map: Option<IdMap>,
    /// The writable layer, which goes with it.
    pub(super) layer: Option<PathBuf>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Creating,
    Created,
    Running,
    Stopped,
}

/// What callers are told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'all> {
    oci_version: &'static str,
    id: &'all str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'all Path,
    annotations: &'all BTreeMap<String, String>,
}

/// A container's directory.
#[derive(Debug)]
pub(super) struct StateDir {
    id: String,
    path: PathBuf,
}

impl StateDir {
    pub(super) fn new(root: &Path, id: &str) -> Self {
        Self { id: id.to_owned(), path: root.join(id) }
    }

    /// Takes the name.
    pub(super) fn create(&self) -> Result<(), StateError> {
        let make =
            |recursive: bool, path: &Path| DirBuilder::new().recursive(recursive).mode(0o700).create(path);
        let made = match make(false, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let root = self.path.parent().unwrap_or(&self.path);
                make(true, root).and_then(|()| make(false, &self.path))
            }
            other => other,
        };
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(StateError::Exists(self.id.clone()))
            }
            other => other.map_err(self.failed("make", &self.path)),
        }
    }

    fn failed(&self, call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
        let (id, path) = (self.id.clone(), path.to_owned());
        move |source| {
            if source.kind() == io::ErrorKind::NotFound {
                StateError::Missing(id)
            } else {
                StateError::File { call, path, source }
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it waits to be started.
    pub(super) fn gate(&self) -> PathBuf {
        self.path.join("gate")
    }

    fn file(&self) -> PathBuf {
        self.path.join("state.json")
    }

    /// Writes the state; a reader never sees half of it.
    pub(super) fn write(&self, state: &State) -> Result<(), StateError> {
        let path = self.file();
        let damaged = |source| StateError::Damaged { path: path.clone(), source };
        let bytes = serde_json::to_vec(state).map_err(damaged)?;
        let part = self.path.join("state.part");
        fs::write(&part, bytes).and_then(|()| fs::rename(&part, &path)).map_err(self.failed("write", &path))
    }

    /// Reads the state; `None` while the container is being made.
    pub(super) fn read(&self) -> Result<Option<State>, StateError> {
        let path = self.file();
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.path.is_dir() => return Ok(None),
            other => other.map_err(self.failed("read", &path))?,
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| StateError::Damaged { path, source })
    }

    /// Finds out what the container does.
    pub(super) fn status(&self, state: Option<&State>) -> Result<Status, StateError> {
        let Some(state) = state else { return Ok(Status::Creating) };
        let alive = state.init.is_alive().map_err(self.failed("look for the process of", &self.path))?;
        Ok(match (alive, self.gate().exists()) {
            (false, _) => Status::Stopped,
            (true, true) => Status::Created,
            (true, false) => Status::Running,
        })
    }

    /// Describes the container in the specification's words.
    pub(super) fn describe(&self) -> Result<String, StateError> {
        let state = self.read()?;
        let status = self.status(state.as_ref())?;
        let none = BTreeMap::new();
        let view = View {
            oci_version: OCI_VERSION,
            id: &self.id,
            status,
            pid: state.as_ref().filter(|_| status != Status::Stopped).map(|state| state.init.pid),
            bundle: state.as_ref().map_or(Path::new(""), |state| &state.bundle),
            annotations: state.as_ref().map_or(&none, |state| &state.annotations),
        };
        serde_json::to_string_pretty(&view)
            .map_err(|source| StateError::Damaged { path: self.path.clone(), source })
    }

    /// Gives the name back.
    pub(super) fn remove(&self) -> Result<(), StateError> {
        for path in [self.file(), self.gate()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        match fs::remove_dir(&self.path) {
            // Half of a state, of a maker that was killed.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => fs::remove_dir_all(&self.path),
            other => other,
        }
        .map_err(self.failed("remove", &self.path))
    }
}

/// Returns the ids of all containers below a root.
pub(super) fn list(root: &Path) -> Result<Vec<String>, StateError> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|source| StateError::File { call: "read", path: root.to_owned(), source })?,
    };
    let mut ids: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    ids.sort();
    Ok(ids)
}
