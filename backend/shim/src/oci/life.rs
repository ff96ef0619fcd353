//! The commands: a container's life, step by step.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use wharf_runtime::LaunchError;
use wharf_runtime::Stage;
use wharf_runtime::cgroup::{Cgroup, CgroupError, Controller, Layout, LayoutError};
use wharf_runtime::exec::{ExecTarget, exec_in};
use wharf_runtime::launch::{Created, Gate, Running, Stdio, create_in, open_gate};
use wharf_runtime::spec::{ExecSpec, SPEC_VERSION};
use wharf_shim::process_ref::ProcessRef;
use wharf_sys::SysError;
use wharf_sys::process::{fork, pidfd_send_signal, set_standard_stream};
use wharf_sys::socket::send_with_fds;

use super::arguments::{Exec, Make, Reported};
use super::config::{Config, Linux, Process};
use super::limits::{self, LimitError};
use super::names;
use super::own_program::protect;
use super::state::{self, State, StateDir, StateError, Status};
use super::translate::{ConfigError, Place, Translated, process_spec, translate};
use super::wait::{hold_signals, until_end};

/// No configuration is larger.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// Exit statuses of a program that cannot be executed, and of one that is not there.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
const SIGKILL: i32 = 9;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OciError {
    #[error("could not {call} {path}", path = path.display())]
    File { call: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is larger than {MAX_CONFIG_BYTES} bytes", path = .0.display())]
    TooLarge(PathBuf),
    #[error("{path} is not a configuration", path = path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{path} cannot be run", path = path.display())]
    Config { path: PathBuf, source: ConfigError },
    #[error("could not put this program out of the container's reach")]
    Protect(#[source] SysError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error("could not start the container")]
    Launch(#[source] LaunchError),
    #[error("could not execute in container {id}")]
    Exec { id: String, source: LaunchError },
    #[error("{0:?} is no signal")]
    Signal(String),
    #[error("{0:?} is not UID or UID:GID")]
    User(String),
    #[error("container {id} is {status}, not {wanted}")]
    Status { id: String, status: &'static str, wanted: &'static str },
    #[error("container {0} is frozen; thaw it first")]
    Frozen(String),
    #[error("could not {call}")]
    System { call: &'static str, source: Errno },
    #[error("a terminal needs --console-socket, or a caller that stays (no --detach)")]
    NoTerminal,
    #[error("could not print")]
    Print(#[source] io::Error),
}

impl OciError {
    /// The exit status that says what was wrong with a program, if that is what was wrong.
    pub(super) fn status(&self) -> Option<u8> {
        let (Self::Launch(source) | Self::Exec { source, .. }) = self else { return None };
        let not_found = source.errno() == Some(SysError::new("", Errno::ENOENT).raw());
        let executing = source.stage() == Some(Stage::Execute);
        executing.then_some(if not_found { NOT_FOUND } else { NOT_EXECUTABLE })
    }
}

fn system(call: &'static str) -> impl FnOnce(Errno) -> OciError {
    move |source| OciError::System { call, source }
}

fn file(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OciError {
    let path = path.to_owned();
    move |source| OciError::File { call, path, source }
}

/// A container that is being made; what there is of it goes when that fails.
struct Making {
    dir: StateDir,
    translated: Translated,
    config: Config,
    bundle: PathBuf,
    layout: Layout,
    group: Option<Cgroup>,
    whole: bool,
}

/// Reads a file that is not ours to trust.
fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
    look: impl FnOnce(&[u8]) -> Result<(), OciError>,
) -> Result<T, OciError> {
    let bytes = File::open(path)
        .and_then(|file| {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, MAX_CONFIG_BYTES + 1), &mut bytes)?;
            Ok(bytes)
        })
        .map_err(file("read", path))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_CONFIG_BYTES) {
        return Err(OciError::TooLarge(path.to_owned()));
    }
    look(&bytes)?;
    serde_json::from_slice(&bytes).map_err(|source| OciError::Json { path: path.to_owned(), source })
}

impl Making {
    /// Takes the name and makes everything that must be there before the launch. `every` container's group
    /// is in every hierarchy; else only in those that do something for it.
    fn begin(root: &Path, make: &Make, every: bool) -> Result<Self, OciError> {
        let bundle = std::path::absolute(&make.bundle).map_err(file("find", &make.bundle))?;
        let path = bundle.join("config.json");
        // To run again is cheapest before the work; only a mapping of ids can make it unnecessary.
        let config: Config = read_json(&path, |text| {
            let mapped = text.windows(11).any(|window| window == b"uidMappings");
            if mapped { Ok(()) } else { protect().map_err(OciError::Protect) }
        })?;
        let dir = StateDir::new(root, &make.id);
        let place = Place {
            id: &make.id,
            bundle: &bundle,
            state_dir: dir.path(),
            cgroup: make.cgroup.as_deref(),
            overlay: make.overlay.as_deref(),
            maker: std::process::id(),
            memory_bytes: rustix::system::sysinfo().totalram,
        };
        let translated =
            translate(&config, place).map_err(|source| OciError::Config { path: path.clone(), source })?;
        if translated.spec.id_map.is_none() {
            protect().map_err(OciError::Protect)?;
        }
        let layout = Layout::detect()?;
        let layout = if every { layout } else { used(&translated, layout) };
        dir.create()?;
        let mut making = Self { dir, translated, config, bundle, layout, group: None, whole: false };
        making.prepare()?;
        Ok(making)
    }

    fn prepare(&mut self) -> Result<(), OciError> {
        let spec = &self.translated.spec;
        let group = Cgroup::create(&self.layout, &spec.cgroup)?;
        let group = self.group.insert(group);
        limits::write(&self.translated.limits, group, &self.layout)?;
        group.allow_devices(&self.translated.devices)?;
        let Some(layer) = &self.translated.layer else { return Ok(()) };
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o755);
        let upper = layer.join("upper");
        for dir in [layer, &upper, &layer.join("work")] {
            builder.create(dir).map_err(file("make", dir))?;
        }
        if let Some(map) = spec.id_map {
            chown(&upper, Some(map.host_base), Some(map.host_base)).map_err(file("chown", &upper))?;
        }
        Ok(())
    }

    /// Builds the container up to its gate and makes it known.
    fn launch(&mut self, gate: &Gate, place: &Reported) -> Result<Created, OciError> {
        let terminal = self.translated.spec.process.terminal;
        let stdio = if terminal { Stdio::default() } else { own_streams()? };
        let spec = &self.translated.spec;
        let mut created = create_in(&self.layout, spec, stdio, gate, &mut || {}).map_err(OciError::Launch)?;
        let init = ProcessRef { pid: created.pid, start_time_ticks: created.start_time_ticks };
        self.dir.write(&State {
            id: spec.id.clone(),
            init,
            bundle: std::mem::take(&mut self.bundle),
            cgroup: spec.cgroup.clone(),
            layout: self.layout.clone(),
            id_map: spec.id_map,
            layer: self.translated.layer.clone(),
            annotations: std::mem::take(&mut self.config.annotations),
        })?;
        report(place, init.pid, &mut created.pty_master)?;
        Ok(created)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if self.whole {
            return;
        }
        // The error that brought it here is the one that tells.
        if let Some(group) = &self.group {
            group.remove().ok();
        }
        if let Some(layer) = &self.translated.layer {
            fs::remove_dir_all(layer).ok();
        }
        self.dir.remove().ok();
    }
}

/// The hierarchies that do something for a container: those that limit it, and what restricts its devices.
fn used(translated: &Translated, layout: Layout) -> Layout {
    let mut controllers: Vec<Controller> =
        translated.limits.iter().map(|limit| limit.controller).chain([Controller::Devices]).collect();
    if layout.unified().is_none() {
        // How its processes are stopped then.
        controllers.push(Controller::Freezer);
    }
    layout.only(&controllers)
}

/// Copies of this process's own standard streams.
fn own_streams() -> Result<Stdio, OciError> {
    let copy = |stream: io::Result<OwnedFd>| match stream {
        // A caller without one gets the null device in its place.
        Err(error) if error.raw_os_error() == Some(SysError::new("", Errno::EBADF).raw()) => Ok(None),
        other => other.map(Some).map_err(file("copy", Path::new("a standard stream"))),
    };
    Ok(Stdio {
        stdin: copy(io::stdin().as_fd().try_clone_to_owned())?,
        stdout: copy(io::stdout().as_fd().try_clone_to_owned())?,
        stderr: copy(io::stderr().as_fd().try_clone_to_owned())?,
    })
}

/// Tells the caller of a new process, and gives its terminal away where that is asked for.
fn report(place: &Reported, pid: i32, terminal: &mut Option<OwnedFd>) -> Result<(), OciError> {
    if let Some(path) = &place.pid_file {
        // Whole or not there: callers wait for it to appear.
        let mut name = path.file_name().unwrap_or(OsStr::new("pid")).to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        fs::write(&part, pid.to_string())
            .and_then(|()| fs::rename(&part, path))
            .map_err(file("write", path))?;
    }
    if let (Some(path), Some(master)) = (&place.console_socket, terminal.as_ref()) {
        let socket = UnixStream::connect(path).map_err(file("connect to", path))?;
        send_with_fds(socket.as_fd(), b"/dev/ptmx", &[master.as_fd()])
            .map_err(|error| file("send the terminal to", path)(io::Error::from(error.errno)))?;
        *terminal = None;
    }
    Ok(())
}

/// Runs a container to its end and returns its exit status; detached, only up to its start.
pub(super) fn run(root: &Path, make: &Make) -> Result<u8, OciError> {
    if make.detach {
        create(root, make)?;
        let started = start(root, &make.id);
        if started.is_err() {
            delete(root, &make.id, true)?;
        }
        return started.map(|()| 0);
    }
    let mut making = Making::begin(root, make, false)?;
    hold_signals().map_err(system("hold signals"))?;
    let created = making.launch(&Gate::Supervisor, &make.place)?;
    let mut running = created.start().map_err(OciError::Launch)?;
    let terminal = running.pty_master.take();
    let process = running.pidfd.try_clone().map_err(file("copy", making.dir.path()))?;
    // While the container runs, so that it costs nobody's time.
    let sweeper = Sweeper::start(running, making.translated.layer.take());
    let status = until_end(&process, terminal).map_err(system("wait for the container"));
    if status.is_err() {
        // Nobody would wait for it any more.
        pidfd_send_signal(process.as_fd(), SIGKILL).ok();
    }
    drop(making);
    drop(sweeper);
    status
}

/// A copy of this process that takes down what nobody has to wait for: the container's mounts and its
/// writable layer. It begins when this process has ended.
#[derive(Debug)]
struct Sweeper {
    /// Whose closing is the sign.
    _sign: Option<io::PipeWriter>,
    /// What this process has of it, and closes last.
    rest: Option<(Running, Option<PathBuf>)>,
}

impl Sweeper {
    /// Without a copy, because there can be no more processes, this one sweeps itself.
    fn start(running: Running, layer: Option<PathBuf>) -> Self {
        let mut rest = Some((running, layer));
        let Ok((mut sign, writer)) = io::pipe() else { return Self { _sign: None, rest } };
        let mut writer = Some(writer);
        let forked = fork(|| {
            writer = None;
            // Callers that read to the end of our output must not wait for this copy.
            let silent = silence();
            io::Read::read(&mut sign, &mut [0]).ok();
            if let Some((running, layer)) = rest.take() {
                drop(running);
                sweep(layer.as_deref());
            }
            i32::from(silent.is_err())
        });
        if forked.is_ok()
            && let Some((_, layer)) = &mut rest
        {
            *layer = None;
        }
        Self { _sign: writer, rest }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some((_, layer)) = &self.rest {
            sweep(layer.as_deref());
        }
    }
}

fn sweep(layer: Option<&Path>) {
    // What is left behind has a name that is never used again.
    layer.map(fs::remove_dir_all).transpose().ok();
}

/// Puts the null device in place of the standard streams.
fn silence() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    (0..=2).try_for_each(|number| {
        set_standard_stream(null.as_fd(), number).map_err(|error| io::Error::from(error.errno))
    })
}

