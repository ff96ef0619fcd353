//! Containers: what is asked for, what is shown, and the checks that need no host.

mod rules;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::health::{HealthCheck, HealthView};
use crate::id::{CheckpointId, ContainerId, TenantId};
use crate::kernel::Ulimit;
use crate::network::PortMapping;
use crate::time::Timestamp;
use crate::volume::VolumeMount;

pub use self::rules::{
    ARGUMENTS_MAX_BYTES, CAPABILITIES, DEFAULT_CAPABILITIES, GROUPS_MAX, MEMORY_LIMIT_MIN_BYTES,
    capability_number, check_hostname, check_path, signal_number,
};

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
    /// Which AppArmor profile its processes get, where the host has AppArmor.
    pub apparmor: AppArmorMode,
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

/// Which AppArmor profile a container's processes get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AppArmorMode {
    /// The agent's own, as strict as Docker's; none when it is privileged.
    #[default]
    Default,
    /// None (operators only).
    Unconfined,
    /// Another that is loaded on the host, by its name (operators only).
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
