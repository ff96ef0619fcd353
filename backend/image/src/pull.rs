//! Pulls: reference → manifest for this platform → configuration → layers, fetched and unpacked at once.
//!
//! A layer's bytes run from the network through its hash into the unpacker on a blocking thread; only
//! when both digests are right does the layer become visible. Manifest and configuration are written last, so
//! an image that can be loaded is complete. Dropping the future at any point stops the downloads; the
//! unpackers notice and remove what they made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;

use crate::content::{ContentStore, Lease};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::{Image, read_config};
use crate::layer::Unpacked;
use crate::manifest::{Descriptor, Document, Manifest, ManifestError};
use crate::platform::Platform;
use crate::progress::{self, LayerProgress, Phase, ProgressSender};
use crate::reference::ImageRef;
use crate::registry::{Credentials, Endpoint, Piece, PieceReader, RegistryClient, RegistryError};
use crate::unpack::UnpackError;

/// Pieces of a layer between network and unpacker: some 16 KiB each, so half a MiB for each layer.
const PIECES: usize = 32;

/// How to pull.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Which image of an index; this machine's own if not given.
    pub platform: Option<Platform>,
    /// For the registry that the reference names; they go nowhere else.
    pub credentials: Option<Credentials>,
    /// Receives how far it has come.
    pub progress: Option<ProgressSender>,
}

impl RegistryClient {
    /// Pulls an image into the store. Layers that are there already are not fetched again.
    ///
    /// What it fetches is protected by `lease` from garbage collection until the caller drops that.
    ///
    /// # Errors
    /// [`ImageError`]; whole layers that were finished before the failure stay until garbage collection.
    pub async fn pull(
        &self,
        store: &ContentStore,
        lease: &Lease,
        reference: &ImageRef,
        options: PullOptions,
    ) -> Result<Image, ImageError> {
        let platform = options.platform.unwrap_or_else(Platform::host);
        let mut endpoints = self.endpoints(reference, options.credentials).into_iter().peekable();
        let mut result = Err(RegistryError::NotFound {
            what: reference.familiar(),
            registry: reference.registry().to_owned(),
        }
        .into());
        while let Some(endpoint) = endpoints.next() {
            let pull = Pull {
                client: self,
                store,
                lease,
                endpoint: &endpoint,
                platform: &platform,
                progress: options.progress.as_ref(),
            };
            result = pull.run(reference).await;
            match &result {
                // A mirror may fail in any way that is its own; the registry itself is asked then.
                Err(error @ (ImageError::Registry(_) | ImageError::Manifest(_)))
                    if endpoints.peek().is_some() =>
                {
                    tracing::warn!(mirror = endpoint.host(), image = %reference, error = error as &dyn std::error::Error, "mirror failed");
                }
                _ => break,
            }
        }
        result
    }
}

/// One pull from one endpoint.
struct Pull<'a> {
    client: &'a RegistryClient,
    store: &'a ContentStore,
    lease: &'a Lease,
    endpoint: &'a Endpoint,
    platform: &'a Platform,
    progress: Option<&'a ProgressSender>,
}

