//! Containers: what is asked for, what is shown, and the checks that need no host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::health::{HealthCheck, HealthView};
use crate::id::{CheckpointId, ContainerId, TenantId};
use crate::kernel::{RLIMITS_OF_OPERATORS, Ulimit, check_sysctl, check_ulimit, huge_page_bytes, number_list};
use crate::name;
use crate::network::PortMapping;
use crate::problem::FieldProblem;
use crate::time::Timestamp;
use crate::volume::{VolumeMount, VolumeSource};

/// Least memory limit; below it not even a shell starts.
pub const MEMORY_LIMIT_MIN_BYTES: u64 = 6 * 1024 * 1024;
/// Most bytes of all arguments and environment variables together.
pub const ARGUMENTS_MAX_BYTES: usize = 128 * 1024;

/// Most further groups of a container's processes.
pub const GROUPS_MAX: usize = 64;

/// What a new container shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, as users know them from Docker"
)]
pub struct ContainerSpec {
    /// Name, unique within the tenant; the short id when absent.
    pub name: Option<String>,
    /// Image reference, such as `nginx:1.27` or `registry.example/team/app@sha256:…`.
    pub image: String,
    /// Whose container it is; a member's own tenant when absent.
    pub tenant: Option<TenantId>,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Environment variables, over the image's.
    pub env: BTreeMap<String, String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// `user`, `uid`, `user:group` or `uid:gid`, as the container's own passwd file has it.
    pub user: Option<String>,
    /// Working directory.
    pub workdir: Option<String>,
    /// Host name inside; the container's name when absent.
    pub hostname: Option<String>,
    /// A pseudo-terminal instead of pipes.
    pub terminal: bool,
    /// Keep standard input open.
    pub stdin: bool,
    /// A small init as pid 1 that reaps orphans.
    pub init: bool,
    /// A read-only root file system.
    pub read_only: bool,
    /// Published ports.
    pub ports: Vec<PortMapping>,
    /// Mounted volumes and host paths.
    pub volumes: Vec<VolumeMount>,
    /// Which network it joins.
    pub network: NetworkMode,
    /// What it may use.
    pub limits: Limits,
    /// Capabilities added to the default set, such as `NET_RAW` (operators only).
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default set; `ALL` takes every one.
    pub cap_drop: Vec<String>,
    /// How it is checked while it runs; as its image says when absent.
    pub health: Option<HealthCheck>,
    /// Limits of every process by name, such as `nofile` (`nice` and `rtprio` for operators only).
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Further groups of its processes, by name or number.
    pub group_add: Vec<String>,
    /// Kernel parameters of its own namespaces, such as `net.core.somaxconn`.
    pub sysctls: BTreeMap<String, String>,
    /// Runs the image's own init system, such as systemd, as its first process: `/sbin/init` when neither it
    /// nor the image names a command. Its cgroup is its own to divide, and `/run` is in memory.
    pub system: bool,
    /// All capabilities, devices and system calls, in the host's user namespace, with nothing hidden: no
    /// wall at all between it and the host (operators only).
    pub privileged: bool,
    /// Namespaces that it shares with the host (operators only); its network is said by `network`.
    pub host_namespaces: Vec<HostNamespace>,
    /// Which system calls are refused.
    pub seccomp: SeccompMode,
    /// Let programs gain privileges when they are executed, as `sudo` does; none can when this is off.
    pub new_privileges: bool,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Remove it when it has ended.
    pub auto_remove: bool,
    /// Signal that asks it to stop; the image's or `SIGTERM` when absent.
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and the kill; 10 when absent.
    pub stop_grace_s: Option<u32>,
    /// Bounds of the log.
    pub log: LogLimits,
    /// The checkpoint that its first start restores; set by a restore, never in a request.
    pub checkpoint: Option<CheckpointId>,
}

/// A namespace of the host that a container may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HostNamespace {
    /// Processes; brings the host's user namespace along, whose they are.
    Pid,
    /// Semaphores, shared memory and message queues; brings the host's user namespace along.
    Ipc,
    /// The host's name.
    Uts,
    /// User ids: its root is the host's.
    User,
}

impl HostNamespace {
    /// The word for it, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
        }
    }
}

