//! From a configuration to what the runtime launches: a pure function.
//!
//! What is asked for is done, done more strictly, or refused; never less strictly and never in silence.
//! Stricter than asked: a namespace of its own for each of mounts, processes, IPC, host name and cgroups;
//! standard mounts with all flags that fit them, also those that the configuration leaves out; no device
//! nodes and no set-user-id bits in what is bound.

use std::path::{Path, PathBuf};

use wharf_runtime::cgroup::{Access, DeviceKind, DeviceRule};
use wharf_runtime::spec::{
    CapabilitySets, DeviceNode, HostNamespaces, IdMap, IdSource, LaunchSpec, LogSpec, MountSource, MountSpec,
    NetworkNamespace, ProcessSpec, Rlimit, RootfsSpec, SPEC_VERSION, Seccomp,
};

use super::config::{Capabilities, Config, Device, DeviceAccess, Given, Linux, Mount, Process};
use super::filter::filter;
use super::limits::{Limits, limits};
use super::names;

/// A writable layer of the container's own over `root.path`, in this directory.
pub(super) const OVERLAY_ANNOTATION: &str = "org.wharfage.overlay";
/// Where groups are made for configurations that name none.
const DEFAULT_GROUP: &str = "wharf-oci";
/// Size of `/dev/shm` for configurations that name none, in bytes; as Docker's.
const SHM_DEFAULT_BYTES: u64 = 64 << 20;

/// Why a configuration cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConfigError {
    /// We cannot do what it asks for.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// It makes no sense, or not here.
    #[error("{property} {problem}")]
    Bad {
        /// Where.
        property: String,
        /// What is wrong with it.
        problem: String,
    },
}

pub(super) fn bad(property: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Bad { property: property.into(), problem: problem.into() }
}

/// What the caller says besides the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'all> {
    pub(super) id: &'all str,
    /// Absolute path of the bundle.
    pub(super) bundle: &'all Path,
    /// The container's own directory.
    pub(super) state_dir: &'all Path,
    /// Instead of `linux.cgroupsPath`.
    pub(super) cgroup: Option<&'all str>,
    /// Instead of the annotation.
    pub(super) overlay: Option<&'all Path>,
    /// The pid of the process that makes the container.
    pub(super) maker: u32,
    /// Memory of this machine in bytes.
    pub(super) memory_bytes: u64,
}

/// A configuration, ready to be launched.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) spec: LaunchSpec,
    pub(super) limits: Limits,
    pub(super) devices: Vec<DeviceRule>,
    /// The directory of the writable layer, which goes with the container.
    pub(super) layer: Option<PathBuf>,
}

/// Translates a whole configuration.
pub(super) fn translate(config: &Config, place: Place<'_>) -> Result<Translated, ConfigError> {
    if !config.oci_version.starts_with("1.") {
        return Err(bad("ociVersion", format!("{:?} is not a version 1", config.oci_version)));
    }
    refuse(&[
        (config.hooks, "hooks"),
        (config.domainname, "domainname"),
        (config.windows, "windows"),
        (config.solaris, "solaris"),
        (config.vm, "vm"),
        (config.zos, "zos"),
    ])?;
    let none = Linux::default();
    let linux = config.linux.as_ref().unwrap_or(&none);
    refuse_linux(linux)?;
    let process = config.process.as_ref().ok_or_else(|| bad("process", "is missing"))?;
    let namespaces = namespaces(linux)?;
    let mounts = mounts(&config.mounts, place.memory_bytes)?;
    let (rootfs, layer) = rootfs(config, place)?;
    let id_map = if namespaces.user { Some(id_map(linux)?) } else { None };
    let hostname = if config.hostname.is_empty() { place.id } else { &config.hostname };
    Ok(Translated {
        spec: LaunchSpec {
            version: SPEC_VERSION,
            id: place.id.to_owned(),
            generation: 1,
            run_dir: place.state_dir.to_owned(),
            state_dir: place.state_dir.to_owned(),
            log: LogSpec { dir: place.state_dir.to_owned(), max_file_bytes: 0, max_files: 0 },
            process: process_spec(process, linux)?,
            hostname: hostname.chars().take(64).collect(),
            rootfs,
            mounts: mounts.others,
            id_map,
            network: namespaces.network,
            cgroup: cgroup(linux, place)?,
            masked_paths: linux.masked_paths.clone(),
            read_only_paths: linux.readonly_paths.clone(),
            sysctls: linux.sysctl.clone(),
            devices: linux.devices.iter().filter_map(device_node).collect::<Result<_, _>>()?,
            shm_size_bytes: mounts.shm_bytes.unwrap_or(SHM_DEFAULT_BYTES),
            show_cgroups: mounts.cgroups,
            delegate: false,
            writable_sys: false,
            host: HostNamespaces::default(),
            init: false,
            restore: None,
        },
        limits: limits(&linux.resources)?,
        devices: device_rules(&linux.resources.devices)?,
        layer,
    })
}

