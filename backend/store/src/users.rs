//! Users.

use wharf_shared::id::{TenantId, UserId};
use wharf_shared::page::Page;
use wharf_shared::time::Timestamp;
use wharf_shared::user::{Role, UserView};

use crate::db::Tx;
use crate::error::StoreError;
use crate::pagination::PageRequest;
use crate::row::{Row, args};
use crate::statement::statements;

/// A user with the hash of the password.
#[derive(Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Id.
    pub id: UserId,
    /// Name, unique.
    pub name: String,
    /// The password's hash in PHC form.
    pub password_hash: String,
    /// Role.
    pub role: Role,
    /// The tenant of a member.
    pub tenant: Option<TenantId>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for UserRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRecord").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl From<UserRecord> for UserView {
    fn from(user: UserRecord) -> Self {
        let UserRecord { id, name, role, tenant, created_at, .. } = user;
        Self { id, name, role, tenant, created_at }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, name, password_hash, role, tenant, created_at FROM users ", $rest)
    };
}

statements! {
    INSERT = "INSERT INTO users (id, name, password_hash, role, tenant, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    GET = select!("WHERE id = $1");
    FIND = select!("WHERE name = $1");
    LIST = select!("WHERE (name > $1 OR $1 IS NULL) ORDER BY name LIMIT $2");
    COUNT_ADMINS = "SELECT COUNT(*) AS admins FROM users WHERE role = 'admin'";
    SET_PASSWORD = "UPDATE users SET password_hash = $2 WHERE id = $1";
    DELETE = "DELETE FROM users WHERE id = $1";
}

fn role(name: &str) -> Option<Role> {
    [Role::Admin, Role::Operator, Role::Member].into_iter().find(|role| role.as_str() == name)
}

/// Reads the user's columns of a row, also of a join (`user_id` must be selected as `id`).
pub(crate) fn record(row: &Row) -> Result<UserRecord, StoreError> {
    Ok(UserRecord {
        id: row.parsed("id")?,
        name: row.text("name")?,
        password_hash: row.text("password_hash")?,
        role: row.word("role", role)?,
        tenant: row.optional_parsed("tenant")?,
        created_at: row.time("created_at")?,
    })
}

/// Makes a user.
pub async fn insert(tx: &mut Tx, user: &UserRecord) -> Result<(), StoreError> {
    let values = args![
        &user.id,
        &user.name,
        &user.password_hash,
        user.role.as_str(),
        user.tenant.as_ref(),
        user.created_at
    ];
    match tx.execute(INSERT, values).await? {
        0 => Err(StoreError::Taken("name")),
        _ => Ok(()),
    }
}

/// The user of this id.
pub async fn get(tx: &mut Tx, id: &UserId) -> Result<UserRecord, StoreError> {
    let row = tx.row(GET, args![id]).await?;
    row.as_ref().map(record).transpose()?.ok_or(StoreError::NotFound("user"))
}

/// The user of this name.
pub async fn find_by_name(tx: &mut Tx, name: &str) -> Result<Option<UserRecord>, StoreError> {
    tx.row(FIND, args![name]).await?.as_ref().map(record).transpose()
}

/// Users by name.
pub async fn list(tx: &mut Tx, page: &PageRequest) -> Result<Page<UserRecord>, StoreError> {
    let rows = tx.rows(LIST, args![page.cursor.as_deref(), page.fetch()]).await?;
    let users = rows.iter().map(record).collect::<Result<_, _>>()?;
    Ok(page.page(users, |user: &UserRecord| user.name.clone()))
}

/// How many admins there are.
pub async fn count_admins(tx: &mut Tx) -> Result<u32, StoreError> {
    tx.row(COUNT_ADMINS, args![]).await?.ok_or(StoreError::NotFound("user"))?.number("admins")
}

/// Sets the hash of the password.
pub async fn set_password(tx: &mut Tx, id: &UserId, password_hash: &str) -> Result<(), StoreError> {
    match tx.execute(SET_PASSWORD, args![id, password_hash]).await? {
        0 => Err(StoreError::NotFound("user")),
        _ => Ok(()),
    }
}

/// Removes a user with its sessions and tokens.
pub async fn delete(tx: &mut Tx, id: &UserId) -> Result<(), StoreError> {
    match tx.execute(DELETE, args![id]).await? {
        0 => Err(StoreError::NotFound("user")),
        _ => Ok(()),
    }
}
