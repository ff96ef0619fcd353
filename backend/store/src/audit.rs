//! The audit trail: who did what, written in the transaction of the change, never changed,
//! removed only when it is older than it must be kept.

use std::collections::BTreeMap;

use wharf_shared::event::AuditView;
use wharf_shared::id::TenantId;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::retention::{self, Keep};
use crate::row::{Row, args, json};
use crate::statement::statements;

/// An entry to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAudit {
    /// When.
    pub at: Timestamp,
    /// User name, or `system` and the task.
    pub actor: String,
    /// Address of the client.
    pub address: Option<String>,
    /// Request id.
    pub request_id: String,
    /// Noun and verb, such as `container.create`.
    pub action: String,
    /// Whose thing it was done to.
    pub tenant: Option<TenantId>,
    /// Id or reference of the thing.
    pub subject: String,
    /// `done` or the problem's kind.
    pub outcome: String,
    /// More, by action.
    pub detail: BTreeMap<String, String>,
}

statements! {
    APPEND = "INSERT INTO audit (seq, at, actor, address, request_id, action, tenant, subject, outcome, detail) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    LIST = "SELECT seq, at, actor, address, request_id, action, tenant, subject, outcome, detail FROM audit \
        WHERE (seq < $1 OR $1 IS NULL) ORDER BY seq DESC LIMIT $2";
    LAST = "SELECT value FROM counters WHERE name = 'audit'";
    OLDEST = "SELECT seq, at FROM audit ORDER BY seq LIMIT $1";
    PURGE = "DELETE FROM audit WHERE seq <= $1";
}

fn view(row: &Row) -> Result<AuditView, StoreError> {
    Ok(AuditView {
        seq: row.integer("seq")?,
        at: row.time("at")?,
        actor: row.text("actor")?,
        address: row.optional_text("address")?,
        request_id: row.text("request_id")?,
        action: row.text("action")?,
        tenant: row.optional_parsed("tenant")?,
        subject: row.text("subject")?,
        outcome: row.text("outcome")?,
        detail: row.json("detail")?,
    })
}

/// Writes an entry and returns its number.
pub async fn append(tx: &mut Tx, new: &NewAudit) -> Result<i64, StoreError> {
    let seq = tx.count_up("audit", 1).await?;
    let values = args![
        seq,
        new.at,
        &new.actor,
        new.address.as_deref(),
        &new.request_id,
        &new.action,
        new.tenant.as_ref(),
        &new.subject,
        &new.outcome,
        json("detail", &new.detail)?
    ];
    tx.execute(APPEND, values).await?;
    Ok(seq)
}

/// Entries before this number, newest first.
pub async fn list(tx: &mut Tx, before: Option<i64>, limit: u32) -> Result<Vec<AuditView>, StoreError> {
    let rows = tx.rows(LIST, args![before, limit]).await?;
    rows.iter().map(view).collect()
}

/// Removes a batch of the oldest entries that need not be kept, and returns how many.
pub async fn purge(tx: &mut Tx, keep: &Keep) -> Result<u64, StoreError> {
    let last = tx.row(LAST, args![]).await?.ok_or(StoreError::corrupt("counters.name"))?.integer("value")?;
    retention::purge(tx, (OLDEST, PURGE), last, keep).await
}