impl Pull<'_> {
    async fn run(&self, reference: &ImageRef) -> Result<Image, ImageError> {
        let (manifest, manifest_digest, manifest_body) = self.resolve(reference).await?;
        let limit_bytes = self.client.config().layer_max_bytes;
        if manifest.layers.iter().any(|layer| layer.size > limit_bytes) {
            return Err(RegistryError::TooLarge { what: "layer", limit_bytes }.into());
        }
        let config_body = self.client.small_blob(self.endpoint, &manifest.config).await?;
        let config = read_config(&manifest, &config_body)?;
        let own =
            Platform { os: config.os.clone(), architecture: config.architecture.clone(), variant: None };
        let unnamed = own.os.is_empty() || own.architecture.is_empty();
        if !unnamed && (&own.os, &own.architecture) != (&self.platform.os, &self.platform.architecture) {
            return Err(ManifestError::NoMatchingPlatform {
                wanted: self.platform.clone(),
                offered: own.to_string(),
            }
            .into());
        }
        self.lease.protect([manifest_digest, manifest.config.digest]);
        self.lease.protect(config.rootfs.diff_ids.iter().copied());
        progress::begin(self.progress, manifest.layers.iter().map(|layer| (layer.digest, layer.size)));
        // Collected in a loop: of a closure's futures the compiler cannot prove that they are Send.
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for (index, (descriptor, diff_id)) in manifest.layers.iter().zip(&config.rootfs.diff_ids).enumerate()
        {
            layers.push(self.layer(descriptor, *diff_id, LayerProgress::new(self.progress, index)));
        }
        stream::iter(layers)
            .buffer_unordered(self.client.config().parallel_layers.max(1))
            .try_collect::<()>()
            .await?;
        let (store, reference, config_digest) =
            (self.store.clone(), reference.clone(), manifest.config.digest);
        crate::blocking(move || {
            store.write_blob(config_digest, &config_body)?;
            store.write_blob(manifest_digest, &manifest_body)?;
            store.load_blocking(reference, manifest_digest)
        })
        .await
    }

    /// Returns the manifest for the platform, its digest and its bytes.
    async fn resolve(&self, reference: &ImageRef) -> Result<(Manifest, Digest, Vec<u8>), ImageError> {
        let mut locator = reference.locator();
        for _index_then_manifest in 0..2 {
            let served = self.client.manifest(self.endpoint, &locator).await?;
            match Document::parse(served.media_type.as_deref(), &served.body)? {
                Document::Manifest(manifest) => return Ok((manifest, served.digest, served.body)),
                Document::Index(index) => locator = index.select(self.platform)?.digest.to_string(),
            }
        }
        Err(ManifestError::UnsupportedMediaType("an index within an index".to_owned()).into())
    }

    /// Makes sure that one layer is unpacked here.
    async fn layer(
        &self,
        descriptor: &Descriptor,
        diff_id: Digest,
        progress: LayerProgress,
    ) -> Result<(), ImageError> {
        // Whoever comes second waits here and then finds the layer.
        let _alone = self.store.make_alone(diff_id).await;
        let store = self.store.clone();
        if crate::blocking(move || Ok(store.find_layer(diff_id)?)).await?.is_some() {
            progress.complete(Phase::Exists);
            return Ok(());
        }
        let unpacked = self.fetch(descriptor, &progress).await?;
        let (store, layer) = (self.store.clone(), descriptor.digest);
        crate::blocking(move || store.commit_unpacked(unpacked, layer, diff_id)).await?;
        progress.complete(Phase::Done);
        Ok(())
    }

    /// Downloads a layer into the unpacker. When both fail, the one that explains more is returned.
    async fn fetch(&self, descriptor: &Descriptor, progress: &LayerProgress) -> Result<Unpacked, ImageError> {
        let (sender, receiver) = mpsc::channel::<Piece>(PIECES);
        let (store, layer, total_bytes) = (self.store.clone(), descriptor.digest, descriptor.size);
        let extracting = progress.clone();
        let downloaded = Arc::new(AtomicBool::new(false));
        let finished = Arc::clone(&downloaded);
        let reader = PieceReader::new(receiver, move |read_bytes| {
            if finished.load(Ordering::Relaxed) {
                extracting.set(Phase::Extracting, read_bytes);
            }
        });
        let mut unpacking = tokio::task::spawn_blocking(move || store.unpack_aside(reader));
        progress.set(Phase::Downloading, 0);
        let download = self.client.blob(self.endpoint, descriptor, sender, |received_bytes| {
            progress.set(Phase::Downloading, received_bytes);
            downloaded.store(received_bytes == total_bytes, Ordering::Relaxed);
        });
        tokio::pin!(download);
        let task = |source| ImageError::Task { source };
        let refused = |source| ImageError::Unpack { layer, source };
        tokio::select! {
            // Both futures live on after the select and are awaited below, so dropping a branch loses nothing.
            fetched = &mut download => {
                let unpacked = unpacking.await.map_err(task)?;
                fetched?;
                unpacked?.map_err(refused)
            }
            unpacked = &mut unpacking => {
                let unpacked = unpacked.map_err(task)??;
                if unpacked.as_ref().err().is_none_or(UnpackError::may_be_corruption) {
                    download.await?;
                }
                unpacked.map_err(refused)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pull_can_be_spawned() {
        fn spawnable<T: Send>(pull: T) -> T {
            pull
        }
        let root = tempfile::tempdir().expect("temp dir");
        let store = ContentStore::open(root.path(), crate::Limits::default()).expect("opens");
        let (lease, reference) = (store.lease(), "localhost:1/a".parse().expect("a name"));
        let config = crate::RegistryConfig { attempts: 1, ..crate::RegistryConfig::default() };
        let client = RegistryClient::new(config).expect("a client");
        let error = spawnable(client.pull(&store, &lease, &reference, PullOptions::default())).await;
        assert!(matches!(error, Err(ImageError::Registry(RegistryError::Unreachable { .. }))));
    }
}
