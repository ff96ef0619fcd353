//! The Debian image: `cargo xtask test` makes its root with mmdebstrap, this makes an image of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::registry::Image;

/// Packing takes seconds, so tests of one process do it once.
static MAKING: Mutex<()> = Mutex::new(());

impl Image {
    /// The image of the Debian root; it has `stress-ng`, `nginx` and `perl`.
    pub fn debian() -> Result<Self> {
        let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/e2e"));
        let root = dir.join("debian.tar");
        ensure!(root.is_file(), "there is no {}: `cargo xtask test` makes it first", root.display());
        let made = dir.join("debian-image");
        if !is_newer(&made, &root)? {
            let work = tempfile::tempdir_in(&dir).context("make a directory for the image")?;
            let config = json!({
                "Cmd": ["/bin/bash"],
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "WorkingDir": "/",
                "ExposedPorts": { "80/tcp": {} },
            });
            let image = Self::from_layer(work.path(), &root, &config)?;
            if made.exists() {
                fs::remove_dir_all(&made).with_context(|| format!("remove {}", made.display()))?;
            }
            fs::rename(image.layout(), &made).with_context(|| format!("make {}", made.display()))?;
        }
        Ok(Self::at(made))
    }
}

fn is_newer(made: &Path, source: &Path) -> Result<bool> {
    if !made.exists() {
        return Ok(false);
    }
    let changed = |path: &Path| {
        fs::metadata(path)
            .and_then(|meta| meta.modified())
            .with_context(|| format!("look at {}", path.display()))
    };
    Ok(changed(made)? > changed(source)?)
}
