//! Signing in, sessions, API tokens and WebSocket tickets.

use serde::{Deserialize, Serialize};

use crate::id::TokenId;
use crate::time::Timestamp;
use crate::user::{Role, UserView};

/// Least length of a password in bytes.
pub const PASSWORD_MIN_BYTES: usize = 12;
/// Most length of a password in bytes.
pub const PASSWORD_MAX_BYTES: usize = 1024;
/// Header that every changing request of a browser session carries, with [`SessionView::csrf_token`].
pub const CSRF_HEADER: &str = "x-wharf-csrf";
/// Name of the session cookie.
pub const SESSION_COOKIE: &str = "wharf_session";

/// Name and password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// User name.
    pub name: String,
    /// Password.
    pub password: String,
}

/// Sets the first admin's name and password with the one-time link.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// The secret of the one-time link.
    pub secret: String,
    /// User name.
    pub name: String,
    /// Password, 12 to 1024 bytes.
    pub password: String,
}

macro_rules! hide {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }
    )*};
}
hide!(LoginRequest, SetupRequest, PasswordChange, NewToken, WsTicket);

/// A new password for oneself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The present password.
    pub current: String,
    /// The new one, 12 to 1024 bytes.
    pub new: String,
}

/// Who is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionView {
    /// The user.
    pub user: UserView,
    /// What the browser sends back in [`CSRF_HEADER`]; empty for tokens.
    pub csrf_token: String,
    /// When the session ends.
    pub expires_at: Timestamp,
}

/// Whether the first admin is still to be set up. The only thing that is told to strangers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetupView {
    /// No admin exists yet.
    pub needed: bool,
}

/// What a new API token shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// Name, unique for its user.
    pub name: String,
    /// Days until it ends; 90 when absent, at most 366.
    #[serde(default)]
    pub expires_in_days: Option<u32>,
}

/// An API token as it is shown; its secret is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// Id.
    pub id: TokenId,
    /// Name.
    pub name: String,
    /// Name of the user it acts for.
    pub user_name: String,
    /// Role of that user.
    pub role: Role,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// A new API token: the only time its secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewToken {
    /// The token.
    pub token: TokenView,
    /// Send it as `Authorization: Bearer …`.
    pub secret: String,
}

/// A ticket for one WebSocket, good for 30 seconds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WsTicket {
    /// Send it in the first frame.
    pub ticket: String,
}
