//! The network of one instance on this host: bridges, attached containers and their rules.
//!
//! [`Network::apply`] comes first: it makes the kernel equal to what the agent's database says and remembers it.
//! From then on tenants and containers come and go one by one. What is remembered is entered *before* the kernel
//! is touched and struck out only when everything is undone, so an error or a cancelled caller leaves something
//! that [`Network::detach`] or the next `apply` still finds.
//!
//! An attachment costs one batch of rule elements and nine netlink requests, which run side by side.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{RwLock, Semaphore};

use crate::desired::{Attachment, Book, Desired, DesiredError, PublishedPort, TenantNetwork};
use crate::ipam::gateway;
use crate::names::{Instance, NameError};
use crate::netlink::{self, Bridge, Link, Links, NetlinkError, Veth, in_time};
use crate::nft::ruleset::{self, Share};
use crate::nft::traffic::{Hairpin, TrafficReader};
use crate::nft::{Change, Elements, Nft, NftError};
use crate::ports;

/// How many containers are attached at the same time: each needs two threads for some milliseconds.
const MAKING: usize = 16;
/// How many links are deleted at the same time. All wait for one lock of the kernel, so more would only be
/// more threads that wait.
const DELETING: usize = 4;
/// How long a link is given to go with its namespace, looked at after each wait.
const GOING_MS: [u64; 4] = [5, 10, 20, 40];

/// Connections in the kernel's table on a machine with 1 GiB of memory.
const SMALL_TABLE: u32 = 65_536;

/// How the network of an instance is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The instance's name (`wharf`): nft tables, bridges and links are named after it.
    pub instance: String,
    /// The largest packet of bridges and containers, in bytes. A value above the uplink's works, by the uplink's
    /// "fragmentation needed" answers, but is slower.
    pub mtu_bytes: u32,
    /// Where the `nft` program is; `None` looks in the usual places.
    pub nft: Option<PathBuf>,
}

impl NetworkConfig {
    /// Returns the configuration of an instance with Ethernet's packet size and the installed `nft`.
    pub fn new(instance: impl Into<String>) -> Self {
        Self { instance: instance.into(), mtu_bytes: 1500, nft: None }
    }
}

/// Why the network could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The instance's name cannot become kernel names.
    #[error("naming the instance")]
    Instance(#[source] NameError),
    /// A change was asked for before the desired state was applied.
    #[error("the network is not set up yet: apply a desired state first")]
    NotApplied,
    /// What was asked for contradicts itself or what is there.
    #[error("the wanted network is not possible")]
    Desired(#[source] DesiredError),
    /// A tenant cannot go while one of its containers is attached.
    #[error("tenant {tenant_id} still has container {container_id} attached")]
    TenantInUse {
        /// The tenant.
        tenant_id: String,
        /// One of its containers.
        container_id: String,
    },
    /// The rules could not be changed.
    #[error("changing the firewall rules of {subject}")]
    Firewall {
        /// Whose rules.
        subject: String,
        /// What `nft` said.
        #[source]
        source: NftError,
    },
    /// A link could not be changed.
    #[error("changing the links of {subject}")]
    Link {
        /// Whose links.
        subject: String,
        /// What the kernel said.
        #[source]
        source: NetlinkError,
    },
    /// Attaching failed, and so did a part of undoing it; [`Network::detach`] may be tried again.
    #[error("undoing a failed attachment: {left}")]
    Undo {
        /// Why attaching failed.
        #[source]
        cause: Box<NetworkError>,
        /// What could not be undone.
        left: Failures,
    },
}

/// Every failure of something that goes on after an error.
#[derive(Debug)]
pub struct Failures(pub Vec<NetworkError>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, failure) in self.0.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "; " })?;
            write!(f, "{failure}")?;
            let mut cause = std::error::Error::source(failure);
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failures {}

/// What attaching a container came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The host's end of the veth pair.
    pub interface: String,
    /// The container's gateway.
    pub gateway: Ipv4Addr,
    /// The published ports, each with its number: to be stored, and given to [`Network::apply`] next time.
    pub ports: Vec<PublishedPort>,
}

