//! Limits of a group on v1, hybrid and v2: written, replaced while it is in use, and lifted.
//!
//! cgroups-rs writes CPU, memory, swap, processes and bandwidth. Its `apply` swallows errors, so each
//! setter is called here and each refusal is told with the limit's name. It takes a hybrid host for v1,
//! which is right for these: there the v1 hierarchies own their controllers. It panics where neither
//! layout is mounted, so the caller detects the layout first. What it does not know in both worlds is
//! written here: sets of CPUs (it cannot lift one on v2), `memory.high`, the end as a group, huge pages
//! (on a hybrid host often in the unified tree, which it ignores) and the weight of block I/O (it has only
//! v1's old name). Only the scheduler BFQ shares by that weight, so under another one it is refused.
//!
//! What this host cannot hold is refused before anything is written. An update that the kernel refuses
//! in part leaves the limits as they were.
//! Sources: cgroups(7), kernel `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cgroups_rs::fs::blkio::BlkIoController;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::error::Error as WriterError;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup as Writer, MaxValue, hierarchies};
use wharf_shared::container::Limits;
use wharf_shared::kernel::number_list;

use super::group::{Cgroup, CgroupError, offers};
use super::{Controller, Layout, LayoutKind};

/// Length of the period in which a CPU quota holds, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel's default.
const IO_WEIGHT_DEFAULT: u32 = 100;
/// Where the kernel lists the sizes of its huge pages.
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

