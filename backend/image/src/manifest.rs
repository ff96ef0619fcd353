//! Manifests and indexes: what a registry or an archive says an image consists of.
//!
//! Both OCI's and Docker's media types are read. What this crate does not serve is refused by name
//! (schema 1, encrypted and foreign layers, artifacts that are not images) instead of half-served.
//! Foreign layers' `urls` are never followed: whoever writes a manifest must not choose where this
//! host sends requests.
//!
//! Sources: [OCI manifest](https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md),
//! [Docker schema 2](https://distribution.github.io/distribution/spec/manifest-v2-2/).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// What a manifest request accepts.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// Largest manifest or index, the limit that registries themselves set.
pub(crate) const MANIFEST_MAX_BYTES: u64 = 4 << 20;
/// Largest image configuration.
pub(crate) const CONFIG_MAX_BYTES: u64 = 8 << 20;
/// Most layers of an image: what Docker's overlay driver allows, and what one overlay mount carries.
pub(crate) const LAYERS_MAX: usize = 127;

/// Says why a manifest or configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of the shape that its type prescribes.
    #[error("malformed {what}")]
    Malformed {
        /// Which document.
        what: &'static str,
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// A kind of content that this program does not run.
    #[error("unsupported media type {0:?}")]
    UnsupportedMediaType(String),
    /// An index without an image for the wanted platform.
    #[error("no image for platform {wanted}; offered: {offered}")]
    NoMatchingPlatform {
        /// What was asked for.
        wanted: Platform,
        /// What is there.
        offered: String,
    },
    /// More layers than a root file system can be mounted from.
    #[error("{count} layers are more than {LAYERS_MAX}")]
    TooManyLayers {
        /// How many there are.
        count: usize,
    },
    /// The configuration lists another number of layers than the manifest.
    #[error("manifest has {layers} layers and its configuration {diff_ids}")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Layers of the configuration.
        diff_ids: usize,
    },
    /// A document or layer announces more bytes than allowed.
    #[error("{what} of {bytes} bytes is larger than {limit_bytes}")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Announced size.
        bytes: u64,
        /// Allowed size.
        limit_bytes: u64,
    },
    /// A volume path that could cover the system's own directories.
    #[error("image declares a volume at {0:?}")]
    Volume(String),
}

/// Names content by type, digest and size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, platform: None, annotations: None }
    }
}

/// One image: its configuration and its layers, lowest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// One manifest for each platform.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// What a manifest request may answer.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

impl Document {
    /// Reads a manifest or an index. The body's own `mediaType` must agree with the type under which it
    /// was served: the same bytes must not be an index to one reader and a manifest to another
    /// (CVE-2021-41190).
    pub(crate) fn parse(served_type: Option<&str>, body: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            #[serde(default)]
            media_type: Option<String>,
            #[serde(default)]
            schema_version: Option<u32>,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
        }
        let malformed = |source| ManifestError::Malformed { what: "manifest", source };
        let shape: Shape = serde_json::from_slice(body).map_err(malformed)?;
        let unsupported = |name: &str| Err(ManifestError::UnsupportedMediaType(name.to_owned()));
        if shape.schema_version == Some(1) {
            return unsupported("application/vnd.docker.distribution.manifest.v1+json");
        }
        let served_type =
            served_type.map(|value| value.split(';').next().unwrap_or_default().trim()).filter(|value| {
                !matches!(*value, "" | "application/json" | "application/octet-stream" | "text/plain")
            });
        if let (Some(served), Some(own)) = (served_type, shape.media_type.as_deref())
            && served != own
        {
            return unsupported(&format!("{own} served as {served}"));
        }
        if shape.manifests.is_some() && shape.layers.is_some() {
            return unsupported("both manifests and layers");
        }
        match shape.media_type.as_deref().or(served_type) {
            Some(OCI_MANIFEST | DOCKER_MANIFEST) => {}
            Some(OCI_INDEX | DOCKER_INDEX) => {
                return serde_json::from_slice(body).map(Self::Index).map_err(malformed);
            }
            Some(other) => return unsupported(other),
            None if shape.manifests.is_some() => {
                return serde_json::from_slice(body).map(Self::Index).map_err(malformed);
            }
            None => {}
        }
        let manifest: Manifest = serde_json::from_slice(body).map_err(malformed)?;
        manifest.check().map(Self::Manifest)
    }
}

impl Manifest {
    fn check(self) -> Result<Self, ManifestError> {
        if !matches!(self.config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
            return Err(ManifestError::UnsupportedMediaType(self.config.media_type));
        }
        if self.config.size > CONFIG_MAX_BYTES {
            return Err(ManifestError::TooLarge {
                what: "image configuration",
                bytes: self.config.size,
                limit_bytes: CONFIG_MAX_BYTES,
            });
        }
        if self.layers.len() > LAYERS_MAX {
            return Err(ManifestError::TooManyLayers { count: self.layers.len() });
        }
        for layer in &self.layers {
            let known = matches!(
                layer.media_type.as_str(),
                OCI_LAYER
                    | OCI_LAYER_GZIP
                    | OCI_LAYER_ZSTD
                    | DOCKER_LAYER
                    | DOCKER_LAYER_GZIP
                    | DOCKER_LAYER_ZSTD
            );
            if !known {
                return Err(ManifestError::UnsupportedMediaType(layer.media_type.clone()));
            }
        }
        Ok(self)
    }
}

