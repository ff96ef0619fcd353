//! Volumes, and which containers mount them.

use std::collections::BTreeMap;

use wharf_shared::id::{ContainerId, TenantId, VolumeId};
use wharf_shared::page::Page;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::pagination::PageRequest;
use crate::row::{Row, args, json};
use crate::scope::Scope;
use crate::statement::statements;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Id.
    pub id: VolumeId,
    /// Whose.
    pub tenant: TenantId,
    /// The tenant's name; ignored when written.
    pub tenant_name: String,
    /// Name, unique within the tenant.
    pub name: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT v.id, v.tenant, t.name AS tenant_name, v.name, v.labels, v.created_at ",
            "FROM volumes v JOIN tenants t ON t.id = v.tenant WHERE (v.tenant = $1 OR $1 IS NULL) ",
            $rest
        )
    };
}

statements! {
    INSERT = "INSERT INTO volumes (id, tenant, name, labels, created_at) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT DO NOTHING";
    GET = select!("AND v.id = $2");
    FIND = select!("AND (v.id = $2 OR v.name = $2) ORDER BY CASE WHEN v.id = $2 THEN 0 ELSE 1 END LIMIT 3");
    LIST = select!("AND (v.id > $2 OR $2 IS NULL) ORDER BY v.id LIMIT $3");
    USED_BY = "SELECT c.name FROM container_volumes m JOIN containers c ON c.id = m.container \
        WHERE m.volume = $1 ORDER BY c.name";
    ATTACH_ANONYMOUS = "INSERT INTO container_volumes (container, volume, anonymous_target) VALUES ($1, $2, $3)";
    ANONYMOUS = "SELECT volume, anonymous_target FROM container_volumes \
        WHERE container = $1 AND anonymous_target IS NOT NULL ORDER BY anonymous_target";
    DELETE = "DELETE FROM volumes WHERE id = $2 AND (tenant = $1 OR $1 IS NULL)";
}

fn record(row: &Row) -> Result<VolumeRecord, StoreError> {
    Ok(VolumeRecord {
        id: row.parsed("id")?,
        tenant: row.parsed("tenant")?,
        tenant_name: row.text("tenant_name")?,
        name: row.text("name")?,
        labels: row.json("labels")?,
        created_at: row.time("created_at")?,
    })
}

/// Makes a volume.
pub async fn insert(tx: &mut Tx, volume: &VolumeRecord) -> Result<(), StoreError> {
    let labels = json("labels", &volume.labels)?;
    let values = args![&volume.id, &volume.tenant, &volume.name, labels, volume.created_at];
    match tx.execute(INSERT, values).await? {
        0 => Err(StoreError::Taken("name")),
        _ => Ok(()),
    }
}

/// The volume of this id.
pub async fn get(tx: &mut Tx, scope: &Scope, id: &VolumeId) -> Result<VolumeRecord, StoreError> {
    let row = tx.row(GET, args![scope.tenant(), id]).await?;
    row.as_ref().map(record).transpose()?.ok_or(StoreError::NotFound("volume"))
}

/// The volume of this id or name; an error if several tenants of the scope have the name.
pub async fn find(tx: &mut Tx, scope: &Scope, id_or_name: &str) -> Result<Option<VolumeRecord>, StoreError> {
    let rows = tx.rows(FIND, args![scope.tenant(), id_or_name]).await?;
    let mut found = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
    if found.len() > 1 && found.first().is_some_and(|volume| volume.id.as_str() != id_or_name) {
        return Err(StoreError::Ambiguous("volume"));
    }
    found.truncate(1);
    Ok(found.pop())
}

/// Volumes, oldest first.
pub async fn list(tx: &mut Tx, scope: &Scope, page: &PageRequest) -> Result<Page<VolumeRecord>, StoreError> {
    let rows = tx.rows(LIST, args![scope.tenant(), page.cursor.as_deref(), page.fetch()]).await?;
    let volumes = rows.iter().map(record).collect::<Result<_, _>>()?;
    Ok(page.page(volumes, |volume: &VolumeRecord| volume.id.to_string()))
}

/// Names of the containers that mount it.
pub async fn used_by(tx: &mut Tx, id: &VolumeId) -> Result<Vec<String>, StoreError> {
    let rows = tx.rows(USED_BY, args![id]).await?;
    rows.iter().map(|row| row.text("name")).collect()
}

/// Gives a container a volume of its own at this path, which its image declares.
pub async fn attach_anonymous(
    tx: &mut Tx,
    container: &ContainerId,
    volume: &VolumeId,
    target: &str,
) -> Result<(), StoreError> {
    tx.execute(ATTACH_ANONYMOUS, args![container, volume, target]).await.map(drop)
}

/// A container's own volumes, by the paths where they are mounted.
pub async fn anonymous_of(
    tx: &mut Tx,
    container: &ContainerId,
) -> Result<BTreeMap<String, VolumeId>, StoreError> {
    let rows = tx.rows(ANONYMOUS, args![container]).await?;
    rows.iter().map(|row| Ok((row.text("anonymous_target")?, row.parsed("volume")?))).collect()
}

/// Removes a volume that no container mounts.
pub async fn delete(tx: &mut Tx, scope: &Scope, id: &VolumeId) -> Result<(), StoreError> {
    let volume = get(tx, scope, id).await?;
    // Containers that could begin to mount it are made under the same lock.
    crate::tenants::lock(tx, &volume.tenant).await?;
    if !used_by(tx, id).await?.is_empty() {
        return Err(StoreError::InUse("volume"));
    }
    match tx.execute(DELETE, args![scope.tenant(), id]).await? {
        0 => Err(StoreError::NotFound("volume")),
        _ => Ok(()),
    }
}
