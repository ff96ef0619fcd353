//! One layer from a stream into the store: unpack aside, compare both digests, make visible.

use std::io::Read;
use std::os::fd::AsFd as _;

use tempfile::TempDir;
use wharf_sys::landlock::Allowed;

use crate::content::{ContentStore, LayerRecord, StoreError};
use crate::digest::{Digest, Hasher};
use crate::error::ImageError;
use crate::unpack::{self, Summary, UnpackError};
use crate::walls;

/// An unpacked layer that nobody sees yet; dropped, it vanishes.
#[derive(Debug)]
pub(crate) struct Unpacked {
    directory: TempDir,
    pub(crate) summary: Summary,
}

impl ContentStore {
    /// Unpacks a stream aside, behind walls. Blocks.
    pub(crate) fn unpack_aside(
        &self,
        input: impl Read + Send,
    ) -> Result<Result<Unpacked, UnpackError>, ImageError> {
        let (directory, root) = self.begin_layer()?;
        let root = root.as_fd();
        let summary = walls::within(&[(root, Allowed::Fill)], || unpack::unpack(input, root, self.limits()))?;
        Ok(summary.map(|summary| Unpacked { directory, summary }))
    }

    /// Makes a layer visible if it is what the configuration says. Blocks.
    pub(crate) fn commit_unpacked(
        &self,
        unpacked: Unpacked,
        layer: Digest,
        expected: Digest,
    ) -> Result<LayerRecord, ImageError> {
        let actual = unpacked.summary.diff_id;
        if actual != expected {
            return Err(ImageError::DiffIdMismatch { layer, expected, actual });
        }
        Ok(self.commit_layer(unpacked.directory, &unpacked.summary)?)
    }

    /// Makes a layer visible under whatever digest it turned out to have. Blocks.
    pub(crate) fn commit_as_found(&self, unpacked: Unpacked) -> Result<LayerRecord, ImageError> {
        Ok(self.commit_layer(unpacked.directory, &unpacked.summary)?)
    }

    /// Makes sure that a layer of an archive is here; returns the digest and size of its bytes. Blocks.
    ///
    /// `expected` is that digest, where the archive names it.
    pub(crate) fn add_layer(
        &self,
        input: impl Read + Send,
        expected: Option<Digest>,
        diff_id: Digest,
    ) -> Result<(Digest, u64), ImageError> {
        let _alone = self.make_alone_blocking(diff_id);
        let mut input = Hashing { inner: input, hasher: Hasher::default() };
        let unpacked = match self.find_layer(diff_id)? {
            Some(_) => None,
            None => Some(self.unpack_aside(&mut input)?),
        };
        let refused = |source| ImageError::Unpack { layer: expected.unwrap_or(diff_id), source };
        let unpacked = match unpacked.transpose() {
            Err(error) if !error.may_be_corruption() => return Err(refused(error)),
            unpacked => unpacked,
        };
        // What follows the compressed stream belongs to the layer's bytes too.
        std::io::copy(&mut input, &mut std::io::sink())
            .map_err(|source| refused(UnpackError::Read { source }))?;
        let bytes = input.hasher.bytes();
        let layer = input.hasher.finish();
        if let Some(expected) = expected.filter(|expected| *expected != layer) {
            return Err(StoreError::DigestMismatch { expected, actual: layer }.into());
        }
        if let Some(unpacked) = unpacked.map_err(refused)? {
            self.commit_unpacked(unpacked, layer, diff_id)?;
        }
        Ok((layer, bytes))
    }
}

/// Hashes what passes.
#[derive(Debug)]
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    /// Tries, as a hole in the unpacker would, to write beside the layer that is unpacked.
    struct Beside<'a>(&'a ContentStore);

    impl Read for Beside<'_> {
        fn read(&mut self, _buffer: &mut [u8]) -> std::io::Result<usize> {
            fs::create_dir(self.0.layers_root().join("planted"))
                .and(File::open("/proc/self/status"))
                .and(Ok(0))
        }
    }

    /// Attacks: D11.
    #[test]
    fn what_unpacks_a_layer_writes_in_no_other() {
        if wharf_sys::landlock::abi().is_ok_and(|version| version >= wharf_sys::landlock::MOVES_SINCE) {
            let root = tempfile::tempdir().expect("directory");
            let store = ContentStore::open(root.path(), crate::Limits::default()).expect("opens");
            let outcome = store.unpack_aside(Beside(&store)).expect("behind walls");
            let refused = |source: &std::io::Error| source.kind() == std::io::ErrorKind::PermissionDenied;
            assert!(matches!(&outcome, Err(UnpackError::Read { source }) if refused(source)), "{outcome:?}");
        }
    }
}