/// What [`Network::apply`] found different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Bridges that were made.
    pub created: Vec<String>,
    /// Links of containers that were put back on their bridge.
    pub repaired: Vec<String>,
    /// Links that belong to nobody any more and were deleted.
    pub removed: Vec<String>,
    /// Containers whose link is gone: their namespace is, or somebody deleted it. They cannot be repaired; their
    /// ports stay taken until they are detached.
    pub missing: Vec<String>,
}

/// What is in the kernel, or on its way there.
#[derive(Debug, Default)]
struct State {
    applied: bool,
    book: Book,
    /// Tenants whose bridge and rules were made, as far as is known.
    made: BTreeSet<String>,
    /// As the rules have it.
    hairpin: Option<Hairpin>,
    next_port: u16,
}

/// The network of one instance.
#[derive(Debug)]
pub struct Network {
    instance: Instance,
    mtu_bytes: u32,
    nft: Nft,
    elements: Arc<Elements>,
    traffic: Arc<TrafficReader>,
    state: Mutex<State>,
    making: Semaphore,
    deleting: Semaphore,
    /// Held shared by single changes and alone by changes of everything.
    whole: RwLock<()>,
}

impl Network {
    /// Checks the configuration and finds `nft`; changes nothing.
    ///
    /// # Errors
    /// [`NetworkError::Instance`], or [`NetworkError::Firewall`] with [`NftError::Missing`].
    pub fn open(config: &NetworkConfig) -> Result<Self, NetworkError> {
        let instance = Instance::new(&config.instance).map_err(NetworkError::Instance)?;
        let nft = Nft::find(config.nft.as_deref()).map_err(firewall(instance.name()))?;
        Ok(Self {
            traffic: Arc::new(TrafficReader::new(&instance)),
            instance,
            mtu_bytes: config.mtu_bytes,
            nft,
            elements: Arc::default(),
            state: Mutex::default(),
            making: Semaphore::new(MAKING),
            deleting: Semaphore::new(DELETING),
            whole: RwLock::default(),
        })
    }

    /// Returns the instance's names.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Returns what reads how much each attached container sent and received.
    pub fn traffic(&self) -> Arc<TrafficReader> {
        Arc::clone(&self.traffic)
    }

    /// Makes the kernel equal to `desired`: rules in one transaction, then bridges and links. Links of ours that
    /// nobody wants are deleted. Doing it twice changes nothing. Switches IPv4 forwarding on if it is off.
    ///
    /// # Errors
    /// The first failure; what came before it stays, and a repetition goes on from there.
    pub async fn apply(&self, desired: &Desired) -> Result<Applied, NetworkError> {
        let _alone = self.whole.write().await;
        let name = self.instance.name();
        let book = Book::new(&self.instance, desired).map_err(NetworkError::Desired)?;
        netlink::forward().await.map_err(link(name))?;
        let share = table_share();
        let hairpin = Hairpin::now();
        let rules =
            |share| ruleset::replace(&self.instance, share, hairpin, book.tenants(), book.attachments());
        let text = rules(share).map_err(naming)?;
        {
            let mut state = self.state();
            state.book = book.clone();
            state.hairpin = Some(hairpin);
            state.made.clear();
            state.applied = false;
        }
        self.nft.commit(&text).await.map_err(firewall(name))?;
        // The first rules since the boot bring the table of connections into being.
        if table_share() != share {
            let text = rules(table_share()).map_err(naming)?;
            self.nft.commit(&text).await.map_err(firewall(name))?;
        }
        self.forget_counters(&book).await?;
        let applied = in_time(self.apply_links(&book)).await.map_err(link(name))?;
        let mut state = self.state();
        state.made = book.tenants().map(|tenant| tenant.tenant_id.clone()).collect();
        state.applied = true;
        drop(state);
        Ok(applied)
    }

