//! Users and their roles.

use serde::{Deserialize, Serialize};

use crate::id::{TenantId, UserId};
use crate::time::Timestamp;

/// What a user may do; `permission.rs` has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, users and price books included.
    Admin,
    /// Every tenant's workloads, and what touches the host.
    Operator,
    /// One tenant's workloads.
    Member,
}

impl Role {
    /// `admin`, `operator` or `member`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Member => "member",
        }
    }
}

/// What a new user shall be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// Name to sign in with, unique.
    pub name: String,
    /// Password, 12 to 1024 bytes.
    pub password: String,
    /// Role.
    pub role: Role,
    /// The tenant of a member; absent for the other roles.
    #[serde(default)]
    pub tenant: Option<TenantId>,
}

impl std::fmt::Debug for UserSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserSpec").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

/// A user as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserView {
    /// Id.
    pub id: UserId,
    /// Name.
    pub name: String,
    /// Role.
    pub role: Role,
    /// The tenant of a member.
    pub tenant: Option<TenantId>,
    /// When it was created.
    pub created_at: Timestamp,
}
