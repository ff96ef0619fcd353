//! What this host has of images: verified blobs and unpacked layers, named by their digests.
//!
//! ```text
//! <state root>/images/lock               held while the store is open
//! <state root>/images/blobs/sha256/<hex> manifests and configurations
//! <state root>/images/ingest/            half-written blobs and spooled archives
//! <state root>/layers/<diff id>/diff     an unpacked layer
//! <state root>/layers/<diff id>/layer.json
//! <state root>/layers/.unpack-*          half-unpacked layers
//! <state root>/layers/.trash-*           layers being removed
//! ```
//!
//! Invariants: what stands under its digest is complete, verified and on disk, since it came there by
//! a rename after a sync. Whatever an interrupted process left is removed at the next open. All
//! directories are 0700, for layers hold set-id files. Compressed layers are not kept: the stream is
//! hashed on its way into the unpacker, which saves a copy on disk and the time to write it.
//!
//! Design follows [containerd's content flow](https://github.com/containerd/containerd/blob/main/docs/content-flow.md).

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::sync::OwnedMutexGuard;

use crate::digest::Digest;
use crate::unpack::{Limits, Summary};

mod gc;
mod lease;

pub use gc::{Collected, Deletions, Present, plan};
pub use lease::Lease;

use lease::Leases;

const UNPACK_PREFIX: &str = ".unpack-";
const TRASH_PREFIX: &str = ".trash-";
const LAYER_FILE: &str = "layer.json";

/// Says why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error("image store {path:?} is in use by another process")]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// The file system is full.
    #[error("no space left while writing {path:?}")]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// A blob or layer that should be there is not.
    #[error("{what} {digest} is not in the image store")]
    Missing {
        /// Blob or layer.
        what: &'static str,
        /// Its name.
        digest: Digest,
    },
    /// The bytes differ from their name.
    #[error("content of {expected} has digest {actual}")]
    DigestMismatch {
        /// The name.
        expected: Digest,
        /// The bytes' digest.
        actual: Digest,
    },
    /// A layer's own record is unreadable.
    #[error("unreadable record {path:?}")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The kernel refused.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { action, path, source },
        }
    }
}

/// What is known of an unpacked layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) unpacked_bytes: u64,
    /// The layer hides all below it. Overlay ignores that mark on a root, so the list ends here.
    pub(crate) opaque_root: bool,
}

/// The images of one host. Clones share one store.
#[derive(Clone, Debug)]
pub struct ContentStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    images: PathBuf,
    layers: PathBuf,
    limits: Limits,
    leases: Arc<Leases>,
    /// One lock for each layer that somebody is fetching or unpacking.
    busy: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    _lock: File,
}

