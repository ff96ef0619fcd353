//! Published ports: who has one, whether the host's own processes use it, and which one is free.
//!
//! Conflicts between containers are decided purely, from what is attached. A process of the host is found by
//! trying to bind: the kernel alone knows, and a bound socket that is dropped at once leaves no trace. The port
//! is not held afterwards: a process that binds it later gets no connection while the container has it.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

use crate::desired::{Attachment, Protocol, PublishedPort};

/// Where a port comes from when the caller asks for any (IANA's dynamic ports, RFC 6335 §6, less the first).
pub const EPHEMERAL: RangeInclusive<u16> = 49153..=65535;

/// Why a port cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Another container publishes the port.
    #[error("port {port} is already published by container {holder}")]
    PortInUse {
        /// The port as asked for.
        port: PublishedPort,
        /// The container that has it.
        holder: String,
    },
    /// A process of the host listens on the port.
    #[error("port {port} is in use by a process of this host")]
    PortInUseOnHost {
        /// The port as asked for.
        port: PublishedPort,
    },
    /// The host does not have the address.
    #[error("host address {} of port {port} is not an address of this host", port.host_ip)]
    AddressNotLocal {
        /// The port as asked for.
        port: PublishedPort,
    },
    /// Whether the port is free could not be found out.
    #[error("trying port {port}")]
    Probe {
        /// The port as asked for.
        port: PublishedPort,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Every port of the dynamic range is taken.
    #[error("no free {protocol} port from {} to {} on {host_ip}", EPHEMERAL.start(), EPHEMERAL.end())]
    Exhausted {
        /// The host's address that was asked for.
        host_ip: Ipv4Addr,
        /// The protocol that was asked for.
        protocol: Protocol,
    },
    /// Port 0 where a number is needed.
    #[error("port 0 cannot be published")]
    PortZero,
}

/// Tells whether two published ports would take each other's traffic.
fn overlap(a: &PublishedPort, b: &PublishedPort) -> bool {
    let same_address = a.host_ip == b.host_ip || a.host_ip.is_unspecified() || b.host_ip.is_unspecified();
    a.protocol == b.protocol && a.host_port == b.host_port && same_address
}

/// Checks ports with numbers against those of other containers and against each other.
///
/// # Errors
/// [`PortError::PortInUse`] for the first conflict, [`PortError::PortZero`] for a port without a number.
pub(crate) fn check_ports<'a>(
    container_id: &str,
    ports: &[PublishedPort],
    attachments: &(impl Iterator<Item = &'a Attachment> + Clone),
) -> Result<(), PortError> {
    for (place, port) in ports.iter().enumerate() {
        if port.host_port == 0 || port.container_port == 0 {
            return Err(PortError::PortZero);
        }
        let others = attachments.clone().filter(|other| other.container_id != container_id);
        let holder = others
            .filter(|other| other.ports.iter().any(|taken| overlap(taken, port)))
            .map(|other| other.container_id.as_str())
            .next()
            .or_else(|| ports.iter().take(place).any(|own| overlap(own, port)).then_some(container_id));
        if let Some(holder) = holder {
            return Err(PortError::PortInUse { port: *port, holder: holder.to_owned() });
        }
    }
    Ok(())
}

