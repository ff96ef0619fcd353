//! A container's changes as one more layer above its image: a new image.

use std::io;

use crate::config::{HistoryEntry, RunConfig};
use crate::content::{ContentStore, Lease};
use crate::error::ImageError;
use crate::image::Image;
use crate::import::to_json;
use crate::manifest::{Descriptor, OCI_LAYER};
use crate::reference::ImageRef;
use crate::root::Root;
use crate::unpack::UnpackError;

/// What the new image is called and says about itself.
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// Its name.
    pub reference: ImageRef,
    /// When it is made, RFC 3339.
    pub created: String,
    /// Who makes it.
    pub author: Option<String>,
    /// A remark, for the history.
    pub message: Option<String>,
    /// Defaults for its containers.
    pub run: RunConfig,
}

impl ContentStore {
    /// Makes an image of another and what a container of it has changed. The layer is written and read in
    /// one pass, so that it is in the store as any other: under the digest of its bytes.
    ///
    /// # Errors
    /// [`ImageError`]; nothing of it is named then, and garbage collection takes the rest.
    pub async fn commit(
        &self,
        lease: &Lease,
        base: Image,
        root: Root,
        options: CommitOptions,
    ) -> Result<Image, ImageError> {
        let (store, lease) = (self.clone(), lease.clone());
        crate::blocking(move || store.commit_blocking(&lease, base, &root, options)).await
    }

    fn commit_blocking(
        &self,
        lease: &Lease,
        base: Image,
        root: &Root,
        options: CommitOptions,
    ) -> Result<Image, ImageError> {
        let (reader, writer) = io::pipe().map_err(|source| ImageError::Commit { source: source.into() })?;
        let mut counted = Counted { inner: reader, bytes: 0 };
        let (packed, unpacked) = std::thread::scope(|scope| {
            let packing = scope.spawn(move || root.pack(io::BufWriter::with_capacity(1 << 16, writer)));
            let unpacked = self.unpack_aside(&mut counted);
            // A packer whose reader has failed must not wait for it.
            let rest = io::copy(&mut counted, &mut io::sink());
            (packing.join(), rest.map_or_else(|source| Err(broken(source)), |_| unpacked))
        });
        match packed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(ImageError::Commit { source: Box::new(error) }),
            Err(_panic) => return Err(ImageError::Commit { source: "the packer panicked".into() }),
        }
        let unpacked = unpacked?.map_err(|source| ImageError::Commit { source: Box::new(source) })?;
        let diff_id = unpacked.summary.diff_id;
        lease.protect([diff_id]);
        self.commit_as_found(unpacked)?;

        let mut layers: Vec<Descriptor> = base
            .layers
            .iter()
            .map(|layer| Descriptor::new(&layer.media_type, layer.digest, layer.compressed_bytes))
            .collect();
        layers.push(Descriptor::new(OCI_LAYER, diff_id, counted.bytes));
        lease.protect(base.layers.iter().map(|layer| layer.diff_id));
        let mut config = base.config;
        config.created = Some(options.created.clone());
        config.author = options.author.clone();
        config.config = options.run;
        config.rootfs.diff_ids.push(diff_id);
        config.history.push(HistoryEntry {
            created: Some(options.created),
            created_by: Some("a container's changes".to_owned()),
            author: options.author,
            comment: options.message,
            empty_layer: false,
        });
        let manifest = self.write_image(lease, &to_json("image configuration", &config)?, layers)?;
        self.load_blocking(options.reference, manifest)
    }
}

fn broken(source: io::Error) -> ImageError {
    ImageError::Commit { source: Box::new(UnpackError::Read { source }) }
}

/// Counts what passes.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: io::Read> io::Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}
