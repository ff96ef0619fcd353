//! Checkpoints: running containers in files, to go on from later.

use serde::{Deserialize, Serialize};

use crate::id::{CheckpointId, ContainerId, TenantId};
use crate::time::Timestamp;

/// How a checkpoint is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointRequest {
    /// Let the container run on; it is stopped otherwise.
    pub keep_running: bool,
}

/// How a checkpoint is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RestoreRequest {
    /// The new container's name; its short id when absent.
    pub name: Option<String>,
}

/// A checkpoint as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckpointView {
    /// Id.
    pub id: CheckpointId,
    /// Whose.
    pub tenant: TenantId,
    /// The container that it was made of.
    pub container: ContainerId,
    /// That container's name then.
    pub container_name: String,
    /// The image that it ran.
    pub image: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Size of the archive.
    pub size_bytes: u64,
    /// The kernel that it was made on, as `uname -r` has it; it is restored on no other.
    pub kernel: String,
}