fn refuse(properties: &[(Given, &str)]) -> Result<(), ConfigError> {
    match properties.iter().find(|(given, _)| given.0) {
        Some((_, name)) => Err(ConfigError::Unsupported((*name).to_owned())),
        None => Ok(()),
    }
}

fn refuse_linux(linux: &Linux) -> Result<(), ConfigError> {
    if !matches!(linux.rootfs_propagation.as_str(), "" | "private" | "rprivate" | "slave" | "rslave") {
        return Err(ConfigError::Unsupported(format!(
            "linux.rootfsPropagation {:?}",
            linux.rootfs_propagation
        )));
    }
    refuse(&[
        (linux.mount_label, "linux.mountLabel"),
        (linux.intel_rdt, "linux.intelRdt"),
        (linux.personality, "linux.personality"),
        (linux.memory_policy, "linux.memoryPolicy"),
        (linux.time_offsets, "linux.timeOffsets"),
        (linux.net_devices, "linux.netDevices"),
    ])
}

struct Namespaces {
    network: NetworkNamespace,
    user: bool,
}

fn namespaces(linux: &Linux) -> Result<Namespaces, ConfigError> {
    let mut found = Namespaces { network: NetworkNamespace::Host, user: false };
    let mut own = Vec::new();
    for namespace in &linux.namespaces {
        let kind = namespace.kind.as_str();
        match (kind, namespace.path.as_str()) {
            ("network", "") => found.network = NetworkNamespace::Private,
            ("network", path) => found.network = NetworkNamespace::Path(path.into()),
            ("user", "") => found.user = true,
            ("pid" | "ipc" | "uts" | "mount" | "cgroup", "") => {}
            ("pid" | "ipc" | "uts" | "mount" | "cgroup" | "user" | "time", path) => {
                let what = if path.is_empty() { "" } else { " with a path" };
                return Err(ConfigError::Unsupported(format!(
                    "a {kind} namespace{what} in linux.namespaces"
                )));
            }
            _ => return Err(bad("linux.namespaces", format!("has the unknown type {kind:?}"))),
        }
        if own.contains(&kind) {
            return Err(bad("linux.namespaces", format!("names {kind} twice")));
        }
        own.push(kind);
    }
    for kind in ["pid", "ipc", "uts", "mount"] {
        if !own.contains(&kind) {
            return Err(ConfigError::Unsupported(format!(
                "the host's {kind} namespace (linux.namespaces has no {kind:?})"
            )));
        }
    }
    Ok(found)
}

fn id_map(linux: &Linux) -> Result<IdMap, ConfigError> {
    match (linux.uid_mappings.as_slice(), linux.gid_mappings.as_slice()) {
        ([uids], [gids]) if uids == gids && uids.container_id == 0 => {
            Ok(IdMap { host_base: uids.host_id, size: uids.size })
        }
        ([], _) | (_, []) => {
            Err(bad("linux.uidMappings, linux.gidMappings", "are needed with a user namespace"))
        }
        _ => Err(ConfigError::Unsupported(
            "other than one range from 0 on, the same in linux.uidMappings and linux.gidMappings,".to_owned(),
        )),
    }
}

