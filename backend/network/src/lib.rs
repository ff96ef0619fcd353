//! Bridges, veth pairs, nftables, address pools and published ports.
//!
//! Pure: [`ipam`] gives out addresses, [`desired`] says what shall be and finds contradictions, [`names`] makes
//! kernel names, [`nft::ruleset`] makes the rules' text, [`ports`] decides about ports, [`hosts`] renders files.
//! [`forwarding`] looks at other programs' firewalls.
//! With effects: [`attach::Network`] brings it into the kernel through [`nft`] and [`netlink`], and
//! [`nft::traffic`] reads what each container sent and received.
#![forbid(unsafe_code)]

pub mod attach;
pub mod desired;
pub mod forwarding;
pub mod hosts;
pub mod ipam;
pub mod names;
pub mod netlink;
pub mod nft;
pub mod ports;

pub use attach::{Applied, Attached, Failures, Network, NetworkConfig, NetworkError};
pub use desired::{Attachment, Desired, DesiredError, MacAddress, Protocol, PublishedPort, TenantNetwork};
pub use names::Instance;
pub use nft::traffic::{Class, Count, Direction, Traffic, TrafficReader};
