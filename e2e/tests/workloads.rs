//! Real programs in a Debian root that came through a real registry.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wharf_e2e::{HOST_ADDRESS, Neighbour, World, run};
use wharf_shared::container::ContainerView;
use wharf_shared::network::Protocol;
use wharf_shared::usage::{Meter, Quality};

/// Answers every datagram with itself, and says when it is ready to.
const ECHO: &str = r#"perl -MIO::Socket::INET -e '$| = 1;
    $s = IO::Socket::INET->new(Proto => "udp", LocalPort => 7) or die "no socket: $@"; print "echo listens\n";
    while (defined $s->recv($d, 65535)) { $s->send($d) }' &"#;

#[test]
fn stress_ng_s_cpu_seconds_are_on_the_bill() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "stress-ng --cpu 1 --cpu-method int32 --cpu-ops 1500 --metrics 2>&1; \
                      stress-ng --cpu 1 --timeout 1 --cpu-load 50 2>&1; times";
        let spec = json!({ "image": world.debian()?, "limits": { "cpu_millis": 1000 } });
        let view = world.start(&tenant, &["bash", "-c", script], spec)?;
        let view = world.ended(view.id.as_str())?;
        let log = world.logs(view.id.as_str())?;
        // What the kernel counted for the shell and, as rusage of its children, for stress-ng.
        let counted = World::cpu_time_ns(&log)?;
        // stress-ng's own report of the first run: bogo ops, then seconds real, user and system.
        let report = log.lines().find_map(|line| line.split_once("] cpu ")).context("no metrics")?.1;
        let report: Vec<_> = report.split_whitespace().collect();
        let [_, _, user, system, ..] = report.as_slice() else { panic!("no times in {report:?}") };
        let own = seconds_ns(user)? + seconds_ns(system)?;
        ensure!(own > 300_000_000, "too little work to be measured: {report:?}");
        let billed = world.quantity(&view, Meter::CpuUsed)?;
        ensure!(billed > own, "stress-ng alone used {own} ns, the bill says {billed} ns");
        // `times` rounds each of its four figures to milliseconds, and cannot see the shell's own end.
        ensure!(
            (counted - 2_000_000..counted + 50_000_000).contains(&billed),
            "rusage says {counted} ns, the bill {billed} ns"
        );
        Ok(())
    })
}

