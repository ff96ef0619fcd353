//! Volumes: data that outlives containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::container::check_path;
use crate::id::{TenantId, VolumeId};
use crate::name;
use crate::time::Timestamp;

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// A volume of the tenant, by name; made when it does not exist.
    Volume(String),
    /// A path of the host (operators only).
    Host(String),
    /// Memory, so many bytes of it.
    Tmpfs(u64),
}

impl VolumeSource {
    /// Checks the name or path.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Volume(given) => name::check(given).map_err(|error| error.to_string()),
            Self::Host(path) => check_path(path),
            Self::Tmpfs(bytes) if *bytes < 4_096 => Err("at least 4096 bytes are needed".to_owned()),
            Self::Tmpfs(_) => Ok(()),
        }
    }
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// What is mounted.
    pub source: VolumeSource,
    /// Absolute path inside the container.
    pub target: String,
    /// Read-only.
    #[serde(default)]
    pub read_only: bool,
}

/// What a new volume shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct VolumeSpec {
    /// Name, unique within the tenant.
    pub name: String,
    /// Whose volume it is; a member's own tenant when absent.
    pub tenant: Option<TenantId>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeView {
    /// Id.
    pub id: VolumeId,
    /// Name.
    pub name: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// The tenant's name.
    pub tenant_name: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Names of the containers that mount it.
    pub used_by: Vec<String>,
}
