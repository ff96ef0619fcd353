//! What this host can do, by trying it where trying is cheap and leaves nothing: `wharf doctor`.
//!
//! A check that is not well says what that means for the user, not only what was found, and the way out
//! of it. Called before
//! threads are started: the ones that need a process of their own say that they were not tried
//! otherwise.

mod bounds;
mod disk;
mod kernel;

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use wharf_sys::process::{pidfd_exit_status, pidfd_open};
use wharf_sys::{bpf, caps, image, limits};

use crate::cgroup::{Controller, DeviceRule, Layout, LayoutKind, device_program};
use crate::checkpoint;

/// How well the host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Ok,
    /// Containers run, but something is coarser, slower or not offered.
    Degraded,
    /// Containers cannot run.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How well.
    pub status: Status,
    /// What was found, and what it means when it is not well.
    pub detail: String,
    /// What to do about it: always there unless all is well.
    pub remedy: Option<&'static str>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), remedy: None }
    }

    fn degraded(name: &'static str, detail: impl Into<String>, remedy: &'static str) -> Self {
        Self { name, status: Status::Degraded, detail: detail.into(), remedy: Some(remedy) }
    }

    fn missing(name: &'static str, detail: impl Into<String>, remedy: &'static str) -> Self {
        Self { name, status: Status::Missing, detail: detail.into(), remedy: Some(remedy) }
    }
}

/// What of the host is the agent's.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// Where containers are kept; it need not exist yet.
    pub state_dir: &'a Path,
    /// CRIU's program; looked for in the usual places when empty.
    pub criu: &'a Path,
}

/// Looks at everything that containers need or use.
pub fn doctor(places: Places<'_>) -> Vec<Check> {
    let mut checks = vec![version(), privileges()];
    match Layout::detect() {
        Ok(layout) => {
            checks.extend(cgroups(&layout));
            checks.extend(kernel::controllers(&layout));
            checks.push(devices(&layout));
        }
        Err(error) => checks.push(Check::missing(
            "cgroups",
            error.to_string(),
            "mount the cgroup tree (cgroup2 at /sys/fs/cgroup), as an init system does at boot",
        )),
    }
    checks.extend(disk::checks(places.state_dir));
    checks.extend(kernel::checks());
    checks.extend([exit_status(), sealed_program(), pressure(), checkpoints(places.criu)]);
    checks.extend([descriptors(), hard_limits()]);
    checks.extend(bounds::checks());
    checks
}

/// Returns the text and the first two numbers of the kernel's version.
fn kernel_version() -> (String, (u32, u32)) {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (release, version)
}

fn version() -> Check {
    let (release, version) = kernel_version();
    let found = format!("Linux {}", release.trim());
    match version {
        (6, 1..) | (7.., _) => Check::ok("kernel", found),
        (6, 0) | (5, 15..) => {
            Check::degraded("kernel", format!("{found}; tested from 6.1 on"), "boot Linux 6.1 or later")
        }
        _ => Check::missing(
            "kernel",
            format!("{found} has no idmapped mounts or no cgroup.kill"),
            "boot Linux 5.15 or later, better 6.1",
        ),
    }
}

fn privileges() -> Check {
    const NEEDED: [(u8, &str); 5] =
        [(21, "SYS_ADMIN"), (7, "SETUID"), (12, "NET_ADMIN"), (27, "MKNOD"), (0, "CHOWN")];
    let permitted = caps::permitted().unwrap_or_default();
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(number, _)| permitted & caps::set_of(&[*number]) == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        Check::ok("privileges", "all capabilities that launching needs")
    } else {
        Check::missing("privileges", format!("without {}", missing.join(", ")), "run as root")
    }
}

fn cgroups(layout: &Layout) -> Vec<Check> {
    let mut checks = vec![match layout.kind() {
        LayoutKind::V2 => Check::ok("cgroups", "v2: exact CPU time, block I/O per container"),
        LayoutKind::Hybrid => {
            Check::ok("cgroups", "hybrid: limits by v1; exact CPU time, kill and freeze by the unified tree")
        }
        LayoutKind::V1 => Check::degraded(
            "cgroups",
            "v1 only: CPU time counts from entering the group, no atomic kill",
            "boot with systemd.unified_cgroup_hierarchy=1",
        ),
    }];
    let unified = layout.unified().map(|root| read(root.join("cgroup.controllers"))).unwrap_or_default();
    if layout.kind() != LayoutKind::V2 || unified.split_whitespace().all(|name| name != "io") {
        checks.push(Check::degraded(
            "block I/O",
            "not measurable here: v1 charges buffered writes to nobody",
            "boot with systemd.unified_cgroup_hierarchy=1",
        ));
    }
    let dynamic =
        read("/proc/self/mountinfo").lines().any(|l| l.contains(" - cgroup2 ") && l.contains("favordynmods"));
    let detail = if dynamic { "on" } else { "off; not needed, processes are born in their group" };
    checks.push(Check::ok("favordynmods", detail));
    checks
}

