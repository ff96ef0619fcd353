//! Who reaches whom: real packets between network namespaces that stand for host, outside and containers.

use std::net::{Ipv4Addr, UdpSocket};

use crate::lab::{ANY, HOST, Lab, OUTSIDE, Space, address, attachment, published, tenant};
use wharf_network::{Desired, Network, PublishedPort};

/// Applies two tenants without containers.
async fn two_tenants(network: &Network) {
    let desired = Desired { tenants: vec![tenant(1), tenant(2)], attachments: vec![] };
    network.apply(&desired).await.expect("apply");
}

/// Makes a container and attaches it.
async fn container(network: &Network, tenant: u8, number: u8, ports: &[PublishedPort]) -> Space {
    let space = Space::new();
    network.attach(&attachment(tenant, number, ports), space.descriptor()).await.expect("attach");
    space
}

/// Attacks: G3.
#[test]
fn containers_reach_their_own_tenants_and_neither_others_nor_the_host() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        two_tenants(&network).await;
        let (one, two) = (container(&network, 1, 2, &[]).await, container(&network, 1, 3, &[]).await);
        let stranger = container(&network, 2, 2, &[]).await;
        let _servers = [one.serve("one", 80), two.serve("two", 80), stranger.serve("stranger", 80)];
        let _host = lab.host.serve("host", 9000);

        one.reaches(address(1, 3), 80, "two", address(1, 2));
        two.reaches(address(1, 2), 80, "one", address(1, 3));
        // The host reaches containers, as it may for health checks; its answers come back.
        lab.host.reaches(address(1, 2), 80, "one", address(1, 1));

        one.refused(address(2, 2), 80);
        stranger.refused(address(1, 2), 80);
        for local in [address(1, 1), address(2, 1), HOST] {
            one.refused(local, 9000);
        }
    });
}

#[test]
fn containers_leave_as_the_host_and_nobody_comes_in_unasked() {
    let lab = Lab::new();
    lab.outside.shell(
        "ip link set lo up; ip address add 169.254.169.254/32 dev lo; ip address add 198.51.100.1/32 dev lo",
    );
    lab.outside.shell("ip route add 10.201.0.0/16 via 192.0.2.1");
    lab.host.shell("ip route add 169.254.169.254 via 192.0.2.2; ip route add 198.51.100.1 via 192.0.2.2");
    lab.host.run_async(async || {
        let network = Lab::network();
        two_tenants(&network).await;
        let one = container(&network, 1, 2, &[]).await;
        let (far, metadata) = (Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(169, 254, 169, 254));
        // Bound to one address each: a UDP answer comes from the address that was asked.
        let _servers = [
            one.serve("one", 80),
            lab.outside.serve_at("outside", OUTSIDE, 80),
            lab.outside.serve_at("far", far, 80),
            lab.outside.serve_at("metadata", metadata, 80),
        ];
        one.reaches(OUTSIDE, 80, "outside", HOST);
        one.reaches(far, 80, "far", HOST);
        // The cloud's metadata service is for the host.
        lab.host.reaches(metadata, 80, "metadata", HOST);
        one.refused(metadata, 80);
        // A neighbour who routes to the containers by himself.
        lab.outside.refused(address(1, 2), 80);
    });
}

/// Attacks: G2.
#[test]
fn containers_have_no_ipv6_and_cannot_make_one_work() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        two_tenants(&network).await;
        let (one, two) = (container(&network, 1, 2, &[]).await, container(&network, 1, 3, &[]).await);
        for (space, number) in [(&one, 2), (&two, 3)] {
            assert_eq!(space.shell("ip -6 -o address"), "");
            space.set("net/ipv6/conf/all/disable_ipv6", "0");
            space.set("net/ipv6/conf/eth0/disable_ipv6", "0");
            space.shell(&format!("ip address add fd00::{number}/64 dev eth0 nodad"));
        }
        assert_eq!(lab.host.shell("ip -6 -o address | grep -v '::1/128\\|uplink' || true"), "");
        let listener = two.run(|| std::net::TcpListener::bind("[fd00::3]:80").expect("listen"));
        let wait = std::time::Duration::from_millis(500);
        let connected = one
            .run(|| std::net::TcpStream::connect_timeout(&"[fd00::3]:80".parse().expect("an address"), wait));
        assert!(connected.is_err());
        drop(listener);
    });
}

