//! Images: references, registry client, content store, unpacking, archives, garbage collection.
//!
//! An image comes from a registry ([`RegistryClient::pull`]) or an archive ([`ContentStore::import`]),
//! ends as verified blobs and unpacked layers in a [`ContentStore`], and is handed to the runtime as a
//! list of directories ([`ContentStore::layer_paths`]). Nothing here mounts or runs anything. All bytes that
//! enter (manifests, configurations, archives) are hostile until proven otherwise.
//!
//! ```no_run
//! # async fn pull() -> Result<(), Box<dyn std::error::Error>> {
//! use wharf_image::{ContentStore, Limits, PullOptions, RegistryClient, RegistryConfig};
//!
//! let store = ContentStore::open("/var/lib/wharf".as_ref(), Limits::default())?;
//! let client = RegistryClient::new(RegistryConfig::default())?;
//! let lease = store.lease();
//! let image = client.pull(&store, &lease, &"debian:12".parse()?, PullOptions::default()).await?;
//! let lower_directories = store.layer_paths(&image).await?;
//! # let _ = lower_directories;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod commit;
mod config;
mod content;
mod digest;
mod error;
mod image;
mod import;
mod layer;
mod manifest;
mod platform;
mod progress;
mod pull;
mod reference;
mod registry;
mod root;
mod unpack;
mod walls;

pub use commit::CommitOptions;
pub use config::{HistoryEntry, ImageConfig, RootFs, RunConfig};
pub use content::{Collected, ContentStore, Deletions, Lease, Present, StoreError, plan};
pub use digest::{Digest, DigestError};
pub use error::ImageError;
pub use image::{Image, LayerInfo};
pub use import::{ArchiveError, ImportOptions};
pub use manifest::ManifestError;
pub use platform::{Platform, PlatformError};
pub use progress::{Phase, Progress, ProgressSender};
pub use pull::PullOptions;
pub use reference::{DOCKER_HUB, ImageRef, ReferenceError};
pub use registry::{Credentials, Mirror, RegistryClient, RegistryConfig, RegistryError};
pub use root::{Change, ChangeKind, FileKind, FileStat, Mount, Mounted, Placed, Root, RootError};
pub use unpack::{Limits, UnpackError};
pub use walls::WallsError;

/// Runs blocking work on tokio's blocking threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.map_err(|source| ImageError::Task { source })?
}
