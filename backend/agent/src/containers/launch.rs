//! What a start needs before and around the engine: image, volumes, addresses, ports, name files.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wharf_image::{Image, ImageConfig};
use wharf_network::hosts::resolv_conf;
use wharf_network::{Attachment, DesiredError, MacAddress, NetworkError, PublishedPort, TenantNetwork};
use wharf_runtime::cgroup::limits::LimitError;
use wharf_runtime::cgroup::{Access, DeviceKind, DeviceRule};
use wharf_runtime::seccomp::WrittenError;
use wharf_runtime::spec::{DeviceNode, MountSource, MountSpec, RestoreSpec};
use wharf_shared::container::NetworkMode;
use wharf_shared::id::{CheckpointId, ContainerId};
use wharf_shared::network::{PortMapping, Protocol};
use wharf_shared::problem::ProblemKind;
use wharf_shared::volume::VolumeSource;
use wharf_shim::failpoint;
use wharf_shim::process_ref::Pinned;
use wharf_shim::protocol::Request;
use wharf_store::containers::ContainerRecord;
use wharf_store::tenants::{self, TenantRecord};
use wharf_store::{StoreError, addresses, ports};

use super::health::{self, Check};
use super::{Deps, filter, label, plan};
use crate::checkpoints::IMAGES;
use crate::engine::{Created, EngineError, Found, Session, SessionError};
use crate::error::{Result, ServiceError, chain};
use crate::metering::Run;
use crate::tasks::OnEnd;

/// A supervisor whose run is over goes within this time.
const GONE_PATIENCE: Duration = Duration::from_secs(5);
/// `ENOSPC`: the file system is full.
const ENOSPC: i32 = 28;

/// What a start needs that may take long to get.
pub(super) struct Prepared {
    pub(super) digest: String,
    pub(super) command_line: Vec<String>,
    pub(super) health: Option<Check>,
    image: Image,
    layers: Vec<PathBuf>,
    tenant: TenantRecord,
    mounts: Vec<MountSpec>,
    devices: Vec<DeviceNode>,
    restore: Option<RestoreSpec>,
}

/// A container that runs.
pub(super) struct Launched {
    pub(super) session: Session,
    pub(super) pid: i32,
    pub(super) init: Option<Pinned>,
    pub(super) address: Option<std::net::Ipv4Addr>,
    pub(super) ports: Vec<PortMapping>,
}

/// Why nothing runs.
pub(super) enum NotLaunched {
    /// Something was refused, or failed; everything is given back.
    Failed(ServiceError),
    /// The supervisor was lost. What it made, and what the start holds, is there still.
    Lost(Lost),
}

/// What a supervisor that was killed during a start leaves.
pub(super) struct Lost {
    pub(super) cgroup: PathBuf,
    pub(super) init: Option<Pinned>,
    /// Whether the program may have been executed.
    pub(super) ran: bool,
}

