//! What to launch: the complete, self-contained description of one container or one exec.
//!
//! The agent makes it (pure, from the request, the image and the host's facts), writes it with
//! [`LaunchSpec::encode`] into a sealed memfd, and the shim reads it from there. It holds no
//! secret but the environment of the container itself. [`SPEC_VERSION`] guards its shape: the
//! forge refuses a spec of another version, because a forge always runs the agent's own build.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::Outside;

/// The shape of [`LaunchSpec`] and [`ExecSpec`] as this build writes and reads it.
pub const SPEC_VERSION: u16 = 4;

/// Capabilities of a container by default: Docker's less `MKNOD` and `NET_RAW`, by kernel number:
/// `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`, `KILL`, `SETGID`, `SETUID`, `SETPCAP`,
/// `NET_BIND_SERVICE`, `SYS_CHROOT`, `AUDIT_WRITE`, `SETFCAP`.
pub const DEFAULT_CAPABILITIES: [u8; 12] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31];

/// Paths that a container cannot write by default: the kernel's switches.
pub const DEFAULT_READ_ONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Paths that a container cannot see into by default: the host's memory, keys, timers and hardware.
///
/// `kpage*` and `kmsg` are readable by a root without user namespace; `kallsyms` tells where the kernel
/// lies; `powercap`, `interrupts` and
/// `thermal_throttle` tell what the neighbours compute.
pub const DEFAULT_MASKED_PATHS: [&str; 18] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/debug",
];

/// Returns the default masked paths, with those of each CPU of this host.
pub fn default_masked_paths() -> Vec<String> {
    let cpus = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let throttle = cpus.map(|cpu| cpu.path().join("thermal_throttle")).filter(|path| path.is_dir());
    let throttle = throttle.filter_map(|path| path.to_str().map(ToOwned::to_owned));
    DEFAULT_MASKED_PATHS.iter().map(|&path| path.to_owned()).chain(throttle).collect()
}

/// Why a description cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// It was written by another build.
    #[error("the description has version {found}, this build reads {SPEC_VERSION}")]
    Version {
        /// The version found.
        found: u16,
    },
    /// The bytes are no description.
    #[error("the description cannot be decoded")]
    Decode(#[source] postcard::Error),
    /// It cannot be written.
    #[error("the description cannot be encoded")]
    Encode(#[source] postcard::Error),
    /// A field has a value that cannot work.
    #[error("{field} {value:?} {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Everything that is needed to launch one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct LaunchSpec {
    /// [`SPEC_VERSION`] of the writer.
    pub version: u16,
    /// The container's id: at most 255 letters, digits and `_ + - .`, the first a letter or digit.
    pub id: String,
    /// Counts starts of this container from 1; a launch is idempotent by `(id, generation)`.
    pub generation: u64,
    /// Directory in the run root that holds the container's socket and state (`…/c/<id>`, mode 0700).
    pub run_dir: PathBuf,
    /// Directory in the state root that holds the exit record and generated files (`…/c/<id>`, mode 0700).
    pub state_dir: PathBuf,
    /// Directory that holds the log files.
    pub log: LogSpec,
    /// The first process.
    pub process: ProcessSpec,
    /// Name in the container's UTS namespace.
    pub hostname: String,
    /// The root file system.
    pub rootfs: RootfsSpec,
    /// Mounts besides the standard ones (`/proc`, `/sys`, `/dev`…), in order.
    pub mounts: Vec<MountSpec>,
    /// The tenant's id range; `None` shares the host's user namespace (operators only).
    pub id_map: Option<IdMap>,
    /// Where the container's network namespace comes from.
    pub network: NetworkNamespace,
    /// The other namespaces that are the host's (operators only).
    pub host: HostNamespaces,
    /// The container's cgroup in every hierarchy, relative to each hierarchy's root
    /// (`wharf/<tenant>/<id>`). It exists, with its limits, before the launch.
    pub cgroup: PathBuf,
    /// Paths replaced by an empty, read-only file or directory.
    pub masked_paths: Vec<String>,
    /// Paths bound onto themselves read-only.
    pub read_only_paths: Vec<String>,
    /// Kernel parameters of the container's own namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Extra device nodes in `/dev` (the standard ones are always there).
    pub devices: Vec<DeviceNode>,
    /// Size limit of `/dev/shm` in bytes.
    pub shm_size_bytes: u64,
    /// Show the container its own cgroups below `/sys/fs/cgroup`.
    pub show_cgroups: bool,
    /// Let the container divide its own group of the unified tree, as an init system does; else all
    /// that it sees of cgroups is read-only. The caller has handed the group over
    /// ([`Cgroup::delegate`](crate::cgroup::Cgroup::delegate)).
    pub delegate: bool,
    /// Leave `/sys` writable, as far as the container's capabilities go (operators only).
    pub writable_sys: bool,
    /// Keep a small init of ours as pid 1 that reaps orphans and forwards signals.
    pub init: bool,
    /// Processes to restore, in place of executing the program of `process`.
    pub restore: Option<RestoreSpec>,
}

/// A checkpoint to start from ([`crate::checkpoint`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreSpec {
    /// CRIU's program, an absolute path.
    pub criu: PathBuf,
    /// Directory of the images.
    pub images: PathBuf,
    /// The mounts that CRIU finds ready.
    pub outside: Vec<Outside>,
    /// Inodes of the pipes that were standard input, output and error.
    pub pipes: [Option<u64>; 3],
}

