//! A tenant's network and published ports.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::TenantId;

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of the container that is reachable at a port of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PortMapping {
    /// Address of the host to listen on; every address when absent.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub host_ip: Option<Ipv4Addr>,
    /// Port of the host; a free one is chosen when absent.
    #[serde(default)]
    pub host_port: Option<u16>,
    /// Port inside the container.
    pub container_port: u16,
    /// Protocol.
    #[serde(default)]
    pub protocol: Protocol,
}

impl PortMapping {
    /// Checks the numbers.
    pub fn check(&self) -> Result<(), String> {
        if self.container_port == 0 {
            return Err("container_port must lie between 1 and 65535".to_owned());
        }
        if self.host_port == Some(0) {
            return Err("host_port must lie between 1 and 65535; leave it out for a free one".to_owned());
        }
        Ok(())
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ip) = self.host_ip {
            write!(f, "{ip}:")?;
        }
        if let Some(port) = self.host_port {
            write!(f, "{port}:")?;
        }
        write!(f, "{}/{}", self.container_port, self.protocol.as_str())
    }
}

impl FromStr for PortMapping {
    type Err = String;

    /// Reads Docker's `[[ip:]host_port:]container_port[/protocol]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no port; write [[ip:]host_port:]container_port[/tcp|/udp]");
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.split('/').next().unwrap_or_default(), Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(bad()),
        };
        let mut parts = ports.rsplitn(3, ':');
        let container_port = parts.next().and_then(|port| port.parse().ok()).ok_or_else(bad)?;
        let host_port = match parts.next() {
            None | Some("") => None,
            Some(port) => Some(port.parse().map_err(|_error: std::num::ParseIntError| bad())?),
        };
        let host_ip = match parts.next() {
            None | Some("") => None,
            Some(ip) => Some(ip.parse().map_err(|_error: std::net::AddrParseError| bad())?),
        };
        let mapping = Self { host_ip, host_port, container_port, protocol };
        mapping.check().map(|()| mapping)
    }
}

/// A tenant's network as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NetworkView {
    /// Whose it is.
    pub tenant: TenantId,
    /// Name of the bridge on the host.
    pub bridge: String,
    /// Its addresses, such as `10.201.4.0/22`.
    pub subnet: String,
    /// The bridge's own address, the containers' default route.
    pub gateway: String,
    /// Addresses in use.
    pub addresses_used: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_reads_and_prints_it_again() {
        for text in ["80/tcp", "8080:80/tcp", "127.0.0.1:8080:80/tcp", "53:53/udp"] {
            assert_eq!(text.parse::<PortMapping>().expect(text).to_string(), text);
        }
        assert_eq!("80".parse::<PortMapping>().expect("a bare port").to_string(), "80/tcp");
        for bad in ["", "x", "0", "70000", "1:2:3:4", "80/sctp", "300.0.0.1:1:1"] {
            assert!(bad.parse::<PortMapping>().is_err(), "{bad}");
        }
    }
}