impl<E: Into<ServiceError>> From<E> for NotLaunched {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Pulls the image if it is not there, and resolves what the container mounts.
pub(super) async fn prepare(deps: Arc<Deps>, row: ContainerRecord) -> Result<Prepared> {
    let (image, shared) = deps.images.ensure(&row.tenant, &row.spec.image).await?;
    let command_line = plan::command_line(&row.spec, &image.config)
        .map_err(|error| ServiceError::invalid_field("command", error.to_string()))?;
    let layers = if deps.config.containers.shared_layers {
        shared
    } else {
        let own = deps.images.content().own_layer_paths(&image, row.tenant.as_str()).await;
        own.map_err(crate::images::image_failed)?
    };
    let tenant = {
        let mut tx = deps.db.one().await?;
        tenants::get(&mut tx, &row.tenant).await?
    };
    deps.engine.ensure_tenant(tenant.id.as_str(), &tenant.quota).await.map_err(engine_failed)?;
    let mut mounts = Vec::new();
    for mount in &row.spec.volumes {
        let source = match &mount.source {
            VolumeSource::Volume(name) => {
                MountSource::Bind { path: deps.volumes.directory(&row.tenant, name).await?, idmap: true }
            }
            VolumeSource::Host(path) => MountSource::Bind { path: host_path(path)?, idmap: false },
            VolumeSource::Tmpfs(bytes) => MountSource::Tmpfs { size_bytes: *bytes, mode: 0o1777 },
        };
        let (target, read_only) = (mount.target.clone(), mount.read_only);
        mounts.push(MountSpec { source, target, read_only, no_exec: false, shallow: false });
    }
    let own = plan::image_volumes(&row.spec, &image.config)
        .map_err(|error| ServiceError::invalid_field("volumes", error.to_string()))?;
    for (target, path) in deps.volumes.anonymous(&row, &own).await? {
        let source = MountSource::Bind { path, idmap: true };
        mounts.push(MountSpec { source, target, read_only: false, no_exec: false, shallow: false });
    }
    let devices = if row.spec.privileged {
        tokio::task::spawn_blocking(host_devices)
            .await
            .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
    } else {
        row.spec.limits.devices.iter().map(|path| device(path)).collect::<Result<_>>()?
    };
    let restore = match &row.spec.checkpoint {
        Some(id) if row.observed.started_at.is_none() => {
            Some(checkpoint(&deps, &row, id, &image.manifest_digest.to_string()).await?)
        }
        _ => None,
    };
    let asked = row.spec.health.as_ref();
    let check = health::effective(asked, image.config.config.healthcheck.as_ref(), row.spec.network);
    failpoint::reach("agent.start.prepared");
    Ok(Prepared {
        digest: image.manifest_digest.to_string(),
        command_line,
        health: check,
        image,
        layers,
        tenant,
        mounts,
        devices,
        restore,
    })
}

/// Unpacks the checkpoint that the container's first start goes on from.
async fn checkpoint(
    deps: &Arc<Deps>,
    row: &ContainerRecord,
    id: &CheckpointId,
    digest: &str,
) -> Result<RestoreSpec> {
    let criu = deps.checkpoints.criu.program().await?.to_owned();
    let failed = |error: std::io::Error| ServiceError::internal("the checkpoint cannot be unpacked", error);
    let state = deps
        .engine
        .state_dir(row.id.as_str())
        .ok_or_else(|| ServiceError::internal("the container has no directory", NoDirectory))?;
    let (archives, id) = (deps.checkpoints.archives.clone(), id.clone());
    let unpacked = tokio::task::spawn_blocking(move || {
        let Some(record) = archives.read(&id)? else { return Ok(None) };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state.path())?;
        archives.unpack(&id, state.path())?;
        Ok(Some((record, state.path().join(IMAGES))))
    });
    let unpacked =
        unpacked.await.map_err(|error| ServiceError::internal("a worker thread panicked", error))?;
    let Some((record, images)) = unpacked.map_err(failed)? else {
        return Err(ServiceError::conflict("the checkpoint was removed before the container first ran"));
    };
    if record.image_digest != digest {
        return Err(ServiceError::conflict(format!(
            "{} is another image now than when the checkpoint was made ({}); pull or import that one",
            row.spec.image, record.image_digest
        )));
    }
    Ok(RestoreSpec { criu, images, outside: record.outside, pipes: record.pipes })
}

