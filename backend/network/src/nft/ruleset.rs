//! The rule set as text for `nft -f -`: one text is one atomic transaction of the kernel.
//!
//! The chains are static and match our links by the wildcards of [`Instance`]; what changes lives in sets and
//! maps, so attaching a container adds elements and touches no rule. Nothing in the text comes from a tenant:
//! addresses, numbers and names made by [`Instance`] only.
//!
//! What holds, and by which chain:
//! - `bridge guard`: a container sends with its own hardware and IPv4 address and as itself in ARP, or not at
//!   all; IPv6 and every other protocol is refused. A port without an element is mute.
//! - `published`, `published_locally`: the host's ports lead to containers. Loopback addresses lead there only
//!   for the host itself: a neighbour who sends 127.0.0.1 over the wire meets no translation.
//! - `source`: containers leave as the host; what comes back to a container by a published port, from one of
//!   ours or from the host's loopback, passes the bridge's address, so that answers find their way.
//! - `input`: containers reach nothing of the host but answers; its loopback neither (CVE-2020-8558), though
//!   `route_localnet` is on for our bridges because a published port must answer there.
//! - `forward`: nothing crosses between tenants and nothing enters, but by a published port or as an answer.
//!   A published port is public: another tenant's container reaches it as any stranger does.
//! - `connections` and its rules in `forward`: no tenant has more than about half of the kernel's table of
//!   connections, coming or going ([`Share`]), so that a flood by one leaves room for all others.
//!
//! An accepting verdict here ends only our chain: a host's own firewall (or Docker's `FORWARD` policy `DROP`)
//! may still refuse.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use super::traffic::{self, Class, Direction, Hairpin};
use crate::desired::{Attachment, MacAddress, PublishedPort, TenantNetwork};
use crate::names::{Instance, NameError};

/// The nft tables' families: both are named after the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Inet,
    Bridge,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        })
    }
}

/// How many parts a tenant's connections are counted in. To count one more, the kernel looks at each of its
/// part (`nf_conncount`): in one piece a full table costs milliseconds a packet, which is an attack by itself.
const PARTS: u32 = 2048;
/// The least that a part holds: with fewer, chance would refuse connections of a tenant that has few.
const LEAST_OF_A_PART: u32 = 16;

/// How much of the kernel's table of connections one tenant may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Connections in each of the [`PARTS`].
    of_a_part: u32,
}

impl Share {
    /// Half of a table for `max` connections (`nf_conntrack_max`; 0 is without bound).
    pub fn of(max: u32) -> Self {
        let half = if max == 0 { u32::MAX / 2 } else { max / 2 };
        Self { of_a_part: (half / PARTS).max(LEAST_OF_A_PART) }
    }
}

/// Renders the transaction that replaces everything of the instance by what is given. What was counted for the
/// containers that stay goes on; elements that count for others stay too.
///
/// # Errors
/// [`NameError`] for a container whose id cannot name a link.
pub fn replace<'a>(
    instance: &Instance,
    share: Share,
    hairpin: Hairpin,
    tenants: impl Iterator<Item = &'a TenantNetwork>,
    attachments: impl Iterator<Item = &'a Attachment>,
) -> Result<String, NameError> {
    let mut elements = Elements::default();
    for tenant in tenants {
        elements.tenant(instance, tenant);
    }
    for attachment in attachments {
        elements.attachment(instance, attachment)?;
    }
    Ok(remove_rules(instance)
        + &chains(instance, share)
        + &traffic::tables(instance, hairpin)
        + &elements.statements(instance, "add"))
}

/// Renders the transaction that removes everything of the instance, if anything is there.
pub fn purge(instance: &Instance) -> String {
    remove_rules(instance) + &traffic::purge(instance)
}

/// Renders the removal of the firewall.
fn remove_rules(instance: &Instance) -> String {
    let table = instance.name();
    // `delete` fails on a table that is not there, and `destroy` is younger than Debian 12's nft.
    [Family::Inet, Family::Bridge]
        .map(|family| format!("add table {family} {table}\ndelete table {family} {table}\n"))
        .concat()
}

/// Renders the transaction that lets a tenant in; repeating it changes nothing.
pub fn add_tenant(instance: &Instance, tenant: &TenantNetwork) -> String {
    let mut elements = Elements::default();
    elements.tenant(instance, tenant);
    elements.statements(instance, "add")
}

/// Renders the transaction that takes a tenant out; repeating it changes nothing.
pub fn remove_tenant(instance: &Instance, tenant: &TenantNetwork) -> String {
    let mut elements = Elements::default();
    elements.tenant(instance, tenant);
    elements.removal(instance)
}

