//! The guest's file systems: an archive with what finds the disk, a disk with everything else, and an empty one
//! that keeps what the guest writes from boot to boot.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::kernel::Kernel;
use super::machine::{Built, SUITES};
use crate::{packages, process};

/// Modules between the archive and the disk.
const DISK_MODULES: &[&str] = &["virtio_pci", "virtio_blk", "ext4"];

/// Programs of this host that the suites call and whose busybox namesakes cannot do the same.
const PROGRAMS: &[&str] =
    &["apparmor_parser", "docker-registry", "getent", "gzip", "ip", "nft", "nsenter", "skopeo", "tar"];

/// Size of each disk, which is sparse.
const DISK_BYTES: u64 = 2 << 30;

/// `ldd` without the shell that Debian's is written for.
const LDD: &str = "#!/bin/busybox sh\nLD_TRACE_LOADED_OBJECTS=1 exec \"$1\"\n";

/// Makes `initrd`, `disk` and the empty `kept` in a directory.
pub(super) fn make(into: &Path, kernel: &Kernel, built: &Built, filter: Option<&str>) -> Result<()> {
    let early = fresh(into, "early")?;
    let names = fs::read_to_string(kernel.modules.join("modules.dep")).context("read modules.dep")?;
    let builtin =
        fs::read_to_string(kernel.modules.join("modules.builtin")).context("read modules.builtin")?;
    let modules = Path::new("lib/modules").join(&kernel.version);
    for file in needed(DISK_MODULES, &names, &builtin)?.iter().chain(&["modules.dep"]) {
        copy(&kernel.modules.join(file), &early.join(&modules).join(file))?;
    }
    skeleton(&early, &["dev", "root"])?;
    script(&early.join("init"), &include_str!("early.sh").replace("@MODULES@", &DISK_MODULES.join(" ")))?;
    let archive = "cd early && find . | cpio --quiet -o -H newc >../initrd";
    process::run(Command::new("sh").current_dir(into).args(["-ec", archive]))?;

    let root = fresh(into, "root")?;
    skeleton(
        &root,
        &[
            "dev",
            "proc",
            "sys",
            "tmp",
            "var/tmp",
            "root",
            "etc",
            "suites",
            "arguments",
            "kept",
            "lib/modules",
        ],
    )?;
    for program in PROGRAMS {
        let found = packages::which(program).with_context(|| format!("find {program}"))?;
        copy(&found, &root.join("bin").join(program))?;
        libraries(&found, &root)?;
    }
    for suite in &built.suites {
        copy(suite, &root.join("suites").join(suite_name(suite)))?;
        libraries(suite, &root)?;
    }
    for (_, suite, arguments) in SUITES {
        fs::write(root.join("arguments").join(suite), arguments).context("write a suite's arguments")?;
    }
    for program in &built.programs {
        copy(program, &root.join("programs").join(program.file_name().unwrap_or_default()))?;
        libraries(program, &root)?;
    }
    process::run(Command::new("cp").arg("-a").arg(&kernel.modules).arg(root.join("lib/modules")))?;
    script(&root.join("bin/ldd"), LDD)?;
    script(&root.join("init"), &include_str!("init.sh").replace("@FILTER@", &quoted(filter)))?;
    let disk = fs::File::create(into.join("disk")).context("create the guest's disk")?;
    disk.set_len(DISK_BYTES).context("size the guest's disk")?;
    let mut mkfs = Command::new("mkfs.ext4");
    // No lazy work left for the guest, and no journal of what is thrown away.
    mkfs.args(["-q", "-O", "^has_journal", "-E", "lazy_itable_init=0", "-d", "root", "disk"]);
    process::run(mkfs.current_dir(into))?;
    let kept = fs::File::create(into.join("kept")).context("create the guest's second disk")?;
    kept.set_len(DISK_BYTES).context("size the guest's second disk")?;
    // This one has a journal: power is cut while it is written to.
    process::run(Command::new("mkfs.ext4").args(["-q", "kept"]).current_dir(into))
}

