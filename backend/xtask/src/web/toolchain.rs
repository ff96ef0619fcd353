//! Finds or makes a Rust that can compile for `wasm32-unknown-unknown`.
//!
//! 1. The toolchain in use has the target.
//! 2. An earlier run made a sysroot of our own (see 4): no network is asked.
//! 3. rustup can add the target.
//! 4. Debian's `rustc-web` with `rust-web-src`: the standard library is built once from its source and
//!    kept as a sysroot in the user's cache directory; from then on it behaves like an installed target.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::files;
use crate::{packages, process, say};

/// The target of browsers.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// Leptos erases the types of views, so that the program is smaller and builds faster; relocations are
/// kept, so that it can be cut into chunks.
const FLAGS: &str = "--cfg erase_components -Clink-args=--emit-relocs";

const DEBIAN_PACKAGES: &[&str] = &["cargo-web", "lld-22", "rust-web-src", "rustc-web"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library";

/// How cargo is called for the browser.
#[derive(Debug)]
pub(super) enum Toolchain {
    /// The one that runs this program.
    Present,
    /// Debian's, with a standard library of our own making.
    Debian { sysroot: PathBuf, linker: PathBuf },
}

impl Toolchain {
    /// Finds a toolchain, making one if need be.
    pub(super) fn find(repo: &Path) -> Result<Self> {
        if has_target(repo) {
            return Ok(Self::Present);
        }
        if let Some(found) = Self::debian_made()? {
            return Ok(found);
        }
        say::line(&format!("Adding the Rust target {TARGET}"));
        let added = process::run(Command::new("rustup").args(["target", "add", TARGET]).current_dir(repo));
        if added.is_ok() && has_target(repo) {
            return Ok(Self::Present);
        }
        say::line(&format!("rustup cannot add {TARGET}; making it from Debian's packages instead"));
        packages::ensure(DEBIAN_PACKAGES)
            .with_context(|| format!("no Rust for {TARGET}; try `rustup target add {TARGET}`"))?;
        make_sysroot()?;
        Self::debian_made()?.context("use the sysroot that was just made")
    }

    /// A cargo for the target; the caller adds the rest of the command line.
    pub(super) fn cargo(&self, repo: &Path) -> Command {
        let mut command = match self {
            Self::Present => process::cargo(repo),
            Self::Debian { .. } => debian_cargo(repo),
        };
        // The project's own flags, if any, are for the host.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
            command.env_remove(name);
        }
        let mut flags = OsString::from(FLAGS);
        if let Self::Debian { sysroot, linker } = self {
            flags.push(" --sysroot=");
            flags.push(sysroot);
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", flags);
        command
    }

    fn debian_made() -> Result<Option<Self>> {
        let (Some(sysroot), Some(linker)) = (debian_sysroot()?, debian_linker()) else { return Ok(None) };
        let usable = Path::new(DEBIAN_CARGO).exists() && has_std(&library_dir(&sysroot));
        Ok(usable.then_some(Self::Debian { sysroot, linker }))
    }
}

fn has_target(repo: &Path) -> bool {
    let printed = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(repo)
        .output();
    printed.is_ok_and(|output| {
        output.status.success() && has_std(Path::new(String::from_utf8_lossy(&output.stdout).trim()))
    })
}

fn has_std(library_dir: &Path) -> bool {
    fs::read_dir(library_dir).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

fn library_dir(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib").join(TARGET).join("lib")
}

/// Debian's linkers for wasm carry LLVM's version in their name; the highest is taken.
fn debian_linker() -> Option<PathBuf> {
    (14..60)
        .rev()
        .map(|version| PathBuf::from(format!("/usr/bin/wasm-ld-{version}")))
        .find(|path| path.exists())
}

/// Where the sysroot for Debian's present compiler is, or would be. `None` without that compiler.
fn debian_sysroot() -> Result<Option<PathBuf>> {
    if !Path::new(DEBIAN_RUSTC).exists() || !Path::new(DEBIAN_SOURCE).exists() {
        return Ok(None);
    }
    let version = process::read(Command::new(DEBIAN_RUSTC).arg("-vV"))?;
    let digest = hex::encode(Sha256::digest(&version));
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .context("find a cache directory: neither XDG_CACHE_HOME nor HOME is set")?;
    let name = digest.get(..16).unwrap_or(&digest);
    Ok(Some(cache.join("wharfage/wasm-sysroot").join(name)))
}

/// Debian's cargo, freed of what rustup's left in the environment: that names the other toolchain.
fn debian_cargo(dir: &Path) -> Command {
    let mut command = Command::new(DEBIAN_CARGO);
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    command.env("RUSTC", DEBIAN_RUSTC).current_dir(dir);
    command
}

fn make_sysroot() -> Result<()> {
    let sysroot = debian_sysroot()?.context("find Debian's Rust after installing it")?;
    say::line(&format!("Building Rust's standard library for {TARGET}, once, into {}", sysroot.display()));
    let work = sysroot.with_extension("work");
    files::remove_dir(&work)?;
    let source = work.join("src");
    files::create_dir(&source)?;
    let manifest = "[package]\nname = \"sysroot\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
                    [profile.release]\nopt-level = \"z\"\npanic = \"abort\"\ncodegen-units = 1\n";
    files::write(&work.join("Cargo.toml"), manifest)?;
    files::write(&source.join("lib.rs"), "")?;
    let mut command = debian_cargo(&work);
    command
        .args(["build", "--quiet", "--release", "--target", TARGET])
        .arg("-Zbuild-std=std,panic_abort,test,proc_macro")
        // The one place that asks a stable compiler for an unstable flag; the project's code never does.
        .env("RUSTC_BOOTSTRAP", "1")
        // Fat LTO later wants bitcode in the libraries.
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "-Cembed-bitcode=yes")
        .env("CARGO_TARGET_DIR", work.join("target"));
    process::run(&mut command).context("build the standard library")?;

    // A name of its own until it is whole: an interrupted run leaves nothing that looks finished.
    let made = work.join("sysroot");
    let libraries = library_dir(&made);
    files::create_dir(&libraries)?;
    let built = work.join("target").join(TARGET).join("release/deps");
    for path in files::below(&built)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_library = path.extension().is_some_and(|extension| extension == "rlib");
        if is_library && !name.starts_with("libsysroot") {
            fs::copy(&path, libraries.join(&name)).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    if !has_std(&libraries) {
        bail!("building the standard library left no libstd in {}", built.display());
    }
    files::remove_dir(&sysroot)?;
    files::rename(&made, &sysroot)?;
    files::remove_dir(&work)
}
