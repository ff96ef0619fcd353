//! How long records that only grow are kept: events and the audit trail.
//!
//! Only the oldest go, in order of their numbers, so that what is left has no gap: a reader that comes
//! back with the number of a removed one can be told so.

use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::row::args;

/// Rows removed in one transaction, so that writers need not wait long.
const BATCH: i64 = 1_000;

/// What is kept; the rest goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// What happened at this moment or later; all of it when absent.
    pub since: Option<Timestamp>,
    /// At most so many of the last rows; all of them when absent.
    pub rows: Option<i64>,
}

/// Removes a batch of a table's oldest rows and returns how many. `oldest` selects `seq` and `at` of the
/// first `$1` rows, `delete` removes those up to number `$1`, `last` is the last number given.
pub(crate) async fn purge(
    tx: &mut Tx,
    (oldest, delete): (&'static str, &'static str),
    last: i64,
    keep: &Keep,
) -> Result<u64, StoreError> {
    let surplus_to = keep.rows.map_or(0, |rows| last.saturating_sub(rows));
    let mut up_to = None;
    for row in tx.rows(oldest, args![BATCH]).await? {
        let (seq, at) = (row.integer("seq")?, row.time("at")?);
        if seq > surplus_to && keep.since.is_none_or(|since| at >= since) {
            break;
        }
        up_to = Some(seq);
    }
    match up_to {
        Some(seq) => tx.execute(delete, args![seq]).await,
        None => Ok(0),
    }
}
