//! The real forge and real shims with real containers: what an agent relies on, also when it dies.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::chown;

use crate::support::{Host, SOON, exec_spec, read_until, wait_until};
use rustix::process::{Signal, pidfd_send_signal};
use wharf_runtime::cgroup::Controller;
use wharf_runtime::spec::{IdMap, LaunchSpec};
use wharf_runtime::usage::Measured;
use wharf_shim::client::{ClientError, ExecStdio, connect_shim};
use wharf_shim::connection::ConnectionError;
use wharf_shim::exit::ExitStatus;
use wharf_shim::logfile::{Stream, segments};
use wharf_shim::paths::RunDir;
use wharf_shim::process_ref::ProcessRef;
use wharf_shim::protocol::{Notice, Phase, Request};
use wharf_shim::state::{STATE_VERSION, StateFile, boot_id};

const TERM: i32 = 15;
const KILL: i32 = 9;

#[test]
fn a_container_lives_from_creation_to_its_exit_record() {
    let mut host = Host::new();
    let work = "echo out; echo err >&2; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7";
    let spec = host.spec(&["sh", "-c", work]);
    let mut container = host.create(&spec);

    let state = StateFile::read(&container.run_dir, &spec.id).expect("believed").expect("there");
    assert_eq!((state.phase, state.init), (Phase::Created, Some(container.init)));
    assert_eq!(state.shim, container.shim_process);
    assert_eq!(container.output(Stream::Stdout), "", "nothing runs before it is started");

    container.shim.done(Request::Start, &[]).expect("start");
    assert_eq!(container.notice(), Notice::Started);
    assert_eq!(container.notice(), Notice::Exited { status: ExitStatus::Code(7), oom_killed: false });
    assert_eq!(container.output(Stream::Stdout), "out\n");
    assert_eq!(container.output(Stream::Stderr), "err\n");

    let record = container.record();
    assert_eq!((record.status, record.oom_killed), (ExitStatus::Code(7), false));
    let started = record.started.expect("was started");
    assert!(started.boot_ns < record.exited.boot_ns && record.exited.boot_ns <= record.reading.boot_ns);
    assert!(matches!(record.reading.counters.cpu_usage_ns, Measured::Value(1_000_000..)), "{record:?}");
    assert!(matches!(record.reading.counters.memory_peak_bytes, Measured::Value(1..)), "{record:?}");

    let (report, _) = container.shim.state().expect("state");
    assert_eq!((report.phase, report.exit), (Phase::Exited, Some(ExitStatus::Code(7))));
    container.shim.done(Request::Release, &[]).expect("release");
    wait_until("the shim is gone", || !container.shim_process.is_alive().expect("stat"));
    assert!(!container.run_dir.state_file().exists() && !container.run_dir.shim_socket().exists());
}

/// Attacks: A3.
#[test]
fn the_program_finds_no_signal_blocked_or_ignored_and_no_stray_descriptor() {
    let mut host = Host::new();
    let look = "grep -E '^(SigBlk|SigIgn)' /proc/self/status; (echo /proc/1/fd/*); true";
    let spec = host.spec(&["sh", "-c", look]);
    let mut container = host.start(&spec);
    assert_eq!(container.wait(), ExitStatus::Code(0));
    let output = container.output(Stream::Stdout);
    // Signals 32 and 33 belong to the C library: posix_spawn ignores them in every child, and nobody
    // but the library itself may change that.
    let output = output.replace("SigIgn:\t0000000180000000", "SigIgn:\t0000000000000000");
    let zero = "0".repeat(16);
    let expected = format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n/proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2\n");
    assert_eq!(output, expected);
}

#[test]
fn standard_input_reaches_the_program_until_it_is_closed() {
    let mut host = Host::new();
    let mut spec = host.spec(&["cat"]);
    spec.process.stdin = true;
    let mut container = host.start(&spec);
    let mut stdin = File::from(container.shim.stdin().expect("stdin"));
    stdin.write_all(b"hello\n").expect("write");
    container.wait_for_output("hello\n");
    drop(stdin);
    container.shim.done(Request::CloseStdin, &[]).expect("close");
    assert_eq!(container.wait(), ExitStatus::Code(0));
    let refused = container.shim.stdin().expect_err("closed");
    assert!(matches!(refused, ClientError::Refused(_)), "{refused}");
}

