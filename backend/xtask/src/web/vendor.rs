//! Fetches the terminal's JavaScript into `frontend/vendor`, checked against pinned hashes.
//!
//! Published npm archives already hold ES modules, so that neither npm nor a bundler is needed: an
//! archive is fetched by curl, its SHA-512 compared, and the few files that are wanted taken out.
//! `NPM_CONFIG_REGISTRY` names another registry, as it does for npm.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha512};

use super::files;
use crate::say;

struct Archive {
    /// Path below the registry.
    path: &'static str,
    sha512: &'static str,
    /// What is taken out, and under which name.
    files: &'static [(&'static str, &'static str)],
}

const ARCHIVES: &[Archive] = &[
    Archive {
        path: "@xterm/xterm/-/xterm-6.0.0.tgz",
        sha512: "4d0c037501adc300edfb67202832e7d0845a4b162ed6d4948e029aad20e450cd193624915c5a63c44b2f73f6\
                 6073992ae68989f95d1af3f908336583dec30e62",
        files: &[
            ("package/lib/xterm.mjs", "xterm.mjs"),
            ("package/css/xterm.css", "xterm.css"),
            ("package/LICENSE", "xterm.LICENSE"),
        ],
    },
    Archive {
        path: "@xterm/addon-fit/-/addon-fit-0.11.0.tgz",
        sha512: "8d87204fac6d558867860c61dd08180e79cd3184dc7fc1256f1c45cd7d08668faf69b42a48f0230b7735c09a\
                 ca079135f55c107a2f3d40289964ff3a0c23c5ee",
        files: &[("package/lib/addon-fit.mjs", "addon-fit.mjs"), ("package/LICENSE", "addon-fit.LICENSE")],
    },
    Archive {
        path: "@xterm/addon-webgl/-/addon-webgl-0.19.0.tgz",
        sha512: "6f77cc3acc8b56e09e3495b1a25002114103d2f9bba82d1ccb8c11bdfde85114b30d361542218f8539e1599c\
                 081ddbc2e3c63ea0b86f6179d8e170d73e8268e8",
        files: &[
            ("package/lib/addon-webgl.mjs", "addon-webgl.mjs"),
            ("package/LICENSE", "addon-webgl.LICENSE"),
        ],
    },
];

/// Fetches what is missing.
pub(super) fn ensure(frontend: &Path) -> Result<()> {
    let vendor = frontend.join("vendor");
    let pins: Vec<&str> = ARCHIVES.iter().map(|archive| archive.sha512).collect();
    let pins = pins.join("\n");
    let marker = vendor.join("pins");
    if files::is_fresh(&marker, &pins) {
        return Ok(());
    }
    say::line("Fetching the terminal's JavaScript");
    let fresh = frontend.join("vendor.new");
    files::remove_dir(&fresh)?;
    files::create_dir(&fresh)?;
    let registry =
        std::env::var("NPM_CONFIG_REGISTRY").unwrap_or_else(|_| "https://registry.npmjs.org".to_owned());
    for archive in ARCHIVES {
        let url = format!("{}/{}", registry.trim_end_matches('/'), archive.path);
        unpack(archive, &fetch(&url)?, &fresh).with_context(|| format!("take files out of {url}"))?;
    }
    files::write(&fresh.join("pins"), &pins)?;
    files::remove_dir(&vendor)?;
    files::rename(&fresh, &vendor)
}

fn fetch(url: &str) -> Result<Vec<u8>> {
    let output = Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--location", "--retry", "3", "--max-time", "120", url])
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("start curl for {url}"))?;
    if !output.status.success() {
        bail!("{url} cannot be fetched; is the machine offline?");
    }
    Ok(output.stdout)
}

fn unpack(archive: &Archive, bytes: &[u8], into: &Path) -> Result<()> {
    let digest = hex::encode(Sha512::digest(bytes));
    if digest != archive.sha512 {
        bail!("its SHA-512 is {digest}, not the pinned {}", archive.sha512);
    }
    let mut missing: Vec<_> = archive.files.to_vec();
    let mut entries = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    for entry in entries.entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        let path = entry.path().context("read the archive")?.into_owned();
        // Only files named above are written, so that no path of the archive is ever trusted.
        let Some(at) = missing.iter().position(|(from, _)| Path::new(from) == path) else { continue };
        let (_, name) = missing.swap_remove(at);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).with_context(|| format!("read {}", path.display()))?;
        files::write(&into.join(name), &content)?;
    }
    match missing.first() {
        Some((from, _)) => bail!("the archive has no {from}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_archive_is_pinned_by_a_whole_sha512() {
        for archive in ARCHIVES {
            assert!(hex::decode(archive.sha512).is_ok_and(|digest| digest.len() == 64), "{}", archive.path);
        }
    }

    #[test]
    fn an_archive_with_another_hash_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let archive = ARCHIVES.first().expect("there are archives");
        let error = unpack(archive, b"not it", dir.path()).expect_err("the hash differs");
        assert!(error.to_string().contains("SHA-512"), "{error}");
    }
}
