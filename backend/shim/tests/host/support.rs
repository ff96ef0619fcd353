//! A forge of its own, a layer of busybox and a cgroup per test, all gone afterwards.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};
use wharf_runtime::cgroup::{Cgroup, Layout};
use wharf_runtime::spec::{
    ExecSpec, HostNamespaces, IdSource, LaunchSpec, LogSpec, NetworkNamespace, ProcessSpec, RootfsSpec,
    SPEC_VERSION, Seccomp,
};
use wharf_shim::client::{Client, ensure_forge};
use wharf_shim::exit::{ExitRecord, ExitStatus};
use wharf_shim::logfile::{Item, LogReader, Start, Stream};
use wharf_shim::paths::{RunDir, RunRoot, StateDir, StateRoot};
use wharf_shim::process_ref::ProcessRef;
use wharf_shim::protocol::{Notice, Request};

/// Nothing that these tests wait for takes longer unless it is broken.
pub(crate) const SOON: Duration = Duration::from_secs(20);
const TOOLS: [&str; 12] =
    ["sh", "cat", "echo", "sleep", "tty", "stty", "tail", "dd", "grep", "true", "wc", "yes"];

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Everything that a test made.
pub(crate) struct Host {
    dir: tempfile::TempDir,
    pub(crate) run_root: RunRoot,
    pub(crate) state_root: StateRoot,
    pub(crate) forge: Client,
    layout: Layout,
    group: PathBuf,
    containers: Vec<String>,
}

impl Host {
    pub(crate) fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests start containers: run them as root");
        let dir = tempfile::tempdir().expect("temp dir");
        let layer = dir.path().join("layers/busybox");
        for name in ["bin", "dev", "proc", "sys", "etc", "tmp"] {
            fs::create_dir_all(layer.join(name)).expect("layer");
        }
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
        fs::copy(busybox.expect("busybox-static is installed"), layer.join("bin/busybox")).expect("copy");
        for tool in TOOLS {
            symlink("busybox", layer.join("bin").join(tool)).expect("link");
        }
        let run_root = RunRoot::new(dir.path().join("run"));
        fs::DirBuilder::new().mode(0o700).create(run_root.path()).expect("run root");
        let state_root = StateRoot::new(dir.path().join("state"));
        let forge = ensure_forge(&run_root, Path::new(env!("CARGO_BIN_EXE_wharf-shim"))).expect("forge");
        let group =
            format!("wharf-shim-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let layout = Layout::detect().expect("cgroups");
        Self { dir, run_root, state_root, forge, layout, group: group.into(), containers: Vec::new() }
    }

    /// Describes a container that runs `args`, and makes what the agent makes before a launch.
    pub(crate) fn spec(&mut self, args: &[&str]) -> LaunchSpec {
        let number = self.containers.len() + 1;
        let id = format!("{number:064x}");
        self.containers.push(id.clone());
        let state_dir = self.state_root.container(&id).expect("id");
        let writable = self.dir.path().join("writable").join(&id);
        for name in ["upper", "work"] {
            fs::create_dir_all(writable.join(name)).expect("writable layer");
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir.path()).expect("state dir");
        Cgroup::create(&self.layout, &self.group.join(&id)).expect("cgroup");
        LaunchSpec {
            version: SPEC_VERSION,
            run_dir: self.run_root.container(&id).expect("id").path().to_owned(),
            state_dir: state_dir.path().to_owned(),
            log: LogSpec { dir: state_dir.log(), max_file_bytes: 1024 * 1024, max_files: 3 },
            cgroup: self.group.join(&id),
            id,
            generation: 1,
            process: process(args),
            hostname: "test".to_owned(),
            rootfs: RootfsSpec {
                layer_root: self.dir.path().join("layers"),
                layers: vec!["busybox".into()],
                writable,
                ephemeral: false,
                read_only: false,
            },
            mounts: Vec::new(),
            id_map: None,
            network: NetworkNamespace::Private,
            masked_paths: Vec::new(),
            read_only_paths: Vec::new(),
            sysctls: std::collections::BTreeMap::new(),
            devices: Vec::new(),
            shm_size_bytes: 1024 * 1024,
            show_cgroups: true,
            delegate: false,
            writable_sys: false,
            host: HostNamespaces::default(),
            init: false,
            restore: None,
        }
    }

