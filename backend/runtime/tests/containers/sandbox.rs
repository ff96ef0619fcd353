//! A tenant for one case: layers of busybox and this program, a cgroup, directories; all removed
//! at its end, also when the case panics.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::pipe2;
use wharf_runtime::LaunchError;
use wharf_runtime::cgroup::{Cgroup, DeviceRule, Layout};
use wharf_runtime::exec::{ExecStarted, exec};
use wharf_runtime::launch::{Created, Running, Stdio, create};
use wharf_runtime::spec::{
    DEFAULT_CAPABILITIES, DEFAULT_READ_ONLY_PATHS, ExecSpec, HostNamespaces, IdMap, IdSource, LaunchSpec,
    LogSpec, NetworkNamespace, ProcessSpec, RootfsSpec, SPEC_VERSION, Seccomp, default_masked_paths,
};

/// First id of the test tenant; far from those that an agent gives out.
pub const HOST_BASE: u32 = 2_000_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// How a process ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    pub status: WaitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Panics unless the process returned 0.
    pub fn success(self) -> String {
        assert!(matches!(self.status, WaitStatus::Exited(_, 0)), "{self:?}");
        self.stdout
    }
}

pub struct Sandbox {
    pub dir: PathBuf,
    pub layout: Layout,
    pub cgroup: Cgroup,
    pub spec: LaunchSpec,
}

impl Sandbox {
    pub fn new(name: &str) -> Self {
        let base = format!("wharf-test-{}", std::process::id());
        let dir = PathBuf::from("/var/tmp").join(&base).join(name);
        drop(fs::remove_dir_all(&dir));
        let layers = dir.join("layers");
        make_layer(&layers.join("base"));
        fs::create_dir_all(layers.join("top/etc")).expect("layer");
        fs::write(layers.join("top/etc/from-top"), "top\n").expect("file");
        let writable = dir.join("rw");
        for part in ["upper", "work"] {
            fs::create_dir_all(writable.join(part)).expect("directory");
        }
        chown(writable.join("upper"), Some(HOST_BASE), Some(HOST_BASE)).expect("chown");
        let layout = Layout::detect().expect("layout");
        let relative = Path::new(&base).join("tenant").join(name);
        let cgroup = Cgroup::create(&layout, &relative).expect("cgroup");
        cgroup.allow_devices(&DeviceRule::standard()).expect("devices");
        let spec = LaunchSpec {
            version: SPEC_VERSION,
            id: "a".repeat(64),
            generation: 1,
            run_dir: dir.clone(),
            state_dir: dir.clone(),
            log: LogSpec { dir: dir.clone(), max_file_bytes: 1, max_files: 1 },
            process: process(&["/bin/sh", "-c", "true"]),
            hostname: "inside".into(),
            rootfs: RootfsSpec {
                layer_root: layers,
                layers: vec!["top".into(), "base".into()],
                writable,
                ephemeral: false,
                read_only: false,
            },
            mounts: Vec::new(),
            id_map: Some(IdMap { host_base: HOST_BASE, size: 65_536 }),
            network: NetworkNamespace::Private,
            cgroup: relative,
            masked_paths: default_masked_paths(),
            read_only_paths: DEFAULT_READ_ONLY_PATHS.map(Into::into).into(),
            sysctls: BTreeMap::new(),
            devices: Vec::new(),
            shm_size_bytes: 1 << 20,
            show_cgroups: true,
            delegate: false,
            writable_sys: false,
            host: HostNamespaces::default(),
            init: false,
            restore: None,
        };
        Self { dir, layout, cgroup, spec }
    }

    pub fn layer(&self) -> PathBuf {
        self.spec.rootfs.layer_root.join("top")
    }

    pub fn script(&mut self, script: &str) -> &mut Self {
        self.spec.process.args = ["/bin/sh", "-c", script].map(Into::into).into();
        self
    }

    pub fn create(&self, stdio: Stdio) -> Result<Created, LaunchError> {
        create(&self.spec, stdio)
    }

    /// A cgroup for the next start: one that was killed is not launched into again.
    pub fn again(&mut self) {
        self.cgroup.remove().expect("the group is empty");
        self.cgroup = Cgroup::create(&self.layout, &self.spec.cgroup).expect("cgroup");
        self.cgroup.allow_devices(&DeviceRule::standard()).expect("devices");
    }

    /// Starts the container with its output in pipes.
    pub fn start(&self) -> Result<(Running, File, File), LaunchError> {
        let (out, stdout) = pipe();
        let (err, stderr) = pipe();
        let created = self.create(Stdio { stdin: None, stdout: Some(stdout), stderr: Some(stderr) })?;
        Ok((created.start()?, out, err))
    }

    /// Runs the container to its end.
    pub fn run(&self) -> Outcome {
        let (running, out, err) = self.start().unwrap_or_else(|error| panic!("{}", chain(&error)));
        finish(&running.pidfd, out, err)
    }

    /// Waits until no process is left in the group.
    pub fn wait_empty(&self) {
        wait_until("the group is empty", || self.cgroup.is_empty().unwrap_or(true));
    }
}

