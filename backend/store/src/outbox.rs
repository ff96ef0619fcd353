//! Events of usage that are to be sent somewhere: gathered by hour, queued with their bytes, gone when taken.
//!
//! [`gather`] is called in the transaction that adds a stretch of the journal to the sums, so that a kill leaves
//! no sum without its event and no event without its sum. What did not fit into a full outbox is in no event; what
//! comes for such an hour later is sent as partial. What a correction takes away counts below zero, so that the
//! events of an hour always add up to it. While an hour goes on, additions to it are gathered in one row. [`queue`] gives a row the bytes it is sent with; from then on they never change, and what is added
//! to the hour later is a row of its own with a later revision. Sending is the caller's.

use std::collections::BTreeMap;

use wharf_shared::id::{ContainerId, HostId, TenantId};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, Quality, UsageHour};

use crate::db::Tx;
use crate::error::StoreError;
use crate::row::{Row, args};
use crate::statement::statements;
use crate::usage::Addition;

/// Which event: what it is of, and from where in the journal on it counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey {
    /// Begin of the hour.
    pub hour: Timestamp,
    /// Whose use.
    pub tenant: TenantId,
    /// Which container's.
    pub container: ContainerId,
    /// What.
    pub meter: Meter,
    /// The first number of the journal that it counts.
    pub revision: i64,
}

/// An event whose hour is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered {
    /// Which.
    pub key: EventKey,
    /// How much, in the meter's unit; below zero if corrections took away more than was added.
    pub quantity: i128,
    /// Whether that is whole.
    pub quality: Quality,
}

/// An event that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Which.
    pub key: EventKey,
    /// Its bytes.
    pub body: String,
}

/// An event that the endpoint has refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub key: EventKey,
    /// What the endpoint said.
    pub problem: String,
    /// When.
    pub refused_at: Timestamp,
}

/// How many events there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of hours that go on.
    pub gathering: u64,
    /// That wait to be taken.
    pub queued: u64,
    /// That were refused.
    pub refused: u64,
    /// Additions for which there was no room.
    pub dropped: u64,
    /// The earliest hour that waits.
    pub oldest_queued_hour: Option<Timestamp>,
}

statements! {
    MARK = "SELECT seq, dropped, dropped_hour FROM outbox_watermarks WHERE host = $1";
    SET_MARK = "INSERT INTO outbox_watermarks (host, seq, dropped, dropped_hour) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (host) DO UPDATE SET seq = excluded.seq, dropped = outbox_watermarks.dropped + $3, \
        dropped_hour = excluded.dropped_hour";
    COUNT = "SELECT COUNT(*) AS count FROM outbox WHERE host = $1";
    GATHERING = "SELECT revision, quantity, quality FROM outbox WHERE host = $1 AND hour = $2 AND tenant = $3 \
        AND container = $4 AND meter = $5 AND state = 'gathering'";
    PUT = "INSERT INTO outbox \
        (host, hour, tenant, container, meter, revision, quantity, quality, state, body, problem, changed_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'gathering', '', '', $9) \
        ON CONFLICT (host, hour, tenant, container, meter, revision) DO UPDATE SET \
        quantity = excluded.quantity, quality = excluded.quality, changed_at = excluded.changed_at";
    OVER = "SELECT hour, tenant, container, meter, revision, quantity, quality FROM outbox \
        WHERE host = $1 AND state = 'gathering' AND hour <= $2 \
        ORDER BY hour, tenant, container, meter, revision LIMIT $3";
    QUEUE = "UPDATE outbox SET state = 'queued', body = $7, changed_at = $8 WHERE host = $1 AND hour = $2 \
        AND tenant = $3 AND container = $4 AND meter = $5 AND revision = $6 AND state = 'gathering'";
    NEXT = "SELECT hour, tenant, container, meter, revision, body FROM outbox \
        WHERE host = $1 AND state = 'queued' ORDER BY hour, tenant, container, meter, revision LIMIT $2";
    TAKEN = "DELETE FROM outbox WHERE host = $1 AND hour = $2 AND tenant = $3 AND container = $4 \
        AND meter = $5 AND revision = $6 AND state = 'queued'";
    REFUSE = "UPDATE outbox SET state = 'refused', problem = $7, changed_at = $8 WHERE host = $1 AND hour = $2 \
        AND tenant = $3 AND container = $4 AND meter = $5 AND revision = $6 AND state = 'queued'";
    RETRY = "UPDATE outbox SET state = 'queued', problem = '', changed_at = $2 \
        WHERE host = $1 AND state = 'refused'";
    REFUSED = "SELECT hour, tenant, container, meter, revision, problem, changed_at FROM outbox \
        WHERE host = $1 AND state = 'refused' ORDER BY changed_at DESC, hour, tenant, container, meter LIMIT $2";
    COUNTS = "SELECT state, COUNT(*) AS count, MIN(hour) AS hour FROM outbox WHERE host = $1 GROUP BY state";
}

