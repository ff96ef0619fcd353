//! An image archive as a set of named members in a file that can be read at any place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;

use serde::Deserialize;

use super::ArchiveError;
use crate::content::StoreError;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::manifest::{Descriptor, Index, MANIFEST_MAX_BYTES};
use crate::reference::ImageRef;
use crate::unpack::{Kind, Members};

/// An archive of images has a few members for each layer; one of more members is a file system.
const MEMBERS_MAX: usize = 20_000;
/// Longest chain of links between members.
const LINKS_MAX: usize = 8;

/// An uncompressed archive, its members known by name.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    bytes: u64,
    members: HashMap<Vec<u8>, Place>,
}

#[derive(Debug)]
enum Place {
    Data { offset: u64, bytes: u64 },
    Link(Vec<u8>),
}

/// What an archive is, and what it says it holds.
#[derive(Debug)]
pub(super) enum Contents {
    Oci(Index),
    Docker(Vec<DockerEntry>),
    Rootfs,
}

/// An image in Docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerEntry {
    pub(super) config: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) repo_tags: Vec<String>,
    pub(super) layers: Vec<String>,
}

impl Archive {
    /// Finds the members.
    pub(super) fn read(file: File) -> Result<Self, ImageError> {
        let bytes = file.metadata().map_err(|source| ArchiveError::Read { source })?.len();
        let mut archive = Self { file, bytes, members: HashMap::new() };
        let mut found = HashMap::new();
        let mut members = Members::new(BufReader::with_capacity(128 << 10, archive.whole()));
        while let Some(member) = members.next().map_err(|source| ArchiveError::Contents { source })? {
            let name = normalised(&member.name);
            let place = match member.kind {
                Kind::File if member.sparse.is_none() => {
                    Place::Data { offset: member.data_offset, bytes: member.size }
                }
                Kind::HardLink(target) => Place::Link(normalised(&target)),
                Kind::Symlink(target) => {
                    let directory = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
                    Place::Link(normalised(&[name.get(..directory).unwrap_or_default(), &target].concat()))
                }
                _ => continue,
            };
            found.insert(name, place);
            if found.len() > MEMBERS_MAX {
                found.clear();
                break;
            }
        }
        archive.members = found;
        Ok(archive)
    }

    /// Tells what the archive is. A root file system may have a file of such a name: the content decides.
    pub(super) fn contents(&self) -> Result<Contents, ImageError> {
        let is_oci = self.members.contains_key(b"oci-layout".as_slice());
        if is_oci && self.members.contains_key(b"index.json".as_slice()) {
            let malformed = |source| ArchiveError::Malformed { name: "index.json", source };
            let index =
                serde_json::from_slice(&self.small("index.json", MANIFEST_MAX_BYTES)?).map_err(malformed)?;
            return Ok(Contents::Oci(index));
        }
        if self.members.contains_key(b"manifest.json".as_slice()) {
            let text = self.small("manifest.json", MANIFEST_MAX_BYTES)?;
            match serde_json::from_slice(&text) {
                Ok(entries) => return Ok(Contents::Docker(entries)),
                Err(source) if self.members.contains_key(b"repositories".as_slice()) => {
                    return Err(ArchiveError::Malformed { name: "manifest.json", source }.into());
                }
                Err(_) => {}
            }
        }
        Ok(Contents::Rootfs)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The archive itself, from its beginning.
    pub(super) fn whole(&self) -> Section<'_> {
        Section { file: &self.file, offset: 0, remaining: self.bytes }
    }

    /// A member's data, links followed within the archive.
    pub(super) fn reader(&self, name: &str) -> Result<Section<'_>, ArchiveError> {
        let missing = || ArchiveError::Missing { name: name.chars().take(200).collect() };
        let mut key = normalised(name.as_bytes());
        for _ in 0..LINKS_MAX {
            match self.members.get(&key).ok_or_else(missing)? {
                Place::Data { offset, bytes } => {
                    return Ok(Section { file: &self.file, offset: *offset, remaining: *bytes });
                }
                Place::Link(target) => key.clone_from(target),
            }
        }
        Err(missing())
    }

    pub(super) fn size(&self, name: &str) -> Result<u64, ArchiveError> {
        Ok(self.reader(name)?.remaining)
    }

    /// A small member whole.
    pub(super) fn small(&self, name: &str, limit_bytes: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut reader = self.reader(name)?;
        if reader.remaining > limit_bytes {
            return Err(ArchiveError::TooLarge { name: name.chars().take(200).collect(), limit_bytes });
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|source| ArchiveError::Read { source })?;
        Ok(bytes)
    }

    /// A blob's data in an OCI layout.
    pub(super) fn blob_reader(&self, descriptor: &Descriptor) -> Result<Section<'_>, ArchiveError> {
        self.reader(&blob_name(descriptor.digest))
    }

    /// A small blob whole, verified.
    pub(super) fn blob(&self, descriptor: &Descriptor, limit_bytes: u64) -> Result<Vec<u8>, ImageError> {
        let bytes = self.small(&blob_name(descriptor.digest), limit_bytes)?;
        let actual = Digest::of(&bytes);
        if actual == descriptor.digest {
            Ok(bytes)
        } else {
            Err(StoreError::DigestMismatch { expected: descriptor.digest, actual }.into())
        }
    }
}

/// Returns the name that an index entry's annotations give; a bare tag names nothing.
pub(super) fn name_of(entry: &Descriptor) -> Option<ImageRef> {
    let annotations = entry.annotations.as_ref()?;
    let full = annotations.get("io.containerd.image.name").map(String::as_str);
    let reference = annotations.get("org.opencontainers.image.ref.name").map(String::as_str);
    full.or(reference.filter(|name| name.contains([':', '/'])))?.parse().ok()
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Resolves `.` and `..` by text: names here are keys of a map and never become paths.
fn normalised(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A part of a file, read without moving the file's own position.
#[derive(Debug)]
pub(super) struct Section<'a> {
    file: &'a File,
    offset: u64,
    remaining: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        let Some(buffer) = buffer.get_mut(..want).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        self.remaining -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_dots_and_never_lead_above_the_archive() {
        for (name, key) in [("./a/b", "a/b"), ("a/../b", "b"), ("../../x", "x"), ("/a//b/", "a/b"), ("", "")]
        {
            assert_eq!(normalised(name.as_bytes()), key.as_bytes(), "{name}");
        }
    }

    #[test]
    fn a_bare_tag_is_no_name() {
        let entry = |key: &str, value: &str| Descriptor {
            annotations: Some([(key.to_owned(), value.to_owned())].into()),
            ..Descriptor::new("", Digest::of(b""), 0)
        };
        assert_eq!(name_of(&entry("org.opencontainers.image.ref.name", "latest")), None);
        let named = name_of(&entry("org.opencontainers.image.ref.name", "busybox:1"));
        assert_eq!(named.map(|name| name.canonical()).as_deref(), Some("docker.io/library/busybox:1"));
        let full = name_of(&entry("io.containerd.image.name", "ghcr.io/a/b:c"));
        assert_eq!(full.map(|name| name.canonical()).as_deref(), Some("ghcr.io/a/b:c"));
    }
}