/// Builds, meters, connects and starts.
pub(super) async fn launch(
    deps: &Arc<Deps>,
    row: &ContainerRecord,
    prepared: Prepared,
    cgroup: &Path,
) -> Result<Launched, NotLaunched> {
    let id = row.id.as_str();
    let generation = row.observed.generation;
    let address = match row.spec.network {
        NetworkMode::Tenant => Some(take_address(deps, row, &prepared.tenant).await?),
        NetworkMode::None | NetworkMode::Host => None,
    };
    let network = deps.tenant_network(&prepared.tenant)?;
    let state_dir = deps
        .engine
        .state_dir(id)
        .ok_or_else(|| ServiceError::internal("the container has no directory", NoDirectory))?;
    let run_dir = deps.engine.run_root().containers().join(id);
    let names_dir = state_dir.path().to_owned();

    let access = if row.spec.privileged { Access::ALL } else { Access::READ_WRITE };
    let mut rules: Vec<DeviceRule> =
        DeviceRule::standard().into_iter().map(|rule| DeviceRule { access, ..rule }).collect();
    rules.extend(prepared.devices.iter().map(|device| DeviceRule {
        kind: if device.character { DeviceKind::Character } else { DeviceKind::Block },
        major: device.major,
        minor: Some(device.minor),
        access,
    }));
    let images = prepared.restore.as_ref().map(|restore| restore.images.clone());
    let delegate_to = row.spec.system.then(|| plan::id_base(&row.spec, prepared.tenant.id_base)).flatten();
    let spec = plan::launch_spec(
        &row.spec,
        plan::Facts {
            id: &row.id,
            generation,
            image: &prepared.image.config,
            layers: prepared.layers,
            layer_root: deps.images.content().layers_root().to_owned(),
            run_dir,
            state_dir,
            cgroup: cgroup.to_owned(),
            id_base: prepared.tenant.id_base,
            mounts: prepared.mounts,
            devices: prepared.devices,
            restore: prepared.restore,
            masked_paths: deps.engine.masked_paths(),
            seccomp: filter::of(&row.spec).map_err(|error| no_filter(&error))?,
            apparmor: label::of(&row.spec, deps.engine.apparmor())?,
        },
    )
    .map_err(|error| ServiceError::invalid_field("command", error.to_string()))?;

    // Each waits for the disk or for locks of the kernel, and none for another.
    let (named, made, limited) = tokio::join!(
        write_name_files(deps, row, &names_dir, address),
        deps.engine.make_directories(&spec),
        deps.engine.make_cgroup(cgroup.to_owned(), row.spec.limits.clone(), rules, delegate_to),
    );
    let run = Run {
        id: &row.id,
        generation,
        tenant: &row.tenant,
        cgroup,
        address,
        limits: super::reading_limits(&row.spec.limits),
    };
    let lost = |init, ran| NotLaunched::Lost(Lost { cgroup: cgroup.to_owned(), init, ran });
    let built = match named.and(made.and(limited).map_err(engine_failed)) {
        Ok(()) => {
            failpoint::reach("agent.start.furnished");
            // The first reading waits for the disk, and comes before anything of the container runs.
            let (built, opened) = tokio::join!(deps.engine.build(&spec), deps.metering.open(run));
            match built {
                Err(error @ EngineError::Lost(_)) => {
                    tracing::warn!(container.id = id, error = chain(&error), "the supervisor went away");
                    return Err(lost(None, false));
                }
                built => built.map(|created| (created, opened)).map_err(engine_failed),
            }
        }
        Err(error) => Err(error),
    };
    let (Created { session, init, network_namespace }, opened) = match built {
        Ok(built) => built,
        Err(error) => {
            if book_failed_start(deps, row).await {
                deps.engine.discard_cgroup(cgroup.to_owned()).await;
            }
            release_names(deps, row).await;
            return Err(error.into());
        }
    };
    let (pid, init) = (init.pid, init.pin().ok().flatten());
    failpoint::reach("agent.start.built");
    let started: Result<Vec<PortMapping>> = async {
        let ports = connect(deps, row, &network, network_namespace, address).await?;
        failpoint::reach("agent.start.connected");
        deps.metering.watch(run, opened?);
        failpoint::reach("agent.start.metered");
        session.ask(Request::Start, &[]).await.map_err(|error| engine_failed(error.into()))?;
        Ok(ports)
    }
    .await;
    match started {
        Ok(ports) => {
            failpoint::reach("agent.start.started");
            // As large as its memory, and never read again.
            if let Some(images) = images
                && let Err(error) = tokio::fs::remove_dir_all(images).await
            {
                tracing::warn!(container.id = id, error = chain(&error), "CRIU's files were left behind");
            }
            Ok(Launched { session, pid, init, address, ports })
        }
        Err(error) => {
            // Whatever failed may have done so because the supervisor was killed.
            let session = match deps.engine.find(id, generation, cgroup).await {
                Ok(Found::Lost { ran, .. }) => {
                    tracing::warn!(container.id = id, error = chain(&error), "the supervisor went away");
                    return Err(lost(init, ran));
                }
                Ok(Found::Alive { session, .. }) => session,
                Ok(Found::Ended(_) | Found::Nothing) | Err(_) => session,
            };
            // Kill what was built; its supervisor then writes the exit record and goes.
            if let Err(error) = deps.engine.kill_cgroup(cgroup.to_owned()).await {
                tracing::warn!(container.id = id, error = chain(&error), "a failed start was not killed");
            }
            let booked = book_failed_start(deps, row).await;
            let_go(&session).await;
            release(deps, row).await;
            if booked {
                remove_cgroup(deps, row, cgroup).await;
            }
            Err(error.into())
        }
    }
}