fn rootfs(config: &Config, place: Place<'_>) -> Result<(RootfsSpec, Option<PathBuf>), ConfigError> {
    let root = config.root.as_ref().ok_or_else(|| bad("root", "is missing"))?;
    if root.path.is_empty() {
        return Err(bad("root.path", "is empty"));
    }
    let path = place.bundle.join(&root.path);
    let asked = config.annotations.get(OVERLAY_ANNOTATION).map(Path::new);
    let Some(above) = place.overlay.or(asked) else {
        let plain = RootfsSpec {
            layer_root: path,
            layers: Vec::new(),
            writable: PathBuf::new(),
            ephemeral: false,
            read_only: root.readonly,
        };
        return Ok((plain, None));
    };
    if !above.is_absolute() {
        return Err(bad(OVERLAY_ANNOTATION, format!("{} is not an absolute path", above.display())));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(bad("root.path", format!("{} cannot be below a layer", path.display())));
    };
    // A name of its own: that of an earlier container with the same id may still be being removed.
    let writable = above.join(format!("{}.{}", place.id, place.maker));
    let overlay = RootfsSpec {
        layer_root: parent.to_owned(),
        layers: vec![name.into()],
        writable: writable.clone(),
        ephemeral: true,
        read_only: root.readonly,
    };
    Ok((overlay, Some(writable)))
}

fn cgroup(linux: &Linux, place: Place<'_>) -> Result<PathBuf, ConfigError> {
    let asked = place.cgroup.unwrap_or(&linux.cgroups_path);
    if asked.contains(':') {
        return Err(ConfigError::Unsupported(format!("the systemd form of linux.cgroupsPath {asked:?}")));
    }
    if asked.is_empty() {
        return Ok(Path::new(DEFAULT_GROUP).join(place.id));
    }
    Ok(match asked.strip_prefix('/') {
        Some(absolute) => absolute.into(),
        None => Path::new(DEFAULT_GROUP).join(asked),
    })
}

/// Translates a process with the filter that the configuration has for all of them.
pub(super) fn process_spec(process: &Process, linux: &Linux) -> Result<ProcessSpec, ConfigError> {
    refuse(&[
        (process.apparmor_profile, "process.apparmorProfile"),
        (process.selinux_label, "process.selinuxLabel"),
        (process.scheduler, "process.scheduler"),
        (process.io_priority, "process.ioPriority"),
        (process.exec_cpu_affinity, "process.execCPUAffinity"),
    ])?;
    if process.user.umask.is_some_and(|umask| umask != 0o022) {
        return Err(ConfigError::Unsupported("process.user.umask other than 18 (022)".to_owned()));
    }
    let none = Capabilities::default();
    let capabilities = process.capabilities.as_ref().unwrap_or(&none);
    let set = |names: &[String], property: &str| {
        let number = |name: &String| {
            names::capability(name).ok_or_else(|| {
                bad(
                    format!("process.capabilities.{property}"),
                    format!("has the unknown capability {name:?}"),
                )
            })
        };
        names.iter().map(number).collect::<Result<Vec<u8>, _>>()
    };
    let limit = |limit: &super::config::Rlimit| {
        let resource = names::limit(&limit.kind)
            .ok_or_else(|| bad("process.rlimits", format!("has the unknown type {:?}", limit.kind)))?;
        if limit.soft > limit.hard {
            return Err(bad("process.rlimits", format!("has a soft {} above its hard one", limit.kind)));
        }
        Ok(Rlimit { resource, soft: limit.soft, hard: limit.hard })
    };
    Ok(ProcessSpec {
        args: process.args.clone(),
        env: process.env.clone(),
        cwd: process.cwd.clone(),
        user: format!("{}:{}", process.user.uid, process.user.gid),
        groups: process.user.additional_gids.iter().map(ToString::to_string).collect(),
        ids: IdSource::Numbers,
        capabilities: set(&capabilities.bounding, "bounding")?,
        capability_sets: Some(CapabilitySets {
            permitted: set(&capabilities.permitted, "permitted")?,
            effective: set(&capabilities.effective, "effective")?,
            inheritable: set(&capabilities.inheritable, "inheritable")?,
            ambient: set(&capabilities.ambient, "ambient")?,
        }),
        no_new_privs: process.no_new_privileges,
        apparmor: None,
        seccomp: linux.seccomp.as_ref().map_or(Ok(Seccomp::Unconfined), filter)?,
        rlimits: process.rlimits.iter().map(limit).collect::<Result<_, _>>()?,
        terminal: process.terminal,
        terminal_size: process.console_size.map(|size| (size.height, size.width)),
        stdin: true,
        oom_score_adj: process.oom_score_adj,
    })
}

