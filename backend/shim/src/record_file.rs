//! Small JSON files that are whole or absent, and trusted only after a look at their owner.
//!
//! Written to a temporary name and renamed, so that a reader never sees half of one; text, so that
//! an operator can read them, and so that a later build can add a field.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// No such file is larger.
const MAX_BYTES: u64 = 64 * 1024;

/// A file that could not be written or must not be believed.
#[derive(Debug, thiserror::Error)]
pub enum RecordFileError {
    /// A system call failed.
    #[error("could not {call} {path}", path = path.display())]
    Io {
        /// The step that failed.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no plain file of ours that only we can write.
    #[error("{path} is not a plain file with mode 0600 that belongs to the reader", path = path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
    },
    /// It is larger than any that we write.
    #[error("{path} has {length_bytes} bytes; at most {MAX_BYTES} are accepted", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        length_bytes: u64,
    },
    /// It is not of the expected form.
    #[error("{path} is damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// Whether a file must survive a power failure when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It may be lost with the machine (it lies in memory).
    Boot,
    /// It and its name are on disk.
    Disk,
}

/// Writes `value` to `path` in one step.
pub(crate) fn write(
    path: &Path,
    value: &impl Serialize,
    durability: Durability,
) -> Result<(), RecordFileError> {
    let failed = |call| move |source: io::Error| RecordFileError::Io { call, path: path.to_owned(), source };
    let mut bytes = serde_json::to_vec(value)
        .map_err(|source| RecordFileError::Damaged { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    let temporary = path.with_extension("new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = rustix::fs::open(&temporary, flags, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(|errno| failed("create a new")(errno.into()))?;
    file.write_all(&bytes).map_err(failed("write a new"))?;
    if durability == Durability::Disk {
        file.sync_all().map_err(failed("sync a new"))?;
    }
    std::fs::rename(&temporary, path).map_err(failed("put in place"))?;
    if durability == Durability::Disk
        && let Some(directory) = path.parent()
    {
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("sync the directory of"))?;
    }
    Ok(())
}

/// Reads a file that [`write`] made; `None` when there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordFileError> {
    let failed = |call| move |source: io::Error| RecordFileError::Io { call, path: path.to_owned(), source };
    // NONBLOCK: opening a fifo that somebody put there must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(RecordFileError::Untrusted { path: path.to_owned() }),
        Err(errno) => return Err(failed("open")(errno.into())),
    };
    let metadata = file.metadata().map_err(failed("examine"))?;
    if !is_trusted(&metadata) {
        return Err(RecordFileError::Untrusted { path: path.to_owned() });
    }
    if metadata.len() > MAX_BYTES {
        return Err(RecordFileError::TooLarge { path: path.to_owned(), length_bytes: metadata.len() });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed("read"))?;
    let value = serde_json::from_slice(&bytes)
        .map_err(|source| RecordFileError::Damaged { path: path.to_owned(), source })?;
    Ok(Some(value))
}

fn is_trusted(metadata: &Metadata) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    metadata.is_file()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & WRITABLE_BY_OTHERS == 0
        && metadata.nlink() == 1
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn path(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("file.json")
    }

    #[test]
    fn reads_back_what_it_writes_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().expect("temp dir");
        write(&path(&dir), &vec![1, 2, 3], Durability::Disk).expect("write");
        assert_eq!(read::<Vec<i32>>(&path(&dir)).expect("read"), Some(vec![1, 2, 3]));
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
        let mode = std::fs::metadata(path(&dir)).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_missing_file_is_none() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(read::<Vec<i32>>(&path(&dir)).expect("read"), None);
    }

    #[test]
    fn truncated_files_are_damaged() {
        let dir = tempfile::tempdir().expect("temp dir");
        write(&path(&dir), &vec![1, 2, 3], Durability::Boot).expect("write");
        let whole = std::fs::read(path(&dir)).expect("read");
        // The last two bytes are the bracket and the line's end.
        for length in 0..whole.len() - 1 {
            std::fs::write(path(&dir), &whole[..length]).expect("truncate");
            let error = read::<Vec<i32>>(&path(&dir)).expect_err("damaged");
            assert!(matches!(error, RecordFileError::Damaged { .. }), "{length}: {error}");
        }
    }

    #[test]
    fn a_symbolic_link_a_fifo_a_second_name_and_a_file_others_can_write_are_not_trusted() {
        let dir = tempfile::tempdir().expect("temp dir");
        let real = dir.path().join("real.json");
        write(&real, &1, Durability::Boot).expect("write");
        let untrusted = |what: &str| {
            let error = read::<i32>(&path(&dir)).expect_err(what);
            assert!(matches!(error, RecordFileError::Untrusted { .. }), "{what}: {error}");
            std::fs::remove_file(path(&dir)).expect("remove");
        };
        std::os::unix::fs::symlink(&real, path(&dir)).expect("link");
        untrusted("symbolic link");
        std::fs::hard_link(&real, path(&dir)).expect("link");
        untrusted("hard link");
        rustix::fs::mkfifoat(rustix::fs::CWD, path(&dir), Mode::RUSR).expect("fifo");
        untrusted("fifo");
        write(&path(&dir), &1, Durability::Boot).expect("write");
        std::fs::set_permissions(path(&dir), std::fs::Permissions::from_mode(0o620)).expect("chmod");
        untrusted("writable by the group");
    }

    #[test]
    fn a_huge_file_is_refused_unread() {
        let dir = tempfile::tempdir().expect("temp dir");
        write(&path(&dir), &1, Durability::Boot).expect("write");
        let file = File::options().write(true).open(path(&dir)).expect("open");
        file.set_len(MAX_BYTES + 1).expect("grow");
        assert!(matches!(read::<i32>(&path(&dir)), Err(RecordFileError::TooLarge { .. })));
    }
}
