//! What this host can do, by trying it where trying is cheap and leaves nothing: `wharf doctor`.
//!
//! A check that fails says what that means for the user, not only what was found. Called before
//! threads are started: the ones that need a process of their own say that they were not tried
//! otherwise.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use wharf_sys::process::{CloneArgs, clone3, pidfd_exit_status, pidfd_open};
use wharf_sys::{bpf, caps, image, limits};

use crate::cgroup::{Controller, DeviceRule, Layout, LayoutKind, device_program};
use crate::launch::HalfMade;
use crate::rootfs::overlay::{OverlayMethod, make_by};
use crate::spec::RootfsSpec;
use crate::sync::Channel;

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
}

impl Check {
    fn new(name: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { name, status, detail: detail.into() }
    }
}

/// Looks at everything that containers need or use.
pub fn doctor() -> Vec<Check> {
    let mut checks = vec![kernel(), privileges()];
    match Layout::detect() {
        Ok(layout) => {
            checks.extend(cgroups(&layout));
            checks.push(devices(&layout));
        }
        Err(error) => checks.push(Check::new("cgroups", Status::Missing, error.to_string())),
    }
    checks.extend([overlay(), seccomp(), exit_status(), sealed_program()]);
    checks.extend([descriptors(), hard_limits(), pressure(), disk_limits(), checkpoints()]);
    checks
}

/// Returns the text and the first two numbers of the kernel's version.
fn kernel_version() -> (String, (u32, u32)) {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (release, version)
}

fn kernel() -> Check {
    let (release, version) = kernel_version();
    let (status, means) = match version {
        (6.., 1..) | (7.., _) => (Status::Ok, ""),
        (6, 0) | (5, 15..) => (Status::Degraded, "; tested from 6.1 on"),
        _ => (Status::Missing, "; 5.15 or later is needed (idmapped mounts, cgroup.kill)"),
    };
    Check::new("kernel", status, format!("Linux {}{means}", release.trim()))
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
        Check::new("privileges", Status::Ok, "all capabilities that launching needs")
    } else {
        Check::new("privileges", Status::Missing, format!("run as root; without {}", missing.join(", ")))
    }
}

fn cgroups(layout: &Layout) -> Vec<Check> {
    let (status, detail) = match layout.kind() {
        LayoutKind::V2 => (Status::Ok, "v2: exact CPU time, block I/O per container"),
        LayoutKind::Hybrid => {
            (Status::Ok, "hybrid: limits by v1; exact CPU time, kill and freeze by the unified tree")
        }
        LayoutKind::V1 => {
            (Status::Degraded, "v1 only: CPU time counts from entering the group, no atomic kill")
        }
    };
    let mut checks = vec![Check::new("cgroups", status, detail)];
    let available = available_controllers(layout);
    for (controller, means) in [
        (Controller::Cpu, "CPU limits"),
        (Controller::Memory, "memory limits and usage"),
        (Controller::Pids, "process limits"),
    ] {
        if !available.contains(&controller) {
            checks.push(Check::new(
                "controller",
                Status::Degraded,
                format!("{} is missing: no {means}", controller.name()),
            ));
        }
    }
    if layout.kind() != LayoutKind::V2 || !available.contains(&Controller::BlkIo) {
        checks.push(Check::new(
            "block I/O",
            Status::Degraded,
            "not measurable here: v1 charges buffered writes to nobody",
        ));
    }
    let dynamic =
        read("/proc/self/mountinfo").lines().any(|l| l.contains(" - cgroup2 ") && l.contains("favordynmods"));
    let detail = if dynamic { "on" } else { "off; not needed, processes are born in their group" };
    checks.push(Check::new("favordynmods", Status::Ok, detail));
    checks
}

fn available_controllers(layout: &Layout) -> Vec<Controller> {
    let unified = layout.unified().map(|root| read(root.join("cgroup.controllers"))).unwrap_or_default();
    let has = |controller: &Controller| {
        layout.legacy(*controller).is_some()
            || controller
                .unified_name()
                .is_some_and(|name| unified.split_whitespace().any(|word| word == name))
    };
    Controller::ALL.into_iter().filter(has).collect()
}

fn devices(layout: &Layout) -> Check {
    if layout.legacy(Controller::Devices).is_some() {
        return Check::new("device rules", Status::Ok, "by the v1 controller");
    }
    match bpf::load_device_program(&device_program(&DeviceRule::standard())) {
        Ok(_) => Check::new("device rules", Status::Ok, "by a BPF program"),
        Err(error) => {
            Check::new("device rules", Status::Missing, format!("the kernel refuses the program: {error}"))
        }
    }
}

/// Mounts a small overlay with shifted layers by each method.
fn overlay() -> Check {
    const NAME: &str = "overlay with shifted layers";
    let directory = Scratch::new();
    let outcome = directory.and_then(|scratch| {
        let namespace = user_namespace()?;
        let spec = scratch.spec();
        let attempt =
            |method| make_by(method, &spec, Some(namespace.as_fd())).map(drop).map_err(|error| error.errno);
        Ok((attempt(OverlayMethod::Descriptors), attempt(OverlayMethod::Attached)))
    });
    match outcome {
        Ok((Ok(()), Ok(()))) => Check::new(NAME, Status::Ok, "by descriptors, and by paths"),
        Ok((Ok(()), Err(errno))) => {
            Check::new(NAME, Status::Ok, format!("by descriptors; not by paths ({errno})"))
        }
        Ok((Err(errno), Ok(()))) => {
            Check::new(NAME, Status::Ok, format!("by paths; not by descriptors before Linux 6.13 ({errno})"))
        }
        Err(Errno::EBUSY) => Check::new(NAME, Status::Degraded, "not tried: this process has threads"),
        Ok((_, Err(errno))) | Err(errno) => {
            Check::new(NAME, Status::Missing, format!("tenants cannot share layers here: {errno}"))
        }
    }
}