/// Which system calls are refused to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SeccompMode {
    /// The built-in profile: at least as strict as Docker's default.
    #[default]
    Default,
    /// None (operators only).
    Unconfined,
    /// A profile as Docker's users write them, as JSON text (operators only).
    Profile(String),
}

/// Which network a container joins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// The tenant's own bridge.
    #[default]
    Tenant,
    /// Loopback only.
    None,
    /// The host's network (operators only).
    Host,
}

/// What a container may use; absent means unlimited within the tenant's quota.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Thousandths of a CPU, as a hard quota.
    pub cpu_millis: Option<u32>,
    /// Share under contention, 1 to 10,000 (cgroup v2's `cpu.weight`); 100 when absent.
    pub cpu_weight: Option<u32>,
    /// Numbers of the CPUs that it runs on, such as `0-1,3`.
    pub cpus: Option<String>,
    /// Numbers of the memory nodes that its memory is on, such as `0`.
    pub mems: Option<String>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory in bytes from which on it is slowed down and its memory is reclaimed (cgroup v2 only).
    pub memory_high_bytes: Option<u64>,
    /// Memory in bytes that is taken from others first when memory is short.
    pub memory_reservation_bytes: Option<u64>,
    /// Whether all of it ends when the kernel must kill a process of it for lack of memory: where the
    /// kernel can (cgroup v2) it does unless this is `false`.
    pub oom_group: Option<bool>,
    /// Swap in bytes on top of the memory; 0 when a memory limit is set and this is absent.
    pub swap_bytes: Option<u64>,
    /// Bytes in huge pages, by the kernel's name for the size of the page, such as `2MB`.
    pub huge_pages: BTreeMap<String, u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Bytes read per second, on the device of the containers' state.
    pub io_read_bytes_per_s: Option<u64>,
    /// Bytes written per second, on the device of the containers' state.
    pub io_write_bytes_per_s: Option<u64>,
    /// Read operations per second, on the same device.
    pub io_read_ops_per_s: Option<u32>,
    /// Write operations per second, on the same device.
    pub io_write_ops_per_s: Option<u32>,
    /// Share of block I/O under contention, 1 to 10,000.
    pub io_weight: Option<u32>,
    /// `/dev/shm` in bytes; 64 MiB when absent.
    pub shm_bytes: Option<u64>,
    /// Open files (`RLIMIT_NOFILE`).
    pub open_files: Option<u32>,
    /// Host devices such as `/dev/fuse` (operators only).
    pub devices: Vec<String>,
}

/// Bounds of a container's log on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LogLimits {
    /// A file is closed at this size.
    pub max_file_bytes: u64,
    /// This many files are kept.
    pub max_files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { max_file_bytes: 10 * 1024 * 1024, max_files: 3 }
    }
}

/// When a container is started again after it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Always, also after the host restarted, even if it was stopped by hand before.
    Always,
    /// Always, unless it was stopped by hand.
    UnlessStopped,
    /// After an exit status other than 0, at most so many times (0: without end).
    OnFailure {
        /// Most restarts in a row.
        max_retries: u32,
    },
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Recorded; never started.
    Created,
    /// Its image is being pulled.
    Pulling,
    /// Being started.
    Starting,
    /// Its first process runs.
    Running,
    /// Frozen.
    Paused,
    /// Asked to stop, not ended yet.
    Stopping,
    /// Ended.
    Exited,
    /// Could not be started; `error` says why.
    Failed,
    /// Ended, and waiting to be started again.
    Restarting,
    /// Being removed.
    Removing,
}

impl ContainerState {
    /// The word for it, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Pulling => "pulling",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
        }
    }

    /// Whether processes of it may exist.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Paused | Self::Stopping)
    }
}

/// How a container's first process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExitView {
    /// Exit code; `null` when a signal ended it or it is unknown.
    pub code: Option<i32>,
    /// Signal number, if a signal ended it.
    pub signal: Option<i32>,
    /// The kernel killed a process of it for lack of memory.
    pub oom_killed: bool,
    /// The supervisor was lost; the code may be unknown.
    pub supervisor_lost: bool,
}

