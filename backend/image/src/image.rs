//! An image as this host has it: read back from its manifest and configuration at any time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::content::{ContentStore, StoreError, names};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::manifest::{Document, Manifest, ManifestError};
use crate::reference::ImageRef;

/// In a layer's directory: copies of it, by owner. They go with the layer.
const OWN: &str = "own";

/// An image whose layers are all unpacked on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// The name under which it was pulled or imported.
    pub reference: ImageRef,
    /// Digest of its manifest for one platform: the name by which it is loaded and kept.
    pub manifest_digest: Digest,
    /// Digest of its configuration: what Docker calls the image id.
    pub config_digest: Digest,
    /// What it says about itself.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<LayerInfo>,
    /// Bytes of all layers, unpacked.
    pub size_bytes: u64,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// Digest of the layer as the registry has it.
    pub digest: Digest,
    /// Digest of the layer's tar: the name of its directory.
    pub diff_id: Digest,
    /// How it is packed.
    pub media_type: String,
    /// Bytes as the registry has it.
    pub compressed_bytes: u64,
    /// Bytes of its files.
    pub unpacked_bytes: u64,
}

impl ContentStore {
    /// Reads an image back from the store, without any registry.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if its manifest, configuration or a layer is not there.
    pub async fn load(&self, reference: ImageRef, manifest_digest: Digest) -> Result<Image, ImageError> {
        let store = self.clone();
        crate::blocking(move || store.load_blocking(reference, manifest_digest)).await
    }

    /// Returns the directories of an image's layers beneath [`ContentStore::layers_root`], uppermost first,
    /// as overlay wants them.
    ///
    /// The list ends at a layer that hides all below it, since overlay ignores that mark on a root.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if a layer is not there.
    pub async fn layer_paths(&self, image: &Image) -> Result<Vec<PathBuf>, ImageError> {
        let store = self.clone();
        let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
        crate::blocking(move || {
            let mut paths = Vec::with_capacity(diff_ids.len());
            for diff_id in diff_ids.into_iter().rev() {
                let record = store.find_layer(diff_id)?;
                let record = record.ok_or(StoreError::Missing { what: "layer", digest: diff_id })?;
                paths.push(PathBuf::from(diff_id.hex()).join("diff"));
                if record.opaque_root {
                    break;
                }
            }
            Ok(paths)
        })
        .await
    }

    /// As [`ContentStore::layer_paths`], but copies that only this owner's containers use, made where they are
    /// missing: files that two tenants share in memory are a channel between them, and once were a way to
    /// change each other's (CVE-2022-0847).
    ///
    /// # Errors
    /// As for that one; a full disk.
    pub async fn own_layer_paths(&self, image: &Image, owner: &str) -> Result<Vec<PathBuf>, ImageError> {
        let mut paths = self.layer_paths(image).await?;
        for path in &mut paths {
            let Some(Ok(diff_id)) = path.iter().next().and_then(|name| name.to_str()).map(Digest::from_hex)
            else {
                continue;
            };
            let _alone = self.make_alone(diff_id).await;
            let (store, shared) = (self.clone(), std::mem::take(path));
            let own = PathBuf::from(diff_id.hex()).join(OWN).join(owner);
            path.clone_from(&own);
            crate::blocking(move || Ok(store.copy_layer(&shared, &own)?)).await?;
        }
        Ok(paths)
    }

    /// Removes the copies of an owner.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub async fn remove_own_layers(&self, owner: &str) -> Result<(), ImageError> {
        let (store, owner) = (self.clone(), owner.to_owned());
        crate::blocking(move || {
            for layer in names(store.layers_root())? {
                let own = store.layers_root().join(layer).join(OWN).join(&owner);
                match fs::remove_dir_all(&own) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(StoreError::io("remove", own, source).into());
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    /// Copies a layer's directory, unless it is there; both are relative to [`ContentStore::layers_root`].
    fn copy_layer(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let (from, to) = (self.layers_root().join(from), self.layers_root().join(to));
        if to.is_dir() {
            return Ok(());
        }
        let failed = |source| StoreError::io("copy", &from, source);
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        // A whole one alone has the name that is looked for; what an interrupted copy left is in the way.
        let part = to.with_file_name(format!(".{name}"));
        match fs::remove_dir_all(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        fs::create_dir_all(to.parent().unwrap_or(&to)).map_err(failed)?;
        // Attributes are what overlayfs obeys, and a clone of extents would have caches of its own, but no
        // blocks: both are wanted.
        let copied = Command::new("cp")
            .args(["-dR", "--preserve=mode,ownership,timestamps,links,xattr", "--reflink=auto"])
            .args(["--no-target-directory", "--"])
            .args([&from, &part])
            .stdin(Stdio::null())
            .output()
            .map_err(failed)?;
        if !copied.status.success() {
            fs::remove_dir_all(&part).ok();
            let said = String::from_utf8_lossy(&copied.stderr);
            let kind = if said.contains("No space left") {
                io::ErrorKind::StorageFull
            } else {
                io::ErrorKind::Other
            };
            return Err(failed(io::Error::new(kind, said.trim().to_owned())));
        }
        fs::rename(&part, &to).map_err(failed)
    }

    pub(crate) fn load_blocking(
        &self,
        reference: ImageRef,
        manifest_digest: Digest,
    ) -> Result<Image, ImageError> {
        let (manifest, config) = self.read_image(manifest_digest)?;
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let record = self.find_layer(*diff_id)?;
            let record = record.ok_or(StoreError::Missing { what: "layer", digest: *diff_id })?;
            layers.push(LayerInfo {
                digest: descriptor.digest,
                diff_id: *diff_id,
                media_type: descriptor.media_type.clone(),
                compressed_bytes: descriptor.size,
                unpacked_bytes: record.unpacked_bytes,
            });
        }
        let size_bytes = layers.iter().map(|layer| layer.unpacked_bytes).sum();
        let config_digest = manifest.config.digest;
        Ok(Image { reference, manifest_digest, config_digest, config, layers, size_bytes })
    }

    /// Reads and checks a manifest and its configuration.
    pub(crate) fn read_image(&self, manifest_digest: Digest) -> Result<(Manifest, ImageConfig), ImageError> {
        let Document::Manifest(manifest) = Document::parse(None, &self.read_blob(manifest_digest)?)? else {
            return Err(
                ManifestError::UnsupportedMediaType("an index in place of a manifest".to_owned()).into()
            );
        };
        let config = read_config(&manifest, &self.read_blob(manifest.config.digest)?)?;
        Ok((manifest, config))
    }
}

/// Reads a configuration and checks it against its manifest.
pub(crate) fn read_config(manifest: &Manifest, body: &[u8]) -> Result<ImageConfig, ManifestError> {
    let config = ImageConfig::parse(body)?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers == diff_ids { Ok(config) } else { Err(ManifestError::LayerCount { layers, diff_ids }) }
}