    /// Removes what counts the traffic of addresses that are nobody's any more: a killed agent left it.
    async fn forget_counters(&self, book: &Book) -> Result<(), NetworkError> {
        let name = self.instance.name();
        let traffic = self.traffic();
        let counted = tokio::task::spawn_blocking(move || traffic.all()).await;
        let counted =
            counted.unwrap_or_else(|panic| Err(std::io::Error::other(panic))).map_err(|source| {
                firewall(name)(NftError::Tables {
                    table: self.instance.usage_table(),
                    source: Arc::new(source),
                })
            })?;
        let wanted: BTreeSet<Ipv4Addr> = book.attachments().map(|attachment| attachment.address).collect();
        for address in counted.into_keys().filter(|address| !wanted.contains(address)) {
            let elements = ruleset::counters(address).collect();
            let removed = Arc::clone(&self.elements).change(&self.instance, Change::Remove, elements);
            removed.await.map_err(firewall(name))?;
        }
        Ok(())
    }

    /// Writes the rules anew if another program removed them, as a restart of a host's own firewall does (`nft
    /// flush ruleset`): without them tenants reach each other. Also if bridges call the IP rules from now on, or
    /// no more. Returns whether it had to.
    ///
    /// Looking costs some 10 µs.
    ///
    /// # Errors
    /// What the kernel refused.
    pub async fn heal(&self) -> Result<bool, NetworkError> {
        let name = self.instance.name();
        let hairpin = Hairpin::now();
        let as_written = self.state().hairpin == Some(hairpin);
        if Arc::clone(&self.elements).are_there(&self.instance).await.map_err(firewall(name))? && as_written {
            return Ok(false);
        }
        let _alone = self.whole.write().await;
        let text = {
            // Purged, or not set up yet: then there shall be none.
            let Ok(mut state) = self.applied() else { return Ok(false) };
            state.hairpin = Some(hairpin);
            ruleset::replace(
                &self.instance,
                table_share(),
                hairpin,
                state.book.tenants(),
                state.book.attachments(),
            )
        };
        self.nft.commit(&text.map_err(naming)?).await.map_err(firewall(name))?;
        Ok(true)
    }

    async fn apply_links(&self, book: &Book) -> Result<Applied, NetlinkError> {
        let links = Links::open().await?;
        let mut ours = self.own_links(&links).await?;
        let mut applied = Applied::default();
        for tenant in book.tenants() {
            let name = self.instance.bridge(tenant.index);
            if !take(&mut ours, &name) {
                applied.created.push(name);
            }
            self.make_bridge(&links, tenant).await?;
        }
        for attachment in book.attachments() {
            let (Some(tenant), Ok(name)) =
                (book.tenant(&attachment.tenant_id), self.instance.veth(&attachment.container_id))
            else {
                // The book admits nothing that would come here.
                continue;
            };
            let bridge_name = self.instance.bridge(tenant.index);
            let Some(found) = links.find(&name).await? else {
                applied.missing.push(attachment.container_id.clone());
                continue;
            };
            take(&mut ours, &name);
            let bridge = links.find(&bridge_name).await?.map(|bridge| bridge.index).unwrap_or_default();
            let alias = self.instance.veth_alias(&attachment.tenant_id, &attachment.container_id);
            if !found.up || found.master != Some(bridge) || found.alias.as_deref() != Some(&alias) {
                let veth = Veth {
                    name: &name,
                    alias: &alias,
                    bridge: &bridge_name,
                    mac: attachment.mac,
                    mtu: self.mtu_bytes,
                    hairpin: !attachment.ports.is_empty(),
                };
                links.dress(&veth, bridge).await?;
                applied.repaired.push(name);
            }
        }
        for orphan in ours {
            links.delete(&orphan).await?;
            applied.removed.push(orphan.name);
        }
        Ok(applied)
    }

    /// Makes a tenant's bridge and lets its subnet out; doing it twice changes nothing.
    ///
    /// # Errors
    /// [`NetworkError::Desired`] if the network clashes with another tenant's, or what the kernel refused.
    pub async fn ensure_tenant(&self, tenant: &TenantNetwork) -> Result<(), NetworkError> {
        let _shared = self.whole.read().await;
        {
            let mut state = self.applied()?;
            state.book.admit_tenant(tenant).map_err(NetworkError::Desired)?;
            if state.made.contains(&tenant.tenant_id) {
                return Ok(());
            }
        }
        let text = ruleset::add_tenant(&self.instance, tenant);
        // Rules first: a bridge without them would let its tenant reach the host.
        self.nft.commit(&text).await.map_err(firewall(&tenant.tenant_id))?;
        let made = in_time(async { self.make_bridge(&Links::open().await?, tenant).await });
        made.await.map_err(link(&tenant.tenant_id))?;
        self.state().made.insert(tenant.tenant_id.clone());
        Ok(())
    }