/// Takes the last reading of a start that failed; returns whether its cgroup may go.
async fn book_failed_start(deps: &Deps, row: &ContainerRecord) -> bool {
    match deps.metering.close(&row.id, row.observed.generation, None).await {
        Ok(()) => true,
        // The next start of the agent books what there is.
        Err(error) => {
            tracing::error!(
                container.id = %row.id,
                error = chain(&error),
                "the last reading of a failed start was not stored; its cgroup is kept"
            );
            false
        }
    }
}

/// Gives the container the network that it asks for; returns its published ports.
async fn connect(
    deps: &Arc<Deps>,
    row: &ContainerRecord,
    network: &TenantNetwork,
    namespace: Option<OwnedFd>,
    address: Option<std::net::Ipv4Addr>,
) -> Result<Vec<PortMapping>> {
    match (namespace, address) {
        (Some(namespace), Some(address)) => attach(deps, row, network, namespace, address).await,
        _ => Ok(Vec::new()),
    }
}

/// Connects the container with its tenant's bridge and publishes its ports.
async fn attach(
    deps: &Arc<Deps>,
    row: &ContainerRecord,
    network: &TenantNetwork,
    namespace: OwnedFd,
    address: std::net::Ipv4Addr,
) -> Result<Vec<PortMapping>> {
    deps.network.ensure_tenant(network).await.map_err(network_failed)?;
    let attachment = attachment(row, address, row.spec.ports.iter());
    let attached = deps.network.attach(&attachment, namespace).await.map_err(network_failed)?;
    let given: Vec<PortMapping> = row
        .spec
        .ports
        .iter()
        .zip(&attached.ports)
        .map(|(asked, given)| PortMapping { host_port: Some(given.host_port), ..asked.clone() })
        .collect();
    if given.is_empty() {
        return Ok(given);
    }
    let mut tx = deps.db.begin_unsynced().await?;
    ports::release(&mut tx, &row.id).await?;
    match ports::take(&mut tx, &row.id, &given).await {
        Ok(()) => {}
        Err(StoreError::Taken(_)) => {
            return Err(ServiceError::new(
                ProblemKind::PortInUse,
                "another container publishes one of these ports; choose others or leave host_port out",
            ));
        }
        Err(error) => return Err(error.into()),
    }
    tx.commit().await?;
    Ok(given)
}