/// One process: the container's first, or an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments; never empty. The program is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// `KEY=value` pairs.
    pub env: Vec<String>,
    /// Working directory inside the container; made when it is missing.
    pub cwd: String,
    /// `""`, `user`, `uid`, `user:group`, `uid:gid`: resolved in the container's own `/etc/passwd`.
    pub user: String,
    /// Additional groups, by name or number.
    pub groups: Vec<String>,
    /// What `user` and `groups` mean.
    pub ids: IdSource,
    /// Capabilities by kernel number: bounding, and unless `capability_sets` says otherwise, permitted
    /// and effective.
    pub capabilities: Vec<u8>,
    /// The other sets, where they are not just what `capabilities` says.
    pub capability_sets: Option<CapabilitySets>,
    /// `no_new_privs`.
    pub no_new_privs: bool,
    /// The seccomp policy.
    pub seccomp: Seccomp,
    /// The AppArmor profile, which the kernel knows; none on a host without AppArmor.
    pub apparmor: Option<String>,
    /// Resource limits; a limit above this process's hard limit is lowered to it.
    pub rlimits: Vec<Rlimit>,
    /// A pseudo-terminal instead of pipes.
    pub terminal: bool,
    /// First size of the terminal: rows, columns.
    pub terminal_size: Option<(u16, u16)>,
    /// Keep standard input open (else it is `/dev/null`).
    pub stdin: bool,
    /// Wanted `oom_score_adj`; best effort when it would have to go below the caller's.
    pub oom_score_adj: Option<i32>,
}

/// What says who a process runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdSource {
    /// The container's own `/etc/passwd` and `/etc/group`.
    Files,
    /// The numbers, as they are: `uid:gid` and groups. Only the home directory comes from the files.
    Numbers,
}

/// The capability sets that execve(2) looks at, by kernel number. The kernel keeps a capability out of
/// ambient that is not in permitted and inheritable too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// What may be used.
    pub permitted: Vec<u8>,
    /// What is in use.
    pub effective: Vec<u8>,
    /// What a program with file capabilities may inherit.
    pub inheritable: Vec<u8>,
    /// What a user other than root keeps over execve(2).
    pub ambient: Vec<u8>,
}

/// A process that joins a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// [`SPEC_VERSION`] of the writer.
    pub version: u16,
    /// Unique within the container.
    pub exec_id: String,
    /// The process.
    pub process: ProcessSpec,
}

/// The root file system: an overlay, or a plain directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsSpec {
    /// Directory above all layers; it is idmapped once per tenant, layers are opened beneath it.
    pub layer_root: PathBuf,
    /// Layer directories relative to `layer_root`, uppermost first. Without any, `layer_root` itself is
    /// the root, as it is on disk, and changes go there.
    pub layers: Vec<PathBuf>,
    /// Holds `upper` and `work`; made and chowned to the mapped root by the agent.
    pub writable: PathBuf,
    /// What is written may be lost with the host: it is thrown away with the container, so neither the
    /// overlay's own syncs nor its unmounting wait for the disk.
    pub ephemeral: bool,
    /// Mount the whole root read-only.
    pub read_only: bool,
}