/// An element that comes and goes with a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// What the container may send as.
    Owner {
        /// The host's end of its veth pair.
        veth: String,
        /// Its hardware address.
        mac: MacAddress,
        /// Its address.
        address: Ipv4Addr,
    },
    /// A port of the host that leads to it.
    Published {
        /// The port.
        port: PublishedPort,
        /// The container's address.
        address: Ipv4Addr,
    },
    /// What counts one class of its traffic.
    Counter {
        /// With whom.
        class: Class,
        /// Which way.
        direction: Direction,
        /// Where it is seen.
        family: Family,
        /// The container's address.
        address: Ipv4Addr,
    },
}

/// The elements that count the traffic of this address.
pub(crate) fn counters(address: Ipv4Addr) -> impl Iterator<Item = Element> {
    traffic::SETS.into_iter().map(move |(class, direction, family)| Element::Counter {
        class,
        direction,
        family,
        address,
    })
}

/// The elements of a container.
///
/// # Errors
/// [`NameError`] if the container's id cannot name a link.
pub(crate) fn elements(instance: &Instance, attachment: &Attachment) -> Result<Vec<Element>, NameError> {
    let Attachment { address, mac, .. } = *attachment;
    let veth = instance.veth(&attachment.container_id)?;
    let ports = attachment.ports.iter().map(|port| Element::Published { port: *port, address });
    let rules = std::iter::once(Element::Owner { veth, mac, address }).chain(ports);
    Ok(rules.chain(counters(address)).collect())
}

impl Element {
    /// Whether it counts what it matches.
    pub(super) const fn counts(&self) -> bool {
        matches!(self, Self::Counter { .. })
    }

    pub(super) fn set(&self) -> Set {
        match self {
            Self::Owner { .. } => Set::Owners,
            Self::Published { port, .. } if port.host_ip.is_unspecified() => Set::Published,
            Self::Published { .. } => Set::PublishedAt,
            Self::Counter { class, direction, family, .. } => Set::Usage(*family, *class, *direction),
        }
    }

    /// As `nft` reads it.
    fn text(&self) -> String {
        match self {
            Self::Owner { veth, mac, address } => format!("\"{veth}\" . {mac} . {address}"),
            Self::Published { port, address } => {
                let PublishedPort { host_ip, host_port, container_port, protocol } = port;
                let at = if host_ip.is_unspecified() { String::new() } else { format!("{host_ip} . ") };
                format!("{protocol} . {at}{host_port} : {address} . {container_port}")
            }
            Self::Counter { address, .. } => address.to_string(),
        }
    }

    /// As the kernel compares it: each part fills whole registers of four bytes.
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(28);
        match self {
            Self::Owner { veth, mac, address } => {
                register(&mut key, veth.as_bytes());
                key.resize(IFNAMSIZ, 0);
                register(&mut key, &mac.octets());
                register(&mut key, &address.octets());
            }
            Self::Published { port, .. } => {
                register(&mut key, &[port.protocol.number()]);
                if !port.host_ip.is_unspecified() {
                    register(&mut key, &port.host_ip.octets());
                }
                register(&mut key, &port.host_port.to_be_bytes());
            }
            Self::Counter { address, .. } => register(&mut key, &address.octets()),
        }
        key
    }

    /// What a map's element leads to, in the same form.
    pub(super) fn value(&self) -> Option<Vec<u8>> {
        let Self::Published { port, address } = self else { return None };
        let mut value = Vec::with_capacity(8);
        register(&mut value, &address.octets());
        register(&mut value, &port.container_port.to_be_bytes());
        Some(value)
    }
}

/// Length of a link's name in a key, with its NULs.
const IFNAMSIZ: usize = 16;

fn register(key: &mut Vec<u8>, bytes: &[u8]) {
    key.extend(bytes);
    key.resize(key.len().next_multiple_of(4), 0);
}

/// The sets and maps, each with its family, in the order in which their elements are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// Link, hardware address and IPv4 address of each container.
    Owners,
    /// Each tenant's bridge, paired with itself.
    Home,
    /// Each tenant's subnet.
    Subnets,
    /// Ports published on all of the host's addresses.
    Published,
    /// Ports published on one address.
    PublishedAt,
    /// As [`Self::Home`], where traffic is counted.
    UsageHome,
    /// Addresses whose traffic of this class is counted.
    Usage(Family, Class, Direction),
}

