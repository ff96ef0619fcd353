//! Secrets that the agent gives away: 256 random bits; only their SHA-256 is kept.
//!
//! A plain hash is enough, because nobody can try 2²⁵⁶ secrets; passwords, which people choose, go
//! through argon2 instead. Look-ups are by hash, so comparing them tells nothing of the secret.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::error::{Result, ServiceError};

/// What API tokens begin with, so that they are found when they leak into a repository.
pub(crate) const TOKEN_PREFIX: &str = "wharf_";
/// Longer ones are nobody's.
const MAX_BYTES: usize = 128;

/// A secret in the clear, on its way to its owner or back. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// A new one, after the prefix.
    pub(crate) fn generate(prefix: &str) -> Result<Self> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| ServiceError::internal("the kernel gave no random bytes", error))?;
        Ok(Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// One that a client sent; `None` if it cannot be ours.
    pub(crate) fn received(text: &str) -> Option<Self> {
        let plausible = (32..=MAX_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        plausible.then(|| Self(text.to_owned()))
    }

    /// What is kept of it.
    pub(crate) fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.0.as_bytes()))
    }

    /// For its owner.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_256_bits_and_does_not_print_itself() {
        let secret = Secret::generate(TOKEN_PREFIX).expect("random bytes");
        assert_eq!(secret.reveal().len(), TOKEN_PREFIX.len() + 43);
        assert_ne!(secret, Secret::generate(TOKEN_PREFIX).expect("random bytes"));
        assert_eq!(Secret::received(secret.reveal()).map(|back| back.hash()), Some(secret.hash()));
        assert!(!format!("{secret:?}").contains(secret.reveal()));
    }

    #[test]
    fn what_cannot_be_a_secret_never_reaches_the_store() {
        for bad in ["", "short", &"a".repeat(129), "wharf_' OR 1=1 -- aaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(Secret::received(bad).is_none(), "{bad}");
        }
    }
}
