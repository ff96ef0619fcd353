//! What is made, adopted, repaired and removed: rules and links of the host compared before and after.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Instant;

use crate::lab::{ANY, HOST, Lab, OUTSIDE, Space, address, attachment, published, socket, tenant};
use wharf_network::ports::PortError;
use wharf_network::{
    Applied, Desired, DesiredError, Network, NetworkConfig, NetworkError, Protocol, PublishedPort,
};

#[test]
fn detaching_leaves_nothing_and_can_be_repeated() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        network.apply(&Desired::default()).await.expect("apply");
        let bare = lab.host.snapshot();
        network.ensure_tenant(&tenant(1)).await.expect("ensure the tenant");
        network.ensure_tenant(&tenant(1)).await.expect("ensure the tenant again");
        let stays = attachment(1, 2, &published(ANY, 8080, 80));
        let space = Space::new();
        let _server = space.serve("stays", 80);
        network.attach(&stays, space.descriptor()).await.expect("attach");
        let before = lab.host.snapshot();

        let goes = attachment(1, 3, &[published(ANY, 8081, 80), published(HOST, 8082, 80)].concat());
        let other = Space::new();
        let attached = network.attach(&goes, other.descriptor()).await.expect("attach");
        assert_eq!(attached.ports, goes.ports);
        assert!(lab.host.snapshot().contains(&attached.interface));
        assert_ne!(lab.host.snapshot(), before);
        network.detach(&goes.container_id).await.expect("detach");
        network.remove_link(&goes.container_id).await.expect("remove the link");
        assert_eq!(lab.host.snapshot(), before);
        assert!(!other.shell("ip -o link").contains("eth0"));
        network.detach(&goes.container_id).await.expect("detach again");
        network.detach(&"ff".repeat(32)).await.expect("detach what was never there");
        network.remove_link(&"ff".repeat(32)).await.expect("remove what was never there");
        assert_eq!(lab.host.snapshot(), before);
        lab.outside.reaches(HOST, 8080, "stays", OUTSIDE);

        // Address, ports and id are free again, and a link that went with its namespace is no error.
        network.attach(&goes, Space::new().descriptor()).await.expect("attach again");
        network.detach(&goes.container_id).await.expect("detach");
        network.remove_link(&goes.container_id).await.expect("remove the link");

        assert!(matches!(network.remove_tenant("tnt_1").await, Err(NetworkError::TenantInUse { .. })));
        network.detach(&stays.container_id).await.expect("detach");
        network.remove_link(&stays.container_id).await.expect("remove the link");
        network.remove_tenant("tnt_1").await.expect("remove the tenant");
        network.remove_tenant("tnt_1").await.expect("remove the tenant again");
        assert_eq!(lab.host.snapshot(), bare);
    });
}

#[test]
fn rules_are_tried_without_a_trace() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let before = lab.host.snapshot();
        wharf_network::nft::try_rules().expect("this kernel takes our rules");
        assert_eq!(lab.host.snapshot(), before);
    });
}

#[test]
fn a_container_is_attached_again_while_its_last_link_is_still_there() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        network.apply(&Desired::default()).await.expect("apply");
        network.ensure_tenant(&tenant(1)).await.expect("ensure the tenant");
        let container = attachment(1, 2, &published(ANY, 8080, 80));
        // Kept, so that the first link does not go by itself.
        let (first, second) = (Space::new(), Space::new());
        network.attach(&container, first.descriptor()).await.expect("attach");
        network.detach(&container.container_id).await.expect("detach");
        assert!(first.shell("ip -o link").contains("eth0"));
        let attached = network.attach(&container, second.descriptor()).await.expect("attach again");
        // What was to see the first link off comes late, and leaves the second alone.
        network.remove_link(&container.container_id).await.expect("remove the link");
        assert!(!first.shell("ip -o link").contains("eth0"));
        assert!(second.shell("ip -o link").contains("eth0"));
        assert!(lab.host.snapshot().contains(&attached.interface));
        let _server = second.serve("again", 80);
        lab.outside.reaches(HOST, 8080, "again", OUTSIDE);
    });
}

/// Attacks: G6.
#[test]
fn a_flushed_rule_set_is_written_anew() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        assert!(!network.heal().await.expect("nothing is set up"));
        network.apply(&Desired::default()).await.expect("apply");
        network.ensure_tenant(&tenant(1)).await.expect("ensure the tenant");
        network.ensure_tenant(&tenant(2)).await.expect("ensure the other");
        let space = Space::new();
        let _server = space.serve("healed", 80);
        let ports = published(ANY, 8080, 80);
        network.attach(&attachment(1, 2, &ports), space.descriptor()).await.expect("attach");
        let before = lab.host.snapshot();
        assert!(!network.heal().await.expect("nothing to do"));
        for flush in ["nft flush ruleset", "nft delete table bridge wharf"] {
            lab.host.shell(flush);
            assert_ne!(lab.host.snapshot(), before);
            assert!(network.heal().await.expect("heal"));
            assert_eq!(lab.host.snapshot(), before);
            lab.outside.reaches(HOST, 8080, "healed", OUTSIDE);
        }
        lab.host.shell("nft flush ruleset");
        network.detach(&attachment(1, 2, &[]).container_id).await.expect("detach");
        network.purge().await.expect("purge");
        assert!(!network.heal().await.expect("nothing shall be there"));
    });
}

