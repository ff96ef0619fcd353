//! Image references as people write them: `debian`, `ghcr.io/a/b:1`, `host:5000/x@sha256:…`.
//!
//! A reference names a registry, a repository there, and a tag or a digest (or both; then the digest
//! decides and the tag is only remembered). What people leave out is filled in as Docker does:
//! `debian` is `docker.io/library/debian:latest`. The first component is a registry if it has a dot
//! or a colon, is `localhost`, or has an upper-case letter, which no repository may have.
//!
//! Source: [distribution/reference](https://github.com/distribution/reference/blob/v0.6.0/reference.go).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};

/// The registry meant when none is written.
pub const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_OLD: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Longest registry and repository together, as distribution/reference has it.
const NAME_MAX_BYTES: usize = 255;
const TAG_MAX_BYTES: usize = 128;

/// A parsed, normalised image reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ImageRef {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Says why a text is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing, or nothing before the tag.
    #[error("image reference is empty")]
    Empty,
    /// Only an image id was given, which names no repository.
    #[error("a bare 64-digit id is not an image reference")]
    BareId,
    /// Registry and repository are too long.
    #[error("image name is longer than {NAME_MAX_BYTES} bytes")]
    TooLong,
    /// Not a host name with an optional port.
    #[error("invalid registry host {0:?}")]
    Registry(String),
    /// Upper-case letters, which repositories may not have.
    #[error("repository {0:?} must be lower case")]
    UpperCase(String),
    /// Another character or separator that repositories may not have.
    #[error("invalid repository {0:?}")]
    Repository(String),
    /// Not `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
    #[error("invalid tag {0:?}")]
    Tag(String),
    /// What follows `@` is no digest.
    #[error("invalid digest {text:?}")]
    Digest {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: DigestError,
    },
}

impl ImageRef {
    /// Returns the registry: `docker.io` or a host with an optional port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository in the registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag; `None` only if a digest was given without one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest that pins the content, if one was given.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns what a registry is asked for: the digest if there is one, else the tag.
    pub fn locator(&self) -> String {
        self.digest.map_or_else(|| self.tag.clone().unwrap_or_default(), |digest| digest.to_string())
    }

    /// Returns the same repository pinned to `digest`, without a tag.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Returns the form in full, with registry and namespace: `docker.io/library/debian:latest`.
    pub fn canonical(&self) -> String {
        format!("{}/{}{}", self.registry, self.repository, self.suffix())
    }

    /// Returns the short form that people write: `debian:latest`.
    pub fn familiar(&self) -> String {
        let suffix = self.suffix();
        if self.registry != DOCKER_HUB {
            return format!("{}/{}{suffix}", self.registry, self.repository);
        }
        match (self.repository.strip_prefix(OFFICIAL), self.repository.split_once('/')) {
            // `library/a/b` must keep its namespace: `a/b` would mean another repository.
            (Some(name), _) if !name.contains('/') => format!("{name}{suffix}"),
            (_, Some((first, _))) if looks_like_registry(first) => self.canonical(),
            _ => format!("{}{suffix}", self.repository),
        }
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}"));
        let digest = self.digest.map(|digest| format!("@{digest}"));
        tag.unwrap_or_default() + &digest.unwrap_or_default()
    }
}

impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ReferenceError::BareId);
        }
        let (name_and_tag, digest) = match text.split_once('@') {
            Some((before, after)) => {
                let digest = after
                    .parse()
                    .map_err(|source| ReferenceError::Digest { text: after.to_owned(), source })?;
                (before, Some(digest))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let (name, tag) = match name_and_tag.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name_and_tag, None),
        };
        if name.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        let (registry, repository) = split_registry(name);
        if !is_registry(registry) {
            return Err(ReferenceError::Registry(registry.to_owned()));
        }
        let repository = if registry == DOCKER_HUB && !repository.contains('/') {
            format!("{OFFICIAL}{repository}")
        } else {
            repository.to_owned()
        };
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ReferenceError::UpperCase(repository));
        }
        if !repository.split('/').all(is_component) {
            return Err(ReferenceError::Repository(repository));
        }
        if registry.len() + 1 + repository.len() > NAME_MAX_BYTES {
            return Err(ReferenceError::TooLong);
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(reference: ImageRef) -> Self {
        reference.canonical()
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((DOCKER_HUB_OLD, rest)) => (DOCKER_HUB, rest),
        Some((first, rest)) if looks_like_registry(first) => (first, rest),
        _ => (DOCKER_HUB, name),
    }
}

fn looks_like_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("v6", rest.strip_prefix(':').or(if rest.is_empty() { None } else { Some("-") }))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label)
        && port.is_none_or(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
}

