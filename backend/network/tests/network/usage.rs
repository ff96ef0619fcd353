//! What is counted, by class: real packets, counted to the byte.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use wharf_network::{Class, Count, Desired, Direction, Network, Traffic};

use crate::lab::{ANY, HOST, Lab, OUTSIDE, Space, address, attachment, published, tenant};

/// Headers of IPv4 and UDP.
const HEADERS: u64 = 28;

/// A socket of a space on this port, which answers nothing by itself.
fn bound(space: &Space, port: u16) -> UdpSocket {
    let socket = space.run(|| UdpSocket::bind((ANY, port)).expect("listen on UDP"));
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set a timeout");
    socket
}

/// Sends datagrams of this many bytes, and returns from where they came.
fn send(
    from: &UdpSocket,
    to: (Ipv4Addr, u16),
    at: &UdpSocket,
    datagrams: u64,
    bytes: usize,
) -> std::net::SocketAddr {
    let mut buffer = vec![0; bytes + 1];
    let mut peer = None;
    for _ in 0..datagrams {
        from.send_to(&vec![7; bytes], to).expect("send");
        let (length, sender) = at.recv_from(&mut buffer).expect("arrives");
        assert_eq!(length, bytes);
        peer = Some(sender);
    }
    peer.expect("one was sent")
}

fn traffic(network: &Network, of: Ipv4Addr) -> Traffic {
    let traffic = network.traffic().of(of).expect("the kernel answers").expect("it is attached");
    assert_eq!(network.traffic().all().expect("the kernel answers").get(&of), Some(&traffic));
    traffic
}

/// Every count that is not 0.
fn counts(traffic: &Traffic) -> Vec<(Class, Direction, u64, u64)> {
    let all = Class::ALL.into_iter().flat_map(|class| [(class, Direction::In), (class, Direction::Out)]);
    all.map(|(class, direction)| (class, direction, traffic.count(class, direction)))
        .filter(|(_, _, count)| *count != Count::default())
        .map(|(class, direction, Count { bytes, packets })| (class, direction, packets, bytes))
        .collect()
}