/// A limit could not be set.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// cgroups-rs could not write it.
    #[error("the kernel refused {limit} for {cgroup}")]
    Refused {
        /// Its name.
        limit: &'static str,
        /// The group.
        cgroup: String,
        /// What the kernel said.
        source: WriterError,
    },
    /// No hierarchy of this host has the controller.
    #[error("this host has no {controller} controller, so {limit} cannot be set; leave it out")]
    NoController {
        /// The limit's name.
        limit: &'static str,
        /// The controller's.
        controller: &'static str,
    },
    /// This kernel or this layout has no such limit.
    #[error("{limit} is not available here, because {because}; leave it out")]
    NotHere {
        /// Its name.
        limit: &'static str,
        /// What is missing.
        because: String,
    },
    /// It does not fit into what the kernel counts with.
    #[error("{limit} is too large")]
    TooLarge {
        /// Its name.
        limit: &'static str,
    },
    /// CPUs or memory nodes that are not there.
    #[error("{limit}: {asked} is not on this host, which has {there}")]
    Outside {
        /// The limit's name.
        limit: &'static str,
        /// What was asked for.
        asked: String,
        /// What the host has.
        there: String,
    },
    /// The kernel was not told to count swap.
    #[error("this kernel does not count swap, so swap_bytes cannot be set; leave it out")]
    NoSwap,
    /// The disk's scheduler shares nothing.
    #[error(
        "the scheduler of the containers' disk shares nothing by weight (only bfq does), so io_weight cannot \
         be set; leave it out"
    )]
    NoWeight,
    /// A file could not be written.
    #[error("the kernel refused {limit} in {}", path.display())]
    Write {
        /// The limit's name.
        limit: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file that says what is there could not be read.
    #[error("cannot read {}, on which {limit} depends", path.display())]
    Read {
        /// The limit's name.
        limit: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The group is not usable.
    #[error("cannot set {limit}")]
    Group {
        /// The limit's name.
        limit: &'static str,
        /// What is wrong with the group.
        source: CgroupError,
    },
    /// After a refusal, what held before was refused too.
    #[error("limits stay half changed, after this refusal: {refusal}")]
    HalfChanged {
        /// Why the new limits do not hold.
        refusal: Box<LimitError>,
        /// Why the old ones do not.
        source: Box<LimitError>,
    },
}

/// A block device's numbers.
pub type Disk = (u64, u64);

/// Returns the block device under a directory: the whole disk, because a throttle of a partition is
/// refused.
pub fn disk_of(path: &Path) -> Option<Disk> {
    let device = std::fs::metadata(path).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let node = format!("/sys/dev/block/{major}:{minor}");
    let node = std::fs::canonicalize(node).ok()?;
    let disk = if node.join("partition").exists() { node.parent()?.to_owned() } else { node };
    let numbers = std::fs::read_to_string(disk.join("dev")).ok()?;
    let (major, minor) = numbers.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Checks what can be known of limits before there is a group.
///
/// # Errors
/// The first limit that this host cannot hold, and why.
pub fn check(layout: &Layout, limits: &Limits) -> Result<(), LimitError> {
    let v2 = layout.kind() == LayoutKind::V2;
    let sets = [
        ("cpus", &limits.cpus, "cpuset.cpus.effective", "cpuset.effective_cpus"),
        ("mems", &limits.mems, "cpuset.mems.effective", "cpuset.effective_mems"),
    ];
    for (limit, asked, unified, legacy) in sets {
        let Some(asked) = asked else { continue };
        let missing = LimitError::NoController { limit, controller: "cpuset" };
        let Some(root) = layout.controller_root(Controller::CpuSet) else { return Err(missing) };
        let path = root.join(if v2 { unified } else { legacy });
        let there = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing),
            Err(source) => return Err(LimitError::Read { limit, path, source }),
        };
        let (wanted, online) = (number_list(asked), number_list(&there));
        if !wanted.is_ok_and(|wanted| online.is_ok_and(|online| wanted.is_subset(&online))) {
            return Err(LimitError::Outside { limit, asked: asked.clone(), there });
        }
    }
    if limits.memory_high_bytes.is_some() && !v2 {
        return Err(LimitError::NotHere {
            limit: "memory_high_bytes",
            because: "cgroup v1 slows nothing down before its limit (memory_bytes)".to_owned(),
        });
    }
    if limits.oom_group == Some(true) && !v2 {
        return Err(LimitError::NotHere {
            limit: "oom_group",
            because: "on cgroup v1 the kernel kills one process at a time".to_owned(),
        });
    }
    if !limits.huge_pages.is_empty() {
        let unified = layout.unified().is_some_and(|root| offers(root, Controller::HugeTlb));
        if !unified && layout.legacy(Controller::HugeTlb).is_none() {
            return Err(LimitError::NoController { limit: "huge_pages", controller: "hugetlb" });
        }
        let there = page_sizes();
        if let Some(size) = limits.huge_pages.keys().find(|size| !there.contains(*size)) {
            let there: Vec<&str> = there.iter().map(String::as_str).collect();
            let because = format!("this host has no huge pages of {size}, only: {}", there.join(", "));
            return Err(LimitError::NotHere { limit: "huge_pages", because });
        }
    }
    Ok(())
}

/// The sizes of this host's huge pages, by the names that the controller has for them.
fn page_sizes() -> BTreeSet<String> {
    let entries = std::fs::read_dir(HUGE_PAGES).into_iter().flatten().flatten();
    entries.filter_map(|entry| page_size(entry.file_name().to_str()?)).collect()
}

/// `2MB` for the directory `hugepages-2048kB`.
fn page_size(directory: &str) -> Option<String> {
    let kib: u64 = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        0..1_024 => format!("{kib}KB"),
        1_024..1_048_576 => format!("{}MB", kib >> 10),
        _ => format!("{}GB", kib >> 20),
    })
}

/// Writes the limits of a group that was made just now: only those that are asked for.
///
/// Most containers limit nothing but their processes, and that is written without cgroups-rs, which reads
/// the mount table and looks at every controller first.
///
/// # Errors
/// What this host cannot hold, and what the kernel refuses.
pub fn apply_new(
    layout: &Layout,
    path: &Path,
    limits: &Limits,
    disk: Option<Disk>,
) -> Result<(), LimitError> {
    if !only_pids(limits) {
        return apply(layout, path, limits, disk);
    }
    check(layout, limits)?;
    let change = Change { layout, path, before: &Limits::default(), limits };
    change.oom_group()?;
    let Some(pids) = limits.pids else { return Ok(()) };
    let file = change.file(Controller::Pids, "pids.max").ok_or(no_controller("pids", "pids"))?;
    put("pids", file, &pids.to_string())
}

