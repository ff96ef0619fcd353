//! What this kernel was built or booted with, read from `/proc` and `/sys`.
//!
//! Sources: seccomp(2), landlock(7), `admin-guide/{mm/transhuge,mm/hugetlbpage,LSM,hw-vuln}` and
//! `cgroup-v2.rst` of the kernel.

use std::path::Path;

use nix::errno::Errno;
use wharf_sys::landlock;

use super::{Check, read};
use crate::apparmor::{self, Standing};
use crate::cgroup::{Controller, Layout};

/// What the controllers of a host bound, and what to say when one is missing.
const CONTROLLERS: [(&str, &str); 5] = [
    ("cpu", "no CPU limits and no fair shares"),
    ("cpuset", "containers cannot be bound to CPUs"),
    ("memory", "no memory limits, and memory is not measured"),
    ("pids", "a fork bomb takes the host's processes"),
    ("hugetlb", "reserved huge pages cannot be limited"),
];

pub(super) fn checks() -> Vec<Check> {
    let clock = read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    vec![
        seccomp(&read("/proc/sys/kernel/seccomp/actions_avail")),
        landlock_version(landlock::abi().map_err(|error| error.errno)),
        security_modules(&apparmor::standing(), Path::new("/sys/fs/selinux/enforce").exists()),
        flaws(&vulnerabilities()),
        clocksource(clock.trim()),
        huge_pages(&huge_page_sizes(), &read("/sys/kernel/mm/transparent_hugepage/enabled")),
    ]
}

/// The controllers of a host, by their names on v2, and on which hierarchy they are.
pub(super) fn controllers(layout: &Layout) -> Vec<Check> {
    let unified = layout.unified().map(|root| read(root.join("cgroup.controllers"))).unwrap_or_default();
    let mut checks = controllers_of(&unified, &read("/proc/self/mountinfo"));
    checks.push(swap(&read("/proc/swaps"), counts_swap(layout)));
    checks
}

fn controllers_of(unified: &str, mounts: &str) -> Vec<Check> {
    let legacy: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split_once(" - cgroup ")?.1.rsplit_once(' '))
        .flat_map(|(_, options)| options.split(','))
        .collect();
    let has = |name: &str| {
        // Block I/O, whose name differs, has a check of its own.
        unified.split_whitespace().any(|other| other == name) || legacy.contains(&name)
    };
    let (there, missing): (Vec<_>, Vec<_>) = CONTROLLERS.into_iter().partition(|(name, _)| has(name));
    let mut checks = Vec::new();
    if !there.is_empty() {
        let names: Vec<_> = there.iter().map(|(name, _)| *name).collect();
        checks.push(Check::ok("controllers", names.join(", ")));
    }
    checks.extend(missing.into_iter().map(|(name, cost)| {
        Check::degraded(
            "controllers",
            format!("{name} is missing: {cost}"),
            "let the init system mount it (v1) or hand it down (v2: cgroup.subtree_control of the root); boot \
             without cgroup_disable=",
        )
    }));
    checks
}

/// Whether a group of this host has a file that bounds its swap.
fn counts_swap(layout: &Layout) -> bool {
    let Some(root) = layout.controller_root(Controller::Memory) else { return false };
    if layout.legacy(Controller::Memory).is_some() {
        return root.join("memory.memsw.limit_in_bytes").exists();
    }
    // The root itself has no limits.
    let below = std::fs::read_dir(root).into_iter().flatten().flatten();
    below.map(|entry| entry.path()).any(|group| group.join("memory.swap.max").exists())
}

fn swap(swaps: &str, is_counted: bool) -> Check {
    if swaps.lines().count() < 2 {
        Check::ok("swap", "the host has none")
    } else if is_counted {
        Check::ok("swap", "limited with memory")
    } else {
        Check::degraded(
            "swap",
            "not counted: a container swaps as much as it likes beside its memory limit",
            "boot with swapaccount=1, or without swap",
        )
    }
}

