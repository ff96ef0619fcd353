//! Content digests, and the running hash that proves them.
//!
//! Everything an image consists of is named by the SHA-256 of its bytes, so a name can be checked by
//! whoever holds the bytes. Only `sha256` is accepted: it is the one algorithm that registries use, and
//! a second one would be a second way for two names to mean the same thing.
//!
//! Source: [OCI image specification, descriptor](https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

const PREFIX: &str = "sha256:";

/// The SHA-256 of some content, written `sha256:<64 lower-case hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// Says why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Another algorithm than SHA-256, or none.
    #[error("digest does not begin with sha256:")]
    Algorithm,
    /// Not 64 lower-case hexadecimal digits.
    #[error("digest is not 64 lower-case hexadecimal digits")]
    Hex,
}

impl Digest {
    /// Returns the digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(content);
        hasher.finish()
    }

    /// Returns the 64 hexadecimal digits without the algorithm: the name of files and directories.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 hexadecimal digits without the algorithm.
    ///
    /// # Errors
    /// [`DigestError::Hex`] on anything else.
    pub fn from_hex(text: &str) -> Result<Self, DigestError> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(DigestError::Hex);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_or(Err(DigestError::Hex), |()| Ok(Self(bytes)))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::from_hex(text.strip_prefix(PREFIX).ok_or(DigestError::Algorithm)?)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes and counts a stream as it passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hasher {
    state: sha2::Sha256,
    bytes: u64,
}

impl Hasher {
    pub(crate) fn update(&mut self, chunk: &[u8]) {
        self.state.update(chunk);
        self.bytes += chunk.len() as u64;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_empty_content_as_everybody_does() {
        let empty = Digest::of(b"");
        assert_eq!(
            empty.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(empty.to_string().parse(), Ok(empty));
    }

    #[test]
    fn refuses_other_algorithms_lengths_cases_and_paths() {
        let hex = Digest::of(b"x").hex();
        assert_eq!(format!("sha512:{hex}{hex}").parse::<Digest>(), Err(DigestError::Algorithm));
        assert_eq!(hex.parse::<Digest>(), Err(DigestError::Algorithm));
        let short = hex.get(1..).expect("64 digits");
        for wrong in [short, &hex.to_uppercase(), &format!("{hex}0"), "../../../etc/passwd", ""] {
            assert_eq!(format!("sha256:{wrong}").parse::<Digest>(), Err(DigestError::Hex), "{wrong}");
        }
    }

    #[test]
    fn a_stream_hashed_in_pieces_has_the_digest_of_the_whole() {
        let mut hasher = Hasher::default();
        hasher.update(b"hello ");
        hasher.update(b"world");
        assert_eq!(hasher.bytes(), 11);
        assert_eq!(hasher.finish(), Digest::of(b"hello world"));
    }
}
