//! The file system that containers are kept on: what it can do for them.
//!
//! Layers are shared by all tenants through idmapped mounts (`mount_setattr(2)`), which not every file system
//! has, so an overlay is made there as a container's is.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{major, minor, stat};

use super::{Check, read};
use crate::rootfs::id_map::user_namespace;
use crate::rootfs::overlay::{OverlayMethod, make_by};
use crate::spec::{IdMap, RootfsSpec};

pub(super) fn checks(state_dir: &Path) -> Vec<Check> {
    // It is made by the agent's first start.
    let Some(dir) = state_dir.ancestors().find(|dir| dir.is_dir()) else { return Vec::new() };
    let mounts = read("/proc/self/mountinfo");
    let mount = Mount::of(&mounts, &dir.canonicalize().unwrap_or_else(|_| dir.to_owned()));
    let scheduler = stat(dir).ok().map(|stat| {
        let device = format!("/sys/dev/block/{}:{}", major(stat.st_dev), minor(stat.st_dev));
        // A partition's is that of its disk.
        let scheduler = |place: &str| read(Path::new(&device).join(place).join("queue/scheduler"));
        Some(scheduler(".")).filter(|found| !found.is_empty()).unwrap_or_else(|| scheduler(".."))
    });
    vec![overlay(dir, mount.as_ref()), limits(mount.as_ref()), weight(&scheduler.unwrap_or_default())]
}

/// A line of the mount table.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// The mount that a path is on: of those above it the nearest, and of several there the last.
    fn of(table: &'a str, path: &Path) -> Option<Self> {
        let parse = |line: &'a str| {
            let (left, right) = line.split_once(" - ")?;
            let point = Path::new(left.split(' ').nth(4)?);
            let mut right = right.split(' ');
            let mount = Self { kind: right.next()?, options: right.nth(1)? };
            path.starts_with(point).then(|| (point.components().count(), mount))
        };
        table.lines().filter_map(parse).max_by_key(|(depth, _)| *depth).map(|(_, mount)| mount)
    }
}

/// Mounts a small overlay with shifted layers by each method.
fn overlay(dir: &Path, mount: Option<&Mount<'_>>) -> Check {
    const NAME: &str = "overlay with shifted layers";
    let on = mount.map_or_else(String::new, |mount| format!(" on {}", mount.kind));
    let directory = Scratch::new(dir);
    let outcome = directory.and_then(|scratch| {
        let map = IdMap { host_base: 1_000_000, size: 65_536 };
        let namespace = user_namespace(map).map_err(|error| error.errno)?;
        let spec = scratch.spec();
        let attempt =
            |method| make_by(method, &spec, Some(namespace.as_fd())).map(drop).map_err(|error| error.errno);
        Ok((attempt(OverlayMethod::Descriptors), attempt(OverlayMethod::Attached)))
    });
    match outcome {
        Ok((Ok(()), Ok(()))) => Check::ok(NAME, format!("by descriptors, and by paths{on}")),
        Ok((Ok(()), Err(errno))) => Check::ok(NAME, format!("by descriptors{on}; not by paths ({errno})")),
        Ok((Err(errno), Ok(()))) => {
            Check::ok(NAME, format!("by paths{on}; not by descriptors before Linux 6.13 ({errno})"))
        }
        Err(Errno::EBUSY) => Check::degraded(
            NAME,
            "not tried: this process has threads",
            "run `wharf doctor` on the host, which tries it",
        ),
        Ok((_, Err(errno))) | Err(errno) => Check::missing(
            NAME,
            format!("tenants cannot share layers here{on}: {errno}"),
            "run as root with the state directory on ext4, xfs or btrfs, and with user namespaces allowed \
                 (user.max_user_namespaces)",
        ),
    }
}

/// Directories for one overlay, removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(dir: &Path) -> Result<Self, Errno> {
        let scratch = Self(dir.join(format!(".wharf-doctor-{}", std::process::id())));
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
            ephemeral: false,
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

fn limits(mount: Option<&Mount<'_>>) -> Check {
    const NAMES: [&str; 3] = ["prjquota", "pquota", "pqnoenforce"];
    let mut options = mount.map_or("", |mount| mount.options).split(',');
    if options.any(|option| NAMES.contains(&option)) {
        Check::ok("disk limits", "project quota")
    } else {
        Check::degraded(
            "disk limits",
            "no project quota where the state directory is: disk use is not limited",
            "mount the file system of the state directory with prjquota",
        )
    }
}

/// Only BFQ shares a disk by weight.
fn weight(schedulers: &str) -> Check {
    if schedulers.contains("[bfq]") {
        Check::ok("I/O weight", "the disk's scheduler is bfq")
    } else {
        Check::degraded(
            "I/O weight",
            match schedulers.trim() {
                "" => "the state directory is on no disk of its own: weights are refused".to_owned(),
                found => {
                    format!("the disk's scheduler shares nothing by weight ({found}): weights are refused")
                }
            },
            "modprobe bfq, and echo bfq > /sys/block/DISK/queue/scheduler, for the whole disk the state \
             directory is on",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Status;

    const TABLE: &str = "21 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
        30 21 254:1 / /var rw - tmpfs none rw\n\
        31 21 254:2 / /var rw - xfs /dev/vdb rw,prjquota\n\
        32 21 0:44 / /variable rw - tmpfs none rw\n";

    #[test]
    fn a_path_is_on_the_nearest_mount_above_it() {
        let kind = |path: &str| Mount::of(TABLE, Path::new(path)).map(|mount| mount.kind);
        assert_eq!(kind("/var/lib/wharf"), Some("xfs"));
        assert_eq!(kind("/variable/x"), Some("tmpfs"));
        assert_eq!(kind("/home"), Some("ext4"));
        assert_eq!(Mount::of("", Path::new("/home")), None);
    }

    #[test]
    fn disk_is_limited_where_the_state_is_and_not_somewhere() {
        assert_eq!(limits(Mount::of(TABLE, Path::new("/var/lib")).as_ref()).status, Status::Ok);
        assert_eq!(limits(Mount::of(TABLE, Path::new("/srv")).as_ref()).status, Status::Degraded);
    }

    #[test]
    fn only_bfq_shares_by_weight() {
        assert_eq!(weight("none mq-deadline [bfq]\n").status, Status::Ok);
        assert!(weight("[none] mq-deadline\n").detail.contains("[none] mq-deadline"));
        assert!(weight("").detail.contains("no disk of its own"));
    }
}