/// What the list of mounts comes to.
#[derive(Debug, Default)]
struct Mounts {
    others: Vec<MountSpec>,
    shm_bytes: Option<u64>,
    cgroups: bool,
}

fn mounts(all: &[Mount], memory_bytes: u64) -> Result<Mounts, ConfigError> {
    let mut mounts = Mounts::default();
    for mount in all {
        let place = format!("mounts[{}]", mount.destination);
        if mount.uid_mappings.0 || mount.gid_mappings.0 {
            return Err(ConfigError::Unsupported(format!("an id mapping in {place}")));
        }
        if let Some(options) = standard(mount) {
            let asked = check_standard(mount, options, &place)?;
            match mount.destination.as_str() {
                "/dev/shm" => mounts.shm_bytes = asked,
                "/sys/fs/cgroup" => mounts.cgroups = true,
                _ => {}
            }
            continue;
        }
        mounts.others.push(other(mount, memory_bytes, &place)?);
    }
    Ok(mounts)
}

/// Flags that a standard mount has anyway, or that make no difference to it.
const HARMLESS: [&str; 11] = [
    "nosuid",
    "noexec",
    "nodev",
    "relatime",
    "norelatime",
    "noatime",
    "strictatime",
    "nodiratime",
    "private",
    "rprivate",
    "rw",
];

/// Returns the options that a standard mount may have besides [`HARMLESS`] ones; `None` for others.
fn standard(mount: &Mount) -> Option<&'static [&'static str]> {
    Some(match (mount.destination.as_str(), mount.kind.as_str()) {
        ("/proc", "proc") | ("/dev/mqueue", "mqueue") => &[],
        ("/dev", "tmpfs") => &["mode=755", "mode=0755", "size="],
        ("/dev/pts", "devpts") => {
            &["newinstance", "ptmxmode=0666", "ptmxmode=666", "mode=0620", "mode=620", "gid=5"]
        }
        ("/dev/shm", "tmpfs") => &["mode=1777", "mode=01777", "size="],
        ("/sys", "sysfs") | ("/sys/fs/cgroup", "cgroup" | "cgroup2") => &["ro", "rro", "slave", "rslave"],
        _ => return None,
    })
}

/// Makes sure that a standard mount as we make it is what is asked for; returns its size.
fn check_standard(mount: &Mount, known: &[&str], place: &str) -> Result<Option<u64>, ConfigError> {
    let mut size = None;
    for option in &mount.options {
        if let (Some(value), true) = (option.strip_prefix("size="), known.contains(&"size=")) {
            size = Some(bytes(value).ok_or_else(|| bad(place, format!("has the bad option {option:?}")))?);
        } else if !known.contains(&option.as_str()) && !HARMLESS.contains(&option.as_str()) {
            return Err(ConfigError::Unsupported(format!("the option {option:?} of {place}")));
        }
    }
    let read_only = mount.options.iter().any(|option| option == "ro" || option == "rro");
    if known.contains(&"ro") && !read_only {
        return Err(ConfigError::Unsupported(format!("{place} without the option \"ro\"")));
    }
    Ok(size)
}

