//! Tenants: whose containers, images and volumes there are, and what they may use in all.

use std::sync::Arc;

use wharf_network::ipam::SubnetPool;
use wharf_shared::id::TenantId;
use wharf_shared::name;
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::{FieldProblem, ProblemKind};
use wharf_shared::tenant::{Quota, TenantSpec, TenantUpdate, TenantView};
use wharf_store::pagination::PageRequest;
use wharf_store::tenants::{self, NewTenant, TenantRanges, TenantRecord};
use wharf_store::{Db, StoreError, Tx};

use crate::clock::Clock;
use crate::config::Config;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};
use crate::events::{Change, EventBus};

/// Host user and group ids of one tenant.
const IDS_PER_TENANT: u32 = 65_536;

/// The service of tenants.
#[derive(Debug)]
pub(crate) struct Tenants {
    db: Db,
    clock: Arc<dyn Clock>,
    events: EventBus,
    subnets: SubnetPool,
    ranges: TenantRanges,
}

impl Tenants {
    pub(crate) fn new(config: &Config, db: Db, clock: Arc<dyn Clock>, events: EventBus) -> Result<Self> {
        let (pool, prefix) = (config.network.pool, config.network.subnet_prefix);
        let subnets = SubnetPool::new(pool, prefix)
            .map_err(|error| ServiceError::internal("the address pool cannot be used", error))?;
        let bits = u32::from(prefix.saturating_sub(pool.prefix_len()));
        let ranges = TenantRanges {
            id_first: config.containers.id_base,
            id_count: IDS_PER_TENANT,
            networks: 1_u32.checked_shl(bits).unwrap_or(u32::MAX),
        };
        Ok(Self { db, clock, events, subnets, ranges })
    }

    /// Tenants by name; a member sees its own.
    pub(crate) async fn list(&self, ctx: &Ctx, page: &PageRequest) -> Result<Page<TenantView>> {
        ctx.require(Permission::TenantRead)?;
        let found = tenants::list(&mut self.db.read().await?, &ctx.scope()?, page).await?;
        let items = found.items.into_iter().map(|tenant| self.view(tenant)).collect::<Result<_>>()?;
        Ok(Page { items, next_cursor: found.next_cursor })
    }

    /// One tenant, by id or name.
    pub(crate) async fn get(&self, ctx: &Ctx, id_or_name: &str) -> Result<TenantView> {
        ctx.require(Permission::TenantRead)?;
        let tenant = find(&mut self.db.read().await?, ctx, id_or_name).await?;
        self.view(tenant)
    }

    /// The id of the tenant that a caller names, if it names one; one that is not its to know is not found.
    pub(crate) async fn resolve(&self, ctx: &Ctx, id_or_name: Option<&str>) -> Result<Option<TenantId>> {
        let Some(id_or_name) = id_or_name else { return Ok(None) };
        Ok(Some(find(&mut self.db.read().await?, ctx, id_or_name).await?.id))
    }

    /// Makes a tenant with host ids and a network of its own.
    pub(crate) async fn create(&self, ctx: &Ctx, spec: TenantSpec) -> Result<TenantView> {
        ctx.require(Permission::TenantManage)?;
        check(Some(&spec.name), Some(&spec.quota))?;
        let new = NewTenant {
            id: crate::ids::new("tnt_")?,
            name: spec.name,
            quota: spec.quota,
            created_at: self.clock.now(),
        };
        let mut tx = self.db.begin().await?;
        let tenant = tenants::insert(&mut tx, &new, &self.ranges).await.map_err(refused)?;
        self.events.changed(&mut tx, ctx, "tenant.create", change("tenant.created", &tenant)).await?;
        tx.commit().await?;
        self.events.publish();
        self.view(tenant)
    }

    /// Changes name or quota.
    pub(crate) async fn update(
        &self,
        ctx: &Ctx,
        id_or_name: &str,
        update: TenantUpdate,
    ) -> Result<TenantView> {
        ctx.require(Permission::TenantManage)?;
        check(update.name.as_deref(), update.quota.as_ref())?;
        let mut tx = self.db.begin().await?;
        let mut tenant = find(&mut tx, ctx, id_or_name).await?;
        tenant.name = update.name.unwrap_or(tenant.name);
        tenant.quota = update.quota.unwrap_or(tenant.quota);
        let tenant = tenants::update_if(&mut tx, &tenant).await.map_err(refused)?;
        self.events.changed(&mut tx, ctx, "tenant.update", change("tenant.updated", &tenant)).await?;
        tx.commit().await?;
        self.events.publish();
        self.view(tenant)
    }

    /// Removes a tenant that has nothing and nobody any more.
    pub(crate) async fn delete(&self, ctx: &Ctx, id_or_name: &str) -> Result<TenantId> {
        ctx.require(Permission::TenantManage)?;
        let mut tx = self.db.begin().await?;
        let tenant = find(&mut tx, ctx, id_or_name).await?;
        tenants::delete(&mut tx, &tenant.id).await.map_err(refused)?;
        self.events.changed(&mut tx, ctx, "tenant.delete", change("tenant.removed", &tenant)).await?;
        tx.commit().await?;
        self.events.publish();
        Ok(tenant.id)
    }

