//! What the network of this host shall be: tenants, attached containers and published ports.
//!
//! Plain values, made by the agent from its database. [`Desired::check`] finds contradictions before anything
//! touches the kernel.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::ipam::gateway;
use crate::names::{Instance, NameError, check_tenant_id};
use crate::ports::{PortError, check_ports};

/// The whole network of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Every tenant that has a bridge.
    pub tenants: Vec<TenantNetwork>,
    /// Every running container that is attached to its tenant's bridge, ports already allotted.
    pub attachments: Vec<Attachment>,
}

/// One tenant's bridge and subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantNetwork {
    /// The tenant's id, `tnt_…`.
    pub tenant_id: String,
    /// The tenant's place in the pool; the bridge is named by it.
    pub index: u32,
    /// The tenant's subnet; its first address is the gateway.
    pub subnet: Ipv4Net,
}

/// One container on its tenant's bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The container's id, hexadecimal.
    pub container_id: String,
    /// The id of the tenant on whose bridge the container is.
    pub tenant_id: String,
    /// The container's address inside the tenant's subnet.
    pub address: Ipv4Addr,
    /// The hardware address of the container's `eth0`.
    pub mac: MacAddress,
    /// Ports published on the host.
    pub ports: Vec<PublishedPort>,
}

/// A port of the host that leads to a port of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's address; `0.0.0.0` means all of them, loopback included.
    pub host_ip: Ipv4Addr,
    /// The host's port; 0 asks for a free one.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host_ip, self.host_port, self.protocol)
    }
}

/// A transport protocol that can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl Protocol {
    /// Returns its number in an IP header (IANA's "Assigned Internet Protocol Numbers").
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// An Ethernet hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Returns the hardware address of an IPv4 address: locally administered, unicast, and unique on a host
    /// because the pool never gives an address twice.
    pub fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x57, a, b, c, d])
    }

    /// Returns the six bytes in transmission order.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// A text that is no hardware address of one station.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a unicast hardware address such as 02:57:0a:c9:00:02")]
pub struct MacAddressError {
    text: String,
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || MacAddressError { text: text.to_owned() };
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *octet =
                u8::from_str_radix(part, 16).ok().filter(|_| !part.starts_with('+')).ok_or_else(wrong)?;
        }
        // The lowest bit of the first byte marks a group address, which no station may have (IEEE 802).
        let group = octets.first().is_some_and(|first| first & 1 == 1);
        if parts.next().is_some() || group || octets == [0; 6] {
            return Err(wrong());
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = MacAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

/// A contradiction in what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// A name cannot become a kernel name.
    #[error("naming {what}")]
    Name {
        /// What was being named.
        what: &'static str,
        /// Why the name was refused.
        #[source]
        source: NameError,
    },
    /// Two tenants share an index or overlap in addresses, or one tenant appears with two networks.
    #[error("network {index} {subnet} of tenant {tenant_id} clashes with that of tenant {holder}")]
    TenantClash {
        /// The tenant that was refused.
        tenant_id: String,
        /// Its index.
        index: u32,
        /// Its subnet.
        subnet: Ipv4Net,
        /// The tenant that has them.
        holder: String,
    },
    /// A subnet is too small to hold a gateway and a container.
    #[error("subnet {subnet} of tenant {tenant_id} is smaller than /30")]
    SubnetTooSmall {
        /// The tenant.
        tenant_id: String,
        /// Its subnet.
        subnet: Ipv4Net,
    },
    /// A container's tenant has no network.
    #[error("tenant {tenant_id} of container {container_id} has no network")]
    UnknownTenant {
        /// The container.
        container_id: String,
        /// Its tenant.
        tenant_id: String,
    },
    /// A container's address is not one that its tenant's subnet gives to containers.
    #[error("address {address} of container {container_id} is not a container address of {subnet}")]
    AddressOutside {
        /// The container.
        container_id: String,
        /// Its address.
        address: Ipv4Addr,
        /// The tenant's subnet.
        subnet: Ipv4Net,
    },
    /// Two containers have one id, address, hardware address or link name.
    #[error("{what} of container {container_id} is already that of container {holder}")]
    ContainerClash {
        /// What they share.
        what: &'static str,
        /// The container that was refused.
        container_id: String,
        /// The container that has it.
        holder: String,
    },
    /// A published port is taken.
    #[error("publishing ports of container {container_id}")]
    Port {
        /// The container.
        container_id: String,
        /// Which port, and who has it.
        #[source]
        source: PortError,
    },
}