/// Published ports with the kernel's bridge calling the IP rules or not: Docker switches it on, most hosts do not.
fn published_ports(bridge_calls_ip_rules: &str) {
    let lab = Lab::new();
    lab.host.set("net/bridge/bridge-nf-call-iptables", bridge_calls_ip_rules);
    lab.host.run_async(async || {
        let network = Lab::network();
        two_tenants(&network).await;
        let ports = [published(ANY, 8080, 80), published(HOST, 8081, 80)].concat();
        let web = container(&network, 1, 2, &ports).await;
        let other = container(&network, 1, 3, &published(ANY, 8082, 81)).await;
        let stranger = container(&network, 2, 2, &[]).await;
        let _servers = [web.serve("web", 80), other.serve("other", 81)];
        let gateway = address(1, 1);

        // From outside the client's own address is seen.
        lab.outside.reaches(HOST, 8080, "web", OUTSIDE);
        lab.outside.reaches(HOST, 8081, "web", OUTSIDE);
        lab.outside.reaches(HOST, 8082, "other", OUTSIDE);
        lab.outside.refused(HOST, 80);
        // From the host itself.
        lab.host.reaches(Ipv4Addr::LOCALHOST, 8080, "web", gateway);
        lab.host.reaches(Ipv4Addr::new(127, 1, 2, 3), 8080, "web", gateway);
        lab.host.reaches(HOST, 8080, "web", HOST);
        lab.host.reaches(HOST, 8081, "web", HOST);
        lab.host.refused(Ipv4Addr::LOCALHOST, 8081);
        // Hairpin: the container's own port, a sibling's, and by every address of the host.
        for local in [HOST, gateway] {
            web.reaches(local, 8080, "web", gateway);
            web.reaches(local, 8082, "other", gateway);
            other.reaches(local, 8080, "web", gateway);
        }
        // A published port is public, for another tenant as for anyone.
        stranger.reaches(HOST, 8080, "web", gateway);
        stranger.refused(address(1, 2), 80);
    });
}

#[test]
fn published_ports_answer_from_everywhere() {
    published_ports("0");
}

#[test]
fn published_ports_answer_where_the_bridge_calls_the_ip_rules() {
    published_ports("1");
}

/// Attacks: G4.
#[test]
fn a_port_published_on_loopback_is_for_the_host_alone() {
    let lab = Lab::new();
    // A neighbour on the wire that has no loopback and sends 127.0.0.1 to the host.
    lab.outside.set("net/ipv4/conf/all/route_localnet", "1");
    lab.outside.shell("ip route add 127.0.0.1/32 via 192.0.2.1 src 192.0.2.2");
    lab.host.run_async(async || {
        let network = Lab::network();
        two_tenants(&network).await;
        let web = container(&network, 1, 2, &published(Ipv4Addr::LOCALHOST, 8080, 80)).await;
        let _servers = [web.serve("web", 80), lab.host.serve_at("host", Ipv4Addr::LOCALHOST, 9000)];
        lab.host.reaches(Ipv4Addr::LOCALHOST, 8080, "web", address(1, 1));
        lab.host.reaches(Ipv4Addr::LOCALHOST, 9000, "host", Ipv4Addr::LOCALHOST);
        lab.host.refused(HOST, 8080);
        lab.outside.refused(HOST, 8080);
        lab.outside.refused(Ipv4Addr::LOCALHOST, 8080);
        // A container that does the same to reach services of the host's loopback (CVE-2020-8558).
        let thief = container(&network, 1, 3, &[]).await;
        thief.shell("ip address del 127.0.0.1/8 dev lo");
        thief.set("net/ipv4/conf/all/route_localnet", "1");
        thief.shell("ip route add 127.0.0.1/32 via 10.201.4.1 src 10.201.4.3");
        thief.refused(Ipv4Addr::LOCALHOST, 9000);
        thief.refused(Ipv4Addr::LOCALHOST, 8080);
        thief.refused(HOST, 8080);
    });
}