impl ContentStore {
    /// Opens the store beneath the state root, making its directories and removing what an interrupted
    /// process left. Blocks.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it open.
    pub fn open(state_root: &Path, limits: Limits) -> Result<Self, StoreError> {
        let (images, layers) = (state_root.join("images"), state_root.join("layers"));
        for path in [&images.join("blobs/sha256"), &images.join("ingest"), &layers] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|source| StoreError::io("create", path, source))?;
        }
        let lock_path = images.join("lock");
        let lock = File::create(&lock_path).map_err(|source| StoreError::io("create", &lock_path, source))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::InUse { path: images.clone() },
            TryLockError::Error(source) => StoreError::io("lock", &lock_path, source),
        })?;
        remove_entries(&images.join("ingest"), |_| true)?;
        remove_entries(&layers, |name| name.starts_with(UNPACK_PREFIX) || name.starts_with(TRASH_PREFIX))?;
        let leases = Arc::default();
        let busy = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { images, layers, limits, leases, busy, _lock: lock }) })
    }

    /// Returns a lease: until it is dropped, garbage collection leaves alone what it names.
    ///
    /// Take one before a pull or an import, and drop it when the image's owner has recorded it.
    pub fn lease(&self) -> Lease {
        Lease::new(&self.inner.leases)
    }

    /// Returns the directory that holds the layers' directories.
    pub fn layers_root(&self) -> &Path {
        &self.inner.layers
    }

    /// How much of everything an archive may have.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The directories that all of the store is in. Blocks.
    pub(crate) fn directories(&self) -> Result<[File; 2], StoreError> {
        let open = |path| File::open(path).map_err(|source| StoreError::io("open", path, source));
        Ok([open(&self.inner.images)?, open(&self.inner.layers)?])
    }

    pub(crate) fn ingest_directory(&self) -> PathBuf {
        self.inner.images.join("ingest")
    }

    /// Waits until nobody else makes the layer of this name, and keeps others away.
    pub(crate) async fn make_alone(&self, digest: Digest) -> OwnedMutexGuard<()> {
        self.maker(digest).lock_owned().await
    }

    /// The same on a blocking thread.
    pub(crate) fn make_alone_blocking(&self, digest: Digest) -> OwnedMutexGuard<()> {
        self.maker(digest).blocking_lock_owned()
    }

    fn maker(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = unpoisoned(&self.inner.busy);
        busy.retain(|_, lock| lock.strong_count() > 0);
        let known = busy.get(&digest).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let lock = Arc::default();
            busy.insert(digest, Arc::downgrade(&lock));
            lock
        })
    }

    /// Reads a blob and verifies it once more: disks lie, and whoever reads it trusts it. Blocks.
    pub(crate) fn read_blob(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::Missing { what: "blob", digest },
            _ => StoreError::io("read", &path, source),
        })?;
        let actual = Digest::of(&bytes);
        if actual == digest {
            Ok(bytes)
        } else {
            Err(StoreError::DigestMismatch { expected: digest, actual })
        }
    }

    /// Writes a blob under its digest: temporary file, sync, rename, sync of the directory. Blocks.
    pub(crate) fn write_blob(&self, expected: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let actual = Digest::of(bytes);
        if actual != expected {
            return Err(StoreError::DigestMismatch { expected, actual });
        }
        if self.read_blob(expected).is_ok() {
            return Ok(());
        }
        let path = self.blob_path(expected);
        let failed = |action| {
            let path = path.clone();
            move |source| StoreError::io(action, path, source)
        };
        let mut file = tempfile::NamedTempFile::new_in(self.ingest_directory()).map_err(failed("create"))?;
        file.write_all(bytes).map_err(failed("write"))?;
        file.as_file().sync_all().map_err(failed("sync"))?;
        file.persist(&path).map_err(|error| failed("rename")(error.error))?;
        sync_directory(&self.inner.images.join("blobs/sha256"))
    }

    /// Returns the record of a layer that is unpacked here. Blocks.
    pub(crate) fn find_layer(&self, diff_id: Digest) -> Result<Option<LayerRecord>, StoreError> {
        let path = self.layer_path(diff_id).join(LAYER_FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| StoreError::Record { path: path.clone(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io("read", &path, source)),
        }
    }

    /// Returns a directory to unpack into, removed when dropped, and its `diff`. Blocks.
    pub(crate) fn begin_layer(&self) -> Result<(TempDir, File), StoreError> {
        let failed = |source| StoreError::io("create a directory in", &self.inner.layers, source);
        let directory =
            tempfile::Builder::new().prefix(UNPACK_PREFIX).tempdir_in(&self.inner.layers).map_err(failed)?;
        let diff = directory.path().join("diff");
        fs::create_dir(&diff).map_err(failed)?;
        let root = File::open(&diff).map_err(failed)?;
        // The container's root directory, unless the layer has a mode of its own for it.
        rustix::fs::fchmod(&root, rustix::fs::Mode::from_raw_mode(0o755))
            .map_err(|errno| failed(errno.into()))?;
        Ok((directory, root))
    }

    /// Makes an unpacked layer visible under its digest, or drops it if it is there already. Blocks.
    pub(crate) fn commit_layer(&self, made: TempDir, summary: &Summary) -> Result<LayerRecord, StoreError> {
        let record = LayerRecord { unpacked_bytes: summary.unpacked_bytes, opaque_root: summary.opaque_root };
        let target = self.layer_path(summary.diff_id);
        let failed = |action, source| StoreError::io(action, &target, source);
        let json = serde_json::to_vec(&record)
            .map_err(|source| StoreError::Record { path: target.clone(), source })?;
        fs::write(made.path().join(LAYER_FILE), json).map_err(|source| failed("write", source))?;
        // One sync for the whole tree; a sync for each of its files takes many times as long.
        let directory = File::open(made.path()).map_err(|source| failed("open", source))?;
        rustix::fs::syncfs(directory.as_fd()).map_err(|errno| failed("sync", errno.into()))?;
        match fs::rename(made.path(), &target) {
            Ok(()) => {
                let _moved = made.keep();
                sync_directory(&self.inner.layers)?;
                Ok(record)
            }
            Err(error) => match self.find_layer(summary.diff_id)? {
                Some(present) => Ok(present),
                None => Err(failed("rename", error)),
            },
        }
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.inner.images.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn layer_path(&self, diff_id: Digest) -> PathBuf {
        self.inner.layers.join(diff_id.hex())
    }
}

/// Locks, also after a thread died with the lock held: the maps stay consistent between statements.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| StoreError::io("sync", path, source))
}