/// A set of tenants and attachments without contradictions, kept up to date while containers come and go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    tenants: BTreeMap<String, TenantNetwork>,
    attachments: BTreeMap<String, Attachment>,
}

impl Desired {
    /// Checks that no two parts contradict each other and that every port has a number.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check(&self, instance: &Instance) -> Result<(), DesiredError> {
        Book::new(instance, self).map(|_| ())
    }
}

impl Book {
    /// Makes the book of a desired state.
    pub(crate) fn new(instance: &Instance, desired: &Desired) -> Result<Self, DesiredError> {
        let mut book = Self::default();
        for tenant in &desired.tenants {
            book.admit_tenant(tenant)?;
        }
        for attachment in &desired.attachments {
            book.admit(instance, attachment)?;
        }
        Ok(book)
    }

    pub(crate) fn tenant(&self, tenant_id: &str) -> Option<&TenantNetwork> {
        self.tenants.get(tenant_id)
    }

    pub(crate) fn tenants(&self) -> impl Iterator<Item = &TenantNetwork> {
        self.tenants.values()
    }

    pub(crate) fn attachment(&self, container_id: &str) -> Option<&Attachment> {
        self.attachments.get(container_id)
    }

    pub(crate) fn attachments(&self) -> impl Iterator<Item = &Attachment> + Clone {
        self.attachments.values()
    }

    /// Adds a tenant; one that is there already in the same shape is fine.
    pub(crate) fn admit_tenant(&mut self, tenant: &TenantNetwork) -> Result<(), DesiredError> {
        check_tenant_id(&tenant.tenant_id)
            .map_err(|source| DesiredError::Name { what: "a tenant", source })?;
        if tenant.subnet.prefix_len() > 30 {
            return Err(DesiredError::SubnetTooSmall {
                tenant_id: tenant.tenant_id.clone(),
                subnet: tenant.subnet,
            });
        }
        let same = |a: &TenantNetwork| a.tenant_id == tenant.tenant_id;
        let overlaps = |a: &Ipv4Net, b: &Ipv4Net| a.contains(&b.network()) || b.contains(&a.network());
        let clash = self.tenants.values().find(|other| {
            if same(other) {
                *other != tenant
            } else {
                other.index == tenant.index || overlaps(&other.subnet, &tenant.subnet)
            }
        });
        if let Some(other) = clash {
            return Err(DesiredError::TenantClash {
                tenant_id: tenant.tenant_id.clone(),
                index: tenant.index,
                subnet: tenant.subnet,
                holder: other.tenant_id.clone(),
            });
        }
        self.tenants.insert(tenant.tenant_id.clone(), tenant.clone());
        Ok(())
    }

    /// Takes a tenant out, and tells which container still needs it if one does.
    pub(crate) fn dismiss_tenant(&mut self, tenant_id: &str) -> Result<Option<TenantNetwork>, String> {
        match self.attachments.values().find(|attachment| attachment.tenant_id == tenant_id) {
            Some(holder) => Err(holder.container_id.clone()),
            None => Ok(self.tenants.remove(tenant_id)),
        }
    }

    /// Adds a container whose ports all have numbers.
    pub(crate) fn admit(&mut self, instance: &Instance, attachment: &Attachment) -> Result<(), DesiredError> {
        self.check_attachment(instance, attachment)?;
        check_ports(&attachment.container_id, &attachment.ports, &self.attachments.values())
            .map_err(|source| DesiredError::Port { container_id: attachment.container_id.clone(), source })?;
        self.attachments.insert(attachment.container_id.clone(), attachment.clone());
        Ok(())
    }

    /// Takes a container out.
    pub(crate) fn dismiss(&mut self, container_id: &str) {
        self.attachments.remove(container_id);
    }

