//! Links, addresses and routes over rtnetlink, in the host's network namespace and inside a container's.
//!
//! A veth's peer is created directly inside the container's namespace: 0.3 ms, where moving it there afterwards
//! costs 16 ms of waiting for RCU. What has to be configured inside is configured over a socket that a
//! short-lived thread opened there: a netlink socket belongs for good to the namespace it was made in
//! (`network_namespaces(7)`).

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use ipnet::Ipv4Net;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};
use tokio::sync::oneshot;
use wharf_sys::net::set_loopback_up;

use crate::desired::MacAddress;

/// The name of the network link inside a container.
pub const CONTAINER_LINK: &str = "eth0";
/// How long a group of requests may take. The kernel answers each within a millisecond unless another process
/// holds the rtnetlink lock, e.g. while it deletes many links.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Settings inside a container's namespace, written before it has a link.
///
/// IPv6 is off: containers have no IPv6 address, and without this the kernel would send neighbour discovery
/// that is counted as the container's traffic. Low ports and ping need no capability, as under Docker 20.10.
const INSIDE: [(&str, &str); 4] = [
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
];

/// Why a link, an address or a setting could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be opened.
    #[error("opening a netlink socket")]
    Open(#[source] io::Error),
    /// The kernel refused a request.
    #[error("{attempted} {link}")]
    Request {
        /// What was attempted.
        attempted: Attempt,
        /// The link it was for.
        link: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A link that has to be there is not.
    #[error("link {link} is not there")]
    NoSuchLink {
        /// The link's name.
        link: String,
    },
    /// The kernel did not answer in time.
    #[error("the kernel did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    /// The thread that was to do it ended without an answer.
    #[error("the netlink thread ended before the answer came")]
    Closed,
    /// The container's namespace could not be entered.
    #[error("entering the container's network namespace")]
    Enter(#[source] io::Error),
    /// The loopback link could not be set up.
    #[error("setting up the loopback link")]
    Loopback(#[source] wharf_sys::SysError),
    /// A kernel setting could not be read or written.
    #[error("setting {} to {value}", .path.display())]
    Setting {
        /// The setting's file.
        path: PathBuf,
        /// The value.
        value: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What was attempted on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Listing or finding links.
    Find,
    /// Creating a bridge.
    CreateBridge,
    /// Creating a veth pair.
    CreateVeth,
    /// Setting alias, master and state.
    Configure,
    /// Adding an address.
    AddAddress,
    /// Adding a default route.
    AddRoute,
    /// Deleting a link.
    Delete,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Find => "finding link",
            Self::CreateBridge => "creating bridge",
            Self::CreateVeth => "creating veth pair",
            Self::Configure => "configuring link",
            Self::AddAddress => "adding an address to link",
            Self::AddRoute => "adding a default route through link",
            Self::Delete => "deleting link",
        })
    }
}

impl Attempt {
    /// Makes an error's conversion for this attempt.
    fn on(self, link: &str) -> impl Fn(rtnetlink::Error) -> NetlinkError {
        move |error| NetlinkError::Request {
            attempted: self,
            link: link.to_owned(),
            source: system_error(error),
        }
    }
}

impl NetlinkError {
    /// Tells whether a veth could not be made because one of its name is there.
    pub(crate) fn already_there(&self) -> bool {
        matches!(self, Self::Request { attempted: Attempt::CreateVeth, .. })
            && is(self, nix::errno::Errno::EEXIST)
    }
}

/// Turns the library's error into the system's: nearly always it carries an errno.
fn system_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// Tells whether the kernel refused because of this errno.
fn is(error: &NetlinkError, errno: nix::errno::Errno) -> bool {
    let NetlinkError::Request { source, .. } = error else { return false };
    source.raw_os_error().is_some_and(|raw| nix::errno::Errno::from_raw(raw) == errno)
}

/// Requests over one socket of one network namespace.
///
/// The kernel answers a netlink request inside the system call that sends it, however long that takes: deleting
/// a link is 18 ms, and while another process holds the rtnetlink lock everybody waits. So every socket has a
/// thread of its own that ends with the last clone of this value, and no worker of the runtime is ever held up.
#[derive(Clone)]
pub(crate) struct Links(Handle);

impl Links {
    /// Opens a socket in the calling thread's namespace, as a thread made by it has the same.
    pub(crate) async fn open() -> Result<Self, NetlinkError> {
        Self::on_a_thread(|| Ok(())).await
    }

    /// Enters a container's namespace, writes its settings and opens a socket there.
    pub(crate) async fn enter(netns: &Arc<OwnedFd>) -> Result<Self, NetlinkError> {
        let netns = Arc::clone(netns);
        Self::on_a_thread(move || settle_here(&netns)).await
    }

    async fn on_a_thread(
        prepare: impl FnOnce() -> Result<(), NetlinkError> + Send + 'static,
    ) -> Result<Self, NetlinkError> {
        let (done, opened) = oneshot::channel();
        let drive = move || {
            let open = || {
                prepare()?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
                let runtime = runtime.map_err(NetlinkError::Open)?;
                let registers_the_socket = runtime.enter();
                let (connection, handle, _unsolicited) =
                    rtnetlink::new_connection().map_err(NetlinkError::Open)?;
                drop(registers_the_socket);
                Ok((runtime, connection, handle))
            };
            // A caller that was cancelled takes no handle, and without a handle the connection ends.
            match open() {
                Ok((runtime, connection, handle)) => {
                    drop(done.send(Ok(Self(handle))));
                    runtime.block_on(connection);
                }
                Err(error) => drop(done.send(Err(error))),
            }
        };
        std::thread::Builder::new().name("netlink".to_owned()).spawn(drive).map_err(NetlinkError::Open)?;
        opened.await.unwrap_or(Err(NetlinkError::Closed))
    }
}

/// Writes the settings of a container's namespace and sets its loopback link up, for the calling thread, which
/// stays in the namespace.
fn settle_here(netns: &OwnedFd) -> Result<(), NetlinkError> {
    setns(netns, CloneFlags::CLONE_NEWNET).map_err(|errno| NetlinkError::Enter(errno.into()))?;
    INSIDE.iter().try_for_each(|(path, value)| write(Path::new(path), value))?;
    // Two ioctls, where a request over netlink would need a runtime and a socket.
    set_loopback_up().map_err(NetlinkError::Loopback)
}

/// Gives netlink work its time limit.
pub(crate) async fn in_time<T>(
    work: impl Future<Output = Result<T, NetlinkError>>,
) -> Result<T, NetlinkError> {
    tokio::time::timeout(TIMEOUT, work).await.map_err(|_elapsed| NetlinkError::TimedOut)?
}

/// A link of the host, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    pub(crate) master: Option<u32>,
    pub(crate) up: bool,
}

