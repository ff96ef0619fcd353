//! Images from archives: `docker save` (old and new), OCI layouts, and plain root file systems.
//!
//! What the archive is shows in its members, whatever its name: `index.json` is OCI's, `manifest.json`
//! Docker's, neither a root file system. An archive that is compressed or comes as a stream is first
//! spooled, uncompressed, because Docker writes the list of contents last.
//!
//! Source: [OCI image layout](https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md).

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wharf_sys::landlock::Allowed;

use crate::config::{HistoryEntry, ImageConfig, RootFs, RunConfig};
use crate::content::{ContentStore, Lease, StoreError};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::{Image, read_config};
use crate::manifest::{
    CONFIG_MAX_BYTES, Descriptor, Document, Index, MANIFEST_MAX_BYTES, Manifest, ManifestError, OCI_CONFIG,
    OCI_INDEX, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST,
};
use crate::platform::Platform;
use crate::progress::{self, LayerProgress, Phase, ProgressSender};
use crate::reference::ImageRef;
use crate::unpack::{self, Compression, UnpackError};
use crate::walls;

mod archive;

use archive::{Archive, Contents, DockerEntry};

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The image's name; needed where the archive has none, and then only for one image.
    pub reference: Option<ImageRef>,
    /// Which image of an index; this machine's own if not given.
    pub platform: Option<Platform>,
    /// Defaults for containers of a plain root file system: command, environment and so on.
    pub run: RunConfig,
    /// When a plain root file system is said to be made, RFC 3339.
    pub created: Option<String>,
    /// Receives how far it has come.
    pub progress: Option<ProgressSender>,
}