/// Gives every port without a number one that neither a container nor, by `probe`, the host uses, and checks
/// the others. `start` says where in the range the search begins.
///
/// # Errors
/// The first port that cannot be published.
pub(crate) fn allot<'a>(
    container_id: &str,
    ports: &[PublishedPort],
    attachments: impl Iterator<Item = &'a Attachment> + Clone,
    start: u16,
    probe: impl Fn(&PublishedPort) -> Result<(), PortError>,
) -> Result<Vec<PublishedPort>, PortError> {
    let fixed: Vec<PublishedPort> = ports.iter().filter(|port| port.host_port != 0).copied().collect();
    check_ports(container_id, &fixed, &attachments)?;
    fixed.iter().try_for_each(&probe)?;
    // One set a request: asking each attachment for each candidate would take minutes on a full range.
    let mut taken: BTreeSet<(Protocol, u16)> = attachments
        .flat_map(|other| &other.ports)
        .chain(&fixed)
        .map(|port| (port.protocol, port.host_port))
        .collect();
    let mut allotted = Vec::with_capacity(ports.len());
    for port in ports {
        if port.container_port == 0 {
            return Err(PortError::PortZero);
        }
        if port.host_port != 0 {
            allotted.push(*port);
            continue;
        }
        let start = start.clamp(*EPHEMERAL.start(), *EPHEMERAL.end());
        let mut chosen = None;
        for host_port in (start..=*EPHEMERAL.end()).chain(*EPHEMERAL.start()..start) {
            let candidate = PublishedPort { host_port, ..*port };
            if taken.contains(&(port.protocol, host_port)) {
                continue;
            }
            match probe(&candidate) {
                Ok(()) => {
                    chosen = Some(candidate);
                    break;
                }
                Err(PortError::PortInUseOnHost { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let chosen = chosen.ok_or(PortError::Exhausted { host_ip: port.host_ip, protocol: port.protocol })?;
        taken.insert((chosen.protocol, chosen.host_port));
        allotted.push(chosen);
    }
    Ok(allotted)
}

/// Finds out whether a process of the host uses a port, by binding it for a moment.
///
/// # Errors
/// [`PortError::PortInUseOnHost`], [`PortError::AddressNotLocal`] or, for any other refusal,
/// [`PortError::Probe`].
pub fn probe(port: &PublishedPort) -> Result<(), PortError> {
    let address = SocketAddrV4::new(port.host_ip, port.host_port);
    let bound = match port.protocol {
        // std sets SO_REUSEADDR here: connections in TIME_WAIT are no conflict.
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => PortError::PortInUseOnHost { port: *port },
        io::ErrorKind::AddrNotAvailable => PortError::AddressNotLocal { port: *port },
        _ => PortError::Probe { port: *port, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::MacAddress;

    fn port(host_ip: [u8; 4], host_port: u16, protocol: Protocol) -> PublishedPort {
        PublishedPort { host_ip: host_ip.into(), host_port, container_port: 80, protocol }
    }

    fn container(id: &str, ports: Vec<PublishedPort>) -> Attachment {
        let address = Ipv4Addr::new(10, 0, 0, 2);
        let tenant_id = "tnt_1".to_owned();
        Attachment { container_id: id.to_owned(), tenant_id, address, mac: MacAddress::of(address), ports }
    }

    const ANY: [u8; 4] = [0, 0, 0, 0];
    const LOCAL: [u8; 4] = [127, 0, 0, 1];

    #[test]
    fn a_port_conflicts_on_the_same_address_and_with_the_wildcard() {
        use Protocol::{Tcp, Udp};
        let there = [container("a", vec![port(LOCAL, 80, Tcp), port(ANY, 53, Udp)])];
        for (wanted, free) in [
            (port(LOCAL, 80, Tcp), false),
            (port(ANY, 80, Tcp), false),
            (port([10, 1, 1, 1], 80, Tcp), true),
            (port(LOCAL, 80, Udp), true),
            (port(LOCAL, 81, Tcp), true),
            (port([10, 1, 1, 1], 53, Udp), false),
            (port(ANY, 53, Tcp), true),
        ] {
            let result = check_ports("b", &[wanted], &there.iter());
            assert_eq!(result.is_ok(), free, "{wanted}");
            if let Err(error) = result {
                assert!(matches!(error, PortError::PortInUse { ref holder, .. } if holder == "a"));
            }
        }
    }

    #[test]
    fn a_container_cannot_publish_one_port_twice() {
        let twice = [port(ANY, 80, Protocol::Tcp), port(LOCAL, 80, Protocol::Tcp)];
        assert!(matches!(check_ports("b", &twice, &[].iter()), Err(PortError::PortInUse { .. })));
    }

    #[test]
    fn any_port_avoids_containers_and_the_host() {
        let there = [container("a", vec![port(LOCAL, 49153, Protocol::Tcp)])];
        let host = |port: &PublishedPort| match port.host_port {
            49154 => Err(PortError::PortInUseOnHost { port: *port }),
            _ => Ok(()),
        };
        let wanted =
            [port(ANY, 0, Protocol::Tcp), port(ANY, 0, Protocol::Tcp), port(ANY, 49155, Protocol::Tcp)];
        let given = allot("b", &wanted, there.iter(), 0, host).expect("free ports");
        let numbers: Vec<u16> = given.iter().map(|port| port.host_port).collect();
        assert_eq!(numbers, [49156, 49157, 49155]);
    }

    #[test]
    fn a_full_range_is_an_error_and_the_search_goes_round() {
        let full = |port: &PublishedPort| Err(PortError::PortInUseOnHost { port: *port });
        let wanted = [port(ANY, 0, Protocol::Udp)];
        assert!(matches!(allot("b", &wanted, [].iter(), 60000, full), Err(PortError::Exhausted { .. })));
        let one = |port: &PublishedPort| match port.host_port {
            49153 => Ok(()),
            _ => Err(PortError::PortInUseOnHost { port: *port }),
        };
        let given = allot("b", &wanted, [].iter(), 60000, one).expect("the one free port");
        assert_eq!(given[0].host_port, 49153);
    }

    #[test]
    fn a_listening_process_is_found_and_named_as_such() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let number = listener.local_addr().expect("its address").port();
        assert!(matches!(probe(&port(LOCAL, number, Protocol::Tcp)), Err(PortError::PortInUseOnHost { .. })));
        assert!(matches!(probe(&port(ANY, number, Protocol::Tcp)), Err(PortError::PortInUseOnHost { .. })));
        drop(listener);
        assert!(probe(&port(LOCAL, number, Protocol::Tcp)).is_ok());
        // TEST-NET-1 (RFC 5737) is nobody's address.
        let foreign = port([192, 0, 2, 1], 80, Protocol::Udp);
        assert!(matches!(probe(&foreign), Err(PortError::AddressNotLocal { .. })));
    }

    #[test]
    fn port_zero_of_a_container_is_refused() {
        let mut zero = port(ANY, 80, Protocol::Tcp);
        zero.container_port = 0;
        assert!(matches!(allot("b", &[zero], [].iter(), 0, |_| Ok(())), Err(PortError::PortZero)));
    }
}
