//! The host's ledger: its head, what was signed, and corrections by a person.

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::id::{ContainerId, HostId, TenantId};
use crate::time::Timestamp;
use crate::usage::Meter;

/// The ledger as it stands. Kept somewhere else, head or checkpoint show later that no end was cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LedgerView {
    /// Whose it is.
    pub host: HostId,
    /// The key that signs checkpoints (Ed25519), in hexadecimal digits.
    pub public_key: String,
    /// Number of the last record; 0 before the first.
    pub head_seq: u64,
    /// Its hash (BLAKE3), in hexadecimal digits.
    pub head_hash: String,
    /// The last checkpoint, once there is one.
    pub last_checkpoint: Option<LedgerCheckpointView>,
    /// Whether the room on the disk that is kept for last readings is there. While it is not, nothing starts.
    pub reserve_is_whole: bool,
}

/// A signature of everything before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LedgerCheckpointView {
    /// Its number.
    pub seq: u64,
    /// When it was made.
    pub at: Timestamp,
}

/// What is to be put right. The reading stays as it is; the hour that it was booked to changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CorrectionSpec {
    /// Number of the reading.
    pub refers_to: u64,
    /// Which of its meters, or one that follows from its limits.
    pub meter: Meter,
    /// How much more it was: a whole number in the meter's unit, negative if it was less. The hour may not
    /// go below 0.
    pub delta: Decimal,
    /// Why; the ledger and the audit trail keep it.
    pub reason: String,
}

/// A correction as it is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CorrectionView {
    /// Its own number.
    pub seq: u64,
    /// Number of the reading that it corrects.
    pub refers_to: u64,
    /// Whose.
    pub tenant: TenantId,
    /// The container; `null` for the tenant's whole cgroup.
    pub container: Option<ContainerId>,
    /// Begin of the hour that changes.
    pub hour: Timestamp,
    /// What.
    pub meter: Meter,
    /// By how much.
    pub delta: Decimal,
    /// What the hour has now, in the meter's unit.
    pub quantity: Decimal,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub author: String,
}
