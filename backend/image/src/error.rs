//! The error of everything that handles whole images.

use crate::content::StoreError;
use crate::digest::Digest;
use crate::import::ArchiveError;
use crate::manifest::ManifestError;
use crate::registry::RegistryError;
use crate::unpack::UnpackError;
use crate::walls::WallsError;

/// Says why an image could not be pulled, imported, loaded or collected.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry did not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A manifest or configuration cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An archive is not one of an image.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A layer was refused or could not be written.
    #[error("cannot unpack layer {layer}")]
    Unpack {
        /// The layer's digest, as the manifest names it.
        layer: Digest,
        /// Why.
        source: UnpackError,
    },
    /// A root file system archive was refused or could not be written.
    #[error("cannot unpack the root file system")]
    Rootfs {
        /// Why.
        source: UnpackError,
    },
    /// A layer's uncompressed bytes are not those that the configuration names.
    #[error("layer {layer} unpacks to {actual}, but the image configuration says {expected}")]
    DiffIdMismatch {
        /// The layer's digest, as the manifest names it.
        layer: Digest,
        /// What the configuration says.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// A container's changes could not be made a layer.
    #[error("cannot make a layer of the container's changes")]
    Commit {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It cannot be read behind walls.
    #[error(transparent)]
    Walls(#[from] WallsError),
    /// The thread that did the work died.
    #[error("image work was aborted")]
    Task {
        /// Why.
        source: tokio::task::JoinError,
    },
}
