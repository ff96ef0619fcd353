//! Makes this process no more than the description says, for ever: the last steps before the filter.
//!
//! Order: limits → keyring → capabilities → user → `no_new_privs` → close-on-exec; the system call
//! filter follows. Without `no_new_privs` that needs `CAP_SYS_ADMIN` over the user namespace and so is
//! loaded here, before the capabilities go. Sources: capabilities(7), credentials(7), seccomp(2).

use nix::errno::Errno;
use nix::sys::prctl::{set_dumpable, set_no_new_privs, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use wharf_sys::seccomp::Instruction;
use wharf_sys::{SysError, caps, keyring, limits, process};

use crate::error::{AtStage, Stage, StepError};
use crate::spec::{ProcessSpec, Rlimit};
use crate::user::Identity;

/// Takes all privileges away that the description does not name. `filter` is loaded where it would be
/// too late afterwards; with `outlives` the parent's death is not this process's.
pub(crate) fn confine(
    spec: &ProcessSpec,
    identity: &Identity,
    outlives: bool,
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
    bound_capabilities(caps::set_of(&spec.capabilities))?;
    filter.map_or(Ok(()), wharf_sys::seccomp::load).at(Stage::LoadSeccomp, "")?;
    let sets = Sets::of(spec);
    if sets.ambient != 0 {
        caps::keep_over_user_change().at(Stage::DropPrivileges, "capabilities")?;
    }
    become_user(identity)?;
    sets.apply().at(Stage::DropPrivileges, "capabilities")?;
    // Both are undone by a change of user.
    if !outlives {
        set_pdeathsig(Signal::SIGKILL).at(Stage::DropPrivileges, "death signal")?;
    }
    set_dumpable(false).at(Stage::DropPrivileges, "dumpable")?;
    if spec.no_new_privs {
        set_no_new_privs().at(Stage::DropPrivileges, "no_new_privs")?;
    }
    process::close_on_exec_from(3).at(Stage::DropPrivileges, "descriptors")
}

/// Capability sets as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sets {
    permitted: u64,
    effective: u64,
    inheritable: u64,
    ambient: u64,
}

impl Sets {
    /// What the description wants, each set within those that bound it.
    fn of(spec: &ProcessSpec) -> Self {
        let bounding = caps::set_of(&spec.capabilities);
        let Some(sets) = &spec.capability_sets else {
            return Self { permitted: bounding, effective: bounding, inheritable: 0, ambient: 0 };
        };
        let permitted = caps::set_of(&sets.permitted);
        let inheritable = caps::set_of(&sets.inheritable);
        let effective = caps::set_of(&sets.effective) & permitted;
        Self {
            permitted,
            effective,
            inheritable,
            ambient: caps::set_of(&sets.ambient) & permitted & inheritable,
        }
    }

    /// Sets them. A user other than root has lost what it had with setresuid, unless it was told to keep
    /// it; execve would not keep it either, but for what is ambient.
    fn apply(self) -> Result<(), SysError> {
        let had = caps::permitted()?;
        caps::set(self.permitted & had, self.effective & had, self.inheritable & had)?;
        let ambient = self.ambient & had;
        (0..64)
            .filter(|capability| ambient & caps::set_of(&[*capability]) != 0)
            .try_for_each(caps::raise_ambient)
    }
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
