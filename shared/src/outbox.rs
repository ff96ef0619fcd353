//! Events of usage on their way to an endpoint outside.

use serde::{Deserialize, Serialize};

use crate::id::{ContainerId, TenantId};
use crate::time::Timestamp;
use crate::usage::Meter;

/// An event that the endpoint has refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefusedEvent {
    /// The hour it is of.
    pub hour: Timestamp,
    /// Whose use.
    pub tenant: TenantId,
    /// Which container's.
    pub container: ContainerId,
    /// What.
    pub meter: Meter,
    /// From which number of the host's journal on it counts.
    pub revision: i64,
    /// What the endpoint said.
    pub problem: String,
    /// When.
    pub refused_at: Timestamp,
}

/// The outbox as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutboxView {
    /// Where events are sent, without credentials; `null` if nothing is sent.
    pub url: Option<String>,
    /// Events of hours that are not over.
    pub gathering: u64,
    /// Events that wait to be taken.
    pub queued: u64,
    /// Events that the endpoint has refused.
    pub refused: u64,
    /// Additions for which there was no room: they are in exports, but never sent.
    pub dropped: u64,
    /// The earliest hour of which an event waits.
    pub oldest_queued_hour: Option<Timestamp>,
    /// Events that were taken since the agent started.
    pub sent: u64,
    /// When one was taken last.
    pub last_sent_at: Option<Timestamp>,
    /// Why the last attempt failed; `null` if it did not.
    pub problem: Option<String>,
    /// Attempts that failed one after another.
    pub failures: u32,
    /// The last events that were refused, at most 100.
    pub last_refused: Vec<RefusedEvent>,
}

/// How many refused events are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutboxRetry {
    /// Events.
    pub queued: u64,
}
