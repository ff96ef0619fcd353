//! OCI layouts made on disk, as skopeo reads them and as a registry serves them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_image::Digest;

pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An OCI layout under construction.
pub(crate) struct Layout {
    directory: TempDir,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    entries: Vec<Value>,
}

impl Layout {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("temp dir");
        fs::create_dir_all(directory.path().join("blobs/sha256")).expect("makes");
        fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("writes");
        Self { directory, blobs: BTreeMap::new(), entries: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Adds a blob and returns its descriptor.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.path().join("blobs/sha256").join(digest.hex()), bytes).expect("writes");
        self.blobs.insert(digest.to_string(), bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Adds an image of plain tars, each packed as its media type says; returns its descriptor.
    pub(crate) fn image(&mut self, architecture: &str, layers: &[(&str, &[u8])]) -> Value {
        let diff_ids: Vec<Digest> = layers.iter().map(|(_, tar)| Digest::of(tar)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "Labels": {"architecture": architecture}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created_by": "test"}],
        });
        self.image_with(&config, layers)
    }

    pub(crate) fn image_with(&mut self, config: &Value, layers: &[(&str, &[u8])]) -> Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layers: Vec<Value> = layers
            .iter()
            .map(|(media_type, tar)| {
                let packed = match *media_type {
                    GZIP => super::gzip(tar),
                    ZSTD => zstd::encode_all(*tar, 3).expect("memory"),
                    _ => tar.to_vec(),
                };
                self.blob(media_type, &packed)
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Adds an index of images for platforms; returns its descriptor.
    pub(crate) fn index(&mut self, images: &[(&str, Value)]) -> Value {
        let manifests: Vec<Value> = images
            .iter()
            .map(|(architecture, descriptor)| {
                let mut descriptor = descriptor.clone();
                descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
                descriptor
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// Gives a name to a manifest or index within the layout.
    pub(crate) fn name(&mut self, name: &str, mut descriptor: Value) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.entries.push(descriptor);
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(self.path().join("index.json"), index.to_string()).expect("writes");
    }
}

/// A tar of a root file system with busybox in it.
pub(crate) fn busybox() -> Vec<u8> {
    let root = tempfile::tempdir().expect("temp dir");
    let bin = root.path().join("bin");
    for directory in ["bin", "etc", "proc", "tmp"] {
        fs::create_dir(root.path().join(directory)).expect("makes");
    }
    fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
    for applet in ["sh", "ls", "cat", "echo"] {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("links");
    }
    fs::write(root.path().join("etc/os-release"), "ID=test\n").expect("writes");
    let tar = std::process::Command::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1000000000", "-C"])
        .arg(root.path())
        .args(["-c", "."])
        .output()
        .expect("tar runs");
    assert!(tar.status.success());
    tar.stdout
}

/// All names beneath a directory.
pub(crate) fn names(root: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).expect("lists") {
            let path = entry.expect("entry").path();
            if fs::symlink_metadata(&path).expect("stat").is_dir() {
                todo.push(path.clone());
            }
            names.push(path.strip_prefix(root).expect("below").to_owned());
        }
    }
    names.sort();
    names
}
