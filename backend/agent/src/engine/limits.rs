//! Limits written into cgroup files by cgroups-rs, on v1, hybrid and v2.
//!
//! Its `apply` swallows errors, so each setter is called here and each refusal is told with the
//! limit's name. cgroups-rs takes a hybrid host for v1, which is right for limits: there the v1
//! hierarchies own the controllers. It panics where neither layout is mounted, so the caller
//! detects the layout first.
//! Sources: cgroups(7), kernel `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cgroups_rs::fs::blkio::BlkIoController;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, MaxValue, hierarchies};
use wharf_runtime::cgroup::{Controller, Layout, LayoutKind};
use wharf_shared::container::Limits;

/// Length of the period in which a CPU quota holds, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// A limit could not be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitError {
    #[error("the kernel refused {limit} for {cgroup}")]
    Refused { limit: &'static str, cgroup: String, source: cgroups_rs::fs::error::Error },
    #[error("this host has no {controller} controller, so {limit} cannot be set; leave it out")]
    NoController { limit: &'static str, controller: &'static str },
    #[error("{limit} is too large")]
    TooLarge { limit: &'static str },
}

/// Writes all limits; absent ones become unlimited, so that an update can lift them.
pub(super) fn apply(
    layout: &Layout,
    path: &Path,
    limits: &Limits,
    disk: Option<(u64, u64)>,
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
        Some(memory) if has(Controller::Memory) => set_memory(memory, v2, limits, &refused)?,
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

    let io_asked = limits.io_read_bytes_per_s.is_some() || limits.io_write_bytes_per_s.is_some();
    match (cgroup.controller_of::<BlkIoController>(), disk) {
        (Some(io), Some((major, minor))) if has(Controller::BlkIo) => {
            if let Some(rate) = limits.io_read_bytes_per_s {
                io.throttle_read_bps_for_device(major, minor, rate)
                    .map_err(refused("io_read_bytes_per_s"))?;
            }
            if let Some(rate) = limits.io_write_bytes_per_s {
                io.throttle_write_bps_for_device(major, minor, rate)
                    .map_err(refused("io_write_bytes_per_s"))?;
            }
            if let Some(weight) = limits.io_weight {
                io.set_weight(u64::from(weight)).map_err(refused("io_weight"))?;
            }
        }
        _ if io_asked || limits.io_weight.is_some() => {
            return Err(missing("io limits", "block I/O"));
        }
        _ => {}
    }
    Ok(())
}

fn set_memory<R, F>(memory: &MemController, v2: bool, limits: &Limits, refused: &R) -> Result<(), LimitError>
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
    // A kernel without swap accounting has no such file; then there is no swap to limit either.
    let raised = memory.set_memswap_limit(swap).is_ok();
    memory.set_limit(hard).map_err(refused("memory_bytes"))?;
    if !raised && limits.swap_bytes.is_some() {
        memory.set_memswap_limit(swap).map_err(refused("swap_bytes"))?;
    } else if !raised && let Err(error) = memory.set_memswap_limit(swap) {
        tracing::debug!(error = %error, "swap cannot be limited on this host");
    }
    Ok(())
}

/// The block device under a directory: the whole disk, because a throttle of a partition is refused.
pub(super) fn disk_of(path: &Path) -> Option<(u64, u64)> {
    let device = std::fs::metadata(path).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let node = format!("/sys/dev/block/{major}:{minor}");
    let node = std::fs::canonicalize(node).ok()?;
    let disk = if node.join("partition").exists() { node.parent()?.to_owned() } else { node };
    let numbers = std::fs::read_to_string(disk.join("dev")).ok()?;
    let (major, minor) = numbers.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
