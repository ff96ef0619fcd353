//! A checkpoint of what runs: processes by CRIU, then the writable layer while they are stopped.

use wharf_runtime::checkpoint::Outside;
use wharf_shared::checkpoint::CheckpointView;
use wharf_shared::container::{ContainerState, HostNamespace, NetworkMode};
use wharf_shared::id::CheckpointId;
use wharf_shared::problem::ProblemKind;
use wharf_shim::state::StateFile;
use wharf_store::containers::Desired;

use super::{Actor, kill};
use crate::checkpoints::{self, Part, Record};
use crate::containers::launch;
use crate::ctx::Ctx;
use crate::engine::EngineError;
use crate::error::{Result, ServiceError, chain};
use crate::metering::Mark;

impl Actor {
    /// Saves the container; what the kernel counted up to then is a reading, and so is going on.
    pub(super) async fn checkpoint(
        &mut self,
        ctx: &Ctx,
        id: CheckpointId,
        keep_running: bool,
    ) -> Result<CheckpointView> {
        let tools = self.deps.checkpoints.clone();
        let criu = tools.criu.program().await?.to_owned();
        self.fit_for_checkpoint()?;
        let Some(pid) = self.row.observed.pid else {
            return Err(ServiceError::conflict("the container does not run; start it first"));
        };
        let kernel =
            checkpoints::kernel().map_err(|error| ServiceError::internal("the kernel has no name", error))?;
        let pipes = self.pipes()?;
        let cgroup = self.running()?.cgroup.clone();
        let part = on_disk(move || tools.archives.begin(&id).map(|part| (part, id))).await;
        let (part, id) = part?;
        self.deps.metering.mark(self.id(), Mark::Freeze).await?;
        let dumped = self.deps.engine.dump(cgroup.clone(), pid, criu, part.images()).await;
        let packed = match dumped {
            Ok(outside) => self.pack(part, outside).await,
            Err(error) => Err(refused(error)),
        };
        let packed = match packed {
            Ok((part, outside, size_bytes)) => {
                let view = CheckpointView {
                    id,
                    tenant: self.row.tenant.clone(),
                    container: self.row.id.clone(),
                    container_name: self.row.name.clone(),
                    image: self.row.spec.image.clone(),
                    created_at: self.deps.clock.now(),
                    size_bytes,
                    kernel,
                };
                let record = Record {
                    view: view.clone(),
                    spec: self.row.spec.clone(),
                    image_digest: self.row.observed.image_digest.clone().unwrap_or_default(),
                    outside,
                    pipes,
                };
                on_disk(move || part.finish(&record)).await.map(|()| view)
            }
            Err(error) => Err(error),
        };
        if keep_running || packed.is_err() {
            self.deps.engine.go_on(cgroup).await.map_err(launch::engine_failed)?;
            self.deps.metering.mark(self.id(), Mark::Thaw).await?;
        }
        let view = packed?;
        self.save(Some((ctx, "container.checkpoint")), |row| {
            if !keep_running {
                row.desired = Desired::Stopped;
            }
        })
        .await?;
        if !keep_running
            && let Some(live) = &self.live
            && let Err(error) = kill(&live.session).await
        {
            tracing::warn!(container.id = %self.row.id, error = chain(&error), "the supervisor did not kill");
            self.deps.engine.kill_cgroup(live.cgroup.clone()).await.map_err(launch::engine_failed)?;
        }
        Ok(view)
    }

    /// What CRIU cannot save, or what would not come back, is told before anything is stopped.
    fn fit_for_checkpoint(&self) -> Result<()> {
        let live = self.running()?;
        let spec = &self.row.spec;
        let reason = if self.row.observed.state != ContainerState::Running {
            "only a running container can be saved; resume it first"
        } else if !live.execs.is_empty() {
            "commands run in the container from outside (exec, health checks); try again when they have ended"
        } else if spec.terminal {
            "a container with a terminal cannot be saved: the other side of its terminal is not in it"
        } else if spec.init {
            "a container with our init cannot be saved: that program is only in memory"
        } else if spec.system || spec.shares(HostNamespace::User) || spec.shares(HostNamespace::Uts) {
            "a container that divides its cgroup, or shares namespaces with the host, cannot be saved"
        } else if spec.network == NetworkMode::Host {
            "a container in the host's network cannot be saved: the network is not its own"
        } else {
            return Ok(());
        };
        Err(ServiceError::conflict(reason))
    }

    /// The pipes of the supervisor, which CRIU is given anew at a restore.
    fn pipes(&self) -> Result<[Option<u64>; 3]> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            ServiceError::internal("the supervisor's state file cannot be read", error)
        };
        let run = self.deps.engine.run_root().container(self.row.id.as_str());
        let run = run.map_err(|error| failed(error.into()))?;
        let state = StateFile::read(&run, self.row.id.as_str()).map_err(|error| failed(error.into()))?;
        Ok(state.map(|state| state.pipes).unwrap_or_default())
    }

    async fn pack(&self, part: Part, outside: Vec<Outside>) -> Result<(Part, Vec<Outside>, u64)> {
        let Some(state) = self.deps.engine.state_dir(self.row.id.as_str()) else {
            return Err(ServiceError::conflict("the container has no directory"));
        };
        on_disk(move || part.pack(state.path()).map(|size| (part, outside, size))).await
    }
}

async fn on_disk<T: Send + 'static>(act: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(act)
        .await
        .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => ServiceError::new(
                ProblemKind::InsufficientStorage,
                "the disk is full; make room and try again",
            )
            .because(error),
            _ => ServiceError::internal("the checkpoint cannot be written", error),
        })
}

/// CRIU's words are for the operator who asked.
fn refused(error: EngineError) -> ServiceError {
    match error {
        EngineError::Dump(error) => ServiceError::conflict(chain(&error)),
        error => launch::engine_failed(error),
    }
}