impl Set {
    /// Family and name of its table, and its own name.
    pub(super) fn place(self, instance: &Instance) -> (Family, String, &'static str) {
        let rules = |family, name| (family, instance.name().to_owned(), name);
        match self {
            Self::Owners => rules(Family::Bridge, "owners"),
            Self::Home => rules(Family::Inet, "home"),
            Self::Subnets => rules(Family::Inet, "subnets"),
            Self::Published => rules(Family::Inet, "published"),
            Self::PublishedAt => rules(Family::Inet, "published_at"),
            Self::UsageHome => (Family::Inet, instance.usage_table(), "home"),
            Self::Usage(family, class, direction) => {
                (family, instance.usage_table(), traffic::set_name(class, direction))
            }
        }
    }
}

/// Elements by the set they belong to.
#[derive(Default)]
struct Elements(BTreeMap<Set, Vec<String>>);

impl Elements {
    fn push(&mut self, set: Set, element: String) {
        self.0.entry(set).or_default().push(element);
    }

    fn tenant(&mut self, instance: &Instance, tenant: &TenantNetwork) {
        let bridge = instance.bridge(tenant.index);
        for set in [Set::Home, Set::UsageHome] {
            self.push(set, format!("\"{bridge}\" . \"{bridge}\""));
        }
        self.push(Set::Subnets, tenant.subnet.trunc().to_string());
    }

    fn attachment(&mut self, instance: &Instance, attachment: &Attachment) -> Result<(), NameError> {
        for element in elements(instance, attachment)? {
            self.push(element.set(), element.text());
        }
        Ok(())
    }

    /// Renders one statement a set.
    fn statements(&self, instance: &Instance, verb: &str) -> String {
        let statement = |(set, elements): (&Set, &Vec<String>)| {
            let (family, table, name) = set.place(instance);
            format!("{verb} element {family} {table} {name} {{ {} }}\n", elements.join(", "))
        };
        self.0.iter().map(statement).collect()
    }

    /// Renders the removal. Deleting an element that is not there is an error that would undo the whole
    /// transaction, so each is added first: that is no change when it is there.
    fn removal(&self, instance: &Instance) -> String {
        self.statements(instance, "add") + &self.statements(instance, "delete")
    }
}

