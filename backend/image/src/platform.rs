//! Which of an index's images is meant for a machine.
//!
//! An index lists one manifest for each platform. The choice is pure: wanted platform and the
//! listed ones in, the best match out. Attestations (`unknown/unknown`) never match.
//!
//! Source: [OCI image index](https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Operating system, architecture and its variant, in Go's words as registries use them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64` or `arm64`.
    pub architecture: String,
    /// Such as `v8`; absent where there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Returns Linux on the architecture that this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Returns how well `offered` serves `self`, 0 being exact; `None` if it does not run here.
    pub(crate) fn rank(&self, offered: &Self) -> Option<usize> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let wanted = self.generation();
        // An older generation of the same architecture runs on a newer one, never the reverse.
        wanted.checked_sub(offered.generation())
    }

    /// The variant as a number: `v7` is 7, and what nobody writes is the architecture's usual one.
    fn generation(&self) -> usize {
        let usual = match self.architecture.as_str() {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        };
        match &self.variant {
            None => usual,
            Some(variant) => {
                variant.strip_prefix('v').and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
            }
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl std::str::FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let invalid = || PlatformError { text: text.to_owned() };
        let mut parts = text.split('/');
        let mut next = || match parts.next() {
            Some("") => Err(invalid()),
            part => Ok(part.map(str::to_owned)),
        };
        let os = next()?.ok_or_else(invalid)?;
        let architecture = next()?.ok_or_else(invalid)?;
        let variant = next()?;
        if parts.next().is_some() {
            return Err(invalid());
        }
        Ok(Self { os, architecture, variant })
    }
}

/// A text that is not `os/architecture[/variant]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("platform {text:?} is not written os/architecture or os/architecture/variant")]
pub struct PlatformError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().expect("a platform")
    }

    #[test]
    fn an_older_variant_serves_and_a_newer_one_does_not() {
        let arm = platform("linux/arm/v7");
        assert_eq!(arm.rank(&platform("linux/arm/v7")), Some(0));
        assert_eq!(arm.rank(&platform("linux/arm/v6")), Some(1));
        assert_eq!(platform("linux/arm/v6").rank(&arm), None);
        assert_eq!(platform("linux/arm64").rank(&platform("linux/arm64/v8")), Some(0));
        assert_eq!(platform("linux/amd64").rank(&platform("linux/amd64/v3")), None);
    }

    #[test]
    fn another_system_or_an_attestation_never_matches() {
        let amd64 = platform("linux/amd64");
        for other in ["windows/amd64", "linux/arm64", "unknown/unknown", "linux/amd64/strange"] {
            assert_eq!(amd64.rank(&platform(other)), None, "{other}");
        }
    }

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(platform(text).to_string(), text);
        }
        for wrong in ["", "linux", "/", "linux/", "linux/arm/", "a/b/c/d"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }
}
