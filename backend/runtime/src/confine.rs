//! Makes this process no more than the description says, for ever: the last steps before execve.
//!
//! Order: limits → keyring → capabilities → user → `no_new_privs` → seccomp → close-on-exec. Without
//! `no_new_privs` the filter needs `CAP_SYS_ADMIN` over the user namespace and so comes before the
//! capabilities go. Sources: capabilities(7), credentials(7), seccomp(2).

use nix::errno::Errno;
use nix::sys::prctl::{set_dumpable, set_no_new_privs, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use wharf_sys::seccomp::Instruction;
use wharf_sys::{SysError, caps, keyring, limits, process};

use crate::error::{AtStage, Stage, StepError};
use crate::spec::{ProcessSpec, Rlimit};
use crate::user::Identity;

/// Takes all privileges away that the description does not name.
pub(crate) fn confine(
    spec: &ProcessSpec,
    identity: &Identity,
    filter: Option<&[Instruction]>,
) -> Result<(), StepError> {
    for limit in &spec.rlimits {
        lower_limit(*limit)
            .at(Stage::SetLimit, format!("{} to {}:{}", limit.resource, limit.soft, limit.hard))?;
    }
    match keyring::join_new_session().map_err(|error| error.errno) {
        // A kernel without keyrings has none to leave.
        Ok(()) | Err(Errno::ENOSYS) => {}
        Err(errno) => return Err(errno).at(Stage::DropPrivileges, "session keyring"),
    }
    let wanted = caps::set_of(&spec.capabilities);
    bound_capabilities(wanted)?;
    let load = |filter: Option<&[Instruction]>| {
        filter.map_or(Ok(()), wharf_sys::seccomp::load).at(Stage::LoadSeccomp, "")
    };
    if !spec.no_new_privs {
        load(filter)?;
    }
    become_user(identity)?;
    let permitted = caps::permitted().at(Stage::DropPrivileges, "capabilities")?;
    // A user other than root has lost its capabilities with setresuid; execve would not keep them.
    caps::set(wanted & permitted).at(Stage::DropPrivileges, "capabilities")?;
    // Both are undone by a change of user; the supervisor's death must be the container's.
    set_pdeathsig(Signal::SIGKILL).at(Stage::DropPrivileges, "death signal")?;
    set_dumpable(false).at(Stage::DropPrivileges, "dumpable")?;
    if spec.no_new_privs {
        set_no_new_privs().at(Stage::DropPrivileges, "no_new_privs")?;
    }
    process::close_on_exec_from(3).at(Stage::DropPrivileges, "descriptors")?;
    if spec.no_new_privs {
        load(filter)?;
    }
    Ok(())
}

/// Sets a limit, as far down as this process's own hard limit; the parent then raises what it may.
fn lower_limit(limit: Rlimit) -> Result<(), SysError> {
    let (_, most) = limits::get(0, limit.resource)?;
    limits::set(0, limit.resource, limit.soft.min(most), limit.hard.min(most))
}

fn bound_capabilities(wanted: u64) -> Result<(), StepError> {
    caps::clear_ambient().at(Stage::DropPrivileges, "ambient capabilities")?;
    for capability in (0..64).filter(|capability| wanted & caps::set_of(&[*capability]) == 0) {
        match caps::drop_from_bounding_set(capability).map_err(|error| error.errno) {
            // The kernel has no capability of this number, and none above.
            Err(Errno::EINVAL) => break,
            other => other.at(Stage::DropPrivileges, format!("capability {capability}"))?,
        }
    }
    Ok(())
}

fn become_user(identity: &Identity) -> Result<(), StepError> {
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    setgroups(&groups).at(Stage::DropPrivileges, "groups")?;
    setresgid(gid, gid, gid).at(Stage::DropPrivileges, format!("group {gid}"))?;
    setresuid(uid, uid, uid).at(Stage::DropPrivileges, format!("user {uid}"))
}
