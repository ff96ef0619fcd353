//! Hostile and damaged bytes where the shim and the agent read them: messages, state files, exit
//! records, log files. None makes the reader panic, hang or believe what it must not.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs::{self, Permissions};
use std::mem::discriminant;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use wharf_fuzz::fuzz;
use wharf_runtime::spec::LogSpec;
use wharf_runtime::usage::{Counters, Measured, Reading};
use wharf_shim::clock::Moment;
use wharf_shim::exit::{EXIT_RECORD_VERSION, ExitRecord, ExitRecordError, ExitStatus};
use wharf_shim::logfile::{Item, LogReader, LogWriter, Start, Stream};
use wharf_shim::paths::{RunDir, StateDir};
use wharf_shim::process_ref::ProcessRef;
use wharf_shim::protocol::{Failure, Message, Notice, Phase, Reply, Request, RunningExec, Seq, StateReport};
use wharf_shim::state::{STATE_VERSION, StateError, StateFile, boot_id};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

/// In memory: a file is written for each input.
fn scratch() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm")
}

fn messages() -> Vec<Message> {
    let request = |request| Message::Request { seq: Seq::MIN, request };
    let reply = |reply| Message::Reply { seq: Seq::MAX, reply };
    let failure = || Failure { stage: "launch".to_owned(), errno: 5, message: "no".to_owned() };
    let state = StateReport {
        id: ID.to_owned(),
        generation: 3,
        phase: Phase::Exited,
        pid: 4711,
        start_time_ticks: 99,
        exit: Some(ExitStatus::Code(7)),
        oom_kills: 1,
        log_dropped_bytes: 2,
        network_namespace: true,
        execs: vec![RunningExec { exec_id: "e1".to_owned(), pid: 4712 }; 3],
    };
    vec![
        request(Request::Ping),
        request(Request::Quit),
        request(Request::Launch { id: ID.to_owned(), generation: 1 }),
        request(Request::Start),
        request(Request::Signal { signo: 15, all: true }),
        request(Request::Exec { stdin: true, stdout: true, stderr: false }),
        request(Request::ExecSignal { exec_id: "e1".to_owned(), signo: 9 }),
        request(Request::Stdin),
        request(Request::CloseStdin),
        request(Request::State),
        request(Request::Release),
        reply(Reply::Done),
        reply(Reply::Failed(failure())),
        reply(Reply::Forge { build_id: u64::MAX, pid: 1 }),
        reply(Reply::Launched { shim_pid: 7 }),
        reply(Reply::ExecStarted { pid: 8, terminal: true }),
        reply(Reply::Stdin),
        reply(Reply::State(state)),
        Message::Notice(Notice::Created { pid: 9, start_time_ticks: 1, network_namespace: true }),
        Message::Notice(Notice::CreateFailed(failure())),
        Message::Notice(Notice::Started),
        Message::Notice(Notice::Exited { status: ExitStatus::Signal(9), oom_killed: true }),
        Message::Notice(Notice::ExecExited { exec_id: "e1".to_owned(), status: ExitStatus::Unknown }),
        Message::Notice(Notice::Oom { kills: 2 }),
    ]
}

/// Attacks: H9.
#[test]
fn no_bytes_are_a_message_that_would_be_written_otherwise() {
    let samples = messages().into_iter().map(|message| message.encode().expect("a small message"));
    let count = fuzz("message", &corpus("message"), samples, |bytes| match Message::decode(bytes) {
        Ok(message) => {
            // Fields that may be skipped are not written again; what was understood is.
            let again = message.encode().expect("what was read can be written");
            assert_eq!(Message::decode(&again).as_ref(), Ok(&message));
            assert!(again.len() <= bytes.len(), "{message:?} grew");
            let inner = match &message {
                Message::Request { request, .. } => format!("request {:?}", discriminant(request)),
                Message::Reply { reply, .. } => format!("reply {:?}", discriminant(reply)),
                Message::Notice(notice) => format!("notice {:?}", discriminant(notice)),
            };
            (inner, None)
        }
        Err(error) => (String::new(), Some(discriminant(&error))),
    });
    assert!(count.expect("it ran") > 1000);
}

/// Attacks: H10.
#[test]
fn a_damaged_state_file_is_refused_or_names_plausible_processes_of_its_container() {
    let dir = scratch().expect("a temporary directory");
    let run = RunDir::new(dir.path());
    let state = |phase, init| StateFile {
        version: STATE_VERSION,
        id: ID.to_owned(),
        generation: 3,
        boot_id: boot_id().expect("the boot id"),
        shim: ProcessRef { pid: 100, start_time_ticks: 5 },
        init,
        phase,
        cgroup: "wharf/tenant/c1-3".into(),
        pipes: [Some(1), None, Some(u64::MAX)],
    };
    let init = Some(ProcessRef { pid: i32::MAX, start_time_ticks: u64::MAX });
    let samples = [state(Phase::Creating, None), state(Phase::Running, init)]
        .map(|state| serde_json::to_vec(&state).expect("a state file"));
    fs::write(run.state_file(), "").expect("a file");
    fs::set_permissions(run.state_file(), Permissions::from_mode(0o600)).expect("our own file");
    let count = fuzz("state-file", &corpus("state-file"), samples, |bytes| {
        fs::write(run.state_file(), bytes).expect("the file");
        match StateFile::read(&run, ID) {
            Ok(state) => {
                let state = state.expect("it is there");
                assert_eq!((state.id.as_str(), state.version), (ID, STATE_VERSION));
                assert!(state.shim.pid > 1 && state.init.is_none_or(|init| init.pid > 1));
                (Some(discriminant(&state.phase)), None, None)
            }
            Err(StateError::File(error)) => (None, Some(discriminant(&error)), None),
            Err(error) => (None, None, Some(discriminant(&error))),
        }
    });
    assert!(count.expect("it ran") > 100);
}