    /// Launches and waits until the container is created.
    pub(crate) fn create(&mut self, spec: &LaunchSpec) -> Container {
        let (shim_pid, mut shim) = self.forge.launch(spec).expect("launch");
        let run_dir = RunDir::new(&spec.run_dir);
        match shim.next_notice(SOON).expect("notice") {
            (Notice::Created { pid, start_time_ticks, network_namespace: true }, namespaces) => {
                assert_eq!(namespaces.len(), 1);
                let init = ProcessRef { pid, start_time_ticks };
                let shim_process = ProcessRef::of(shim_pid).expect("shim runs");
                let spec = spec.clone();
                Container { spec, run_dir, shim, shim_process, init }
            }
            (other, _) => panic!("not created: {other:?}"),
        }
    }

    /// Launches and starts.
    pub(crate) fn start(&mut self, spec: &LaunchSpec) -> Container {
        let mut container = self.create(spec);
        container.shim.done(Request::Start, &[]).expect("start");
        assert_eq!(container.notice(), Notice::Started);
        container
    }

    /// Removes the container's group and makes it anew.
    pub(crate) fn renew_cgroup(&self, spec: &LaunchSpec) {
        self.cgroup(spec).remove().expect("empty group");
        Cgroup::create(&self.layout, &spec.cgroup).expect("cgroup");
    }

    pub(crate) fn cgroup(&self, spec: &LaunchSpec) -> Cgroup {
        Cgroup::open(&self.layout, &spec.cgroup).expect("cgroup")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A failed test is reported by its panic; this only removes what it left.
        for id in &self.containers {
            let run_dir = self.run_root.container(id).expect("id");
            let state = wharf_shim::state::StateFile::read(&run_dir, id);
            if let Ok(Some(state)) = state
                && let Ok(Some(pidfd)) = state.shim.open()
            {
                pidfd_send_signal(pidfd, Signal::KILL).ok();
            }
            if let Ok(cgroup) = Cgroup::open(&self.layout, &self.group.join(id)) {
                cgroup.kill().ok();
                wait_until("the cgroup is empty", || cgroup.is_empty().unwrap_or(true));
                cgroup.remove().ok();
            }
        }
        if let Ok(cgroup) = Cgroup::open(&self.layout, &self.group) {
            cgroup.remove().ok();
        }
        if let Ok(Some(forge)) = wharf_shim::client::connect_forge(&self.run_root) {
            forge.quit().ok();
        }
    }
}

/// A container under test.
pub(crate) struct Container {
    pub(crate) spec: LaunchSpec,
    pub(crate) run_dir: RunDir,
    pub(crate) shim: Client,
    pub(crate) shim_process: ProcessRef,
    pub(crate) init: ProcessRef,
}

impl Container {
    pub(crate) fn notice(&mut self) -> Notice {
        self.shim.next_notice(SOON).expect("notice").0
    }

    /// Waits for the end and returns how it was.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        loop {
            if let Notice::Exited { status, .. } = self.notice() {
                return status;
            }
        }
    }

    pub(crate) fn record(&self) -> ExitRecord {
        let dir = StateDir::new(&self.spec.state_dir);
        ExitRecord::read(&dir, &self.spec.id, self.spec.generation).expect("believed").expect("there")
    }

    /// What is in the log so far.
    pub(crate) fn output(&self, of: Stream) -> String {
        let mut text = Vec::new();
        let mut reader = LogReader::open(&self.spec.log.dir, Start::Oldest).expect("log");
        while let Some(item) = reader.next().expect("readable") {
            match item {
                Item::Record(record) if record.stream == of => text.extend_from_slice(record.bytes),
                Item::Record(_) => {}
                Item::Gap(gap) => panic!("{gap:?}"),
            }
        }
        String::from_utf8(text).expect("text")
    }

    pub(crate) fn wait_for_output(&self, needle: &str) {
        wait_until(needle, || self.output(Stream::Stdout).contains(needle));
    }
}

pub(crate) fn process(args: &[&str]) -> ProcessSpec {
    ProcessSpec {
        args: args.iter().map(|argument| (*argument).to_owned()).collect(),
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        user: String::new(),
        groups: Vec::new(),
        ids: IdSource::Files,
        capabilities: Vec::new(),
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

pub(crate) fn exec_spec(exec_id: &str, args: &[&str]) -> ExecSpec {
    ExecSpec { version: SPEC_VERSION, exec_id: exec_id.to_owned(), process: process(args) }
}

/// Looks again and again until it is so.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        rustix::event::poll(&mut [], Some(&pause)).expect("pause");
    }
}

/// Reads a terminal's master until `needle` has come.
pub(crate) fn read_until(master: &File, needle: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains(needle) {
        let readable = wharf_shim::connection::wait_readable(std::os::fd::AsFd::as_fd(master), SOON);
        assert!(readable.expect("poll"), "nothing more after {text:?}");
        let count = (&*master).read(&mut buffer).expect("read");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}
