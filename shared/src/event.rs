//! Events: what happened, in order; audit: who did what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::TenantId;
use crate::time::Timestamp;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventView {
    /// Position in the stream, without gaps for an admin; give it as `after` to resume.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Noun and verb, such as `container.started`.
    pub kind: String,
    /// Whose thing it happened to; `null` for the host's own.
    pub tenant: Option<TenantId>,
    /// Id or reference of the thing.
    pub subject: String,
    /// Name of the thing, for people.
    pub subject_name: String,
    /// More, by kind.
    pub detail: BTreeMap<String, String>,
}

/// Somebody did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditView {
    /// Position in the trail.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// User name, or `system` and the task.
    pub actor: String,
    /// Address of the client, if there was one.
    pub address: Option<String>,
    /// Request id, to find it in the agent's log.
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