/// Whether no controller but that of processes has anything to hold.
fn only_pids(limits: &Limits) -> bool {
    let Limits {
        cpu_millis: None,
        cpu_weight: None,
        cpus: None,
        mems: None,
        memory_bytes: None,
        memory_high_bytes: None,
        memory_reservation_bytes: None,
        oom_group: _,
        swap_bytes: None,
        huge_pages,
        pids: _,
        io_read_bytes_per_s: None,
        io_write_bytes_per_s: None,
        io_read_ops_per_s: None,
        io_write_ops_per_s: None,
        io_weight: None,
        // No controller holds these.
        shm_bytes: _,
        open_files: _,
        devices: _,
    } = limits
    else {
        return false;
    };
    huge_pages.is_empty()
}

/// Writes all limits of a group that may have others.
///
/// # Errors
/// What this host cannot hold, and what the kernel refuses.
pub fn apply(layout: &Layout, path: &Path, limits: &Limits, disk: Option<Disk>) -> Result<(), LimitError> {
    check(layout, limits)?;
    write(layout, path, &Limits::default(), limits, disk)
}

/// Writes other limits of a group in use. When one is refused, those before hold again.
///
/// # Errors
/// What this host cannot hold, and what the kernel refuses.
pub fn replace(
    layout: &Layout,
    path: &Path,
    before: &Limits,
    limits: &Limits,
    disk: Option<Disk>,
) -> Result<(), LimitError> {
    check(layout, limits)?;
    let Err(refusal) = write(layout, path, before, limits, disk) else { return Ok(()) };
    Err(match write(layout, path, limits, before, disk) {
        Ok(()) => refusal,
        Err(error) => LimitError::HalfChanged { refusal: Box::new(refusal), source: Box::new(error) },
    })
}

/// Writes all limits. Absent ones become unlimited; those that no new group has only if they were there
/// before, because the first one of block I/O makes the kernel count every request of the disk.
fn write(
    layout: &Layout,
    path: &Path,
    before: &Limits,
    limits: &Limits,
    disk: Option<Disk>,
) -> Result<(), LimitError> {
    let change = Change { layout, path, before, limits };
    let writer = Writer::load(hierarchies::auto(), path);
    change.cpu(&writer)?;
    change.cpu_sets()?;
    change.memory(&writer)?;
    change.memory_marks()?;
    change.oom_group()?;
    change.huge_pages()?;
    change.pids(&writer)?;
    change.io(&writer, disk)
}

/// From the limits before to those that shall hold.
struct Change<'a> {
    layout: &'a Layout,
    path: &'a Path,
    before: &'a Limits,
    limits: &'a Limits,
}