impl Link {
    fn from_message(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            alias: None,
            master: None,
            up: message.header.flags.contains(LinkFlags::Up),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Controller(index) => link.master = Some(index),
                _ => {}
            }
        }
        link
    }
}

/// A tenant's bridge as it shall be.
pub(crate) struct Bridge<'a> {
    pub(crate) name: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) subnet: Ipv4Net,
    pub(crate) mtu: u32,
}

/// A container's veth pair as it shall be.
pub(crate) struct Veth<'a> {
    pub(crate) name: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) bridge: &'a str,
    pub(crate) mac: MacAddress,
    pub(crate) mtu: u32,
    /// Whether the port may send back where a frame came from: where `br_netfilter` translates on the bridge, a
    /// container reaches its own published port only so. Only for those that publish: it also returns the
    /// container's own broadcasts, which would be counted as received.
    pub(crate) hairpin: bool,
}

impl Links {
    /// Lists all links.
    pub(crate) async fn list(&self) -> Result<Vec<Link>, NetlinkError> {
        let messages = self.0.link().get().execute();
        messages.map_ok(Link::from_message).try_collect().await.map_err(Attempt::Find.on("list"))
    }

    /// Finds a link by its name.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut found = Box::pin(self.0.link().get().match_name(name).execute());
        match found.try_next().await.map_err(Attempt::Find.on(name)) {
            Ok(message) => Ok(message.map(Link::from_message)),
            Err(error) if is(&error, nix::errno::Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a bridge, or sets one right that is there; doing it twice changes nothing. Returns its index.
    pub(crate) async fn bridge(&self, bridge: &Bridge<'_>) -> Result<u32, NetlinkError> {
        let Bridge { name, alias, gateway, subnet, mtu } = *bridge;
        // Without an address of its own a bridge takes the lowest of its ports', which changes with them, and
        // every container's ARP entry for its gateway would break. Snooping needs a querier that is not here.
        let message = LinkBridge::new(name)
            .address(MacAddress::of(gateway).octets().to_vec())
            .mtu(mtu)
            .mcast_snooping(false)
            .build();
        match self.0.link().add(message).execute().await.map_err(Attempt::CreateBridge.on(name)) {
            Err(error) if !is(&error, nix::errno::Errno::EEXIST) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        set(conf(4, name, "route_localnet"), "1").await?;
        set(conf(4, name, "rp_filter"), "1").await?;
        set(conf(6, name, "disable_ipv6"), "1").await?;
        let link =
            self.find(name).await?.ok_or_else(|| NetlinkError::NoSuchLink { link: name.to_owned() })?;
        let address = self.0.address().add(link.index, gateway.into(), subnet.prefix_len()).replace();
        address.execute().await.map_err(Attempt::AddAddress.on(name))?;
        if !link.up || link.alias.as_deref() != Some(alias) {
            let message = LinkUnspec::new_with_index(link.index).alias(alias).up().build();
            self.0.link().set(message).execute().await.map_err(Attempt::Configure.on(name))?;
        }
        Ok(link.index)
    }

    /// Makes a veth pair with its peer inside the container's namespace and its host end on the bridge.
    pub(crate) async fn veth(&self, veth: &Veth<'_>, netns: &OwnedFd) -> Result<(), NetlinkError> {
        let bridge = self
            .find(veth.bridge)
            .await?
            .ok_or_else(|| NetlinkError::NoSuchLink { link: veth.bridge.to_owned() })?;
        // One queue each way from birth: by default the kernel makes one a CPU and then gives all but one
        // back, which waits for RCU.
        let (tx, rx) = (LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1));
        let peer = LinkUnspec::new_with_name(CONTAINER_LINK)
            .address(veth.mac.octets().to_vec())
            .mtu(veth.mtu)
            .append_extra_attribute(tx.clone())
            .append_extra_attribute(rx.clone())
            .setns_by_fd(netns.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(veth.name)
            .mtu(veth.mtu)
            .append_extra_attribute(tx)
            .append_extra_attribute(rx)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.0.link().add(message).execute().await.map_err(Attempt::CreateVeth.on(veth.name))?;
        self.dress(veth, bridge.index).await
    }

    /// Puts a veth's host end on its bridge with alias and state as they shall be.
    pub(crate) async fn dress(&self, veth: &Veth<'_>, bridge_index: u32) -> Result<(), NetlinkError> {
        // Ports of a bridge need no address, and one would make the host speak to the container.
        set(conf(6, veth.name, "disable_ipv6"), "1").await?;
        let configured = Attempt::Configure.on(veth.name);
        let message = LinkUnspec::new_with_name(veth.name).controller(bridge_index).build();
        self.0.link().set(message).execute().await.map_err(&configured)?;
        let message =
            LinkBridgePort::new(0).name(veth.name).hairpin(veth.hairpin).alias(veth.alias).up().build();
        self.0.link().set_port(message).execute().await.map_err(configured)
    }

    /// Deletes a link; one that has gone meanwhile is fine.
    pub(crate) async fn delete(&self, link: &Link) -> Result<(), NetlinkError> {
        match self.0.link().del(link.index).execute().await.map_err(Attempt::Delete.on(&link.name)) {
            Err(error) if !is(&error, nix::errno::Errno::ENODEV) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Gives the container's link its address and default route, and sets it up. It cannot be born up: a veth
    /// refuses that until both ends exist.
    pub(crate) async fn configure_container(
        &self,
        address: Ipv4Addr,
        prefix_length: u8,
        gateway: Ipv4Addr,
    ) -> Result<(), NetlinkError> {
        let link = self
            .find(CONTAINER_LINK)
            .await?
            .ok_or_else(|| NetlinkError::NoSuchLink { link: CONTAINER_LINK.to_owned() })?;
        let added = self.0.address().add(link.index, address.into(), prefix_length).execute().await;
        added.map_err(Attempt::AddAddress.on(CONTAINER_LINK))?;
        let up = LinkUnspec::new_with_index(link.index).up().build();
        self.0.link().set(up).execute().await.map_err(Attempt::Configure.on(CONTAINER_LINK))?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
        self.0.route().add(route).execute().await.map_err(Attempt::AddRoute.on(CONTAINER_LINK))
    }
}

/// Switches IPv4 forwarding on if it is off. It is the only setting of the whole host that is touched, and it is
/// never switched off again: others may have come to rely on it.
pub(crate) async fn forward() -> Result<(), NetlinkError> {
    let path = Path::new("net/ipv4/ip_forward");
    let now = std::fs::read_to_string(Path::new("/proc/sys").join(path));
    if now.is_ok_and(|text| text.trim() == "1") { Ok(()) } else { set(path.to_owned(), "1").await }
}

/// Returns a link's setting below `/proc/sys`.
fn conf(version: u8, link: &str, key: &str) -> PathBuf {
    PathBuf::from(format!("net/ipv{version}/conf/{link}/{key}"))
}

/// Writes a setting from a thread that may wait: some take the rtnetlink lock.
async fn set(path: PathBuf, value: &'static str) -> Result<(), NetlinkError> {
    tokio::task::spawn_blocking(move || write(&path, value)).await.unwrap_or(Err(NetlinkError::Closed))
}

/// Writes a setting below `/proc/sys`, which shows the network namespace of the calling thread.
fn write(path: &Path, value: &'static str) -> Result<(), NetlinkError> {
    let full = Path::new("/proc/sys").join(path);
    match std::fs::write(&full, value) {
        // A kernel without IPv6 has nothing to switch off.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.starts_with("net/ipv6") => Ok(()),
        Err(source) => Err(NetlinkError::Setting { path: full, value, source }),
        Ok(()) => Ok(()),
    }
}