impl ExitView {
    /// What a shell would show: the code, 128 + the signal, or 255 when unknown.
    pub fn shell_code(&self) -> i32 {
        self.code.or(self.signal.map(|signal| 128 + signal)).unwrap_or(255)
    }
}

/// A container as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerView {
    /// Id.
    pub id: ContainerId,
    /// Name.
    pub name: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// The tenant's name.
    pub tenant_name: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// The digest of the image it runs, once known.
    pub image_digest: Option<String>,
    /// The command line it runs, once the image is known.
    pub command_line: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// How it last ended.
    pub exit: Option<ExitView>,
    /// How it is, while it runs and has a health check.
    pub health: Option<HealthView>,
    /// Restarts by its policy since it was last started by hand.
    pub restart_count: u32,
    /// Process id on the host of its first process, while it runs.
    pub pid: Option<i32>,
    /// Its address in the tenant's network.
    pub address: Option<String>,
    /// Published ports with the host ports they really have.
    pub ports: Vec<PortMapping>,
    /// What was asked for.
    pub spec: ContainerSpec,
    /// Changes with each change; give it as `If-Match`.
    pub version: i64,
}

/// What a path of a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileView {
    /// Last component; empty for the root.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a file.
    pub size_bytes: u64,
    /// Permission bits, with the set-id and sticky ones.
    pub mode: u32,
    /// When it was last written.
    pub modified_at: Timestamp,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device.
    Special,
}

/// What was copied into a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CopiedView {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// What a container has changed in its image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangesView {
    /// Ordered by path.
    pub changes: Vec<ChangeView>,
    /// There are more than are told.
    pub more: bool,
}

/// One path that differs from the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangeView {
    /// Absolute, in the container.
    pub path: String,
    /// How it differs.
    pub kind: ChangeKind,
}

/// How a path differs from the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is in the image too; a directory is also when only something in it is.
    Changed,
    /// It is not in the image.
    Added,
    /// It is only in the image.
    Deleted,
}

/// An image to be made of what a container has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CommitRequest {
    /// The image's name.
    pub reference: String,
    /// Who makes it.
    pub author: Option<String>,
    /// A remark, for its history.
    pub message: Option<String>,
    /// Stop the container where it is meanwhile, so that no file is half written.
    pub pause: bool,
    /// Replaces the entrypoint of its containers, and drops the command.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the command of its containers.
    pub command: Option<Vec<String>>,
    /// Environment variables over those of the image.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub workdir: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Labels over those of the image.
    pub labels: BTreeMap<String, String>,
}

impl Default for CommitRequest {
    fn default() -> Self {
        Self {
            reference: String::new(),
            author: None,
            message: None,
            pause: true,
            entrypoint: None,
            command: None,
            env: BTreeMap::new(),
            workdir: None,
            user: None,
            labels: BTreeMap::new(),
        }
    }
}

/// Changes to the limits of a container, running or not. Absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ContainerUpdate {
    /// New name.
    pub name: Option<String>,
    /// New limits, whole: what is left out is lifted.
    pub limits: Option<Limits>,
    /// New restart policy.
    pub restart: Option<RestartPolicy>,
}

/// How to stop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StopRequest {
    /// Seconds before the kill; the container's own when absent.
    pub grace_s: Option<u32>,
}

/// Which signal to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// Name (`SIGHUP`, `HUP`) or number.
    pub signal: String,
}

/// A command to run in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment variables, over the container's.
    pub env: BTreeMap<String, String>,
    /// User; the container's own when absent.
    pub user: Option<String>,
    /// Working directory; the container's own when absent.
    pub workdir: Option<String>,
    /// A pseudo-terminal.
    pub terminal: bool,
    /// Pass standard input on.
    pub stdin: bool,
    /// First size of the terminal: rows, columns.
    pub terminal_size: Option<(u16, u16)>,
}

/// A process in a container, in the container's own numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProcessView {
    /// Process id.
    pub pid: u32,
    /// The parent's; absent for what was started from outside.
    pub parent: Option<u32>,
    /// Effective user id; absent for one that the container has no number for.
    pub user: Option<u32>,
    /// As in `proc_pid_stat(5)`: `R` runs, `S` sleeps, `D` waits for a disk, `T` is stopped, `Z` has
    /// ended.
    pub state: String,
    /// CPU time used so far, user and system.
    pub cpu_ms: u64,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Its command line, cut at 4,096 bytes; its name in brackets when it has none.
    pub command: String,
}

