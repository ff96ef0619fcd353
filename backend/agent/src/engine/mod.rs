//! What this host can do with containers: the only module that talks to forge and shims.
//!
//! The agent never forks and never enters a namespace. It prepares (cgroup, limits, directories),
//! asks the forge for a shim, and from then on talks to that shim over its own [`Session`]. All
//! that it knows can be rebuilt from the run directory, the exit records and the shims themselves,
//! so a killed agent finds every container again ([`adopt`]).

mod adopt;
mod apparmor;
mod processes;
mod session;
pub(crate) mod sweep;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

pub(crate) use adopt::Found;
pub(crate) use apparmor::HostProfile;
pub(crate) use session::{Session, SessionError, ShimNotice};
pub(crate) use sweep::{Remains, RunCgroup};
use tokio::sync::{Mutex, OwnedRwLockReadGuard, RwLock, Semaphore};
use wharf_runtime::cgroup::limits::{self, LimitError};
use wharf_runtime::cgroup::{Cgroup, CgroupError, DeviceRule, Layout, LayoutKind};
use wharf_runtime::checkpoint::{self, Dump, DumpError, Outside};
use wharf_runtime::spec::{IdMap, LaunchSpec, default_masked_paths};
use wharf_shared::container::{Limits, ProcessView};
use wharf_shared::tenant::Quota;
use wharf_shim::client;
use wharf_shim::connection::Connection;
use wharf_shim::paths::{RunRoot, StateDir, StateRoot};
use wharf_shim::process_ref::ProcessRef;
use wharf_shim::protocol::{Failure, Reply, Request};
use wharf_shim::{failpoint, memfd};

/// How long the forge may take to answer; it does nothing but fork.
const FORGE_TIMEOUT: Duration = Duration::from_secs(10);
/// So many forges are asked for one start before it fails: the one that was known may be long dead, and the
/// next may die of the same hand.
const FORGES: u8 = 3;
/// How long building a container may take. Filling a new volume from the image is the slowest part.
const CREATE_TIMEOUT: Duration = Duration::from_mins(5);
/// So many cgroups are removed at the same time; all wait for the same locks of the kernel.
const REMOVING: usize = 2;

