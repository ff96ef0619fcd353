//! What people type for `run`, read as Docker reads it and turned into a container's specification.
//!
//! Pure: the environment and files that `-e` and `--env-file` refer to are passed in.

use std::collections::BTreeMap;

use wharf_shared::container::{AppArmorMode, NetworkMode, RestartPolicy, SeccompMode};
use wharf_shared::health::{HealthAction, HttpTest};
use wharf_shared::kernel::Ulimit;
use wharf_shared::volume::{VolumeMount, VolumeSource};

use crate::quantity::size_bytes;

/// What a memory limit without a swap limit may swap at most: the wire's largest.
const SWAP_UNLIMITED_BYTES: u64 = 1 << 50;
/// Size of a `--tmpfs` without one, as of `/dev/shm`.
const TMPFS_BYTES: u64 = 64 << 20;

/// Reads `-v`: `name:/path[:ro|rw]` or `/host/path:/path[:ro|rw]`.
pub(crate) fn volume(text: &str) -> Result<VolumeMount, String> {
    let bad = || format!("{text:?} is no mount; write NAME:/PATH[:ro] or /HOST/PATH:/PATH[:ro]");
    let mut parts = text.split(':');
    let (source, target, mode) = (parts.next(), parts.next(), parts.next());
    let (Some(source), Some(target), None) = (source, target, parts.next()) else { return Err(bad()) };
    let read_only = match mode {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(_) => return Err(bad()),
    };
    if source.is_empty() || !target.starts_with('/') {
        return Err(bad());
    }
    let source = if source.starts_with('/') {
        VolumeSource::Host(source.to_owned())
    } else {
        VolumeSource::Volume(source.to_owned())
    };
    source.check()?;
    Ok(VolumeMount { source, target: target.to_owned(), read_only })
}

/// Reads `--tmpfs`: `/path[:size=64m]`.
pub(crate) fn tmpfs(text: &str) -> Result<VolumeMount, String> {
    let bad = || format!("{text:?} is no tmpfs; write /PATH[:size=64m]");
    let (target, options) = text.split_once(':').map_or((text, None), |(path, rest)| (path, Some(rest)));
    let size = match options {
        None => TMPFS_BYTES,
        Some(options) => size_bytes(options.strip_prefix("size=").ok_or_else(bad)?)?,
    };
    if !target.starts_with('/') {
        return Err(bad());
    }
    Ok(VolumeMount { source: VolumeSource::Tmpfs(size), target: target.to_owned(), read_only: false })
}

/// Reads `--restart`: `no`, `always`, `unless-stopped` or `on-failure[:N]`.
pub(crate) fn restart(text: &str) -> Result<RestartPolicy, String> {
    match text.split_once(':').map_or((text, None), |(policy, count)| (policy, Some(count))) {
        ("no", None) => Ok(RestartPolicy::No),
        ("always", None) => Ok(RestartPolicy::Always),
        ("unless-stopped", None) => Ok(RestartPolicy::UnlessStopped),
        ("on-failure", None) => Ok(RestartPolicy::OnFailure { max_retries: 0 }),
        ("on-failure", Some(count)) => match count.parse() {
            Ok(max_retries) => Ok(RestartPolicy::OnFailure { max_retries }),
            Err(_) => Err(format!("{count:?} is no number of restarts")),
        },
        _ => Err(format!("{text:?} is no policy; write no, always, unless-stopped or on-failure[:N]")),
    }
}

/// Reads `--network`.
pub(crate) fn network(text: &str) -> Result<NetworkMode, String> {
    match text {
        "tenant" | "bridge" => Ok(NetworkMode::Tenant),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ => Err(format!("{text:?} is no network; write tenant, none or host")),
    }
}

/// Reads `--ulimit`: `name=soft[:hard]`; -1 or `unlimited` for none.
pub(crate) fn ulimit(text: &str) -> Result<(String, Ulimit), String> {
    let bad = || format!("{text:?} is no limit; write NAME=SOFT[:HARD], such as nofile=1024:4096");
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(None),
        text => text.parse().map(Some).map_err(|_not_a_number| bad()),
    };
    let (name, limit) = text.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = limit.split_once(':').unwrap_or((limit, limit));
    Ok((name.to_owned(), Ulimit { soft: number(soft)?, hard: number(hard)? }))
}