fn remove_entries(directory: &Path, which: impl Fn(&str) -> bool) -> Result<(), StoreError> {
    for name in names(directory)?.into_iter().filter(|name| which(name)) {
        let path = directory.join(name);
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|source| StoreError::io("remove", &path, source))?;
    }
    Ok(())
}

/// Names in a directory of ours; foreign ones that are not even text are left alone.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |source| StoreError::io("list", directory, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (TempDir, ContentStore) {
        let root = tempfile::tempdir().expect("temp dir");
        let store = ContentStore::open(root.path(), Limits::default()).expect("opens");
        (root, store)
    }

    #[test]
    fn a_blob_is_read_back_and_a_damaged_one_is_noticed_and_replaced() {
        let (_root, store) = store();
        let digest = Digest::of(b"manifest");
        store.write_blob(digest, b"manifest").expect("writes");
        assert_eq!(store.read_blob(digest).expect("reads"), b"manifest");
        fs::write(store.blob_path(digest), b"manifesT").expect("damages");
        assert!(matches!(store.read_blob(digest), Err(StoreError::DigestMismatch { .. })));
        store.write_blob(digest, b"manifest").expect("writes again");
        assert_eq!(store.read_blob(digest).expect("reads"), b"manifest");
    }

    #[test]
    fn a_blob_under_another_name_is_refused_and_leaves_nothing() {
        let (_root, store) = store();
        let wrong = Digest::of(b"other");
        assert!(matches!(store.write_blob(wrong, b"manifest"), Err(StoreError::DigestMismatch { .. })));
        assert!(matches!(store.read_blob(wrong), Err(StoreError::Missing { .. })));
        assert!(names(&store.ingest_directory()).expect("lists").is_empty());
    }

    #[test]
    fn opening_removes_what_was_interrupted_and_keeps_what_was_finished() {
        let (root, store) = store();
        let digest = Digest::of(b"kept");
        store.write_blob(digest, b"kept").expect("writes");
        drop(store);
        for half in
            ["layers/.unpack-x/diff/deep", "layers/.trash-y/diff", "images/ingest/z", "layers/whole/diff"]
        {
            fs::create_dir_all(root.path().join(half)).expect("makes");
        }
        fs::write(root.path().join("images/ingest/spool"), b"half").expect("writes");
        let store = ContentStore::open(root.path(), Limits::default()).expect("opens again");
        assert_eq!(names(&store.ingest_directory()).expect("lists"), Vec::<String>::new());
        assert_eq!(names(store.layers_root()).expect("lists"), ["whole"]);
        assert!(store.read_blob(digest).is_ok());
    }

    #[test]
    fn a_second_owner_is_refused_while_the_first_has_it_open() {
        let (root, store) = store();
        let second = ContentStore::open(root.path(), Limits::default());
        assert!(matches!(second, Err(StoreError::InUse { .. })));
        drop(store);
        assert!(ContentStore::open(root.path(), Limits::default()).is_ok());
    }

    #[test]
    fn an_unfinished_layer_vanishes() {
        let (_root, store) = store();
        let (made, _diff) = store.begin_layer().expect("begins");
        drop(made);
        assert!(names(store.layers_root()).expect("lists").is_empty());
    }

    #[tokio::test]
    async fn makers_of_the_same_content_take_turns() {
        let (_root, store) = store();
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        let held = store.make_alone(one).await;
        let _other = store.make_alone(other).await;
        let second = tokio::time::timeout(std::time::Duration::from_millis(20), store.make_alone(one)).await;
        assert!(second.is_err());
        drop(held);
        let _held = store.make_alone(one).await;
    }
}
