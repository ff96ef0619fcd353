//! Readings: the facts that all usage is computed from, as the host journal keeps them.
//!
//! A reading covers `[t0, t1)` of one series: one incarnation (start) of a container, or a tenant's
//! whole cgroup since the host's boot. It carries each meter's cumulative value and the difference
//! to the reading before, so that a reader can prove that nothing is missing or counted twice:
//! `cum - delta` of a reading is `cum` of the one before. Names are not in it, only ids.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::{ContainerId, TenantId};
use crate::time::Timestamp;
use crate::usage::{Meter, Quality};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)*) => {
        /// Why a reading was taken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ReadingKind {
            $($(#[$doc])* #[serde(rename = $word)] $kind,)*
        }

        impl ReadingKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The word for it, as in the journal.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $word,)* }
            }

            /// The kind of this word.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
            }

            /// Whether it is a fact of the host itself, without tenant and meters.
            pub const fn is_of_host(self) -> bool {
                matches!(
                    self,
                    Self::ClockStep | Self::HostStart | Self::HostStop | Self::Correction | Self::Checkpoint
                )
            }

            /// Whether nothing of the container's own follows such a reading.
            pub const fn is_end(self) -> bool {
                matches!(self, Self::Final | Self::FinalBlock | Self::Gap)
            }
        }
    };
}

kinds! {
    /// First of its series; the counters' values from which it counts.
    Open = "open",
    /// The sampler's turn, or an edge of an hour.
    Periodic = "periodic",
    /// Limits are about to change.
    Config = "config",
    /// Just frozen.
    Freeze = "freeze",
    /// About to be thawed.
    Thaw = "thaw",
    /// Last of its series.
    Final = "final",
    /// After [`Self::Final`]: block I/O that was still being written back.
    FinalBlock = "final_blk",
    /// First after the agent came back to a running container.
    Adopt = "adopt",
    /// The series ended without a last reading (power loss): `[t0, t1)` is not known and not billed.
    Gap = "gap",
    /// A kernel counter went down although it is the same cgroup.
    Reset = "reset",
    /// The wall clock was set: in the source `step_us` says by how much, negative if it went back.
    ClockStep = "clock_step",
    /// The agent started to meter on this host.
    HostStart = "host_start",
    /// The agent stopped orderly.
    HostStop = "host_stop",
    /// A person put something right; it may take away.
    Correction = "correction",
    /// The host's key signed everything before it.
    Checkpoint = "checkpoint",
}

/// One meter in a reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterReading {
    /// What. Reserved meters are not here: they follow from [`ReadingRecord::limits`] and time.
    #[serde(rename = "m")]
    pub meter: Meter,
    /// The last value that the kernel gave: the counter, or the level of memory in bytes.
    pub raw: Option<u64>,
    /// Units of the meter since the series began, counted through resets.
    #[serde(with = "integer_text")]
    pub cum: u128,
    /// Units of the meter in `[t0, t1)`.
    #[serde(with = "integer_text")]
    pub delta: u128,
    /// Whether `delta` is whole.
    #[serde(rename = "q")]
    pub quality: Quality,
}

/// The limits in force during `[t0, t1)`; they are the same all through it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingLimits {
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u32>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
}

/// What a series belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeriesKey {
    /// The kernel's boot id.
    pub boot_id: String,
    /// Whose; `None` for the host's own facts.
    pub tenant: Option<TenantId>,
    /// The container; `None` for the tenant's whole cgroup.
    pub container: Option<ContainerId>,
    /// Which start of the container; 0 without a container.
    pub incarnation: u64,
}

/// One reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingRecord {
    /// What it belongs to.
    pub series: SeriesKey,
    /// Why it was taken.
    pub kind: ReadingKind,
    /// Begin, on the clock that neither stops nor jumps (`CLOCK_BOOTTIME`).
    pub t0_boot_ns: u64,
    /// End, on the same clock.
    pub t1_boot_ns: u64,
    /// Begin, by the wall clock.
    pub t0_utc: Timestamp,
    /// End, by the wall clock.
    pub t1_utc: Timestamp,
    /// The meters, each at most once.
    pub meters: Vec<MeterReading>,
    /// The limits during the interval.
    pub limits: ReadingLimits,
    /// Where it was read, such as `cgroup_id` and `ifindex`.
    pub source: BTreeMap<String, String>,
}

impl ReadingRecord {
    /// The reading of this meter, if it has one.
    pub fn meter(&self, meter: Meter) -> Option<&MeterReading> {
        self.meters.iter().find(|reading| reading.meter == meter)
    }

    /// Length of the interval.
    pub const fn duration_ns(&self) -> u64 {
        self.t1_boot_ns.saturating_sub(self.t0_boot_ns)
    }
}

/// Integers as text, so that no reader of JSON takes them through a float.
mod integer_text {
    use super::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_integers_cross_json_as_text() {
        let reading = MeterReading {
            meter: Meter::MemoryUsed,
            raw: Some(1),
            cum: u128::MAX,
            delta: 1,
            quality: Quality::Measured,
        };
        let text = serde_json::to_string(&reading).expect("serializes");
        assert!(text.contains("\"cum\":\"340282366920938463463374607431768211455\""), "{text}");
        assert_eq!(serde_json::from_str::<MeterReading>(&text).expect("reads"), reading);
    }

    #[test]
    fn every_kind_is_found_by_its_word() {
        for kind in ReadingKind::ALL {
            assert_eq!(ReadingKind::from_name(kind.as_str()), Some(*kind));
            assert_eq!(serde_json::to_string(kind).expect("a word"), format!("\"{}\"", kind.as_str()));
        }
    }
}
