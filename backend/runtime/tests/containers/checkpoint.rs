//! Processes into files and back, by the real CRIU.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use wharf_runtime::checkpoint::{Dump, DumpError, dump, resume};
use wharf_runtime::launch::Stdio;
use wharf_runtime::spec::{MountSource, MountSpec, RestoreSpec};

use crate::Case;
use crate::sandbox::{Sandbox, chain, pipe, process, run_exec, wait, wait_until};

pub const CASES: &[Case] = &[
    ("a_restored_container_goes_on_where_it_was", goes_on),
    ("a_checkpoint_that_cannot_be_made_leaves_the_container_running", refused),
];

/// CRIU, as `cargo xtask test` fetches it; `None` in the guest, which has none.
fn criu() -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/criu/criu"));
    if path.is_file() {
        return Some(path.to_owned());
    }
    assert!(std::env::var_os("WHARF_E2E_STRICT").is_none(), "{} is missing", path.display());
    println!("not here: {} is missing", path.display());
    None
}

/// A counter in memory, a file in the root, one in a tmpfs and one in a volume.
fn goes_on() {
    let Some(criu) = criu() else { return };
    let mut sandbox = Sandbox::new("checkpoint");
    let volume = sandbox.dir.join("volume");
    fs::create_dir(&volume).expect("directory");
    let mount = |source, target: &str| MountSpec {
        source,
        target: target.into(),
        read_only: false,
        no_exec: false,
        shallow: false,
    };
    sandbox.spec.mounts = vec![
        mount(MountSource::Bind { path: volume.clone(), idmap: true }, "/volume"),
        mount(MountSource::Tmpfs { size_bytes: 1 << 20, mode: 0o1777 }, "/scratch"),
    ];
    sandbox.spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    sandbox.script(
        "echo file >/file; echo scratch >/scratch/file; echo volume >/volume/file; n=0; \
         while :; do n=$((n+1)); echo $n; sleep 0.01; done",
    );
    let (out, stdout) = pipe();
    let (_err, stderr) = pipe();
    let inode = |fd: &std::os::fd::OwnedFd| {
        Some(fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("pipe").ino())
    };
    let pipes = [None, inode(&stdout), inode(&stderr)];
    let created = sandbox
        .create(Stdio { stdin: None, stdout: Some(stdout), stderr: Some(stderr) })
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let running = created.start().expect("start");
    let mut out = Lines::new(out);
    wait_until("it counts", || out.next() >= 3);

    let images = sandbox.dir.join("images");
    fs::create_dir(&images).expect("directory");
    let what = Dump { criu: &criu, pid: running.pid, group: &sandbox.cgroup, images: &images };
    let outside = dump(&what).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let stat = || fs::read_to_string(format!("/proc/{}/stat", running.pid)).expect("stat");
    assert!(stat().contains(") T "), "it waits for our word: {}", stat());
    resume(&sandbox.cgroup).expect("resume");
    let last = out.next();
    wait_until("the first one goes on", || out.next() > last);
    sandbox.cgroup.kill().expect("kill");
    wait(&running.pidfd);
    sandbox.wait_empty();
    let last = out.last();

    sandbox.again();
    sandbox.spec.restore = Some(RestoreSpec { criu, images, outside, pipes });
    let (out, stdout) = pipe();
    let (_err, stderr) = pipe();
    let created = sandbox
        .create(Stdio { stdin: None, stdout: Some(stdout), stderr: Some(stderr) })
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let inside = |name: &str| fs::read_link(format!("/proc/{}/ns/{name}", created.pid)).expect("namespace");
    for name in ["user", "pid", "mnt", "ipc", "uts", "net", "cgroup"] {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).expect("namespace");
        assert_ne!(inside(name), own, "{name}");
    }
    let map = fs::read_to_string(format!("/proc/{}/uid_map", created.pid)).expect("map");
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "2000000000", "65536"]);
    let running = created.start().expect("start");
    let mut out = Lines::new(out);
    let first = out.next();
    assert!((3..=last + 1).contains(&first), "{first} after {last}");
    wait_until("it counts on", || out.next() > first + 3);

    let look = "cat /file /scratch/file /volume/file; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                grep -E '^(Seccomp|NoNewPrivs|CapEff|CapBnd):' /proc/1/status | tr -d '\\t'; \
                cat /proc/1/cgroup | cut -d: -f3 | sort -u; wc -c </proc/kallsyms; hostname; \
                echo x 2>/dev/null >/proc/sys/kernel/core_pattern || echo refused; \
                echo x 2>/dev/null >/sys/fs/cgroup/cpu/tasks || echo refused; echo ok >/dev/null && echo ok";
    let seen = run_exec(&running, process(&["/bin/sh", "-c", look])).success();
    let seen: Vec<&str> = seen.lines().collect();
    assert_eq!(
        seen,
        [
            "file",
            "scratch",
            "volume",
            "0",
            "CapEff:00000000a00405fb",
            "CapBnd:00000000a00405fb",
            "NoNewPrivs:1",
            "Seccomp:2",
            "/",
            "0",
            "inside",
            "refused",
            "refused",
            "ok"
        ]
    );
    sandbox.cgroup.kill().expect("kill");
    assert!(
        matches!(wait(&running.pidfd), WaitStatus::Signaled(pid, ..) if pid == Pid::from_raw(running.pid))
    );
}

/// A mount point that CRIU cannot be told, and images that are none.
fn refused() {
    let Some(criu) = criu() else { return };
    let mut sandbox = Sandbox::new("checkpoint-refused");
    let volume = sandbox.dir.join("volume");
    fs::create_dir(&volume).expect("directory");
    let source = MountSource::Bind { path: volume, idmap: true };
    let target = "/a:b".into();
    sandbox.spec.mounts =
        vec![MountSpec { source, target, read_only: false, no_exec: false, shallow: false }];
    sandbox.script("n=0; while :; do n=$((n+1)); echo $n; sleep 0.01; done");
    let (running, out, _err) = sandbox.start().expect("start");
    let images = sandbox.dir.join("images");
    fs::create_dir(&images).expect("directory");
    let what = Dump { criu: &criu, pid: running.pid, group: &sandbox.cgroup, images: &images };
    assert!(matches!(dump(&what), Err(DumpError::Target(_))));
    let mut out = Lines::new(out);
    let first = out.next();
    wait_until("it runs on", || out.next() > first + 3);
    sandbox.cgroup.kill().expect("kill");
    wait(&running.pidfd);
    sandbox.wait_empty();

    sandbox.again();
    sandbox.spec.restore = Some(RestoreSpec { criu, images, outside: Vec::new(), pipes: [None; 3] });
    let error = sandbox.create(Stdio::default()).expect_err("there are no images");
    assert!(chain(&error).contains("CRIU cannot restore"), "{}", chain(&error));
    assert!(sandbox.cgroup.is_empty().expect("state"));
}

/// Numbers, one a line.
struct Lines(fs::File);

impl Lines {
    fn new(file: fs::File) -> Self {
        Self(file)
    }

    fn next(&mut self) -> u64 {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("a line");
            if byte == *b"\n" {
                return String::from_utf8_lossy(&line).parse().expect("a number");
            }
            line.extend(byte);
        }
    }

    /// The last number, of a process that has ended.
    fn last(&mut self) -> u64 {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).expect("the rest");
        rest.lines().last().expect("a line").parse().expect("a number")
    }
}
