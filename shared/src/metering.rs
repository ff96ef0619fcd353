//! How metering stands on a host: what is on its way from the journal into hours, and what the journal says
//! is missing.

use serde::{Deserialize, Serialize};

use crate::id::{ContainerId, HostId, TenantId};
use crate::time::Timestamp;

/// A record that says that something is missing, went down or was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FaultView {
    /// Its number in the journal.
    pub seq: u64,
    /// `gap`: nothing is known of the time, and nothing is billed for it; `reset`: a kernel counter went down;
    /// `clock_step`: the wall clock was set, which no duration depends on.
    pub kind: String,
    /// Whose; `null` for the host itself.
    pub tenant: Option<TenantId>,
    /// The container; `null` for a tenant's whole cgroup and for the host itself.
    pub container: Option<ContainerId>,
    /// Begin, by the wall clock.
    pub from: Timestamp,
    /// End.
    pub to: Timestamp,
}

/// How far a host has reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostReportView {
    /// The host.
    pub host: HostId,
    /// Everything that it metered before this moment is in the hours; `null` before its first roll-up.
    pub reported_at: Option<Timestamp>,
    /// When an admin said that it will never report again: its last report is its end. `null` while it may.
    pub retired_at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

/// Says that a host will never report again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RetireSpec {
    /// Why; printed on the statements of the period in which it ended.
    pub reason: String,
}

/// Metering as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MeteringView {
    /// The host.
    pub host: HostId,
    /// Containers whose counters are read every second.
    pub containers: u32,
    /// Whether the last readings were stored. While they are not, nothing starts and the newest are kept.
    pub is_storing: bool,
    /// Number of the last record in the journal; 0 before the first.
    pub head_seq: u64,
    /// Number of the last record that is in the hours: those after it are not in usage and statements yet.
    pub rolled_up_seq: u64,
    /// Everything before this moment is in the hours; `null` before the first roll-up. Noted once a minute.
    pub rolled_up_at: Option<Timestamp>,
    /// Gaps in the whole journal.
    pub gaps: u64,
    /// Counters that went down, in the whole journal.
    pub resets: u64,
    /// Settings of the wall clock, in the whole journal.
    pub clock_steps: u64,
    /// The last of these, the newest first; at most 50.
    pub last_faults: Vec<FaultView>,
}