    /// Removes a tenant's bridge and rules; one that is not there is fine.
    ///
    /// # Errors
    /// [`NetworkError::TenantInUse`] while a container is attached, or what the kernel refused.
    pub async fn remove_tenant(&self, tenant_id: &str) -> Result<(), NetworkError> {
        let _alone = self.whole.write().await;
        let tenant = {
            let mut state = self.applied()?;
            state.made.remove(tenant_id);
            state.book.dismiss_tenant(tenant_id).map_err(|container_id| NetworkError::TenantInUse {
                tenant_id: tenant_id.to_owned(),
                container_id,
            })?
        };
        let Some(tenant) = tenant else { return Ok(()) };
        let bridge = self.instance.bridge(tenant.index);
        let removed = async {
            self.delete_link(&bridge, &[], || true).await.map_err(link(tenant_id))?;
            let text = ruleset::remove_tenant(&self.instance, &tenant);
            self.nft.commit(&text).await.map_err(firewall(tenant_id))
        };
        let removed = removed.await;
        if removed.is_err() {
            // It is still there, at least in part: keep its place, so that it can be tried again.
            self.state().book.admit_tenant(&tenant).map_err(NetworkError::Desired)?;
        }
        removed
    }

    /// Attaches a container to its tenant's bridge: `eth0` with address and default route inside `netns`, its
    /// ports published, and nothing but its own addresses accepted from it. Ports of number 0 get a free one.
    ///
    /// A caller that drops this future half-way must call [`Network::detach`] and [`Network::remove_link`].
    ///
    /// # Errors
    /// [`NetworkError::Desired`] if a port, address or id is taken, or what the kernel refused; everything is
    /// undone then.
    pub async fn attach(&self, attachment: &Attachment, netns: OwnedFd) -> Result<Attached, NetworkError> {
        let _shared = self.whole.read().await;
        let id = attachment.container_id.as_str();
        let (tenant, attachment) = self.admit(attachment)?;
        let subject = format!("container {id}");
        let connected = async {
            let elements = ruleset::elements(&self.instance, &attachment).map_err(naming)?;
            let rules = Arc::clone(&self.elements).change(&self.instance, Change::Add, elements);
            let interface = self.instance.veth(id).map_err(naming)?;
            // Neither order matters: a link without its rules is mute, and rules without their link match nothing.
            let (rules, links) = tokio::join!(rules, self.connect(&tenant, &attachment, &interface, netns));
            rules.map_err(firewall(&subject))?;
            links.map_err(link(&subject))?;
            Ok(interface)
        };
        match connected.await {
            Ok(interface) => {
                Ok(Attached { interface, gateway: gateway(tenant.subnet), ports: attachment.ports })
            }
            Err(cause) => {
                // Whoever took the bridge away: the next start makes it again.
                self.state().made.remove(&tenant.tenant_id);
                match self.undo(id).await {
                    Ok(()) => Err(cause),
                    Err(left) => Err(NetworkError::Undo { cause: Box::new(cause), left }),
                }
            }
        }
    }

    /// Enters an attachment in the book, its ports chosen and found free.
    fn admit(&self, attachment: &Attachment) -> Result<(TenantNetwork, Attachment), NetworkError> {
        let mut state = self.applied()?;
        state.book.check_attachment(&self.instance, attachment).map_err(NetworkError::Desired)?;
        let id = &attachment.container_id;
        let start = state.next_port;
        let ports = ports::allot(id, &attachment.ports, state.book.attachments(), start, ports::probe)
            .map_err(|source| {
                NetworkError::Desired(DesiredError::Port { container_id: id.clone(), source })
            })?;
        let highest =
            ports.iter().map(|port| port.host_port).filter(|port| ports::EPHEMERAL.contains(port)).max();
        state.next_port = highest.map_or(start, |port| port.checked_add(1).unwrap_or_default());
        let attachment = Attachment { ports, ..attachment.clone() };
        state.book.admit(&self.instance, &attachment).map_err(NetworkError::Desired)?;
        let tenant = state.book.tenant(&attachment.tenant_id).cloned().ok_or_else(|| {
            NetworkError::Desired(DesiredError::UnknownTenant {
                container_id: id.clone(),
                tenant_id: attachment.tenant_id.clone(),
            })
        })?;
        Ok((tenant, attachment))
    }

