//! API tokens. Only a hash of the secret is kept.

use wharf_shared::auth::TokenView;
use wharf_shared::id::{TokenId, UserId};
use wharf_shared::page::Page;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::pagination::PageRequest;
use crate::row::{Row, args};
use crate::statement::statements;
use crate::users::{self, UserRecord};

/// A token to be kept.
#[derive(Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Id.
    pub id: TokenId,
    /// For whom it acts.
    pub user: UserId,
    /// Name, unique for its user.
    pub name: String,
    /// Hash of the secret, in hexadecimal.
    pub secret_hash: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT t.id AS token, t.name AS token_name, t.created_at AS made_at, t.expires_at, t.last_used_at, ",
            "u.id, u.name, u.password_hash, u.role, u.tenant, u.created_at ",
            "FROM tokens t JOIN users u ON u.id = t.user_id ",
            $rest
        )
    };
}

statements! {
    INSERT = "INSERT INTO tokens (id, user_id, name, secret_hash, created_at, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    GET = select!("WHERE t.id = $1 AND (t.user_id = $2 OR $2 IS NULL)");
    FIND = select!("WHERE t.secret_hash = $1 AND t.expires_at > $2");
    LIST = select!("WHERE (t.user_id = $1 OR $1 IS NULL) AND (t.id > $2 OR $2 IS NULL) ORDER BY t.id LIMIT $3");
    TOUCH = "UPDATE tokens SET last_used_at = $2 WHERE id = $1";
    DELETE = "DELETE FROM tokens WHERE id = $1 AND (user_id = $2 OR $2 IS NULL)";
    PURGE = "DELETE FROM tokens WHERE expires_at <= $1";
}

fn view(row: &Row) -> Result<TokenView, StoreError> {
    let user = users::record(row)?;
    Ok(TokenView {
        id: row.parsed("token")?,
        name: row.text("token_name")?,
        user_name: user.name,
        role: user.role,
        created_at: row.time("made_at")?,
        expires_at: row.time("expires_at")?,
        last_used_at: row.optional_time("last_used_at")?,
    })
}

/// Keeps a token.
pub async fn insert(tx: &mut Tx, new: &NewToken) -> Result<TokenView, StoreError> {
    let NewToken { id, user, name, secret_hash, created_at, expires_at } = new;
    let values = args![id, user, name, secret_hash, *created_at, *expires_at];
    if tx.execute(INSERT, values).await? == 0 {
        return Err(StoreError::Taken("name"));
    }
    get(tx, Some(user), id).await
}

/// The token of this id; of this user, if one is given.
pub async fn get(tx: &mut Tx, user: Option<&UserId>, id: &TokenId) -> Result<TokenView, StoreError> {
    let row = tx.row(GET, args![id, user]).await?;
    row.as_ref().map(view).transpose()?.ok_or(StoreError::NotFound("token"))
}

/// The token of this hash and its user, if it has not ended.
pub async fn find(
    tx: &mut Tx,
    secret_hash: &str,
    now: Timestamp,
) -> Result<Option<(TokenView, UserRecord)>, StoreError> {
    let Some(row) = tx.row(FIND, args![secret_hash, now]).await? else { return Ok(None) };
    Ok(Some((view(&row)?, users::record(&row)?)))
}

/// Tokens, oldest first; of one user, if one is given.
pub async fn list(
    tx: &mut Tx,
    user: Option<&UserId>,
    page: &PageRequest,
) -> Result<Page<TokenView>, StoreError> {
    let rows = tx.rows(LIST, args![user, page.cursor.as_deref(), page.fetch()]).await?;
    let tokens = rows.iter().map(view).collect::<Result<_, _>>()?;
    Ok(page.page(tokens, |token: &TokenView| token.id.to_string()))
}

/// Records that the token was used.
pub async fn touch(tx: &mut Tx, id: &TokenId, at: Timestamp) -> Result<(), StoreError> {
    tx.execute(TOUCH, args![id, at]).await.map(drop)
}

/// Removes a token; of this user, if one is given.
pub async fn delete(tx: &mut Tx, user: Option<&UserId>, id: &TokenId) -> Result<(), StoreError> {
    match tx.execute(DELETE, args![id, user]).await? {
        0 => Err(StoreError::NotFound("token")),
        _ => Ok(()),
    }
}

/// Removes tokens that have ended, and returns how many.
pub async fn purge(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute(PURGE, args![now]).await
}
