//! An image as this host has it: read back from its manifest and configuration at any time.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::content::{ContentStore, StoreError};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::manifest::{Document, Manifest, ManifestError};
use crate::reference::ImageRef;

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
