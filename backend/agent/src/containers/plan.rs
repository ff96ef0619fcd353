//! From what was asked for and what the image says to what is launched: pure.
//!
//! Docker's rules for entrypoint and command; default capabilities less `NET_RAW` and `MKNOD`. Everything that needs a look at the host arrives as an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use wharf_image::ImageConfig;
use wharf_runtime::spec::{
    DEFAULT_READ_ONLY_PATHS, DeviceNode, HostNamespaces, IdMap, IdSource, LaunchSpec, LogSpec, MountSource,
    MountSpec, NetworkNamespace, ProcessSpec, RestoreSpec, Rlimit, RootfsSpec, SPEC_VERSION, Seccomp,
};
use wharf_shared::container::{
    CAPABILITIES, ContainerSpec, DEFAULT_CAPABILITIES, ExecSpec, HostNamespace, NetworkMode,
    capability_number, signal_number,
};
use wharf_shared::id::ContainerId;
use wharf_shared::kernel::rlimit_number;
use wharf_shim::paths::StateDir;

/// `RLIMIT_NOFILE` (getrlimit(2)).
const RLIMIT_NOFILE: u32 = 7;
/// `RLIMIT_CORE`: no container writes cores unless it raises the soft limit itself.
const RLIMIT_CORE: u32 = 4;
/// Open files when nothing is said: enough for servers, and within an unprivileged host's bound.
const OPEN_FILES_DEFAULT: u64 = 16_384;
/// Docker's default size of `/dev/shm`.
const SHM_DEFAULT_BYTES: u64 = 64 * 1024 * 1024;
/// Volumes that an image may bring along: it is the tenant's disk and list that they fill.
const IMAGE_VOLUMES_MAX: usize = 32;
/// Where every distribution has its init system.
const SYSTEM_INIT: &str = "/sbin/init";
/// What asks systemd to halt (`systemd(1)`, "SIGRTMIN+3"), as the C library counts real-time signals.
const SYSTEM_STOP_SIGNAL: i32 = 34 + 3;
/// What an init system keeps in memory, and how much of it: nothing of it may survive a start.
const SYSTEM_TMPFS: [(&str, u64); 2] = [("/run", 64 << 20), ("/run/lock", 5 << 20)];
/// Docker's default search path.
const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All that a launch depends on besides what was asked for.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) id: &'a ContainerId,
    pub(crate) generation: u64,
    pub(crate) image: &'a ImageConfig,
    /// Relative to `layer_root`, uppermost first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) layer_root: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) state_dir: StateDir,
    pub(crate) cgroup: PathBuf,
    /// First host id of the tenant.
    pub(crate) id_base: u32,
    /// Volumes and host paths, resolved: source on the host, and whether ids are shifted.
    pub(crate) mounts: Vec<MountSpec>,
    pub(crate) devices: Vec<DeviceNode>,
    /// A checkpoint to start from.
    pub(crate) restore: Option<RestoreSpec>,
    /// What this host hides from containers.
    pub(crate) masked_paths: Vec<String>,
    /// Its system call filter ([`super::filter`]).
    pub(crate) seccomp: Seccomp,
    /// Its AppArmor profile ([`super::label`]).
    pub(crate) apparmor: Option<String>,
}

/// The container cannot be launched as it was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PlanError {
    #[error("neither the container nor its image says what to run; give a command")]
    NoCommand,
    #[error(
        "the image declares {count} volumes and a container gets at most {IMAGE_VOLUMES_MAX}; mount them by name"
    )]
    ManyVolumes { count: usize },
}

