//! Events: what happened, numbered without gaps in the order of commits.

use std::collections::BTreeMap;

use wharf_shared::event::EventView;
use wharf_shared::id::TenantId;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::retention::{self, Keep};
use crate::row::{Row, args, json};
use crate::scope::Scope;
use crate::statement::statements;

/// An event to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// When.
    pub at: Timestamp,
    /// Noun and verb, such as `container.started`.
    pub kind: String,
    /// Whose thing it happened to.
    pub tenant: Option<TenantId>,
    /// Id or reference of the thing.
    pub subject: String,
    /// Name of the thing.
    pub subject_name: String,
    /// More, by kind.
    pub detail: BTreeMap<String, String>,
}

statements! {
    APPEND = "INSERT INTO events (seq, at, kind, tenant, subject, subject_name, detail) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    LIST = "SELECT seq, at, kind, tenant, subject, subject_name, detail FROM events \
        WHERE seq > $2 AND (tenant = $1 OR $1 IS NULL) ORDER BY seq LIMIT $3";
    LAST = "SELECT value FROM counters WHERE name = 'events'";
    FIRST = "SELECT MIN(seq) AS seq FROM events";
    OLDEST = "SELECT seq, at FROM events ORDER BY seq LIMIT $1";
    PURGE = "DELETE FROM events WHERE seq <= $1";
}

fn view(row: &Row) -> Result<EventView, StoreError> {
    Ok(EventView {
        seq: row.integer("seq")?,
        at: row.time("at")?,
        kind: row.text("kind")?,
        tenant: row.optional_parsed("tenant")?,
        subject: row.text("subject")?,
        subject_name: row.text("subject_name")?,
        detail: row.json("detail")?,
    })
}

/// Records an event in the transaction of the change, and returns it with its number. The last
/// statement of a transaction at best: others that record one wait from here to the commit.
pub async fn append(tx: &mut Tx, new: NewEvent) -> Result<EventView, StoreError> {
    let seq = tx.count_up("events", 1).await?;
    let NewEvent { at, kind, tenant, subject, subject_name, detail } = new;
    let values = args![seq, at, &kind, tenant.as_ref(), &subject, &subject_name, json("detail", &detail)?];
    tx.execute(APPEND, values).await?;
    Ok(EventView { seq, at, kind, tenant, subject, subject_name, detail })
}

/// Events after this number, in order.
pub async fn list(tx: &mut Tx, scope: &Scope, after: i64, limit: u32) -> Result<Vec<EventView>, StoreError> {
    let rows = tx.rows(LIST, args![scope.tenant(), after, limit]).await?;
    rows.iter().map(view).collect()
}

/// Number of the last event, 0 before the first.
pub async fn last_seq(tx: &mut Tx) -> Result<i64, StoreError> {
    tx.row(LAST, args![]).await?.ok_or(StoreError::corrupt("counters.name"))?.integer("value")
}

/// Number of the last event that is no longer kept, 0 if all are.
pub async fn purged_to(tx: &mut Tx) -> Result<i64, StoreError> {
    let first = tx.row(FIRST, args![]).await?.map(|row| row.optional_integer("seq")).transpose()?.flatten();
    match first {
        Some(first) => Ok(first - 1),
        None => last_seq(tx).await,
    }
}

/// Removes a batch of the oldest events that need not be kept, and returns how many.
pub async fn purge(tx: &mut Tx, keep: &Keep) -> Result<u64, StoreError> {
    let last = last_seq(tx).await?;
    retention::purge(tx, (OLDEST, PURGE), last, keep).await
}
