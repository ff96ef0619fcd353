//! Usage that comes after its period was billed, and what keeps a roll-up and a statement apart.
//!
//! A billed period's hours never change: what is rolled up for them later goes to the first period without a
//! statement, and a row says from where. Whoever adds to a period counts up its version first ([`place`]), and
//! whoever issues holds it ([`hold`]) and looks whether it is the one that was computed. Both do so before they
//! look for the other, so that usage is in the statement or late, and never both or neither.

use std::collections::BTreeMap;

use wharf_billing::rating::period;
use wharf_shared::id::{ContainerId, HostId, TenantId};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, UsageHour};

use crate::db::Tx;
use crate::error::StoreError;
use crate::row::{Row, args};
use crate::statement::statements;
use crate::statements::number_of_period;
use crate::usage::{Addition, HourKey, container_text, key};

statements! {
    VERSION = "SELECT version FROM usage_periods WHERE tenant = $1 AND from_us = $2";
    COUNT_UP = "INSERT INTO usage_periods (tenant, from_us, version) VALUES ($1, $2, 1) \
        ON CONFLICT (tenant, from_us) DO UPDATE SET version = usage_periods.version + 1";
    HOLD = "INSERT INTO usage_periods (tenant, from_us, version) VALUES ($1, $2, 0) \
        ON CONFLICT (tenant, from_us) DO UPDATE SET version = usage_periods.version RETURNING version";
    ROWS = "SELECT hour, quantity FROM usage_hours WHERE tenant = $1 AND hour >= $2 AND hour < $3 \
        AND container = $4 AND meter = $5 ORDER BY hour";
    PUT = "INSERT INTO usage_late (host, from_seq, seq, tenant, container, meter, hour, booked_hour, quantity, \
        taken, statement) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    LIST = "SELECT host, from_seq, seq, container, meter, hour, booked_hour, quantity, taken, statement \
        FROM usage_late WHERE tenant = $1 AND booked_hour >= $2 AND booked_hour < $3 \
        ORDER BY booked_hour, container, meter, hour, host, seq";
}

/// Usage that stands in another hour than its own, because that was billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// Whose journal it came from.
    pub host: HostId,
    /// The first and the last number of the stretch of that journal.
    pub seqs: (i64, i64),
    /// The container; `None` for the tenant's whole cgroup.
    pub container: Option<ContainerId>,
    /// What.
    pub meter: Meter,
    /// The hour in which it was used.
    pub hour: Timestamp,
    /// The hour in which it stands.
    pub booked_hour: Timestamp,
    /// How much, in the meter's unit.
    pub quantity: u128,
    /// How much a correction has taken away instead.
    pub taken: u128,
    /// The number of the statement that had billed its period.
    pub statement: String,
}

/// How often a tenant's period was added to.
///
/// # Errors
///
/// Those of the database.
pub async fn version(tx: &mut Tx, tenant: &TenantId, from: Timestamp) -> Result<i64, StoreError> {
    let row = tx.row(VERSION, args![tenant, from]).await?;
    Ok(row.map(|row| row.integer("version")).transpose()?.unwrap_or(0))
}

/// The same, and until the end of this transaction nobody adds to it.
///
/// # Errors
///
/// Those of the database.
pub async fn hold(tx: &mut Tx, tenant: &TenantId, from: Timestamp) -> Result<i64, StoreError> {
    let row = tx.row(HOLD, args![tenant, from]).await?;
    row.ok_or(StoreError::corrupt("usage_periods.version"))?.integer("version")
}

/// What of a tenant's late usage stands in the hours `[from, to)`.
///
/// # Errors
///
/// Those of the database.
pub async fn list(
    tx: &mut Tx,
    tenant: &TenantId,
    (from, to): (Timestamp, Timestamp),
) -> Result<Vec<Late>, StoreError> {
    let record = |row: &Row| {
        Ok(Late {
            host: row.parsed("host")?,
            seqs: (row.integer("from_seq")?, row.integer("seq")?),
            container: row.optional_parsed("container")?,
            meter: row.word("meter", Meter::from_name)?,
            hour: row.time("hour")?,
            booked_hour: row.time("booked_hour")?,
            quantity: row.parsed("quantity")?,
            taken: row.parsed("taken")?,
            statement: row.text("statement")?,
        })
    };
    tx.rows(LIST, args![tenant, from, to]).await?.iter().map(record).collect()
}