    /// Checks all of an attachment but its ports.
    pub(crate) fn check_attachment(
        &self,
        instance: &Instance,
        attachment: &Attachment,
    ) -> Result<(), DesiredError> {
        let id = &attachment.container_id;
        let veth = instance.veth(id).map_err(|source| DesiredError::Name { what: "a container", source })?;
        let tenant = self.tenants.get(&attachment.tenant_id).ok_or_else(|| DesiredError::UnknownTenant {
            container_id: id.clone(),
            tenant_id: attachment.tenant_id.clone(),
        })?;
        let subnet = tenant.subnet;
        let address = attachment.address;
        let reserved = [subnet.network(), subnet.broadcast(), gateway(subnet)];
        if !subnet.contains(&address) || reserved.contains(&address) {
            return Err(DesiredError::AddressOutside { container_id: id.clone(), address, subnet });
        }
        for other in self.attachments.values() {
            let what = if other.container_id == *id {
                "the id"
            } else if other.address == address {
                "the address"
            } else if other.mac == attachment.mac {
                "the hardware address"
            } else if instance.veth(&other.container_id).is_ok_and(|name| name == veth) {
                "the link name"
            } else {
                continue;
            };
            return Err(DesiredError::ContainerClash {
                what,
                container_id: id.clone(),
                holder: other.container_id.clone(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(index: u32, subnet: &str) -> TenantNetwork {
        TenantNetwork { tenant_id: format!("tnt_{index}"), index, subnet: subnet.parse().expect("a subnet") }
    }

    fn attachment(id: &str, address: [u8; 4]) -> Attachment {
        Attachment {
            container_id: id.repeat(16),
            tenant_id: "tnt_1".to_owned(),
            address: address.into(),
            mac: MacAddress::of(address.into()),
            ports: vec![],
        }
    }

    fn check(tenants: Vec<TenantNetwork>, attachments: Vec<Attachment>) -> Result<(), DesiredError> {
        Desired { tenants, attachments }.check(&Instance::new("wharf").expect("a valid name"))
    }

    #[test]
    fn hardware_addresses_are_read_and_written_alike() {
        let mac: MacAddress = "02:57:0a:c9:00:02".parse().expect("a hardware address");
        assert_eq!(mac, MacAddress::of(Ipv4Addr::new(10, 201, 0, 2)));
        assert_eq!(mac.to_string(), "02:57:0a:c9:00:02");
        for text in [
            "",
            "02:57:0a:c9:00",
            "02:57:0a:c9:00:02:03",
            "01:00:5e:00:00:01",
            "2:5:0:0:0:1",
            "00:00:00:00:00:00",
            "+2:57:0a:c9:00:02",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn tenants_may_not_share_an_index_or_overlap() {
        assert!(check(vec![tenant(1, "10.0.0.0/22"), tenant(2, "10.0.4.0/22")], vec![]).is_ok());
        assert!(check(vec![tenant(1, "10.0.0.0/22"), tenant(1, "10.0.0.0/22")], vec![]).is_ok());
        for second in [tenant(1, "10.0.4.0/22"), tenant(2, "10.0.2.0/24"), tenant(2, "10.0.0.0/16")] {
            assert!(matches!(
                check(vec![tenant(1, "10.0.0.0/22"), second], vec![]),
                Err(DesiredError::TenantClash { .. })
            ));
        }
    }

    #[test]
    fn containers_need_a_tenant_and_an_address_of_their_own() {
        let one = || vec![tenant(1, "10.0.0.0/22")];
        assert!(check(one(), vec![attachment("aa", [10, 0, 0, 2]), attachment("bb", [10, 0, 0, 3])]).is_ok());
        assert!(matches!(
            check(vec![], vec![attachment("aa", [10, 0, 0, 2])]),
            Err(DesiredError::UnknownTenant { .. })
        ));
        for address in [[10, 0, 0, 0], [10, 0, 0, 1], [10, 0, 3, 255], [10, 0, 4, 2]] {
            assert!(matches!(
                check(one(), vec![attachment("aa", address)]),
                Err(DesiredError::AddressOutside { .. })
            ));
        }
        let mut same_mac = attachment("bb", [10, 0, 0, 3]);
        same_mac.mac = MacAddress::of(Ipv4Addr::new(10, 0, 0, 2));
        let mut same_link = attachment("aa", [10, 0, 0, 3]);
        same_link.container_id.push_str("bb");
        for second in [attachment("bb", [10, 0, 0, 2]), attachment("aa", [10, 0, 0, 3]), same_mac, same_link]
        {
            assert!(matches!(
                check(one(), vec![attachment("aa", [10, 0, 0, 2]), second]),
                Err(DesiredError::ContainerClash { .. })
            ));
        }
    }
}
