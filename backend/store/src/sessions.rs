//! Browser sessions. Only a hash of the cookie's secret is kept.

use wharf_shared::id::UserId;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::row::args;
use crate::statement::statements;
use crate::users::{self, UserRecord};

/// A session.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Hash of the secret, in hexadecimal.
    pub secret_hash: String,
    /// Whose.
    pub user: UserId,
    /// What the browser sends with changing requests.
    pub csrf_token: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for SessionRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRecord").field("user", &self.user).finish_non_exhaustive()
    }
}

statements! {
    INSERT = "INSERT INTO sessions (secret_hash, user_id, csrf_token, created_at, expires_at) \
        VALUES ($1, $2, $3, $4, $5)";
    FIND = "SELECT s.csrf_token, s.created_at AS begun_at, s.expires_at, \
        u.id, u.name, u.password_hash, u.role, u.tenant, u.created_at \
        FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.secret_hash = $1 AND s.expires_at > $2";
    DELETE = "DELETE FROM sessions WHERE secret_hash = $1";
    DELETE_OTHERS = "DELETE FROM sessions WHERE user_id = $1 AND secret_hash <> $2";
    PURGE = "DELETE FROM sessions WHERE expires_at <= $1";
}

/// Keeps a session.
pub async fn insert(tx: &mut Tx, session: &SessionRecord) -> Result<(), StoreError> {
    let SessionRecord { secret_hash, user, csrf_token, created_at, expires_at } = session;
    tx.execute(INSERT, args![secret_hash, user, csrf_token, *created_at, *expires_at]).await.map(drop)
}

/// The session of this hash and its user, if it has not ended.
pub async fn find(
    tx: &mut Tx,
    secret_hash: &str,
    now: Timestamp,
) -> Result<Option<(SessionRecord, UserRecord)>, StoreError> {
    let Some(row) = tx.row(FIND, args![secret_hash, now]).await? else { return Ok(None) };
    let user = users::record(&row)?;
    let session = SessionRecord {
        secret_hash: secret_hash.to_owned(),
        user: user.id.clone(),
        csrf_token: row.text("csrf_token")?,
        created_at: row.time("begun_at")?,
        expires_at: row.time("expires_at")?,
    };
    Ok(Some((session, user)))
}

/// Ends a session; whether there was one.
pub async fn delete(tx: &mut Tx, secret_hash: &str) -> Result<bool, StoreError> {
    Ok(tx.execute(DELETE, args![secret_hash]).await? > 0)
}

/// Ends every session of a user but this one (after a change of password); `""` ends all.
pub async fn delete_others(tx: &mut Tx, user: &UserId, secret_hash: &str) -> Result<u64, StoreError> {
    tx.execute(DELETE_OTHERS, args![user, secret_hash]).await
}

/// Removes sessions that have ended, and returns how many.
pub async fn purge(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute(PURGE, args![now]).await
}