    async fn connect(
        &self,
        tenant: &TenantNetwork,
        attachment: &Attachment,
        interface: &str,
        netns: OwnedFd,
    ) -> Result<(), NetlinkError> {
        let _place = self.making.acquire().await;
        in_time(self.connect_links(tenant, attachment, interface, netns)).await
    }

    async fn connect_links(
        &self,
        tenant: &TenantNetwork,
        attachment: &Attachment,
        interface: &str,
        netns: OwnedFd,
    ) -> Result<(), NetlinkError> {
        let netns = Arc::new(netns);
        // Its settings come before its link: IPv6 must be off when the link appears.
        let (inside, links) = tokio::try_join!(Links::enter(&netns), Links::open())?;
        let alias = self.instance.veth_alias(&attachment.tenant_id, &attachment.container_id);
        let bridge = self.instance.bridge(tenant.index);
        let veth = Veth {
            name: interface,
            alias: &alias,
            bridge: &bridge,
            mac: attachment.mac,
            mtu: self.mtu_bytes,
            hairpin: !attachment.ports.is_empty(),
        };
        match links.veth(&veth, &netns).await {
            // The one of the run before is still on its way out.
            Err(error) if error.already_there() => {
                self.delete_link(interface, &GOING_MS, || true).await?;
                links.veth(&veth, &netns).await?;
            }
            made => made?,
        }
        let prefix_length = tenant.subnet.prefix_len();
        inside.configure_container(attachment.address, prefix_length, gateway(tenant.subnet)).await
    }

    /// Takes a container off: its rules and ports. One that is not there is fine.
    ///
    /// What is left of its link is mute. It goes with the container's namespace: see [`Network::remove_link`].
    ///
    /// # Errors
    /// Every failure; the container stays in the book then, and this may be tried again.
    pub async fn detach(&self, container_id: &str) -> Result<(), Failures> {
        let _shared = self.whole.read().await;
        self.retract(container_id).await.map_err(|failure| Failures(vec![failure]))?;
        self.state().book.dismiss(container_id);
        Ok(())
    }

    /// Sees to it that the link of a detached container goes.
    ///
    /// It goes with the container's namespace at no cost; deleting it takes 18 ms and holds up every other change
    /// of links meanwhile. So close the last descriptor of the namespace first, after the final reading of its
    /// counters: the link is given 75 ms to go by itself. Nobody need wait for this; one that is attached again
    /// in the meantime is left alone.
    ///
    /// # Errors
    /// What the kernel refused; this may be tried again.
    pub async fn remove_link(&self, container_id: &str) -> Result<(), NetworkError> {
        let _shared = self.whole.read().await;
        let veth = self.instance.veth(container_id).map_err(naming)?;
        // Asked after the link was found: what is found before an attachment begins is not that attachment's.
        let detached = || self.state().book.attachment(container_id).is_none();
        self.delete_link(&veth, &GOING_MS, detached).await.map_err(link(&format!("container {container_id}")))
    }

    async fn undo(&self, container_id: &str) -> Result<(), Failures> {
        let mut failures = Vec::from_iter(self.retract(container_id).await.err());
        match self.instance.veth(container_id).map_err(naming) {
            Ok(veth) => {
                let deleted = self.delete_link(&veth, &GOING_MS, || true).await;
                failures.extend(deleted.map_err(link(&format!("container {container_id}"))).err());
            }
            Err(error) => failures.push(error),
        }
        if !failures.is_empty() {
            return Err(Failures(failures));
        }
        self.state().book.dismiss(container_id);
        Ok(())
    }

