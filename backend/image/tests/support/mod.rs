//! Archives made member by member, as no honest tool would make them, and a store with a canary beside it.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

pub(crate) mod fake;
pub(crate) mod layout;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use wharf_image::{ContentStore, Image, ImageError, ImportOptions, Limits};

/// A tar under construction.
#[derive(Clone, Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

/// One member; the fields that most tests leave alone have defaults.
#[derive(Clone)]
pub(crate) struct Member<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: u8,
    pub(crate) link: &'a str,
    pub(crate) data: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) device: (u32, u32),
    pub(crate) mtime: u64,
}

impl Default for Member<'_> {
    fn default() -> Self {
        Member {
            name: "",
            kind: b'0',
            link: "",
            data: b"",
            mode: 0o644,
            owner: (0, 0),
            device: (0, 0),
            mtime: 1_000_000_000,
        }
    }
}

impl Tar {
    pub(crate) fn add(mut self, member: &Member<'_>) -> Self {
        let mut header = tar::Header::new_ustar();
        // Set as bytes: the crate's own setters refuse what hostile archives hold.
        copy(&mut header.as_old_mut().name, member.name.as_bytes());
        copy(&mut header.as_old_mut().linkname, member.link.as_bytes());
        header.as_old_mut().linkflag = [member.kind];
        header.set_mode(member.mode);
        header.set_uid(member.owner.0);
        header.set_gid(member.owner.1);
        header.set_mtime(member.mtime);
        header.set_size(member.data.len() as u64);
        header.set_device_major(member.device.0).expect("ustar has devices");
        header.set_device_minor(member.device.1).expect("ustar has devices");
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.data(member.data)
    }

    pub(crate) fn file(self, name: &str, data: &str) -> Self {
        self.add(&Member { name, data: data.as_bytes(), ..Member::default() })
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.add(&Member { name, kind: b'5', mode: 0o755, ..Member::default() })
    }

    pub(crate) fn symlink(self, name: &str, link: &str) -> Self {
        self.add(&Member { name, kind: b'2', link, ..Member::default() })
    }

    pub(crate) fn hard_link(self, name: &str, link: &str) -> Self {
        self.add(&Member { name, kind: b'1', link, ..Member::default() })
    }

    /// A pax header for the next member.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.add(&Member { name: "PaxHeaders/x", kind: b'x', data: &data, ..Member::default() })
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn data(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    pub(crate) fn unended(self) -> Vec<u8> {
        self.bytes
    }
}

fn copy(field: &mut [u8], value: &[u8]) {
    field.get_mut(..value.len()).expect("fits the header").copy_from_slice(value);
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

/// A store in a directory of its own, with a file beside it that nothing may touch.
pub(crate) struct Host {
    directory: TempDir,
    pub(crate) store: ContentStore,
}

impl Host {
    pub(crate) fn new(limits: Limits) -> Self {
        let directory = tempfile::tempdir().expect("temp dir");
        assert!(rustix_is_root(), "these tests make devices and owners, so they need root");
        fs::create_dir(directory.path().join("outside")).expect("makes");
        fs::write(directory.path().join("outside/canary"), "alive").expect("writes");
        let store = ContentStore::open(&directory.path().join("state"), limits).expect("opens");
        Self { directory, store }
    }

    /// The directory outside the store.
    pub(crate) fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) async fn import(&self, archive: Vec<u8>) -> Result<Image, ImageError> {
        let lease = self.store.lease();
        let options =
            ImportOptions { reference: Some("test:1".parse().expect("a name")), ..ImportOptions::default() };
        let images = self.store.import(&lease, std::io::Cursor::new(archive), options).await?;
        assert_eq!(images.len(), 1);
        Ok(images.into_iter().next().expect("one"))
    }

    /// Unpacks a root file system and returns its directory.
    pub(crate) async fn unpack(&self, archive: Vec<u8>) -> Result<PathBuf, ImageError> {
        let image = self.import(archive).await?;
        let layers = self.store.layer_paths(&image).await?;
        assert_eq!(layers.len(), 1);
        Ok(self.store.layers_root().join(layers.first().expect("one")))
    }

    pub(crate) fn assert_canary_lives(&self) {
        let outside: Vec<_> = fs::read_dir(self.outside())
            .expect("lists")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(outside, ["canary"], "something appeared or vanished outside");
        let canary = self.outside().join("canary");
        assert_eq!(fs::read(&canary).expect("reads"), b"alive");
        let metadata = fs::metadata(&canary).expect("stat");
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&metadata), 1, "a hard link to the canary");
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o7000, 0, "mode of the canary changed");
        let beside: Vec<_> = fs::read_dir(self.path())
            .expect("lists")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(beside.len(), 2, "{beside:?}");
    }

    /// Asserts that no blob, no layer and nothing half-made is there.
    pub(crate) fn assert_empty(&self) {
        for directory in ["state/layers", "state/images/ingest", "state/images/blobs/sha256"] {
            let left: Vec<_> = fs::read_dir(self.path().join(directory)).expect("lists").collect();
            assert!(left.is_empty(), "{directory}: {left:?}");
        }
    }
}

fn rustix_is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").expect("proc")) == 0
}

/// The whole chain of an error, as a user sees it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
