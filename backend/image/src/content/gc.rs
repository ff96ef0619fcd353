//! Garbage collection: roots, marked by reading manifests; a pure plan; removal under the leases' lock.
//!
//! Roots are the manifests that somebody still has a use for: tagged images, and the images of
//! existing containers. A root that cannot be read stops the collection, because what it needs is then
//! unknown.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::{ContentStore, StoreError, TRASH_PREFIX, names, remove_entries};
use crate::digest::Digest;
use crate::error::ImageError;

/// Blobs and layers, by digest: what is there, or what is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Manifests and configurations.
    pub blobs: BTreeSet<Digest>,
    /// Unpacked layers, by uncompressed digest.
    pub layers: BTreeSet<Digest>,
}

/// What a collection removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletions {
    /// Manifests and configurations.
    pub blobs: BTreeSet<Digest>,
    /// Unpacked layers, by uncompressed digest.
    pub layers: BTreeSet<Digest>,
}

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many manifests and configurations.
    pub blobs: usize,
    /// How many layers.
    pub layers: usize,
    /// Bytes of their files.
    pub freed_bytes: u64,
}

/// Decides what to remove: all that is there, needed by no root and named by no lease.
pub fn plan(needed: &Present, leased: &BTreeSet<Digest>, present: &Present) -> Deletions {
    let unused = |present: &BTreeSet<Digest>, needed: &BTreeSet<Digest>| {
        present
            .iter()
            .filter(|digest| !needed.contains(digest) && !leased.contains(digest))
            .copied()
            .collect()
    };
    Deletions {
        blobs: unused(&present.blobs, &needed.blobs),
        layers: unused(&present.layers, &needed.layers),
    }
}

impl ContentStore {
    /// Removes everything that no root needs and no lease names.
    ///
    /// # Errors
    /// Fails, removing nothing, if the manifest or configuration of a root cannot be read.
    pub async fn collect(&self, roots: BTreeSet<Digest>) -> Result<Collected, ImageError> {
        let store = self.clone();
        crate::blocking(move || {
            let needed = store.mark(&roots)?;
            let deletions = plan(&needed, &store.inner.leases.all(), &store.present()?);
            Ok(store.apply(&deletions)?)
        })
        .await
    }

    /// Returns what the images of these manifests consist of.
    fn mark(&self, roots: &BTreeSet<Digest>) -> Result<Present, ImageError> {
        let mut needed = Present::default();
        for root in roots {
            let (manifest, config) = self.read_image(*root)?;
            needed.blobs.extend([*root, manifest.config.digest]);
            needed.layers.extend(config.rootfs.diff_ids);
        }
        Ok(needed)
    }

    fn present(&self) -> Result<Present, StoreError> {
        let digests = |directory| -> Result<BTreeSet<Digest>, StoreError> {
            Ok(names(directory)?.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
        };
        Ok(Present {
            blobs: digests(&self.inner.images.join("blobs/sha256"))?,
            layers: digests(&self.inner.layers)?,
        })
    }

    fn apply(&self, deletions: &Deletions) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        // What an earlier collection could not remove would be in the way.
        remove_entries(&self.inner.layers, |name| name.starts_with(TRASH_PREFIX))?;
        for digest in &deletions.blobs {
            let path = self.blob_path(*digest);
            let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if let Some(removed) = self.inner.leases.unless_held(*digest, || fs::remove_file(&path)) {
                removed.map_err(|source| StoreError::io("remove", &path, source))?;
                collected.blobs += 1;
                collected.freed_bytes += bytes;
            }
        }
        for digest in &deletions.layers {
            let path = self.layer_path(*digest);
            let trash = self.inner.layers.join(format!("{TRASH_PREFIX}{}", digest.hex()));
            if let Some(renamed) = self.inner.leases.unless_held(*digest, || fs::rename(&path, &trash)) {
                renamed.map_err(|source| StoreError::io("remove", &path, source))?;
                collected.freed_bytes += allocated_bytes(&trash);
                fs::remove_dir_all(&trash).map_err(|source| StoreError::io("remove", &trash, source))?;
                collected.layers += 1;
            }
        }
        Ok(collected)
    }
}

/// Bytes that a tree's files take on disk, a hard-linked file counted once; unreadable parts count nothing.
fn allocated_bytes(root: &std::path::Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut directories = vec![root.to_owned()];
    let mut bytes = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                directories.push(entry.path());
            }
            if metadata.nlink() == 1 || metadata.is_dir() || seen.insert(metadata.ino()) {
                bytes += metadata.blocks() * 512;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digests(names: &[u8]) -> BTreeSet<Digest> {
        names.iter().map(|name| Digest::of(&[*name])).collect()
    }

    proptest! {
        #[test]
        fn removes_all_that_is_unused_and_nothing_that_is_used(
            present in prop::collection::vec(0..20_u8, 0..20),
            needed in prop::collection::vec(0..20_u8, 0..10),
            leased in prop::collection::vec(0..20_u8, 0..10),
        ) {
            let (there, used, held) = (digests(&present), digests(&needed), digests(&leased));
            let deletions = plan(
                &Present { blobs: used.clone(), layers: BTreeSet::new() },
                &held,
                &Present { blobs: there.clone(), layers: there.clone() },
            );
            for digest in &there {
                prop_assert_eq!(deletions.blobs.contains(digest), !used.contains(digest) && !held.contains(digest));
                // A blob's use does not keep a layer of the same name.
                prop_assert_eq!(deletions.layers.contains(digest), !held.contains(digest));
            }
            prop_assert!(deletions.blobs.is_subset(&there));
        }
    }
}
