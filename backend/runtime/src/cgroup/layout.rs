//! Which hierarchies this host has, and where.
//!
//! Read from `/proc/self/mountinfo`, never guessed from a path or from one `statfs`: a hybrid host
//! has v1 hierarchies *and* a unified tree. Sources: cgroups(7), proc(5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The kinds of host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutKind {
    /// One unified tree with the controllers.
    V2,
    /// v1 hierarchies with the controllers, and a unified tree without.
    Hybrid,
    /// v1 hierarchies only.
    V1,
}

/// A v1 controller that this runtime uses, by its name in `/proc/cgroups`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Controller {
    /// CPU weight and quota.
    Cpu,
    /// CPU time.
    CpuAcct,
    /// CPU placement.
    CpuSet,
    /// Memory and swap.
    Memory,
    /// Number of processes.
    Pids,
    /// Block I/O (`io` on v2).
    BlkIo,
    /// Device access (a BPF program on v2).
    Devices,
    /// Freezing (`cgroup.freeze` on v2).
    Freezer,
    /// Huge pages.
    HugeTlb,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Cpu,
        Self::CpuAcct,
        Self::CpuSet,
        Self::Memory,
        Self::Pids,
        Self::BlkIo,
        Self::Devices,
        Self::Freezer,
        Self::HugeTlb,
    ];

    /// Returns the v1 name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CpuAcct => "cpuacct",
            Self::CpuSet => "cpuset",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::BlkIo => "blkio",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::HugeTlb => "hugetlb",
        }
    }

    /// Returns the v2 name; `None` where v2 has no controller of this kind, or always has it.
    pub fn unified_name(self) -> Option<&'static str> {
        match self {
            Self::Cpu => Some("cpu"),
            Self::CpuSet => Some("cpuset"),
            Self::Memory => Some("memory"),
            Self::Pids => Some("pids"),
            Self::BlkIo => Some("io"),
            Self::HugeTlb => Some("hugetlb"),
            Self::CpuAcct | Self::Devices | Self::Freezer => None,
        }
    }
}

/// Why the hierarchies are not known.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The mount table cannot be read.
    #[error("cannot read /proc/self/mountinfo")]
    ReadMounts(#[source] std::io::Error),
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted on this host")]
    NoCgroups,
}

/// The hierarchies of this host and their mount points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    unified: Option<PathBuf>,
    legacy: BTreeMap<Controller, PathBuf>,
}

impl Layout {
    /// Reads the layout of this host.
    ///
    /// # Errors
    /// When the mount table cannot be read or holds no cgroup file system.
    pub fn detect() -> Result<Self, LayoutError> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").map_err(LayoutError::ReadMounts)?;
        Self::parse(&table)
    }

    /// Makes a layout of known mount points.
    pub fn of(unified: Option<PathBuf>, legacy: BTreeMap<Controller, PathBuf>) -> Self {
        Self { unified, legacy }
    }

    /// Returns the layout without the v1 hierarchies of all other controllers than these.
    #[must_use]
    pub fn only(mut self, wanted: &[Controller]) -> Self {
        self.legacy.retain(|controller, _| wanted.contains(controller));
        self
    }

    /// Reads a layout out of a mount table; of several mounts of one hierarchy the first counts.
    fn parse(table: &str) -> Result<Self, LayoutError> {
        let mut layout = Self { unified: None, legacy: BTreeMap::new() };
        for line in table.lines() {
            // 36 35 98:0 /root /mount/point opts optional… - fstype source superopts
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut left = left.split(' ').skip(3);
            let (Some(root), Some(point)) = (left.next(), left.next()) else { continue };
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            if root != "/" {
                continue;
            }
            let point = PathBuf::from(unescape(point));
            if kind == Some("cgroup2") {
                layout.unified.get_or_insert(point);
            } else if kind == Some("cgroup") {
                for controller in Controller::ALL {
                    if options.split(',').any(|option| option == controller.name()) {
                        layout.legacy.entry(controller).or_insert_with(|| point.clone());
                    }
                }
            }
        }
        if layout.unified.is_none() && layout.legacy.is_empty() {
            Err(LayoutError::NoCgroups)
        } else {
            Ok(layout)
        }
    }

    /// Returns the kind of host.
    pub fn kind(&self) -> LayoutKind {
        match (&self.unified, self.legacy.is_empty()) {
            (Some(_), true) => LayoutKind::V2,
            (Some(_), false) => LayoutKind::Hybrid,
            (None, _) => LayoutKind::V1,
        }
    }

    /// Returns where the unified tree is mounted.
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// Returns where the v1 hierarchy of a controller is mounted.
    pub fn legacy(&self, controller: Controller) -> Option<&Path> {
        self.legacy.get(&controller).map(PathBuf::as_path)
    }

    /// Returns the mount point that limits and counters of a controller are under.
    pub fn controller_root(&self, controller: Controller) -> Option<&Path> {
        self.legacy(controller).or_else(|| {
            let has_files = self.kind() == LayoutKind::V2;
            self.unified().filter(|_| has_files)
        })
    }

    /// Returns each v1 hierarchy once (two controllers may share one), with a controller of it.
    pub fn legacy_hierarchies(&self) -> Vec<(Controller, &Path)> {
        let mut seen: Vec<(Controller, &Path)> = Vec::new();
        for (controller, path) in &self.legacy {
            if seen.iter().all(|(_, other)| *other != path) {
                seen.push((*controller, path));
            }
        }
        seen
    }

    /// Returns the mount points of all hierarchies, each once, the unified tree first.
    pub fn hierarchies(&self) -> Vec<&Path> {
        let legacy = self.legacy_hierarchies().into_iter().map(|(_, path)| path);
        self.unified().into_iter().chain(legacy).collect()
    }
}

/// Undoes the octal escapes of the mount table.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn a_hybrid_host_has_both_and_shared_hierarchies_count_once() {
        let layout = Layout::parse(HYBRID).expect("layout");
        assert_eq!(layout.kind(), LayoutKind::Hybrid);
        assert_eq!(layout.legacy(Controller::CpuAcct), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(layout.hierarchies().len(), 3, "unified, cpu+cpuacct, memory");
        assert_eq!(layout.controller_root(Controller::Pids), None, "pids is mounted nowhere");
        assert_eq!(layout.controller_root(Controller::Memory), Some(Path::new("/sys/fs/cgroup/memory")));
    }

    #[test]
    fn a_unified_host_has_all_controllers_in_one_place() {
        let layout =
            Layout::parse("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate").expect("layout");
        assert_eq!(layout.kind(), LayoutKind::V2);
        assert_eq!(layout.controller_root(Controller::Memory), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(layout.hierarchies(), [Path::new("/sys/fs/cgroup")]);
    }

    #[test]
    fn a_v1_host_has_no_unified_tree() {
        let layout = Layout::parse("30 23 0:26 / /cg/a\\040b rw - cgroup cgroup rw,pids").expect("layout");
        assert_eq!(layout.kind(), LayoutKind::V1);
        assert_eq!(layout.legacy(Controller::Pids), Some(Path::new("/cg/a b")));
    }

    #[test]
    fn a_host_without_cgroups_is_an_error_and_a_bound_subtree_does_not_count() {
        assert!(Layout::parse("30 23 0:26 / / rw - ext4 /dev/sda rw").is_err());
        assert!(
            Layout::parse("30 23 0:26 /docker/x /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids").is_err()
        );
    }
}