/// Attacks: G1.
#[test]
fn a_container_cannot_send_as_another() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        two_tenants(&network).await;
        let victim = container(&network, 1, 2, &[]).await;
        let liar = container(&network, 1, 3, &[]).await;
        let absent = address(1, 4);
        let (hears, far_hears) = (victim.serve("victim", 80), lab.outside.serve("outside", 80));
        let _server = liar.serve("liar", 80);

        // A second address: neither packets from it nor answers to ARP for it get through.
        liar.reaches(address(1, 2), 80, "victim", address(1, 3));
        liar.reaches(OUTSIDE, 80, "outside", HOST);
        let (before, far_before) = (hears.heard(), far_hears.heard());
        liar.shell("ip address add 10.201.4.4/22 dev eth0");
        assert!(liar.udp_from(absent, address(1, 2), 80).is_err());
        assert!(liar.udp_from(absent, OUTSIDE, 80).is_err());
        assert_eq!((hears.heard(), far_hears.heard()), (before, far_before));
        victim.refused(absent, 80);
        assert!(!victim.shell("ip neighbour show 10.201.4.4").contains("lladdr"));

        // The victim's own address, announced to everybody: its gateway still finds the victim.
        liar.set("net/ipv4/conf/eth0/arp_notify", "1");
        liar.shell("ip address add 10.201.4.2/32 dev eth0; ip link set eth0 down; ip link set eth0 up");
        lab.host.reaches(address(1, 2), 80, "victim", address(1, 1));
        liar.shell("ip address del 10.201.4.2/32 dev eth0; ip address del 10.201.4.4/22 dev eth0");
        liar.shell("ip address replace 10.201.4.3/22 dev eth0");
        liar.reaches(address(1, 2), 80, "victim", address(1, 3));

        // Another hardware address: mute, also where it needs no ARP, until it is its own again.
        let before = hears.heard();
        liar.shell("ip link set eth0 address 02:57:0a:c9:04:99");
        liar.shell("ip neighbour replace 10.201.4.2 lladdr 02:57:0a:c9:04:02 dev eth0 nud permanent");
        liar.refused(address(1, 2), 80);
        assert_eq!(hears.heard(), before);
        liar.shell("ip link set eth0 address 02:57:0a:c9:04:03");
        liar.reaches(address(1, 2), 80, "victim", address(1, 3));
    });
}

/// Attacks: G5.
#[test]
fn a_flood_by_one_tenant_leaves_half_of_the_connections_to_the_others() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        two_tenants(&network).await;
        let flooder = container(&network, 1, 2, &[]).await;
        let other = container(&network, 2, 2, &published(ANY, 8080, 80)).await;
        let _servers = [other.serve("other", 80), lab.outside.serve("outside", 80)];
        let read = |path: &str| -> u32 {
            lab.host.shell(&format!("cat /proc/sys/net/netfilter/{path}")).trim().parse().expect("a number")
        };
        let max = read("nf_conntrack_max");
        // Each datagram to a port of its own is a connection of its own: more than half, less than all.
        let wanted = max / 2 + max / 8;
        flooder.run(|| {
            for chunk in 0..=wanted / 60_000 {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                for port in 1_024..61_024 {
                    if chunk * 60_000 + u32::from(port) - 1_024 < wanted {
                        // The outside says that nobody listens; what counts is that it was sent.
                        drop(socket.send_to(b"?", (OUTSIDE, port)));
                    }
                }
            }
        });
        let filled = read("nf_conntrack_count");
        assert!(filled <= max / 2 + 1_000, "{filled} of {max} connections were taken");
        other.reaches(OUTSIDE, 80, "outside", HOST);
        lab.outside.reaches(HOST, 8080, "other", OUTSIDE);
    });
}
