//! Where checkpoints lie: `<state>/checkpoints/<id>/`, a record and an archive of CRIU's images and the
//! container's writable layer.
//!
//! A directory has its name only once it is whole; what an interrupted checkpoint left begins with a dot and
//! goes at the next start. Archives are made and read here only, never taken from a client: CRIU believes
//! what is in them, as root. GNU tar does the copying, because it keeps what a writable layer is made of
//! (whiteouts, extended attributes of overlayfs, holes).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use wharf_runtime::checkpoint::Outside;
use wharf_shared::checkpoint::CheckpointView;
use wharf_shared::container::ContainerSpec;
use wharf_shared::id::CheckpointId;

const ARCHIVE: &str = "checkpoint.tar";
const RECORD: &str = "checkpoint.json";
/// CRIU's files, in the archive and in a container's directory.
pub(crate) const IMAGES: &str = "images";
/// A container's writable layer, in the archive and in its directory.
const UPPER: &str = "upper";
const TAR: &str = "/usr/bin/tar";

/// What is known of a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) view: CheckpointView,
    pub(crate) spec: ContainerSpec,
    pub(crate) image_digest: String,
    pub(crate) outside: Vec<Outside>,
    /// Inodes of the pipes that were standard input, output and error.
    pub(crate) pipes: [Option<u64>; 3],
}

/// A checkpoint that is being made; removed again unless it is finished.
#[derive(Debug)]
pub(crate) struct Part {
    dir: PathBuf,
    whole: PathBuf,
}

/// All checkpoints of the host.
#[derive(Debug, Clone)]
pub(crate) struct Archives {
    root: PathBuf,
}

