//! Usage by hour: sums of the journal's readings, and how far they go.
//!
//! Sums are derived and can be made anew from the journal. [`apply`] adds a stretch of the journal
//! and moves that host's watermark in the same transaction, so a stretch that is sent again changes
//! nothing. Quantities are integers of up to 39 digits, kept as text; they are added here, not in
//! SQL, because no engine's integer is that long.

use std::collections::BTreeMap;

use wharf_shared::id::{ContainerId, HostId, TenantId};
use wharf_shared::page::Page;
use wharf_shared::time::Timestamp;
pub use wharf_shared::usage::UsageHour;
use wharf_shared::usage::{Meter, Quality};

use crate::db::Tx;
use crate::error::StoreError;
use crate::late;
use crate::pagination::{LIMIT_MAX, PageRequest};
use crate::row::{Row, args, json};
use crate::scope::Scope;
use crate::statement::statements;

pub(crate) type HourKey = (Timestamp, TenantId, Option<ContainerId>, Meter);

pub(crate) fn key(of: &UsageHour) -> HourKey {
    (of.hour, of.tenant.clone(), of.container.clone(), of.meter)
}

/// What readings add to one row, and what corrections take away from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// The row; its quantity is what is added.
    pub hour: UsageHour,
    /// How much is taken away. Never more than is there when the journal's corrections were made by an agent.
    pub taken: u128,
}

impl From<UsageHour> for Addition {
    fn from(hour: UsageHour) -> Self {
        Self { hour, taken: 0 }
    }
}

/// Which hours to read: `[from, to)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    /// First hour.
    pub from: Timestamp,
    /// The hour after the last.
    pub to: Timestamp,
    /// One container only.
    pub container: Option<ContainerId>,
}

/// Where a row stands in the order of [`list`]: give that of the last row to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageCursor {
    /// Its hour.
    pub hour: Timestamp,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its container.
    pub container: Option<ContainerId>,
    /// Its meter.
    pub meter: Meter,
}

impl From<&UsageHour> for UsageCursor {
    fn from(row: &UsageHour) -> Self {
        let UsageHour { hour, tenant, container, meter, .. } = row;
        Self { hour: *hour, tenant: tenant.clone(), container: container.clone(), meter: *meter }
    }
}

impl std::fmt::Display for UsageCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let container = self.container.as_ref().map_or("", ContainerId::as_str);
        write!(f, "{}.{}.{container}.{}", self.hour.0, self.tenant, self.meter.as_str())
    }
}

impl std::str::FromStr for UsageCursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let parsed = || {
            let mut parts = text.splitn(4, '.');
            let hour = Timestamp(parts.next()?.parse().ok()?);
            let tenant = parts.next()?.parse().ok()?;
            let container = match parts.next()? {
                "" => None,
                id => Some(id.parse().ok()?),
            };
            Some(Self { hour, tenant, container, meter: Meter::from_name(parts.next()?)? })
        };
        parsed().ok_or(StoreError::Refused("the cursor is not one of this list"))
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT hour, tenant, container, meter, tenant_name, container_name, labels, quantity, quality ",
            "FROM usage_hours ",
            $rest
        )
    };
}

statements! {
    WATERMARK = "SELECT seq FROM usage_watermarks WHERE host = $1";
    ROLLED_UP = "SELECT seq, reported_at FROM usage_watermarks WHERE host = $1";
    BEGIN_WATERMARK = "INSERT INTO usage_watermarks (host, seq) VALUES ($1, 0) ON CONFLICT DO NOTHING";
    MOVE_WATERMARK = "UPDATE usage_watermarks SET seq = $3 WHERE host = $1 AND seq = $2";
    GET = select!("WHERE hour = $1 AND tenant = $2 AND container = $3 AND meter = $4");
    PUT = "INSERT INTO usage_hours \
        (hour, tenant, container, meter, tenant_name, container_name, quantity, quality, labels) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (hour, tenant, container, meter) DO UPDATE SET \
        tenant_name = excluded.tenant_name, container_name = excluded.container_name, \
        labels = excluded.labels, quantity = excluded.quantity, quality = excluded.quality";
    LIST = select!("WHERE hour >= $1 AND hour < $2 AND (tenant = $3 OR $3 IS NULL) \
        AND (container = $4 OR $4 IS NULL) \
        AND (hour > $5 OR (hour = $5 AND (tenant > $6 OR (tenant = $6 \
            AND (container > $7 OR (container = $7 AND meter > $8))))) OR $5 IS NULL) \
        ORDER BY hour, tenant, container, meter LIMIT $9");
    TENANTS = "SELECT tenant, MAX(tenant_name) AS tenant_name FROM usage_hours \
        WHERE hour >= $1 AND hour < $2 AND (tenant = $3 OR $3 IS NULL) AND (tenant > $4 OR $4 IS NULL) \
        GROUP BY tenant ORDER BY tenant LIMIT $5";
    REPORT = "UPDATE usage_watermarks SET reported_at = $2, retired_at = 0, retired_reason = '' \
        WHERE host = $1 AND reported_at < $3";
    BEHIND = "SELECT host FROM usage_watermarks WHERE reported_at < $1 AND retired_at = 0 ORDER BY host LIMIT 1";
    BILLED = "SELECT number FROM statements LIMIT 1";
    CLEAR = "DELETE FROM usage_hours";
    CLEAR_WATERMARKS = "DELETE FROM usage_watermarks";
}