/// Makes a user namespace with a map, and lets its only process go.
fn user_namespace() -> Result<OwnedFd, Errno> {
    let (ours, theirs) = Channel::pair().map_err(|error| error.errno)?;
    let ours = Cell::new(Some(ours));
    let args = CloneArgs { namespaces: CloneFlags::CLONE_NEWUSER, cgroup: None };
    let (pid, pidfd) = clone3(args, || {
        drop(ours.take());
        // Until the parent has gone from the other end.
        i32::from(theirs.await_order().is_err())
    })
    .map_err(|error| error.errno)?;
    // It ends with this function, also when what follows fails.
    let _child = HalfMade::new(&pidfd).map_err(|error| error.errno)?;
    let io = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    for map in ["gid_map", "uid_map"] {
        fs::write(format!("/proc/{pid}/{map}"), "0 1000000 65536\n").map_err(io)?;
    }
    File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from).map_err(io)
}

/// Directories for one overlay, removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Errno> {
        let scratch = Self(Path::new("/var/tmp").join(format!("wharf-doctor-{}", std::process::id())));
        for part in ["layers/a", "upper", "work"] {
            fs::create_dir_all(scratch.0.join(part))
                .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        }
        Ok(scratch)
    }

    fn spec(&self) -> RootfsSpec {
        RootfsSpec {
            layer_root: self.0.join("layers"),
            layers: vec!["a".into()],
            writable: self.0.clone(),
            read_only: false,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A probe that cannot clean up has nobody to tell but the next one, which uses another name.
        fs::remove_dir_all(&self.0).ok();
    }
}

fn seccomp() -> Check {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    if actions.contains("kill_process") && actions.contains("errno") {
        Check::new("seccomp", Status::Ok, "filters with errno and kill")
    } else {
        Check::new("seccomp", Status::Missing, "this kernel has no system call filters")
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
        Ok(()) => Check::new("exit status of orphans", Status::Ok, "by pidfd"),
        Err(errno) => Check::new(
            "exit status of orphans",
            Status::Degraded,
            format!(
                "a container whose supervisor is killed ends with an unknown status ({errno}; Linux 6.15)"
            ),
        ),
    }
}

fn sealed_program() -> Check {
    match image::sealed_copy(c"wharf-doctor", &b"x"[..], true).and_then(image::is_sealed) {
        Ok(true) => {
            Check::new("sealed program", Status::Ok, "the launcher runs from memory that cannot be changed")
        }
        Ok(false) | Err(_) => Check::new(
            "sealed program",
            Status::Missing,
            "executable memory files are refused (vm.memfd_noexec?)",
        ),
    }
}

fn descriptors() -> Check {
    const PER_CONTAINER: u64 = 12;
    const NOFILE: u32 = 7;
    let most = limits::get(0, NOFILE).map_or(0, |(_, hard)| hard);
    let containers = most / PER_CONTAINER;
    let status = if containers >= 1000 { Status::Ok } else { Status::Degraded };
    Check::new("open files", status, format!("limit {most}: enough for about {containers} containers"))
}

fn hard_limits() -> Check {
    const SYS_RESOURCE: u8 = 24;
    let can = caps::permitted().unwrap_or_default() & caps::set_of(&[SYS_RESOURCE]) != 0;
    if can {
        Check::new("hard limits", Status::Ok, "can be raised")
    } else {
        Check::new(
            "hard limits",
            Status::Degraded,
            "cannot be raised (no CAP_SYS_RESOURCE): higher ones are lowered",
        )
    }
}

fn pressure() -> Check {
    match fs::read_to_string("/proc/pressure/cpu") {
        Ok(_) => Check::new("pressure", Status::Ok, "stall information is on"),
        Err(_) => Check::new("pressure", Status::Degraded, "no stall information (boot with psi=1)"),
    }
}

fn disk_limits() -> Check {
    let quota =
        read("/proc/self/mountinfo").lines().any(|line| line.contains("prjquota") || line.contains("pquota"));
    if quota {
        Check::new("disk limits", Status::Ok, "project quota")
    } else {
        Check::new(
            "disk limits",
            Status::Degraded,
            "no file system with project quota: disk use is not limited",
        )
    }
}

fn checkpoints() -> Check {
    let found = ["/usr/sbin/criu", "/usr/bin/criu", "/usr/local/sbin/criu"]
        .iter()
        .any(|path| Path::new(path).exists());
    if found {
        Check::new("checkpoints", Status::Ok, "criu is installed")
    } else {
        Check::new("checkpoints", Status::Degraded, "criu is not installed")
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
        let checks = doctor();
        assert!(checks.len() >= 12, "{checks:?}");
        let kernel = checks.iter().find(|check| check.name == "kernel").expect("kernel");
        assert!(kernel.detail.contains("Linux "), "{kernel:?}");
        assert!(!Path::new("/var/tmp").join(format!("wharf-doctor-{}", std::process::id())).exists());
    }
}