/// Builds a container up to its gate and leaves it there.
pub(super) fn create(root: &Path, make: &Make) -> Result<(), OciError> {
    let mut making = Making::begin(root, make, true)?;
    if making.translated.spec.process.terminal && make.place.console_socket.is_none() {
        return Err(OciError::NoTerminal);
    }
    let gate = Gate::Socket(listen_at(&making.dir.gate())?);
    let created = making.launch(&gate, &make.place)?;
    created.leave();
    making.whole = true;
    Ok(())
}

fn gate_socket() -> Result<OwnedFd, OciError> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
        .map_err(system("make a socket"))
}

/// Calls `with` with an address of the gate that is short however long its path is.
fn at_gate<T>(path: &Path, with: impl FnOnce(&UnixAddr) -> Result<T, Errno>) -> Result<T, OciError> {
    let dir = path.parent().unwrap_or(path);
    let opened = File::open(dir).map_err(file("open", dir))?;
    let short = format!("/proc/self/fd/{}/gate", std::os::fd::AsRawFd::as_raw_fd(&opened));
    UnixAddr::new(short.as_str())
        .and_then(|address| with(&address))
        .map_err(|errno| file("use the gate", path)(errno.into()))
}

fn listen_at(path: &Path) -> Result<OwnedFd, OciError> {
    let listener = gate_socket()?;
    at_gate(path, |address| {
        bind(std::os::fd::AsRawFd::as_raw_fd(&listener), address)?;
        listen(&listener, Backlog::new(1)?)
    })?;
    Ok(listener)
}