fn other(mount: &Mount, memory_bytes: u64, place: &str) -> Result<MountSpec, ConfigError> {
    let bound = |option: &String| option == "bind" || option == "rbind";
    let is_bind = mount.kind == "bind" || mount.options.iter().any(bound);
    if !is_bind && mount.kind != "tmpfs" {
        return Err(ConfigError::Unsupported(format!("the type {:?} of {place}", mount.kind)));
    }
    let (mut size_bytes, mut mode) = (memory_bytes / 2, 0o1777);
    let mut spec = MountSpec {
        source: MountSource::Bind { path: PathBuf::from(&mount.source), idmap: false },
        target: mount.destination.clone(),
        read_only: false,
        no_exec: false,
        shallow: !mount.options.iter().any(|option| option == "rbind"),
    };
    for option in &mount.options {
        match option.as_str() {
            "ro" | "rro" => spec.read_only = true,
            "noexec" => spec.no_exec = true,
            "bind" | "rbind" | "exec" | "rw" | "nosuid" | "nodev" | "private" | "rprivate" | "slave"
            | "rslave" | "relatime" | "norelatime" | "noatime" | "strictatime" | "nodiratime" => {}
            text => {
                let tmpfs = |key| if is_bind { None } else { text.strip_prefix(key) };
                if let Some(value) = tmpfs("size=").and_then(bytes) {
                    size_bytes = value;
                } else if let Some(value) = tmpfs("mode=").and_then(|mode| u32::from_str_radix(mode, 8).ok())
                {
                    mode = value;
                } else {
                    return Err(ConfigError::Unsupported(format!("the option {option:?} of {place}")));
                }
            }
        }
    }
    if !is_bind {
        spec.source = MountSource::Tmpfs { size_bytes, mode };
    } else if !Path::new(&mount.source).is_absolute() {
        return Err(bad(place, format!("has the source {:?}, which is not an absolute path", mount.source)));
    }
    Ok(spec)
}

/// Reads a size as tmpfs does, but for percentages: a number with `k`, `m` or `g`.
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (text.strip_suffix(['k', 'K'])?, 10),
        b'm' => (text.strip_suffix(['m', 'M'])?, 20),
        b'g' => (text.strip_suffix(['g', 'G'])?, 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Returns the node that a device asks for; `None` for those that are there anyway.
fn device_node(device: &Device) -> Option<Result<DeviceNode, ConfigError>> {
    const THERE: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"];
    let place = || format!("linux.devices[{}]", device.path);
    let Some(path) = device.path.strip_prefix("/dev/") else {
        return Some(Err(ConfigError::Unsupported(format!("{}, which is not below /dev,", place()))));
    };
    if THERE.contains(&path) {
        return None;
    }
    let character = match device.kind.as_str() {
        "c" | "u" => true,
        "b" => false,
        kind => return Some(Err(ConfigError::Unsupported(format!("the type {kind:?} of {}", place())))),
    };
    if device.uid != 0 || device.gid != 0 {
        return Some(Err(ConfigError::Unsupported(format!("an owner other than root of {}", place()))));
    }
    let (major, minor) = (device.major, device.minor);
    let mode = device.file_mode.unwrap_or(0o666);
    Some(Ok(DeviceNode { path: path.to_owned(), character, major, minor, mode }))
}

/// Returns the standard rules and those that the configuration adds; everything else is denied.
fn device_rules(rules: &[DeviceAccess]) -> Result<Vec<DeviceRule>, ConfigError> {
    const PROPERTY: &str = "linux.resources.devices";
    let mut all = DeviceRule::standard();
    for rule in rules {
        let any = |number: Option<i64>| number.is_none_or(|number| number < 0);
        if !rule.allow {
            if any(rule.major) && any(rule.minor) && matches!(rule.kind.as_str(), "" | "a") {
                continue;
            }
            return Err(ConfigError::Unsupported(format!("in {PROPERTY} the denial of a single device")));
        }
        let kind = match rule.kind.as_str() {
            "c" => DeviceKind::Character,
            "b" => DeviceKind::Block,
            _ => {
                return Err(ConfigError::Unsupported(format!("in {PROPERTY} the permission of all devices")));
            }
        };
        let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
        let major = number(rule.major)
            .ok_or_else(|| ConfigError::Unsupported(format!("in {PROPERTY} a permission without a major")))?;
        let access = Access {
            read: rule.access.contains('r'),
            write: rule.access.contains('w'),
            make: rule.access.contains('m'),
        };
        all.push(DeviceRule { kind, major, minor: number(rule.minor), access });
    }
    Ok(all)
}
