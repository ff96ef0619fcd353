//! Bridges, veth pairs, nftables, address pools and published ports.
#![forbid(unsafe_code)]