/// Lets a container through its gate.
pub(super) fn start(root: &Path, id: &str) -> Result<(), OciError> {
    let dir = StateDir::new(root, id);
    let state = dir.read()?;
    require(&dir, id, state.as_ref(), &[Status::Created], "created")?;
    let connection = gate_socket()?;
    let path = dir.gate();
    at_gate(&path, |address| connect(std::os::fd::AsRawFd::as_raw_fd(&connection), address))?;
    // One start is all there is; and from here on it counts as running.
    fs::remove_file(&path).map_err(file("remove", &path))?;
    open_gate(connection).map_err(OciError::Launch)
}

/// Makes sure that a container has one of these statuses.
fn require(
    dir: &StateDir,
    id: &str,
    state: Option<&State>,
    statuses: &[Status],
    wanted: &'static str,
) -> Result<(), OciError> {
    let status = dir.status(state)?;
    if statuses.contains(&status) {
        return Ok(());
    }
    let status = match status {
        Status::Creating => "being created",
        Status::Created => "created",
        Status::Running => "running",
        Status::Stopped => "stopped",
    };
    Err(OciError::Status { id: id.to_owned(), status, wanted })
}

/// Tells a container's state, as JSON.
pub(super) fn describe(root: &Path, id: &str) -> Result<String, OciError> {
    StateDir::new(root, id).describe().map_err(Into::into)
}

