//! The host's facts: what it is, how full it is, what it can do.

use std::path::{Path, PathBuf};

use nix::sys::{statvfs, sysinfo, utsname};
use wharf_shared::container::ContainerState;
use wharf_shared::host::{CheckView, HostView};
use wharf_shared::id::HostId;
use wharf_shared::permission::Permission;
use wharf_shared::time::Timestamp;
use wharf_store::containers::{self, ContainerFilter};
use wharf_store::pagination::PageRequest;
use wharf_store::{Db, Scope, tenants};

use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

/// What is known of the host before the agent serves.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) id: HostId,
    pub(crate) agent_started_at: Timestamp,
    pub(crate) state_dir: PathBuf,
    /// `v2`, `hybrid` or `v1`.
    pub(crate) cgroup_layout: String,
    /// Meters that this host cannot measure.
    pub(crate) not_measurable: Vec<String>,
    /// Looks at what the host can do; blocks.
    pub(crate) doctor: fn() -> Vec<CheckView>,
}

/// The service of the host.
#[derive(Debug)]
pub(crate) struct HostFacts {
    db: Db,
    facts: Facts,
}

impl HostFacts {
    pub(crate) fn new(db: Db, facts: Facts) -> Self {
        Self { db, facts }
    }

    /// The host as it is now.
    pub(crate) async fn view(&self, ctx: &Ctx) -> Result<HostView> {
        ctx.require(Permission::HostRead)?;
        let failed = |error: nix::Error| ServiceError::internal("the host's facts could not be read", error);
        let name = utsname::uname().map_err(failed)?;
        let memory = sysinfo::sysinfo().map_err(failed)?;
        let (disk_free_bytes, disk_total_bytes) = disk(&self.facts.state_dir).map_err(failed)?;
        let (containers_running, containers_total) = self.count().await?;
        Ok(HostView {
            id: self.facts.id.clone(),
            name: name.nodename().to_string_lossy().into_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: name.release().to_string_lossy().into_owned(),
            cgroup_layout: self.facts.cgroup_layout.clone(),
            cpus: std::thread::available_parallelism()
                .map_or(0, |count| u32::try_from(count.get()).unwrap_or(0)),
            memory_bytes: memory.ram_total(),
            agent_started_at: self.facts.agent_started_at,
            disk_free_bytes,
            disk_total_bytes,
            containers_running,
            containers_total,
            not_measurable: self.facts.not_measurable.clone(),
        })
    }

    /// What the host can do.
    pub(crate) async fn checks(&self, ctx: &Ctx) -> Result<Vec<CheckView>> {
        ctx.require(Permission::HostRead)?;
        tokio::task::spawn_blocking(self.facts.doctor)
            .await
            .map_err(|error| ServiceError::internal("the host could not be looked at", error))
    }

    /// Containers that run, and that exist.
    async fn count(&self) -> Result<(u32, u32)> {
        let mut tx = self.db.read().await?;
        let (mut running, mut total) = (0_u32, 0_u32);
        let mut page = PageRequest::whole();
        loop {
            let found = tenants::list(&mut tx, &Scope::All, &page).await?;
            total = found.items.iter().fold(total, |total, tenant| total.saturating_add(tenant.containers));
            page.cursor = found.next_cursor;
            if page.cursor.is_none() {
                break;
            }
        }
        let filter = ContainerFilter { states: vec![ContainerState::Running], ..ContainerFilter::default() };
        loop {
            let found = containers::list(&mut tx, &Scope::All, &filter, &page).await?;
            running = running.saturating_add(u32::try_from(found.items.len()).unwrap_or(u32::MAX));
            page.cursor = found.next_cursor;
            if page.cursor.is_none() {
                return Ok((running, total));
            }
        }
    }
}

/// Bytes free for root's services and bytes in all, of the file system that holds `path`.
fn disk(path: &Path) -> nix::Result<(u64, u64)> {
    let stat = statvfs::statvfs(path)?;
    let block = stat.fragment_size();
    Ok((stat.blocks_available().saturating_mul(block), stat.blocks().saturating_mul(block)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_shared::user::Role;

    #[tokio::test]
    async fn the_host_is_shown_to_operators_and_to_no_member() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db =
            Db::connect(&format!("sqlite:{}", dir.path().join("t.db").display())).await.expect("a database");
        let facts = Facts {
            id: crate::ids::new("hst_").expect("an id"),
            agent_started_at: Timestamp(0),
            state_dir: dir.path().to_owned(),
            cgroup_layout: "v2".to_owned(),
            not_measurable: Vec::new(),
            doctor: Vec::new,
        };
        let host = HostFacts::new(db, facts);
        let operator = Ctx { role: Role::Operator, ..Ctx::system("test") };
        let view = host.view(&operator).await.expect("shown");
        assert!(view.cpus > 0 && view.memory_bytes > 0 && view.disk_total_bytes >= view.disk_free_bytes);
        let member = Ctx { role: Role::Member, ..Ctx::system("test") };
        assert!(host.view(&member).await.is_err() && host.checks(&member).await.is_err());
    }
}