fn devices(layout: &Layout) -> Check {
    if layout.legacy(Controller::Devices).is_some() {
        return Check::ok("device rules", "by the v1 controller");
    }
    match bpf::load_device_program(&device_program(&DeviceRule::standard())) {
        Ok(_) => Check::ok("device rules", "by a BPF program"),
        Err(error) => Check::missing(
            "device rules",
            format!("the kernel refuses the program: {error}"),
            "run as root on a kernel with CONFIG_CGROUP_BPF",
        ),
    }
}

fn exit_status() -> Check {
    let own = i32::try_from(std::process::id()).map_err(|_too_big| Errno::EOVERFLOW);
    let asked = own.and_then(|pid| {
        pidfd_open(pid).and_then(|pidfd| pidfd_exit_status(pidfd.as_fd())).map_err(|error| error.errno)
    });
    // 6.13 and 6.14 answer, but never with an exit status.
    let tells = if kernel_version().1 >= (6, 15) { Ok(()) } else { Err(Errno::ENOTSUP) };
    match asked.and(tells) {
        Ok(()) => Check::ok("exit status of orphans", "by pidfd"),
        Err(errno) => Check::degraded(
            "exit status of orphans",
            format!("a container whose supervisor is killed ends with an unknown status ({errno})"),
            "boot Linux 6.15 or later",
        ),
    }
}

fn sealed_program() -> Check {
    match image::sealed_copy(c"wharf-doctor", &b"x"[..], true).and_then(image::is_sealed) {
        Ok(true) => Check::ok("sealed program", "the launcher runs from memory that cannot be changed"),
        Ok(false) | Err(_) => Check::missing(
            "sealed program",
            "executable memory files are refused",
            "set the sysctl vm.memfd_noexec to 0 or 1",
        ),
    }
}

fn descriptors() -> Check {
    const PER_CONTAINER: u64 = 12;
    const NOFILE: u32 = 7;
    let most = limits::get(0, NOFILE).map_or(0, |(_, hard)| hard);
    let containers = most / PER_CONTAINER;
    let detail = format!("limit {most}: enough for about {containers} containers");
    if containers >= 1000 {
        Check::ok("open files", detail)
    } else {
        Check::degraded("open files", detail, "raise the agent's hard limit (LimitNOFILE=, ulimit -Hn)")
    }
}

fn hard_limits() -> Check {
    const SYS_RESOURCE: u8 = 24;
    let can = caps::permitted().unwrap_or_default() & caps::set_of(&[SYS_RESOURCE]) != 0;
    if can {
        Check::ok("hard limits", "can be raised")
    } else {
        Check::degraded(
            "hard limits",
            "cannot be raised: a container's higher ones are lowered",
            "give the agent CAP_SYS_RESOURCE",
        )
    }
}

fn pressure() -> Check {
    match fs::read_to_string("/proc/pressure/cpu") {
        Ok(_) => Check::ok("pressure", "stall information is on"),
        Err(_) => Check::degraded(
            "pressure",
            "no stall information: how long containers wait for CPU, memory and disk is not shown",
            "boot with psi=1 a kernel with CONFIG_PSI",
        ),
    }
}

fn checkpoints(set: &Path) -> Check {
    match checkpoint::criu(set) {
        Ok(program) => Check::ok("checkpoints", format!("{} says that all is there", program.display())),
        Err(error) => {
            let source = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
            Check::degraded(
                "checkpoints",
                format!("not available, because {error}{source}"),
                "install criu 4.1 or later (Debian 13 has it), and name it in checkpoints.criu if it is not in \
                 /usr/sbin",
            )
        }
    }
}

/// Reads a small file; one that is not there is empty.
fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_gets_every_check_and_none_is_a_lie() {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = dir.path().join("not/yet/made");
        let checks = doctor(Places { state_dir: &state_dir, criu: Path::new("/nowhere/criu") });
        assert!(checks.len() >= 24, "{checks:?}");
        let kernel = checks.iter().find(|check| check.name == "kernel").expect("kernel");
        assert!(kernel.detail.contains("Linux "), "{kernel:?}");
        let checkpoints = checks.iter().find(|check| check.name == "checkpoints").expect("checkpoints");
        assert!(checkpoints.detail.contains("/nowhere/criu"), "{checkpoints:?}");
        for check in &checks {
            assert_eq!(check.remedy.is_none(), check.status == Status::Ok, "{check:?}");
        }
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0, "nothing is left");
    }
}