/// Runs an exec in a container to its end.
pub fn run_exec(running: &Running, process: ProcessSpec) -> Outcome {
    let (out, stdout) = pipe();
    let (err, stderr) = pipe();
    let stdio = Stdio { stdin: None, stdout: Some(stdout), stderr: Some(stderr) };
    let started = start_exec(running, process, stdio).unwrap_or_else(|error| panic!("{}", chain(&error)));
    finish(&started.pidfd, out, err)
}

/// Starts an exec.
pub fn start_exec(running: &Running, process: ProcessSpec, stdio: Stdio) -> Result<ExecStarted, LaunchError> {
    let spec = ExecSpec { version: SPEC_VERSION, exec_id: "e".into(), process };
    exec(&running.target, &spec, stdio)
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.cgroup.kill().ok();
        while matches!(waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG), Ok(s) if s != WaitStatus::StillAlive)
        {
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.cgroup.is_empty().unwrap_or(true) && Instant::now() < deadline {
            nap();
        }
        let mut path = self.spec.cgroup.as_path();
        loop {
            if let Ok(group) = Cgroup::open(&self.layout, path) {
                group.remove().ok();
            }
            match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => path = parent,
                _ => break,
            }
        }
        fs::remove_dir_all(&self.dir).ok();
        if let Some(parent) = self.dir.parent() {
            fs::remove_dir(parent).ok();
        }
    }
}

pub fn process(args: &[&str]) -> ProcessSpec {
    ProcessSpec {
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: vec!["PATH=/bin".into()],
        cwd: "/".into(),
        user: String::new(),
        groups: Vec::new(),
        ids: IdSource::Files,
        capabilities: DEFAULT_CAPABILITIES.into(),
        capability_sets: None,
        no_new_privs: true,
        seccomp: Seccomp::Default,
        apparmor: None,
        rlimits: Vec::new(),
        terminal: false,
        terminal_size: None,
        stdin: false,
        oom_score_adj: None,
    }
}

/// Makes a layer with busybox, its applets, two accounts, and this program with its libraries.
fn make_layer(dir: &Path) {
    for part in ["bin", "etc", "tmp", "lib64", "home/web"] {
        fs::create_dir_all(dir.join(part)).expect("directory");
    }
    fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("mode");
    chown(dir.join("home/web"), Some(33), Some(33)).expect("chown");
    fs::copy("/bin/busybox", dir.join("bin/busybox")).expect("busybox-static is installed");
    let applets = Command::new("/bin/busybox").arg("--list").output().expect("busybox");
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", dir.join("bin").join(applet)).expect("link");
    }
    fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/home/web:/bin/sh\n")
        .expect("file");
    fs::write(dir.join("etc/group"), "root:x:0:\ntty:x:5:\nweb:x:33:\nlog:x:44:web\n").expect("file");
    let own = std::env::current_exe().expect("own path");
    fs::copy(&own, dir.join("bin/probe")).expect("copy");
    let libraries = Command::new("ldd").arg(&own).output().expect("ldd");
    for word in
        String::from_utf8_lossy(&libraries.stdout).split_whitespace().filter(|word| word.starts_with('/'))
    {
        let target = dir.join(word.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("parent")).expect("directory");
        fs::copy(word, target).expect("library");
    }
}

pub fn pipe() -> (File, OwnedFd) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("pipe");
    (read.into(), write)
}

/// Reads both pipes to their ends, then waits for the process.
pub fn finish(pidfd: &OwnedFd, out: File, err: File) -> Outcome {
    let texts = read_all([out, err]);
    let status = wait(pidfd);
    let [stdout, stderr] = texts;
    Outcome { status, stdout, stderr }
}

/// Reads until both ends are closed or patience ends.
fn read_all(mut files: [File; 2]) -> [String; 2] {
    let mut texts = [Vec::new(), Vec::new()];
    let mut open = [true, true];
    let deadline = Instant::now() + PATIENCE;
    while open.iter().any(|open| *open) {
        assert!(
            Instant::now() < deadline,
            "no end of output: {:?}",
            texts.map(|t| String::from_utf8_lossy(&t).into_owned())
        );
        for ((file, text), open) in files.iter_mut().zip(&mut texts).zip(&mut open) {
            let mut wanted = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
            if *open && poll(&mut wanted, PollTimeout::from(20_u8)).expect("poll") > 0 {
                let mut buffer = [0; 4096];
                let read = file.read(&mut buffer).expect("read");
                text.extend_from_slice(&buffer[..read]);
                *open = read > 0;
            }
        }
    }
    texts.map(|text| String::from_utf8_lossy(&text).into_owned())
}

/// Waits for a child's end.
pub fn wait(pidfd: &OwnedFd) -> WaitStatus {
    let mut wanted = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(
        poll(&mut wanted, PollTimeout::from(20_000_u16)).expect("poll"),
        1,
        "the process does not end"
    );
    waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED).expect("wait")
}

/// Waits for a state with a deadline.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        nap();
    }
}

fn nap() {
    poll(&mut [], PollTimeout::from(2_u8)).ok();
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
