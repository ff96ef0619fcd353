//! Containers: what was asked for and what was last seen.
//!
//! Two writers share a row: services change what is wanted ([`update_if`], guarded by the version
//! that was read) and the host writes what it sees ([`observe`], unguarded: facts win). Each writes
//! its own columns only, and both count the version up.

use std::net::Ipv4Addr;

use wharf_shared::container::{ContainerSpec, ContainerState, ExitView};
use wharf_shared::health::HealthStatus;
use wharf_shared::id::{ContainerId, TenantId, VolumeId};
use wharf_shared::network::PortMapping;
use wharf_shared::page::Page;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::pagination::PageRequest;
use crate::row::{Row, Value, args, json};
use crate::scope::Scope;
use crate::statement::statements;

/// Least length of an id's beginning that is taken for it.
const PREFIX_MIN: usize = 4;

/// What somebody wants a container to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Desired {
    /// Run.
    Running,
    /// Be frozen.
    Paused,
    /// Not run.
    Stopped,
    /// Not exist.
    Removed,
}

impl Desired {
    const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Stopped, Self::Removed];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Removed => "removed",
        }
    }
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    /// Id.
    pub id: ContainerId,
    /// Whose.
    pub tenant: TenantId,
    /// The tenant's name; ignored when written.
    pub tenant_name: String,
    /// Name, unique within the tenant.
    pub name: String,
    /// What was asked for.
    pub spec: ContainerSpec,
    /// What it is wanted to do.
    pub desired: Desired,
    /// When it was created.
    pub created_at: Timestamp,
    /// Changes with each change.
    pub version: i64,
    /// What was last seen.
    pub observed: Observed,
}

/// What the host sees of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Where it is in its life.
    pub state: ContainerState,
    /// Which start it is; 0 before the first.
    pub generation: u64,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// How it last ended.
    pub exit: Option<ExitView>,
    /// Restarts by its policy since it was last started by hand.
    pub restart_count: u32,
    /// Digest of the image it runs.
    pub image_digest: Option<String>,
    /// The command line it runs.
    pub command_line: Vec<String>,
    /// Process id on the host, while it runs.
    pub pid: Option<i32>,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Published ports with the host ports they really have.
    pub ports: Vec<PortMapping>,
    /// Its cgroup, relative to each hierarchy.
    pub cgroup_path: Option<String>,
    /// When it last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// How it is, while it runs and is checked.
    pub health: Option<HealthStatus>,
    /// Its tenant's budget has paused it, or is about to, and lets it go on.
    pub held: bool,
}

impl Default for Observed {
    /// Never started.
    fn default() -> Self {
        Self {
            state: ContainerState::Created,
            generation: 0,
            error: None,
            exit: None,
            restart_count: 0,
            image_digest: None,
            command_line: Vec::new(),
            pid: None,
            address: None,
            ports: Vec::new(),
            cgroup_path: None,
            started_at: None,
            finished_at: None,
            health: None,
            held: false,
        }
    }
}

/// Which containers to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFilter {
    /// In one of these states; every state when empty.
    pub states: Vec<ContainerState>,
    /// With this in their name, whatever the case.
    pub name: Option<String>,
    /// With this label, and with this value of it if one is given.
    pub label: Option<(String, Option<String>)>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.tenant, t.name AS tenant_name, c.name, c.spec, c.desired, c.state, c.generation, ",
            "c.error, c.exit, c.restart_count, c.image_digest, c.command_line, c.pid, c.address, c.ports, ",
            "c.cgroup_path, c.created_at, c.started_at, c.finished_at, c.health, c.held, c.version ",
            "FROM containers c JOIN tenants t ON t.id = c.tenant WHERE (c.tenant = $1 OR $1 IS NULL) ",
            $rest
        )
    };
}