/// A step with a container failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("cannot prepare {path} for the container")]
    Prepare { path: PathBuf, source: std::io::Error },
    #[error("cannot make the cgroup {path}")]
    Cgroup { path: PathBuf, source: wharf_runtime::cgroup::CgroupError },
    #[error("cannot set the limits")]
    Limits(#[from] LimitError),
    #[error("cannot make a memory file for the spec")]
    Seal(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot find the host's cgroups")]
    Layout(#[from] wharf_runtime::cgroup::LayoutError),
    #[error("the forge cannot be reached")]
    Forge(#[source] client::ClientError),
    #[error("the container cannot be built")]
    Build(#[source] Failure),
    #[error("the connection with the supervisor broke")]
    Session(#[from] SessionError),
    #[error("the supervisor was lost before the container was built")]
    Lost(#[source] SessionError),
    #[error("the container cannot be saved")]
    Dump(#[from] DumpError),
    #[error("a worker thread panicked")]
    Worker(#[from] tokio::task::JoinError),
}

impl EngineError {
    /// The shim's own words, when it was the shim that refused.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Build(failure) | Self::Session(SessionError::Refused(failure)) => Some(failure),
            _ => None,
        }
    }
}

/// The host's containers.
#[derive(Debug)]
pub(crate) struct Engine {
    cgroup_root: PathBuf,
    run_root: RunRoot,
    state_root: StateRoot,
    shim: PathBuf,
    layout: Layout,
    masked_paths: Vec<String>,
    apparmor: HostProfile,
    /// The connection with the forge; one launch request at a time.
    forge: Mutex<Option<Session>>,
    /// Held shared by each removal of a container's cgroup, alone by that of a tenant's.
    removals: Arc<RwLock<()>>,
    /// Of removals that nobody waits for.
    removing: Semaphore,
    /// Tenants' cgroups that were made, with the limits that they have.
    tenants: std::sync::Mutex<HashMap<PathBuf, Quota>>,
    /// See [`Self::disk`].
    disk: OnceLock<Option<(u64, u64)>>,
}

/// A container that was built and waits at its gate.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) session: Session,
    pub(crate) init: ProcessRef,
    pub(crate) network_namespace: Option<std::os::fd::OwnedFd>,
}

impl Engine {
    /// Looks at the host; starts nothing.
    pub(crate) fn new(
        cgroup_root: PathBuf,
        run_root: &Path,
        state_root: &Path,
        shim: PathBuf,
        apparmor: HostProfile,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            cgroup_root,
            run_root: RunRoot::new(run_root),
            state_root: StateRoot::new(state_root),
            shim,
            layout: Layout::detect()?,
            masked_paths: default_masked_paths(),
            apparmor,
            forge: Mutex::new(None),
            removals: Arc::default(),
            removing: Semaphore::new(REMOVING),
            tenants: std::sync::Mutex::default(),
            disk: OnceLock::new(),
        })
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn layout_name(&self) -> &'static str {
        match self.layout.kind() {
            LayoutKind::V2 => "v2",
            LayoutKind::Hybrid => "hybrid",
            LayoutKind::V1 => "v1",
        }
    }

    /// What of `/proc` and `/sys` this host hides from containers.
    pub(crate) fn masked_paths(&self) -> Vec<String> {
        self.masked_paths.clone()
    }

    /// What this host has of AppArmor.
    pub(crate) fn apparmor(&self) -> &HostProfile {
        &self.apparmor
    }

    pub(crate) fn run_root(&self) -> &RunRoot {
        &self.run_root
    }

    /// The cgroup of a tenant, above those of its containers.
    pub(crate) fn tenant_cgroup(&self, tenant: &str) -> PathBuf {
        self.cgroup_root.join(tenant)
    }

    /// The cgroup of one start of a container. Each start has its own, so that the counters of one
    /// can linger until they are in the journal while the next already runs.
    pub(crate) fn container_cgroup(&self, tenant: &str, id: &str, generation: u64) -> PathBuf {
        self.tenant_cgroup(tenant).join(format!("{id}-{generation}"))
    }

    /// Makes the tenant's cgroup, if need be, and writes its limits.
    pub(crate) async fn ensure_tenant(&self, tenant: &str, quota: &Quota) -> Result<(), EngineError> {
        let (layout, path) = (self.layout.clone(), self.tenant_cgroup(tenant));
        let stands = || layout.hierarchies().iter().all(|root| root.join(&path).is_dir());
        if self.made_tenants().get(&path) == Some(quota) && stands() {
            return Ok(());
        }
        let (limits, made) = (limits_of(quota), path.clone());
        tokio::task::spawn_blocking(move || {
            Cgroup::create(&layout, &path)
                .map_err(|source| EngineError::Cgroup { path: path.clone(), source })?;
            limits::apply(&layout, &path, &limits, None).map_err(EngineError::from)
        })
        .await??;
        self.made_tenants().insert(made, quota.clone());
        Ok(())
    }

    fn made_tenants(&self) -> MutexGuard<'_, HashMap<PathBuf, Quota>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a tenant's empty cgroup.
    pub(crate) async fn remove_tenant(&self, tenant: &str) -> Result<(), EngineError> {
        let path = self.tenant_cgroup(tenant);
        let _after_its_containers = self.removals.write().await;
        self.made_tenants().remove(&path);
        self.remove_cgroup(path).await
    }

    /// Checks whether this host can hold these limits, as far as that is known before there is a cgroup.
    pub(crate) fn check_limits(&self, limits: &Limits) -> Result<(), EngineError> {
        Ok(limits::check(&self.layout, limits)?)
    }

    /// Writes new limits of a running container; when they are refused, those before hold on.
    pub(crate) async fn update_limits(
        &self,
        cgroup: PathBuf,
        before: Limits,
        limits: Limits,
    ) -> Result<(), EngineError> {
        let (layout, disk) = (self.layout.clone(), self.disk());
        tokio::task::spawn_blocking(move || limits::replace(&layout, &cgroup, &before, &limits, disk))
            .await?
            .map_err(EngineError::from)
    }

    /// Makes the directories of a start.
    pub(crate) async fn make_directories(&self, spec: &LaunchSpec) -> Result<(), EngineError> {
        let spec = spec.clone();
        tokio::task::spawn_blocking(move || prepare_directories(&spec)).await?
    }

    /// Makes the cgroup of a start, with its limits. When it fails, [`Self::discard_cgroup`] is to follow.
    pub(crate) async fn make_cgroup(
        &self,
        path: PathBuf,
        limits: Limits,
        devices: Vec<DeviceRule>,
        delegate_to: Option<u32>,
    ) -> Result<(), EngineError> {
        let (layout, disk) = (self.layout.clone(), self.disk());
        tokio::task::spawn_blocking(move || {
            let failed = |source| EngineError::Cgroup { path: path.clone(), source };
            let cgroup = Cgroup::create(&layout, &path).map_err(failed)?;
            limits::apply_new(&layout, &path, &limits, disk)?;
            cgroup.allow_devices(&devices).map_err(failed)?;
            delegate_to.map_or(Ok(()), |owner| cgroup.delegate(owner)).map_err(failed)
        })
        .await?
    }

    /// Removes the cgroup of a start that failed, with what a supervisor that was killed left in it.
    pub(crate) async fn discard_cgroup(&self, path: PathBuf) {
        let discard = |cgroup: &Cgroup| cgroup.kill().and_then(|()| cgroup.remove_when_empty());
        match self.with_cgroup(path, discard).await {
            Ok(()) | Err(EngineError::Cgroup { source: CgroupError::Missing(_), .. }) => {}
            Err(error) => tracing::warn!(
                error = crate::error::chain(&error),
                "the cgroup of a failed start was left behind"
            ),
        }
    }

    /// Has a start built whose directories and cgroup are there. Nothing of it runs yet. When it fails,
    /// nothing of it is left but those; unless the supervisor was lost, which left what it had made.
    pub(crate) async fn build(&self, spec: &LaunchSpec) -> Result<Created, EngineError> {
        let bytes = spec.encode().map_err(|source| EngineError::Seal(Box::new(source)))?;
        let sealed = memfd::seal_spec(&bytes).map_err(|source| EngineError::Seal(Box::new(source)))?;
        let request = Request::Launch { id: spec.id.clone(), generation: spec.generation };
        let mut tries = 0..FORGES;
        loop {
            tries.next();
            let (ours, theirs) = Connection::pair().map_err(SessionError::from)?;
            let session = Session::new(ours)?;
            let asked = self.ask_forge(request.clone(), &[sealed.as_fd(), theirs.as_fd()]).await;
            drop(theirs);
            failpoint::reach("agent.start.asked");
            if let Err(EngineError::Session(error @ SessionError::Timeout { .. })) = asked {
                return Err(error.into());
            }
            // A forge can die once it has forked, and its answer with it, so the other end decides: as long
            // as anybody has it there is a supervisor, or will be.
            let notice = tokio::time::timeout(CREATE_TIMEOUT, session.notice())
                .await
                .map_err(|_elapsed| SessionError::Timeout { waited_for: "the container to be built" })?;
            match (notice, asked) {
                (Ok(ShimNotice::Created { init, network_namespace }), _) => {
                    return Ok(Created { session, init, network_namespace });
                }
                (Ok(ShimNotice::CreateFailed(failure)), _) => {
                    // It goes now; as long as it is there, no other may supervise the next try.
                    let gone = async { while session.notice().await.is_ok() {} };
                    if tokio::time::timeout(FORGE_TIMEOUT, gone).await.is_err() {
                        tracing::warn!(
                            container.id = spec.id,
                            "the supervisor of a failed start does not go"
                        );
                    }
                    return Err(EngineError::Build(failure));
                }
                (Ok(other), _) => return Err(SessionError::unexpected(&other).into()),
                (Err(lost), Ok(_)) => return Err(EngineError::Lost(lost)),
                (Err(_), Err(error @ (EngineError::Session(_) | EngineError::Forge(_))))
                    if !tries.is_empty() =>
                {
                    tracing::warn!(
                        error = crate::error::chain(&error),
                        "the forge went away; asking another"
                    );
                }
                (Err(_), Err(error)) => return Err(error),
            }
        }
    }

    /// Asks the forge, starting it first when there is none. One that breaks off is not asked again: it may
    /// have done what it was asked for.
    async fn ask_forge(
        &self,
        request: Request,
        descriptors: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<Reply, EngineError> {
        let mut forge = self.forge.lock().await;
        let session = match forge.take() {
            Some(session) => session,
            None => Session::new(self.start_forge().await?)?,
        };
        match tokio::time::timeout(FORGE_TIMEOUT, session.ask(request, descriptors)).await {
            Ok(Ok((reply, _))) => {
                *forge = Some(session);
                Ok(reply)
            }
            Ok(Err(SessionError::Refused(failure))) => {
                *forge = Some(session);
                Err(EngineError::Build(failure))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_elapsed) => Err(SessionError::Timeout { waited_for: "the forge to answer" }.into()),
        }
    }

    /// Finds the running forge of this build, or starts one.
    async fn start_forge(&self) -> Result<Connection, EngineError> {
        let (root, shim) = (self.run_root.clone(), self.shim.clone());
        tokio::task::spawn_blocking(move || client::ensure_forge(&root, &shim))
            .await?
            .map(client::Client::into_connection)
            .map_err(EngineError::Forge)
    }

    /// Starts the forge if it does not run, so that the first container does not wait for it.
    pub(crate) async fn warm_up(&self) -> Result<(), EngineError> {
        self.ask_forge(Request::Ping, &[]).await.map(|_reply| ())
    }

    /// Removes a cgroup whose last process has ended, or is about to after a kill, from every hierarchy; one
    /// that is gone is fine.
    pub(crate) async fn remove_cgroup(&self, path: PathBuf) -> Result<(), EngineError> {
        let layout = self.layout.clone();
        tokio::task::spawn_blocking(move || {
            match Cgroup::open(&layout, &path).and_then(|cgroup| cgroup.remove_when_empty()) {
                // `down` was here before, or a boot.
                Err(CgroupError::Missing(_)) => Ok(()),
                removed => removed.map_err(|source| EngineError::Cgroup { path, source }),
            }
        })
        .await?
    }

    /// Announces a removal that a tenant's removal is to wait for.
    pub(crate) async fn begin_removal(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.removals).read_owned().await
    }

    /// Removes a cgroup when its turn has come: many that end at once do not hold up those that start.
    pub(crate) async fn remove_cgroup_in_turn(
        &self,
        path: PathBuf,
        removal: OwnedRwLockReadGuard<()>,
    ) -> Result<(), EngineError> {
        let _place = self.removing.acquire().await;
        let removed = self.remove_cgroup(path).await;
        drop(removal);
        removed
    }

    /// Kills every process of a cgroup.
    pub(crate) async fn kill_cgroup(&self, path: PathBuf) -> Result<(), EngineError> {
        self.with_cgroup(path, Cgroup::kill).await
    }

    /// What runs in a cgroup.
    pub(crate) async fn processes(
        &self,
        path: PathBuf,
        id_base: u32,
        host_pids: bool,
    ) -> Result<Vec<ProcessView>, EngineError> {
        self.with_cgroup(path, move |cgroup| processes::list(cgroup, id_base, host_pids)).await
    }

    /// What a process of a cgroup sees as `/`; `None` when it is not in there (any more).
    pub(crate) async fn root_of(&self, path: PathBuf, pid: i32) -> Result<Option<OwnedFd>, EngineError> {
        let open = move |group: &Cgroup| {
            let root = std::fs::File::open(format!("/proc/{pid}/root"));
            // Asked after the opening: by then the number would be a stranger's, or still is ours.
            let ours = group.pids()?.contains(&pid);
            Ok(root.ok().filter(|_| ours).map(OwnedFd::from))
        };
        self.with_cgroup(path, open).await
    }

    /// Makes the writable layer of a container that never ran; returns where it is.
    pub(crate) async fn ensure_writable(
        &self,
        id: &str,
        id_base: u32,
    ) -> Result<Option<PathBuf>, EngineError> {
        let Ok(state) = self.state_root.container(id) else { return Ok(None) };
        tokio::task::spawn_blocking(move || {
            let dir = state.path().to_owned();
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(|source| EngineError::Prepare { path: dir.clone(), source })?;
            make_writable(&dir, Some(id_base))?;
            Ok(Some(dir.join("upper")))
        })
        .await?
    }

    /// Stops every process of a cgroup where it stands.
    pub(crate) async fn freeze(&self, path: PathBuf) -> Result<(), EngineError> {
        self.with_cgroup(path, Cgroup::freeze).await
    }

    /// Lets a frozen cgroup go on.
    pub(crate) async fn thaw(&self, path: PathBuf) -> Result<(), EngineError> {
        self.with_cgroup(path, Cgroup::thaw).await
    }

    /// Has CRIU save the processes of a cgroup, and leaves them stopped.
    pub(crate) async fn dump(
        &self,
        path: PathBuf,
        pid: i32,
        criu: PathBuf,
        images: PathBuf,
    ) -> Result<Vec<Outside>, EngineError> {
        let dump =
            move |group: &Cgroup| Ok(checkpoint::dump(&Dump { criu: &criu, pid, group, images: &images }));
        self.with_cgroup(path, dump).await?.map_err(EngineError::from)
    }

    /// Lets the stopped processes of a cgroup go on.
    pub(crate) async fn go_on(&self, path: PathBuf) -> Result<(), EngineError> {
        self.with_cgroup(path, checkpoint::resume).await
    }

    async fn with_cgroup<T: Send + 'static>(
        &self,
        path: PathBuf,
        act: impl FnOnce(&Cgroup) -> Result<T, CgroupError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let layout = self.layout.clone();
        tokio::task::spawn_blocking(move || {
            Cgroup::open(&layout, &path)
                .and_then(|cgroup| act(&cgroup))
                .map_err(|source| EngineError::Cgroup { path, source })
        })
        .await?
    }

    /// Removes all files of a container. Its mounts are gone with its shim.
    pub(crate) async fn remove_files(&self, id: &str) -> Result<(), EngineError> {
        let Ok(state) = self.state_root.container(id) else { return Ok(()) };
        let Ok(run) = self.run_root.container(id) else { return Ok(()) };
        tokio::task::spawn_blocking(move || {
            for path in [run.path(), state.path()] {
                match std::fs::remove_dir_all(path) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        return Err(EngineError::Prepare { path: path.to_owned(), source });
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await?
    }

    pub(crate) fn state_dir(&self, id: &str) -> Option<StateDir> {
        self.state_root.container(id).ok()
    }

    /// The device whose I/O limits mean the containers' writable layers.
    fn disk(&self) -> Option<(u64, u64)> {
        *self.disk.get_or_init(|| limits::disk_of(self.state_root.path()))
    }
}

/// The directories that a launch takes for granted. The writable layer belongs to the container's
/// root; what lies above it stays ours, mode 0700, so that no tenant's process walks in from the host.
fn prepare_directories(spec: &LaunchSpec) -> Result<(), EngineError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| EngineError::Prepare { path, source }
    };
    let mut private = std::fs::DirBuilder::new();
    private.recursive(true).mode(0o700);
    for dir in [&spec.run_dir, &spec.state_dir, &spec.log.dir, &spec.rootfs.writable] {
        private.create(dir).map_err(failed(dir))?;
    }
    make_writable(&spec.rootfs.writable, spec.id_map.map(|IdMap { host_base, .. }| host_base))
}

/// What an overlay needs of a container's own directory.
fn make_writable(dir: &Path, owner: Option<u32>) -> Result<(), EngineError> {
    for (name, mode) in [("upper", 0o755), ("work", 0o700)] {
        let path = dir.join(name);
        let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(&path);
        made.and_then(|()| chown(&path, owner, owner))
            .map_err(|source| EngineError::Prepare { path, source })?;
    }
    Ok(())
}

/// A tenant's quota as limits of its cgroup: what its containers may use together.
fn limits_of(quota: &Quota) -> Limits {
    Limits {
        cpu_millis: quota.cpu_millis,
        cpu_weight: quota.cpu_weight,
        memory_bytes: quota.memory_bytes,
        // Where the tenant's memory ends, one container does and not all of them.
        oom_group: Some(false),
        pids: quota.pids,
        ..Limits::default()
    }
}