/// Reads `--sysctl`: `name=value`.
pub(crate) fn sysctl(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no kernel parameter; write NAME=VALUE")),
    }
}

/// Reads `--device`: Docker's form too, as long as the device keeps its name and all its rights.
pub(crate) fn device(text: &str) -> Result<String, String> {
    let bad =
        || format!("{text:?}: a device keeps its name and may be read and written; write just its path");
    let mut parts = text.split(':');
    let path = parts.next().unwrap_or_default();
    let inside = parts.next().unwrap_or(path);
    let rights = parts.next().unwrap_or("rwm");
    let whole = matches!(rights, "rwm" | "rw") && (inside == path || matches!(inside, "rwm" | "rw"));
    if whole && parts.next().is_none() { Ok(path.to_owned()) } else { Err(bad()) }
}

/// An option of `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecurityOption {
    /// Whether programs may gain privileges.
    NewPrivileges(bool),
    /// Which system calls are refused.
    Seccomp(SeccompMode),
    /// Which AppArmor profile it gets.
    AppArmor(AppArmorMode),
}

/// Reads `--security-opt`; a profile is read from its file.
pub(crate) fn security_option(text: &str) -> Result<SecurityOption, String> {
    let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    match (key, value) {
        ("no-new-privileges", "" | "true") => Ok(SecurityOption::NewPrivileges(false)),
        ("no-new-privileges", "false") => Ok(SecurityOption::NewPrivileges(true)),
        ("seccomp", "unconfined") => Ok(SecurityOption::Seccomp(SeccompMode::Unconfined)),
        ("seccomp", "builtin" | "default") => Ok(SecurityOption::Seccomp(SeccompMode::Default)),
        ("seccomp", file) if !file.is_empty() => match std::fs::read_to_string(file) {
            Ok(profile) => Ok(SecurityOption::Seccomp(SeccompMode::Profile(profile))),
            Err(error) => Err(format!("the profile {file} cannot be read: {error}")),
        },
        ("apparmor", "unconfined") => Ok(SecurityOption::AppArmor(AppArmorMode::Unconfined)),
        ("apparmor", "default") => Ok(SecurityOption::AppArmor(AppArmorMode::Default)),
        ("apparmor", name) if !name.is_empty() => {
            Ok(SecurityOption::AppArmor(AppArmorMode::Profile(name.to_owned())))
        }
        _ => Err(format!(
            "{text:?} is no option; write no-new-privileges[=false], seccomp=FILE, unconfined or default, or \
             apparmor=PROFILE, unconfined or default"
        )),
    }
}

/// Reads `--health-http`: `PORT[/PATH]`.
pub(crate) fn health_http(text: &str) -> Result<HttpTest, String> {
    let (port, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    let port = port.parse().map_err(|_not_a_port| format!("{text:?}: write PORT or PORT/PATH"))?;
    let path = if path.is_empty() { "/" } else { path };
    Ok(HttpTest { port, path: path.to_owned(), status_min: 200, status_max: 399 })
}

/// Reads `--health-http-status`: `200` or `200-299`.
pub(crate) fn health_status(text: &str) -> Result<(u16, u16), String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (least.parse(), most.parse()) {
        (Ok(least), Ok(most)) => Ok((least, most)),
        _ => Err(format!("{text:?} is no status; write 200 or 200-299")),
    }
}

/// Reads `--health-on-failure`, as Podman has it.
pub(crate) fn health_action(text: &str) -> Result<HealthAction, String> {
    match text {
        "none" => Ok(HealthAction::None),
        "restart" => Ok(HealthAction::Restart),
        _ => Err(format!("{text:?}: write none or restart")),
    }
}

/// Reads `key=value`; a key alone has an empty value.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(format!("{text:?} is no label; write NAME=VALUE"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads `--huge-pages`: the kernel's name for the size of the page, and bytes: `2MB=64m`.
pub(crate) fn huge_pages(text: &str) -> Result<(String, u64), String> {
    let (page, size) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is no limit; write PAGE=SIZE, such as 2MB=64m"))?;
    Ok((page.to_owned(), size_bytes(size)?))
}