statements! {
    INSERT = "INSERT INTO containers (id, tenant, name, spec, cpu_millis, memory_bytes, desired, created_at, \
        version, state, generation, error, exit, restart_count, image_digest, command_line, pid, address, \
        ports, cgroup_path, started_at, finished_at, health, held) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10, \
        $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23) ON CONFLICT DO NOTHING";
    INSERT_LABEL = "INSERT INTO container_labels (container, name, value) VALUES ($1, $2, $3)";
    INSERT_VOLUME = "INSERT INTO container_volumes (container, volume) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    GET = select!("AND c.id = $2");
    FIND = select!("AND (c.id = $2 OR c.name = $2) \
        ORDER BY CASE WHEN c.id = $2 THEN 0 ELSE 1 END LIMIT 3");
    FIND_PREFIX = select!("AND c.id >= $2 AND c.id < $3 ORDER BY c.id LIMIT 2");
    LIST = select!("AND (c.created_at < $2 OR (c.created_at = $2 AND c.id > $3) OR $2 IS NULL) \
        AND ($4 LIKE '%,' || c.state || ',%' OR $4 = '') \
        AND (LOWER(c.name) LIKE $5 ESCAPE '!' OR $5 IS NULL) \
        AND (EXISTS (SELECT 1 FROM container_labels l WHERE l.container = c.id \
            AND l.name = $6 AND (l.value = $7 OR $7 IS NULL)) OR $6 IS NULL) \
        ORDER BY c.created_at DESC, c.id LIMIT $8");
    NAME_IS_TAKEN = "SELECT id FROM containers WHERE tenant = $1 AND name = $2 AND id <> $3";
    UPDATE = "UPDATE containers SET name = $3, spec = $4, cpu_millis = $5, memory_bytes = $6, desired = $7, \
        version = version + 1 WHERE id = $1 AND version = $2 RETURNING version";
    OBSERVE = "UPDATE containers SET state = $2, generation = $3, error = $4, exit = $5, restart_count = $6, \
        image_digest = $7, command_line = $8, pid = $9, address = $10, ports = $11, cgroup_path = $12, \
        started_at = $13, finished_at = $14, health = $15, held = $16, \
        version = version + 1 WHERE id = $1 RETURNING version";
    DELETE = "DELETE FROM containers WHERE id = $1";
}

fn record(row: &Row) -> Result<ContainerRecord, StoreError> {
    const STATES: [ContainerState; 10] = [
        ContainerState::Created,
        ContainerState::Pulling,
        ContainerState::Starting,
        ContainerState::Running,
        ContainerState::Paused,
        ContainerState::Stopping,
        ContainerState::Exited,
        ContainerState::Failed,
        ContainerState::Restarting,
        ContainerState::Removing,
    ];
    let exit = row.optional_text("exit")?.map(|_| row.json("exit")).transpose()?;
    let pid = row.optional_integer("pid")?.map(i32::try_from).transpose();
    Ok(ContainerRecord {
        id: row.parsed("id")?,
        tenant: row.parsed("tenant")?,
        tenant_name: row.text("tenant_name")?,
        name: row.text("name")?,
        spec: row.json("spec")?,
        desired: row.word("desired", |word| Desired::ALL.into_iter().find(|known| known.as_str() == word))?,
        created_at: row.time("created_at")?,
        version: row.integer("version")?,
        observed: Observed {
            state: row.word("state", |word| STATES.into_iter().find(|known| known.as_str() == word))?,
            generation: row.number("generation")?,
            error: row.optional_text("error")?,
            exit,
            restart_count: row.number("restart_count")?,
            image_digest: row.optional_text("image_digest")?,
            command_line: row.json("command_line")?,
            pid: pid.ok().ok_or(StoreError::corrupt("pid"))?,
            address: row.optional_parsed("address")?,
            ports: row.json("ports")?,
            cgroup_path: row.optional_text("cgroup_path")?,
            started_at: row.optional_time("started_at")?,
            finished_at: row.optional_time("finished_at")?,
            health: row
                .optional_text("health")?
                .and_then(|word| HealthStatus::ALL.into_iter().find(|known| known.as_str() == word)),
            held: row.integer("held")? != 0,
        },
    })
}

/// The observed columns, in the order of `OBSERVE` from `$2` on and of `INSERT` from `$9` on.
fn observed_values(observed: &Observed) -> Result<Vec<Value>, StoreError> {
    Ok(args![
        observed.state.as_str(),
        observed.generation,
        observed.error.as_deref(),
        observed.exit.as_ref().map(|exit| json("exit", exit)).transpose()?,
        observed.restart_count,
        observed.image_digest.as_deref(),
        json("command_line", &observed.command_line)?,
        observed.pid.map(i64::from),
        observed.address.map(|address| address.to_string()),
        json("ports", &observed.ports)?,
        observed.cgroup_path.as_deref(),
        observed.started_at,
        observed.finished_at,
        observed.health.map(HealthStatus::as_str),
        i64::from(observed.held),
    ])
}