/// An exec that was prepared; open its WebSocket within 30 seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecView {
    /// Single-use, unguessable name of this exec.
    pub exec_id: String,
}

impl ContainerSpec {
    /// Whether it shares this namespace of the host.
    pub fn shares(&self, namespace: HostNamespace) -> bool {
        use HostNamespace::{Ipc, Pid, User};
        let given = |namespace| self.host_namespaces.contains(&namespace);
        given(namespace) || namespace == User && (self.privileged || given(Pid) || given(Ipc))
    }

    /// What of it reaches out of the tenant's walls, in words; `allowed_devices` are everybody's.
    pub fn host_access(&self, allowed_devices: &[String]) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        if self.network == NetworkMode::Host {
            found.push("the host's network".to_owned());
        }
        for mount in &self.volumes {
            if let VolumeSource::Host(path) = &mount.source {
                found.push(format!("the host's {path}"));
            }
        }
        if self.privileged {
            found.push("privileged".to_owned());
        }
        let namespaces = self.host_namespaces.iter();
        found.extend(namespaces.map(|namespace| format!("the host's {} namespace", namespace.as_str())));
        match self.seccomp {
            SeccompMode::Default => {}
            SeccompMode::Unconfined => found.push("all system calls".to_owned()),
            SeccompMode::Profile(_) => found.push("a seccomp profile".to_owned()),
        }
        let devices = self.limits.devices.iter().filter(|device| !allowed_devices.contains(device));
        found.extend(devices.map(|device| format!("the device {device}")));
        found.extend(self.cap_add.iter().map(|capability| format!("the capability {capability}")));
        let limits = self.ulimits.keys().filter(|name| RLIMITS_OF_OPERATORS.contains(&name.as_str()));
        found.extend(limits.map(|name| format!("the limit {name}")));
        found
    }

    /// Checks everything that can be checked without a host, and says all that is wrong.
    pub fn problems(&self) -> Vec<FieldProblem> {
        let mut found = Found(Vec::new());
        if let Some(given) = &self.name {
            found.check("name", name::check(given).map_err(|error| error.to_string()));
        }
        if self.image.trim().is_empty() {
            found.add("image", "an image reference is needed, such as busybox:1.36");
        }
        if let Some(hostname) = &self.hostname {
            found.check("hostname", check_hostname(hostname));
        }
        for (key, value) in &self.env {
            if key.is_empty() || key.contains('=') || key.contains('\0') || value.contains('\0') {
                found.add("env", format!("{key:?}: a name without '=' and no NUL characters are needed"));
            }
        }
        for (key, value) in &self.labels {
            if key.is_empty() || key.len() > 256 || value.len() > 4_096 {
                found.add(
                    "labels",
                    format!("{key:?}: a label has a name of 1 to 256 bytes and a value of at most 4096"),
                );
            }
        }
        let words = self.entrypoint.iter().chain(&self.command).flatten();
        let bytes: usize = words.clone().map(|word| word.len() + 1).sum::<usize>()
            + self.env.iter().map(|(key, value)| key.len() + value.len() + 2).sum::<usize>();
        if bytes > ARGUMENTS_MAX_BYTES {
            found.add(
                "command",
                format!("arguments and environment have {bytes} bytes, at most {ARGUMENTS_MAX_BYTES} fit"),
            );
        }
        if words.clone().any(|word| word.contains('\0')) {
            found.add("command", "NUL characters cannot be passed");
        }
        if let Some(workdir) = &self.workdir {
            found.check("workdir", check_path(workdir));
        }
        if let Some(signal) = &self.stop_signal
            && signal_number(signal).is_none()
        {
            found.add(
                "stop_signal",
                format!("{signal:?} is no signal; give a name like SIGTERM or a number from 1 to 64"),
            );
        }
        if self.stop_grace_s.is_some_and(|seconds| seconds > 86_400) {
            found.add("stop_grace_s", "at most 86400 seconds (a day)");
        }
        for (name, limit) in &self.ulimits {
            found.check("ulimits", check_ulimit(name, *limit));
        }
        if self.limits.open_files.is_some() && self.ulimits.contains_key("nofile") {
            found.add("ulimits", "nofile: give either this or limits.open_files");
        }
        let group =
            |group: &String| !group.is_empty() && group.len() <= 64 && !group.contains([':', '\0', '\n']);
        if self.group_add.len() > GROUPS_MAX || !self.group_add.iter().all(group) {
            found.add("group_add", format!("at most {GROUPS_MAX} names or numbers of groups are needed"));
        }
        for (key, value) in &self.sysctls {
            found.check("sysctls", check_sysctl(key, value, self.network));
        }
        if let Some(health) = &self.health {
            found.0.extend(health.problems(self.network));
        }
        if self.init && (self.system || self.shares(HostNamespace::Pid)) {
            found.add("init", "it is pid 1 of a namespace of its own, where nothing else is an init");
        }
        if self.system && (self.shares(HostNamespace::User) || self.shares(HostNamespace::Pid)) {
            found.add(
                "system",
                "an init system needs user ids and processes of its own, apart from the host's",
            );
        }
        if self.shares(HostNamespace::Uts) && self.hostname.is_some() {
            found.add("hostname", "the name is the host's in the host's uts namespace");
        }
        if self.shares(HostNamespace::Ipc) && self.sysctls.keys().any(|key| !key.starts_with("net.")) {
            found.add("sysctls", "kernel.* and fs.mqueue.* are the host's in the host's ipc namespace");
        }
        if self.auto_remove && self.restart != RestartPolicy::No {
            found.add("auto_remove", "a container that is removed on exit cannot have a restart policy");
        }
        if self.network != NetworkMode::Tenant && !self.ports.is_empty() {
            found.add("ports", "ports can be published only in the tenant's network");
        }
        for (at, port) in self.ports.iter().enumerate() {
            found.check(&format!("ports[{at}]"), port.check());
            let same = |other: &PortMapping| {
                other.protocol == port.protocol
                    && other.host_port == port.host_port
                    && port.host_port.is_some()
                    && (other.host_ip == port.host_ip || other.host_ip.is_none() || port.host_ip.is_none())
            };
            if self.ports.iter().take(at).any(same) {
                found.add(&format!("ports[{at}].host_port"), "the same host port is given twice");
            }
        }
        for (at, mount) in self.volumes.iter().enumerate() {
            found.check(&format!("volumes[{at}].target"), check_path(&mount.target));
            if mount.target == "/" {
                found.add(&format!("volumes[{at}].target"), "the root itself cannot be a mount target");
            }
            if self.volumes.iter().take(at).any(|other| other.target == mount.target) {
                found.add(&format!("volumes[{at}].target"), "the same target is given twice");
            }
            found.check(&format!("volumes[{at}].source"), mount.source.check());
        }
        for (field, capabilities) in [("cap_add", &self.cap_add), ("cap_drop", &self.cap_drop)] {
            for capability in capabilities.iter().filter(|&given| given != "ALL" || field == "cap_add") {
                if capability_number(capability).is_none() {
                    found.add(field, format!("{capability:?} is no capability; give a name like NET_RAW"));
                }
            }
        }
        if !(64 * 1024..=1 << 34).contains(&self.log.max_file_bytes)
            || !(1..=1_000).contains(&self.log.max_files)
        {
            found.add("log", "a log file has 64 KiB to 16 GiB, and 1 to 1000 files are kept");
        }
        found.0.extend(self.limits.problems());
        found.0
    }
}