/// Reads a rate in bytes; Docker's form names a device.
pub(crate) fn rate_bytes(text: &str) -> Result<u64, String> {
    size_bytes(without_device(text)?)
}

/// Reads a rate in operations; Docker's form names a device.
pub(crate) fn rate_ops(text: &str) -> Result<u32, String> {
    without_device(text)?.parse().map_err(|_not_a_number| format!("{text:?} is no number of operations"))
}

fn without_device(text: &str) -> Result<&str, String> {
    match text.split_once(':') {
        None => Ok(text),
        Some((_, rate)) => {
            Err(format!("the rate is that of the disk which the containers are on; write just {rate}"))
        }
    }
}

/// Swap on top of the memory, from Docker's `--memory-swap`, which counts both.
pub(crate) fn swap_bytes(memory_bytes: Option<u64>, memory_swap: &str) -> Result<u64, String> {
    if memory_swap == "-1" {
        return Ok(SWAP_UNLIMITED_BYTES);
    }
    let both = size_bytes(memory_swap)?;
    let memory = memory_bytes.ok_or("--memory-swap needs --memory")?;
    both.checked_sub(memory).ok_or_else(|| {
        "--memory-swap counts memory and swap together, so it cannot be less than --memory".to_owned()
    })
}

/// The environment of `--env-file` files and `-e` options; the later wins. A name without a value
/// takes the value it has here, and is left out when it has none.
pub(crate) fn environment(
    files: &[String],
    options: &[String],
    here: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut env = BTreeMap::new();
    // Docker's rules: no quotes, no expansion; blanks before a line go, those after it stay.
    let lines = files.iter().flat_map(|file| {
        let text = file.strip_prefix('\u{feff}').unwrap_or(file);
        text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
    });
    for line in lines.chain(options.iter().map(String::as_str)) {
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (line, here(line)),
        };
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(format!("{line:?} is no variable; write NAME=VALUE or NAME"));
        }
        if let Some(value) = value {
            env.insert(key.to_owned(), value);
        }
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_a_volume_or_a_path_of_the_host() {
        let mount = volume("data:/var/lib/x").expect("a volume");
        assert_eq!((mount.source, mount.read_only), (VolumeSource::Volume("data".to_owned()), false));
        let mount = volume("/srv/x:/x:ro").expect("a bind");
        assert_eq!((mount.source, mount.read_only), (VolumeSource::Host("/srv/x".to_owned()), true));
        for bad in ["", "/x", "data", "data:", "data:x", ":/x", "data:/x:z", "a:/b:ro:c", "a/b:/x", "../a:/x"]
        {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tmpfs_has_a_path_and_perhaps_a_size() {
        assert_eq!(tmpfs("/tmp").expect("a path").source, VolumeSource::Tmpfs(64 << 20));
        assert_eq!(tmpfs("/tmp:size=1m").expect("a size").source, VolumeSource::Tmpfs(1 << 20));
        for bad in ["tmp", "/tmp:1m", "/tmp:size=", ""] {
            assert!(tmpfs(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_docker_s_restart_policies() {
        assert_eq!(restart("no"), Ok(RestartPolicy::No));
        assert_eq!(restart("on-failure"), Ok(RestartPolicy::OnFailure { max_retries: 0 }));
        assert_eq!(restart("on-failure:3"), Ok(RestartPolicy::OnFailure { max_retries: 3 }));
        for bad in ["", "sometimes", "always:3", "on-failure:x", "on-failure:-1"] {
            assert!(restart(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_rates_of_the_containers_disk_and_huge_pages() {
        assert_eq!((rate_bytes("1m"), rate_ops("100")), (Ok(1 << 20), Ok(100)));
        assert!(rate_bytes("/dev/sda:1m").is_err_and(|why| why.contains("write just 1m")));
        assert!(rate_ops("/dev/sda:7").is_err() && rate_ops("7m").is_err());
        assert_eq!(huge_pages("2MB=64m"), Ok(("2MB".to_owned(), 64 << 20)));
        assert!(huge_pages("2MB").is_err());
    }

    #[test]
    fn reads_docker_s_ulimits_devices_and_security_options() {
        let limit = |soft, hard| Ulimit { soft, hard };
        assert_eq!(ulimit("nofile=5:9"), Ok(("nofile".to_owned(), limit(Some(5), Some(9)))));
        assert_eq!(ulimit("nproc=5"), Ok(("nproc".to_owned(), limit(Some(5), Some(5)))));
        assert_eq!(ulimit("core=0:-1"), Ok(("core".to_owned(), limit(Some(0), None))));
        assert!(ulimit("nofile").is_err() && ulimit("nofile=x").is_err());
        for fine in ["/dev/fuse", "/dev/fuse:/dev/fuse", "/dev/fuse:/dev/fuse:rwm", "/dev/fuse:rwm"] {
            assert_eq!(device(fine).as_deref(), Ok("/dev/fuse"), "{fine}");
        }
        for bad in ["/dev/fuse:/dev/other", "/dev/fuse:r", "/dev/fuse:/dev/fuse:r", "/dev/a:/dev/a:rw:x"] {
            assert!(device(bad).is_err(), "{bad}");
        }
        assert_eq!(security_option("no-new-privileges"), Ok(SecurityOption::NewPrivileges(false)));
        assert_eq!(security_option("no-new-privileges:true"), Ok(SecurityOption::NewPrivileges(false)));
        assert_eq!(security_option("no-new-privileges=false"), Ok(SecurityOption::NewPrivileges(true)));
        assert_eq!(
            security_option("seccomp=unconfined"),
            Ok(SecurityOption::Seccomp(SeccompMode::Unconfined))
        );
        assert_eq!(
            security_option("apparmor=web"),
            Ok(SecurityOption::AppArmor(AppArmorMode::Profile("web".to_owned())))
        );
        for bad in
            ["label=disable", "apparmor=", "seccomp", "seccomp=/no/such/file", "no-new-privileges=maybe"]
        {
            assert!(security_option(bad).is_err(), "{bad}");
        }
        assert!(sysctl("net.core.somaxconn").is_err());
    }

    #[test]
    fn reads_what_a_health_check_asks() {
        let test = health_http("8080/ready?x=1").expect("a test");
        assert_eq!((test.port, test.path.as_str()), (8080, "/ready?x=1"));
        assert_eq!(health_http("80").expect("a test").path, "/");
        assert!(health_http("/x").is_err() && health_http("99999").is_err());
        assert_eq!(health_status("200-299"), Ok((200, 299)));
        assert_eq!(health_status("204"), Ok((204, 204)));
        assert!(health_status("ok").is_err() && health_action("kill").is_err());
    }

    #[test]
    fn memory_swap_counts_both_as_docker_does() {
        assert_eq!(swap_bytes(Some(1 << 20), "3m"), Ok(2 << 20));
        assert_eq!(swap_bytes(Some(1 << 20), "1m"), Ok(0));
        assert_eq!(swap_bytes(Some(1 << 20), "-1"), Ok(SWAP_UNLIMITED_BYTES));
        assert!(swap_bytes(Some(2 << 20), "1m").is_err());
        assert!(swap_bytes(None, "1m").is_err());
    }

    #[test]
    fn the_environment_is_read_as_docker_reads_it() {
        let here = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let file =
            "\u{feff}# A remark\n\n  A=1 # no remark\nB=\"quoted\"\nHOME\nUNSET\nC=a=b\nD=\n".to_owned();
        let env = environment(&[file], &["A=2".to_owned(), "E".to_owned()], here).expect("a valid file");
        let pairs: Vec<_> = env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("A", "2"), ("B", "\"quoted\""), ("C", "a=b"), ("D", ""), ("HOME", "/root")]);
        assert_eq!(
            environment(&["A=1 # no remark".to_owned()], &[], here)
                .expect("valid")
                .get("A")
                .map(String::as_str),
            Some("1 # no remark")
        );
        for bad in ["=x", "A B=1", "-e A=1"] {
            assert!(environment(&[], &[bad.to_owned()], here).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_label_without_a_value_is_empty() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a"), Ok(("a".to_owned(), String::new())));
        assert!(label("=x").is_err());
    }
}
