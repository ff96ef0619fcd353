//! One forge per run root and build, run from memory, replaceable under running containers.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Host, wait_until};
use rustix::process::{Signal, pidfd_send_signal};
use wharf_shim::client::{ClientError, build_id_of, connect_forge, ensure_forge, spawn_forge};
use wharf_shim::exit::ExitStatus;
use wharf_shim::paths::RunRoot;
use wharf_shim::process_ref::ProcessRef;
use wharf_shim::protocol::{Phase, Request};

const SHIM: &str = env!("CARGO_BIN_EXE_wharf-shim");

/// Attacks: A1, A5, H14.
#[test]
fn the_forge_runs_detached_from_a_sealed_copy_and_cannot_be_dumped() {
    let host = Host::new();
    let pid = host.forge.connection().peer_pid().expect("peer");
    let exe = fs::read_link(format!("/proc/{pid}/exe")).expect("exe");
    assert!(exe.to_string_lossy().starts_with("/memfd:"), "{}", exe.display());
    assert!(fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/exe")).is_err());
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("name").1.split_whitespace().collect();
    let (parent, session) = (fields[1], fields[3]);
    assert_ne!(parent, std::process::id().to_string(), "it is nobody's child");
    assert_eq!(session, pid.to_string(), "it has its own session");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    assert!(status.contains("Threads:\t1\n"), "{status}");
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("environ");
    assert_eq!(environment, b"", "it knows nothing of its caller");
    let mut descriptors: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("fd")
        .map(|entry| fs::read_link(entry.expect("fd").path()).expect("link").to_string_lossy().into_owned())
        .collect();
    descriptors.retain(|link| !link.starts_with("socket:") && link != "/dev/null");
    let lock = host.run_root.forge_lock().to_string_lossy().into_owned();
    assert_eq!(descriptors, [lock], "standard streams, sockets and the lock, nothing inherited");
}

#[test]
fn a_forge_of_the_same_build_is_used_again() {
    let host = Host::new();
    let pid = host.forge.connection().peer_pid().expect("peer");
    let mut same = ensure_forge(&host.run_root, Path::new(SHIM)).expect("forge");
    assert_eq!(same.connection().peer_pid().expect("peer"), pid);
    assert_eq!(same.ping().expect("ping"), build_id_of(Path::new(SHIM)).expect("hash"));
    let second = spawn_forge(&host.run_root, Path::new(SHIM)).expect("the second one gives way");
    assert_eq!(second.connection().peer_pid().expect("peer"), pid);
}

#[test]
fn a_forge_of_another_build_takes_over_and_running_containers_stay() {
    let mut host = Host::new();
    let spec = host.spec(&["sleep", "1000"]);
    let mut container = host.start(&spec);
    let old = ProcessRef::of(host.forge.connection().peer_pid().expect("peer")).expect("runs");

    let newer = tempfile::NamedTempFile::new().expect("temp file").into_temp_path();
    fs::copy(SHIM, &newer).expect("copy");
    fs::OpenOptions::new().append(true).open(&newer).expect("open").write_all(b"newer").expect("append");
    host.forge = ensure_forge(&host.run_root, &newer).expect("forge");
    assert_ne!(host.forge.connection().peer_pid().expect("peer"), old.pid);
    wait_until("the old forge is gone", || !old.is_alive().expect("stat"));

    assert_eq!(container.shim.state().expect("state").0.phase, Phase::Running);
    let spec = host.spec(&["true"]);
    assert_eq!(host.start(&spec).wait(), ExitStatus::Code(0));
}

#[test]
fn a_killed_forge_is_replaced_and_shims_do_not_notice() {
    let mut host = Host::new();
    let spec = host.spec(&["sleep", "1000"]);
    let mut container = host.start(&spec);
    let forge = ProcessRef::of(host.forge.connection().peer_pid().expect("peer")).expect("runs");
    pidfd_send_signal(forge.open().expect("pidfd").expect("runs"), Signal::KILL).expect("kill");
    wait_until("the forge is gone", || !forge.is_alive().expect("stat"));
    assert!(connect_forge(&host.run_root).expect("a dead socket is nobody").is_none());

    host.forge = ensure_forge(&host.run_root, Path::new(SHIM)).expect("forge");
    assert_eq!(container.shim.state().expect("state").0.phase, Phase::Running);
    container.shim.done(Request::Signal { signo: 9, all: true }, &[]).expect("signal");
    assert_eq!(container.wait(), ExitStatus::Signal(9));
}

#[test]
fn what_is_a_shims_business_is_refused_and_the_connection_lives_on() {
    let mut host = Host::new();
    let refused = host.forge.done(Request::Start, &[]);
    assert!(matches!(refused, Err(ClientError::Refused(_))));
    host.forge.ping().expect("ping");
}

#[test]
fn a_missing_program_is_told() {
    let host = Host::new();
    let missing = ensure_forge(&host.run_root, Path::new("/no/such/program"));
    assert!(matches!(missing, Err(ClientError::Executable { .. })));
}

/// Attacks: G8.
#[test]
fn a_run_root_that_others_can_enter_is_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let refused = ensure_forge(&RunRoot::new(dir.path()), Path::new(SHIM));
    assert!(
        matches!(&refused, Err(ClientError::ForgeEnded { message, .. }) if message.contains("0700")),
        "{refused:?}"
    );
}
