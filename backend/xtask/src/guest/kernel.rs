//! Debian's kernel for virtual machines: downloaded once, unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// The package that depends on the newest kernel of this release.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// The compressed image that a machine boots.
    pub(super) image: PathBuf,
    /// Its modules, the directory that is named by its version.
    pub(super) modules: PathBuf,
    /// Its version, as in `uname -r`.
    pub(super) version: String,
}

/// Downloads and unpacks the kernel, unless it is there already.
pub(crate) fn fetch(repo: &Path) -> Result<()> {
    let done = directory(repo);
    if done.is_dir() {
        return Ok(());
    }
    let work = done.with_extension("part");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    if download(&work).is_err() {
        // The lists are missing (a fresh container), or older than the archive.
        process::run(Command::new("apt-get").args(["--quiet", "--quiet", "update"]))?;
        download(&work)?;
    }
    process::run(Command::new("sh").current_dir(&work).args(["-ec", "dpkg-deb -x *.deb . && rm *.deb"]))?;
    let kernel = find(&work)?;
    // Later releases compress modules; busybox wants them plain.
    let decompress =
        "find . -name '*.ko.xz' -exec unxz {} + ; find . -name '*.ko.zst' -exec unzstd -q --rm {} +";
    process::run(Command::new("sh").current_dir(&kernel.modules).args(["-ec", decompress]))?;
    process::run(Command::new("busybox").args(["depmod", "-b"]).arg(&work).arg(&kernel.version))?;
    fs::rename(&work, &done).with_context(|| format!("rename {}", work.display()))
}

/// Returns the kernel that was fetched.
pub(super) fn open(repo: &Path) -> Result<Kernel> {
    find(&directory(repo)).context("find the guest's kernel, which `cargo xtask test` fetches first")
}

fn directory(repo: &Path) -> PathBuf {
    repo.join("target/guest/kernel")
}

fn download(into: &Path) -> Result<()> {
    let newest = newest(&process::read(Command::new("apt-cache").args(["depends", PACKAGE]))?)?;
    // apt's own user may not write here.
    let mut apt = Command::new("apt-get");
    apt.args(["--quiet", "--quiet", "-o", "APT::Sandbox::User=root", "download", &newest]);
    process::run(apt.current_dir(into))
}

/// Reads which kernel the package stands for out of `apt-cache depends`.
fn newest(depends: &str) -> Result<String> {
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let kernel = names.find(|name| name.starts_with("linux-image-"));
    kernel.map(str::to_owned).with_context(|| format!("find the kernel that {PACKAGE} depends on"))
}

fn find(unpacked: &Path) -> Result<Kernel> {
    // Since the merge of /usr a package may hold its modules there.
    for above in ["lib/modules", "usr/lib/modules"] {
        let Ok(mut entries) = fs::read_dir(unpacked.join(above)) else { continue };
        if let Some(entry) = entries.next() {
            let modules = entry.with_context(|| format!("read {above}"))?.path();
            let version =
                modules.file_name().and_then(|name| name.to_str()).context("read the version")?.to_owned();
            let image = unpacked.join(format!("boot/vmlinuz-{version}"));
            return Ok(Kernel { image, modules, version });
        }
    }
    bail!("no kernel is in {}", unpacked.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_the_one_that_the_package_depends_on() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(newest(text).expect("kernel"), "linux-image-6.1.0-56-cloud-amd64");
        assert!(newest("linux-image-cloud-amd64\n").is_err());
    }

    #[test]
    fn a_kernel_is_found_by_its_modules() {
        let dir = tempfile::tempdir().expect("directory");
        assert!(find(dir.path()).is_err());
        fs::create_dir_all(dir.path().join("usr/lib/modules/6.12.1-cloud-amd64")).expect("modules");
        let kernel = find(dir.path()).expect("kernel");
        assert_eq!(kernel.version, "6.12.1-cloud-amd64");
        assert!(kernel.image.ends_with("boot/vmlinuz-6.12.1-cloud-amd64"));
    }
}
