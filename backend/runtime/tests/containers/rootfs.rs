//! Root file systems that a tenant made to get out, and mounts as described.

use std::fs;
use std::os::unix::fs::symlink;

use wharf_runtime::Stage;
use wharf_runtime::spec::{MountSource, MountSpec};

use crate::Case;
use crate::sandbox::{HOST_BASE, Sandbox, chain};

pub const CASES: &[Case] = &[
    ("an_image_with_links_in_place_of_kernel_directories_fails", kernel_links),
    ("a_mount_target_that_links_out_of_the_root_stays_inside", target_links),
    ("a_mount_onto_a_kernel_file_system_is_refused", onto_kernel),
    ("a_working_directory_by_magic_link_is_refused", magic_cwd),
    ("a_missing_working_directory_is_made", missing_cwd),
    ("a_read_only_root_is_read_only_and_still_has_its_mounts", read_only),
    ("binds_are_shifted_and_read_only_where_asked", binds),
    ("a_memory_mount_has_its_size_and_mode", tmpfs),
    ("the_image_s_own_null_device_is_not_used_for_masks", evil_null),
    ("an_empty_image_is_enough_for_a_bound_program", minimal),
];

/// Attacks: B1.
fn kernel_links() {
    for path in ["proc", "sys", "dev"] {
        let sandbox = Sandbox::new("links");
        symlink("/etc", sandbox.layer().join(path)).expect("link");
        let error = sandbox.start().expect_err("must fail");
        assert_eq!(
            (error.stage(), error.errno()),
            (Some(Stage::Mount), Some(40)),
            "{path}: {}",
            chain(&error)
        );
    }
}

fn bind(source: &std::path::Path, target: &str) -> MountSpec {
    let source = MountSource::Bind { path: source.to_owned(), idmap: true };
    MountSpec { source, target: target.into(), read_only: false, no_exec: false, shallow: false }
}

/// Attacks: B1.
fn target_links() {
    let mut sandbox = Sandbox::new("target");
    let volume = sandbox.dir.join("volume");
    let outside = sandbox.dir.join("outside");
    for dir in [&volume, &outside] {
        fs::create_dir(dir).expect("directory");
    }
    fs::write(volume.join("file"), "volume\n").expect("file");
    symlink(&outside, sandbox.layer().join("abs")).expect("link");
    symlink("../../../../../..", sandbox.layer().join("up")).expect("link");
    sandbox.spec.mounts = vec![bind(&volume, "/up/inside")];
    sandbox.script("cat /inside/file");
    assert_eq!(sandbox.run().success(), "volume\n", "parent directories end at the root");
    sandbox.spec.mounts = vec![bind(&volume, "/abs/x")];
    let error = sandbox.start().expect_err("the link dangles inside");
    assert_eq!(error.stage(), Some(Stage::Mount), "{}", chain(&error));
    assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0, "nothing was made outside");
}

/// Attacks: B5.
fn onto_kernel() {
    let mut sandbox = Sandbox::new("kernel");
    let volume = sandbox.dir.join("volume");
    fs::create_dir(&volume).expect("directory");
    sandbox.spec.mounts = vec![bind(&volume, "/proc/self")];
    assert_eq!(
        sandbox.start().expect_err("named openly").stage(),
        None,
        "refused by the description's check"
    );
    symlink("/proc", sandbox.layer().join("alias")).expect("link");
    sandbox.spec.mounts = vec![bind(&volume, "/alias/sys")];
    let error = sandbox.start().expect_err("behind a link");
    assert_eq!((error.stage(), error.errno()), (Some(Stage::Mount), Some(1)), "{}", chain(&error));
}