/// Renders the tables with their sets and chains, without elements.
fn chains(instance: &Instance, share: Share) -> String {
    let table = instance.name();
    let of_a_part = share.of_a_part;
    let part = format!("jhash ip saddr . ip daddr . th sport . th dport mod {PARTS}");
    let bridges = instance.bridges();
    let veths = instance.veths();
    format!(
        r#"table bridge {table} {{
	set owners {{ type ifname . ether_addr . ipv4_addr; }}
	chain guard {{
		type filter hook prerouting priority dstnat; policy accept;
		iifname != "{veths}" accept
		iifname . ether saddr . ip saddr @owners accept
		iifname . ether saddr . arp saddr ip @owners iifname . arp saddr ether . arp saddr ip @owners accept
		drop
	}}
}}
table inet {table} {{
	set home {{ type ifname . ifname; }}
	set subnets {{ type ipv4_addr; flags interval; }}
	set connections {{ type ifname . mark; flags dynamic; size 1048576; }}
	map published {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
	map published_at {{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }}
	chain translate {{
		dnat ip to meta l4proto . ip daddr . th dport map @published_at
		dnat ip to meta l4proto . th dport map @published
	}}
	chain published {{
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr != 127.0.0.0/8 fib daddr type local jump translate
	}}
	chain published_locally {{
		type nat hook output priority -100; policy accept;
		ip daddr != 0.0.0.0 fib daddr type local jump translate
	}}
	chain source {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @subnets oifname != "{bridges}" masquerade
		ip saddr @subnets oifname "{bridges}" ct status dnat masquerade
		ip saddr 127.0.0.0/8 oifname "{bridges}" masquerade
	}}
	chain input {{
		type filter hook input priority filter; policy accept;
		iifname != "{bridges}" accept
		meta nfproto ipv4 ct state established,related accept
		drop
	}}
	chain forward {{
		type filter hook forward priority filter; policy accept;
		iifname != "{bridges}" oifname != "{bridges}" accept
		meta nfproto != ipv4 drop
		ip daddr 169.254.0.0/16 drop
		iifname . oifname @home accept
		ct state vmap {{ established : accept, related : accept, invalid : drop }}
		oifname "{bridges}" ct status and dnat == 0 drop
		ct status and confirmed != 0 accept
		iifname "{bridges}" add @connections {{ iifname . {part} ct count over {of_a_part} }} drop
		oifname "{bridges}" add @connections {{ oifname . {part} ct count over {of_a_part} }} drop
	}}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Protocol;

    fn wharf() -> Instance {
        Instance::new("wharf").expect("a valid name")
    }

    fn tenant() -> TenantNetwork {
        let subnet = "10.201.4.0/22".parse().expect("a subnet");
        TenantNetwork { tenant_id: "tnt_1".to_owned(), index: 1, subnet }
    }

    fn attachment() -> Attachment {
        let address = Ipv4Addr::new(10, 201, 4, 2);
        let port = |host_ip: [u8; 4], host_port, protocol| PublishedPort {
            host_ip: host_ip.into(),
            host_port,
            container_port: 80,
            protocol,
        };
        Attachment {
            container_id: "0123456789abcdef".to_owned(),
            tenant_id: "tnt_1".to_owned(),
            address,
            mac: MacAddress::of(address),
            ports: vec![
                port([0, 0, 0, 0], 8080, Protocol::Tcp),
                port([127, 0, 0, 1], 8081, Protocol::Tcp),
                port([0, 0, 0, 0], 53, Protocol::Udp),
            ],
        }
    }

    const OWNER: &str = "{ \"wharfv012345678\" . 02:57:0a:c9:04:02 . 10.201.4.2 }";
    const ANYWHERE: &str = "{ tcp . 8080 : 10.201.4.2 . 80, udp . 53 : 10.201.4.2 . 80 }";
    const LOOPBACK: &str = "{ tcp . 127.0.0.1 . 8081 : 10.201.4.2 . 80 }";

    #[test]
    fn a_container_is_one_owner_and_its_ports_in_the_kernels_registers() {
        let elements = elements(&wharf(), &attachment()).expect("a valid id");
        let (counters, rules): (Vec<&Element>, Vec<&Element>) =
            elements.iter().partition(|element| element.counts());
        assert_eq!(counters.len(), 10, "each class and direction, and the tenant's on its bridge too");
        assert!(counters.iter().all(|counter| counter.key() == [10, 201, 4, 2] && counter.value().is_none()));
        let parts: Vec<(Set, Vec<u8>, Option<Vec<u8>>)> =
            rules.iter().map(|element| (element.set(), element.key(), element.value())).collect();
        let to = Some(vec![10, 201, 4, 2, 0, 80, 0, 0]);
        let owner = [b"wharfv012345678\0".as_slice(), &[2, 0x57, 10, 201, 4, 2, 0, 0], &[10, 201, 4, 2]];
        assert_eq!(
            parts,
            [
                (Set::Owners, owner.concat(), None),
                (Set::Published, vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0], to.clone()),
                (Set::PublishedAt, vec![6, 0, 0, 0, 127, 0, 0, 1, 0x1f, 0x91, 0, 0], to.clone()),
                (Set::Published, vec![17, 0, 0, 0, 0, 53, 0, 0], to),
            ]
        );
    }

    #[test]
    fn a_tenant_is_its_bridge_and_its_subnet() {
        assert_eq!(
            add_tenant(&wharf(), &tenant()),
            "add element inet wharf home { \"wharfb1\" . \"wharfb1\" }\n\
             add element inet wharf subnets { 10.201.4.0/22 }\n\
             add element inet wharf-usage home { \"wharfb1\" . \"wharfb1\" }\n"
        );
        let removal = remove_tenant(&wharf(), &tenant());
        assert!(removal.contains("\ndelete element inet wharf subnets { 10.201.4.0/22 }\n"), "{removal}");
    }

    #[test]
    fn a_replacement_begins_with_nothing_and_ends_with_all_elements() {
        let text =
            replace(&wharf(), Share::of(262_144), Hairpin::Routed, [tenant()].iter(), [attachment()].iter())
                .expect("valid names");
        assert!(text.starts_with(&remove_rules(&wharf())));
        assert!(!text.contains("delete table inet wharf-usage"), "what was counted stays");
        assert!(text.contains("add element inet wharf-usage internet_out { 10.201.4.2 }\n"), "{text}");
        assert!(text.contains("iifname != \"wharfv*\" accept"));
        for element in [OWNER, ANYWHERE, LOOPBACK, "{ \"wharfb1\" . \"wharfb1\" }", "{ 10.201.4.0/22 }"] {
            assert!(text.contains(element), "{element}");
        }
    }

    #[test]
    fn a_tenant_has_half_of_the_table_and_never_nearly_nothing() {
        assert_eq!(Share::of(262_144).of_a_part * PARTS, 131_072);
        assert_eq!(Share::of(65_536).of_a_part, 16);
        assert_eq!(Share::of(1_000).of_a_part, 16);
        assert_eq!(Share::of(0).of_a_part, 1_048_575);
    }

    #[test]
    fn no_statement_is_written_for_an_empty_set() {
        let text =
            replace(&wharf(), Share::of(0), Hairpin::Bridged, [].iter(), [].iter()).expect("valid names");
        assert!(!text.contains("element"));
    }
}
