//! The image configuration: what a container of this image runs by default, and how it was made.
//!
//! The file is the image author's, who is not trusted: it can suggest a command, never a privilege.
//! Docker writes `null` for what is empty, so every field takes it.
//!
//! Source: [OCI image configuration](https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::manifest::ManifestError;

/// What an image says about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// When it was made, RFC 3339, as its author says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Architecture in Go's words.
    #[serde(deserialize_with = "null_is_default")]
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Operating system in Go's words.
    #[serde(deserialize_with = "null_is_default")]
    pub os: String,
    /// Defaults for containers.
    #[serde(deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// The layers' uncompressed digests.
    pub rootfs: RootFs,
    /// One entry for each build step, oldest first.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
}

/// Defaults for containers of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    /// Environment as `NAME=value`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Arguments, or the whole command if there is no entrypoint.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Command that `cmd` is given to.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Directory in which it starts.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `user[:group]` by name or number.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports as `80/tcp`.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub exposed_ports: BTreeSet<String>,
    /// Directories meant for volumes.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub volumes: BTreeSet<String>,
    /// Labels.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Signal that stops it, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Health check as Docker writes it, uninterpreted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<serde_json::Value>,
}

/// The layers' uncompressed digests, lowest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digest of each layer's tar.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One build step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// True if the step made no layer.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Reads a configuration and checks what would otherwise be trusted later.
    ///
    /// # Errors
    /// [`ManifestError`] for malformed JSON or a volume over a system directory.
    pub fn parse(body: &[u8]) -> Result<Self, ManifestError> {
        let config: Self = serde_json::from_slice(body)
            .map_err(|source| ManifestError::Malformed { what: "image configuration", source })?;
        match config.config.volumes.iter().find(|path| !is_volume_path(path)) {
            Some(path) => Err(ManifestError::Volume(path.clone())),
            None => Ok(config),
        }
    }
}

/// A volume may cover any directory but the root and those that the runtime mounts itself.
fn is_volume_path(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let first = parts.next();
    !matches!(first, None | Some("proc" | "sys" | "dev" | "..")) && parts.all(|part| part != "..")
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Docker writes sets as objects with empty values.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let map: Option<BTreeMap<String, serde_json::Value>> = Option::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn as_keys<S: serde::Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(set.iter().map(|key| (key, serde_json::Map::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes() {
        let config = ImageConfig::parse(
            br#"{"architecture":"amd64","os":"linux","created":"2026-01-02T03:04:05Z",
            "config":{"Env":["PATH=/bin"],"Cmd":["sh"],"Entrypoint":null,"WorkingDir":"","User":"1000:1000",
              "ExposedPorts":{"80/tcp":{}},"Volumes":{"/data":{}},"Labels":null,"StopSignal":"SIGQUIT",
              "Healthcheck":{"Test":["CMD","true"],"Interval":5}},
            "rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
            "history":[{"created_by":"ADD x"},{"created_by":"CMD","empty_layer":true}], "unknown": [1]}"#,
        )
        .expect("a configuration");
        assert_eq!(config.config.cmd, ["sh"]);
        assert!(config.config.exposed_ports.contains("80/tcp") && config.config.volumes.contains("/data"));
        assert_eq!(config.config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(config.config.healthcheck.as_ref().map(|check| check["Interval"].clone()), Some(5.into()));
        assert_eq!(config.rootfs.diff_ids, [Digest::of(b"")]);
        assert!(config.history.last().is_some_and(|step| step.empty_layer));
    }

    #[test]
    fn writes_what_it_reads() {
        let mut config = ImageConfig { architecture: "amd64".to_owned(), ..ImageConfig::default() };
        config.config.exposed_ports.insert("53/udp".to_owned());
        let text = serde_json::to_vec(&config).expect("JSON");
        assert_eq!(ImageConfig::parse(&text).expect("the same"), config);
    }

    #[test]
    fn null_everywhere_is_an_empty_configuration() {
        let config =
            ImageConfig::parse(br#"{"config":null,"history":null,"architecture":null}"#).expect("nulls");
        assert_eq!(config.config, RunConfig::default());
    }

    /// Attacks: C9.
    #[test]
    fn a_volume_may_not_cover_the_system() {
        for wrong in ["/", "", "/proc", "//proc/x", "/sys/fs", "/dev", "/a/../proc", "..", "/./proc"] {
            let text = serde_json::json!({"config": {"Volumes": {wrong: {}}}}).to_string();
            assert!(matches!(ImageConfig::parse(text.as_bytes()), Err(ManifestError::Volume(_))), "{wrong}");
        }
        for fine in ["/data", "data", "/var/lib/postgresql/data", "/process"] {
            assert!(is_volume_path(fine), "{fine}");
        }
    }
}