/// What the network crate is told of a container.
pub(super) fn attachment<'a>(
    row: &ContainerRecord,
    address: std::net::Ipv4Addr,
    mappings: impl Iterator<Item = &'a PortMapping>,
) -> Attachment {
    Attachment {
        container_id: row.id.to_string(),
        tenant_id: row.tenant.to_string(),
        address,
        mac: MacAddress::of(address),
        ports: mappings
            .map(|port| PublishedPort {
                host_ip: port.host_ip.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED),
                host_port: port.host_port.unwrap_or(0),
                container_port: port.container_port,
                protocol: match port.protocol {
                    Protocol::Tcp => wharf_network::Protocol::Tcp,
                    Protocol::Udp => wharf_network::Protocol::Udp,
                },
            })
            .collect(),
    }
}

/// The container's address: the one it had, or a free one.
async fn take_address(
    deps: &Arc<Deps>,
    row: &ContainerRecord,
    tenant: &TenantRecord,
) -> Result<std::net::Ipv4Addr> {
    let subnet = deps.tenant_network(tenant)?.subnet;
    let mut tx = deps.db.begin_unsynced().await?;
    if let Some(address) = addresses::find(&mut tx, &row.id).await? {
        return Ok(address);
    }
    let full = |error: wharf_network::ipam::PoolError| {
        ServiceError::new(
            ProblemKind::QuotaExceeded,
            "the tenant's network has no free address; remove containers",
        )
        .because(error)
    };
    let mut pool = wharf_network::ipam::AddressPool::new(subnet).map_err(full)?;
    for taken in addresses::of_tenant(&mut tx, &row.tenant).await? {
        if let Err(error) = pool.claim(taken) {
            tracing::warn!(%taken, error = chain(&error), "a stored address does not fit its network");
        }
    }
    let address = pool.allocate().map_err(full)?;
    addresses::take(&mut tx, &row.tenant, &row.id, address).await?;
    tx.commit().await?;
    Ok(address)
}

/// Lets the supervisor of an ended run go, and waits until it has.
pub(super) async fn let_go(session: &Session) {
    let gone = async {
        // It refuses as long as it has not written how the run ended; a notice tells when it has.
        while let Err(SessionError::Refused(_)) = session.ask(Request::Release, &[]).await {
            if session.notice().await.is_err() {
                return;
            }
        }
        while session.notice().await.is_ok() {}
    };
    if tokio::time::timeout(GONE_PATIENCE, gone).await.is_err() {
        tracing::warn!("a supervisor does not go");
    }
}

/// Gives back what a run held, except its cgroup.
pub(super) async fn release(deps: &Arc<Deps>, row: &ContainerRecord) {
    if row.spec.network == NetworkMode::Tenant {
        if let Err(failures) = deps.network.detach(row.id.as_str()).await {
            tracing::error!(container.id = %row.id, error = %failures, "a container's network was not wholly removed");
        }
        // Its link takes some milliseconds to go with its namespace, and is mute: nobody waits for it.
        let (network, id) = (Arc::clone(&deps.network), row.id.clone());
        deps.tasks.spawn("remove link", OnEnd::Fine, async move {
            if let Err(error) = network.remove_link(id.as_str()).await {
                tracing::error!(container.id = %id, error = chain(&error), "a container's link was left behind");
            }
        });
    }
    release_names(deps, row).await;
}

/// Removes the cgroup of a run whose last reading is in the journal.
pub(super) async fn remove_cgroup(deps: &Arc<Deps>, row: &ContainerRecord, cgroup: &Path) {
    if let Err(error) = deps.engine.remove_cgroup(cgroup.to_owned()).await {
        tracing::error!(container.id = %row.id, error = chain(&error), "a cgroup was left behind");
    }
}

