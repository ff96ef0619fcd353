//! What is really there after a start of the agent: living shims, finished ones, lost ones.
//!
//! RUNTIME: a container's run directory names its shim and first process by pid and start time,
//! so that a reused pid is never taken for them, and the boot, so that leftovers of an earlier
//! boot are recognised.

use std::path::Path;

use wharf_shim::client;
use wharf_shim::exit::ExitRecord;
use wharf_shim::process_ref::Pinned;
use wharf_shim::protocol::{Phase, Reply, Request, StateReport};
use wharf_shim::state::{StateError, StateFile};

use super::{Engine, EngineError, Session};

/// How a container was found that should be running.
#[derive(Debug)]
pub(crate) enum Found {
    /// Its shim answers.
    Alive { session: Session, report: StateReport },
    /// Its shim is gone and left the exit record.
    Ended(Box<ExitRecord>),
    /// Its shim was killed; whatever of it still ran was killed just now.
    Lost {
        /// Whether its program may have been executed.
        ran: bool,
        /// Its first process, if that outlived its shim.
        init: Option<Pinned>,
    },
    /// There is nothing: it was never launched, or the host restarted.
    Nothing,
}

impl Engine {
    /// Looks for one start of a container.
    pub(crate) async fn find(&self, id: &str, generation: u64, cgroup: &Path) -> Result<Found, EngineError> {
        let Ok(run) = self.run_root().container(id) else { return Ok(Found::Nothing) };
        let connected = tokio::task::spawn_blocking(move || client::connect_shim(&run)).await?;
        if let Ok(client) = connected {
            let session = Session::new(client.into_connection())?;
            if let Ok((Reply::State(report), _)) = session.ask(Request::State, &[]).await
                && report.generation == generation
            {
                return Ok(Found::Alive { session, report });
            }
        }
        if let Some(record) = self.exit_record(id, generation).await? {
            return Ok(Found::Ended(Box::new(record)));
        }
        self.lost(id, generation, cgroup).await
    }

    /// The exit record of one start, if its shim wrote it.
    pub(crate) async fn exit_record(
        &self,
        id: &str,
        generation: u64,
    ) -> Result<Option<ExitRecord>, EngineError> {
        let Some(state) = self.state_dir(id) else { return Ok(None) };
        let name = id.to_owned();
        match tokio::task::spawn_blocking(move || ExitRecord::read(&state, &name, generation)).await? {
            Ok(record) => Ok(record),
            Err(error) => {
                tracing::error!(
                    container.id = id,
                    error = crate::error::chain(&error),
                    "an exit record cannot be read"
                );
                Ok(None)
            }
        }
    }

    /// Removes what a run left for us to read: its exit record, and the state file of a lost shim.
    pub(crate) async fn forget_run(&self, id: &str, generation: u64) {
        let (Some(state), Ok(run)) = (self.state_dir(id), self.run_root().container(id)) else { return };
        for path in [state.exit_record(generation), run.state_file()] {
            match tokio::fs::remove_file(&path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a file of an ended run was left behind");
                }
                _ => {}
            }
        }
    }

    /// The shim is gone without a word: end what it left running.
    pub(crate) async fn lost(&self, id: &str, generation: u64, cgroup: &Path) -> Result<Found, EngineError> {
        let Ok(run) = self.run_root().container(id) else { return Ok(Found::Nothing) };
        let name = id.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            let state = StateFile::read(&run, &name)?.filter(|state| state.generation == generation);
            // Before it is killed: afterwards it can be gone.
            let init = state.as_ref().and_then(|state| state.init?.pin().ok()?);
            Ok::<_, StateError>((state, init))
        });
        let (ran, init) = match read.await? {
            Ok((state, init)) => {
                (state.map(|state| matches!(state.phase, Phase::Running | Phase::Exited)), init)
            }
            Err(error) => {
                tracing::error!(
                    container.id = id,
                    error = crate::error::chain(&error),
                    "a state file cannot be read"
                );
                (Some(true), None)
            }
        };
        // The cgroup decides what must die: whatever is in it belongs to this start and no other. What its
        // processes used on their way out is on the bill too.
        let alive = self.end_run(cgroup).await.is_ok();
        match ran {
            Some(ran) => Ok(Found::Lost { ran, init }),
            // Its cgroup was made, and nobody came to supervise it.
            None if alive => Ok(Found::Lost { ran: false, init }),
            None => Ok(Found::Nothing),
        }
    }
}