fn record(row: &Row) -> Result<UsageHour, StoreError> {
    Ok(UsageHour {
        hour: row.time("hour")?,
        tenant: row.parsed("tenant")?,
        container: row.optional_parsed("container")?,
        meter: row.word("meter", Meter::from_name)?,
        tenant_name: row.text("tenant_name")?,
        container_name: row.text("container_name")?,
        labels: row.json("labels")?,
        quantity: row.parsed("quantity")?,
        quality: row.word("quality", Quality::from_name)?,
    })
}

/// Up to which reading this host's journal is in the sums; 0 before the first.
pub async fn watermark(tx: &mut Tx, host: &HostId) -> Result<i64, StoreError> {
    Ok(tx.row(WATERMARK, args![host]).await?.map(|row| row.integer("seq")).transpose()?.unwrap_or(0))
}

/// The watermark, and the moment before which everything in the journal is in the sums; 0 and `None` before the
/// first roll-up.
///
/// # Errors
///
/// Those of the database.
pub async fn rolled_up(tx: &mut Tx, host: &HostId) -> Result<(i64, Option<Timestamp>), StoreError> {
    let Some(row) = tx.row(ROLLED_UP, args![host]).await? else { return Ok((0, None)) };
    Ok((row.integer("seq")?, Some(row.time("reported_at")?).filter(|at| at.0 > 0)))
}

/// Adds what readings `(from, to]` of a host's journal counted. `false`, and nothing changed, if
/// the watermark is not at `from`: those readings, or some of them, are in the sums already. What belongs to
/// a period that was billed goes to the first one that was not ([`crate::late`]).
pub async fn apply<A: Clone + Into<Addition>>(
    tx: &mut Tx,
    host: &HostId,
    from: i64,
    to: i64,
    additions: &[A],
) -> Result<bool, StoreError> {
    if to < from {
        return Err(StoreError::Refused("a watermark does not go back"));
    }
    tx.execute(BEGIN_WATERMARK, args![host]).await?;
    if tx.execute(MOVE_WATERMARK, args![host, from, to]).await? == 0 {
        return Ok(false);
    }
    // One read and one write for each row that is touched, however many readings touch it.
    let mut sums: BTreeMap<HourKey, UsageHour> = BTreeMap::new();
    let additions = additions.iter().cloned().map(Into::into).collect();
    for addition in late::place(tx, host, (from, to), additions).await? {
        let key = key(&addition.hour);
        let sum = match sums.remove(&key) {
            Some(sum) => Some(sum),
            None => get(tx, &key).await?,
        };
        sums.insert(key, add(sum, addition)?);
    }
    for sum in sums.values() {
        let values = args![
            sum.hour,
            &sum.tenant,
            container_text(sum.container.as_ref()),
            sum.meter.as_str(),
            &sum.tenant_name,
            &sum.container_name,
            sum.quantity.to_string(),
            sum.quality.as_str(),
            json("labels", &sum.labels)?,
        ];
        tx.execute(PUT, values).await?;
    }
    Ok(true)
}

/// Names and labels follow the last addition, quantities are added.
fn add(sum: Option<UsageHour>, Addition { hour, taken }: Addition) -> Result<UsageHour, StoreError> {
    let (before, quality) =
        sum.map_or((0, hour.quality), |sum| (sum.quantity, sum.quality.and(hour.quality)));
    let added = before.checked_add(hour.quantity).ok_or(StoreError::corrupt("quantity"))?;
    // An hour never goes below nothing.
    Ok(UsageHour { quantity: added.saturating_sub(taken), quality, ..hour })
}

pub(crate) fn container_text(container: Option<&ContainerId>) -> &str {
    container.map_or("", ContainerId::as_str)
}

async fn get(
    tx: &mut Tx,
    (hour, tenant, container, meter): &HourKey,
) -> Result<Option<UsageHour>, StoreError> {
    let container = container_text(container.as_ref());
    let row = tx.row(GET, args![*hour, tenant, container, meter.as_str()]).await?;
    row.as_ref().map(record).transpose()
}

/// The row of this hour, tenant, container (`None`: the tenant's whole cgroup) and meter.
pub async fn find(tx: &mut Tx, of: &UsageCursor) -> Result<Option<UsageHour>, StoreError> {
    let UsageCursor { hour, tenant, container, meter } = of;
    get(tx, &(*hour, tenant.clone(), container.clone(), *meter)).await
}