/// Tells the ids and statuses of all containers, one a line.
pub(super) fn list(root: &Path) -> Result<String, OciError> {
    let mut lines = Vec::new();
    for id in state::list(root)? {
        let dir = StateDir::new(root, &id);
        let state = match dir.read() {
            // It went between the two looks.
            Err(StateError::Missing(_)) => continue,
            other => other?,
        };
        let status = format!("{:?}", dir.status(state.as_ref())?).to_lowercase();
        lines.push(format!("{id} {status}"));
    }
    Ok(lines.join("\n"))
}

/// Signals a container's first process, or with `all` every process of it.
pub(super) fn kill(root: &Path, id: &str, signal: &str, all: bool) -> Result<(), OciError> {
    let number = names::signal(signal).ok_or_else(|| OciError::Signal(signal.to_owned()))?;
    let dir = StateDir::new(root, id);
    let state = dir.read()?;
    require(&dir, id, state.as_ref(), &[Status::Created, Status::Running], "running")?;
    let Some(state) = state else { return Ok(()) };
    let group = Cgroup::open(&state.layout, &state.cgroup);
    match (all, group) {
        (true, Ok(group)) if number == SIGKILL => group.kill().map_err(Into::into),
        (true, Ok(group)) => group.pids()?.into_iter().try_for_each(|pid| signal_pid(pid, number)),
        _ => signal_init(&state, number),
    }
}

fn signal_pid(pid: i32, number: i32) -> Result<(), OciError> {
    match wharf_sys::process::pidfd_open(pid).and_then(|pidfd| pidfd_send_signal(pidfd.as_fd(), number)) {
        Err(error) if error.errno != Errno::ESRCH => Err(system("signal a process")(error.errno)),
        _ => Ok(()),
    }
}

fn signal_init(state: &State, number: i32) -> Result<(), OciError> {
    let pidfd = state.init.open().map_err(file("find the process of", &state.bundle))?;
    let Some(pidfd) = pidfd else { return Ok(()) };
    match pidfd_send_signal(pidfd.as_fd(), number) {
        Err(error) if error.errno != Errno::ESRCH => Err(system("signal the container")(error.errno)),
        _ => Ok(()),
    }
}

