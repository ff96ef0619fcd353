//! A bundle of busybox for one test, and the runtime's commands on it; everything goes when it is dropped.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wharf_runtime::cgroup::{Cgroup, Layout};

const PATIENCE: Duration = Duration::from_secs(30);
/// The id of every bundle's container; each has a root of its own.
pub(crate) const ID: &str = "one";

/// Numbers the bundles of this process.
static COUNT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Bundle {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: Value,
    /// The runtime.
    pub(crate) program: PathBuf,
    group: PathBuf,
}

impl Bundle {
    /// A bundle that runs a line of shell, with all that `runc spec` writes but a terminal and limits.
    pub(crate) fn new(script: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "containers need root: run these tests as root");
        // Not below /tmp, which can be in memory.
        let dir = tempfile::tempdir_in("/var/tmp").expect("directory");
        let root = dir.path().join("rootfs");
        for part in ["bin", "etc", "tmp", "dev", "proc", "sys"] {
            fs::create_dir_all(root.join(part)).expect("directory");
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        let applets = Command::new("/bin/busybox").arg("--list").output().expect("busybox");
        for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).expect("link");
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n")
            .expect("file");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let group = PathBuf::from(format!("wharf-oci-test-{}-{number}", std::process::id()));
        let config = config(script, &group);
        Self { dir, config, program: program(), group }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// The relative path of its cgroup.
    pub(crate) fn cgroup(&self) -> PathBuf {
        self.group.join(ID)
    }

    /// Where the runtime knows of it.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state").join(ID)
    }

    pub(crate) fn args(&mut self, args: &[&str]) -> &mut Self {
        self.config["process"]["args"] = json!(args);
        self
    }

    /// In a user namespace of its own.
    pub(crate) fn mapped(&mut self, host: u32) -> &mut Self {
        let mapping = json!([{ "containerID": 0, "hostID": host, "size": 65_536 }]);
        self.config["linux"]["uidMappings"] = mapping.clone();
        self.config["linux"]["gidMappings"] = mapping;
        self.namespace(json!({ "type": "user" }))
    }

    pub(crate) fn namespace(&mut self, namespace: Value) -> &mut Self {
        self.config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(namespace);
        self
    }

    pub(crate) fn write(&self) {
        fs::write(self.dir.path().join("config.json"), self.config.to_string()).expect("config");
    }

    /// The runtime with one of its commands.
    pub(crate) fn command(&self, command: &str) -> Command {
        let mut runtime = Command::new(&self.program);
        runtime.arg("oci").arg("--root").arg(self.dir.path().join("state")).arg(command);
        runtime
    }

    fn make(&self, command: &str) -> Command {
        self.write();
        let mut runtime = self.command(command);
        runtime.arg("--bundle").arg(self.dir.path());
        runtime
    }

    /// `run`, ready to be given more.
    pub(crate) fn running(&self) -> Command {
        self.make("run")
    }

    /// Runs the container to its end.
    pub(crate) fn run(&self) -> Output {
        self.make("run").arg(ID).stdin(Stdio::null()).output().expect("the runtime")
    }

    /// Runs the container to its good end and returns what it said.
    pub(crate) fn say(&self) -> String {
        good(self.run())
    }

    /// Starts `run` and returns at the container's first line.
    pub(crate) fn spawn(&self) -> Child {
        let mut run = self.make("run");
        let mut child = run
            .arg(ID)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run");
        let mut byte = [0];
        let mut stdout = child.stdout.take().expect("pipe");
        while byte != *b"\n" {
            assert!(stdout.read(&mut byte).expect("read") > 0, "it ended before it said a line");
        }
        child.stdout = Some(stdout);
        child
    }

    /// `create`, which gives no stream back to wait for.
    pub(crate) fn create(&self) {
        let mut create = self.make("create");
        create.arg(ID).stdin(Stdio::null()).stdout(self.log()).stderr(Stdio::null());
        assert!(create.status().expect("the runtime").success());
    }

    fn log(&self) -> File {
        File::create(self.dir.path().join("log")).expect("log")
    }

    /// What a container that was created has said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).expect("log")
    }

    /// One of the commands with only an id.
    pub(crate) fn act(&self, command: &str, more: &[&str]) -> Output {
        self.command(command).arg(ID).args(more).output().expect("the runtime")
    }

    /// What `state` says of the status.
    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().expect("status").to_owned()
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&good(self.act("state", &[]))).expect("JSON")
    }

    pub(crate) fn exec(&self, words: &[&str]) -> Output {
        self.command("exec").arg(ID).args(words).stdin(Stdio::null()).output().expect("the runtime")
    }

    /// The directories of its cgroup that are there.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let layout = Layout::detect().expect("cgroups");
        let all = layout.hierarchies().into_iter().map(|root| root.join(self.cgroup()));
        all.filter(|dir| dir.exists()).collect()
    }

    /// Panics if anything but the bundle is left.
    pub(crate) fn assert_gone(&self) {
        assert!(!self.state_dir().exists(), "its state is left");
        assert_eq!(self.groups(), Vec::<PathBuf>::new(), "groups are left");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let layout = Layout::detect().expect("cgroups");
        if let Ok(group) = Cgroup::open(&layout, &self.cgroup()) {
            group.kill().ok();
            group.remove_when_empty().ok();
        }
        if let Ok(above) = Cgroup::open(&layout, &self.group) {
            above.remove().ok();
        }
    }
}

/// The runtime: cargo's, or on a machine without it that of `WHARF_PROGRAMS`.
pub(crate) fn program() -> PathBuf {
    let there = std::env::var_os("WHARF_PROGRAMS").map(|dir| PathBuf::from(dir).join("wharf-shim"));
    there.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_wharf-shim")))
}

/// What a command said that did well.
pub(crate) fn good(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What a command complained.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits for a state with a deadline.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        let nap = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        rustix::event::poll(&mut [], Some(&nap)).ok();
    }
}

/// Gives a process something to read.
pub(crate) fn feed(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
    child.stdin.take().expect("pipe").write_all(input.as_bytes()).expect("write");
    child.wait_with_output().expect("output")
}

fn config(script: &str, group: &Path) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "args": ["sh", "-c", script],
            "env": ["PATH=/usr/bin:/bin", "TERM=xterm"],
            "cwd": "/",
            "user": { "uid": 0, "gid": 0 },
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                "ambient": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "inside",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
        ],
        "linux": {
            "cgroupsPath": Path::new("/").join(group).join(ID),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" },
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/none"],
            "readonlyPaths": ["/proc/bus", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
