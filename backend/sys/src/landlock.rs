//! Landlock: which version of it the kernel has, and a thread that gives up all files but a few.
//! Sources: landlock(7), `landlock_create_ruleset(2)`, `landlock_restrict_self(2)`.

// UNSAFETY: the version is told by landlock_create_ruleset, which is reached by number only.
#![expect(unsafe_code, reason = "neither nix nor libc wraps landlock_create_ruleset(2)")]

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, Scope,
};

use crate::error::{SysError, check};

/// `LANDLOCK_CREATE_RULESET_VERSION`: asks for the version, and makes nothing.
const VERSION: libc::c_uint = 1;
/// The newest version that this was tried on. What it can refuse and an older kernel cannot is let be.
const NEWEST: ABI = ABI::V7;
/// The first version that lets a file be linked or moved to another directory (Linux 5.19). Under the one
/// before, nothing can be.
pub const MOVES_SINCE: i64 = 2;

/// What a confined thread may still do beneath a directory. Nothing is ever executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// List directories and read files.
    Read,
    /// List directories; make, write, link, move and remove all but sockets.
    Fill,
}

impl Allowed {
    fn rights(self) -> BitFlags<AccessFs> {
        match self {
            Self::Read => AccessFs::ReadFile | AccessFs::ReadDir,
            Self::Fill => {
                AccessFs::ReadDir
                    | AccessFs::WriteFile
                    | AccessFs::Truncate
                    | AccessFs::Refer
                    | AccessFs::RemoveDir
                    | AccessFs::RemoveFile
                    | AccessFs::MakeBlock
                    | AccessFs::MakeChar
                    | AccessFs::MakeDir
                    | AccessFs::MakeFifo
                    | AccessFs::MakeReg
                    | AccessFs::MakeSym
            }
        }
    }
}

/// The kernel has Landlock and would not confine a thread by it.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine a thread by Landlock")]
pub struct ConfineError(#[from] landlock::RulesetError);

/// Confines this thread, and those that it starts, for ever: to these directories, to no TCP (Linux 6.7), and to
/// no signals and abstract sockets of others (Linux 6.12). What is open already stays usable. Does nothing
/// on a kernel that has no Landlock, or one that forbids moves ([`MOVES_SINCE`]).
///
/// # Errors
/// [`ConfineError`]: out of memory, or confined sixteen times already.
pub fn confine(beneath: &[(BorrowedFd<'_>, Allowed)]) -> Result<(), ConfineError> {
    if abi().is_ok_and(|version| version >= MOVES_SINCE) {
        restrict(beneath)?;
    }
    Ok(())
}

fn restrict(beneath: &[(BorrowedFd<'_>, Allowed)]) -> Result<(), landlock::RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for (directory, allowed) in beneath {
        ruleset = ruleset.add_rule(PathBeneath::new(directory, allowed.rights()))?;
    }
    ruleset.restrict_self().map(drop)
}

/// Returns the version of the kernel's interface, from 1 on.
///
/// # Errors
/// `ENOSYS` without Landlock in the kernel, `EOPNOTSUPP` when it was left out at boot.
pub fn abi() -> Result<i64, SysError> {
    let attributes: *const libc::c_void = std::ptr::null();
    let size: libc::size_t = 0;
    // SAFETY: with this flag the kernel wants no attributes and no size, and touches no memory.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, attributes, size, VERSION) };
    check("landlock_create_ruleset", version)
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_kernel_says_its_version_or_that_it_has_none() {
        match abi() {
            Ok(version) => assert!(version >= 1, "{version}"),
            Err(error) => assert!(matches!(error.errno, Errno::ENOSYS | Errno::EOPNOTSUPP), "{error}"),
        }
    }
}
