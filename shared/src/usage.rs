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

macro_rules! meters {
    ($($(#[$doc:meta])* $meter:ident = $name:literal $(or $before:literal)?, $title:literal, $unit:literal, 10^$exponent:literal = $pricing_unit:literal;)*) => {
        /// What is metered. Quantities are in the smallest unit, exact integers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum Meter {
            $($(#[$doc])* #[serde(rename = $name $(, alias = $before)?)] $meter,)*
        }

        impl Meter {
            /// All meters, in the order of exports.
            pub const ALL: [Self; { [$(Self::$meter),*].len() }] = [$(Self::$meter),*];

            /// The word for it, as on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$meter => $name,)* }
            }

            /// The meter of this name. One from before traffic was told apart by class, which journals, hours and
            /// price books may still have, is that of the internet's.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name $(| $before)? => Some(Self::$meter),)*
                    _ => None,
                }
            }

            /// What people call it.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$meter => $title,)* }
            }

            /// Unit of the exact integer quantity.
            pub const fn unit(self) -> &'static str {
                match self { $(Self::$meter => $unit,)* }
            }

            /// The unit that a price is for.
            pub const fn pricing_unit(self) -> &'static str {
                match self { $(Self::$meter => $pricing_unit,)* }
            }

            /// Ten to this power of [`Self::unit`] make one [`Self::pricing_unit`].
            pub const fn pricing_unit_exponent(self) -> u32 {
                match self { $(Self::$meter => $exponent,)* }
            }
        }
    };
}

meters! {
    /// CPU time used.
    CpuUsed = "cpu_used", "CPU used", "cpu-nanoseconds", 10^9 = "Core-Seconds";
    /// CPU limit × time, in thousandths of a CPU times nanoseconds (an integer for every limit).
    CpuReserved = "cpu_reserved", "CPU reserved", "millicpu-nanoseconds", 10^12 = "Core-Seconds";
    /// Memory in use × time.
    MemoryUsed = "memory_used", "Memory used", "byte-nanoseconds", 10^18 = "GB-Seconds";
    /// Memory limit × time.
    MemoryReserved = "memory_reserved", "Memory reserved", "byte-nanoseconds", 10^18 = "GB-Seconds";
    /// Received from outside the host. All traffic is counted in bytes of IP packets as the host sees them.
    NetworkInternetIn = "network_internet_in" or "network_in", "Network in, internet", "bytes", 10^9 = "GB";
    /// Sent to outside the host.
    NetworkInternetOut = "network_internet_out" or "network_out", "Network out, internet", "bytes", 10^9 = "GB";
    /// Received from containers of the same tenant.
    NetworkTenantIn = "network_tenant_in", "Network in, same tenant", "bytes", 10^9 = "GB";
    /// Sent to containers of the same tenant.
    NetworkTenantOut = "network_tenant_out", "Network out, same tenant", "bytes", 10^9 = "GB";
    /// Received from containers of other tenants.
    NetworkCrossIn = "network_cross_in", "Network in, other tenants", "bytes", 10^9 = "GB";
    /// Sent to containers of other tenants.
    NetworkCrossOut = "network_cross_out", "Network out, other tenants", "bytes", 10^9 = "GB";
    /// Received from the host itself.
    NetworkHostIn = "network_host_in", "Network in, host", "bytes", 10^9 = "GB";
    /// Sent to the host itself.
    NetworkHostOut = "network_host_out", "Network out, host", "bytes", 10^9 = "GB";
    /// Bytes read from block devices.
    BlockRead = "block_read", "Block read", "bytes", 10^9 = "GB";
    /// Bytes written to block devices.
    BlockWrite = "block_write", "Block write", "bytes", 10^9 = "GB";
    /// How long a container ran, paused or not.
    ContainerTime = "container_time", "Container time", "container-nanoseconds", 10^9 = "Container-Seconds";
    /// How often a start was begun, by hand, by policy or from a checkpoint, however it ended.
    Starts = "starts", "Starts", "starts", 10^0 = "Starts";
}

impl Meter {
    /// Whether it counts traffic of one class: a reading has such a meter from its first byte on.
    pub const fn is_network(self) -> bool {
        matches!(
            self,
            Self::NetworkInternetIn
                | Self::NetworkInternetOut
                | Self::NetworkTenantIn
                | Self::NetworkTenantOut
                | Self::NetworkCrossIn
                | Self::NetworkCrossOut
                | Self::NetworkHostIn
                | Self::NetworkHostOut
        )
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
    /// FOCUS 1.2 columns as Parquet, with exact decimals and times of UTC.
    Parquet,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_meter_is_found_by_its_name_and_by_the_one_it_had() {
        let read = |name: &str| serde_json::from_str::<Meter>(&format!("\"{name}\"")).expect("a meter");
        for meter in Meter::ALL {
            assert_eq!(Meter::from_name(meter.as_str()), Some(meter));
            assert_eq!(read(meter.as_str()), meter);
            assert_eq!(serde_json::to_string(&meter).expect("a word"), format!("\"{}\"", meter.as_str()));
        }
        for (before, meter) in
            [("network_in", Meter::NetworkInternetIn), ("network_out", Meter::NetworkInternetOut)]
        {
            assert_eq!((Meter::from_name(before), read(before)), (Some(meter), meter));
        }
        assert_eq!(Meter::from_name("network"), None);
    }
}