/// Attacks: G6.
#[test]
fn a_new_agent_adopts_what_runs_and_changes_nothing() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let first = Lab::network();
        let mut desired = Desired { tenants: vec![tenant(1), tenant(2)], attachments: vec![] };
        first.apply(&desired).await.expect("apply");
        let spaces = [Space::new(), Space::new()];
        for (number, space) in (1_u8..).zip(&spaces) {
            let wanted = attachment(number, 2, &published(ANY, 8080 + u16::from(number), 80));
            first.attach(&wanted, space.descriptor()).await.expect("attach");
            desired.attachments.push(wanted);
        }
        let before = lab.host.snapshot();
        let indexes = lab.host.shell("ip -o link | cut -d: -f1,2");

        for agent in [&first, &Lab::network(), &Lab::network()] {
            assert_eq!(agent.apply(&desired).await.expect("apply"), Applied::default());
            assert_eq!(lab.host.snapshot(), before);
            assert_eq!(lab.host.shell("ip -o link | cut -d: -f1,2"), indexes);
        }
        let _servers = [spaces[0].serve("one", 80), spaces[1].serve("two", 80)];
        lab.outside.reaches(HOST, 8081, "one", OUTSIDE);
        lab.outside.reaches(HOST, 8082, "two", OUTSIDE);
    });
}

#[test]
fn applying_repairs_what_was_lost_and_removes_what_nobody_wants() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        let kept = attachment(1, 2, &published(ANY, 8080, 80));
        let orphan = attachment(2, 2, &published(ANY, 8081, 80));
        network
            .apply(&Desired { tenants: vec![tenant(1), tenant(2)], attachments: vec![] })
            .await
            .expect("apply");
        let (space, other) = (Space::new(), Space::new());
        let kept_link = network.attach(&kept, space.descriptor()).await.expect("attach").interface;
        let orphan_link = network.attach(&orphan, other.descriptor()).await.expect("attach").interface;
        let _servers = [space.serve("kept", 80), other.serve("orphan", 80)];
        let gone = attachment(1, 9, &[]);
        // Somebody flushes the rules and deletes the bridge; a killed agent left a bridge without alias; two
        // links that only look like ours are not.
        lab.host.shell("nft flush ruleset; ip link del wharfb1");
        lab.host.shell("ip link add wharfb77 type bridge; ip link add wharfboat type bridge");
        lab.host.shell("ip link add wharfb78 type bridge; ip link set wharfb78 alias mine");
        lab.host.shell("nft add table inet foreign");

        let desired = Desired { tenants: vec![tenant(1)], attachments: vec![kept, gone.clone()] };
        let mut applied = Lab::network().apply(&desired).await.expect("apply");
        applied.removed.sort();
        let mut removed = vec!["wharfb2".to_owned(), "wharfb77".to_owned(), orphan_link];
        removed.sort();
        assert_eq!(
            applied,
            Applied {
                created: vec!["wharfb1".to_owned()],
                repaired: vec![kept_link],
                removed,
                missing: vec![gone.container_id],
            }
        );
        lab.outside.reaches(HOST, 8080, "kept", OUTSIDE);
        lab.outside.refused(HOST, 8081);
        let links = lab.host.shell("ip -o link");
        assert!(links.contains("wharfboat") && links.contains("wharfb78"));
        assert!(lab.host.shell("nft list tables").contains("inet foreign"));
    });
}

#[test]
fn purging_leaves_nothing_of_the_instance() {
    let lab = Lab::new();
    lab.host.shell("nft add table inet foreign; ip link add wharfboat type bridge");
    let before = lab.host.snapshot();
    lab.host.run_async(async || {
        let network = Lab::network();
        network
            .apply(&Desired { tenants: vec![tenant(1), tenant(2)], attachments: vec![] })
            .await
            .expect("apply");
        let space = Space::new();
        let wanted = attachment(1, 2, &published(ANY, 8080, 80));
        network.attach(&wanted, space.descriptor()).await.expect("attach");
        assert_ne!(lab.host.snapshot(), before);
        // As another process that never knew what was there.
        Lab::network().purge().await.expect("purge");
        assert_eq!(lab.host.snapshot(), before);
        network.purge().await.expect("purge again");
        assert!(matches!(network.ensure_tenant(&tenant(1)).await, Err(NetworkError::NotApplied)));
    });
}

