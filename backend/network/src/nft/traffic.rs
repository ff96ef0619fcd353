//! What each container sent and received, by class, as the kernel's packet filter counts it.
//!
//! The tables named `<instance>-usage` hold one set a class and direction. A container's address is an element
//! of each, and an element counts the packets that a rule finds it by. The tables are no part of the firewall:
//! they refuse nothing, come after it, and outlive every rewriting of it, so that counters run on while agents
//! come and go. Bytes are those of the IP packet as the host sees it, before the kernel cuts a large segment
//! into packets of the wire; ARP, broadcasts and multicasts are nobody's traffic.
//!
//! Sources: kernel `include/uapi/linux/netfilter/nf_tables.h`, nft(8) "SETS" and "STATEFUL OBJECTS".

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use super::elements::{
    Batch, FAMILY_HEADER_BYTES, NFTA_DATA_VALUE, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_LIST_ELEMENTS,
    NFTA_SET_ELEM_LIST_SET, attribute, attributes, open,
};
use super::ruleset::Family;
use crate::names::Instance;

// include/uapi/linux/netfilter/nf_tables.h
const NFTA_SET_ELEM_EXPR: u16 = 7;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

/// With whom traffic was exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Anybody outside this host.
    Internet,
    /// Another container of the same tenant.
    Tenant,
    /// A container of another tenant, by a port that it publishes.
    Cross,
    /// The host itself.
    Host,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::Internet, Self::Tenant, Self::Cross, Self::Host];
}

/// Which way, seen from the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Received.
    In,
    /// Sent.
    Out,
}

/// Every set: its class, direction and family. Containers of a tenant meet on their bridge, which only the
/// bridge's own hooks see, and through the host's router where one speaks to a port that another publishes.
pub(super) const SETS: [(Class, Direction, Family); 10] = [
    (Class::Internet, Direction::In, Family::Inet),
    (Class::Internet, Direction::Out, Family::Inet),
    (Class::Tenant, Direction::In, Family::Bridge),
    (Class::Tenant, Direction::Out, Family::Bridge),
    (Class::Tenant, Direction::In, Family::Inet),
    (Class::Tenant, Direction::Out, Family::Inet),
    (Class::Cross, Direction::In, Family::Inet),
    (Class::Cross, Direction::Out, Family::Inet),
    (Class::Host, Direction::In, Family::Inet),
    (Class::Host, Direction::Out, Family::Inet),
];

/// The name of the set of this class and direction.
pub(super) const fn set_name(class: Class, direction: Direction) -> &'static str {
    match (class, direction) {
        (Class::Internet, Direction::In) => "internet_in",
        (Class::Internet, Direction::Out) => "internet_out",
        (Class::Tenant, Direction::In) => "tenant_in",
        (Class::Tenant, Direction::Out) => "tenant_out",
        (Class::Cross, Direction::In) => "cross_in",
        (Class::Cross, Direction::Out) => "cross_out",
        (Class::Host, Direction::In) => "host_in",
        (Class::Host, Direction::Out) => "host_out",
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Bytes of IP packets.
    pub bytes: u64,
    /// Packets, or segments that the kernel had not cut yet.
    pub packets: u64,
}

impl Count {
    const fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            packets: self.packets.saturating_add(other.packets),
        }
    }
}

/// All that one container exchanged since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    received: [Count; Class::ALL.len()],
    sent: [Count; Class::ALL.len()],
}

impl Traffic {
    /// What went this way between the container and this class of others.
    pub fn count(&self, class: Class, direction: Direction) -> Count {
        self.side(direction).get(class as usize).copied().unwrap_or_default()
    }

    /// What went this way, with whomever.
    pub fn total(&self, direction: Direction) -> Count {
        self.side(direction).iter().fold(Count::default(), |sum, count| sum.plus(*count))
    }

    /// Adds to a count.
    pub fn add(&mut self, class: Class, direction: Direction, count: Count) {
        let side = match direction {
            Direction::In => &mut self.received,
            Direction::Out => &mut self.sent,
        };
        if let Some(sum) = side.get_mut(class as usize) {
            *sum = sum.plus(count);
        }
    }

    const fn side(&self, direction: Direction) -> &[Count; Class::ALL.len()] {
        match direction {
            Direction::In => &self.received,
            Direction::Out => &self.sent,
        }
    }
}

/// Who passes on what one container of a tenant sends to another by a port that this publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hairpin {
    /// The host's router.
    Routed,
    /// The bridge, which calls the IP rules itself and passes on what they have translated (`br_netfilter`, which
    /// Docker switches on).
    Bridged,
}

impl Hairpin {
    /// As this network namespace has it now (`net.bridge.bridge-nf-call-iptables`).
    pub(crate) fn now() -> Self {
        let set = std::fs::read("/proc/sys/net/bridge/bridge-nf-call-iptables");
        if set.is_ok_and(|text| text.trim_ascii() == b"1") { Self::Bridged } else { Self::Routed }
    }
}

