//! The registry client: manifests and blobs over HTTPS, with every answer bounded and verified.
//!
//! Our own on reqwest, because the rules below are the point of it and oci-client has no place for
//! them: bounded manifests, a realm that must be HTTPS, errors that can be told apart.
//!
//! - HTTPS always, except for hosts that the operator names as insecure, which are spoken to in HTTP.
//! - Credentials go to the registry that they belong to, after it asked, and to the realm that it names
//!   if that is HTTPS; never to a mirror. A redirect to another host drops them (reqwest does), a redirect
//!   from HTTPS to HTTP is refused.
//! - A body is read up to the announced or allowed size and compared with the digest that was asked for
//!   and with the one in the header.
//! - Only GETs exist here, so all are retried: with exponential back-off and jitter, on transport errors,
//!   429 and 5xx. An interrupted blob resumes where it stopped.
//!
//! Source: [OCI distribution specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md).

use serde::{Deserialize, Serialize};

mod auth;
mod client;
mod error;

pub use auth::Credentials;
pub use client::RegistryClient;
pub use error::RegistryError;

pub(crate) use client::{Endpoint, Piece, PieceReader};

/// How registries are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Registries, as `host` or `host:port`, that are spoken to without TLS.
    pub insecure_hosts: Vec<String>,
    /// Tried in this order before Docker Hub, for its images only.
    pub mirrors: Vec<Mirror>,
    /// Certificate authorities trusted beside the public ones, in PEM.
    pub ca_certificates_pem: Vec<String>,
    /// Longest wait for a connection.
    pub connect_timeout_ms: u64,
    /// Longest pause between two pieces of an answer.
    pub read_timeout_ms: u64,
    /// Longest wait in all for the next 64 KiB of a layer, over all tries, and for any small answer whole: a
    /// registry that sends a byte now and then is given up too.
    pub stall_timeout_ms: u64,
    /// How often a request is tried in all.
    pub attempts: u32,
    /// How many layers of an image are fetched at once.
    pub parallel_layers: usize,
    /// Largest compressed layer.
    pub layer_max_bytes: u64,
}

/// A mirror of Docker Hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// `host` or `host:port`.
    pub host: String,
    /// Prefix before the repository, such as `hub` for a pull-through project.
    #[serde(default)]
    pub prefix: String,
    /// The mirror's own credentials.
    #[serde(default, skip_serializing)]
    pub credentials: Option<Credentials>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            insecure_hosts: Vec::new(),
            mirrors: Vec::new(),
            ca_certificates_pem: Vec::new(),
            connect_timeout_ms: 10_000,
            read_timeout_ms: 30_000,
            stall_timeout_ms: 60_000,
            attempts: 4,
            parallel_layers: 3,
            layer_max_bytes: 32 << 30,
        }
    }
}