#[test]
fn a_tenants_user_opens_its_standard_streams_again() {
    let mut host = Host::new();
    let mut spec =
        host.spec(&["sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr; cat < /dev/stdin"]);
    spec.id_map = Some(IdMap { host_base: 1_900_000_000, size: 65_536 });
    spec.process.user = "1000:1000".to_owned();
    spec.process.stdin = true;
    for name in ["upper", "work"] {
        chown(spec.rootfs.writable.join(name), Some(1_900_000_000), Some(1_900_000_000)).expect("chown");
    }
    let mut container = host.start(&spec);
    let mut stdin = File::from(container.shim.stdin().expect("stdin"));
    stdin.write_all(b"in\n").expect("write");
    drop(stdin);
    container.shim.done(Request::CloseStdin, &[]).expect("close");
    assert_eq!(container.wait(), ExitStatus::Code(0), "{}", container.output(Stream::Stderr));
    assert_eq!(container.output(Stream::Stdout), "out\nin\n");
    assert_eq!(container.output(Stream::Stderr), "err\n");
}

#[test]
fn an_init_of_ours_reaps_forwards_and_ends_like_its_program() {
    let mut host = Host::new();
    let mut spec =
        host.spec(&["sh", "-c", "trap 'echo term; exit 5' TERM; echo $$; while :; do sleep 0.05; done"]);
    spec.init = true;
    let mut container = host.start(&spec);
    container.wait_for_output("2\n");
    container.shim.done(Request::Signal { signo: TERM, all: false }, &[]).expect("signal");
    assert_eq!(container.wait(), ExitStatus::Code(5));

    let mut spec = host.spec(&["sleep", "1000"]);
    spec.init = true;
    let container = host.start(&spec);
    let shim = container.shim_process.open().expect("pidfd").expect("runs");
    pidfd_send_signal(shim, Signal::KILL).expect("kill");
    wait_until(
        "the init holds no socket of the dead shim",
        || matches!(connect_shim(&container.run_dir), Err(ClientError::Connection(error)) if error.nobody_listens()),
    );
}

#[test]
fn an_exec_joins_the_container_with_its_own_streams_and_status() {
    let mut host = Host::new();
    let spec = host.spec(&["sleep", "1000"]);
    let mut container = host.start(&spec);
    let (mut reader, writer) = std::io::pipe().expect("pipe");
    let spec = exec_spec("e1", &["sh", "-c", "echo $$ $PPID; cat /proc/1/cmdline; exit 3"]);
    let stdio = ExecStdio { stdout: Some(writer.as_fd()), ..ExecStdio::default() };
    let (pid, master) = container.shim.exec(&spec, stdio).expect("exec");
    assert!(pid > 1 && master.is_none());
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read");
    assert!(text.ends_with(" 0\nsleep\x001000\0"), "a process of the same pid namespace: {text:?}");
    assert_eq!(
        container.notice(),
        Notice::ExecExited { exec_id: "e1".to_owned(), status: ExitStatus::Code(3) }
    );

    container.shim.exec(&exec_spec("e2", &["sleep", "1000"]), ExecStdio::default()).expect("exec");
    let twice = container.shim.exec(&exec_spec("e2", &["true"]), ExecStdio::default());
    assert!(matches!(twice, Err(ClientError::Refused(_))));
    let signal = Request::ExecSignal { exec_id: "e2".to_owned(), signo: KILL };
    container.shim.done(signal, &[]).expect("signal");
    let ended = Notice::ExecExited { exec_id: "e2".to_owned(), status: ExitStatus::Signal(KILL) };
    assert_eq!(container.notice(), ended);

    // Execs end with the container, and are told before it.
    container.shim.exec(&exec_spec("e3", &["sleep", "1000"]), ExecStdio::default()).expect("exec");
    container.shim.done(Request::Signal { signo: KILL, all: false }, &[]).expect("signal");
    let ended = Notice::ExecExited { exec_id: "e3".to_owned(), status: ExitStatus::Signal(KILL) };
    assert_eq!(container.notice(), ended);
    assert_eq!(container.wait(), ExitStatus::Signal(KILL));
}

