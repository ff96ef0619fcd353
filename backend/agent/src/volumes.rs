//! Volumes of tenants: directories that outlive containers.
//!
//! A volume is a directory in the state directory, owned by root on disk and shifted into the
//! tenant's id range when it is mounted. It is made with its row; a directory without a row is what
//! an interrupted removal left, and goes at the next start.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_shared::id::{TenantId, VolumeId};
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_shared::volume::{VolumeSpec, VolumeView};
use wharf_store::containers::ContainerRecord;
use wharf_store::pagination::PageRequest;
use wharf_store::tenants::{self, TenantRecord};
use wharf_store::volumes::{self as rows, VolumeRecord};
use wharf_store::{Db, Scope, StoreError, Tx};

use crate::clock::Clock;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError, chain};
use crate::events::{Change, EventBus};

/// The service.
#[derive(Clone)]
pub(crate) struct Volumes {
    db: Db,
    clock: Arc<dyn Clock>,
    events: EventBus,
    root: PathBuf,
}

impl Volumes {
    pub(crate) fn new(state_dir: &Path, db: Db, clock: Arc<dyn Clock>, events: EventBus) -> Self {
        Self { db, clock, events, root: state_dir.join("volumes") }
    }

    /// Removes directories that no row names any more.
    pub(crate) async fn recover(&self) -> Result<()> {
        let (known, no_tenant): (Vec<String>, bool) = {
            let mut tx = self.db.read().await?;
            let all = rows::list(&mut tx, &Scope::All, &PageRequest::whole()).await?;
            let owners = tenants::list(&mut tx, &Scope::All, &PageRequest::whole()).await?;
            (all.items.into_iter().map(|volume| volume.id.to_string()).collect(), owners.items.is_empty())
        };
        let root = self.root.clone();
        if no_tenant && std::fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(crate::containers::orphans::foreign_store("volumes"));
        }
        self.on_disk("leftover volumes cannot be removed", move || {
            make_private(&root)?;
            for entry in std::fs::read_dir(&root)? {
                let entry = entry?;
                let name = entry.file_name();
                if !known.iter().any(|known| name == known.as_str()) {
                    std::fs::remove_dir_all(entry.path())?;
                }
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn create(&self, ctx: &Ctx, spec: VolumeSpec) -> Result<VolumeView> {
        ctx.require(Permission::TenantWrite)?;
        let tenant = ctx.tenant_for(spec.tenant.as_ref())?;
        wharf_shared::name::check(&spec.name)
            .map_err(|error| ServiceError::invalid_field("name", error.to_string()))?;
        let mut tx = self.db.begin().await?;
        let owner = match tenants::get(&mut tx, &tenant).await {
            Ok(owner) => owner,
            Err(StoreError::NotFound(_)) => return Err(ServiceError::not_found("tenant", tenant.as_str())),
            Err(error) => return Err(error.into()),
        };
        let row = self.insert(&mut tx, ctx, &owner, &spec.name, spec.labels).await?;
        tx.commit().await?;
        self.events.publish();
        Ok(view(&row, Vec::new()))
    }

    /// The volume of this name, made if the tenant has none, in the caller's transaction.
    pub(crate) async fn ensure(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        owner: &TenantRecord,
        name: &str,
    ) -> Result<VolumeId> {
        if let Some(found) = rows::find(tx, &Scope::Tenant(owner.id.clone()), name).await? {
            return Ok(found.id);
        }
        Ok(self.insert(tx, ctx, owner, name, BTreeMap::new()).await?.id)
    }

    async fn insert(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        owner: &TenantRecord,
        name: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<VolumeRecord> {
        tenants::lock(tx, &owner.id).await?;
        let used = tenants::usage(tx, &owner.id).await?;
        if let Some(most) = owner.quota.volumes
            && used.volumes >= most
        {
            return Err(ServiceError::new(
                ProblemKind::QuotaExceeded,
                format!("the tenant may have {most} volumes; remove one or ask for more"),
            ));
        }
        let id: VolumeId = format!("vol_{}", uuid::Uuid::now_v7())
            .parse()
            .map_err(|error| ServiceError::internal("an id could not be made", error))?;
        let row = VolumeRecord {
            id,
            tenant: owner.id.clone(),
            tenant_name: owner.name.clone(),
            name: name.to_owned(),
            labels,
            created_at: self.clock.now(),
        };
        match rows::insert(tx, &row).await {
            Ok(()) => {}
            Err(StoreError::Taken(_)) => {
                return Err(ServiceError::new(
                    ProblemKind::NameTaken,
                    format!("the tenant {} has a volume {name:?} already; choose another name", owner.name),
                ));
            }
            Err(error) => return Err(error.into()),
        }
        self.events.changed(tx, ctx, "volume.create", change(&row, "volume.created")).await?;
        // Before the commit: a row never lacks its directory, and a directory without a row is swept.
        let dir = self.root.join(row.id.as_str());
        self.on_disk("the volume's directory cannot be made", move || {
            make_private(&dir)?;
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir.join("data"))
        })
        .await?;
        Ok(row)
    }

    /// A container's own volumes for these paths, made where it has none yet.
    pub(crate) async fn anonymous(
        &self,
        container: &ContainerRecord,
        targets: &[String],
    ) -> Result<Vec<(String, PathBuf)>> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let ctx = Ctx::system("image volumes");
        let mut tx = self.db.begin().await?;
        let mut own = rows::anonymous_of(&mut tx, &container.id).await?;
        for target in targets.iter().filter(|&target| !own.contains_key(target)).collect::<Vec<_>>() {
            let owner = tenants::get(&mut tx, &container.tenant).await?;
            let name = uuid::Uuid::new_v4().simple().to_string();
            let labels = BTreeMap::from([
                ("wharf.anonymous.container".to_owned(), container.name.clone()),
                ("wharf.anonymous.path".to_owned(), target.clone()),
            ]);
            let made = self.insert(&mut tx, &ctx, &owner, &name, labels).await?;
            rows::attach_anonymous(&mut tx, &container.id, &made.id, target).await?;
            own.insert(target.clone(), made.id);
        }
        tx.commit().await?;
        self.events.publish();
        own.retain(|target, _| targets.contains(target));
        Ok(own.into_iter().map(|(target, id)| (target, self.data(&id))).collect())
    }

    /// A container's own volumes that it has by now.
    pub(crate) async fn anonymous_of(&self, container: &ContainerRecord) -> Result<Vec<(String, PathBuf)>> {
        let mut tx = self.db.read().await?;
        let own = rows::anonymous_of(&mut tx, &container.id).await?;
        Ok(own.into_iter().map(|(target, id)| (target, self.data(&id))).collect())
    }

    /// Removes a container's own volumes with it, in the caller's transaction, but for those that another
    /// container mounts by now. What is returned goes to [`Self::discard`] after the commit.
    pub(crate) async fn remove_anonymous(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        tenant: &TenantId,
        volumes: impl IntoIterator<Item = VolumeId>,
    ) -> Result<Vec<VolumeId>> {
        let scope = Scope::Tenant(tenant.clone());
        let mut removed = Vec::new();
        for id in volumes {
            let row = rows::get(tx, &scope, &id).await?;
            match rows::delete(tx, &scope, &id).await {
                Ok(()) => {
                    self.events.changed(tx, ctx, "volume.remove", change(&row, "volume.removed")).await?;
                    removed.push(id);
                }
                Err(StoreError::InUse(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(removed)
    }

    /// Removes the data of volumes whose rows are gone; what is left goes at the next start.
    pub(crate) async fn discard(&self, volumes: Vec<VolumeId>) {
        for id in volumes {
            let dir = self.root.join(id.as_str());
            let removed = self
                .on_disk("the volume's data cannot be removed", move || std::fs::remove_dir_all(dir))
                .await;
            if let Err(error) = removed {
                tracing::error!(volume.id = %id, error = chain(&error), "a removed volume's data was left behind");
            }
        }
    }

    fn data(&self, id: &VolumeId) -> PathBuf {
        self.root.join(id.as_str()).join("data")
    }

    /// Where the volume's data lies.
    pub(crate) async fn directory(&self, tenant: &TenantId, name: &str) -> Result<PathBuf> {
        let mut tx = self.db.read().await?;
        let found = rows::find(&mut tx, &Scope::Tenant(tenant.clone()), name).await?;
        let found = found.ok_or_else(|| ServiceError::not_found("volume", name))?;
        Ok(self.data(&found.id))
    }

    async fn find(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        tenant: Option<&TenantId>,
        volume: &str,
    ) -> Result<VolumeRecord> {
        match rows::find(tx, &ctx.scope_of(tenant)?, volume).await {
            Ok(Some(row)) => Ok(row),
            Ok(None) => Err(ServiceError::not_found("volume", volume)),
            Err(StoreError::Ambiguous(_)) => Err(ServiceError::conflict(
                "several tenants have a volume of this name; say which tenant's, or give its id",
            )),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn get(&self, ctx: &Ctx, tenant: Option<&TenantId>, volume: &str) -> Result<VolumeView> {
        ctx.require(Permission::TenantRead)?;
        let mut tx = self.db.read().await?;
        let row = self.find(&mut tx, ctx, tenant, volume).await?;
        let used_by = rows::used_by(&mut tx, &row.id).await?;
        Ok(view(&row, used_by))
    }

    pub(crate) async fn list(
        &self,
        ctx: &Ctx,
        tenant: Option<&TenantId>,
        page: &PageRequest,
    ) -> Result<Page<VolumeView>> {
        ctx.require(Permission::TenantRead)?;
        let mut tx = self.db.read().await?;
        let found = rows::list(&mut tx, &ctx.scope_of(tenant)?, page).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for row in &found.items {
            items.push(view(row, rows::used_by(&mut tx, &row.id).await?));
        }
        Ok(Page { items, next_cursor: found.next_cursor })
    }

    pub(crate) async fn remove(&self, ctx: &Ctx, tenant: Option<&TenantId>, volume: &str) -> Result<()> {
        ctx.require(Permission::TenantWrite)?;
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, ctx, tenant, volume).await?;
        match rows::delete(&mut tx, &ctx.scope()?, &row.id).await {
            Ok(()) => {}
            Err(StoreError::InUse(_)) => {
                let users = rows::used_by(&mut tx, &row.id).await?.join(", ");
                return Err(ServiceError::new(
                    ProblemKind::InUse,
                    format!("the volume is mounted by {users}; remove these containers first"),
                ));
            }
            Err(error) => return Err(error.into()),
        }
        self.events.changed(&mut tx, ctx, "volume.remove", change(&row, "volume.removed")).await?;
        tx.commit().await?;
        self.events.publish();
        let dir = self.root.join(row.id.as_str());
        self.on_disk("the volume's data cannot be removed", move || std::fs::remove_dir_all(dir)).await
    }

    async fn on_disk(
        &self,
        what: &'static str,
        work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Result<()> {
        const ENOSPC: i32 = 28;
        let done = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| ServiceError::internal("a worker thread panicked", error))?;
        done.map_err(|error| {
            if error.raw_os_error() == Some(ENOSPC) {
                ServiceError::new(
                    ProblemKind::InsufficientStorage,
                    format!("{what}: the disk is full; free some space"),
                )
                .because(error)
            } else {
                ServiceError::internal(what, error)
            }
        })
    }
}

fn make_private(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn change(row: &VolumeRecord, kind: &'static str) -> Change {
    Change {
        kind,
        tenant: Some(row.tenant.clone()),
        subject: row.id.to_string(),
        subject_name: row.name.clone(),
        detail: BTreeMap::new(),
    }
}

fn view(row: &VolumeRecord, used_by: Vec<String>) -> VolumeView {
    VolumeView {
        id: row.id.clone(),
        name: row.name.clone(),
        tenant: row.tenant.clone(),
        tenant_name: row.tenant_name.clone(),
        labels: row.labels.clone(),
        created_at: row.created_at,
        used_by,
    }
}
