//! Tenants, and the host ids and networks that belong to them.
//!
//! A range of host ids is never given out twice, not even after its tenant was removed: files of
//! the old one may still carry them. Network numbers are few and are reused.

use wharf_shared::id::TenantId;
use wharf_shared::page::Page;
use wharf_shared::tenant::Quota;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::pagination::PageRequest;
use crate::row::{Row, args, json};
use crate::scope::Scope;
use crate::statement::statements;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// Id.
    pub id: TenantId,
    /// Name, unique.
    pub name: String,
    /// What it may use.
    pub quota: Quota,
    /// First of its host user and group ids.
    pub id_base: u32,
    /// Number of its network within the host's address pool.
    pub network_index: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// Changes with each change.
    pub version: i64,
    /// Containers that exist.
    pub containers: u32,
    /// Volumes that exist.
    pub volumes: u32,
}

/// A tenant to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTenant {
    /// Id.
    pub id: TenantId,
    /// Name.
    pub name: String,
    /// What it may use.
    pub quota: Quota,
    /// When.
    pub created_at: Timestamp,
}

/// What ids and networks are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantRanges {
    /// First host id of the first tenant.
    pub id_first: u32,
    /// Host ids of each tenant.
    pub id_count: u32,
    /// Networks there are.
    pub networks: u32,
}

impl Default for TenantRanges {
    /// Host ids from 1,000,000,000 on, 65,536 each; 64 networks (a /16 in /22).
    fn default() -> Self {
        Self { id_first: 1_000_000_000, id_count: 65_536, networks: 64 }
    }
}

/// What a tenant's containers and volumes may use together at present.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantUse {
    /// Containers that exist.
    pub containers: u32,
    /// Volumes that exist.
    pub volumes: u32,
    /// Sum of CPU limits in thousandths.
    pub cpu_millis: u64,
    /// Sum of memory limits.
    pub memory_bytes: u64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.name, t.quota, t.id_base, t.network_index, t.created_at, t.version, ",
            "(SELECT COUNT(*) FROM containers c WHERE c.tenant = t.id) AS containers, ",
            "(SELECT COUNT(*) FROM volumes v WHERE v.tenant = t.id) AS volumes FROM tenants t ",
            $rest
        )
    };
}

statements! {
    INSERT = "INSERT INTO tenants (id, name, quota, id_base, network_index, created_at, version) \
        VALUES ($1, $2, $3, $4, $5, $6, 1) ON CONFLICT DO NOTHING";
    NETWORKS = "SELECT network_index FROM tenants ORDER BY network_index";
    GET = select!("WHERE t.id = $1");
    FIND = select!("WHERE t.id = $1 OR t.name = $1 ORDER BY CASE WHEN t.id = $1 THEN 0 ELSE 1 END LIMIT 1");
    LIST = select!("WHERE (t.id = $1 OR $1 IS NULL) AND (t.name > $2 OR $2 IS NULL) ORDER BY t.name LIMIT $3");
    NAME_IS_TAKEN = "SELECT id FROM tenants WHERE name = $1 AND id <> $2";
    UPDATE = "UPDATE tenants SET name = $3, quota = $4, version = version + 1 WHERE id = $1 AND version = $2";
    LOCK = "UPDATE tenants SET version = version WHERE id = $1";
    USE = "SELECT (SELECT COUNT(*) FROM containers WHERE tenant = $1) AS containers, \
        (SELECT COUNT(*) FROM volumes WHERE tenant = $1) AS volumes, \
        (SELECT COUNT(*) FROM users WHERE tenant = $1) AS users, \
        (SELECT CAST(COALESCE(SUM(cpu_millis), 0) AS BIGINT) FROM containers WHERE tenant = $1) AS cpu_millis, \
        (SELECT CAST(COALESCE(SUM(memory_bytes), 0) AS BIGINT) FROM containers WHERE tenant = $1) AS memory_bytes";
    DELETE = "DELETE FROM tenants WHERE id = $1";
}

fn record(row: &Row) -> Result<TenantRecord, StoreError> {
    Ok(TenantRecord {
        id: row.parsed("id")?,
        name: row.text("name")?,
        quota: row.json("quota")?,
        id_base: row.number("id_base")?,
        network_index: row.number("network_index")?,
        created_at: row.time("created_at")?,
        version: row.integer("version")?,
        containers: row.number("containers")?,
        volumes: row.number("volumes")?,
    })
}

