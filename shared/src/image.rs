//! Images: what is pulled and imported, what is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{PullId, TenantId};
use crate::time::Timestamp;

/// Which image to pull.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PullRequest {
    /// Image reference.
    pub image: String,
    /// Whose image it becomes; a member's own tenant when absent.
    pub tenant: Option<TenantId>,
    /// Credentials for the registry, if it wants any; used once, never stored.
    pub credentials: Option<RegistryCredentials>,
}

/// Name and password for a registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RegistryCredentials {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A pull or import, running or finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullView {
    /// Id.
    pub id: PullId,
    /// Image reference.
    pub image: String,
    /// Whose image it becomes.
    pub tenant: TenantId,
    /// Where it is.
    pub state: PullState,
    /// Progress of each layer.
    pub layers: Vec<LayerProgress>,
    /// When it began.
    pub started_at: Timestamp,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// How the error of a pull that somebody called off begins; who it was follows.
pub const PULL_CANCELLED_BY: &str = "the pull was cancelled by ";

impl PullView {
    /// Whether something may still happen.
    pub const fn is_running(&self) -> bool {
        matches!(self.state, PullState::Resolving | PullState::Pulling)
    }

    /// Who called it off, if it failed because of that.
    pub fn cancelled_by(&self) -> Option<&str> {
        self.error.as_deref()?.strip_prefix(PULL_CANCELLED_BY)
    }
}

/// Where a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PullState {
    /// Asking the registry.
    Resolving,
    /// Layers are on their way.
    Pulling,
    /// The image is here.
    Done,
    /// It failed.
    Failed,
}

/// Progress of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LayerProgress {
    /// Digest of the layer's blob.
    pub digest: String,
    /// What is being done with it.
    pub phase: LayerPhase,
    /// Bytes done in this phase.
    pub current_bytes: u64,
    /// Bytes in all, if known.
    pub total_bytes: Option<u64>,
}

/// What is being done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LayerPhase {
    /// Waiting for its turn.
    Waiting,
    /// On its way.
    Downloading,
    /// Being unpacked.
    Extracting,
    /// Here.
    Done,
    /// Was here already.
    Exists,
}

/// An image as it is shown in lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageView {
    /// Reference, in familiar form (`busybox:1.36`).
    pub reference: String,
    /// Whose image it is.
    pub tenant: TenantId,
    /// The tenant's name.
    pub tenant_name: String,
    /// Digest of its manifest.
    pub digest: String,
    /// Bytes of its unpacked layers.
    pub size_bytes: u64,
    /// `linux/amd64`.
    pub platform: String,
    /// When its builder made it, if it says so.
    pub built_at: Option<String>,
    /// When it was pulled or imported.
    pub pulled_at: Timestamp,
}

/// All about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageDetail {
    /// The list's view.
    pub image: ImageView,
    /// Digest of its configuration.
    pub config_digest: String,
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Command.
    pub command: Vec<String>,
    /// Environment, `KEY=value`.
    pub env: Vec<String>,
    /// User.
    pub user: String,
    /// Working directory.
    pub workdir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports it says it listens on, such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Paths it wants as volumes.
    pub volumes: Vec<String>,
    /// Layers, lowest first.
    pub layers: Vec<LayerView>,
    /// Its history, oldest first.
    pub history: Vec<HistoryView>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LayerView {
    /// Digest of the compressed blob.
    pub digest: String,
    /// Digest of the uncompressed archive.
    pub diff_id: String,
    /// Bytes compressed.
    pub compressed_bytes: u64,
    /// Bytes unpacked.
    pub unpacked_bytes: u64,
}

/// One step of an image's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistoryView {
    /// When.
    pub created: Option<String>,
    /// The step that made it.
    pub created_by: String,
    /// A remark.
    pub comment: String,
    /// It made no layer.
    pub empty_layer: bool,
}

/// A further name for an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TagRequest {
    /// The image, by reference.
    pub source: String,
    /// The new reference.
    pub target: String,
    /// Whose image it is; a member's own tenant when absent.
    #[serde(default)]
    pub tenant: Option<TenantId>,
}