/// Renders the tables, their sets and rules. Repeating it leaves every counter as it is.
pub(super) fn tables(instance: &Instance, hairpin: Hairpin) -> String {
    let table = instance.usage_table();
    let (bridges, veths) = (instance.bridges(), instance.veths());
    let sets = |family: Family| {
        let own = SETS.iter().filter(|(_, _, of)| *of == family);
        let line = |(class, direction, _): &(Class, Direction, Family)| {
            format!("\tset {} {{ type ipv4_addr; counter; }}\n", set_name(*class, *direction))
        };
        own.map(line).collect::<Vec<String>>().concat()
    };
    let (on_bridges, routed) = (sets(Family::Bridge), sets(Family::Inet));
    // Where the bridge calls the IP rules, what it passes on comes by these too, and was counted.
    let at_home = match hairpin {
        Hairpin::Routed => "goto tenant",
        Hairpin::Bridged => "accept",
    };
    // Flushing a table empties its chains, not its sets.
    format!(
        r#"add table bridge {table}
flush table bridge {table}
table bridge {table} {{
{on_bridges}	chain forward {{
		type filter hook forward priority filter; policy accept;
		meta pkttype {{ broadcast, multicast }} accept
		iifname "{veths}" ip saddr @tenant_out
		oifname "{veths}" ip daddr @tenant_in
	}}
}}
add table inet {table}
flush table inet {table}
table inet {table} {{
	set home {{ type ifname . ifname; }}
{routed}	chain tenant {{
		ip saddr @tenant_out
		ip daddr @tenant_in
	}}
	chain ours {{
		iifname . oifname @home {at_home}
		ip saddr @cross_out
		ip daddr @cross_in
	}}
	chain forward {{
		type filter hook forward priority filter + 10; policy accept;
		iifname "{bridges}" oifname "{bridges}" goto ours
		iifname "{bridges}" ip saddr @internet_out
		oifname "{bridges}" ip daddr @internet_in
	}}
	chain input {{
		type filter hook input priority filter + 10; policy accept;
		iifname "{bridges}" ip saddr @host_out
	}}
	chain output {{
		type filter hook output priority filter + 10; policy accept;
		ip daddr @host_in
	}}
}}
flush set inet {table} home
"#
    )
}

/// Renders the removal of the tables, if they are there.
pub(super) fn purge(instance: &Instance) -> String {
    let table = instance.usage_table();
    [Family::Inet, Family::Bridge]
        .map(|family| format!("add table {family} {table}\ndelete table {family} {table}\n"))
        .concat()
}

/// Reads the counters.
///
/// The kernel answers at once, in microseconds for one container and a few milliseconds for a thousand.
#[derive(Debug)]
pub struct TrafficReader {
    table: String,
    socket: Mutex<Option<OwnedFd>>,
}

impl TrafficReader {
    pub(crate) fn new(instance: &Instance) -> Self {
        Self { table: instance.usage_table(), socket: Mutex::default() }
    }

    /// What every attached container exchanged, by its address. One may be missing although it is attached, if
    /// others came or went meanwhile: ask for it by [`Self::of`].
    ///
    /// # Errors
    /// What the kernel answered; `NotFound` if another program removed the tables.
    pub fn all(&self) -> io::Result<HashMap<Ipv4Addr, Traffic>> {
        let mut found: HashMap<Ipv4Addr, (Traffic, usize)> = HashMap::new();
        for set in SETS {
            let mut dump = Batch::default();
            dump.ask_for_elements(&self.table, set.2, set_name(set.0, set.1), None);
            self.ask(&dump, |address, (class, direction), count| {
                let (traffic, sets) = found.entry(address).or_default();
                traffic.add(class, direction, count);
                *sets += 1;
            })?;
        }
        // A walk through a table that is changing may meet an element twice or not at all.
        Ok(found
            .into_iter()
            .filter_map(|(address, (traffic, sets))| (sets == SETS.len()).then_some((address, traffic)))
            .collect())
    }

    /// What the container of this address exchanged; `None` if it is not attached.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn of(&self, address: Ipv4Addr) -> io::Result<Option<Traffic>> {
        let mut asked = Batch::default();
        for (class, direction, family) in SETS {
            asked.ask_for_elements(&self.table, family, set_name(class, direction), Some(&address.octets()));
        }
        let mut traffic = Traffic::default();
        match self.ask(&asked, |_, (class, direction), count| traffic.add(class, direction, count)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            answered => answered.map(|()| Some(traffic)),
        }
    }

    /// Asks, and hands over each element of the answers.
    fn ask(
        &self,
        asked: &Batch,
        mut each: impl FnMut(Ipv4Addr, (Class, Direction), Count),
    ) -> io::Result<()> {
        let mut kept = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // After an error it is not put back: answers may be left in it.
        let socket = match kept.take() {
            Some(socket) => socket,
            None => open()?,
        };
        asked.exchange(&socket, |answer| {
            for (address, of, count) in counted(answer) {
                each(address, of, count);
            }
        })?;
        *kept = Some(socket);
        Ok(())
    }
}

/// The elements in an answer with their counters: `struct nfgenmsg`, then attributes.
fn counted(answer: &[u8]) -> Vec<(Ipv4Addr, (Class, Direction), Count)> {
    let body = answer.get(FAMILY_HEADER_BYTES..).unwrap_or_default();
    let set = attribute(body, NFTA_SET_ELEM_LIST_SET).and_then(|name| name.strip_suffix(b"\0"));
    let of = SETS.iter().find(|(class, direction, _)| set == Some(set_name(*class, *direction).as_bytes()));
    let (Some((class, direction, _)), Some(elements)) = (of, attribute(body, NFTA_SET_ELEM_LIST_ELEMENTS))
    else {
        return Vec::new();
    };
    attributes(elements)
        .filter_map(|(_, element)| {
            let key = attribute(attribute(element, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
            let counter = attribute(attribute(element, NFTA_SET_ELEM_EXPR)?, NFTA_EXPR_DATA)?;
            let number = |kind| attribute(counter, kind)?.first_chunk().copied().map(u64::from_be_bytes);
            let count = Count { bytes: number(NFTA_COUNTER_BYTES)?, packets: number(NFTA_COUNTER_PACKETS)? };
            Some((Ipv4Addr::from(*key.first_chunk::<4>()?), (*class, *direction), count))
        })
        .collect()
}