    /// Takes a container's elements out of the rules.
    async fn retract(&self, container_id: &str) -> Result<(), NetworkError> {
        let Some(attachment) = self.state().book.attachment(container_id).cloned() else { return Ok(()) };
        let elements = ruleset::elements(&self.instance, &attachment).map_err(naming)?;
        Arc::clone(&self.elements)
            .change(&self.instance, Change::Remove, elements)
            .await
            .map_err(firewall(&format!("container {container_id}")))
    }

    /// Removes everything of this instance from the kernel, known or not, and goes on after an error. IPv4
    /// forwarding stays as it is.
    ///
    /// # Errors
    /// Every failure.
    pub async fn purge(&self) -> Result<(), Failures> {
        let _alone = self.whole.write().await;
        *self.state() = State::default();
        let name = self.instance.name();
        let mut failures = Vec::new();
        // Links first: while they are there, so are the rules.
        let links = in_time(async {
            let links = Links::open().await?;
            let mut left = Vec::new();
            for own in self.own_links(&links).await? {
                left.extend(links.delete(&own).await.err());
            }
            Ok(left)
        });
        match links.await {
            Ok(left) => failures.extend(left.into_iter().map(link(name))),
            Err(error) => failures.push(link(name)(error)),
        }
        let rules = ruleset::purge(&self.instance);
        failures.extend(self.nft.commit(&rules).await.map_err(firewall(name)).err());
        if failures.is_empty() { Ok(()) } else { Err(Failures(failures)) }
    }

    async fn make_bridge(&self, links: &Links, tenant: &TenantNetwork) -> Result<u32, NetlinkError> {
        let bridge = Bridge {
            name: &self.instance.bridge(tenant.index),
            alias: &self.instance.bridge_alias(&tenant.tenant_id),
            gateway: gateway(tenant.subnet),
            subnet: tenant.subnet,
            mtu: self.mtu_bytes,
        };
        links.bridge(&bridge).await
    }

    /// Deletes a link of ours by its name, unless it goes by itself within `patience_ms`.
    /// Waits for a link to go, and deletes it when it does not; as long as it is `unwanted`.
    async fn delete_link(
        &self,
        name: &str,
        patience_ms: &[u64],
        unwanted: impl Fn() -> bool,
    ) -> Result<(), NetlinkError> {
        let _place = self.deleting.acquire().await;
        in_time(async {
            let links = Links::open().await?;
            let mut waits_ms = patience_ms.iter();
            loop {
                let found = links.find(name).await?;
                let Some(found) = found.filter(|link| self.instance.owns(&link.name, link.alias.as_deref()))
                else {
                    return Ok(());
                };
                if !unwanted() {
                    return Ok(());
                }
                match waits_ms.next() {
                    Some(wait_ms) => tokio::time::sleep(Duration::from_millis(*wait_ms)).await,
                    None => return links.delete(&found).await,
                }
            }
        })
        .await
    }

    async fn own_links(&self, links: &Links) -> Result<Vec<Link>, NetlinkError> {
        let mut all = links.list().await?;
        all.retain(|found| self.instance.owns(&found.name, found.alias.as_deref()));
        Ok(all)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the book is a single insertion or removal: a panic cannot leave it half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn applied(&self) -> Result<MutexGuard<'_, State>, NetworkError> {
        let state = self.state();
        if state.applied { Ok(state) } else { Err(NetworkError::NotApplied) }
    }
}

/// Takes a link out of a list, and tells whether it was there.
fn take(links: &mut Vec<Link>, name: &str) -> bool {
    let before = links.len();
    links.retain(|link| link.name != name);
    links.len() != before
}

/// What one tenant may fill of this kernel's table of connections; before there is one, of a small one.
fn table_share() -> Share {
    let max = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max");
    let max = max.ok().and_then(|text| text.trim().parse().ok());
    Share::of(max.unwrap_or(SMALL_TABLE))
}

fn firewall(subject: &str) -> impl Fn(NftError) -> NetworkError {
    move |source| NetworkError::Firewall { subject: subject.to_owned(), source }
}

fn link(subject: &str) -> impl Fn(NetlinkError) -> NetworkError {
    move |source| NetworkError::Link { subject: subject.to_owned(), source }
}

fn naming(source: NameError) -> NetworkError {
    NetworkError::Desired(DesiredError::Name { what: "a container", source })
}