/// As [`remove_cgroup`], without waiting for it: the end of the run is told first, and where the host charges
/// what is written back behind it, the cgroup lingers until that is in the journal too. What a killed agent
/// does not come to is found by the sweep of the next.
pub(super) async fn remove_cgroup_later(
    deps: &Arc<Deps>,
    id: &ContainerId,
    generation: u64,
    cgroup: PathBuf,
) {
    let lingers = deps.metering.lingers();
    // A tenant's removal waits for this one, but ends itself what lingers.
    let announced = if lingers { None } else { Some(deps.engine.begin_removal().await) };
    let (deps, id) = (Arc::clone(deps), id.clone());
    Arc::clone(&deps).tasks.spawn("remove cgroup", OnEnd::Fine, async move {
        if lingers && !deps.metering.linger(&id, generation, &cgroup, &deps.tasks.stopping()).await {
            return;
        }
        let removal = match announced {
            Some(removal) => removal,
            None => deps.engine.begin_removal().await,
        };
        if let Err(error) = deps.engine.remove_cgroup_in_turn(cgroup, removal).await {
            tracing::error!(container.id = %id, error = chain(&error), "a cgroup was left behind");
        }
    });
}

/// Published ports are free again; the address stays with the container until it is removed.
async fn release_names(deps: &Arc<Deps>, row: &ContainerRecord) {
    if row.spec.ports.is_empty() {
        return;
    }
    let released: Result<()> = async {
        let mut tx = deps.db.begin_unsynced().await?;
        ports::release(&mut tx, &row.id).await?;
        tx.commit().await?;
        Ok(())
    }
    .await;
    if let Err(error) = released {
        tracing::error!(container.id = %row.id, error = chain(&error), "published ports were not given back");
    }
}

/// The container's host name.
pub(super) fn hostname(row: &ContainerRecord) -> String {
    row.spec.hostname.clone().unwrap_or_else(|| row.id.short().to_owned())
}

/// The signal that asks this container to stop, as the container or its image says.
pub(super) async fn stop_signal(deps: &Arc<Deps>, row: &ContainerRecord) -> i32 {
    let image = image_of(deps, row).await.unwrap_or_default();
    plan::stop_signal(&row.spec, &image)
}

/// The configuration of the image that the container runs.
pub(super) async fn image_of(deps: &Arc<Deps>, row: &ContainerRecord) -> Result<ImageConfig> {
    let digest = row.observed.image_digest.as_deref().unwrap_or_default();
    deps.images.config(&row.spec.image, digest).await
}

/// Writes `hosts`, `resolv.conf` and `hostname`, which are bound into the container.
async fn write_name_files(
    deps: &Arc<Deps>,
    row: &ContainerRecord,
    dir: &Path,
    address: Option<std::net::Ipv4Addr>,
) -> Result<()> {
    let hostname = hostname(row);
    let servers = &deps.config.network.nameservers;
    let resolv = if servers.is_empty() {
        resolv_conf(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    } else {
        servers.iter().fold(String::new(), |text, server| text + "nameserver " + &server.to_string() + "\n")
    };
    let hosts = deps.hosts_file(row, address);
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        for (name, text) in [("hosts", hosts), ("resolv.conf", resolv), ("hostname", format!("{hostname}\n"))]
        {
            let path = dir.join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
        }
        Ok(())
    })
    .await
    .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
    .map_err(|error: std::io::Error| disk_failed("the container's name files cannot be written", error))
}

/// Renews `hosts` in place: the container has the file itself mounted.
pub(super) async fn write_hosts(deps: &Arc<Deps>, row: &ContainerRecord) -> Result<()> {
    let text = deps.hosts_file(row, row.observed.address);
    let Some(dir) = deps.engine.state_dir(row.id.as_str()) else { return Ok(()) };
    let path = dir.path().join("hosts");
    tokio::task::spawn_blocking(move || std::fs::write(path, text))
        .await
        .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
        .map_err(|error| disk_failed("the hosts file cannot be written", error))
}

fn host_path(path: &str) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    if path.exists() {
        Ok(path)
    } else {
        Err(ServiceError::invalid_field("volumes", format!("the host has no {}", path.display())))
    }
}

