//! Why an archive could not be unpacked.

use std::io;

use super::name::lossy;

/// Says why an archive could not be unpacked; nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream broke off or does not decompress.
    #[error("cannot read the archive")]
    Read {
        /// What the stream said.
        source: io::Error,
    },
    /// The bytes are not a tar archive.
    #[error("not a valid tar archive at byte {offset}: {what}")]
    Malformed {
        /// Where, in the uncompressed stream.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The archive has more of something than is allowed.
    #[error("archive exceeds the limit of {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// A name that must not be used.
    #[error("refused name {name:?} in archive: {why}")]
    Name {
        /// The name.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A member whose directory is a symbolic link or a file of the same archive.
    #[error("refused {name:?} in archive: a parent is {parent}")]
    Parent {
        /// The name.
        name: String,
        /// What stands where a directory should be.
        parent: &'static str,
    },
    /// A hard link whose target is not a file of the same layer.
    #[error("refused hard link {name:?} to {target:?} in archive: {why}")]
    HardLink {
        /// The link.
        name: String,
        /// What it links to.
        target: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A kind of member that has no place in an image.
    #[error("refused {name:?} in archive: {why}")]
    Member {
        /// The name.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// An owner outside the 65,536 ids that a container has.
    #[error("refused {name:?} in archive: owner {uid}:{gid} is outside 0-65535")]
    Owner {
        /// The name.
        name: String,
        /// User id.
        uid: u64,
        /// Group id.
        gid: u64,
    },
    /// An extended attribute that would act on this host.
    #[error("refused attribute {attribute:?} of {name:?} in archive")]
    Attribute {
        /// The name of the member.
        name: String,
        /// The name of the attribute.
        attribute: String,
    },
    /// The disk or the quota is full.
    #[error("no space left while writing {name:?}")]
    DiskFull {
        /// What was being written.
        name: String,
    },
    /// The kernel refused to write.
    #[error("cannot {action} {name:?}")]
    Write {
        /// What was attempted.
        action: &'static str,
        /// On what.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl UnpackError {
    /// True if the bytes themselves may be at fault, so that a wrong digest explains it better.
    pub(crate) fn may_be_corruption(&self) -> bool {
        !matches!(self, Self::DiskFull { .. } | Self::Write { .. } | Self::Limit { .. })
    }

    /// A member that has no place there.
    pub(crate) fn refused(name: &[u8], why: &'static str) -> Self {
        Self::Member { name: lossy(name), why }
    }

    pub(crate) fn write(action: &'static str, name: &[u8], source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { name: lossy(name) },
            _ => Self::Write { action, name: lossy(name), source },
        }
    }
}