/// The suite's name, without the hash that cargo adds: `containers-8b375f74e0cd482e`.
pub(super) fn suite_name(suite: &Path) -> String {
    let name = suite.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-').map_or(&*name, |(name, _)| name).to_owned()
}

/// Returns the files of these modules and of all that they need, out of `modules.dep`.
fn needed<'a>(modules: &[&str], dependencies: &'a str, builtin: &str) -> Result<Vec<&'a str>> {
    let is = |module: &str, file: &str| {
        Path::new(file).file_stem().is_some_and(|stem| stem.to_string_lossy().replace('-', "_") == module)
    };
    let mut files = Vec::new();
    for module in modules {
        let line =
            dependencies.lines().filter_map(|line| line.split_once(':')).find(|(file, _)| is(module, file));
        match line {
            Some((file, others)) => files.extend(std::iter::once(file).chain(others.split_whitespace())),
            None if builtin.lines().any(|file| is(module, file)) => {}
            None => bail!("the guest's kernel has no module {module}"),
        }
    }
    Ok(files)
}

/// One word of a shell, or nothing.
fn quoted(filter: Option<&str>) -> String {
    filter.map(|filter| format!("'{}'", filter.replace('\'', r"'\''"))).unwrap_or_default()
}

/// Copies the libraries of a program to the same paths below a root.
fn libraries(program: &Path, root: &Path) -> Result<()> {
    let listed = process::read(Command::new("ldd").arg(program))?;
    for library in listed.split_whitespace().filter_map(|word| word.strip_prefix('/')) {
        copy(&Path::new("/").join(library), &root.join(library))?;
    }
    Ok(())
}

/// Makes an empty directory.
fn fresh(into: &Path, name: &str) -> Result<PathBuf> {
    let dir = into.join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}

/// Makes the directories of a root with merged `/usr`, and busybox in it.
fn skeleton(root: &Path, directories: &[&str]) -> Result<()> {
    for part in ["bin", "sbin", "lib", "lib64"] {
        let dir = root.join("usr").join(part);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        // The archive already has modules below lib.
        if !root.join(part).exists() {
            symlink(Path::new("usr").join(part), root.join(part)).with_context(|| format!("link {part}"))?;
        }
    }
    for part in directories {
        fs::create_dir_all(root.join(part)).with_context(|| format!("create {part} in the guest's root"))?;
    }
    let busybox = packages::which("busybox").context("find busybox")?;
    copy(&busybox, &root.join("bin/busybox"))
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", path.display()))
}

/// Copies a file with its mode, and makes the directories above.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(above) = to.parent() {
        fs::create_dir_all(above).with_context(|| format!("create {}", above.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "kernel/a/virtio_blk.ko: kernel/b/virtio.ko kernel/b/virtio_ring.ko\n\
        kernel/a/nft-x.ko:\n";

    #[test]
    fn a_module_comes_with_what_it_needs_and_a_built_in_one_needs_nothing() {
        let files = needed(&["virtio_blk", "ext4"], DEPENDENCIES, "kernel/fs/ext4/ext4.ko\n").expect("files");
        assert_eq!(files, ["kernel/a/virtio_blk.ko", "kernel/b/virtio.ko", "kernel/b/virtio_ring.ko"]);
        assert_eq!(needed(&["nft_x"], DEPENDENCIES, "").expect("files"), ["kernel/a/nft-x.ko"]);
    }

    #[test]
    fn a_module_that_the_kernel_does_not_have_is_an_error() {
        assert!(needed(&["virtio"], "", "kernel/virtio_ring.ko\n").is_err());
    }

    #[test]
    fn a_filter_is_one_word_whatever_is_in_it() {
        assert_eq!(quoted(None), "");
        assert_eq!(quoted(Some("it's $HOME")), r"'it'\''s $HOME'");
    }

    #[test]
    fn a_suite_is_called_as_in_its_package() {
        assert_eq!(suite_name(Path::new("/target/debug/deps/two-words-8b375f74")), "two-words");
    }
}