/// The command line: Docker's rule. An entrypoint that was given drops the image's command.
pub(crate) fn command_line(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, PlanError> {
    let (entrypoint, command) = match (&spec.entrypoint, &spec.command) {
        (Some(entrypoint), command) => (entrypoint, command.clone().unwrap_or_default()),
        (None, Some(command)) => (&image.config.entrypoint, command.clone()),
        (None, None) => (&image.config.entrypoint, image.config.cmd.clone()),
    };
    let mut line: Vec<String> = entrypoint.iter().cloned().chain(command).collect();
    if line.is_empty() && spec.system {
        line.push(SYSTEM_INIT.to_owned());
    }
    if line.first().is_none_or(String::is_empty) { Err(PlanError::NoCommand) } else { Ok(line) }
}

/// The paths that the image declares as volumes and nothing is mounted on: each gets a volume of the
/// container's own.
pub(crate) fn image_volumes(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, PlanError> {
    let plain = |path: &str| {
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        format!("/{}", parts.join("/"))
    };
    let mounted: BTreeSet<String> = spec.volumes.iter().map(|mount| plain(&mount.target)).collect();
    let declared: BTreeSet<String> = image.config.volumes.iter().map(|path| plain(path)).collect();
    let wanted: Vec<String> = declared.difference(&mounted).cloned().collect();
    let count = wanted.len();
    if count > IMAGE_VOLUMES_MAX { Err(PlanError::ManyVolumes { count }) } else { Ok(wanted) }
}

/// The signal that asks this container to stop.
pub(crate) fn stop_signal(spec: &ContainerSpec, image: &ImageConfig) -> i32 {
    const SIGTERM: i32 = 15;
    spec.stop_signal
        .as_deref()
        .and_then(signal_number)
        .or_else(|| image.config.stop_signal.as_deref().and_then(signal_number))
        .unwrap_or(if spec.system { SYSTEM_STOP_SIGNAL } else { SIGTERM })
}

/// Everything the launch needs.
pub(crate) fn launch_spec(spec: &ContainerSpec, facts: Facts<'_>) -> Result<LaunchSpec, PlanError> {
    let args = command_line(spec, facts.image)?;
    let hostname = spec.hostname.clone().unwrap_or_else(|| facts.id.short().to_owned());
    let state = facts.state_dir.path().to_owned();
    let mut mounts = Vec::new();
    if spec.network != NetworkMode::Host {
        for file in ["hosts", "resolv.conf", "hostname"] {
            mounts.push(MountSpec {
                source: MountSource::Bind { path: state.join(file), idmap: false },
                target: format!("/etc/{file}"),
                read_only: true,
                no_exec: false,
                shallow: false,
            });
        }
    }
    if spec.system {
        let missing = |target: &str| facts.mounts.iter().all(|mount| mount.target != target);
        let wanted = SYSTEM_TMPFS.into_iter().filter(|(target, _)| missing(target));
        mounts.extend(wanted.map(|(target, size_bytes)| MountSpec {
            source: MountSource::Tmpfs { size_bytes, mode: 0o755 },
            target: target.to_owned(),
            read_only: false,
            no_exec: false,
            shallow: false,
        }));
    }
    mounts.extend(facts.mounts);
    // What lies above is mounted first, or it would cover what lies below.
    mounts.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
    let mut sysctls = match spec.network {
        // As Docker: a container's own ports need no privilege, its own pings no raw socket.
        NetworkMode::Tenant | NetworkMode::None => BTreeMap::from([
            ("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned()),
            ("net.ipv4.ping_group_range".to_owned(), "0 65535".to_owned()),
        ]),
        NetworkMode::Host => BTreeMap::new(),
    };
    sysctls.extend(spec.sysctls.clone());
    // With a network the agent sees to it, before there is a link. A kernel without IPv6 has no such thing.
    if spec.network == NetworkMode::None && Path::new("/proc/sys/net/ipv6").exists() {
        sysctls.extend(
            ["all", "default"].map(|links| (format!("net.ipv6.conf.{links}.disable_ipv6"), "1".to_owned())),
        );
    }
    Ok(LaunchSpec {
        version: SPEC_VERSION,
        id: facts.id.to_string(),
        generation: facts.generation,
        run_dir: facts.run_dir,
        state_dir: state.clone(),
        log: LogSpec {
            dir: facts.state_dir.log(),
            max_file_bytes: spec.log.max_file_bytes,
            max_files: spec.log.max_files,
        },
        process: ProcessSpec {
            args,
            env: environment(spec, facts.image, &hostname),
            cwd: workdir(spec.workdir.as_deref(), facts.image),
            user: spec.user.clone().unwrap_or_else(|| facts.image.config.user.clone()),
            groups: spec.group_add.clone(),
            ids: IdSource::Files,
            capabilities: capabilities(spec),
            capability_sets: None,
            no_new_privs: no_new_privileges(spec),
            seccomp: facts.seccomp,
            apparmor: facts.apparmor,
            rlimits: rlimits(spec),
            terminal: spec.terminal,
            terminal_size: None,
            stdin: spec.stdin,
            // The agent and its supervisors may be spared by the kernel; what tenants run is not.
            oom_score_adj: Some(0),
        },
        hostname,
        rootfs: RootfsSpec {
            layer_root: facts.layer_root,
            layers: facts.layers,
            writable: state,
            ephemeral: false,
            read_only: spec.read_only,
        },
        mounts,
        id_map: id_base(spec, facts.id_base).map(|host_base| IdMap { host_base, size: 65_536 }),
        network: match spec.network {
            NetworkMode::Tenant | NetworkMode::None => NetworkNamespace::Private,
            NetworkMode::Host => NetworkNamespace::Host,
        },
        host: HostNamespaces {
            pid: spec.shares(HostNamespace::Pid),
            ipc: spec.shares(HostNamespace::Ipc),
            uts: spec.shares(HostNamespace::Uts),
        },
        cgroup: facts.cgroup,
        masked_paths: if spec.privileged { Vec::new() } else { facts.masked_paths },
        read_only_paths: if spec.privileged {
            Vec::new()
        } else {
            DEFAULT_READ_ONLY_PATHS.map(str::to_owned).to_vec()
        },
        sysctls,
        devices: facts.devices,
        shm_size_bytes: spec.limits.shm_bytes.unwrap_or(SHM_DEFAULT_BYTES),
        show_cgroups: true,
        delegate: spec.system,
        writable_sys: spec.privileged,
        init: spec.init,
        restore: facts.restore,
    })
}

/// First id on the host of the container's own; `None` where its ids are the host's.
pub(crate) fn id_base(spec: &ContainerSpec, of_tenant: u32) -> Option<u32> {
    (!spec.shares(HostNamespace::User)).then_some(of_tenant)
}

/// A further process with the rights of the container's first.
pub(crate) fn exec_process(
    exec: &ExecSpec,
    spec: &ContainerSpec,
    image: &ImageConfig,
    hostname: &str,
    (seccomp, apparmor): (Seccomp, Option<String>),
) -> ProcessSpec {
    let mut env = environment(spec, image, hostname);
    set_all(&mut env, &exec.env);
    if exec.terminal && !spec.terminal {
        set(&mut env, "TERM", "xterm");
    }
    ProcessSpec {
        args: exec.command.clone(),
        env,
        cwd: exec.workdir.clone().unwrap_or_else(|| workdir(spec.workdir.as_deref(), image)),
        user: exec.user.clone().or_else(|| spec.user.clone()).unwrap_or_else(|| image.config.user.clone()),
        groups: spec.group_add.clone(),
        ids: IdSource::Files,
        capabilities: capabilities(spec),
        capability_sets: None,
        no_new_privs: no_new_privileges(spec),
        seccomp,
        apparmor,
        rlimits: rlimits(spec),
        terminal: exec.terminal,
        terminal_size: exec.terminal_size,
        stdin: exec.stdin,
        oom_score_adj: Some(0),
    }
}

fn environment(spec: &ContainerSpec, image: &ImageConfig, hostname: &str) -> Vec<String> {
    let mut env = vec![PATH_DEFAULT.to_owned()];
    set(&mut env, "HOSTNAME", hostname);
    if spec.system {
        // By this an init system knows where it is (https://systemd.io/CONTAINER_INTERFACE).
        set(&mut env, "container", "wharf");
    }
    if spec.terminal {
        set(&mut env, "TERM", "xterm");
    }
    for pair in &image.config.env {
        if let Some((key, value)) = pair.split_once('=') {
            set(&mut env, key, value);
        }
    }
    set_all(&mut env, &spec.env);
    env
}

fn set_all(env: &mut Vec<String>, values: &BTreeMap<String, String>) {
    for (key, value) in values {
        set(env, key, value);
    }
}

fn set(env: &mut Vec<String>, key: &str, value: &str) {
    env.retain(|pair| pair.split_once('=').is_none_or(|(known, _)| known != key));
    env.push(format!("{key}={value}"));
}

fn workdir(asked: Option<&str>, image: &ImageConfig) -> String {
    let workdir = asked.unwrap_or(&image.config.working_dir);
    if workdir.starts_with('/') { workdir.to_owned() } else { format!("/{workdir}") }
}

fn no_new_privileges(spec: &ContainerSpec) -> bool {
    !spec.new_privileges && !spec.privileged
}

/// Its capabilities, by the kernel's number.
pub(crate) fn capabilities(spec: &ContainerSpec) -> Vec<u8> {
    if spec.privileged {
        return CAPABILITIES.iter().filter_map(|name| capability_number(name)).collect();
    }
    let plain = |name: &str| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned();
    let drop: Vec<String> = spec.cap_drop.iter().map(|name| plain(name)).collect();
    let base =
        DEFAULT_CAPABILITIES.iter().filter(|&&name| !drop.iter().any(|gone| gone == "ALL" || gone == name));
    let mut numbers: Vec<u8> =
        base.copied().chain(spec.cap_add.iter().map(String::as_str)).filter_map(capability_number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn rlimits(spec: &ContainerSpec) -> Vec<Rlimit> {
    let files = spec.limits.open_files.map_or(OPEN_FILES_DEFAULT, u64::from);
    let mut limits = BTreeMap::from([(RLIMIT_CORE, (0, u64::MAX)), (RLIMIT_NOFILE, (files, files))]);
    limits.extend(spec.ulimits.iter().filter_map(|(name, limit)| {
        // No limit is RLIM_INFINITY, the greatest number.
        Some((rlimit_number(name)?, (limit.soft.unwrap_or(u64::MAX), limit.hard.unwrap_or(u64::MAX))))
    }));
    limits.into_iter().map(|(resource, (soft, hard))| Rlimit { resource, soft, hard }).collect()
}

#[cfg(test)]
mod tests {
    use wharf_shared::kernel::Ulimit;
    use wharf_shared::volume::{VolumeMount, VolumeSource};

    use super::*;

    fn image() -> ImageConfig {
        let json = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},
            "config":{"Entrypoint":["/entry"],"Cmd":["serve"],"Env":["A=1","PATH=/bin"],"WorkingDir":"srv",
            "StopSignal":"SIGQUIT"}}"#;
        ImageConfig::parse(json.as_bytes()).expect("a valid configuration")
    }

    fn line(entrypoint: Option<&[&str]>, command: Option<&[&str]>) -> Result<Vec<String>, PlanError> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let spec = ContainerSpec {
            entrypoint: entrypoint.map(words),
            command: command.map(words),
            ..ContainerSpec::default()
        };
        command_line(&spec, &image())
    }

    #[test]
    fn entrypoint_and_command_combine_as_docker_does() {
        assert_eq!(line(None, None).expect("image's own"), ["/entry", "serve"]);
        assert_eq!(line(None, Some(&["x"])).expect("command replaced"), ["/entry", "x"]);
        assert_eq!(line(Some(&["/e"]), None).expect("entrypoint drops the image's command"), ["/e"]);
        assert_eq!(line(Some(&["/e"]), Some(&["x"])).expect("both"), ["/e", "x"]);
        assert_eq!(line(Some(&[]), None), Err(PlanError::NoCommand));
    }

    #[test]
    fn an_image_volume_that_nothing_is_mounted_on_gets_one_of_its_own() {
        let mut image = image();
        image.config.volumes = ["/data/", "/srv/./www", "/data", "/logs"].map(str::to_owned).into();
        let mount = VolumeMount {
            source: VolumeSource::Tmpfs(1 << 20),
            target: "/logs/".to_owned(),
            read_only: false,
        };
        let spec = ContainerSpec { volumes: vec![mount], ..ContainerSpec::default() };
        assert_eq!(image_volumes(&spec, &image).expect("few"), ["/data", "/srv/www"]);
        image.config.volumes = (0..40).map(|number| format!("/v{number}")).collect();
        assert_eq!(image_volumes(&spec, &image), Err(PlanError::ManyVolumes { count: 40 }));
    }

    #[test]
    fn the_containers_environment_wins_over_the_images_and_ours() {
        let spec = ContainerSpec {
            env: BTreeMap::from([("A".to_owned(), "2".to_owned())]),
            ..ContainerSpec::default()
        };
        let env = environment(&spec, &image(), "box");
        assert_eq!(env, ["HOSTNAME=box", "PATH=/bin", "A=2"]);
    }

    #[test]
    fn dropping_all_capabilities_leaves_only_those_added() {
        let spec = ContainerSpec {
            cap_drop: vec!["ALL".to_owned()],
            cap_add: vec!["CAP_NET_BIND_SERVICE".to_owned()],
            ..ContainerSpec::default()
        };
        assert_eq!(capabilities(&spec), [10]);
        assert!(!capabilities(&ContainerSpec::default()).contains(&13), "NET_RAW is not a default");
    }

    #[test]
    fn asked_limits_stand_beside_the_usual_ones() {
        let ulimits = BTreeMap::from([
            ("nofile".to_owned(), Ulimit { soft: Some(64), hard: Some(128) }),
            ("memlock".to_owned(), Ulimit { soft: None, hard: None }),
        ]);
        let spec = ContainerSpec { ulimits, ..ContainerSpec::default() };
        let limits: Vec<_> =
            rlimits(&spec).into_iter().map(|limit| (limit.resource, limit.soft, limit.hard)).collect();
        assert_eq!(limits, [(4, 0, u64::MAX), (7, 64, 128), (8, u64::MAX, u64::MAX)]);
    }

    #[test]
    fn stop_signal_and_workdir_come_from_the_image_unless_given() {
        assert_eq!(stop_signal(&ContainerSpec::default(), &image()), 3);
        assert_eq!(workdir(None, &image()), "/srv");
        assert_eq!(workdir(Some("/x"), &image()), "/x");
    }
}