/// Where a period's additions go that was billed.
struct Elsewhere {
    statement: String,
    /// Begin of the first period after it without a statement.
    open: Timestamp,
}

/// Counts up the periods that are added to, and moves what belongs to a billed one; what it was is kept beside it.
pub(crate) async fn place(
    tx: &mut Tx,
    host: &HostId,
    (from, to): (i64, i64),
    additions: Vec<Addition>,
) -> Result<Vec<Addition>, StoreError> {
    let of = |addition: &Addition| (addition.hour.tenant.clone(), period(addition.hour.hour).0);
    let mut periods: BTreeMap<(TenantId, Timestamp), Option<Elsewhere>> =
        additions.iter().map(|addition| (of(addition), None)).collect();
    // In one order everywhere, so that two hosts' roll-ups never wait for each other.
    for ((tenant, begin), elsewhere) in &mut periods {
        *elsewhere = look(tx, tenant, *begin).await?;
    }
    let mut placed = Vec::with_capacity(additions.len());
    let mut spent = BTreeMap::new();
    for addition in additions {
        let Some(Some(Elsewhere { statement, open })) = periods.get(&of(&addition)) else {
            placed.push(addition);
            continue;
        };
        for part in parts(tx, &addition, *open, &mut spent).await? {
            let values = args![
                host,
                from.saturating_add(1),
                to,
                &part.hour.tenant,
                container_text(part.hour.container.as_ref()),
                part.hour.meter.as_str(),
                addition.hour.hour,
                part.hour.hour,
                part.hour.quantity.to_string(),
                part.taken.to_string(),
                statement,
            ];
            tx.execute(PUT, values).await?;
            placed.push(part);
        }
    }
    Ok(placed)
}

/// Locks a period, and if it was billed, those after it up to the first that was not.
async fn look(tx: &mut Tx, tenant: &TenantId, begin: Timestamp) -> Result<Option<Elsewhere>, StoreError> {
    let (mut billed, mut open) = (None, begin);
    loop {
        tx.execute(COUNT_UP, args![tenant, open]).await?;
        let Some(number) = number_of_period(tx, tenant, open).await? else { break };
        billed.get_or_insert(number);
        open = period(open).1;
    }
    Ok(billed.map(|statement| Elsewhere { statement, open }))
}

/// What an addition to a billed period is in the period that begins at `open`. What is taken away comes off the
/// hours that have it; `spent` is what was taken off them before.
async fn parts(
    tx: &mut Tx,
    Addition { hour, taken }: &Addition,
    open: Timestamp,
    spent: &mut BTreeMap<HourKey, u128>,
) -> Result<Vec<Addition>, StoreError> {
    let at = |at: Timestamp, quantity| UsageHour { hour: at, quantity, ..hour.clone() };
    let more = hour.quantity.saturating_sub(*taken);
    if more > 0 {
        return Ok(vec![Addition { hour: at(open, more), taken: 0 }]);
    }
    let mut less = taken.saturating_sub(hour.quantity);
    let mut parts = Vec::new();
    if less == 0 {
        return Ok(parts);
    }
    let container = container_text(hour.container.as_ref());
    let values = args![&hour.tenant, open, period(open).1, container, hour.meter.as_str()];
    for row in tx.rows(ROWS, values).await? {
        let has: u128 = row.parsed("quantity")?;
        let off = at(row.time("hour")?, 0);
        let before = spent.entry(key(&off)).or_default();
        let part = has.saturating_sub(*before).min(less);
        if part > 0 {
            *before = before.saturating_add(part);
            less = less.saturating_sub(part);
            parts.push(Addition { hour: off, taken: part });
        }
    }
    if less > 0 {
        // Nothing is there to take it off: it is on record, and no hour goes below nothing.
        parts.push(Addition { hour: at(open, 0), taken: less });
    }
    Ok(parts)
}