#[test]
fn an_exec_of_a_missing_program_is_refused_and_leaves_nothing() {
    let mut host = Host::new();
    let spec = host.spec(&["sleep", "1000"]);
    let mut container = host.start(&spec);
    let missing = container.shim.exec(&exec_spec("e1", &["/no/such/program"]), ExecStdio::default());
    match missing {
        Err(ClientError::Refused(failure)) => assert_eq!(failure.errno, 2, "{failure:?}"),
        other => panic!("{other:?}"),
    }
    let (report, _) = container.shim.state().expect("state");
    assert_eq!((report.phase, report.execs.len()), (Phase::Running, 0));
}

#[test]
fn a_terminal_belongs_to_the_container_and_its_output_to_the_log() {
    let mut host = Host::new();
    let mut spec = host.spec(&["sh", "-c", "tty; stty size; read line; echo got $line"]);
    spec.process.terminal = true;
    spec.process.terminal_size = Some((33, 77));
    let mut container = host.start(&spec);
    container.wait_for_output("33 77\r\n");
    let mut master = File::from(container.shim.stdin().expect("master"));
    master.write_all(b"abc\n").expect("write");
    assert_eq!(container.wait(), ExitStatus::Code(0));
    let output = container.output(Stream::Stdout);
    assert!(output.starts_with("/dev/") && output.ends_with("got abc\r\n"), "{output:?}");
}

#[test]
fn an_exec_with_a_terminal_is_read_by_the_agent() {
    let mut host = Host::new();
    let spec = host.spec(&["sleep", "1000"]);
    let mut container = host.start(&spec);
    let mut exec = exec_spec("e1", &["sh", "-c", "stty size; read line; echo got $line"]);
    exec.process.terminal = true;
    exec.process.terminal_size = Some((11, 22));
    let (_, master) = container.shim.exec(&exec, ExecStdio::default()).expect("exec");
    let mut master = File::from(master.expect("a terminal"));
    read_until(&master, "11 22\r\n");
    master.write_all(b"abc\n").expect("write");
    read_until(&master, "got abc\r\n");
    let ended = Notice::ExecExited { exec_id: "e1".to_owned(), status: ExitStatus::Code(0) };
    assert_eq!(container.notice(), ended);
}

#[test]
fn signals_reach_the_first_process_or_all() {
    let mut host = Host::new();
    let spec =
        host.spec(&["sh", "-c", "trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.05; done"]);
    let mut container = host.start(&spec);
    container.wait_for_output("ready");
    container.shim.done(Request::Signal { signo: TERM, all: false }, &[]).expect("signal");
    assert_eq!(container.wait(), ExitStatus::Code(5));
    assert!(container.output(Stream::Stdout).ends_with("term\n"));

    let spec = host.spec(&["sh", "-c", "sh -c 'sleep 1000; echo not reached' & sleep 1000"]);
    let mut container = host.start(&spec);
    let cgroup = host.cgroup(&spec);
    wait_until("three processes", || cgroup.pids().expect("pids").len() >= 3);
    let nonsense = container.shim.done(Request::Signal { signo: 1000, all: false }, &[]);
    assert!(matches!(nonsense, Err(ClientError::Refused(_))));
    container.shim.done(Request::Signal { signo: KILL, all: true }, &[]).expect("signal");
    assert_eq!(container.wait(), ExitStatus::Signal(KILL));
    assert!(cgroup.is_empty().expect("cgroup"), "the rest is gone when the end is told");
}

