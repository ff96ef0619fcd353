//! Numbers by which the kernel bounds all containers together, read from `/proc/sys`.
//!
//! None of them is the agent's to change: other programs of the host live by them too. Sources:
//! `proc_sys_fs(5)`, `proc_sys_kernel(5)`, `proc_sys_user(5)`, inotify(7), keyrings(7) and
//! `networking/nf_conntrack-sysctl.rst` of the kernel.

use super::{Check, read};

/// As many containers as a host is expected to hold.
const MANY: u64 = 1_000;

pub(super) fn checks() -> Vec<Check> {
    let number = |path: &str| parse(&read(path));
    let namespaces = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]
        .map(|kind| (kind, number(&format!("/proc/sys/user/max_{kind}_namespaces"))));
    vec![
        namespace_bound(&namespaces),
        processes(number("/proc/sys/kernel/pid_max"), number("/proc/sys/kernel/threads-max")),
        files(number("/proc/sys/fs/file-max")),
        inotify(number("/proc/sys/fs/inotify/max_user_instances")),
        keyrings(number("/proc/sys/kernel/keys/maxkeys"), number("/proc/sys/kernel/keys/root_maxkeys")),
        connections(number("/proc/sys/net/netfilter/nf_conntrack_max")),
    ]
}

fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Each container has a namespace of each kind; all are counted as those of the user who made them, root.
fn namespace_bound(most: &[(&str, Option<u64>)]) -> Check {
    const NAME: &str = "namespaces";
    if let Some((kind, _)) = most.iter().find(|(_, most)| most.is_none()) {
        return Check::missing(
            NAME,
            format!("this kernel has no {kind} namespaces: no container can be walled off"),
            "boot a kernel with CONFIG_NAMESPACES and CONFIG_USER_NS, as distributions have them",
        );
    }
    let least = most.iter().filter_map(|(kind, most)| Some((most.as_ref().copied()?, *kind))).min();
    let (least, kind) = least.unwrap_or_default();
    let detail = format!("at most {least} of the kind {kind}, and each container takes one");
    match least {
        0 => Check::missing(
            NAME,
            format!("{kind} namespaces are switched off: no container can be walled off"),
            "raise the sysctls user.max_*_namespaces",
        ),
        1..MANY => Check::degraded(NAME, detail, "raise the sysctls user.max_*_namespaces"),
        _ => Check::ok(NAME, detail),
    }
}

fn processes(pids: Option<u64>, threads: Option<u64>) -> Check {
    let most = pids.unwrap_or(u64::MAX).min(threads.unwrap_or(u64::MAX));
    let detail = format!("{most} processes and threads on the whole host");
    if most >= 100 * MANY {
        Check::ok("processes", detail)
    } else {
        Check::degraded(
            "processes",
            format!("{detail}: few containers with the usual limit of 512 can take all of them"),
            "sysctl kernel.pid_max=4194304 kernel.threads-max=1000000",
        )
    }
}

fn files(most: Option<u64>) -> Check {
    let most = most.unwrap_or(0);
    if most >= 1_000 * MANY {
        Check::ok("files of the host", format!("{most} open at the same time"))
    } else {
        Check::degraded(
            "files of the host",
            format!("only {most} open at the same time: when they are used up, containers get ENFILE"),
            "sysctl fs.file-max=10000000",
        )
    }
}

/// What is made in a user namespace is counted as its creator's too, and that is root for all containers.
fn inotify(instances: Option<u64>) -> Check {
    match instances {
        None => Check::ok("inotify", "the kernel has none, or does not bound it"),
        Some(most) if most >= 8 * MANY => Check::ok("inotify", format!("{most} instances")),
        Some(most) => Check::degraded(
            "inotify",
            format!(
                "{most} instances for all containers together: programs that watch files (tail -f, systemd, \
                 web servers in development) end with \"too many open files\" when they are used up"
            ),
            "sysctl fs.inotify.max_user_instances=65536 fs.inotify.max_user_watches=1048576",
        ),
    }
}

/// A process of a container has a session keyring of its own, which counts as its user's.
fn keyrings(user: Option<u64>, root: Option<u64>) -> Check {
    let (Some(user), Some(root)) = (user, root) else {
        return Check::ok("keyrings", "the kernel has none that could be shared");
    };
    let detail = format!("{user} keys for each user, {root} for root");
    if root >= 10 * MANY && user >= 100 {
        Check::ok("keyrings", detail)
    } else {
        Check::degraded(
            "keyrings",
            format!("{detail}: starts and execs beyond that fail with EDQUOT"),
            "sysctl kernel.keys.root_maxkeys=1000000 kernel.keys.root_maxbytes=25000000 kernel.keys.maxkeys=200",
        )
    }
}

fn connections(most: Option<u64>) -> Check {
    match most {
        None => Check::ok("connections", "not counted before the first network is made"),
        Some(0) => Check::ok("connections", "without bound"),
        Some(most) if most >= 65_536 => {
            Check::ok("connections", format!("{most} at the same time, half of them for one tenant at most"))
        }
        Some(most) => Check::degraded(
            "connections",
            format!(
                "only {most} at the same time: when the table is full, new ones of everybody are dropped"
            ),
            "sysctl net.netfilter.nf_conntrack_max=262144",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Status;

    #[test]
    fn the_smallest_number_of_namespaces_counts() {
        let bound = |user, net| namespace_bound(&[("user", user), ("net", net)]);
        assert_eq!(bound(Some(96_365), Some(96_365)).status, Status::Ok);
        let few = bound(Some(96_365), Some(100));
        assert!(few.status == Status::Degraded && few.detail.contains("100 of the kind net"), "{few:?}");
        assert_eq!(bound(Some(0), Some(9_999)).status, Status::Missing);
        assert_eq!(bound(Some(9_999), None).status, Status::Missing);
    }

    #[test]
    fn what_a_small_default_costs_is_told_with_a_way_out() {
        for check in [
            processes(Some(32_768), Some(192_730)),
            processes(None, Some(1_000)),
            files(Some(65_536)),
            files(None),
            inotify(Some(128)),
            keyrings(Some(200), Some(200)),
            connections(Some(4_096)),
        ] {
            assert_eq!(check.status, Status::Degraded, "{check:?}");
            assert!(check.remedy.is_some_and(|remedy| remedy.starts_with("sysctl ")), "{check:?}");
        }
    }

    #[test]
    fn what_is_large_enough_is_well() {
        for check in [
            processes(Some(4_194_304), Some(192_730)),
            files(Some(u64::MAX >> 1)),
            inotify(Some(65_536)),
            inotify(None),
            keyrings(Some(200), Some(1_000_000)),
            keyrings(None, None),
            connections(Some(262_144)),
            connections(None),
        ] {
            assert_eq!(check.status, Status::Ok, "{check:?}");
        }
    }
}
