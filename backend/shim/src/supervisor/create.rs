//! The beginning: one supervisor per container, one run per start, and the container up to its gate.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::time::Instant;

use wharf_runtime::LaunchError;
use wharf_runtime::cgroup::{Cgroup, CgroupError, Layout, LayoutError};
use wharf_runtime::launch::{Gate, Stdio};
use wharf_runtime::spec::{LaunchSpec, SpecError};
use wharf_runtime::usage::{Depth, UsageError, UsageReader};
use wharf_shim::connection::{ConnectionError, Listener};
use wharf_shim::exit::{ExitRecord, ExitRecordError};
use wharf_shim::failpoint;
use wharf_shim::logfile::{LogError, LogWriter};
use wharf_shim::memfd::{SpecFileError, read_spec};
use wharf_shim::paths::{RunDir, StateDir};
use wharf_shim::process_ref::ProcessRef;
use wharf_shim::protocol::Phase;
use wharf_shim::state::{STATE_VERSION, StateError, StateFile, boot_id};

use super::{Life, Supervisor};
use crate::exec::Execs;
use crate::host;
use crate::oom::OomWatch;
use crate::output::{Streams, new_buffer};

/// Why a container was not created.
#[derive(Debug, thiserror::Error)]
pub(super) enum CreateError {
    #[error(transparent)]
    SpecFile(#[from] SpecFileError),
    #[error("could not decode the spec")]
    Decode(#[source] SpecError),
    #[error("the spec is that of container {id}, start {generation}")]
    ForeignSpec { id: String, generation: u64 },
    #[error("could not make the run directory")]
    RunDirectory(#[source] io::Error),
    #[error("another shim supervises the container")]
    Supervised,
    #[error("the first process of an earlier start still runs with pid {pid}")]
    StillRuns { pid: i32 },
    #[error("this start has already ended")]
    AlreadyEnded,
    #[error("this start ran already and lost its supervisor")]
    Lost,
    #[error(transparent)]
    ExitRecord(#[from] ExitRecordError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("could not read own facts from /proc")]
    Proc(#[source] io::Error),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("could not make the standard streams")]
    Streams(#[source] io::Error),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("could not build the container")]
    Launch(#[source] LaunchError),
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("could not listen")]
    Listen(#[source] ConnectionError),
}

impl CreateError {
    /// One word for the protocol.
    pub(super) fn stage(&self) -> &'static str {
        match self {
            Self::SpecFile(_) | Self::Decode(_) | Self::ForeignSpec { .. } => "spec",
            Self::Supervised | Self::StillRuns { .. } | Self::AlreadyEnded | Self::Lost => "duplicate",
            Self::Launch(_) => "launch",
            Self::Layout(_) | Self::Cgroup(_) | Self::Usage(_) => "cgroup",
            Self::Log(_) => "log",
            Self::RunDirectory(_)
            | Self::ExitRecord(_)
            | Self::State(_)
            | Self::Proc(_)
            | Self::Streams(_)
            | Self::Listen(_) => "shim",
        }
    }
}

/// Builds the container up to the gate of its first process.
pub(super) fn create(id: &str, generation: u64, spec: OwnedFd) -> Result<Supervisor, CreateError> {
    let spec = LaunchSpec::decode(&read_spec(spec)?).map_err(CreateError::Decode)?;
    if spec.id != id || spec.generation != generation {
        return Err(CreateError::ForeignSpec { id: spec.id, generation: spec.generation });
    }
    let run_dir = RunDir::new(&spec.run_dir);
    let lock = claim(&run_dir, &spec)?;
    let state = StateFile {
        version: STATE_VERSION,
        id: spec.id.clone(),
        generation,
        boot_id: boot_id().map_err(CreateError::Proc)?,
        shim: ProcessRef::current().map_err(CreateError::Proc)?,
        init: None,
        phase: Phase::Creating,
        cgroup: spec.cgroup.clone(),
        pipes: [None; 3],
    };
    state.write(&run_dir)?;
    failpoint::reach("shim.start.claimed");
    build(&spec, state, lock).inspect_err(|_| {
        // Without its file the container is unknown, which is what it is now.
        std::fs::remove_file(run_dir.shim_socket()).ok();
        std::fs::remove_file(run_dir.state_file()).ok();
    })
}

fn build(spec: &LaunchSpec, mut state: StateFile, lock: File) -> Result<Supervisor, CreateError> {
    let run_dir = RunDir::new(&spec.run_dir);
    let layout = host::layout()?;
    let (mut streams, theirs) = Streams::new(&spec.process).map_err(CreateError::Streams)?;
    state.pipes = pipes(&theirs).map_err(CreateError::Streams)?;
    let mut tools = None;
    let mut meanwhile = || tools = Some(Tools::open(layout, spec, &run_dir));
    // From here on an early return ends the container: that is what dropping it does.
    let mut created =
        wharf_runtime::launch::create_in(layout, spec, theirs, &Gate::Supervisor, &mut meanwhile)
            .map_err(CreateError::Launch)?;
    failpoint::reach("shim.start.built");
    // One that was restored was not waited for.
    let tools = tools.unwrap_or_else(|| Tools::open(layout, spec, &run_dir));
    let Tools { cgroup, usage, oom, log, listener } = tools?;
    let init = ProcessRef { pid: created.pid, start_time_ticks: created.start_time_ticks };
    state.init = Some(init);
    state.phase = Phase::Created;
    state.write(&run_dir)?;
    failpoint::reach("shim.start.recorded");
    if let Some(master) = created.pty_master.take() {
        streams.add_terminal(master).map_err(CreateError::Streams)?;
    }
    Ok(Supervisor {
        state,
        run_dir,
        state_dir: StateDir::new(&spec.state_dir),
        _lock: lock,
        listener,
        agent: None,
        nobody_since: Instant::now(),
        undelivered: VecDeque::new(),
        init,
        init_pidfd: created.pidfd.try_clone().map_err(CreateError::Proc)?,
        init_cpu: None,
        network: created.netns.take(),
        cgroup,
        usage,
        oom,
        streams,
        log,
        buffer: new_buffer(),
        execs: Execs::default(),
        life: Life::Created(Box::new(created)),
    })
}

/// What a supervisor works with, and its first process has no need of.
struct Tools {
    cgroup: Cgroup,
    usage: UsageReader,
    oom: OomWatch,
    log: LogWriter,
    listener: Listener,
}

impl Tools {
    /// Before anything of the container runs: what is counted from here on is its own.
    fn open(layout: &Layout, spec: &LaunchSpec, run_dir: &RunDir) -> Result<Self, CreateError> {
        let cgroup = Cgroup::open(layout, &spec.cgroup)?;
        let usage = UsageReader::open(layout, &spec.cgroup)?;
        let oom = OomWatch::open(&cgroup, usage.read(Depth::Live).counters.oom_kills);
        let log = LogWriter::open(&spec.log)?;
        let listener = Listener::bind(&run_dir.shim_socket()).map_err(CreateError::Listen)?;
        failpoint::reach("shim.start.listening");
        Ok(Self { cgroup, usage, oom, log, listener })
    }
}

/// What names the container's standard streams to CRIU.
fn pipes(streams: &Stdio) -> io::Result<[Option<u64>; 3]> {
    let inode = |fd: &Option<OwnedFd>| fd.as_ref().map(rustix::fs::fstat).transpose();
    let [stdin, stdout, stderr] = [inode(&streams.stdin)?, inode(&streams.stdout)?, inode(&streams.stderr)?];
    Ok([stdin, stdout, stderr].map(|stat| stat.map(|stat| stat.st_ino)))
}

/// Makes sure that this is the only shim of the container, and that this start is a new one.
fn claim(run_dir: &RunDir, spec: &LaunchSpec) -> Result<File, CreateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(run_dir.path())
        .map_err(CreateError::RunDirectory)?;
    let lock = File::open(run_dir.path()).map_err(CreateError::RunDirectory)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(CreateError::Supervised),
        Err(TryLockError::Error(error)) => return Err(CreateError::RunDirectory(error)),
    }
    let state_dir = StateDir::new(&spec.state_dir);
    if ExitRecord::read(&state_dir, &spec.id, spec.generation)?.is_some() {
        return Err(CreateError::AlreadyEnded);
    }
    let earlier = match StateFile::read(run_dir, &spec.id) {
        Ok(Some(earlier)) => earlier,
        // Pids of an earlier boot mean nothing.
        Ok(None) | Err(StateError::EarlierBoot { .. }) => return Ok(lock),
        Err(error) => return Err(error.into()),
    };
    if let Some(init) = earlier.init
        && init.is_alive().map_err(CreateError::Proc)?
    {
        return Err(CreateError::StillRuns { pid: init.pid });
    }
    let has_run = matches!(earlier.phase, Phase::Running | Phase::Exited);
    if has_run && earlier.generation == spec.generation {
        return Err(CreateError::Lost);
    }
    Ok(lock)
}