impl Limits {
    /// Checks everything that can be checked without a host.
    pub fn problems(&self) -> Vec<FieldProblem> {
        let mut found = Found(Vec::new());
        let mut within = |field: &str, value: Option<u64>, least: u64, most: u64| {
            if value.is_some_and(|value| !(least..=most).contains(&value)) {
                found.add(&format!("limits.{field}"), format!("must lie between {least} and {most}"));
            }
        };
        within("cpu_millis", self.cpu_millis.map(u64::from), 10, 1_024_000);
        within("cpu_weight", self.cpu_weight.map(u64::from), 1, 10_000);
        within("io_weight", self.io_weight.map(u64::from), 1, 10_000);
        within("memory_bytes", self.memory_bytes, MEMORY_LIMIT_MIN_BYTES, 1 << 50);
        within("memory_high_bytes", self.memory_high_bytes, MEMORY_LIMIT_MIN_BYTES, 1 << 50);
        within("memory_reservation_bytes", self.memory_reservation_bytes, MEMORY_LIMIT_MIN_BYTES, 1 << 50);
        within("swap_bytes", self.swap_bytes, 0, 1 << 50);
        within("pids", self.pids.map(u64::from), 1, 4_194_304);
        within("io_read_bytes_per_s", self.io_read_bytes_per_s, 4_096, 1 << 50);
        within("io_write_bytes_per_s", self.io_write_bytes_per_s, 4_096, 1 << 50);
        // cgroup v2 takes no less than 2.
        within("io_read_ops_per_s", self.io_read_ops_per_s.map(u64::from), 2, 1_000_000_000);
        within("io_write_ops_per_s", self.io_write_ops_per_s.map(u64::from), 2, 1_000_000_000);
        within("shm_bytes", self.shm_bytes, 4_096, 1 << 50);
        within("open_files", self.open_files.map(u64::from), 16, 1_048_576);
        if self.swap_bytes.is_some() && self.memory_bytes.is_none() {
            found.add("limits.swap_bytes", "a swap limit needs a memory limit");
        }
        for (field, value) in [
            ("memory_high_bytes", self.memory_high_bytes),
            ("memory_reservation_bytes", self.memory_reservation_bytes),
        ] {
            if value.zip(self.memory_bytes).is_some_and(|(value, most)| value > most) {
                found.add(&format!("limits.{field}"), "must not be greater than memory_bytes");
            }
        }
        for (field, list) in [("cpus", &self.cpus), ("mems", &self.mems)] {
            if let Some(list) = list {
                found.check(&format!("limits.{field}"), number_list(list).map(drop));
            }
        }
        for (size, bytes) in &self.huge_pages {
            found.check("limits.huge_pages", check_huge_pages(size, *bytes));
        }
        for device in &self.devices {
            if !device.starts_with("/dev/") || device.split('/').any(|part| part == ".." || part == ".") {
                found.add("limits.devices", format!("{device:?} is no path below /dev"));
            }
        }
        found.0
    }

