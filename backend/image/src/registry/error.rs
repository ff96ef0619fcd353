//! Why a registry did not give what it was asked for.

use crate::digest::Digest;

/// Says why a registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry answers, but has no such image, tag or blob.
    #[error("{what} not found at {registry}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// Where.
        registry: String,
    },
    /// Credentials are missing, wrong or not enough. Registries also say so of private or missing images.
    #[error("not authorised to pull {repository} from {registry}")]
    Unauthorized {
        /// Which repository.
        repository: String,
        /// Where.
        registry: String,
    },
    /// No answer: name, network, TLS or timeout.
    #[error("registry {registry} is unreachable")]
    Unreachable {
        /// Where.
        registry: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// It answers in the clear where TLS was spoken.
    #[error(
        "registry {registry} speaks no TLS; if that is meant, the agent must be told: add it to \
         registry.insecure_hosts"
    )]
    NoTls {
        /// Where.
        registry: String,
    },
    /// It answers, but sends nothing or next to nothing.
    #[error("registry {registry} stalled: it sent next to nothing of the {what} for {waited_s} s")]
    Stalled {
        /// Where.
        registry: String,
        /// Of what.
        what: String,
        /// For so long.
        waited_s: u64,
    },
    /// The registry limits how much is pulled.
    #[error("registry {registry} asks to slow down; try again later")]
    RateLimited {
        /// Where.
        registry: String,
    },
    /// Another answer than success.
    #[error("registry {registry} answered {status}")]
    Status {
        /// Where.
        registry: String,
        /// The HTTP status.
        status: u16,
    },
    /// The bytes differ from what was asked for.
    #[error("content of {expected} has digest {actual}")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More or fewer bytes than announced.
    #[error("{digest} has {actual_bytes} bytes in place of {expected_bytes}")]
    SizeMismatch {
        /// What was asked for.
        digest: Digest,
        /// Announced in the manifest.
        expected_bytes: u64,
        /// What came, or the first byte too many.
        actual_bytes: u64,
    },
    /// More bytes than allowed.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// The limit.
        limit_bytes: u64,
    },
    /// The registry wants credentials in a way that is not safe or not known.
    #[error("registry {registry} asks for credentials in a way that is refused: {why}")]
    Challenge {
        /// Where.
        registry: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// An answer that is not what the specification says.
    #[error("registry {registry} gave a malformed answer: {what}")]
    Malformed {
        /// Where.
        registry: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The client cannot be made from its configuration.
    #[error("cannot set up the registry client: {what}")]
    Configuration {
        /// Which part.
        what: &'static str,
        /// Why.
        source: reqwest::Error,
    },
}

impl RegistryError {
    /// True if a blob should be asked for again.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::RateLimited { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}
