//! The host: what it is and what it can do.

use serde::{Deserialize, Serialize};

use crate::id::HostId;
use crate::time::Timestamp;

/// One ability of the host, as `wharf doctor` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckView {
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub status: CheckStatus,
    /// What was found, and what that means.
    pub detail: String,
    /// What to do about it, unless all is well.
    pub remedy: Option<String>,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// There.
    Ok,
    /// Something works less well, or cannot be measured.
    Degraded,
    /// Not there.
    Missing,
}

/// The host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostView {
    /// Id.
    pub id: HostId,
    /// Host name.
    pub name: String,
    /// Version of the agent.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// `v2`, `hybrid` or `v1`.
    pub cgroup_layout: String,
    /// CPUs.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// When the agent started.
    pub agent_started_at: Timestamp,
    /// Bytes free where containers' state is kept.
    pub disk_free_bytes: u64,
    /// Bytes in all where containers' state is kept.
    pub disk_total_bytes: u64,
    /// Containers that run.
    pub containers_running: u32,
    /// Containers that exist.
    pub containers_total: u32,
    /// Meters that this host cannot measure, by name.
    pub not_measurable: Vec<String>,
}