fn key(row: &Row) -> Result<EventKey, StoreError> {
    Ok(EventKey {
        hour: row.time("hour")?,
        tenant: row.parsed("tenant")?,
        container: row.parsed("container")?,
        meter: row.word("meter", Meter::from_name)?,
        revision: row.integer("revision")?,
    })
}

/// Up to which reading this host's journal is in the outbox; 0 before the first.
pub async fn watermark(tx: &mut Tx, host: &HostId) -> Result<i64, StoreError> {
    Ok(tx.row(MARK, args![host]).await?.map(|row| row.integer("seq")).transpose()?.unwrap_or(0))
}

/// Gathers what readings `(from, to]` of a host's journal counted, in the transaction that adds them to the
/// sums. What is there already is left alone. With `most` events in the outbox further ones are only counted:
/// returns how many additions were dropped so. The sums still have them.
pub async fn gather(
    tx: &mut Tx,
    host: &HostId,
    (from, to): (i64, i64),
    additions: &[Addition],
    most: u64,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let (mark, mut dropped_hour) = match tx.row(MARK, args![host]).await? {
        Some(row) => (row.integer("seq")?, row.time("dropped_hour")?),
        None => (0, Timestamp(0)),
    };
    if to <= mark {
        return Ok(0);
    }
    let lacking = dropped_hour;
    if from < mark {
        return Err(StoreError::Refused("a stretch of the journal is in the outbox in part"));
    }
    let count = tx.row(COUNT, args![host]).await?.ok_or(StoreError::corrupt("count"))?.integer("count")?;
    let mut room = most.saturating_sub(u64::try_from(count).unwrap_or(0));
    let mut dropped = 0_u64;
    let mut sums: BTreeMap<EventKey, (i128, Quality)> = BTreeMap::new();
    for addition in additions {
        // The tenant's whole cgroup holds its containers' use once more.
        let UsageHour { hour, tenant, container: Some(container), meter, .. } = &addition.hour else {
            continue;
        };
        let added = signed(addition)?;
        if added == 0 {
            continue;
        }
        let of = args![host, *hour, tenant, container, meter.as_str()];
        let (revision, before) = match tx.row(GATHERING, of).await? {
            Some(row) => {
                let quality = row.word("quality", Quality::from_name)?;
                (row.integer("revision")?, Some((row.parsed("quantity")?, quality)))
            }
            None => (from + 1, None),
        };
        let key = EventKey {
            hour: *hour,
            tenant: tenant.clone(),
            container: container.clone(),
            meter: *meter,
            revision,
        };
        let before = sums.get(&key).copied().or(before);
        if before.is_none() {
            if room == 0 {
                dropped += 1;
                dropped_hour = dropped_hour.max(*hour);
                continue;
            }
            room -= 1;
        }
        // Something of this hour may have been dropped before it began to be gathered.
        let first = if *hour <= lacking { Quality::Partial } else { addition.hour.quality };
        let (quantity, quality) = before.unwrap_or((0_i128, first));
        let sum = quantity.checked_add(added).ok_or(StoreError::corrupt("quantity"))?;
        sums.insert(key, (sum, quality.and(addition.hour.quality)));
    }
    for (key, (quantity, quality)) in &sums {
        let values = args![
            host,
            key.hour,
            &key.tenant,
            &key.container,
            key.meter.as_str(),
            key.revision,
            quantity.to_string(),
            quality.as_str(),
            now,
        ];
        tx.execute(PUT, values).await?;
    }
    tx.execute(SET_MARK, args![host, to, dropped, dropped_hour]).await?;
    Ok(dropped)
}

