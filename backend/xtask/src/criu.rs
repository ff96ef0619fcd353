//! CRIU for the tests of checkpoints: a newer one than Debian 12's, unpacked and never installed.
//!
//! 3.17, which is in Debian 12, cannot save processes on Linux 6.13 and later (checkpoint-restore/criu,
//! issues 2532 and 2539). That of Debian 13 needs a newer C library, which comes along: a script runs it with
//! its own loader.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{process, say};

/// The release whose package is taken.
const RELEASE: &str = "trixie";

/// Unpacks CRIU and all that it needs, unless it is there already.
pub(crate) fn fetch(repo: &Path) -> Result<()> {
    let done = repo.join("target/criu");
    if done.is_dir() {
        return Ok(());
    }
    say::line("Unpacking CRIU");
    let part = repo.join("target/criu.part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
    }
    fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--mode=root", "--variant=extract", "--include=criu", RELEASE]);
    process::run(mmdebstrap.arg(part.join("root")))?;
    let script = part.join("criu");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(&script)
        .with_context(|| format!("create {}", script.display()))?;
    let root = done.join("root/usr");
    let libraries = root.join("lib/x86_64-linux-gnu");
    let (libraries, program) = (libraries.display(), root.join("sbin/criu"));
    writeln!(file, "#!/bin/sh")?;
    writeln!(
        file,
        "exec '{libraries}/ld-linux-x86-64.so.2' --library-path '{libraries}' '{}' \"$@\"",
        program.display()
    )?;
    fs::rename(&part, &done).with_context(|| format!("rename {}", part.display()))
}