/// Lower-case letters and digits, separated by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends_well =
        text.as_bytes().first().is_some_and(alphanumeric) && text.as_bytes().last().is_some_and(alphanumeric);
    ends_well
        && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_MAX_BYTES
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> ImageRef {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn fills_in_what_people_leave_out() {
        let digest = Digest::of(b"manifest");
        for (written, canonical, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("grafana/loki:3", "docker.io/grafana/loki:3", "grafana/loki:3"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("Registry/x", "Registry/x:latest", "Registry/x:latest"),
            ("a--b__c.d_e", "docker.io/library/a--b__c.d_e:latest", "a--b__c.d_e:latest"),
        ] {
            let reference = parse(written);
            assert_eq!(reference.canonical(), canonical, "{written}");
            assert_eq!(reference.to_string(), familiar, "{written}");
        }
        let pinned = parse(&format!("debian@{digest}"));
        assert_eq!((pinned.tag(), pinned.digest()), (None, Some(digest)));
        assert_eq!(pinned.canonical(), format!("docker.io/library/debian@{digest}"));
        let both = parse(&format!("debian:12@{digest}"));
        assert_eq!((both.tag(), both.locator()), (Some("12"), digest.to_string()));
        assert_eq!(both.pinned(digest), pinned);
    }

    #[test]
    fn says_what_is_wrong() {
        let hex = Digest::of(b"").hex();
        for wrong in ["", ":tag", "@sha256:00"] {
            let error = wrong.parse::<ImageRef>().expect_err(wrong);
            assert!(
                matches!(error, ReferenceError::Empty | ReferenceError::Digest { .. }),
                "{wrong}: {error}"
            );
        }
        assert_eq!(hex.parse::<ImageRef>(), Err(ReferenceError::BareId));
        assert!(matches!("Debian".parse::<ImageRef>(), Err(ReferenceError::UpperCase(_))));
        assert!(matches!("host.io/A".parse::<ImageRef>(), Err(ReferenceError::UpperCase(_))));
        for wrong in
            ["a//b", "a/", "/a", "a..b", "a___b", "-a", "a-", "a b", "a/../b", "ä", "a\0", "host.io/"]
        {
            assert!(matches!(wrong.parse::<ImageRef>(), Err(ReferenceError::Repository(_))), "{wrong}");
        }
        for wrong in [
            "host:x/a",
            "host:0/a",
            "host:65536/a",
            "-h.io/a",
            "h..io/a",
            "[::1/a",
            "[zz]:1/a",
            ":1/a",
            "h.io:/a",
            "[::1]5/a",
        ] {
            assert!(matches!(wrong.parse::<ImageRef>(), Err(ReferenceError::Registry(_))), "{wrong}");
        }
        for wrong in ["a:", "a:-b", "a:.b", "a:ä", "a:b c"] {
            assert!(matches!(wrong.parse::<ImageRef>(), Err(ReferenceError::Tag(_))), "{wrong}");
        }
        assert!(format!("a:{}", "t".repeat(128)).parse::<ImageRef>().is_ok());
        assert!(matches!(format!("a:{}", "t".repeat(129)).parse::<ImageRef>(), Err(ReferenceError::Tag(_))));
        assert!(format!("host.io/{}", "n".repeat(247)).parse::<ImageRef>().is_ok());
        assert_eq!(format!("host.io/{}", "n".repeat(248)).parse::<ImageRef>(), Err(ReferenceError::TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_survives_both_spellings(text in "\\PC{0,80}") {
            if let Ok(reference) = text.parse::<ImageRef>() {
                prop_assert_eq!(parse(&reference.canonical()), reference.clone());
                prop_assert_eq!(parse(&reference.familiar()), reference);
            }
        }

        #[test]
        fn likely_references_survive_both_spellings(
            host in prop::option::of("([a-z]{1,5}\\.[a-z]{2}|localhost|[A-Z]{2})(:[1-9][0-9]{0,3})?"),
            path in "[a-z0-9]{1,4}((\\.|_|__|-{1,3}|/)[a-z0-9]{1,4}){0,4}",
            tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            pin in any::<bool>(),
        ) {
            let mut text = host.unwrap_or_else(|| DOCKER_HUB.to_owned()) + "/" + &path;
            if let Some(tag) = tag { text = text + ":" + &tag; }
            if pin { text = format!("{text}@{}", Digest::of(b"x")); }
            let reference = parse(&text);
            prop_assert_eq!(parse(&reference.canonical()), reference.clone());
            prop_assert_eq!(parse(&reference.familiar()), reference.clone());
            prop_assert_eq!(reference.digest().is_some(), pin);
            // A repository becomes part of a URL's path: nothing in it may mean something there.
            prop_assert!(!reference.repository().contains(['?', '#', '%', ' ', '\\']));
            prop_assert!(reference.repository().split('/').all(|part| !part.is_empty() && part != ".." && part != "."));
        }
    }
}