    /// The first limit that differs from `other`'s and that processes have from their start, so that a
    /// running container cannot be given another.
    pub fn fixed_while_running(&self, other: &Self) -> Option<&'static str> {
        [
            ("shm_bytes", self.shm_bytes != other.shm_bytes),
            ("open_files", self.open_files != other.open_files),
            ("devices", self.devices != other.devices),
        ]
        .into_iter()
        .find_map(|(limit, differs)| differs.then_some(limit))
    }
}

/// Checks a limit of huge pages.
fn check_huge_pages(size: &str, bytes: u64) -> Result<(), String> {
    let page = huge_page_bytes(size)
        .ok_or_else(|| format!("{size:?} is no size of a huge page; write it like 2MB or 1GB"))?;
    if bytes > 1 << 50 || !bytes.is_multiple_of(page) {
        return Err(format!("{size}: {bytes} is no whole number of these pages, or too many"));
    }
    Ok(())
}

/// Checks a host name: labels of letters, digits and hyphens, at most 63 characters in all.
pub fn check_hostname(hostname: &str) -> Result<(), String> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if hostname.len() <= 63 && hostname.split('.').all(label) {
        Ok(())
    } else {
        Err("a host name has at most 63 letters, digits, hyphens and dots".to_owned())
    }
}

/// Checks a path inside a container: absolute, without `..`.
pub fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.contains('\0') || path.len() > 4_000 {
        return Err("an absolute path of at most 4000 bytes is needed".to_owned());
    }
    if path.split('/').any(|part| part == "..") {
        return Err("a path without '..' is needed".to_owned());
    }
    Ok(())
}

/// The number of a signal given as `SIGTERM`, `term` or `15`.
pub fn signal_number(signal: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = signal.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse::<i32>().ok()? };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    let at = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(at + 1).ok()
}

