//! A host, an outside world and containers, each a network namespace of its own, and traffic between them.
//!
//! Nothing touches the machine's own network, and everything goes with the last descriptor, also on a panic.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use wharf_network::{Attachment, MacAddress, Network, NetworkConfig, Protocol, PublishedPort, TenantNetwork};

/// How long an answer may take before it counts as refused.
const PATIENCE: Duration = Duration::from_millis(700);

/// The host's address towards the outside (TEST-NET-1, RFC 5737).
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The outside's address.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Every address.
pub(crate) const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// A network namespace.
pub(crate) struct Space(OwnedFd);

impl Space {
    /// Makes an empty one, as the forge does for a container.
    pub(crate) fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            File::open("/proc/thread-self/ns/net").expect("the new namespace")
        });
        Self(made.join().expect("the namespace's thread").into())
    }

    /// Returns a descriptor to give away.
    pub(crate) fn descriptor(&self) -> OwnedFd {
        self.0.try_clone().expect("a second descriptor")
    }

    /// Runs something inside, on a thread of its own.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs async work inside, on a runtime that lives on one thread.
    pub(crate) fn run_async<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(work())
        })
    }

    /// Runs a program inside that must succeed, and returns what it printed.
    pub(crate) fn shell(&self, command: &str) -> String {
        let output = self.run(|| Command::new("sh").args(["-c", command]).output().expect("run sh"));
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Writes a setting inside; one that this kernel does not have is left.
    pub(crate) fn set(&self, path: &str, value: &str) {
        self.run(|| {
            let path = Path::new("/proc/sys").join(path);
            if path.exists() {
                std::fs::write(&path, value).expect("write the setting");
            }
        });
    }

    /// Returns rules, links and addresses, in an order that does not depend on hashing; not what traffic left in
    /// the set of connections, nor what was counted.
    pub(crate) fn snapshot(&self) -> String {
        let rules = self.shell(
            "nft list ruleset | sed '/set connections {/,/^\\t}/d; s/counter packets [0-9]* bytes [0-9]*//g'",
        );
        let mut words: Vec<&str> =
            rules.split([' ', ',', '\n', '\t']).filter(|word| !word.is_empty()).collect();
        words.sort_unstable();
        let links =
            self.shell("ip -o link | sed 's/ state [A-Z]*//; s/,LOWER_UP//; s/,NO-CARRIER\\|NO-CARRIER,//'");
        format!("{}\n{links}{}", words.join(" "), self.shell("ip -o address"))
    }

    /// Answers TCP and UDP on a port with the name given and the address it sees.
    pub(crate) fn serve(&self, name: &'static str, port: u16) -> Server {
        self.serve_at(name, ANY, port)
    }

    /// Answers on one address only.
    pub(crate) fn serve_at(&self, name: &'static str, address: Ipv4Addr, port: u16) -> Server {
        let (tcp, udp) = self.run(|| {
            let tcp = TcpListener::bind((address, port)).expect("listen on TCP");
            let udp = UdpSocket::bind((address, port)).expect("listen on UDP");
            (tcp, udp)
        });
        udp.set_read_timeout(Some(Duration::from_millis(20))).expect("set a timeout");
        tcp.set_nonblocking(true).expect("do not block");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let heard = Arc::new(AtomicUsize::new(0));
        let hears = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !stopped.load(Ordering::Relaxed) {
                // Waits at most for the timeout, so TCP has its turn too.
                if let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                    hears.fetch_add(1, Ordering::Relaxed);
                    // The peer of a forged packet may be unreachable; a true one notices that no answer comes.
                    drop(udp.send_to(said(name, peer).as_bytes(), peer));
                }
                while let Ok((mut stream, peer)) = tcp.accept() {
                    stream.write_all(said(name, peer).as_bytes()).expect("answer by TCP");
                }
            }
        });
        Server { stop, heard, thread: Some(thread) }
    }

    /// Connects by TCP and returns what the other side said; the first packets of a new link may be lost.
    pub(crate) fn tcp(&self, address: Ipv4Addr, port: u16) -> io::Result<String> {
        patiently(|| self.tcp_once(address, port))
    }

    fn tcp_once(&self, address: Ipv4Addr, port: u16) -> io::Result<String> {
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// Asks by UDP and returns what the other side said.
    pub(crate) fn udp(&self, address: Ipv4Addr, port: u16) -> io::Result<String> {
        self.udp_from(ANY, address, port)
    }

    /// Asks by UDP from an address of choice.
    pub(crate) fn udp_from(&self, from: Ipv4Addr, address: Ipv4Addr, port: u16) -> io::Result<String> {
        self.run(|| {
            let socket = UdpSocket::bind((from, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect((address, port))?;
            socket.send(b"?")?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }

    /// Asserts that TCP and UDP reach a server of this name that sees this address.
    #[track_caller]
    pub(crate) fn reaches(&self, address: Ipv4Addr, port: u16, name: &str, seen: Ipv4Addr) {
        let expected = format!("{name} sees {seen}");
        assert_eq!(self.tcp(address, port).expect("reached by TCP"), expected);
        assert_eq!(patiently(|| self.udp(address, port)).expect("reached by UDP"), expected);
    }

    /// Asserts that neither TCP nor UDP gets an answer.
    #[track_caller]
    pub(crate) fn refused(&self, address: Ipv4Addr, port: u16) {
        assert!(self.tcp_once(address, port).is_err(), "TCP to {address}:{port} was answered");
        assert!(self.udp(address, port).is_err(), "UDP to {address}:{port} was answered");
    }
}

/// Tries again while no answer comes in time, up to ten times.
fn patiently(mut ask: impl FnMut() -> io::Result<String>) -> io::Result<String> {
    let waits = [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock];
    let mut answer = ask();
    for _ in 1..10 {
        match &answer {
            Err(error) if waits.contains(&error.kind()) => answer = ask(),
            _ => break,
        }
    }
    answer
}

fn said(name: &str, peer: SocketAddr) -> String {
    format!("{name} sees {}", peer.ip())
}

/// A server that ends with its value.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    heard: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Returns how many UDP packets arrived, answered or not.
    pub(crate) fn heard(&self) -> usize {
        self.heard.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        assert!(ended || std::thread::panicking(), "the server ended early");
    }
}

/// A host with one link to the outside.
pub(crate) struct Lab {
    /// The namespace that stands for the host.
    pub(crate) host: Space,
    /// The namespace that stands for the rest of the world.
    pub(crate) outside: Space,
}

impl Lab {
    /// Makes both, connected by a veth pair.
    pub(crate) fn new() -> Self {
        let (host, outside) = (Space::new(), Space::new());
        host.shell("ip link set lo up; ip link add uplink type veth peer name far0");
        let (near, far) = (host.descriptor(), outside.descriptor());
        let moved = std::thread::spawn(move || {
            setns(&near, CloneFlags::CLONE_NEWNET).expect("enter the host");
            // `ip` resolves a path, so the descriptor is shown to it below this process's own directory.
            let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&far));
            let status = Command::new("ip").args(["link", "set", "far0", "netns", &path]).status();
            assert!(status.expect("run ip").success());
        });
        moved.join().expect("move the link");
        host.shell("ip address add 192.0.2.1/24 dev uplink; ip link set uplink up");
        outside.shell("ip address add 192.0.2.2/24 dev far0; ip link set far0 up");
        Self { host, outside }
    }

    /// Opens the network of an instance of its own.
    pub(crate) fn network() -> Network {
        Network::open(&NetworkConfig::new("wharf")).expect("nft is installed")
    }
}

/// Returns the tenant of an index, with its /22.
pub(crate) fn tenant(index: u8) -> TenantNetwork {
    let subnet = format!("10.201.{}.0/22", index * 4).parse().expect("a subnet");
    TenantNetwork { tenant_id: format!("tnt_{index}"), index: index.into(), subnet }
}

/// Returns the address of a tenant's container.
pub(crate) fn address(tenant: u8, container: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 201, tenant * 4, container)
}

/// Returns the attachment of a tenant's container.
pub(crate) fn attachment(tenant: u8, container: u8, ports: &[PublishedPort]) -> Attachment {
    let address = address(tenant, container);
    Attachment {
        container_id: format!("{tenant:02x}{container:02x}").repeat(16),
        tenant_id: format!("tnt_{tenant}"),
        address,
        mac: MacAddress::of(address),
        ports: ports.to_vec(),
    }
}

/// Returns a port published by TCP and by UDP.
pub(crate) fn published(host_ip: Ipv4Addr, host_port: u16, container_port: u16) -> [PublishedPort; 2] {
    [Protocol::Tcp, Protocol::Udp].map(|protocol| PublishedPort {
        host_ip,
        host_port,
        container_port,
        protocol,
    })
}

/// Returns a socket address, for messages.
pub(crate) fn socket(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}
