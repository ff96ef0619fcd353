//! Usage: what was measured, per tenant, container and hour.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::id::{ContainerId, TenantId};
use crate::time::Timestamp;

/// A number the kernel gave, or why there is none. Never 0 for "could not be read".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// The counter's value.
    Value(u64),
    /// This kernel has no such counter.
    NotMeasurable,
    /// Reading failed with this errno.
    Unreadable(i32),
}

impl Measured {
    /// The value, if there is one.
    pub const fn value(self) -> Option<u64> {
        match self {
            Self::Value(value) => Some(value),
            Self::NotMeasurable | Self::Unreadable(_) => None,
        }
    }
}

/// What is metered. Quantities are in the smallest unit, exact integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// CPU time used, in nanoseconds.
    CpuUsed,
    /// CPU limit × time, in thousandths of a CPU times nanoseconds (an integer for every limit).
    CpuReserved,
    /// Memory in use × time, in byte-nanoseconds.
    MemoryUsed,
    /// Memory limit × time, in byte-nanoseconds.
    MemoryReserved,
    /// Bytes the container received.
    NetworkIn,
    /// Bytes the container sent.
    NetworkOut,
    /// Bytes read from block devices.
    BlockRead,
    /// Bytes written to block devices.
    BlockWrite,
}

impl Meter {
    /// All meters, in the order of exports.
    pub const ALL: [Self; 8] = [
        Self::CpuUsed,
        Self::CpuReserved,
        Self::MemoryUsed,
        Self::MemoryReserved,
        Self::NetworkIn,
        Self::NetworkOut,
        Self::BlockRead,
        Self::BlockWrite,
    ];

    /// The word for it, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CpuUsed => "cpu_used",
            Self::CpuReserved => "cpu_reserved",
            Self::MemoryUsed => "memory_used",
            Self::MemoryReserved => "memory_reserved",
            Self::NetworkIn => "network_in",
            Self::NetworkOut => "network_out",
            Self::BlockRead => "block_read",
            Self::BlockWrite => "block_write",
        }
    }

    /// The meter of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|meter| meter.as_str() == name)
    }

    /// Unit of the exact integer quantity.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::CpuUsed => "cpu-nanoseconds",
            Self::CpuReserved => "millicpu-nanoseconds",
            Self::MemoryUsed | Self::MemoryReserved => "byte-nanoseconds",
            Self::NetworkIn | Self::NetworkOut | Self::BlockRead | Self::BlockWrite => "bytes",
        }
    }

    /// The unit that a price is for.
    pub const fn pricing_unit(self) -> &'static str {
        match self {
            Self::CpuUsed | Self::CpuReserved => "Core-Seconds",
            Self::MemoryUsed | Self::MemoryReserved => "GB-Seconds",
            Self::NetworkIn | Self::NetworkOut | Self::BlockRead | Self::BlockWrite => "GB",
        }
    }

    /// Ten to this power of [`Self::unit`] make one [`Self::pricing_unit`].
    pub const fn pricing_unit_exponent(self) -> u32 {
        match self {
            Self::CpuUsed | Self::NetworkIn | Self::NetworkOut | Self::BlockRead | Self::BlockWrite => 9,
            Self::CpuReserved => 12,
            Self::MemoryUsed | Self::MemoryReserved => 18,
        }
    }
}

/// Whether a quantity is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Every reading of the hour is there.
    Measured,
    /// Readings are missing in the hour. What could not be read is not billed; what a later reading
    /// still found is booked to the hour of that reading.
    Partial,
    /// This host cannot measure it.
    NotMeasurable,
}

impl Quality {
    /// The word for it, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Partial => "partial",
            Self::NotMeasurable => "not_measurable",
        }
    }

    /// The quality of this word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Measured, Self::Partial, Self::NotMeasurable].into_iter().find(|found| found.as_str() == name)
    }

    /// The quality of two parts together: whole only if both are.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Partial }
    }
}

/// What one meter of one container counted in one hour: what is kept and rated, not what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageHour {
    /// Begin of the hour.
    pub hour: Timestamp,
    /// Whose.
    pub tenant: TenantId,
    /// The container; `None` for the tenant's whole cgroup.
    pub container: Option<ContainerId>,
    /// What.
    pub meter: Meter,
    /// The tenant's name at that time.
    pub tenant_name: String,
    /// The container's name at that time.
    pub container_name: String,
    /// The container's labels at that time.
    pub labels: BTreeMap<String, String>,
    /// How much, in the meter's unit.
    pub quantity: u128,
    /// Whether it is whole.
    pub quality: Quality,
}

/// Usage of one meter by one container in one hour, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageRow {
    /// Whose.
    pub tenant: TenantId,
    /// The tenant's name.
    pub tenant_name: String,
    /// The container; `null` for the tenant's use outside its containers.
    pub container: Option<ContainerId>,
    /// The container's name.
    pub container_name: String,
    /// Begin of the hour.
    pub hour: Timestamp,
    /// What.
    pub meter: Meter,
    /// How much, an exact integer in the meter's unit.
    pub quantity: Decimal,
    /// Unit of the quantity.
    pub unit: String,
    /// Whether it is whole.
    pub quality: Quality,
    /// What it costs by the price book in force, exact and unrounded.
    pub amount: Decimal,
    /// ISO 4217 code.
    pub currency: String,
}

/// How an export is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// FOCUS 1.2 columns as CSV.
    #[default]
    Csv,
    /// One JSON object a line.
    Jsonl,
}