/// Removes what is left of a container; with `force` also one that runs, or is not there.
pub(super) fn delete(root: &Path, id: &str, force: bool) -> Result<(), OciError> {
    let dir = StateDir::new(root, id);
    let state = match dir.read() {
        Err(StateError::Missing(_)) if force => return Ok(()),
        other => other?,
    };
    let status = dir.status(state.as_ref())?;
    match (&state, force) {
        (Some(state), true) if status != Status::Stopped => end(state)?,
        // Its maker is gone, or about to fail: both take the name back.
        (None, true) => {}
        _ => require(&dir, id, state.as_ref(), &[Status::Stopped], "stopped")?,
    }
    if let Some(state) = &state {
        remove_rest(state)?;
    }
    dir.remove().map_err(Into::into)
}

/// Kills a container and waits for its end.
fn end(state: &State) -> Result<(), OciError> {
    let pidfd = state.init.open().map_err(file("find the process of", &state.bundle))?;
    let Some(pidfd) = pidfd else { return Ok(()) };
    signal_init(state, SIGKILL)?;
    let mut wanted = [nix::poll::PollFd::new(pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
    match nix::poll::poll(&mut wanted, nix::poll::PollTimeout::from(10_000_u16)) {
        Ok(0) => Err(system("wait for the container's end")(Errno::ETIMEDOUT)),
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(system("wait for the container's end")(errno)),
    }
}

fn remove_rest(state: &State) -> Result<(), OciError> {
    match Cgroup::open(&state.layout, &state.cgroup) {
        Ok(group) => {
            // Processes that joined it may have outlived its first.
            group.kill()?;
            group.remove_when_empty()?;
        }
        Err(CgroupError::Missing(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let Some(layer) = &state.layer else { return Ok(()) };
    match fs::remove_dir_all(layer) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", layer)(error)),
        _ => Ok(()),
    }
}

/// Runs a further process in a container and returns its exit status; detached, only up to its start.
pub(super) fn exec(root: &Path, exec: &Exec) -> Result<u8, OciError> {
    let dir = StateDir::new(root, &exec.id);
    let state = dir.read()?;
    require(&dir, &exec.id, state.as_ref(), &[Status::Running, Status::Created], "running")?;
    let Some(state) = state else { return Ok(0) };
    if state.id_map.is_none() {
        protect().map_err(OciError::Protect)?;
    }
    if Cgroup::open(&state.layout, &state.cgroup)?.is_frozen().unwrap_or(false) {
        return Err(OciError::Frozen(exec.id.clone()));
    }
    let spec = exec_spec(exec, &state)?;
    if spec.process.terminal && exec.detach && exec.place.console_socket.is_none() {
        return Err(OciError::NoTerminal);
    }
    let init = state.init.open().map_err(file("find the process of", dir.path()))?;
    let Some(init) = init else { return Err(StateError::Missing(exec.id.clone()).into()) };
    let target = ExecTarget::new(init, state.cgroup.clone(), state.id_map);
    let stdio = if spec.process.terminal { Stdio::default() } else { own_streams()? };
    hold_signals().map_err(system("hold signals"))?;
    let mut started = exec_in(&state.layout, &target, &spec, stdio, exec.detach)
        .map_err(|source| OciError::Exec { id: exec.id.clone(), source })?;
    report(&exec.place, started.pid, &mut started.pty_master)?;
    if exec.detach {
        return Ok(0);
    }
    until_end(&started.pidfd, started.pty_master).map_err(system("wait for the process"))
}

/// Describes the process: as a file says, or as the container's first with what the caller changes.
fn exec_spec(exec: &Exec, state: &State) -> Result<ExecSpec, OciError> {
    let path = state.bundle.join("config.json");
    let config: Config = read_json(&path, |_| Ok(()))?;
    let (process, path) = match &exec.process {
        Some(path) => (read_json(path, |_| Ok(()))?, path.clone()),
        None => (changed(config.process.unwrap_or_default(), exec)?, path),
    };
    let none = Linux::default();
    let process = process_spec(&process, config.linux.as_ref().unwrap_or(&none))
        .map_err(|source| OciError::Config { path, source })?;
    Ok(ExecSpec { version: SPEC_VERSION, exec_id: "oci".to_owned(), process })
}

fn changed(mut process: Process, exec: &Exec) -> Result<Process, OciError> {
    process.args.clone_from(&exec.args);
    process.terminal = exec.terminal;
    process.console_size = None;
    process.env.extend(exec.env.iter().cloned());
    if let Some(cwd) = &exec.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &exec.user {
        let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
        let number = |text: &str| text.parse::<u32>().map_err(|_not_a_number| OciError::User(user.clone()));
        process.user.uid = number(uid)?;
        process.user.gid = number(gid)?;
        process.user.additional_gids.clear();
    }
    Ok(process)
}