/// Says why an archive is not one of an image.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be opened.
    #[error("cannot open archive {path:?}")]
    Open {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The stream broke off, or does not decompress.
    #[error("cannot read the archive")]
    Read {
        /// What it said.
        source: io::Error,
    },
    /// It is not a tar archive.
    #[error("cannot read the archive's contents")]
    Contents {
        /// What is wrong.
        source: UnpackError,
    },
    /// It refers to a member that it does not have.
    #[error("archive has no {name:?}")]
    Missing {
        /// Which.
        name: String,
    },
    /// A member that describes the image is not what it should be.
    #[error("malformed {name:?} in the archive")]
    Malformed {
        /// Which.
        name: &'static str,
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// A member is larger than such a member may be.
    #[error("{name:?} in the archive is larger than {limit_bytes} bytes")]
    TooLarge {
        /// Which.
        name: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// It holds no image for this machine.
    #[error("archive holds no image")]
    Empty,
    /// Neither the archive nor the caller names the image.
    #[error("archive names no image; give a name")]
    Unnamed,
    /// One name was given for several images.
    #[error("archive holds {count} images, which cannot all have the given name")]
    Several {
        /// How many.
        count: usize,
    },
}

impl ContentStore {
    /// Imports the images of an archive file.
    ///
    /// # Errors
    /// [`ImageError`]; layers that were finished before the failure stay until garbage collection.
    pub async fn import_file(
        &self,
        lease: &Lease,
        path: &Path,
        options: ImportOptions,
    ) -> Result<Vec<Image>, ImageError> {
        let (store, lease, path) = (self.clone(), lease.clone(), path.to_owned());
        let wanted = Wanted::default();
        let dropped = wanted.dropped();
        crate::blocking(move || {
            let file = File::open(&path).map_err(|source| ArchiveError::Open { path, source })?;
            let import = Import { store: &store, lease: &lease, options: &options, dropped: &dropped };
            store.within_walls(|| import.file(file))
        })
        .await
    }

    /// Imports the images of an archive that comes as a stream. Dropping the future ends the import at its
    /// next read of the archive; what it had unpacked and not named goes.
    ///
    /// # Errors
    /// As [`ContentStore::import_file`].
    pub async fn import(
        &self,
        lease: &Lease,
        source: impl Read + Send + 'static,
        options: ImportOptions,
    ) -> Result<Vec<Image>, ImageError> {
        let (store, lease) = (self.clone(), lease.clone());
        let wanted = Wanted::default();
        let dropped = wanted.dropped();
        crate::blocking(move || {
            let import = Import { store: &store, lease: &lease, options: &options, dropped: &dropped };
            store.within_walls(|| import.stream(source))
        })
        .await
    }
}

/// Lives in the future of an import: when that is dropped, the blocking work ends at its next read.
#[derive(Debug, Default)]
struct Wanted(Arc<AtomicBool>);

impl Wanted {
    fn dropped(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One import. All of it blocks.
struct Import<'a> {
    store: &'a ContentStore,
    lease: &'a Lease,
    options: &'a ImportOptions,
    dropped: &'a AtomicBool,
}

impl Import<'_> {
    fn file(&self, mut file: File) -> Result<Vec<Image>, ImageError> {
        let read = |source| ArchiveError::Read { source };
        let mut start = Vec::new();
        file.by_ref().take(4).read_to_end(&mut start).map_err(read)?;
        file.rewind().map_err(read)?;
        // A file that can be read at any place needs no second copy.
        if Compression::of(&start) == Compression::Plain
            && file.metadata().is_ok_and(|metadata| metadata.is_file())
        {
            self.plain(file)
        } else {
            self.stream(file)
        }
    }

    fn stream(&self, source: impl Read) -> Result<Vec<Image>, ImageError> {
        let limit = self.store.limits().unpacked_bytes;
        let directory = self.store.ingest_directory();
        // Without a name: gone when closed, whatever happens.
        let mut spool = tempfile::tempfile_in(&directory)
            .map_err(|error| StoreError::io("spool in", &directory, error))?;
        let (_, reader) = unpack::decompress(source).map_err(|source| ArchiveError::Read { source })?;
        let mut reader = reader.take(limit + 1);
        let mut buffer = vec![0; 128 << 10];
        let mut spooled = 0;
        loop {
            still_wanted(self.dropped).map_err(|source| ArchiveError::Read { source })?;
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(ArchiveError::Read { source }.into()),
            };
            io::Write::write_all(&mut spool, buffer.get(..count).unwrap_or_default())
                .map_err(|error| StoreError::io("spool in", &directory, error))?;
            spooled += count as u64;
        }
        if spooled > limit {
            return Err(ArchiveError::TooLarge { name: "archive".to_owned(), limit_bytes: limit }.into());
        }
        self.plain(spool)
    }

    fn plain(&self, file: File) -> Result<Vec<Image>, ImageError> {
        let archive = Archive::read(file)?;
        match archive.contents()? {
            Contents::Oci(index) => self.oci(&archive, index),
            Contents::Docker(entries) => self.docker(&archive, &entries),
            Contents::Rootfs => self.rootfs(&archive).map(|image| vec![image]),
        }
    }

    fn oci(&self, archive: &Archive, index: Index) -> Result<Vec<Image>, ImageError> {
        let host = Platform::host();
        let platform = self.options.platform.as_ref().unwrap_or(&host);
        // Entries of one name are one image for several platforms.
        let mut named: Vec<(Option<ImageRef>, Vec<Descriptor>)> = Vec::new();
        for entry in index.manifests {
            let name = archive::name_of(&entry);
            match named.iter_mut().find(|(known, _)| *known == name) {
                Some((_, entries)) => entries.push(entry),
                None => named.push((name, vec![entry])),
            }
        }
        let mut wanted = Vec::new();
        for (name, entries) in named {
            let chosen = match entries.as_slice() {
                [only] => only.clone(),
                _ => Index { manifests: entries }.select(platform)?.clone(),
            };
            wanted.push((name.into_iter().collect(), chosen));
        }
        self.each(wanted, |entry| {
            let mut descriptor = entry.clone();
            for _index_then_manifest in 0..2 {
                let body = archive.blob(&descriptor, MANIFEST_MAX_BYTES)?;
                match Document::parse(None, &body)? {
                    Document::Index(index) => descriptor = index.select(platform)?.clone(),
                    Document::Manifest(manifest) => return self.oci_image(archive, &manifest, &body),
                }
            }
            Err(ManifestError::UnsupportedMediaType(format!("an index within an {OCI_INDEX}")).into())
        })
    }

    fn oci_image(&self, archive: &Archive, manifest: &Manifest, body: &[u8]) -> Result<Digest, ImageError> {
        let config_body = archive.blob(&manifest.config, CONFIG_MAX_BYTES)?;
        let config = read_config(manifest, &config_body)?;
        self.lease.protect(config.rootfs.diff_ids.iter().copied());
        let progress = self.options.progress.as_ref();
        progress::begin(progress, manifest.layers.iter().map(|layer| (layer.digest, layer.size)));
        for (index, (layer, diff_id)) in manifest.layers.iter().zip(&config.rootfs.diff_ids).enumerate() {
            let progress = LayerProgress::new(progress, index);
            progress.set(Phase::Extracting, 0);
            let counted = Counted {
                inner: archive.blob_reader(layer)?,
                progress: &progress,
                bytes: 0,
                dropped: self.dropped,
            };
            self.store.add_layer(counted, Some(layer.digest), *diff_id)?;
            progress.complete(Phase::Done);
        }
        self.keep(manifest, &config_body, body)
    }

    fn docker(&self, archive: &Archive, entries: &[DockerEntry]) -> Result<Vec<Image>, ImageError> {
        let mut wanted = Vec::new();
        for entry in entries {
            // A tag that this program cannot read is no reason to lose the image.
            let names = entry.repo_tags.iter().filter_map(|tag| tag.parse().ok()).collect();
            wanted.push((names, entry));
        }
        self.each(wanted, |entry| {
            let config_body = archive.small(&entry.config, CONFIG_MAX_BYTES)?;
            let config = ImageConfig::parse(&config_body)?;
            let (layers, diff_ids) = (entry.layers.len(), config.rootfs.diff_ids.len());
            if layers != diff_ids {
                return Err(ManifestError::LayerCount { layers, diff_ids }.into());
            }
            self.lease.protect(config.rootfs.diff_ids.iter().copied());
            let progress = self.options.progress.as_ref();
            let mut sizes = Vec::new();
            for (name, diff_id) in entry.layers.iter().zip(&config.rootfs.diff_ids) {
                sizes.push((*diff_id, archive.size(name)?));
            }
            progress::begin(progress, sizes.into_iter());
            let mut layers = Vec::new();
            for (index, (name, diff_id)) in entry.layers.iter().zip(&config.rootfs.diff_ids).enumerate() {
                let progress = LayerProgress::new(progress, index);
                progress.set(Phase::Extracting, 0);
                let mut start = Vec::new();
                archive
                    .reader(name)?
                    .take(4)
                    .read_to_end(&mut start)
                    .map_err(|source| ArchiveError::Read { source })?;
                let media_type = match Compression::of(&start) {
                    Compression::Plain => OCI_LAYER,
                    Compression::Gzip => OCI_LAYER_GZIP,
                    Compression::Zstd => OCI_LAYER_ZSTD,
                };
                let counted = Counted {
                    inner: archive.reader(name)?,
                    progress: &progress,
                    bytes: 0,
                    dropped: self.dropped,
                };
                let (digest, bytes) = self.store.add_layer(counted, None, *diff_id)?;
                layers.push(Descriptor::new(media_type, digest, bytes));
                progress.complete(Phase::Done);
            }
            self.synthesise(&config_body, layers)
        })
    }

    fn rootfs(&self, archive: &Archive) -> Result<Image, ImageError> {
        let reference = self.options.reference.clone().ok_or(ArchiveError::Unnamed)?;
        let bytes = archive.bytes();
        let progress = self.options.progress.as_ref();
        progress::begin(progress, [(Digest::of(b""), bytes)].into_iter());
        let progress = LayerProgress::new(progress, 0);
        progress.set(Phase::Extracting, 0);
        let counted =
            Counted { inner: archive.whole(), progress: &progress, bytes: 0, dropped: self.dropped };
        let unpacked = self.store.unpack_aside(counted)?.map_err(|source| ImageError::Rootfs { source })?;
        let diff_id = unpacked.summary.diff_id;
        self.lease.protect([diff_id]);
        self.store.commit_as_found(unpacked)?;
        progress.complete(Phase::Done);
        let platform = self.options.platform.clone().unwrap_or_else(Platform::host);
        let config = ImageConfig {
            created: self.options.created.clone(),
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            config: self.options.run.clone(),
            rootfs: RootFs { diff_ids: vec![diff_id], ..RootFs::default() },
            history: vec![HistoryEntry {
                created: self.options.created.clone(),
                created_by: Some("imported root file system".to_owned()),
                ..HistoryEntry::default()
            }],
            ..ImageConfig::default()
        };
        let config_body = to_json("image configuration", &config)?;
        let manifest = self.synthesise(&config_body, vec![Descriptor::new(OCI_LAYER, diff_id, bytes)])?;
        self.store.load_blocking(reference, manifest)
    }

    /// Imports every wanted image and loads it under its names, or the one that the caller gave.
    fn each<T>(
        &self,
        wanted: Vec<(Vec<ImageRef>, T)>,
        import: impl Fn(&T) -> Result<Digest, ImageError>,
    ) -> Result<Vec<Image>, ImageError> {
        let count = wanted.len();
        if count == 0 {
            return Err(ArchiveError::Empty.into());
        }
        let mut images = Vec::new();
        for (mut names, item) in wanted {
            if let Some(given) = &self.options.reference {
                if count > 1 {
                    return Err(ArchiveError::Several { count }.into());
                }
                names = vec![given.clone()];
            }
            if names.is_empty() {
                return Err(ArchiveError::Unnamed.into());
            }
            let manifest = import(&item)?;
            for name in names {
                images.push(self.store.load_blocking(name, manifest)?);
            }
        }
        Ok(images)
    }

    fn synthesise(&self, config_body: &[u8], layers: Vec<Descriptor>) -> Result<Digest, ImageError> {
        self.store.write_image(self.lease, config_body, layers)
    }

    fn keep(&self, manifest: &Manifest, config_body: &[u8], body: &[u8]) -> Result<Digest, ImageError> {
        self.store.keep_image(self.lease, manifest, config_body, body)
    }
}

impl ContentStore {
    /// Does work that may use this store's directories and no other file. Blocks.
    fn within_walls<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, ImageError> + Send,
    ) -> Result<T, ImageError> {
        let directories = self.directories()?;
        let both = |directory| [(directory, Allowed::Read), (directory, Allowed::Fill)];
        let beneath: Vec<_> = directories.iter().map(AsFd::as_fd).flat_map(both).collect();
        walls::within(&beneath, work)?
    }

    /// Makes an image of layers that are here.
    pub(crate) fn write_image(
        &self,
        lease: &Lease,
        config_body: &[u8],
        layers: Vec<Descriptor>,
    ) -> Result<Digest, ImageError> {
        let config = Descriptor::new(OCI_CONFIG, Digest::of(config_body), config_body.len() as u64);
        let manifest =
            Manifest { schema_version: 2, media_type: Some(OCI_MANIFEST.to_owned()), config, layers };
        let body = to_json("manifest", &manifest)?;
        self.keep_image(lease, &manifest, config_body, &body)
    }

    /// Writes configuration and manifest, which make the image loadable.
    fn keep_image(
        &self,
        lease: &Lease,
        manifest: &Manifest,
        config_body: &[u8],
        body: &[u8],
    ) -> Result<Digest, ImageError> {
        let digest = Digest::of(body);
        lease.protect([digest, manifest.config.digest]);
        self.write_blob(manifest.config.digest, config_body)?;
        self.write_blob(digest, body)?;
        Ok(digest)
    }
}

pub(crate) fn to_json(what: &'static str, value: &impl serde::Serialize) -> Result<Vec<u8>, ManifestError> {
    serde_json::to_vec(value).map_err(|source| ManifestError::Malformed { what, source })
}

/// An error once nobody waits for the import any more.
fn still_wanted(dropped: &AtomicBool) -> io::Result<()> {
    if dropped.load(Ordering::Relaxed) { Err(io::Error::other("the import was cancelled")) } else { Ok(()) }
}

/// Reports progress as it is read, and ends with the import's future.
struct Counted<'a, R> {
    inner: R,
    progress: &'a LayerProgress,
    bytes: u64,
    dropped: &'a AtomicBool,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        still_wanted(self.dropped)?;
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        self.progress.set(Phase::Extracting, self.bytes);
        Ok(count)
    }
}