#[test]
fn a_failed_attachment_leaves_nothing() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        let wanted = attachment(1, 2, &published(ANY, 8080, 80));
        let early = network.attach(&wanted, Space::new().descriptor()).await;
        assert!(matches!(early, Err(NetworkError::NotApplied)));
        network.apply(&Desired { tenants: vec![tenant(1)], attachments: vec![] }).await.expect("apply");
        let before = lab.host.snapshot();

        let file = std::fs::File::open("/dev/null").expect("a file");
        let error = network.attach(&wanted, file.into()).await.expect_err("not a namespace");
        assert!(matches!(error, NetworkError::Link { .. }), "{error:?}");
        assert_eq!(lab.host.snapshot(), before);

        // An eth0 is there already: the pair cannot be made.
        let space = Space::new();
        space.shell("ip link add eth0 type bridge");
        let error = network.attach(&wanted, space.descriptor()).await.expect_err("the name is taken");
        assert!(matches!(error, NetworkError::Link { .. }), "{error:?}");
        assert_eq!(lab.host.snapshot(), before);

        network.attach(&wanted, Space::new().descriptor()).await.expect("nothing is in the way");
    });
}

#[test]
fn taken_ports_are_named_and_free_ones_are_found() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        network.apply(&Desired { tenants: vec![tenant(1)], attachments: vec![] }).await.expect("apply");
        let _listener = TcpListener::bind(socket(Ipv4Addr::LOCALHOST, 9000)).expect("listen");
        let port = |host_ip, host_port| PublishedPort {
            host_ip,
            host_port,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let refused = async |number, ports: &[PublishedPort]| match network
            .attach(&attachment(1, number, ports), Space::new().descriptor())
            .await
        {
            Err(NetworkError::Desired(DesiredError::Port { source, .. })) => source,
            other => panic!("{other:?}"),
        };
        let host = refused(2, &[port(ANY, 9000)]).await;
        assert!(matches!(host, PortError::PortInUseOnHost { .. }), "{host}");
        assert_eq!(host.to_string(), "port 0.0.0.0:9000/tcp is in use by a process of this host");
        let foreign = refused(2, &[port(OUTSIDE, 80)]).await;
        assert!(matches!(foreign, PortError::AddressNotLocal { .. }), "{foreign}");

        let space = Space::new();
        let _server = space.serve("two", 80);
        let wanted = [port(ANY, 8080), port(ANY, 0), port(ANY, 0)];
        let attached = network.attach(&attachment(1, 2, &wanted), space.descriptor()).await.expect("attach");
        let given: Vec<u16> = attached.ports.iter().map(|port| port.host_port).collect();
        assert_eq!(given, [8080, 49153, 49154]);
        assert_eq!(lab.outside.tcp(HOST, 49154).expect("reached"), format!("two sees {OUTSIDE}"));
        let taken = refused(3, &[port(Ipv4Addr::LOCALHOST, 8080)]).await;
        assert!(matches!(taken, PortError::PortInUse { .. }), "{taken}");
        // The refused container holds nothing.
        let next = network.attach(&attachment(1, 3, &[port(ANY, 0)]), Space::new().descriptor()).await;
        assert_eq!(next.expect("attach").ports[0].host_port, 49155);
    });
}

#[test]
fn many_attach_at_once_and_share_transactions() {
    let lab = Lab::new();
    lab.host.run_async(async || {
        let network = Lab::network();
        network.apply(&Desired { tenants: vec![tenant(1)], attachments: vec![] }).await.expect("apply");
        let spaces: Vec<Space> = (0..40).map(|_| Space::new()).collect();
        let started = Instant::now();
        for (number, space) in (2_u8..).zip(&spaces[..20]) {
            let wanted = attachment(1, number, &published(ANY, 8000 + u16::from(number), 80));
            network.attach(&wanted, space.descriptor()).await.expect("attach");
        }
        println!("20 attachments one after another: {:?} each", started.elapsed() / 20);
        let started = Instant::now();
        let together = (22_u8..).zip(&spaces[20..]).map(|(number, space)| {
            let wanted = attachment(1, number, &published(ANY, 8000 + u16::from(number), 80));
            let network = &network;
            async move { network.attach(&wanted, space.descriptor()).await.map(drop) }
        });
        for result in futures_util::future::join_all(together).await {
            result.expect("attach");
        }
        println!("20 attachments at once: {:?} each", started.elapsed() / 20);
        let server = spaces[39].serve("last", 80);
        lab.outside.reaches(HOST, 8041, "last", OUTSIDE);
        spaces[0].reaches(address(1, 41), 80, "last", address(1, 2));
        let started = Instant::now();
        drop(server);
        drop(spaces);
        for number in 2..42 {
            network.detach(&attachment(1, number, &[]).container_id).await.expect("detach");
        }
        println!("40 detachments: {:?} each", started.elapsed() / 40);
        assert!(!lab.host.shell("nft list set bridge wharf owners").contains("elements"));
    });
}

#[test]
fn a_missing_nft_is_named() {
    let config = NetworkConfig { nft: Some("/nowhere/nft".into()), ..NetworkConfig::new("wharf") };
    let error = Network::open(&config).expect_err("there is no such program");
    let NetworkError::Firewall { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("install the package nftables"), "{source}");
}
