//! The one-time secret that sets up the first admin. Only its hash is kept.

use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::row::args;
use crate::statement::statements;

statements! {
    PUT = "INSERT INTO setup (id, secret_hash, created_at) VALUES (1, $1, $2) \
        ON CONFLICT (id) DO UPDATE SET secret_hash = excluded.secret_hash, created_at = excluded.created_at";
    CONSUME = "DELETE FROM setup WHERE secret_hash = $1";
}

/// Keeps a new secret's hash; an older one is void.
pub async fn put(tx: &mut Tx, secret_hash: &str, created_at: Timestamp) -> Result<(), StoreError> {
    tx.execute(PUT, args![secret_hash, created_at]).await.map(drop)
}

/// Uses the secret up, in the transaction that makes the admin; whether it was the right one.
pub async fn consume(tx: &mut Tx, secret_hash: &str) -> Result<bool, StoreError> {
    Ok(tx.execute(CONSUME, args![secret_hash]).await? == 1)
}