impl Archives {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { root: state_dir.join("checkpoints") }
    }

    fn dir(&self, id: &CheckpointId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// Removes what interrupted checkpoints left.
    pub(crate) fn recover(&self) -> io::Result<()> {
        private(&self.root)?;
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// Begins a checkpoint; CRIU's files go into [`Part::images`].
    pub(crate) fn begin(&self, id: &CheckpointId) -> io::Result<Part> {
        let part = Part { dir: self.root.join(format!(".{}", id.as_str())), whole: self.dir(id) };
        private(&part.dir)?;
        // The restored processes read their own images, as the container's users; nobody else comes so far.
        fs::create_dir(part.images())?;
        fs::set_permissions(part.images(), fs::Permissions::from_mode(0o755))?;
        Ok(part)
    }

    pub(crate) fn read(&self, id: &CheckpointId) -> io::Result<Option<Record>> {
        match fs::read(self.dir(id).join(RECORD)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All of them, newest first.
    pub(crate) fn list(&self) -> io::Result<Vec<Record>> {
        let entries = match fs::read_dir(&self.root) {
            // Nothing was kept yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut ids: Vec<CheckpointId> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        ids.sort_by(|one, other| other.cmp(one));
        let records = ids.iter().map(|id| self.read(id)).collect::<io::Result<Vec<_>>>()?;
        Ok(records.into_iter().flatten().collect())
    }

    /// Removes one; that it is not there is fine.
    pub(crate) fn remove(&self, id: &CheckpointId) -> io::Result<()> {
        let gone = self.root.join(format!(".{}", id.as_str()));
        match fs::rename(self.dir(id), &gone) {
            Ok(()) => fs::remove_dir_all(gone),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Unpacks images and writable layer into the directory of a container that has never run.
    pub(crate) fn unpack(&self, id: &CheckpointId, container: &Path) -> io::Result<()> {
        for part in [IMAGES, UPPER] {
            // What an interrupted start left is whole or not, who knows.
            match fs::remove_dir_all(container.join(part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let archive = self.dir(id).join(ARCHIVE);
        tar(&[
            "--extract".as_ref(),
            "--same-owner".as_ref(),
            "--same-permissions".as_ref(),
            "--file".as_ref(),
            archive.as_os_str(),
            "--directory".as_ref(),
            container.as_os_str(),
        ])
    }
}

impl Part {
    /// Where CRIU's files go.
    pub(crate) fn images(&self) -> PathBuf {
        self.dir.join(IMAGES)
    }

    /// Packs images and writable layer; returns the size.
    pub(crate) fn pack(&self, container: &Path) -> io::Result<u64> {
        let archive = self.dir.join(ARCHIVE);
        tar(&[
            "--create".as_ref(),
            "--sparse".as_ref(),
            "--file".as_ref(),
            archive.as_os_str(),
            "--directory".as_ref(),
            self.dir.as_os_str(),
            IMAGES.as_ref(),
            "--directory".as_ref(),
            container.as_os_str(),
            UPPER.as_ref(),
        ])?;
        fs::remove_dir_all(self.images())?;
        Ok(fs::metadata(archive)?.len())
    }

    /// Gives it its name, whole and durable.
    pub(crate) fn finish(self, record: &Record) -> io::Result<()> {
        fs::write(self.dir.join(RECORD), serde_json::to_vec_pretty(record)?)?;
        for file in [ARCHIVE, RECORD] {
            File::open(self.dir.join(file))?.sync_all()?;
        }
        fs::rename(&self.dir, &self.whole)?;
        let above = self.whole.parent().map(File::open).transpose()?;
        above.map_or(Ok(()), |above| above.sync_all())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already when it was finished; else the next start of the agent tries again.
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn tar(arguments: &[&OsStr]) -> io::Result<()> {
    let mut command = Command::new(TAR);
    command.args(["--xattrs", "--xattrs-include=*", "--numeric-owner"]).args(arguments);
    let output = command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("tar: {}", said.lines().last().unwrap_or("failed without a word"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &CheckpointId) -> Record {
        Record {
            view: CheckpointView {
                id: id.clone(),
                tenant: "tnt_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b".parse().expect("id"),
                container: "ab".repeat(32).parse().expect("id"),
                container_name: "web".into(),
                image: "busybox".into(),
                created_at: wharf_shared::time::Timestamp::from_date(2026, 1, 1).expect("date"),
                size_bytes: 0,
                kernel: "6.1".into(),
            },
            spec: ContainerSpec::default(),
            image_digest: "sha256:00".into(),
            outside: Vec::new(),
            pipes: [None, Some(1), Some(2)],
        }
    }

    #[test]
    fn a_checkpoint_is_there_only_when_it_is_whole_and_comes_back_as_it_was() {
        let dir = tempfile::tempdir().expect("directory");
        let archives = Archives::new(dir.path());
        archives.recover().expect("root");
        let id: CheckpointId = crate::ids::new("chk_").expect("id");
        let part = archives.begin(&id).expect("begin");
        fs::write(part.images().join("core-1.img"), "core").expect("image");
        let container = dir.path().join("c");
        fs::create_dir_all(container.join("upper/etc")).expect("upper");
        fs::write(container.join("upper/etc/x"), "x").expect("file");
        part.pack(&container).expect("pack");
        assert!(archives.read(&id).expect("read").is_none(), "it has no name yet");
        part.finish(&record(&id)).expect("finish");
        assert_eq!(archives.list().expect("list").len(), 1);
        let other = dir.path().join("other");
        fs::create_dir_all(other.join("upper/stale")).expect("directory");
        archives.unpack(&id, &other).expect("unpack");
        assert_eq!(fs::read_to_string(other.join("images/core-1.img")).expect("image"), "core");
        assert_eq!(fs::read_to_string(other.join("upper/etc/x")).expect("file"), "x");
        assert!(!other.join("upper/stale").exists());
        archives.remove(&id).expect("remove");
        archives.remove(&id).expect("again");
        assert!(archives.list().expect("list").is_empty());
    }

    #[test]
    fn a_checkpoint_that_is_given_up_leaves_nothing_and_neither_does_a_killed_agent() {
        let dir = tempfile::tempdir().expect("directory");
        let archives = Archives::new(dir.path());
        archives.recover().expect("root");
        drop(archives.begin(&crate::ids::new("chk_").expect("id")).expect("begin"));
        // As a killed agent leaves it.
        let id: CheckpointId = crate::ids::new("chk_").expect("id");
        private(&dir.path().join(format!("checkpoints/.{}/images", id.as_str()))).expect("directory");
        archives.recover().expect("recover");
        assert_eq!(fs::read_dir(dir.path().join("checkpoints")).expect("directory").count(), 0);
    }
}