fn seccomp(actions: &str) -> Check {
    let missing = |wanted: &[&'static str]| -> Vec<&'static str> {
        let there: Vec<&str> = actions.split_whitespace().collect();
        wanted.iter().filter(|action| !there.contains(action)).copied().collect()
    };
    if !missing(&["kill_process", "errno"]).is_empty() {
        return Check::missing(
            "seccomp",
            "this kernel has no system call filters",
            "boot a kernel with CONFIG_SECCOMP_FILTER",
        );
    }
    let other = missing(&["kill_thread", "trap", "trace", "log", "user_notif"]);
    if other.is_empty() {
        Check::ok("seccomp", "filters with every action, log and user notification too")
    } else {
        Check::degraded(
            "seccomp",
            format!("filters without {}: a profile of one's own that says so is refused", other.join(", ")),
            "boot Linux 5.0 or later",
        )
    }
}

fn landlock_version(version: Result<i64, Errno>) -> Check {
    match version {
        Ok(version) if version >= landlock::MOVES_SINCE => Check::ok(
            "landlock",
            format!(
                "version {version}: images are unpacked and archives read behind it, and programs can confine themselves"
            ),
        ),
        Ok(version) => Check::degraded(
            "landlock",
            format!(
                "version {version} lets nothing be moved between directories: images are unpacked and archives read without it, so a flaw in that code would reach all files"
            ),
            "boot Linux 5.19 or later",
        ),
        Err(errno) => Check::degraded(
            "landlock",
            format!(
                "neither programs in containers nor we can be confined by it ({errno}): a flaw in what unpacks images and reads archives would reach all files"
            ),
            "boot a kernel with CONFIG_SECURITY_LANDLOCK, and with landlock in lsm=",
        ),
    }
}

fn security_modules(apparmor: &Standing, selinux: bool) -> Check {
    let name = "security modules";
    let walls = "the walls are namespaces, system call filters and capabilities";
    match apparmor {
        Standing::Usable { .. } => {
            Check::ok(name, format!("AppArmor: containers get a profile of ours; the other {walls}"))
        }
        Standing::Unusable { problem, remedy } => Check::degraded(
            name,
            format!("AppArmor is on, and containers get no profile of it, because {problem}; {walls}"),
            remedy,
        ),
        Standing::Off if selinux => Check::degraded(
            name,
            format!(
                "SELinux is on, and containers run in the agent's own domain: it keeps them from nothing that the \
                 agent may use; {walls}"
            ),
            "run the agent in a domain of its own that may use no more than it needs (SELinuxContext= of its unit)",
        ),
        Standing::Off => Check::ok(name, format!("neither AppArmor nor SELinux here; {walls}")),
    }
}

/// Names and texts of the flaws of this processor that the kernel knows.
fn vulnerabilities() -> Vec<(String, String)> {
    let files = std::fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let mut flaws: Vec<_> =
        files.map(|file| (file.file_name().to_string_lossy().into_owned(), read(file.path()))).collect();
    flaws.sort();
    flaws
}

fn flaws(known: &[(String, String)]) -> Check {
    let open: Vec<&str> = known
        .iter()
        .filter(|(_, text)| text.to_ascii_lowercase().contains("vulnerable"))
        .map(|(name, _)| name.as_str())
        .collect();
    if open.is_empty() {
        Check::ok("processor", format!("{} known flaws, none of them open", known.len()))
    } else {
        Check::degraded(
            "processor",
            format!(
                "not closed, or not wholly: {}; a tenant may read other tenants' memory",
                open.join(", ")
            ),
            "boot without mitigations=off, with a newer kernel and microcode, perhaps with nosmt; \
             /sys/devices/system/cpu/vulnerabilities says more",
        )
    }
}

fn clocksource(name: &str) -> Check {
    match name {
        "hpet" | "acpi_pm" | "pit" | "jiffies" | "refined-jiffies" => Check::degraded(
            "clock",
            format!("{name}: each look at the time is a system call and asks a slow device"),
            "let the hypervisor offer kvm-clock or an invariant TSC; boot with tsc=reliable if it is",
        ),
        "" => Check::ok("clock", "the kernel does not say which"),
        name => Check::ok("clock", name),
    }
}

/// Sizes of huge pages and how many of each are reserved.
fn huge_page_sizes() -> Vec<(String, String)> {
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut sizes: Vec<_> = sizes
        .filter_map(|size| {
            let name = size.file_name().to_string_lossy().strip_prefix("hugepages-")?.to_owned();
            Some((name, read(size.path().join("nr_hugepages")).trim().to_owned()))
        })
        .collect();
    sizes.sort();
    sizes
}

fn huge_pages(sizes: &[(String, String)], transparent: &str) -> Check {
    let chosen = transparent.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    let reserved: Vec<_> =
        sizes.iter().map(|(size, number)| format!("{number} of {size} reserved")).collect();
    let reserved = if reserved.is_empty() { "none to reserve".to_owned() } else { reserved.join(", ") };
    match chosen {
        Some("never") => Check::degraded(
            "huge pages",
            format!("{reserved}; never transparent: programs with much memory are slower"),
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        Some(chosen) => Check::ok("huge pages", format!("{reserved}; transparent: {chosen}")),
        None => Check::degraded(
            "huge pages",
            format!("{reserved}; none transparent: programs with much memory are slower"),
            "boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Status;

    #[test]
    fn controllers_are_found_on_v1_and_on_v2() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:30 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
            34 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let checks = controllers_of("cpuset memory", mounts);
        assert_eq!(checks[0].detail, "cpu, cpuset, memory, pids");
        assert_eq!(checks.len(), 2);
        assert!(checks[1].detail.starts_with("hugetlb is missing"), "{checks:?}");
        let checks = controllers_of("cpuset cpu io memory hugetlb pids rdma misc", "");
        assert_eq!(checks.len(), 1, "{checks:?}");
        assert_eq!(controllers_of("", "").len(), CONTROLLERS.len());
    }

    #[test]
    fn swap_that_is_not_counted_is_a_hole_in_the_limit() {
        let swaps = "Filename Type Size\n/dev/sda2 partition 1\n";
        assert_eq!(swap(swaps, false).status, Status::Degraded);
        assert_eq!(swap(swaps, true).status, Status::Ok);
        assert_eq!(swap("Filename Type Size\n", false).status, Status::Ok);
    }

    #[test]
    fn a_filter_without_an_action_is_less_than_a_whole_one() {
        let all = "kill_process kill_thread trap errno user_notif trace log allow";
        assert_eq!(seccomp(all).status, Status::Ok);
        let less = seccomp("kill_process kill_thread trap errno trace allow");
        assert!(less.status == Status::Degraded && less.detail.contains("log, user_notif"), "{less:?}");
        assert_eq!(seccomp("").status, Status::Missing);
    }

    #[test]
    fn a_flaw_that_is_closed_in_part_is_open() {
        let known = |text: &str| [("mds".to_owned(), "Not affected".to_owned()), ("bhi".into(), text.into())];
        assert_eq!(flaws(&known("Mitigation: BHI_DIS_S")).status, Status::Ok);
        for text in ["Vulnerable", "Mitigation: PTI; SMT vulnerable", "Mitigation: IBRS; BHI: Vulnerable"] {
            let check = flaws(&known(text));
            assert!(check.status == Status::Degraded && check.detail.contains(": bhi;"), "{check:?}");
        }
    }

    #[test]
    fn slow_clocks_and_missing_huge_pages_are_told() {
        assert_eq!(clocksource("tsc").status, Status::Ok);
        assert_eq!(clocksource("hpet").status, Status::Degraded);
        let sizes = [("2048kB".to_owned(), "3".to_owned())];
        let check = huge_pages(&sizes, "always [madvise] never\n");
        assert_eq!(check.detail, "3 of 2048kB reserved; transparent: madvise");
        assert_eq!(huge_pages(&sizes, "always madvise [never]\n").status, Status::Degraded);
        assert_eq!(huge_pages(&[], "").status, Status::Degraded);
    }

    #[test]
    fn containers_are_told_their_label_or_why_they_have_none() {
        let of = |apparmor: Standing, selinux| security_modules(&apparmor, selinux);
        assert_eq!(of(Standing::Usable { parser: "/p".into() }, false).status, Status::Ok);
        assert_eq!(of(Standing::Off, false).status, Status::Ok);
        let unusable = of(Standing::Unusable { problem: "it broke", remedy: "mend it" }, false);
        assert!(unusable.detail.contains("because it broke;") && unusable.remedy == Some("mend it"));
        assert_eq!(of(Standing::Off, true).status, Status::Degraded);
    }

    #[test]
    fn landlock_is_told_with_its_version() {
        assert!(landlock_version(Ok(7)).detail.starts_with("version 7: images are unpacked"));
        assert_eq!(landlock_version(Ok(1)).status, Status::Degraded);
        assert_eq!(landlock_version(Err(Errno::ENOSYS)).status, Status::Degraded);
    }
}
