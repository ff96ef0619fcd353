//! What containers exchanged over their networks, beside what their control groups count.

use std::net::Ipv4Addr;

use wharf_network::{Class, Count, Direction, Traffic, TrafficReader};
use wharf_runtime::usage::{Measured, Reading};
use wharf_shared::usage::Meter;

/// Each class and direction has its meter.
pub(super) const METERS: [(Meter, Class, Direction); 8] = [
    (Meter::NetworkInternetIn, Class::Internet, Direction::In),
    (Meter::NetworkInternetOut, Class::Internet, Direction::Out),
    (Meter::NetworkTenantIn, Class::Tenant, Direction::In),
    (Meter::NetworkTenantOut, Class::Tenant, Direction::Out),
    (Meter::NetworkCrossIn, Class::Cross, Direction::In),
    (Meter::NetworkCrossOut, Class::Cross, Direction::Out),
    (Meter::NetworkHostIn, Class::Host, Direction::In),
    (Meter::NetworkHostOut, Class::Host, Direction::Out),
];

/// All that was seen of a container at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    pub(crate) reading: Reading,
    /// What its network counted, or why that is not known: it has none of its own, or reading failed.
    pub(crate) traffic: Result<Traffic, Measured>,
}

impl Look {
    /// What one class of traffic counted.
    pub(super) fn bytes(&self, class: Class, direction: Direction) -> Measured {
        self.measured(|traffic| traffic.count(class, direction).bytes)
    }

    /// What went this way in all.
    pub(crate) fn total(&self, direction: Direction, of: fn(Count) -> u64) -> Measured {
        self.measured(|traffic| of(traffic.total(direction)))
    }

    fn measured(&self, of: impl FnOnce(&Traffic) -> u64) -> Measured {
        match &self.traffic {
            Ok(traffic) => Measured::Value(of(traffic)),
            Err(why) => *why,
        }
    }
}

/// A reading of what has no network of its own.
impl From<Reading> for Look {
    fn from(reading: Reading) -> Self {
        Self { reading, traffic: Err(Measured::NotMeasurable) }
    }
}

/// Reads the counters of this address now.
pub(super) fn of(reader: &TrafficReader, address: Option<Ipv4Addr>) -> Result<Traffic, Measured> {
    let Some(address) = address else { return Err(Measured::NotMeasurable) };
    match reader.of(address) {
        Ok(Some(traffic)) => Ok(traffic),
        Ok(None) => Err(Measured::Unreadable(nix::errno::Errno::ENOENT as i32)),
        Err(error) => Err(Measured::Unreadable(error.raw_os_error().unwrap_or_default())),
    }
}