#[test]
fn nginx_and_a_udp_echo_answer_another_machine_and_their_bytes_are_counted() -> Result<()> {
    const FILE: u128 = 4_000_000;
    const DATAGRAM: usize = 1_000;
    const DATAGRAMS: usize = 500;
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = format!(
            "dd if=/dev/urandom of=/var/www/html/blob bs=1000 count={} 2>/dev/null; sync /var/www/html/blob; \
             sha256sum < /var/www/html/blob; {ECHO} exec nginx -g 'daemon off;'",
            FILE / 1_000
        );
        let ports = json!([{ "container_port": 80 }, { "container_port": 7, "protocol": "udp" }]);
        let spec = json!({ "image": world.debian()?, "ports": ports, "hostname": "web" });
        let view = world.start(&tenant, &["bash", "-c", &script], spec)?;
        let port = |protocol| {
            let mapping = view.ports.iter().find(|port| port.protocol == protocol);
            mapping.and_then(|port| port.host_port).context("a host port")
        };
        let neighbour = Neighbour::new()?;

        // HTTP: the default page says who answers, the file is the one that was made inside.
        let base = format!("http://{HOST_ADDRESS}:{}", port(Protocol::Tcp)?);
        let get = |path: &str| neighbour.run("curl", &["-sf", "--max-time", "10", &format!("{base}{path}")]);
        world.until("nginx answers", || Ok(get("/").is_ok()))?;
        ensure!(get("/")?.contains("Welcome to nginx"), "another page came");
        let fetch = format!("curl -sf --max-time 20 {base}/blob | sha256sum");
        let sum = neighbour.run("sh", &["-c", &fetch])?;
        ensure!(world.logs(view.id.as_str())?.contains(sum.trim()), "the file came in another shape: {sum}");

        // UDP: every datagram comes back as it was sent.
        world.until("the echo listens", || Ok(world.logs(view.id.as_str())?.contains("echo listens")))?;
        let echo = format!("{HOST_ADDRESS}:{}", port(Protocol::Udp)?);
        neighbour.within(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(&echo)?;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            for number in 0..DATAGRAMS {
                let sent: Vec<u8> = number.to_string().bytes().cycle().take(DATAGRAM).collect();
                socket.send(&sent)?;
                let mut came = [0; 2 * DATAGRAM];
                let length = socket.recv(&mut came).with_context(|| format!("datagram {number}"))?;
                ensure!(came.get(..length) == Some(sent.as_slice()), "datagram {number} came back changed");
            }
            Ok(())
        })?;
        drop(neighbour);
        world.api().delete(&format!("/containers/{}?force=true", view.id))?;

        // What is counted is packets of IP: 20 bytes of IP and 8 of UDP around each datagram. Above that lie
        // HTTP requests and acknowledgements.
        let datagrams = u128::try_from(DATAGRAMS * (DATAGRAM + 28))?;
        let received = world.quantity(&view, Meter::NetworkInternetIn)?;
        let sent = world.quantity(&view, Meter::NetworkInternetOut)?;
        let acknowledgements = (FILE / 1_448 + 200) * 60;
        ensure!(
            (datagrams..datagrams + acknowledgements).contains(&received),
            "{datagrams} bytes of datagrams were received, and {received} in all"
        );
        // A packet with 1,448 bytes of the file has 52 bytes of headers; larger ones are counted as one.
        let least = datagrams + FILE;
        ensure!(
            (least..least + acknowledgements).contains(&sent),
            "{least} bytes were sent without TCP's headers, and {sent} in all"
        );
        written(world, &view, FILE)
    })
}

#[test]
fn datagrams_are_billed_to_the_byte() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let neighbour = Neighbour::new()?;
        // Nobody listens there, and nobody has to: what was sent was sent. A pause now and then keeps
        // the queue short, since the kernel drops what does not fit in.
        let send = r#"perl -MIO::Socket::INET -e '
            $s = IO::Socket::INET->new(Proto => "udp") or die "no socket: $@";
            $to = pack_sockaddr_in(9, inet_aton("192.0.2.77"));
            for (1 .. 2000) { $s->send("x" x 1000, 0, $to); select undef, undef, undef, 0.01 unless $_ % 100 }
            sleep 1'"#;
        let view = world.start(&tenant, &["bash", "-c", send], json!({ "image": world.debian()? }))?;
        let view = world.ended(view.id.as_str())?;
        drop(neighbour);
        assert_eq!(world.quantity(&view, Meter::NetworkInternetOut)?, 2_000 * 1_028);
        let others = world.usage(&view)?.into_iter().filter(|row| {
            row.meter.is_network()
                && ![Meter::NetworkInternetIn, Meter::NetworkInternetOut].contains(&row.meter)
        });
        assert_eq!(others.count(), 0, "of another class there was no traffic");
        Ok(())
    })
}

/// Block I/O is on the bill where this kernel can count it, and else said to be not measurable.
fn written(world: &World, view: &ContainerView, bytes: u128) -> Result<()> {
    let row = world.usage(view)?.into_iter().find(|row| row.meter == Meter::BlockWrite);
    let row = row.context("no row for block writes")?;
    let quantity: u128 = row.quantity.as_str().parse()?;
    match row.quality {
        Quality::NotMeasurable => ensure!(quantity == 0, "{row:?}"),
        Quality::Measured | Quality::Partial => ensure!(quantity >= bytes, "{row:?}"),
    }
    Ok(())
}

/// `1.25` as nanoseconds.
fn seconds_ns(text: &str) -> Result<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let nanoseconds: u128 = format!("{fraction:0<9}").parse()?;
    Ok(whole.parse::<u128>()? * 1_000_000_000 + nanoseconds)
}