/// What is added, less what is taken away.
fn signed(Addition { hour, taken }: &Addition) -> Result<i128, StoreError> {
    let [added, taken] = [hour.quantity, *taken].map(i128::try_from);
    let difference = added.ok().zip(taken.ok()).and_then(|(added, taken)| added.checked_sub(taken));
    difference.ok_or(StoreError::corrupt("quantity"))
}

/// Events whose hours began at this moment or before, in their order, and that have no bytes yet.
pub async fn gathered(
    tx: &mut Tx,
    host: &HostId,
    last_hour: Timestamp,
    limit: u32,
) -> Result<Vec<Gathered>, StoreError> {
    let record = |row: &Row| {
        Ok(Gathered {
            key: key(row)?,
            quantity: row.parsed("quantity")?,
            quality: row.word("quality", Quality::from_name)?,
        })
    };
    tx.rows(OVER, args![host, last_hour, limit]).await?.iter().map(record).collect()
}

fn key_args(host: &HostId, key: &EventKey) -> Vec<crate::row::Value> {
    args![host, key.hour, &key.tenant, &key.container, key.meter.as_str(), key.revision,]
}

/// Gives a gathered event its bytes, for good.
pub async fn queue(
    tx: &mut Tx,
    host: &HostId,
    key: &EventKey,
    body: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut values = key_args(host, key);
    values.extend(args![body, now]);
    tx.execute(QUEUE, values).await.map(drop)
}

/// The first events that wait to be taken.
pub async fn next(tx: &mut Tx, host: &HostId, limit: u32) -> Result<Vec<Queued>, StoreError> {
    let record = |row: &Row| Ok(Queued { key: key(row)?, body: row.text("body")? });
    tx.rows(NEXT, args![host, limit]).await?.iter().map(record).collect()
}

/// The endpoint has taken an event: it goes.
pub async fn taken(tx: &mut Tx, host: &HostId, key: &EventKey) -> Result<(), StoreError> {
    tx.execute(TAKEN, key_args(host, key)).await.map(drop)
}

/// The endpoint will not have an event: it stays, and is not sent again by itself.
pub async fn refuse(
    tx: &mut Tx,
    host: &HostId,
    key: &EventKey,
    problem: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut values = key_args(host, key);
    values.extend(args![problem, now]);
    tx.execute(REFUSE, values).await.map(drop)
}

/// Queues all refused events again, with the same bytes, and returns how many.
pub async fn retry(tx: &mut Tx, host: &HostId, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute(RETRY, args![host, now]).await
}

/// The last events that were refused.
pub async fn refused(tx: &mut Tx, host: &HostId, limit: u32) -> Result<Vec<Refused>, StoreError> {
    let record = |row: &Row| {
        Ok(Refused { key: key(row)?, problem: row.text("problem")?, refused_at: row.time("changed_at")? })
    };
    tx.rows(REFUSED, args![host, limit]).await?.iter().map(record).collect()
}

/// How many events there are of each state.
pub async fn counts(tx: &mut Tx, host: &HostId) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    for row in tx.rows(COUNTS, args![host]).await? {
        let count = u64::try_from(row.integer("count")?).unwrap_or(0);
        match row.text("state")?.as_str() {
            "gathering" => counts.gathering = count,
            "queued" => {
                counts.queued = count;
                counts.oldest_queued_hour = row.optional_integer("hour")?.map(Timestamp);
            }
            "refused" => counts.refused = count,
            _ => return Err(StoreError::corrupt("state")),
        }
    }
    if let Some(row) = tx.row(MARK, args![host]).await? {
        counts.dropped = u64::try_from(row.integer("dropped")?).unwrap_or(0);
    }
    Ok(counts)
}
