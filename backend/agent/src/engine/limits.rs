//! Limits written into cgroup files by cgroups-rs, on v1, hybrid and v2.
//!
//! Its `apply` swallows errors, so each setter is called here and each refusal is told with the
//! limit's name. cgroups-rs takes a hybrid host for v1, which is right for limits: there the v1
//! hierarchies own the controllers. It panics where neither layout is mounted, so the caller
//! detects the layout first. The weight of block I/O is written here, because cgroups-rs knows only its
//! old name on v1; only the scheduler BFQ shares by it, so under another one it is refused.
//!
//! An update that the kernel refuses in part leaves the limits as they were.
//! Sources: cgroups(7), kernel `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cgroups_rs::fs::blkio::BlkIoController;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, MaxValue, hierarchies};
use wharf_runtime::cgroup::{Controller, Layout, LayoutKind};
use wharf_shared::container::Limits;

/// Length of the period in which a CPU quota holds, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel's default.
const IO_WEIGHT_DEFAULT: u32 = 100;

/// A limit could not be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitError {
    #[error("the kernel refused {limit} for {cgroup}")]
    Refused { limit: &'static str, cgroup: String, source: cgroups_rs::fs::error::Error },
    #[error("this host has no {controller} controller, so {limit} cannot be set; leave it out")]
    NoController { limit: &'static str, controller: &'static str },
    #[error("{limit} is too large")]
    TooLarge { limit: &'static str },
    #[error("this kernel does not count swap, so swap_bytes cannot be set; leave it out")]
    NoSwap,
    #[error(
        "the scheduler of the containers' disk shares nothing by weight (only bfq does), so io_weight cannot \
         be set; leave it out"
    )]
    NoWeight,
    #[error("the kernel refused {limit} in {}", path.display())]
    Write { limit: &'static str, path: PathBuf, source: std::io::Error },
}

/// A block device's numbers.
pub(super) type Disk = (u64, u64);

/// Writes the limits of a group that was made just now: only those that are asked for.
///
/// Most containers limit nothing but their processes, and that is written without cgroups-rs, which reads
/// the mount table and looks at every controller first.
pub(super) fn apply_new(
    layout: &Layout,
    path: &Path,
    limits: &Limits,
    disk: Option<Disk>,
) -> Result<(), LimitError> {
    if !only_pids(limits) {
        return apply(layout, path, limits, disk);
    }
    let Some(pids) = limits.pids else { return Ok(()) };
    let file = file_of(layout, Controller::Pids, path, "pids.max")
        .ok_or(LimitError::NoController { limit: "pids", controller: "pids" })?;
    std::fs::write(&file, pids.to_string()).map_err(|source| LimitError::Write {
        limit: "pids",
        path: file,
        source,
    })
}

/// Whether no controller but that of processes has anything to hold.
fn only_pids(limits: &Limits) -> bool {
    matches!(
        limits,
        Limits {
            cpu_millis: None,
            cpu_weight: None,
            memory_bytes: None,
            swap_bytes: None,
            pids: _,
            io_read_bytes_per_s: None,
            io_write_bytes_per_s: None,
            io_weight: None,
            // No controller holds these.
            shm_bytes: _,
            open_files: _,
            devices: _,
        }
    )
}

/// Writes all limits of a group that may have others.
pub(super) fn apply(
    layout: &Layout,
    path: &Path,
    limits: &Limits,
    disk: Option<Disk>,
) -> Result<(), LimitError> {
    write(layout, path, &Limits::default(), limits, disk)
}

/// Writes other limits of a group in use. When one is refused, those before hold again.
pub(super) fn replace(
    layout: &Layout,
    path: &Path,
    before: &Limits,
    limits: &Limits,
    disk: Option<Disk>,
) -> Result<(), LimitError> {
    write(layout, path, before, limits, disk).inspect_err(|_| {
        if let Err(error) = write(layout, path, limits, before, disk) {
            tracing::error!(
                error = crate::error::chain(&error),
                cgroup = %path.display(),
                "limits stay half changed"
            );
        }
    })
}