/// Makes a tenant and gives it a range of host ids and a network that nobody else has.
pub async fn insert(tx: &mut Tx, new: &NewTenant, ranges: &TenantRanges) -> Result<TenantRecord, StoreError> {
    // Counting up locks out every other insert until this transaction has ended.
    let number = tx.count_up("tenants", 1).await?;
    let id_base = u32::try_from(number - 1)
        .ok()
        .and_then(|slot| slot.checked_mul(ranges.id_count)?.checked_add(ranges.id_first))
        // The last id, 2³² - 1, means "unchanged" to chown.
        .filter(|base| base.checked_add(ranges.id_count).is_some())
        .ok_or(StoreError::Exhausted("range of host ids"))?;
    let mut network_index = 0;
    for row in tx.rows(NETWORKS, args![]).await? {
        if row.number::<u32>("network_index")? != network_index {
            break;
        }
        network_index += 1;
    }
    if network_index >= ranges.networks {
        return Err(StoreError::Exhausted("network"));
    }
    let quota = json("quota", &new.quota)?;
    let values = args![&new.id, &new.name, quota, id_base, network_index, new.created_at];
    if tx.execute(INSERT, values).await? == 0 {
        return Err(StoreError::Taken("name"));
    }
    get(tx, &new.id).await
}

/// The tenant of this id.
pub async fn get(tx: &mut Tx, id: &TenantId) -> Result<TenantRecord, StoreError> {
    let row = tx.row(GET, args![id]).await?;
    row.as_ref().map(record).transpose()?.ok_or(StoreError::NotFound("tenant"))
}

/// The tenant of this id or name, if the scope covers it.
pub async fn find(tx: &mut Tx, scope: &Scope, id_or_name: &str) -> Result<Option<TenantRecord>, StoreError> {
    let row = tx.row(FIND, args![id_or_name]).await?;
    Ok(row.as_ref().map(record).transpose()?.filter(|tenant| scope.covers(&tenant.id)))
}

/// Tenants by name.
pub async fn list(tx: &mut Tx, scope: &Scope, page: &PageRequest) -> Result<Page<TenantRecord>, StoreError> {
    let rows = tx.rows(LIST, args![scope.tenant(), page.cursor.as_deref(), page.fetch()]).await?;
    let tenants = rows.iter().map(record).collect::<Result<_, _>>()?;
    Ok(page.page(tenants, |tenant: &TenantRecord| tenant.name.clone()))
}

/// Writes name and quota if nobody did since the record was read.
pub async fn update_if(tx: &mut Tx, tenant: &TenantRecord) -> Result<TenantRecord, StoreError> {
    lock(tx, &tenant.id).await?;
    if tx.row(NAME_IS_TAKEN, args![&tenant.name, &tenant.id]).await?.is_some() {
        return Err(StoreError::Taken("name"));
    }
    let quota = json("quota", &tenant.quota)?;
    if tx.execute(UPDATE, args![&tenant.id, tenant.version, &tenant.name, quota]).await? == 0 {
        return Err(StoreError::Stale("tenant"));
    }
    get(tx, &tenant.id).await
}

/// Holds the tenant until the transaction ends: whoever checks a quota and then makes something
/// calls this first.
pub async fn lock(tx: &mut Tx, id: &TenantId) -> Result<(), StoreError> {
    match tx.execute(LOCK, args![id]).await? {
        0 => Err(StoreError::NotFound("tenant")),
        _ => Ok(()),
    }
}

/// What the tenant has at present.
pub async fn usage(tx: &mut Tx, id: &TenantId) -> Result<TenantUse, StoreError> {
    let row = tx.row(USE, args![id]).await?.ok_or(StoreError::NotFound("tenant"))?;
    Ok(TenantUse {
        containers: row.number("containers")?,
        volumes: row.number("volumes")?,
        cpu_millis: row.number("cpu_millis")?,
        memory_bytes: row.number("memory_bytes")?,
    })
}

/// Removes a tenant that has no containers, volumes or users; its images' names go with it.
pub async fn delete(tx: &mut Tx, id: &TenantId) -> Result<(), StoreError> {
    lock(tx, id).await?;
    let row = tx.row(USE, args![id]).await?.ok_or(StoreError::NotFound("tenant"))?;
    for column in ["containers", "volumes", "users"] {
        if row.integer(column)? > 0 {
            return Err(StoreError::InUse("tenant"));
        }
    }
    tx.execute(DELETE, args![id]).await.map(drop)
}
