//! The Debian root that end-to-end tests run as a container: made once, while there still is a network.
//!
//! It comes from Debian's own archive by mmdebstrap, with real programs for real work inside. The
//! tests make an image of it and push that to a registry of their own (`e2e/src/debian.rs`).

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{process, say};

/// What runs in it besides a shell: a load of known size, a web server, an init system.
const INCLUDE: &str = "stress-ng,nginx-light,procps,systemd-sysv";
/// Nobody reads them in a test; together they are a third of the files.
const UNWANTED: [&str; 3] = ["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*"];

/// Makes the root's tarball, unless it is there already.
pub(crate) fn fetch(repo: &Path) -> Result<()> {
    let dir = repo.join("target/e2e");
    let (done, includes) = (dir.join("debian.tar"), dir.join("debian.includes"));
    if done.is_file() && fs::read_to_string(&includes).is_ok_and(|text| text == INCLUDE) {
        return Ok(());
    }
    say::line(&format!("Making a Debian root with {INCLUDE}"));
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    // Only a whole one has the name that is looked for.
    let part = dir.join("debian.part.tar");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--mode=root", "--variant=essential", "--include", INCLUDE]);
    mmdebstrap.arg("--dpkgopt=force-unsafe-io");
    for path in UNWANTED {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    process::run(mmdebstrap.arg("bookworm").arg(&part))?;
    fs::rename(&part, &done).with_context(|| format!("rename {}", part.display()))?;
    fs::write(&includes, INCLUDE).with_context(|| format!("write {}", includes.display()))
}