/// Writes all limits. Absent ones become unlimited; those of block I/O, which no new group has, only if
/// they were there before, because the first one makes the kernel count every request of the disk.
fn write(
    layout: &Layout,
    path: &Path,
    before: &Limits,
    limits: &Limits,
    disk: Option<Disk>,
) -> Result<(), LimitError> {
    let v2 = layout.kind() == LayoutKind::V2;
    let has = |controller| layout.controller_root(controller).is_some();
    let cgroup = Cgroup::load(hierarchies::auto(), path);
    let refused = |limit| {
        let cgroup = path.display().to_string();
        move |source| LimitError::Refused { limit, cgroup, source }
    };
    let missing = |limit, controller| LimitError::NoController { limit, controller };

    match cgroup.controller_of::<CpuController>() {
        Some(cpu) if has(Controller::Cpu) => {
            let quota = limits.cpu_millis.map_or(-1, |millis| i64::from(millis) * 100);
            cpu.set_cfs_quota_and_period(Some(quota), Some(CPU_PERIOD_US)).map_err(refused("cpu_millis"))?;
            let weight = u64::from(limits.cpu_weight.unwrap_or(100));
            // v1's shares are 1024 where v2's weight is 100.
            let shares = if v2 { weight } else { (weight * 1024 / 100).max(2) };
            cpu.set_shares(shares).map_err(refused("cpu_weight"))?;
        }
        _ if limits.cpu_millis.is_some() || limits.cpu_weight.is_some() => {
            return Err(missing("cpu_millis", "cpu"));
        }
        _ => {}
    }

    match cgroup.controller_of::<MemController>() {
        Some(memory) if has(Controller::Memory) => {
            let file = if v2 { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
            let counted = file_of(layout, Controller::Memory, path, file).is_some_and(|file| file.exists());
            if limits.swap_bytes.is_some() && !counted {
                return Err(LimitError::NoSwap);
            }
            set_memory(memory, v2, counted, limits, &refused)?;
        }
        _ if limits.memory_bytes.is_some() => return Err(missing("memory_bytes", "memory")),
        _ => {}
    }

    match cgroup.controller_of::<PidController>() {
        Some(pids) if has(Controller::Pids) => {
            let most = limits.pids.map_or(MaxValue::Max, |pids| MaxValue::Value(i64::from(pids)));
            pids.set_pid_max(most).map_err(refused("pids"))?;
        }
        _ if limits.pids.is_some() => return Err(missing("pids", "pids")),
        _ => {}
    }

    let lifted = |limit: Option<u64>, before: Option<u64>| limit.or(before.map(|_| u64::MAX));
    let read = lifted(limits.io_read_bytes_per_s, before.io_read_bytes_per_s);
    let written = lifted(limits.io_write_bytes_per_s, before.io_write_bytes_per_s);
    let weight = limits.io_weight.or(before.io_weight.map(|_| IO_WEIGHT_DEFAULT));
    match (cgroup.controller_of::<BlkIoController>(), disk) {
        (Some(io), Some((major, minor))) if has(Controller::BlkIo) => {
            if let Some(rate) = read {
                io.throttle_read_bps_for_device(major, minor, rate)
                    .map_err(refused("io_read_bytes_per_s"))?;
            }
            if let Some(rate) = written {
                io.throttle_write_bps_for_device(major, minor, rate)
                    .map_err(refused("io_write_bytes_per_s"))?;
            }
            match weight {
                Some(weight) if shares_by_weight(major, minor) => {
                    let file = if v2 { "io.bfq.weight" } else { "blkio.bfq.weight" };
                    let file = file_of(layout, Controller::BlkIo, path, file).ok_or(LimitError::NoWeight)?;
                    std::fs::write(&file, bfq_weight(weight).to_string())
                        .map_err(|source| LimitError::Write { limit: "io_weight", path: file, source })?;
                }
                // Where none can be set any more, none is left to lift.
                Some(_) if limits.io_weight.is_some() => return Err(LimitError::NoWeight),
                _ => {}
            }
        }
        _ if read.is_some() || written.is_some() || weight.is_some() => {
            return Err(missing("io limits", "block I/O"));
        }
        _ => {}
    }
    Ok(())
}

fn file_of(layout: &Layout, controller: Controller, path: &Path, file: &str) -> Option<PathBuf> {
    Some(layout.controller_root(controller)?.join(path).join(file))
}

/// Whether the disk's scheduler is BFQ.
fn shares_by_weight(major: u64, minor: u64) -> bool {
    std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/queue/scheduler"))
        .is_ok_and(|schedulers| schedulers.contains("[bfq]"))
}

/// From 1 to 10,000 onto BFQ's 1 to 1,000; both have 100 in the middle.
fn bfq_weight(weight: u32) -> u32 {
    if weight <= IO_WEIGHT_DEFAULT { weight } else { IO_WEIGHT_DEFAULT + (weight - IO_WEIGHT_DEFAULT) / 11 }
}

fn set_memory<R, F>(
    memory: &MemController,
    v2: bool,
    swap_counted: bool,
    limits: &Limits,
    refused: &R,
) -> Result<(), LimitError>
where
    R: Fn(&'static str) -> F,
    F: FnOnce(cgroups_rs::fs::error::Error) -> LimitError,
{
    let bytes = |limit, value: Option<u64>| {
        value
            .map_or(Ok(-1), |value| i64::try_from(value).map_err(|_too_large| LimitError::TooLarge { limit }))
    };
    let hard = bytes("memory_bytes", limits.memory_bytes)?;
    // With a memory limit and no word on swap there is none: a container must not swap its way past it.
    let swap = limits.memory_bytes.map(|memory| {
        let swap = limits.swap_bytes.unwrap_or(0);
        if v2 { swap } else { memory.saturating_add(swap) }
    });
    let swap = bytes("swap_bytes", swap)?;
    // v1 demands memory ≤ memory+swap at every moment: raise the sum first, lower it last.
    let raised = swap_counted && memory.set_memswap_limit(swap).is_ok();
    memory.set_limit(hard).map_err(refused("memory_bytes"))?;
    if swap_counted && !raised {
        memory.set_memswap_limit(swap).map_err(refused("swap_bytes"))?;
    }
    Ok(())
}

/// The block device under a directory: the whole disk, because a throttle of a partition is refused.
pub(super) fn disk_of(path: &Path) -> Option<Disk> {
    let device = std::fs::metadata(path).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let node = format!("/sys/dev/block/{major}:{minor}");
    let node = std::fs::canonicalize(node).ok()?;
    let disk = if node.join("partition").exists() { node.parent()?.to_owned() } else { node };
    let numbers = std::fs::read_to_string(disk.join("dev")).ok()?;
    let (major, minor) = numbers.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_group_needs_more_than_a_number_of_processes_only_when_it_is_asked_for() {
        let plain = Limits { pids: Some(7), shm_bytes: Some(1), open_files: Some(2), ..Limits::default() };
        assert!(only_pids(&plain) && only_pids(&Limits::default()));
        assert!(!only_pids(&Limits { memory_bytes: Some(1), ..plain.clone() }));
        assert!(!only_pids(&Limits { io_weight: Some(1), ..plain }));
    }

    #[test]
    fn weights_keep_their_order_and_fit_into_bfq_s_range() {
        assert_eq!([1, 100, 111, 10_000].map(bfq_weight), [1, 100, 101, 1_000]);
    }
}