/// The profile that was given makes no filter.
pub(super) fn no_filter(error: &WrittenError) -> ServiceError {
    ServiceError::invalid_field("seccomp.profile", chain(error))
}

/// All devices of the host but those that every container has of its own.
fn host_devices() -> Vec<DeviceNode> {
    const OWN: [&str; 12] = [
        "console", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "tty", "urandom",
        "zero",
    ];
    let mut found = Vec::new();
    let mut wanted = vec![PathBuf::from("/dev")];
    while let Some(dir) = wanted.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let own = dir == Path::new("/dev") && OWN.iter().any(|own| entry.file_name() == *own);
            let Ok(kind) = entry.file_type() else { continue };
            if own || kind.is_symlink() {
                continue;
            }
            if kind.is_dir() {
                wanted.push(entry.path());
            } else if let Some(Ok(node)) = entry.path().to_str().map(device) {
                found.push(node);
            }
        }
    }
    found
}

fn device(path: &str) -> Result<DeviceNode> {
    let refused = |detail: String| ServiceError::invalid_field("limits.devices", detail);
    let found = std::fs::metadata(path).map_err(|error| refused(format!("{path}: {error}")))?;
    let kind = found.mode() & nix::libc::S_IFMT;
    if kind != nix::libc::S_IFCHR && kind != nix::libc::S_IFBLK {
        return Err(refused(format!("{path} is no device")));
    }
    let number = |number: u64| {
        u32::try_from(number).map_err(|_too_large| refused(format!("{path} has an odd number")))
    };
    Ok(DeviceNode {
        path: path.trim_start_matches("/dev/").to_owned(),
        character: kind == nix::libc::S_IFCHR,
        major: number(nix::sys::stat::major(found.rdev()))?,
        minor: number(nix::sys::stat::minor(found.rdev()))?,
        mode: found.mode() & 0o777,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("the id is not one")]
struct NoDirectory;

fn disk_failed(what: &str, error: std::io::Error) -> ServiceError {
    if error.raw_os_error() == Some(ENOSPC) {
        ServiceError::new(
            ProblemKind::InsufficientStorage,
            format!("{what}: the disk is full; free some space"),
        )
        .because(error)
    } else {
        ServiceError::internal(what, error)
    }
}

/// What the engine's refusal means to the caller.
pub(super) fn engine_failed(error: EngineError) -> ServiceError {
    session_refused("the container cannot start", error)
}

/// As [`engine_failed`], in the words of what was asked of a running container's supervisor.
pub(super) fn session_refused(what: &str, error: EngineError) -> ServiceError {
    const ENOENT: i32 = 2;
    const EACCES: i32 = 13;
    if let Some(failure) = error.failure() {
        let text = failure.message.clone();
        let kind = match failure.errno {
            ENOSPC => ProblemKind::InsufficientStorage,
            ENOENT | EACCES => ProblemKind::Invalid,
            _ => ProblemKind::Conflict,
        };
        return ServiceError::new(kind, format!("{what}: {text}")).because(error);
    }
    match error {
        EngineError::Limits(limit @ LimitError::HalfChanged { .. }) => {
            ServiceError::internal("the limits of the container are half changed", limit)
        }
        EngineError::Limits(limit) => ServiceError::invalid_field("limits", chain(&limit)),
        EngineError::Prepare { source, .. } if source.raw_os_error() == Some(ENOSPC) => {
            ServiceError::new(ProblemKind::InsufficientStorage, "the disk is full; free some space")
                .because(source)
        }
        error => ServiceError::internal("the container cannot be started", error),
    }
}

/// What the network's refusal means to the caller.
pub(super) fn network_failed(error: NetworkError) -> ServiceError {
    match &error {
        NetworkError::Desired(DesiredError::Port { source, .. }) => {
            ServiceError::new(ProblemKind::PortInUse, chain(source)).because(error)
        }
        _ => ServiceError::internal("the network cannot be set up", error),
    }
}
