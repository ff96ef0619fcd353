//! Layers and root file systems: a hostile tar becomes a directory, and nothing outside it changes.
//!
//! The stream is decompressed, hashed and written in one pass, into a directory that nobody else sees
//! yet; the caller compares the hash and only then renames it into place. What is written is what an
//! overlay mount reads: whiteouts become character devices 0:0, opaque directories get
//! `trusted.overlay.opaque`, owners stay the container's own ids (layers are mounted id-mapped).
//!
//! Decisions, each with a test in the hostile corpus:
//! - Names never leave the layer: `..` is refused, each directory is opened beneath the root with
//!   `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`, so a member below a symbolic link of the same
//!   archive is refused and never followed.
//! - Device nodes are made, as Docker does, for root file systems carry `/dev/null` and a missing one
//!   would change the image silently. They open nothing: layers are reachable by root alone and mounted
//!   `nodev`. Character device 0:0 is refused, since to overlay it is a whiteout.
//! - `security.capability` and `user.*` attributes are kept; `trusted.*` and `user.overlay.*` are refused
//!   because overlay obeys them; others belong to the host that made the image and are dropped.
//!
//! Sources: [OCI layers](https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md),
//! [overlayfs](https://docs.kernel.org/filesystems/overlayfs.html), openat2(2).

use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};

mod compression;
mod error;
mod members;
mod name;
mod pax;
mod tree;

pub use error::UnpackError;

pub(crate) use compression::{Compression, decompress};
pub(crate) use members::{Kind, Member, Members};
pub(crate) use name::components as check_name;

/// How much of everything one archive may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Members, and directories that they imply.
    pub entries: u64,
    /// Bytes of the uncompressed archive, and of its files with their holes.
    pub unpacked_bytes: u64,
    /// Bytes of one name.
    pub name_bytes: usize,
    /// Components of one name.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 500_000, unpacked_bytes: 64 << 30, name_bytes: 4095, depth: 256 }
    }
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    pub(crate) compression: Compression,
    /// Bytes of all files.
    pub(crate) unpacked_bytes: u64,
    /// The root hides all lower layers.
    pub(crate) opaque_root: bool,
}

/// Unpacks a compressed or plain archive beneath `root`, an empty directory that only we use.
pub(crate) fn unpack(
    input: impl Read,
    root: BorrowedFd<'_>,
    limits: &Limits,
) -> Result<Summary, UnpackError> {
    let (compression, plain) = decompress(input).map_err(members::read_error)?;
    let hashed = Hashed { inner: plain, hasher: Hasher::default(), limit_bytes: limits.unpacked_bytes };
    let mut members = Members::new(hashed);
    let mut tree = tree::Tree::new(root, limits);
    let written = loop {
        match members.next() {
            Ok(Some(member)) => {
                if let Err(error) = tree.add(&member, &mut members) {
                    break Err(error);
                }
            }
            Ok(None) => break Ok(members),
            Err(error) => break Err(error),
        }
    };
    let finished = written.and_then(Members::finish);
    let hashed = finished.map_err(|error| too_long(error, limits))?;
    let (unpacked_bytes, opaque_root) = tree.finish()?;
    Ok(Summary { diff_id: hashed.hasher.finish(), compression, unpacked_bytes, opaque_root })
}

/// Hashes and bounds the uncompressed stream.
#[derive(Debug)]
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
    limit_bytes: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        if self.hasher.bytes() > self.limit_bytes {
            Err(io::ErrorKind::FileTooLarge.into())
        } else {
            Ok(count)
        }
    }
}

fn too_long(error: UnpackError, limits: &Limits) -> UnpackError {
    match error {
        UnpackError::Read { source } if source.kind() == io::ErrorKind::FileTooLarge => {
            UnpackError::Limit { what: "unpacked bytes", limit: limits.unpacked_bytes }
        }
        other => other,
    }
}