impl Index {
    /// Returns the entry that serves `wanted` best; of equals the first.
    pub(crate) fn select(&self, wanted: &Platform) -> Result<&Descriptor, ManifestError> {
        let ranked = self.manifests.iter().filter_map(|entry| {
            let platform = entry.platform.as_ref()?;
            wanted.rank(platform).map(|rank| (rank, entry))
        });
        let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry);
        // Archives made for one machine often name no platform: a single entry then is the one.
        let only = match self.manifests.as_slice() {
            [entry] if entry.platform.is_none() => Some(entry),
            _ => None,
        };
        best.or(only).ok_or_else(|| {
            let offered: Vec<String> = self
                .manifests
                .iter()
                .take(32)
                .map(|entry| {
                    entry.platform.as_ref().map_or_else(|| "unnamed".to_owned(), ToString::to_string)
                })
                .collect();
            ManifestError::NoMatchingPlatform { wanted: wanted.clone(), offered: offered.join(", ") }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn descriptor(media_type: &str) -> serde_json::Value {
        json!({"mediaType": media_type, "digest": Digest::of(b"x"), "size": 1})
    }

    fn image(layer: &str) -> serde_json::Value {
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG), "layers": [descriptor(layer)]})
    }

    fn parse(value: &serde_json::Value) -> Result<Document, ManifestError> {
        Document::parse(None, value.to_string().as_bytes())
    }

    #[test]
    fn reads_the_layer_types_it_can_unpack_and_refuses_the_others_by_name() {
        for layer in [OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER_GZIP] {
            assert!(matches!(parse(&image(layer)), Ok(Document::Manifest(_))), "{layer}");
        }
        for layer in [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        ] {
            let error = parse(&image(layer)).expect_err("unsupported");
            assert!(matches!(error, ManifestError::UnsupportedMediaType(name) if name == layer));
        }
    }

    #[test]
    fn the_same_bytes_are_not_two_kinds_of_document() {
        let mut both = image(OCI_LAYER);
        both["manifests"] = json!([]);
        assert!(matches!(parse(&both), Err(ManifestError::UnsupportedMediaType(_))));
        let body = image(OCI_LAYER).to_string();
        let served = Document::parse(Some(OCI_INDEX), body.as_bytes());
        assert!(matches!(served, Err(ManifestError::UnsupportedMediaType(_))));
        assert!(Document::parse(Some("application/json; charset=utf-8"), body.as_bytes()).is_ok());
    }

    #[test]
    fn schema_one_and_artifacts_are_refused() {
        let old = json!({"schemaVersion": 1, "fsLayers": []});
        assert!(matches!(parse(&old), Err(ManifestError::UnsupportedMediaType(_))));
        let mut chart = image(OCI_LAYER);
        chart["config"] = descriptor("application/vnd.cncf.helm.config.v1+json");
        assert!(matches!(parse(&chart), Err(ManifestError::UnsupportedMediaType(_))));
    }

    #[test]
    fn counts_and_sizes_are_bounded() {
        let mut many = image(OCI_LAYER);
        many["layers"] = json!(vec![descriptor(OCI_LAYER); LAYERS_MAX + 1]);
        assert!(matches!(parse(&many), Err(ManifestError::TooManyLayers { count: 128 })));
        let mut large = image(OCI_LAYER);
        large["config"]["size"] = json!(CONFIG_MAX_BYTES + 1);
        assert!(matches!(parse(&large), Err(ManifestError::TooLarge { .. })));
        large["config"]["size"] = json!(-1);
        assert!(matches!(parse(&large), Err(ManifestError::Malformed { .. })));
    }

    #[test]
    fn an_index_gives_the_platform_asked_for() {
        let entry = |platform: &str, content: &[u8]| Descriptor {
            platform: Some(platform.parse().expect("platform")),
            ..Descriptor::new(OCI_MANIFEST, Digest::of(content), 1)
        };
        let index = Index {
            manifests: vec![
                entry("unknown/unknown", b"attestation"),
                entry("linux/arm/v6", b"v6"),
                entry("linux/arm/v7", b"v7"),
                entry("linux/amd64", b"amd64"),
            ],
        };
        let select =
            |platform: &str| index.select(&platform.parse().expect("platform")).map(|entry| entry.digest);
        assert_eq!(select("linux/amd64").expect("there"), Digest::of(b"amd64"));
        assert_eq!(select("linux/arm/v7").expect("there"), Digest::of(b"v7"));
        let error = select("linux/riscv64").expect_err("not there").to_string();
        assert!(error.contains("linux/riscv64") && error.contains("linux/arm/v6"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_crash_the_parser(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let parsed = Document::parse(None, &body);
            prop_assert!(parsed.is_err(), "random bytes are no manifest");
        }

        #[test]
        fn a_manifest_cut_or_altered_anywhere_is_refused_or_still_within_bounds(at in 0_usize..500, byte in any::<u8>(), cut in any::<bool>()) {
            let mut body = image(OCI_LAYER).to_string().into_bytes();
            let at = at % body.len();
            if cut { body.truncate(at); } else { body[at] = byte; }
            if let Ok(Document::Manifest(manifest)) = Document::parse(None, &body) {
                prop_assert!(manifest.layers.len() <= LAYERS_MAX && manifest.config.size <= CONFIG_MAX_BYTES);
            }
        }
    }
}
