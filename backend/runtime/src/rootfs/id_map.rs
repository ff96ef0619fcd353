//! A tenant's id range: written for a process, and as a namespace to shift mounts by.
//!
//! Source: `user_namespaces(7)`, `mount_setattr(2)`.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;
use wharf_sys::process::{CloneArgs, clone3};

use crate::error::{AtStage, Stage, StepError};
use crate::launch::{HalfMade, namespace_of};
use crate::spec::IdMap;
use crate::sync::Channel;

/// Maps the ids of a process that was born into a user namespace of its own.
pub(crate) fn write(pid: i32, map: IdMap) -> Result<(), StepError> {
    let line = format!("0 {} {}\n", map.host_base, map.size);
    for file in ["gid_map", "uid_map"] {
        let path = format!("/proc/{pid}/{file}");
        let written =
            OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
        written.at(Stage::MapIds, format!("{} + {}", map.host_base, map.size))?;
    }
    Ok(())
}

/// Makes a user namespace with a map, and lets its only process go. The caller has one thread.
pub(crate) fn user_namespace(map: IdMap) -> Result<OwnedFd, StepError> {
    let (ours, theirs) = Channel::pair()?;
    let ours = Cell::new(Some(ours));
    let args = CloneArgs { namespaces: CloneFlags::CLONE_NEWUSER, cgroup: None };
    let (pid, pidfd) = clone3(args, || {
        drop(ours.take());
        // Until the parent has gone from the other end.
        i32::from(theirs.await_order().is_err())
    })
    .at(Stage::Clone, "")?;
    // It ends with this function, also when what follows fails.
    let _child = HalfMade::new(&pidfd)?;
    write(pid, map)?;
    namespace_of(pid, "user")
}
