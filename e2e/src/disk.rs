//! A small disk: an ext4 file system in a file, mounted for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::registry::run;

/// The disk. It is unmounted by [`Disk::remove`], at the latest when it is dropped.
#[derive(Debug)]
pub struct Disk {
    mounted: bool,
    /// Where it is mounted.
    pub path: PathBuf,
}

impl Disk {
    /// Makes a disk of so many MiB below `dir`, and mounts it there.
    pub(crate) fn new(dir: &Path, mebibytes: u32) -> Result<Self> {
        let (image, path) = (dir.join("disk.img"), dir.join("disk"));
        fs::create_dir_all(&path).context("make the mount point")?;
        // No block is kept for root: the agent shall meet the end of the disk as anybody does.
        let mut make = Command::new("mkfs.ext4");
        run(make.args(["-q", "-m", "0"]).arg(&image).arg(format!("{mebibytes}M")))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path))?;
        Ok(Self { mounted: true, path })
    }

    /// Fills it to the last block.
    pub fn fill(&self) -> Result<()> {
        // Ends with "no space left on device", as it shall; small blocks at the end take the rest.
        let script = "dd if=/dev/zero of=\"$0\" bs=1M 2>/dev/null; dd if=/dev/zero of=\"$0.end\" bs=1k 2>/dev/null; sync -f \"$0\"";
        run(Command::new("sh").arg("-c").arg(script).arg(self.ballast()))?;
        Ok(())
    }

    /// Makes room again.
    pub fn free(&self) -> Result<()> {
        for file in [self.ballast(), self.ballast().with_extension("end")] {
            fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        }
        Ok(())
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Unmounts it.
    pub(crate) fn remove(&mut self) -> Result<()> {
        run(Command::new("umount").arg(&self.path))?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // A lazy one, because a test that broke may have left a user of it.
            drop(run(Command::new("umount").arg("--lazy").arg(&self.path)));
        }
    }
}