impl Change<'_> {
    fn v2(&self) -> bool {
        self.layout.kind() == LayoutKind::V2
    }

    fn has(&self, controller: Controller) -> bool {
        self.layout.controller_root(controller).is_some()
    }

    fn file(&self, controller: Controller, name: &str) -> Option<PathBuf> {
        Some(self.layout.controller_root(controller)?.join(self.path).join(name))
    }

    fn refused(&self, limit: &'static str) -> impl FnOnce(WriterError) -> LimitError + use<> {
        let cgroup = self.path.display().to_string();
        move |source| LimitError::Refused { limit, cgroup, source }
    }

    fn cpu(&self, writer: &Writer) -> Result<(), LimitError> {
        let limits = self.limits;
        match writer.controller_of::<CpuController>() {
            Some(cpu) if self.has(Controller::Cpu) => {
                let quota = limits.cpu_millis.map_or(-1, |millis| i64::from(millis) * 100);
                cpu.set_cfs_quota_and_period(Some(quota), Some(CPU_PERIOD_US))
                    .map_err(self.refused("cpu_millis"))?;
                let weight = u64::from(limits.cpu_weight.unwrap_or(100));
                // v1's shares are 1024 where v2's weight is 100.
                let shares = if self.v2() { weight } else { (weight * 1024 / 100).max(2) };
                cpu.set_shares(shares).map_err(self.refused("cpu_weight"))
            }
            _ if limits.cpu_millis.is_some() => Err(no_controller("cpu_millis", "cpu")),
            _ if limits.cpu_weight.is_some() => Err(no_controller("cpu_weight", "cpu")),
            _ => Ok(()),
        }
    }

    /// Sets of CPUs and memory nodes: without one the group has those of the group above.
    fn cpu_sets(&self) -> Result<(), LimitError> {
        let sets = [
            ("cpus", "cpuset.cpus", &self.limits.cpus, &self.before.cpus),
            ("mems", "cpuset.mems", &self.limits.mems, &self.before.mems),
        ];
        for (limit, name, set, before) in sets {
            let Some(file) = self.file(Controller::CpuSet, name) else { continue };
            match (set, before) {
                (Some(list), _) => put(limit, file, list)?,
                (None, None) => {}
                (None, Some(_)) => self.lift_cpu_set(limit, file, name)?,
            }
        }
        Ok(())
    }

    fn lift_cpu_set(&self, limit: &'static str, file: PathBuf, name: &str) -> Result<(), LimitError> {
        // A line without numbers; nothing at all would be no write.
        match self.v2().then(|| put(limit, file.clone(), "\n")) {
            // Linux 6.1 lets no group with processes in it be without a set.
            Some(Err(LimitError::Write { source, .. })) if source.kind() == ErrorKind::StorageFull => {}
            Some(done) => return done,
            // v1 inherits nothing after a group is made.
            None => {}
        }
        let above = Change { path: self.path.parent().unwrap_or(self.path), ..*self };
        let name = if self.v2() { format!("{name}.effective") } else { name.to_owned() };
        let above = above.file(Controller::CpuSet, &name).unwrap_or_else(|| file.clone());
        let list = std::fs::read_to_string(&above).map_err(|source| LimitError::Read {
            limit,
            path: above,
            source,
        })?;
        put(limit, file, list.trim())
    }

    fn memory(&self, writer: &Writer) -> Result<(), LimitError> {
        let (v2, limits) = (self.v2(), self.limits);
        let memory = match writer.controller_of::<MemController>() {
            Some(memory) if self.has(Controller::Memory) => memory,
            _ if limits.memory_bytes.is_some() => return Err(no_controller("memory_bytes", "memory")),
            _ => return Ok(()),
        };
        let file = if v2 { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
        let swap_counted = self.file(Controller::Memory, file).is_some_and(|file| file.exists());
        if limits.swap_bytes.is_some() && !swap_counted {
            return Err(LimitError::NoSwap);
        }
        let bytes = |limit, value: Option<u64>| {
            value.map_or(Ok(-1), |value| {
                i64::try_from(value).map_err(|_too_large| LimitError::TooLarge { limit })
            })
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
        memory.set_limit(hard).map_err(self.refused("memory_bytes"))?;
        if swap_counted && !raised {
            memory.set_memswap_limit(swap).map_err(self.refused("swap_bytes"))?;
        }
        Ok(())
    }

    /// Marks below the hard limit of memory.
    fn memory_marks(&self) -> Result<(), LimitError> {
        let (limits, before) = (self.limits, self.before);
        let reservation = if self.v2() { ("memory.low", "0") } else { ("memory.soft_limit_in_bytes", "-1") };
        let marks = [
            ("memory_high_bytes", ("memory.high", "max"), limits.memory_high_bytes, before.memory_high_bytes),
            (
                "memory_reservation_bytes",
                reservation,
                limits.memory_reservation_bytes,
                before.memory_reservation_bytes,
            ),
        ];
        for (limit, (name, lifted), value, before) in marks {
            let Some(value) = value.map(|value| value.to_string()).or(before.map(|_| lifted.to_owned()))
            else {
                continue;
            };
            let file = self.file(Controller::Memory, name).ok_or(no_controller(limit, "memory"))?;
            put(limit, file, &value)?;
        }
        Ok(())
    }

    /// A container of which the kernel killed one process for lack of memory is seldom of use: all of it
    /// ends, unless it was asked otherwise.
    fn oom_group(&self) -> Result<(), LimitError> {
        if !self.v2() {
            return Ok(());
        }
        let Some(file) = self.file(Controller::Memory, "memory.oom.group") else { return Ok(()) };
        let value = if self.limits.oom_group.unwrap_or(true) { "1" } else { "0" };
        match put("oom_group", file, value) {
            // Nobody asked; the kernel is older, or has no memory controller.
            Err(LimitError::NotHere { .. }) if self.limits.oom_group != Some(true) => Ok(()),
            other => other,
        }
    }

    /// Huge pages; of those that are reserved too, so that a program is refused where it asks for them and
    /// not killed where it touches them.
    fn huge_pages(&self) -> Result<(), LimitError> {
        const LIMIT: &str = "huge_pages";
        let (wanted, before) = (&self.limits.huge_pages, &self.before.huge_pages);
        let sizes: BTreeSet<&String> = wanted.keys().chain(before.keys()).collect();
        if sizes.is_empty() {
            return Ok(());
        }
        let dir = Cgroup::open(self.layout, self.path)
            .and_then(|group| group.dir_of_any(Controller::HugeTlb))
            .map_err(|source| LimitError::Group { limit: LIMIT, source })?
            .ok_or(no_controller(LIMIT, "hugetlb"))?;
        let legacy = self.layout.legacy(Controller::HugeTlb).is_some();
        let (last, lifted) = if legacy { ("limit_in_bytes", "-1") } else { ("max", "max") };
        for size in sizes {
            let value = wanted.get(size).map_or(lifted.to_owned(), u64::to_string);
            put(LIMIT, dir.join(format!("hugetlb.{size}.{last}")), &value)?;
            match put(LIMIT, dir.join(format!("hugetlb.{size}.rsvd.{last}")), &value) {
                // Kernels before 5.7 do not count reservations.
                Ok(()) | Err(LimitError::NotHere { .. }) => {}
                other => return other,
            }
        }
        Ok(())
    }

    fn pids(&self, writer: &Writer) -> Result<(), LimitError> {
        match writer.controller_of::<PidController>() {
            Some(pids) if self.has(Controller::Pids) => {
                let most = self.limits.pids.map_or(MaxValue::Max, |pids| MaxValue::Value(i64::from(pids)));
                pids.set_pid_max(most).map_err(self.refused("pids"))
            }
            _ if self.limits.pids.is_some() => Err(no_controller("pids", "pids")),
            _ => Ok(()),
        }
    }

    fn io(&self, writer: &Writer, disk: Option<Disk>) -> Result<(), LimitError> {
        let (limits, before) = (self.limits, self.before);
        let lifted = |limit: Option<u64>, before: Option<u64>| limit.or(before.map(|_| u64::MAX));
        let wide = |limit: Option<u32>| limit.map(u64::from);
        let read = lifted(limits.io_read_bytes_per_s, before.io_read_bytes_per_s);
        let written = lifted(limits.io_write_bytes_per_s, before.io_write_bytes_per_s);
        let reads = lifted(wide(limits.io_read_ops_per_s), wide(before.io_read_ops_per_s));
        let writes = lifted(wide(limits.io_write_ops_per_s), wide(before.io_write_ops_per_s));
        let weight = limits.io_weight.or(before.io_weight.map(|_| IO_WEIGHT_DEFAULT));
        if [read, written, reads, writes].iter().all(Option::is_none) && weight.is_none() {
            return Ok(());
        }
        let missing = no_controller("io limits", "block I/O");
        let io = writer.controller_of::<BlkIoController>().filter(|_| self.has(Controller::BlkIo));
        let (Some(io), Some((major, minor))) = (io, disk) else { return Err(missing) };
        if let Some(rate) = read {
            io.throttle_read_bps_for_device(major, minor, rate)
                .map_err(self.refused("io_read_bytes_per_s"))?;
        }
        if let Some(rate) = written {
            io.throttle_write_bps_for_device(major, minor, rate)
                .map_err(self.refused("io_write_bytes_per_s"))?;
        }
        if let Some(rate) = reads {
            io.throttle_read_iops_for_device(major, minor, rate)
                .map_err(self.refused("io_read_ops_per_s"))?;
        }
        if let Some(rate) = writes {
            io.throttle_write_iops_for_device(major, minor, rate)
                .map_err(self.refused("io_write_ops_per_s"))?;
        }
        match weight {
            Some(weight) if shares_by_weight(major, minor) => {
                let name = if self.v2() { "io.bfq.weight" } else { "blkio.bfq.weight" };
                let file = self.file(Controller::BlkIo, name).ok_or(LimitError::NoWeight)?;
                put("io_weight", file, &bfq_weight(weight).to_string())
            }
            // Where none can be set any more, none is left to lift.
            Some(_) if limits.io_weight.is_some() => Err(LimitError::NoWeight),
            _ => Ok(()),
        }
    }
}

const fn no_controller(limit: &'static str, controller: &'static str) -> LimitError {
    LimitError::NoController { limit, controller }
}

/// Writes one file of the kernel in one write.
fn put(limit: &'static str, path: PathBuf, value: &str) -> Result<(), LimitError> {
    let opened = OpenOptions::new().write(true).open(&path);
    opened.and_then(|mut file| file.write_all(value.as_bytes())).map_err(|source| match source.kind() {
        ErrorKind::NotFound => {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            LimitError::NotHere { limit, because: format!("this kernel has no {file}") }
        }
        _ => LimitError::Write { limit, path, source },
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_group_needs_more_than_a_number_of_processes_only_when_it_is_asked_for() {
        let plain = Limits { pids: Some(7), shm_bytes: Some(1), open_files: Some(2), ..Limits::default() };
        assert!(only_pids(&plain) && only_pids(&Limits::default()));
        assert!(!only_pids(&Limits { memory_bytes: Some(1), ..plain.clone() }));
        assert!(!only_pids(&Limits { cpus: Some("0".to_owned()), ..plain.clone() }));
        assert!(!only_pids(&Limits { huge_pages: [("2MB".to_owned(), 0)].into(), ..plain.clone() }));
        assert!(!only_pids(&Limits { io_weight: Some(1), ..plain }));
    }

    #[test]
    fn weights_keep_their_order_and_fit_into_bfq_s_range() {
        assert_eq!([1, 100, 111, 10_000].map(bfq_weight), [1, 100, 101, 1_000]);
    }

    #[test]
    fn huge_pages_have_the_controller_s_names() {
        let sizes = ["hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB", "else"].map(page_size);
        assert_eq!(sizes.map(Option::unwrap_or_default), ["64KB", "2MB", "1GB", ""]);
    }

    #[test]
    fn what_v1_does_not_have_is_refused_with_the_reason() {
        let v1 = Layout::of(None, [(Controller::Memory, PathBuf::from("/nowhere"))].into());
        let refused = |limits: Limits| check(&v1, &limits).expect_err("refused").to_string();
        let high = refused(Limits { memory_high_bytes: Some(1 << 30), ..Limits::default() });
        assert!(high.contains("not available here, because cgroup v1"), "{high}");
        let group = refused(Limits { oom_group: Some(true), ..Limits::default() });
        assert!(group.contains("oom_group is not available here"), "{group}");
        let huge = refused(Limits { huge_pages: [("2MB".to_owned(), 0)].into(), ..Limits::default() });
        assert!(huge.contains("no hugetlb controller"), "{huge}");
        let cpus = refused(Limits { cpus: Some("0".to_owned()), ..Limits::default() });
        assert!(cpus.contains("no cpuset controller"), "{cpus}");
        assert!(check(&v1, &Limits { oom_group: Some(false), ..Limits::default() }).is_ok());
    }
}