/// One mount of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path inside the container; made (file or directory) when it is missing.
    pub target: String,
    /// Read-only, recursively.
    pub read_only: bool,
    /// Nothing in it can be executed.
    pub no_exec: bool,
    /// What is mounted below the source on the host does not show.
    pub shallow: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A directory or file of the host. With `idmap` it is a volume: ids on disk are container ids, and an
    /// empty one is filled with what the image has at its place.
    Bind {
        /// Absolute path on the host.
        path: PathBuf,
        /// Shift ids by the tenant's range.
        idmap: bool,
    },
    /// Memory.
    Tmpfs {
        /// Size limit in bytes.
        size_bytes: u64,
        /// Mode of its root.
        mode: u32,
    },
}

/// Container ids `0..size` are host ids `host_base..host_base + size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id on the host.
    pub host_base: u32,
    /// How many; 65,536 for a tenant.
    pub size: u32,
}

/// Where the network namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkNamespace {
    /// A new one; its descriptor is handed to the agent before the process starts.
    Private,
    /// The host's (operators only).
    Host,
    /// The one that this path shows (operators only); it is used as it is.
    Path(PathBuf),
}

/// Namespaces that a container shares with the host. Those of processes and of IPC can be shared only
/// together with the user namespace: what they show belongs to the host's root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNamespaces {
    /// Processes: the container's first is not pid 1, and does not take the others with it.
    pub pid: bool,
    /// Semaphores, shared memory and queues of System V, and POSIX queues.
    pub ipc: bool,
    /// The host's name.
    pub uts: bool,
}

/// Which system calls are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// The built-in profile, equivalent to Docker's default for the given capabilities.
    Default,
    /// None (operators only).
    Unconfined,
    /// A profile of the caller's, compiled ([`crate::seccomp::pack`]).
    Program(Vec<u64>),
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Kernel number (`RLIMIT_NOFILE` is 7).
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// A device node to make in `/dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Path below `/dev`, without `/dev/`.
    pub path: String,
    /// Character device (else block).
    pub character: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
}

/// The bounded log of the container's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// Directory of the log files (mode 0700).
    pub dir: PathBuf,
    /// A file is closed at this size.
    pub max_file_bytes: u64,
    /// This many files are kept.
    pub max_files: u32,
}

impl LaunchSpec {
    /// Writes the description as bytes.
    ///
    /// # Errors
    /// Never for a description in memory; the encoder's error is passed on all the same.
    pub fn encode(&self) -> Result<Vec<u8>, SpecError> {
        postcard::to_stdvec(self).map_err(SpecError::Encode)
    }

    /// Reads a description that a build of the same version wrote.
    ///
    /// # Errors
    /// For another version, and for bytes that are no description.
    pub fn decode(bytes: &[u8]) -> Result<Self, SpecError> {
        decode(bytes)
    }

    /// Checks every field that a launch relies upon.
    ///
    /// # Errors
    /// The first field that cannot work.
    pub fn validate(&self) -> Result<(), SpecError> {
        check_version(self.version)?;
        self.process.validate()?;
        require(is_id(&self.id), "id", &self.id, "is not 1 to 255 letters, digits, `_`, `+`, `-` and `.`")?;
        let host_fits = (1..=64).contains(&self.hostname.len()) && !self.hostname.contains('\0');
        require(host_fits, "hostname", &self.hostname, "is not 1 to 64 bytes")?;
        self.rootfs.validate()?;
        for mount in &self.mounts {
            require(
                is_target(&mount.target),
                "mounts.target",
                &mount.target,
                "is not an absolute path below the root",
            )?;
            let kernel = ["/proc", "/sys"].iter().any(|top| Path::new(&mount.target).starts_with(top));
            require(!kernel, "mounts.target", &mount.target, "is in a file system of the kernel")?;
        }
        for path in self.masked_paths.iter().chain(&self.read_only_paths) {
            require(is_target(path), "masked_paths", path, "is not an absolute path below the root")?;
        }
        for device in &self.devices {
            require(
                is_plain(Path::new(&device.path)),
                "devices.path",
                &device.path,
                "is not a path below /dev",
            )?;
        }
        for (key, value) in &self.sysctls {
            crate::sysctl::path_of(key, self.network == NetworkNamespace::Private)
                .filter(|_| crate::sysctl::is_value(value))
                .ok_or_else(|| {
                    field("sysctls", key, "is not a parameter of the container's own namespaces")
                })?;
        }
        let user = self.id_map.is_none() || !(self.host.pid || self.host.ipc);
        require(user, "host", "", "has processes or IPC, but not the user namespace, of the host")?;
        require(!(self.init && self.host.pid), "init", "", "needs a pid namespace of the container's own")?;
        require(
            self.id_map.is_none_or(|map| map.size > 0 && map.host_base > 0),
            "id_map",
            "",
            "maps the host's root",
        )
    }
}

