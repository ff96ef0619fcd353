//! What people type for `run`, read as Docker reads it and turned into a container's specification.
//!
//! Pure: the environment and files that `-e` and `--env-file` refer to are passed in.

use std::collections::BTreeMap;

use wharf_shared::container::{NetworkMode, RestartPolicy};
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

/// Reads `key=value`; a key alone has an empty value.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(format!("{text:?} is no label; write NAME=VALUE"));
    }
    Ok((key.to_owned(), value.to_owned()))
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