/// Hours in the order of hour, tenant, container (the tenant's whole cgroup first) and meter.
pub async fn list(
    tx: &mut Tx,
    scope: &Scope,
    query: &UsageQuery,
    after: Option<&UsageCursor>,
    limit: u32,
) -> Result<Vec<UsageHour>, StoreError> {
    // The first condition is what the index serves: a later page does not begin at the first hour.
    let from = after.map_or(query.from, |after| query.from.max(after.hour));
    let values = args![
        from,
        query.to,
        scope.tenant(),
        query.container.as_ref(),
        after.map(|after| after.hour),
        after.map(|after| &after.tenant),
        after.map(|after| container_text(after.container.as_ref())),
        after.map(|after| after.meter.as_str()),
        limit,
    ];
    tx.rows(LIST, values).await?.iter().map(record).collect()
}

/// Reads a period tenant by tenant: each call gives all rows of one tenant's next hour, so that a
/// whole export never has to be in memory.
#[derive(Debug)]
pub struct UsageStream {
    scope: Scope,
    query: UsageQuery,
    after: Option<UsageCursor>,
    read_ahead: std::collections::VecDeque<UsageHour>,
    ended: bool,
}

impl UsageStream {
    /// Begins at the first row.
    pub const fn new(scope: Scope, query: UsageQuery) -> Self {
        Self { scope, query, after: None, read_ahead: std::collections::VecDeque::new(), ended: false }
    }

    /// All rows of the next tenant and hour; empty at the end. Give the same transaction each time
    /// (one of [`crate::Db::read`]) to see one moment throughout.
    pub async fn next(&mut self, tx: &mut Tx) -> Result<Vec<UsageHour>, StoreError> {
        let mut group: Vec<UsageHour> = Vec::new();
        loop {
            while let Some(row) = self.read_ahead.pop_front() {
                if group.first().is_some_and(|first| (first.hour, &first.tenant) != (row.hour, &row.tenant)) {
                    self.read_ahead.push_front(row);
                    return Ok(group);
                }
                group.push(row);
            }
            if self.ended {
                return Ok(group);
            }
            let rows = list(tx, &self.scope, &self.query, self.after.as_ref(), LIMIT_MAX).await?;
            self.ended = rows.is_empty();
            self.after = rows.last().map(UsageCursor::from).or(self.after.take());
            self.read_ahead.extend(rows);
        }
    }
}

/// Notes that everything in a host's journal before `at` is in the sums. Written at most once a minute. A host that
/// was retired and reports all the same is not retired any more.
///
/// # Errors
///
/// Those of the database.
pub async fn report(tx: &mut Tx, host: &HostId, at: Timestamp) -> Result<(), StoreError> {
    const EVERY_US: i64 = 60_000_000;
    tx.execute(BEGIN_WATERMARK, args![host]).await?;
    let before = Timestamp(at.0.saturating_sub(EVERY_US).saturating_add(1));
    tx.execute(REPORT, args![host, at, before]).await.map(drop)
}

/// A host whose hours before `moment` may still change, because it has not been rolled up since and is not retired.
///
/// # Errors
///
/// Those of the database.
pub async fn host_behind(tx: &mut Tx, moment: Timestamp) -> Result<Option<HostId>, StoreError> {
    tx.row(BEHIND, args![moment]).await?.map(|row| row.parsed("host")).transpose()
}

/// Tenants that have hours in `[from, to)`, by id, with a name that they had.
///
/// # Errors
///
/// Those of the database.
pub async fn tenants(
    tx: &mut Tx,
    scope: &Scope,
    (from, to): (Timestamp, Timestamp),
    page: &PageRequest,
) -> Result<Page<(TenantId, String)>, StoreError> {
    let values = args![from, to, scope.tenant(), page.cursor.as_deref(), page.fetch()];
    let rows = tx.rows(TENANTS, values).await?;
    let tenants = rows.iter().map(|row| Ok((row.parsed("tenant")?, row.text("tenant_name")?)));
    let tenants = tenants.collect::<Result<_, StoreError>>()?;
    Ok(page.page(tenants, |(tenant, _): &(TenantId, String)| tenant.to_string()))
}

/// Forgets all sums and watermarks, in the transaction that makes them anew from the journals.
///
/// # Errors
///
/// Those of the database; refused once something was billed, as all that was would come late a second time.
pub async fn clear(tx: &mut Tx) -> Result<(), StoreError> {
    if tx.row(BILLED, args![]).await?.is_some() {
        return Err(StoreError::Refused("hours that statements were made of are not made anew"));
    }
    tx.execute(CLEAR, args![]).await?;
    tx.execute(CLEAR_WATERMARKS, args![]).await.map(drop)
}
