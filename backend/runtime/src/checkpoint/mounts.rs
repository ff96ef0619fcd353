//! Which of a container's mounts CRIU cannot make again: pure.
//!
//! CRIU makes file systems of the container's own namespaces by itself (`proc`, `sysfs`, `devpts`, `mqueue`,
//! and a `tmpfs` with what is in it). Our `/dev` has nodes that no user namespace may make, the cgroup mounts
//! are those of another cgroup after a restore, masks are parts of our `/dev`, and binds show directories of
//! the host. These are named `--external` to CRIU, and [`super::restore`] has them ready.

use serde::{Deserialize, Serialize};

/// A mount that CRIU finds ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Where it is in the container.
    pub target: String,
    /// What it shows.
    pub kind: OutsideKind,
}

/// What such a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutsideKind {
    /// Our `/dev`.
    Dev,
    /// Our null device, in place of a file.
    Null,
    /// Our empty directory, in place of a directory.
    Empty,
    /// `/sys/fs/cgroup`, or a hierarchy below it.
    Cgroup,
    /// A mount of the container's description.
    Bind,
}

/// A mount that cannot be described to CRIU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the mount at {target:?} has a name that CRIU cannot be told; choose a plain one")]
pub struct BadTarget {
    /// Where it is in the container.
    pub target: String,
}

/// Finds them in a `/proc/<pid>/mountinfo` (`proc_pid_mountinfo(5)`).
///
/// # Errors
/// A mount point with a character that is special to CRIU, or a blank.
pub(super) fn outside(mountinfo: &str) -> Result<Vec<Outside>, BadTarget> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((root, target, kind)) = fields(line) else { continue };
        let Some(kind) = kind_of(root, target, kind) else { continue };
        // The kernel writes blanks and backslashes as octal escapes.
        if target.contains(['[', ']', ':', '\\', ',']) {
            return Err(BadTarget { target: target.to_owned() });
        }
        found.push(Outside { target: target.to_owned(), kind });
    }
    Ok(found)
}

/// Root within the file system, mount point, and type of the file system.
fn fields(line: &str) -> Option<(&str, &str, &str)> {
    let (mount, super_block) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    Some((fields.next()?, fields.next()?, super_block.split(' ').next()?))
}

fn kind_of(root: &str, target: &str, kind: &str) -> Option<OutsideKind> {
    let in_kernel = target.starts_with("/proc/") || target.starts_with("/sys/");
    match (kind, target) {
        (_, "/") | ("proc" | "sysfs" | "devpts" | "mqueue", _) => None,
        ("cgroup" | "cgroup2", _) | ("tmpfs", "/sys/fs/cgroup") => Some(OutsideKind::Cgroup),
        ("tmpfs", "/dev") => Some(OutsideKind::Dev),
        ("tmpfs", _) if in_kernel && root == "/" => Some(OutsideKind::Empty),
        ("tmpfs", _) if in_kernel => Some(OutsideKind::Null),
        ("tmpfs", _) if root == "/" => None,
        _ => Some(OutsideKind::Bind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
68 75 254:0 /state/c/ab/hosts /etc/hosts ro,nosuid - ext4 /dev/vda rw
75 44 0:40 / / rw,nodev - overlay overlay rw
71 75 0:42 / /dev rw,nosuid - tmpfs none rw,size=64k
72 75 0:43 / /proc rw,nosuid - proc none rw
76 71 0:44 / /dev/pts rw - devpts none rw
77 71 0:45 / /dev/shm rw - tmpfs none rw
78 75 0:50 / /scratch rw - tmpfs none rw
79 75 0:46 / /sys ro - sysfs none rw
80 79 0:47 / /sys/fs/cgroup ro - tmpfs none rw
81 80 0:29 /t/c /sys/fs/cgroup/cpu ro - cgroup none rw,cpu
89 80 0:38 /t/c /sys/fs/cgroup/unified ro - cgroup2 none rw
90 72 0:48 / /proc/acpi ro - tmpfs none rw
91 72 0:42 /null /proc/kcore rw - tmpfs none rw
101 72 0:43 /bus /proc/bus ro - proc none rw
";

    #[test]
    fn what_is_ours_or_the_host_s_is_outside_and_the_rest_is_left_to_criu() {
        let found = outside(MOUNTS).expect("plain names");
        let found: Vec<(&str, OutsideKind)> =
            found.iter().map(|outside| (outside.target.as_str(), outside.kind)).collect();
        assert_eq!(
            found,
            [
                ("/etc/hosts", OutsideKind::Bind),
                ("/dev", OutsideKind::Dev),
                ("/sys/fs/cgroup", OutsideKind::Cgroup),
                ("/sys/fs/cgroup/cpu", OutsideKind::Cgroup),
                ("/sys/fs/cgroup/unified", OutsideKind::Cgroup),
                ("/proc/acpi", OutsideKind::Empty),
                ("/proc/kcore", OutsideKind::Null),
            ]
        );
    }

    #[test]
    fn a_mount_point_that_would_be_read_as_something_else_is_refused() {
        for target in ["/data\\040x", "/a]:b", "/a:b", "/a,b"] {
            let line = format!("1 2 8:1 /v {target} rw - ext4 /dev/vda rw\n");
            assert_eq!(outside(&line), Err(BadTarget { target: target.to_owned() }));
        }
    }
}
