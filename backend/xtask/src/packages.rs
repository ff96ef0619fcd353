//! Debian packages: installs what is missing, says what, and touches nothing when all is there.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{process, say};

/// What the agent itself needs at run time.
pub(crate) const AGENT: &[&str] = &["iproute2", "nftables"];

/// What the tests need besides: real peers, real images, real browsers, a real database.
pub(crate) const TEST: &[&str] = &[
    "apparmor",
    "busybox-static",
    "chromium",
    "cpio",
    "curl",
    "docker-registry",
    "e2fsprogs",
    "golang-github-containers-common",
    "kmod",
    "libseccomp-dev",
    "mmdebstrap",
    "nginx-light",
    "nodejs",
    "postgresql",
    "procps",
    "python3",
    "qemu-system-x86",
    "skopeo",
    "stress-ng",
    "systemd",
    "util-linux",
    "xz-utils",
    "zstd",
];

/// The peers that benchmarks compare with.
pub(crate) const BENCH: &[&str] =
    &["busybox-static", "crun", "docker-registry", "docker.io", "iptables", "runc", "skopeo"];

/// Installs those of `wanted` that are not installed.
pub(crate) fn ensure(wanted: &[&str]) -> Result<()> {
    let mut missing = missing(wanted, &installed(wanted)?);
    // Node from elsewhere brings npm itself; Debian's does not, and its npm package clashes with others.
    if wanted.contains(&"nodejs") && which("npm").is_none() {
        missing.push("npm");
    }
    if missing.is_empty() {
        return Ok(());
    }
    say::line(&format!("Installing Debian packages: {}", missing.join(" ")));
    if which("apt-get").is_none() {
        bail!("this is no Debian system; install these by hand and try again: {}", missing.join(" "));
    }
    apt(&["update"]).context(
        "the package lists cannot be fetched; is the machine offline? Install the packages named above \
         by hand, or go online and try again",
    )?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments).context("the packages named above cannot be installed")
}

/// Installs what the lock file of a directory with browser tests names; the browser is Debian's.
pub(crate) fn install_node_modules(dir: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(dir);
    process::run(npm.env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1"))
}

/// Whether a program is on the search path, and where.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let _quiet = NoServices::new()?;
    let mut command = Command::new("apt-get");
    command.args(["--quiet", "--quiet"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    process::run(&mut command)
}

/// While it lives, packages that bring a service (a web server, a database) do not start it: Debian's
/// `invoke-rc.d` asks this file and takes 101 for "no". A file that is there already is left alone.
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn new() -> Result<Self> {
        let path = Path::new("/usr/sbin/policy-rc.d");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path);
        match file {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .with_context(|| format!("write {}", path.display()))?;
                Ok(Self(Some(path)))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self(None)),
            Err(error) => Err(error).with_context(|| format!("create {}", path.display())),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.0
            && let Err(error) = std::fs::remove_file(path)
        {
            say::error(&format!("cannot remove {}: {error}; remove it by hand", path.display()));
        }
    }
}

fn installed(wanted: &[&str]) -> Result<BTreeSet<String>> {
    // dpkg-query exits with 1 when one of the packages is unknown, and lists the others all the same.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status} ${Package}\\n"])
        .args(wanted)
        .stderr(Stdio::null())
        .output()
        .context("ask dpkg-query which packages are installed")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect())
}

fn missing<'a>(wanted: &[&'a str], installed: &BTreeSet<String>) -> Vec<&'a str> {
    wanted.iter().copied().filter(|&package| !installed.contains(package)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_installed_is_missing() {
        let there = BTreeSet::from(["iproute2".to_owned()]);
        assert_eq!(missing(&["iproute2", "nftables"], &there), ["nftables"]);
    }

    #[test]
    fn dpkg_knows_itself_and_not_a_package_that_does_not_exist() {
        let there = installed(&["dpkg", "no-such-package-anywhere"]).expect("dpkg-query runs");
        assert_eq!(there, BTreeSet::from(["dpkg".to_owned()]));
    }

    #[test]
    fn every_list_is_sorted_so_that_a_second_mention_is_seen() {
        for list in [AGENT, TEST, BENCH] {
            assert!(list.is_sorted(), "{list:?}");
        }
    }
}