impl ExecSpec {
    /// Writes the description as bytes.
    ///
    /// # Errors
    /// Never for a description in memory; the encoder's error is passed on all the same.
    pub fn encode(&self) -> Result<Vec<u8>, SpecError> {
        postcard::to_stdvec(self).map_err(SpecError::Encode)
    }

    /// Reads a description that a build of the same version wrote.
    ///
    /// # Errors
    /// For another version, and for bytes that are no description.
    pub fn decode(bytes: &[u8]) -> Result<Self, SpecError> {
        decode(bytes)
    }

    /// Checks every field that an exec relies upon.
    ///
    /// # Errors
    /// The first field that cannot work.
    pub fn validate(&self) -> Result<(), SpecError> {
        check_version(self.version)?;
        self.process.validate()
    }
}

impl RootfsSpec {
    fn validate(&self) -> Result<(), SpecError> {
        let inside = self.layers.iter().all(|layer| is_plain(layer));
        require(inside, "rootfs.layers", "", "leaves the layer root")?;
        let root = self.layer_root.to_string_lossy();
        require(self.layer_root.is_absolute(), "rootfs.layer_root", &root, "is not an absolute path")
    }
}

impl ProcessSpec {
    fn validate(&self) -> Result<(), SpecError> {
        let program = self.args.first().map(String::as_str).unwrap_or_default();
        require(!program.is_empty(), "process.args", program, "names no program")?;
        require(self.cwd.starts_with('/'), "process.cwd", &self.cwd, "is not an absolute path")?;
        for text in self.args.iter().chain(&self.env).chain([&self.cwd]).chain(&self.apparmor) {
            require(!text.contains('\0'), "process", text, "has a NUL byte")?;
        }
        let sets = self.capability_sets.iter();
        let more = sets.flat_map(|sets| {
            [&sets.permitted, &sets.effective, &sets.inheritable, &sets.ambient].into_iter().flatten()
        });
        let known = self.capabilities.iter().chain(more).all(|capability| *capability < 64);
        require(known, "process.capabilities", "", "has a number above 63")
    }
}

fn decode<'bytes, T: Deserialize<'bytes>>(bytes: &'bytes [u8]) -> Result<T, SpecError> {
    // The version comes first, so that another build's shape is never misread.
    let (version, _) = postcard::take_from_bytes::<u16>(bytes).map_err(SpecError::Decode)?;
    check_version(version)?;
    postcard::from_bytes(bytes).map_err(SpecError::Decode)
}

fn check_version(found: u16) -> Result<(), SpecError> {
    if found == SPEC_VERSION { Ok(()) } else { Err(SpecError::Version { found }) }
}

fn require(holds: bool, name: &'static str, value: &str, problem: &'static str) -> Result<(), SpecError> {
    if holds { Ok(()) } else { Err(field(name, value, problem)) }
}

fn field(field: &'static str, value: &str, problem: &'static str) -> SpecError {
    SpecError::Field { field, value: value.to_owned(), problem }
}

/// Letters, digits and a few signs: what may be a name of a file and of a cgroup.
fn is_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
    (1..=255).contains(&id.len()) && id.bytes().all(plain) && id.as_bytes()[0].is_ascii_alphanumeric()
}

/// A relative path of names only.
fn is_plain(path: &Path) -> bool {
    !path.as_os_str().is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// An absolute path of names only, not the root itself.
fn is_target(path: &str) -> bool {
    !path.contains('\0') && path.strip_prefix('/').is_some_and(|rest| is_plain(Path::new(rest)))
}
