//! Checkpoints: made of running containers by CRIU, kept on the host, restored under new names.
//!
//! For operators: CRIU looks into hostile processes, and believes its own files, as root. The container's
//! actor does the deed ([`crate::containers`]); here is who may ask, and what is kept.

mod archive;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;
use wharf_shared::checkpoint::{CheckpointRequest, CheckpointView, RestoreRequest};
use wharf_shared::container::ContainerView;
use wharf_shared::id::{CheckpointId, TenantId};
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;

pub(crate) use archive::{Archives, IMAGES, Part, Record};

use crate::containers::Containers;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError, chain};

/// CRIU on this host, looked for once.
#[derive(Debug)]
pub(crate) struct Criu {
    set: PathBuf,
    found: OnceCell<PathBuf>,
}

impl Criu {
    /// The program that is set; those in the usual places when it is empty.
    pub(crate) fn new(set: &Path) -> Self {
        Self { set: set.to_owned(), found: OnceCell::new() }
    }

    /// The program, once it has said that this kernel can do what it needs.
    pub(crate) async fn program(&self) -> Result<&Path> {
        self.found.get_or_try_init(|| self.look()).await.map(PathBuf::as_path)
    }

    async fn look(&self) -> Result<PathBuf> {
        let set = self.set.clone();
        let looked = tokio::task::spawn_blocking(move || wharf_runtime::checkpoint::criu(&set)).await;
        looked.map_err(|error| ServiceError::internal("a worker thread panicked", error))?.map_err(|error| {
            ServiceError::new(
                ProblemKind::Unsupported,
                format!("checkpoints are not available here, because {}", chain(&error)),
            )
        })
    }
}

/// The service.
#[derive(Clone)]
pub(crate) struct Checkpoints {
    containers: Containers,
    archives: Archives,
}

impl Checkpoints {
    pub(crate) fn new(containers: Containers, archives: Archives) -> Self {
        Self { containers, archives }
    }

    /// Removes what interrupted checkpoints left.
    pub(crate) async fn recover(&self) -> Result<()> {
        self.on_disk(Archives::recover).await
    }

    pub(crate) async fn create(
        &self,
        ctx: &Ctx,
        container: &str,
        request: CheckpointRequest,
    ) -> Result<CheckpointView> {
        ctx.require(Permission::HostAccess)?;
        self.containers.checkpoint(ctx, container, crate::ids::new("chk_")?, request.keep_running).await
    }

    pub(crate) async fn list(&self, ctx: &Ctx, tenant: Option<&TenantId>) -> Result<Vec<CheckpointView>> {
        ctx.require(Permission::HostAccess)?;
        let all = self.on_disk(Archives::list).await?;
        let views = all.into_iter().map(|record| record.view);
        Ok(views.filter(|view| tenant.is_none_or(|tenant| view.tenant == *tenant)).collect())
    }

    pub(crate) async fn get(&self, ctx: &Ctx, id: &str) -> Result<CheckpointView> {
        self.record(ctx, id).await.map(|record| record.view)
    }

    pub(crate) async fn remove(&self, ctx: &Ctx, id: &str) -> Result<()> {
        let id = self.record(ctx, id).await?.view.id;
        self.on_disk(move |archives| archives.remove(&id)).await
    }

    /// Makes a container of it, which goes on where the other was.
    pub(crate) async fn restore(
        &self,
        ctx: &Ctx,
        id: &str,
        request: RestoreRequest,
    ) -> Result<ContainerView> {
        let record = self.record(ctx, id).await?;
        let kernel = kernel().map_err(|error| ServiceError::internal("the kernel has no name", error))?;
        if record.view.kernel != kernel {
            return Err(ServiceError::conflict(format!(
                "the checkpoint was made on Linux {}, and this is {kernel}; boot that kernel to restore it",
                record.view.kernel
            )));
        }
        self.containers.restore(ctx, &record, request.name).await
    }

    async fn record(&self, ctx: &Ctx, id: &str) -> Result<Record> {
        ctx.require(Permission::HostAccess)?;
        let unknown = || ServiceError::not_found("checkpoint", id);
        let known: CheckpointId = id.parse().map_err(|_invalid| unknown())?;
        self.on_disk(move |archives| archives.read(&known)).await?.ok_or_else(unknown)
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Archives) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let archives = self.archives.clone();
        tokio::task::spawn_blocking(move || act(&archives))
            .await
            .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
            .map_err(|error| ServiceError::internal("the checkpoints cannot be read or changed", error))
    }
}

/// The running kernel, as `uname -r` has it.
pub(crate) fn kernel() -> nix::Result<String> {
    Ok(nix::sys::utsname::uname()?.release().to_string_lossy().into_owned())
}

/// What the containers' actors need.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) criu: Arc<Criu>,
    pub(crate) archives: Archives,
}