#[test]
fn a_damaged_exit_record_is_refused_or_is_that_of_its_start() {
    let dir = scratch().expect("a temporary directory");
    let state = StateDir::new(dir.path());
    let samples = [ExitStatus::Code(3), ExitStatus::Signal(9), ExitStatus::Unknown]
        .map(|status| serde_json::to_vec(&exit_record(status)).expect("a record"));
    fs::write(state.exit_record(2), "").expect("a file");
    fs::set_permissions(state.exit_record(2), Permissions::from_mode(0o600)).expect("our own file");
    let count = fuzz("exit-record", &corpus("exit-record"), samples, |bytes| {
        fs::write(state.exit_record(2), bytes).expect("the file");
        match ExitRecord::read(&state, ID, 2) {
            Ok(record) => {
                let record = record.expect("it is there");
                assert_eq!((record.id.as_str(), record.generation), (ID, 2));
                assert!(record.started.is_none_or(|started| started.boot_ns <= record.exited.boot_ns));
                (Some(discriminant(&record.status)), None, None)
            }
            Err(ExitRecordError::File(error)) => (None, Some(discriminant(&error)), None),
            Err(error) => (None, None, Some(discriminant(&error))),
        }
    });
    assert!(count.expect("it ran") > 100);
}

fn exit_record(status: ExitStatus) -> ExitRecord {
    let value = Measured::Value(u64::MAX);
    let counters = Counters {
        cpu_usage_ns: Measured::Value(1_234_567),
        cpu_user_ns: value,
        cpu_system_ns: value,
        cpu_periods: Measured::NotMeasurable,
        cpu_throttled_periods: value,
        cpu_throttled_ns: value,
        memory_current_bytes: value,
        memory_peak_bytes: Measured::Unreadable(5),
        memory_working_set_bytes: value,
        memory_swap_bytes: value,
        oom_kills: value,
        pids_current: value,
        io_read_bytes: value,
        io_write_bytes: value,
        io_reads: value,
        io_writes: value,
    };
    ExitRecord {
        version: EXIT_RECORD_VERSION,
        id: ID.to_owned(),
        generation: 2,
        boot_id: "b".to_owned(),
        status,
        oom_killed: true,
        started: Some(Moment { boot_ns: 1, realtime_us: -1 }),
        exited: Moment { boot_ns: 2, realtime_us: 1 },
        reading: Reading { boot_ns: 3, realtime_us: 4, counters },
        init_cpu_us: Some(7),
        log_dropped_bytes: 0,
    }
}

#[test]
fn a_damaged_log_is_read_to_its_end_and_written_on() {
    let dir = scratch().expect("a temporary directory");
    let spec = |name: &str| LogSpec { dir: dir.path().join(name), max_file_bytes: 1 << 20, max_files: 2 };
    let sample = spec("sample");
    let mut writer = LogWriter::open(&sample).expect("a log");
    for (stream, bytes) in
        [(Stream::Stdout, &b"one\n"[..]), (Stream::Stderr, b"\0\xff"), (Stream::Stdout, &[b'x'; 300])]
    {
        writer.append(stream, 1, bytes);
    }
    drop(writer);
    let file = fs::read_dir(&sample.dir).expect("a log").next().expect("one file").expect("one file");
    let sample = fs::read(file.path()).expect("the file");
    let count = fuzz("log", &corpus("log"), [sample], |bytes| {
        let spec = spec("fuzzed");
        fs::remove_dir_all(&spec.dir).ok();
        fs::create_dir(&spec.dir).expect("the directory");
        fs::write(spec.dir.join(file.file_name()), bytes).expect("the file");
        let before = read_all(&spec.dir);
        let mut writer = LogWriter::open(&spec).expect("it is repaired");
        writer.append(Stream::Stdout, 2, b"after");
        let after = read_all(&spec.dir);
        assert_eq!(after.last().map(Vec::as_slice), Some(&b"after"[..]));
        assert!(after.starts_with(&before), "what could be read is lost");
        before.len().min(8)
    });
    assert!(count.expect("it ran") > 100);
}

/// Every record; the cursor only goes up, and there is an end.
fn read_all(dir: &Path) -> Vec<Vec<u8>> {
    let Ok(mut reader) = LogReader::open(dir, Start::Oldest) else { return Vec::new() };
    let (mut records, mut last) = (Vec::new(), 0);
    while let Ok(Some(item)) = reader.next() {
        if let Item::Record(record) = item {
            assert!(record.cursor >= last && record.next_cursor > record.cursor);
            last = record.next_cursor;
            records.push(record.bytes.to_vec());
        }
    }
    records
}