    fn view(&self, tenant: TenantRecord) -> Result<TenantView> {
        let subnet = self.subnets.subnet(tenant.network_index).map_err(|error| {
            ServiceError::internal("the tenant's network lies outside of the pool", error)
        })?;
        let TenantRecord { id, name, quota, id_base, created_at, containers, volumes, .. } = tenant;
        Ok(TenantView {
            id,
            name,
            quota,
            id_base,
            subnet: subnet.to_string(),
            containers,
            volumes,
            created_at,
        })
    }
}

async fn find(tx: &mut Tx, ctx: &Ctx, id_or_name: &str) -> Result<TenantRecord> {
    let found = tenants::find(tx, &ctx.scope()?, id_or_name).await?;
    found.ok_or_else(|| ServiceError::not_found("tenant", id_or_name))
}

fn check(given_name: Option<&str>, quota: Option<&Quota>) -> Result<()> {
    let mut fields = Vec::new();
    let mut refuse =
        |field: &str, detail: String| fields.push(FieldProblem { field: field.to_owned(), detail });
    if let Some(Err(error)) = given_name.map(name::check) {
        refuse("name", error.to_string());
    }
    // An id as a name would hide the tenant that has this id.
    if given_name.is_some_and(|given| given.starts_with("tnt_")) {
        refuse("name", "names that begin with tnt_ are kept for ids".to_owned());
    }
    fields.extend(quota.map(Quota::problems).unwrap_or_default());
    if fields.is_empty() { Ok(()) } else { Err(ServiceError::invalid(fields)) }
}

fn refused(error: StoreError) -> ServiceError {
    match error {
        StoreError::Taken(_) => ServiceError::new(ProblemKind::NameTaken, "another tenant has this name"),
        StoreError::InUse(_) => ServiceError::new(
            ProblemKind::InUse,
            "the tenant still has containers, volumes or users; remove them first",
        ),
        StoreError::Stale(_) => {
            ServiceError::new(ProblemKind::Precondition, "the tenant has changed in the meantime; try again")
        }
        StoreError::Exhausted(what) => ServiceError::conflict(format!(
            "no free {what} is left; remove a tenant, or give the agent a larger network.pool"
        )),
        other => other.into(),
    }
}

fn change(kind: &'static str, tenant: &TenantRecord) -> Change {
    Change {
        kind,
        tenant: Some(tenant.id.clone()),
        subject: tenant.id.to_string(),
        subject_name: tenant.name.clone(),
        ..Change::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_name_that_looks_like_an_id_and_a_quota_of_nothing_are_refused() {
        assert!(check(Some("tnt_x"), None).is_err());
        assert!(check(Some("a/b"), None).is_err());
        let quota = Quota { memory_bytes: Some(0), cpu_millis: Some(0), ..Quota::default() };
        assert_eq!(check(Some("shop"), Some(&quota)).expect_err("nothing runs").fields.len(), 2);
        let quota = Quota { cpu_weight: Some(10_001), pids: Some(0), ..Quota::default() };
        assert_eq!(check(None, Some(&quota)).expect_err("beyond the kernel").fields.len(), 2);
        assert!(check(Some("shop"), Some(&Quota { containers: Some(0), ..Quota::default() })).is_ok());
    }

    #[tokio::test]
    async fn a_new_tenant_has_ids_and_a_network_of_its_own() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db =
            Db::connect(&format!("sqlite:{}", dir.path().join("t.db").display())).await.expect("a database");
        let clock = SystemClock::shared();
        let events = EventBus::new(db.clone(), Arc::clone(&clock));
        let tenants = Tenants::new(&Config::default(), db, clock, events).expect("set up");
        let ctx = Ctx::system("test");
        let make =
            |name: &str| tenants.create(&ctx, TenantSpec { name: name.to_owned(), ..TenantSpec::default() });
        let (first, second) = (make("one").await.expect("made"), make("two").await.expect("made"));
        assert_eq!(second.id_base, first.id_base + 65_536);
        assert_eq!((first.subnet.as_str(), second.subnet.as_str()), ("10.201.0.0/22", "10.201.4.0/22"));
        assert_eq!(make("one").await.expect_err("taken").kind, ProblemKind::NameTaken);
        let again =
            tenants.update(&ctx, "two", TenantUpdate { name: Some("one".to_owned()), quota: None }).await;
        assert_eq!(again.expect_err("taken").kind, ProblemKind::NameTaken);
        tenants.delete(&ctx, "two").await.expect("empty");
        assert_eq!(tenants.get(&ctx, "two").await.expect_err("gone").kind, ProblemKind::NotFound);
    }
}