#[test]
fn a_container_that_is_killed_at_its_gate_has_a_record_without_a_start() {
    let mut host = Host::new();
    let spec = host.spec(&["true"]);
    let mut container = host.create(&spec);
    container.shim.done(Request::Signal { signo: KILL, all: false }, &[]).expect("signal");
    assert_eq!(container.wait(), ExitStatus::Signal(KILL));
    assert_eq!(container.record().started, None);
}

#[test]
fn a_program_that_cannot_be_executed_fails_the_start_and_is_recorded() {
    let mut host = Host::new();
    let spec = host.spec(&["/no/such/program"]);
    let mut container = host.create(&spec);
    match container.shim.done(Request::Start, &[]) {
        Err(ClientError::Refused(failure)) => assert_eq!(failure.errno, 2, "{failure:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(container.wait(), ExitStatus::Code(127));
    assert_eq!(container.record().started, None);
}

#[test]
fn an_agent_that_comes_back_finds_the_container_and_what_it_missed() {
    let mut host = Host::new();
    let work = "trap 'echo after; exit 4' TERM; echo before; while :; do sleep 0.05; done";
    let spec = host.spec(&["sh", "-c", work]);
    let mut container = host.start(&spec);
    container.wait_for_output("before");
    container
        .shim
        .exec(&exec_spec("e1", &["sh", "-c", "sleep 0.3; exit 6"]), ExecStdio::default())
        .expect("exec");
    let run_dir = container.run_dir.clone();
    let (shim_process, init) = (container.shim_process, container.init);
    drop(container.shim);
    wait_until("the exec ended", || host.cgroup(&spec).pids().expect("pids").len() <= 2);

    let mut shim = connect_shim(&run_dir).expect("the shim listens");
    assert_eq!(shim.connection().peer_pid().expect("peer"), shim_process.pid);
    let (report, network) = shim.state().expect("state");
    assert_eq!(
        (report.phase, report.pid, report.start_time_ticks),
        (Phase::Running, init.pid, init.start_time_ticks)
    );
    assert_eq!((report.id.as_str(), report.generation), (spec.id.as_str(), 1));
    assert!(network.is_some());
    let missed = Notice::ExecExited { exec_id: "e1".to_owned(), status: ExitStatus::Code(6) };
    assert_eq!(shim.next_notice(SOON).expect("notice").0, missed);

    let mut newest = connect_shim(&run_dir).expect("the shim listens");
    newest.state().expect("state");
    let closed = shim.next_notice(SOON).expect_err("the newest connection wins");
    assert!(matches!(closed, ClientError::Connection(ConnectionError::Closed)), "{closed}");

    // Nobody is connected when it ends: the record is on disk, and the shim goes by itself.
    drop(newest);
    let init = init.open().expect("pidfd").expect("runs");
    pidfd_send_signal(init, Signal::TERM).expect("signal");
    wait_until("the shim is gone", || !shim_process.is_alive().expect("stat"));
    let refused = connect_shim(&run_dir).expect_err("gone");
    assert!(matches!(refused, ClientError::Connection(error) if error.nobody_listens()));
    let dir = wharf_shim::paths::StateDir::new(&spec.state_dir);
    let record = wharf_shim::exit::ExitRecord::read(&dir, &spec.id, 1).expect("believed").expect("there");
    assert_eq!(record.status, ExitStatus::Code(4));
    let again = host.forge.launch(&spec).expect("launch").1.next_notice(SOON).expect("notice").0;
    assert!(matches!(&again, Notice::CreateFailed(failure) if failure.stage == "duplicate"), "{again:?}");
}

#[test]
fn a_killed_shim_leaves_a_container_that_its_state_file_finds() {
    let mut host = Host::new();
    let spec = host.spec(&["sleep", "1000"]);
    let container = host.start(&spec);
    let shim = container.shim_process.open().expect("pidfd").expect("runs");
    pidfd_send_signal(shim, Signal::KILL).expect("kill");
    wait_until("the shim is gone", || !container.shim_process.is_alive().expect("stat"));

    let refused = connect_shim(&container.run_dir).expect_err("gone");
    assert!(matches!(refused, ClientError::Connection(error) if error.nobody_listens()));
    let state = StateFile::read(&container.run_dir, &spec.id).expect("believed").expect("there");
    assert!(!state.shim.is_alive().expect("stat"));
    // The kernel ends the first process with its parent (PR_SET_PDEATHSIG), unless the program has
    // asked it not to: then the group's kill does.
    let init = state.init.expect("created");
    host.cgroup(&spec).kill().expect("kill");
    wait_until("the container is gone", || !init.is_alive().expect("stat"));

    // What ran once does not run again as the same start, but the next start may come.
    let again = host.forge.launch(&spec).expect("launch").1.next_notice(SOON).expect("notice").0;
    assert!(matches!(&again, Notice::CreateFailed(failure) if failure.stage == "duplicate"), "{again:?}");
    // A group that was killed once kills whatever is born into it (seen on Linux 6.18), so each start
    // gets a new one.
    host.renew_cgroup(&spec);
    let next = LaunchSpec { generation: 2, ..spec };
    let mut container = host.start(&next);
    container.shim.done(Request::Signal { signo: KILL, all: false }, &[]).expect("signal");
    container.wait();
    assert_eq!(container.record().generation, 2);
}

/// Attacks: A6.
#[test]
fn a_container_whose_first_process_still_runs_is_not_started_anew() {
    let mut host = Host::new();
    let spec = host.spec(&["true"]);
    let run_dir = RunDir::new(&spec.run_dir);
    fs::create_dir_all(run_dir.path()).expect("run dir");
    let this = ProcessRef::current().expect("stat");
    let dead = ProcessRef { start_time_ticks: this.start_time_ticks + 1, ..this };
    let state = StateFile {
        version: STATE_VERSION,
        id: spec.id.clone(),
        generation: 0,
        boot_id: boot_id().expect("boot id"),
        shim: dead,
        init: Some(this),
        phase: Phase::Running,
        cgroup: spec.cgroup.clone(),
        pipes: [None; 3],
    };
    state.write(&run_dir).expect("write");
    let notice = host.forge.launch(&spec).expect("launch").1.next_notice(SOON).expect("notice").0;
    assert!(matches!(&notice, Notice::CreateFailed(failure) if failure.stage == "duplicate"), "{notice:?}");
    StateFile { init: Some(dead), ..state }.write(&run_dir).expect("write");
    assert_eq!(host.start(&spec).wait(), ExitStatus::Code(0));
}

#[test]
fn a_shim_that_is_killed_before_the_start_leaves_no_process() {
    let mut host = Host::new();
    let spec = host.spec(&["sleep", "1000"]);
    let container = host.create(&spec);
    let shim = container.shim_process.open().expect("pidfd").expect("runs");
    pidfd_send_signal(shim, Signal::KILL).expect("kill");
    wait_until("the waiting process is gone", || !container.init.is_alive().expect("stat"));
}

#[test]
fn a_launch_is_done_once_and_only_with_its_own_spec() {
    let mut host = Host::new();
    let spec = host.spec(&["sleep", "1000"]);
    let mut container = host.start(&spec);
    let again = host.forge.launch(&spec).expect("launch").1.next_notice(SOON).expect("notice").0;
    assert!(matches!(&again, Notice::CreateFailed(failure) if failure.stage == "duplicate"), "{again:?}");
    assert_eq!(container.shim.state().expect("state").0.phase, Phase::Running);

    let spec = host.spec(&["true"]);
    let (own, theirs) = wharf_shim::connection::Connection::pair().expect("pair");
    let sealed = wharf_shim::memfd::seal_spec(&spec.encode().expect("encodes")).expect("memfd");
    let request = Request::Launch { id: "0".repeat(64), generation: 1 };
    host.forge.call(request, &[sealed.as_fd(), theirs.as_fd()]).expect("a shim is made");
    let notice = wharf_shim::client::Client::new(own).next_notice(SOON).expect("notice").0;
    assert!(matches!(&notice, Notice::CreateFailed(failure) if failure.stage == "spec"), "{notice:?}");
}

/// Attacks: H10.
#[test]
fn a_damaged_state_file_stops_a_launch() {
    let mut host = Host::new();
    let spec = host.spec(&["true"]);
    let run_dir = RunDir::new(&spec.run_dir);
    fs::create_dir_all(run_dir.path()).expect("run dir");
    fs::write(run_dir.state_file(), b"{\"version\":").expect("write");
    let notice = host.forge.launch(&spec).expect("launch").1.next_notice(SOON).expect("notice").0;
    assert!(matches!(&notice, Notice::CreateFailed(failure) if failure.stage == "shim"), "{notice:?}");
    assert!(StateFile::read(&run_dir, &spec.id).is_err());
}

#[test]
fn a_failed_creation_leaves_no_state_and_can_be_tried_again() {
    let mut host = Host::new();
    let spec = host.spec(&["true"]);
    let mut broken = spec.clone();
    broken.rootfs.layers = vec!["no-such-layer".into()];
    let notice = host.forge.launch(&broken).expect("launch").1.next_notice(SOON).expect("notice").0;
    assert!(matches!(&notice, Notice::CreateFailed(failure) if failure.stage == "launch"), "{notice:?}");
    let run_dir = RunDir::new(&spec.run_dir);
    assert_eq!(StateFile::read(&run_dir, &spec.id).expect("absent"), None);
    assert!(host.cgroup(&spec).is_empty().expect("cgroup"));
    assert_eq!(host.start(&spec).wait(), ExitStatus::Code(0));
}

#[test]
fn a_kill_for_want_of_memory_is_noticed_and_recorded() {
    let mut host = Host::new();
    let spec = host.spec(&["sh", "-c", "tail /dev/zero; echo survived; sleep 1000"]);
    let memory = host.cgroup(&spec).dir(Controller::Memory).expect("memory controller");
    let limit = if memory.join("memory.max").exists() { "memory.max" } else { "memory.limit_in_bytes" };
    fs::write(memory.join(limit), "16777216").expect("limit");
    if memory.join("memory.swap.max").exists() {
        fs::write(memory.join("memory.swap.max"), "0").expect("limit");
    }
    let mut container = host.start(&spec);
    assert!(matches!(container.notice(), Notice::Oom { kills: 1.. }));
    container.wait_for_output("survived");
    container.shim.done(Request::Signal { signo: KILL, all: true }, &[]).expect("signal");
    container.wait();
    assert!(container.record().oom_killed);
}

/// Attacks: F3.
#[test]
fn a_flood_of_output_costs_bounded_memory_and_disk() {
    let mut host = Host::new();
    let spec = host.spec(&["dd", "if=/dev/zero", "bs=1M", "count=200"]);
    let mut container = host.start(&spec);
    assert_eq!(container.wait(), ExitStatus::Code(0));
    let files = segments(&spec.log.dir).expect("log");
    let sizes: u64 = files.iter().map(|file| fs::metadata(&file.path).expect("stat").len()).sum();
    assert!(files.len() == 3 && sizes <= 3 * 1024 * 1024, "{} files, {sizes} bytes", files.len());
    let end = wharf_shim::logfile::LogReader::open(&spec.log.dir, wharf_shim::logfile::Start::End);
    assert!(end.expect("log").cursor() > 200 * 1024 * 1024, "everything went through the log");
    assert_eq!(container.record().log_dropped_bytes, 0);

    let rollup =
        fs::read_to_string(format!("/proc/{}/smaps_rollup", container.shim_process.pid)).expect("rollup");
    // Its own memory; the program itself is shared by all shims.
    let own = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("rollup");
    let kib: u64 = own.trim().trim_end_matches(" kB").parse().expect("number");
    assert!(kib < 1024, "the shim has {kib} KiB of its own: {rollup}");
}
