//! Bridges, veth pairs, nftables, address pools and published ports.
//!
//! Pure: [`ipam`] gives out addresses, [`desired`] says what shall be and finds contradictions, [`names`] makes
//! kernel names, [`nft::ruleset`] makes the rules' text, [`ports`] decides about ports, [`hosts`] renders files.
#![forbid(unsafe_code)]

pub mod desired;
pub mod hosts;
pub mod ipam;
pub mod names;
pub mod nft;
pub mod ports;

pub use desired::{Attachment, Desired, DesiredError, MacAddress, Protocol, PublishedPort, TenantNetwork};
pub use names::Instance;
