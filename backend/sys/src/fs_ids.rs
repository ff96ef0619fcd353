//! Whose files this thread makes: its file-system ids, for as long as a guard lives.
//!
//! A file system that belongs to a user namespace, or whose mount is id-mapped, refuses to make a file
//! for an id that it has no name for (`EOVERFLOW`), and the host's root is such an id. Source: setfsuid(2),
//! capabilities(7) ("Effect of user ID changes on capabilities").

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::caps;
use crate::error::SysError;

/// Gives the thread's ids back when it is dropped. It stays on its thread: the ids are the thread's own.
#[derive(Debug)]
pub struct FsIds {
    uid: Uid,
    gid: Gid,
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

impl FsIds {
    /// Lets this thread make files as `uid` and `gid`, with the capabilities that it has now.
    ///
    /// # Errors
    /// `EPERM` when it is neither root nor has these ids; what capset(2) says.
    pub fn assume(uid: u32, gid: u32) -> Result<Self, SysError> {
        let permitted = caps::permitted()?;
        let guard = Self {
            gid: setfsgid(Gid::from_raw(gid)),
            uid: setfsuid(Uid::from_raw(uid)),
            _of_this_thread: std::marker::PhantomData,
        };
        // The calls report no failure; an impossible id changes nothing and tells what is.
        let (now_uid, now_gid) = (setfsuid(Uid::from_raw(u32::MAX)), setfsgid(Gid::from_raw(u32::MAX)));
        if (now_uid.as_raw(), now_gid.as_raw()) != (uid, gid) {
            return Err(SysError::new("setfsuid", nix::errno::Errno::EPERM));
        }
        // Leaving root's id has cleared those over files.
        caps::set(permitted, permitted, 0)?;
        Ok(guard)
    }
}

impl Drop for FsIds {
    fn drop(&mut self) {
        setfsgid(self.gid);
        setfsuid(self.uid);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn files_are_made_as_another_and_then_as_oneself_again() {
        if !Uid::effective().is_root() {
            return;
        }
        let path = std::env::temp_dir().join(format!("wharf-fs-ids-{}", std::process::id()));
        let owner = || {
            std::fs::write(&path, "x").expect("written");
            let owner = std::fs::metadata(&path).expect("there").uid();
            std::fs::remove_file(&path).expect("removed");
            owner
        };
        let guard = FsIds::assume(70_000, 70_001).expect("root may");
        assert_eq!(owner(), 70_000);
        drop(guard);
        assert_eq!(owner(), 0);
    }
}