fn memory(spec: &ContainerSpec) -> Option<i64> {
    spec.limits.memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// Makes a container that mounts these volumes. `version` of the record is not used; it begins at 1.
pub async fn insert(
    tx: &mut Tx,
    container: &ContainerRecord,
    volumes: &[VolumeId],
) -> Result<(), StoreError> {
    let ContainerRecord { id, tenant, name, spec, desired, created_at, observed, .. } = container;
    let mut values = args![
        id,
        tenant,
        name,
        json("spec", spec)?,
        spec.limits.cpu_millis.map(i64::from),
        memory(spec),
        desired.as_str(),
        *created_at,
    ];
    values.extend(observed_values(observed)?);
    if tx.execute(INSERT, values).await? == 0 {
        return Err(StoreError::Taken("name"));
    }
    for (name, value) in &spec.labels {
        tx.execute(INSERT_LABEL, args![id, name, value]).await?;
    }
    for volume in volumes {
        tx.execute(INSERT_VOLUME, args![id, volume]).await?;
    }
    Ok(())
}

/// The container of this id.
pub async fn get(tx: &mut Tx, scope: &Scope, id: &ContainerId) -> Result<ContainerRecord, StoreError> {
    let row = tx.row(GET, args![scope.tenant(), id]).await?;
    row.as_ref().map(record).transpose()?.ok_or(StoreError::NotFound("container"))
}

/// The container of this id, name, or beginning of an id of at least 4 characters, in this order.
/// An error if several fit.
pub async fn find(tx: &mut Tx, scope: &Scope, text: &str) -> Result<Option<ContainerRecord>, StoreError> {
    let mut rows = tx.rows(FIND, args![scope.tenant(), text]).await?;
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if rows.is_empty() && is_hex && (PREFIX_MIN..64).contains(&text.len()) {
        // 'g' follows 'f', the last character of an id, in every collation.
        rows = tx.rows(FIND_PREFIX, args![scope.tenant(), text, format!("{text}g")]).await?;
    }
    let mut found = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
    if found.len() > 1 && found.first().is_some_and(|container| container.id.as_str() != text) {
        return Err(StoreError::Ambiguous("container"));
    }
    found.truncate(1);
    Ok(found.pop())
}

/// Containers, newest first.
pub async fn list(
    tx: &mut Tx,
    scope: &Scope,
    filter: &ContainerFilter,
    page: &PageRequest,
) -> Result<Page<ContainerRecord>, StoreError> {
    let cursor = page.cursor.as_deref().and_then(|cursor| cursor.split_once('.'));
    let created_at = cursor.and_then(|(created_at, _)| created_at.parse::<i64>().ok());
    if page.cursor.is_some() && created_at.is_none() {
        return Err(StoreError::Refused("the cursor is not one of this list"));
    }
    let states = match filter.states.as_slice() {
        [] => String::new(),
        states => states.iter().fold(",".to_owned(), |list, state| format!("{list}{},", state.as_str())),
    };
    let name = filter.name.as_ref().map(|name| {
        let escaped = name.to_lowercase().replace('!', "!!").replace('%', "!%").replace('_', "!_");
        format!("%{escaped}%")
    });
    let label = filter.label.as_ref();
    let values = args![
        scope.tenant(),
        created_at,
        cursor.map(|(_, id)| id),
        states,
        name,
        label.map(|(name, _)| name.as_str()),
        label.and_then(|(_, value)| value.as_deref()),
        page.fetch(),
    ];
    let rows = tx.rows(LIST, values).await?;
    let containers = rows.iter().map(record).collect::<Result<_, _>>()?;
    Ok(page.page(containers, |container: &ContainerRecord| {
        format!("{}.{}", container.created_at.0, container.id)
    }))
}

/// Writes name, spec and what is wanted, if nobody changed the container since the record was
/// read, and returns the new version. What was seen, labels and mounts stay as they are.
pub async fn update_if(tx: &mut Tx, container: &ContainerRecord) -> Result<i64, StoreError> {
    let ContainerRecord { id, tenant, name, spec, desired, version, .. } = container;
    crate::tenants::lock(tx, tenant).await?;
    if tx.row(NAME_IS_TAKEN, args![tenant, name, id]).await?.is_some() {
        return Err(StoreError::Taken("name"));
    }
    let values = args![
        id,
        *version,
        name,
        json("spec", spec)?,
        spec.limits.cpu_millis.map(i64::from),
        memory(spec),
        desired.as_str(),
    ];
    tx.row(UPDATE, values).await?.ok_or(StoreError::Stale("container"))?.integer("version")
}

/// Writes what the host sees, whatever the version, and returns the new version.
pub async fn observe(tx: &mut Tx, id: &ContainerId, observed: &Observed) -> Result<i64, StoreError> {
    let mut values = args![id];
    values.extend(observed_values(observed)?);
    tx.row(OBSERVE, values).await?.ok_or(StoreError::NotFound("container"))?.integer("version")
}

/// Removes the row, with its labels, mounts, address and ports; whether there was one.
pub async fn delete(tx: &mut Tx, id: &ContainerId) -> Result<bool, StoreError> {
    Ok(tx.execute(DELETE, args![id]).await? > 0)
}
