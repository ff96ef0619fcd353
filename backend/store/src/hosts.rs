//! Hosts as usage knows them: how far each has reported, and which will never report again.

use wharf_shared::id::HostId;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::row::{Row, args};
use crate::statement::statements;

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT host, reported_at, retired_at, retired_reason FROM usage_watermarks ", $rest)
    };
}

statements! {
    LIST = select!("ORDER BY host");
    ENDED = select!("WHERE retired_at > 0 AND reported_at >= $1 AND reported_at < $2 ORDER BY host");
    RETIRE = "UPDATE usage_watermarks SET retired_at = $2, retired_reason = $3 WHERE host = $1 AND retired_at = 0 \
        RETURNING host, reported_at, retired_at, retired_reason";
}

/// How far a host has reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReport {
    /// The host.
    pub host: HostId,
    /// Everything in its journal before this moment is in the sums.
    pub reported_at: Option<Timestamp>,
    /// When an admin said that this was its last report.
    pub retired_at: Option<Timestamp>,
    /// Why; empty if it is not retired.
    pub reason: String,
}

fn record(row: &Row) -> Result<HostReport, StoreError> {
    Ok(HostReport {
        host: row.parsed("host")?,
        reported_at: Some(row.time("reported_at")?).filter(|at| at.0 > 0),
        retired_at: Some(row.time("retired_at")?).filter(|at| at.0 > 0),
        reason: row.text("retired_reason")?,
    })
}

/// Every host that was ever rolled up, by id.
///
/// # Errors
///
/// Those of the database.
pub async fn list(tx: &mut Tx) -> Result<Vec<HostReport>, StoreError> {
    tx.rows(LIST, args![]).await?.iter().map(record).collect()
}

/// Those that are retired and whose last report was in `[from, to)`: of the rest of it nothing is known of them.
///
/// # Errors
///
/// Those of the database.
pub async fn ended(tx: &mut Tx, (from, to): (Timestamp, Timestamp)) -> Result<Vec<HostReport>, StoreError> {
    tx.rows(ENDED, args![from, to]).await?.iter().map(record).collect()
}

/// Notes that a host will not report again; `None` if there is no such host, or it is retired already.
///
/// # Errors
///
/// Those of the database.
pub async fn retire(
    tx: &mut Tx,
    host: &HostId,
    at: Timestamp,
    reason: &str,
) -> Result<Option<HostReport>, StoreError> {
    tx.row(RETIRE, args![host, at, reason]).await?.as_ref().map(record).transpose()
}
