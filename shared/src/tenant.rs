//! Tenants and what they may use.

use serde::{Deserialize, Serialize};

use crate::id::TenantId;
use crate::time::Timestamp;

/// What a tenant may use in all; absent means unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Containers that exist.
    pub containers: Option<u32>,
    /// Volumes that exist.
    pub volumes: Option<u32>,
    /// Thousandths of a CPU, summed over the limits of its containers, and a hard limit of the tenant's cgroup.
    pub cpu_millis: Option<u32>,
    /// Bytes of memory, summed over the limits of its containers, and a hard limit of the tenant's cgroup.
    pub memory_bytes: Option<u64>,
    /// Processes and threads: a hard limit of the tenant's cgroup.
    pub pids: Option<u32>,
}

/// What a new tenant shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TenantSpec {
    /// Name, unique.
    pub name: String,
    /// What it may use.
    pub quota: Quota,
}

/// Changes to a tenant. Absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TenantUpdate {
    /// New name.
    pub name: Option<String>,
    /// New quota, whole.
    pub quota: Option<Quota>,
}

/// A tenant as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TenantView {
    /// Id.
    pub id: TenantId,
    /// Name.
    pub name: String,
    /// What it may use.
    pub quota: Quota,
    /// First of its 65,536 host user and group ids.
    pub id_base: u32,
    /// Its network, such as `10.201.4.0/22`.
    pub subnet: String,
    /// Containers that exist.
    pub containers: u32,
    /// Volumes that exist.
    pub volumes: u32,
    /// When it was created.
    pub created_at: Timestamp,
}