fn every_class_is_counted(bridge_calls_ip_rules: &str) {
    let lab = Lab::new();
    lab.host.set("net/bridge/bridge-nf-call-iptables", bridge_calls_ip_rules);
    lab.host.run_async(async || {
        let network = Lab::network();
        let mut desired = Desired { tenants: vec![tenant(1), tenant(2)], attachments: vec![] };
        network.apply(&desired).await.expect("apply");
        let spaces = [Space::new(), Space::new(), Space::new()];
        let wanted = [
            attachment(1, 2, &[]),
            attachment(1, 3, &published(ANY, 8082, 5000)),
            attachment(2, 2, &published(ANY, 8090, 5000)),
        ];
        for (space, wanted) in spaces.iter().zip(&wanted) {
            network.attach(wanted, space.descriptor()).await.expect("attach");
            desired.attachments.push(wanted.clone());
        }
        let [one, two, stranger] = [address(1, 2), address(1, 3), address(2, 2)];
        for at in [one, two, stranger] {
            assert_eq!(counts(&traffic(&network, at)), [], "nothing was sent yet");
        }
        let [at_one, at_two, at_stranger] = [0, 1, 2].map(|at| bound(&spaces[at], 5000));
        let (at_host, outside) = (bound(&lab.host, 5001), bound(&lab.outside, 5000));

        send(&at_one, (two, 5000), &at_two, 5, 1000);
        let peer = send(&at_one, (OUTSIDE, 5000), &outside, 7, 500);
        outside.connect(peer).expect("connect");
        send_back(&outside, &at_one, 2, 100);
        let peer = send(&at_host, (one, 5000), &at_one, 3, 200);
        at_one.send_to(&[1; 50], peer).expect("send");
        at_host.recv_from(&mut [0; 64]).expect("arrives");
        let peer = send(&at_one, (HOST, 8090), &at_stranger, 4, 300);
        at_stranger.send_to(&[1; 10], peer).expect("send");
        at_one.recv_from(&mut [0; 64]).expect("arrives");
        // To a neighbour by the port that it publishes on the host.
        send(&at_one, (HOST, 8082), &at_two, 2, 100);
        // What is refused is not counted: the host hears nothing from a container.
        at_one.send_to(&[1; 600], (HOST, 5001)).expect("send");
        at_one.send_to(&[1; 600], (stranger, 5000)).expect("send");

        let of = |datagrams: u64, bytes: u64| (datagrams, datagrams * (bytes + HEADERS));
        let row = |class, direction, (packets, bytes): (u64, u64)| (class, direction, packets, bytes);
        let bridged = of(5, 1000);
        let hairpin = of(2, 100);
        let within = (bridged.0 + hairpin.0, bridged.1 + hairpin.1);
        let of_one = [
            row(Class::Internet, Direction::In, of(2, 100)),
            row(Class::Internet, Direction::Out, of(7, 500)),
            row(Class::Tenant, Direction::Out, within),
            row(Class::Cross, Direction::In, of(1, 10)),
            row(Class::Cross, Direction::Out, of(4, 300)),
            row(Class::Host, Direction::In, of(3, 200)),
            row(Class::Host, Direction::Out, of(1, 50)),
        ];
        assert_eq!(counts(&traffic(&network, one)), of_one);
        assert_eq!(counts(&traffic(&network, two)), [row(Class::Tenant, Direction::In, within)]);
        let of_stranger =
            [row(Class::Cross, Direction::In, of(4, 300)), row(Class::Cross, Direction::Out, of(1, 10))];
        assert_eq!(counts(&traffic(&network, stranger)), of_stranger);

        // A new agent goes on counting, and forgets whom nobody wants.
        desired.attachments.retain(|attachment| attachment.address != stranger);
        let second = Lab::network();
        second.apply(&desired).await.expect("apply");
        assert_eq!(counts(&traffic(&second, one)), of_one);
        assert_eq!(second.traffic().of(stranger).expect("the kernel answers"), None);

        // Who has the address next begins at nothing, even if the last one's counters were left.
        network.detach(&attachment(1, 2, &[]).container_id).await.expect("detach");
        assert_eq!(network.traffic().of(one).expect("the kernel answers"), None);
        let left = format!("{one} counter packets 9 bytes 900");
        lab.host.shell(&format!("nft add element inet wharf-usage internet_out '{{ {left} }}'"));
        let next = Space::new();
        let again = attachment(1, 2, &[]);
        network.attach(&again, next.descriptor()).await.expect("attach");
        assert_eq!(counts(&traffic(&network, one)), []);
    });
}

fn send_back(from: &UdpSocket, at: &UdpSocket, datagrams: u64, bytes: usize) {
    for _ in 0..datagrams {
        from.send(&vec![7; bytes]).expect("send");
        at.recv_from(&mut vec![0; bytes]).expect("arrives");
    }
}

#[test]
fn every_class_of_traffic_is_counted_to_the_byte() {
    every_class_is_counted("0");
}

#[test]
fn nothing_is_counted_twice_where_the_bridge_calls_the_ip_rules() {
    every_class_is_counted("1");
}

#[test]
fn counting_goes_on_from_zero_after_a_flush() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        network.apply(&Desired { tenants: vec![tenant(1)], attachments: vec![] }).await.expect("apply");
        let spaces = [Space::new(), Space::new()];
        for (number, space) in (2_u8..).zip(&spaces) {
            network.attach(&attachment(1, number, &[]), space.descriptor()).await.expect("attach");
        }
        let [at_one, at_two] = [0, 1].map(|at| bound(&spaces[at], 5000));
        send(&at_one, (address(1, 3), 5000), &at_two, 3, 10);
        for flush in
            ["nft flush ruleset", "nft delete table inet wharf-usage", "nft delete table bridge wharf-usage"]
        {
            lab.host.shell(flush);
            assert!(network.traffic().all().is_err(), "{flush}: there is nothing to read");
            assert!(network.heal().await.expect("heal"), "{flush}");
            assert!(!network.heal().await.expect("heal"));
            send(&at_one, (address(1, 3), 5000), &at_two, 1, 10);
            let sent = traffic(&network, address(1, 2)).count(Class::Tenant, Direction::Out);
            assert_eq!(sent.packets, if flush.contains("inet") { 2 } else { 1 }, "{flush}");
        }
    });
}
