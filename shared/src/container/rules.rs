//! What of a container's specification is acceptable, as far as no host is needed to tell.

use super::{AppArmorMode, ContainerSpec, HostNamespace, Limits, NetworkMode, RestartPolicy, SeccompMode};
use crate::kernel::{RLIMITS_OF_OPERATORS, check_sysctl, check_ulimit, huge_page_bytes, number_list};
use crate::name;
use crate::network::PortMapping;
use crate::problem::FieldProblem;
use crate::volume::VolumeSource;

/// Least memory limit; below it not even a shell starts.
pub const MEMORY_LIMIT_MIN_BYTES: u64 = 6 * 1024 * 1024;
/// Most bytes of all arguments and environment variables together.
pub const ARGUMENTS_MAX_BYTES: usize = 128 * 1024;
/// Most further groups of a container's processes.
pub const GROUPS_MAX: usize = 64;

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
        match &self.apparmor {
            AppArmorMode::Default => {}
            AppArmorMode::Unconfined => found.push("no AppArmor profile".to_owned()),
            AppArmorMode::Profile(name) => found.push(format!("the AppArmor profile {name}")),
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
        if let AppArmorMode::Profile(name) = &self.apparmor {
            let is_name = (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_name {
                found.add("apparmor.profile", "the name of a profile has 1 to 255 letters, digits and signs");
            }
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