/// Attacks: A4.
fn magic_cwd() {
    let mut sandbox = Sandbox::new("cwd");
    for path in ["/proc/self/fd/7", "/proc/self/cwd", "/proc/1/root", "/a/../.."] {
        sandbox.spec.process.cwd = path.into();
        let error = sandbox.start().expect_err(path);
        assert_eq!(error.stage(), Some(Stage::EnterDirectory), "{path}: {}", chain(&error));
    }
    symlink("/proc/self/fd/8", sandbox.layer().join("work")).expect("link");
    sandbox.spec.process.cwd = "/work".into();
    assert_eq!(sandbox.start().expect_err("link").stage(), Some(Stage::EnterDirectory));
}

fn missing_cwd() {
    let mut sandbox = Sandbox::new("new-cwd");
    sandbox.spec.process.cwd = "/srv/app".into();
    sandbox.script("pwd");
    assert_eq!(sandbox.run().success(), "/srv/app\n");
}

fn read_only() {
    let mut sandbox = Sandbox::new("read-only");
    sandbox.spec.rootfs.read_only = true;
    sandbox.spec.mounts = vec![MountSpec {
        source: MountSource::Tmpfs { size_bytes: 4096, mode: 0o1777 },
        target: "/run/made".into(),
        read_only: false,
        no_exec: false,
        shallow: false,
    }];
    sandbox.script("echo x >/run/made/file && cat /run/made/file; echo x >/file || echo refused");
    assert_eq!(sandbox.run().success(), "x\nrefused\n");
}

fn binds() {
    let mut sandbox = Sandbox::new("binds");
    let volume = sandbox.dir.join("volume");
    fs::create_dir(&volume).expect("directory");
    fs::write(sandbox.dir.join("hosts"), "127.0.0.1 localhost\n").expect("file");
    let mut read_only = bind(&volume, "/ro");
    read_only.read_only = true;
    sandbox.spec.mounts =
        vec![bind(&volume, "/data/deep"), read_only, bind(&sandbox.dir.join("hosts"), "/etc/hosts")];
    sandbox.script("id -u; echo x >/data/deep/made; stat -c %u /data/deep/made /etc/hosts; cat /etc/hosts; echo y >/ro/other || echo refused");
    assert_eq!(sandbox.run().success(), "0\n0\n0\n127.0.0.1 localhost\nrefused\n");
    let made = fs::metadata(volume.join("made")).expect("made");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 0, "on disk it has the container's id");
}

/// Attacks: E5.
fn tmpfs() {
    let mut sandbox = Sandbox::new("tmpfs");
    sandbox.spec.mounts = vec![MountSpec {
        source: MountSource::Tmpfs { size_bytes: 65_536, mode: 0o700 },
        target: "/scratch".into(),
        read_only: false,
        no_exec: false,
        shallow: false,
    }];
    sandbox.script("stat -c %a /scratch; df -k /scratch /dev/shm | awk 'NR>1{print $2}'; dd if=/dev/zero of=/scratch/f bs=4k count=20 2>/dev/null || echo full");
    assert_eq!(sandbox.run().success(), "700\n64\n1024\nfull\n");
}

/// Attacks: B2.
fn evil_null() {
    let mut sandbox = Sandbox::new("null");
    fs::create_dir(sandbox.layer().join("dev")).expect("directory");
    symlink("/proc/sys/kernel/core_pattern", sandbox.layer().join("dev/null")).expect("link");
    sandbox.script("wc -c </proc/keys; stat -c %t:%T /dev/null; stat -c %F /proc/keys");
    assert_eq!(sandbox.run().success(), "0\n1:3\ncharacter special file\n");
    assert!(sandbox.spec.id_map.is_some_and(|map| map.host_base == HOST_BASE));
}

fn minimal() {
    let mut sandbox = Sandbox::new("minimal");
    fs::create_dir(sandbox.spec.rootfs.layer_root.join("empty")).expect("directory");
    sandbox.spec.rootfs.layers = vec!["empty".into()];
    sandbox.spec.mounts = vec![bind(std::path::Path::new("/bin/busybox"), "/busybox")];
    sandbox.spec.process.args = ["/busybox", "echo", "hello"].map(Into::into).into();
    assert_eq!(sandbox.run().success(), "hello\n");
}
