//! Tenants and what they may use.

use serde::{Deserialize, Serialize};

use crate::container::MEMORY_LIMIT_MIN_BYTES;
use crate::id::TenantId;
use crate::problem::FieldProblem;
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
    /// Its share of the CPU when tenants contend for it, 1 to 10,000; 100 when absent. However many
    /// containers a tenant has, together they get no more than this.
    pub cpu_weight: Option<u32>,
    /// Bytes of memory, summed over the limits of its containers, and a hard limit of the tenant's cgroup.
    pub memory_bytes: Option<u64>,
    /// Processes and threads: a hard limit of the tenant's cgroup.
    pub pids: Option<u32>,
}

impl Quota {
    /// Checks everything that can be checked without a host.
    pub fn problems(&self) -> Vec<FieldProblem> {
        let bounds = [
            ("cpu_millis", self.cpu_millis.map(u64::from), 10, 1_024_000),
            ("cpu_weight", self.cpu_weight.map(u64::from), 1, 10_000),
            ("memory_bytes", self.memory_bytes, MEMORY_LIMIT_MIN_BYTES, 1 << 50),
            ("pids", self.pids.map(u64::from), 1, 4_194_304),
        ];
        let wrong = bounds
            .into_iter()
            .filter(|(_, value, least, most)| value.is_some_and(|value| !(*least..=*most).contains(&value)));
        wrong
            .map(|(field, _, least, most)| FieldProblem {
                field: format!("quota.{field}"),
                detail: format!("must lie between {least} and {most}; leave it out for unlimited"),
            })
            .collect()
    }
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