/// The kernel's number of a capability given as `NET_RAW` or `CAP_NET_RAW` (capabilities(7)).
pub fn capability_number(capability: &str) -> Option<u8> {
    let upper = capability.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    CAPABILITIES.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok())
}

/// Capability names in the kernel's order (`include/uapi/linux/capability.h`).
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's default capabilities less `NET_RAW` and `MKNOD`.
pub const DEFAULT_CAPABILITIES: [&str; 12] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "AUDIT_WRITE",
    "SETFCAP",
];

struct Found(Vec<FieldProblem>);

impl Found {
    fn add(&mut self, field: &str, detail: impl Into<String>) {
        self.0.push(FieldProblem { field: field.to_owned(), detail: detail.into() });
    }

    fn check(&mut self, field: &str, checked: Result<(), String>) {
        if let Err(detail) = checked {
            self.add(field, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec { image: "busybox".to_owned(), ..ContainerSpec::default() }
    }

    fn fields(spec: &ContainerSpec) -> Vec<String> {
        spec.problems().into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn a_plain_spec_has_no_problem() {
        assert_eq!(spec().problems(), []);
    }

    #[test]
    fn says_everything_that_is_wrong_at_once() {
        let mut bad = spec();
        bad.image = String::new();
        bad.name = Some("a/b".to_owned());
        bad.stop_signal = Some("SIGNOPE".to_owned());
        bad.limits.memory_bytes = Some(1);
        bad.workdir = Some("../x".to_owned());
        assert_eq!(fields(&bad), ["name", "image", "workdir", "stop_signal", "limits.memory_bytes"]);
    }

    #[test]
    fn limits_that_contradict_themselves_or_no_kernel_knows_are_refused() {
        let limits = |json: &str| serde_json::from_str::<Limits>(json).expect("limits").problems();
        for (json, field) in [
            (r#"{"cpus":"1-0"}"#, "limits.cpus"),
            (r#"{"mems":""}"#, "limits.mems"),
            (r#"{"memory_bytes":10000000,"memory_high_bytes":10000001}"#, "limits.memory_high_bytes"),
            (r#"{"memory_high_bytes":1}"#, "limits.memory_high_bytes"),
            (
                r#"{"memory_bytes":8000000,"memory_reservation_bytes":9000000}"#,
                "limits.memory_reservation_bytes",
            ),
            (r#"{"huge_pages":{"2M":0}}"#, "limits.huge_pages"),
            (r#"{"huge_pages":{"2MB":1}}"#, "limits.huge_pages"),
            (r#"{"io_read_ops_per_s":0}"#, "limits.io_read_ops_per_s"),
        ] {
            let found = limits(json);
            assert!(found.len() == 1 && found[0].field == field, "{json}: {found:?}");
        }
        let fine = r#"{"cpus":"0,2-3","mems":"0","memory_bytes":10000000,"memory_high_bytes":10000000,
            "memory_reservation_bytes":7000000,"huge_pages":{"2MB":4194304,"1GB":0},"oom_group":false}"#;
        assert_eq!(limits(fine), []);
    }

    #[test]
    fn refuses_unknown_fields() {
        assert!(serde_json::from_str::<ContainerSpec>(r#"{"image":"a","privilege":true}"#).is_err());
    }

    #[test]
    fn reads_signals_by_name_and_number() {
        assert_eq!(signal_number("SIGTERM"), Some(15));
        assert_eq!(signal_number("hup"), Some(1));
        assert_eq!(signal_number("9"), Some(9));
        assert_eq!(signal_number("RTMIN+3"), Some(37));
        assert_eq!(signal_number("0"), None);
        assert_eq!(signal_number("65"), None);
    }

    #[test]
    fn default_capabilities_are_known_and_lack_net_raw_and_mknod() {
        assert!(DEFAULT_CAPABILITIES.iter().all(|name| capability_number(name).is_some()));
        assert_eq!(capability_number("CAP_NET_RAW"), Some(13));
        assert!(!DEFAULT_CAPABILITIES.contains(&"NET_RAW") && !DEFAULT_CAPABILITIES.contains(&"MKNOD"));
    }
}
