//! Birth, gate, exec, terminal, end, and what is left afterwards: nothing.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use wharf_runtime::Stage;
use wharf_runtime::cgroup::{Cgroup, Controller, DeviceRule, Layout, LayoutKind, vacate};
use wharf_runtime::launch::{Created, Stdio};
use wharf_runtime::probe::{Places, Status};
use wharf_runtime::spec::Rlimit;
use wharf_runtime::usage::{Depth, Measured, UsageReader};
use wharf_sys::process::{Ended, pidfd_exit_status};

use crate::Case;
use crate::sandbox::{Sandbox, chain, finish, process, run_exec, start_exec, wait, wait_until};

pub const CASES: &[Case] = &[
    ("a_container_runs_says_something_and_returns_its_status", runs),
    ("the_exit_status_can_be_read_by_pidfd_after_the_wait", orphan_status),
    ("the_program_does_not_run_before_the_gate_opens", gate),
    ("an_aborted_container_leaves_nothing", abort),
    ("a_missing_program_is_told_with_stage_and_errno", missing_program),
    ("cpu_time_is_exact_to_the_microsecond", exact_cpu),
    ("an_exec_joins_every_namespace_and_the_cgroup", exec_joins),
    ("an_exec_into_an_ended_container_is_an_error", exec_too_late),
    ("a_terminal_is_the_controlling_one_of_its_own_session", terminal),
    ("an_exec_can_have_a_terminal", exec_terminal),
    ("init_reaps_orphans_forwards_signals_and_returns_the_status", init),
    ("a_kill_by_cgroup_ends_stubborn_processes", stubborn),
    ("freeze_stops_and_thaw_goes_on", freeze),
    ("limits_hold_and_ones_too_high_are_lowered", limits),
    ("a_v1_only_group_is_killed_by_freezing_it", kill_v1),
    ("a_v2_device_program_refuses_what_the_v1_rules_allow", devices_v2),
    ("a_group_given_to_us_hands_controllers_down_once_it_was_vacated", delegation),
    ("doctor_finds_that_this_host_can_launch", doctor),
    ("a_hundred_failed_launches_leak_nothing", no_leak),
];

fn runs() {
    let mut sandbox = Sandbox::new("runs");
    sandbox.script("echo out; echo err >&2; hostname; id -u; exit 7");
    let outcome = sandbox.run();
    assert_eq!(outcome.stdout, "out\ninside\n0\n");
    assert_eq!(outcome.stderr, "err\n");
    assert!(matches!(outcome.status, WaitStatus::Exited(_, 7)), "{outcome:?}");
}

/// A second look at the end, by one who is not the parent.
fn orphan_status() {
    let mut sandbox = Sandbox::new("orphan-status");
    sandbox.script("exit 7");
    let (running, out, err) = sandbox.start().expect("start");
    finish(&running.pidfd, out, err);
    match pidfd_exit_status(running.pidfd.as_fd()) {
        Ok(ended) => assert_eq!(ended, Some(Ended::Code(7))),
        Err(error) => println!("not on this kernel: {error}"),
    }
}

/// Attacks: E3.
fn gate() {
    let mut sandbox = Sandbox::new("gate");
    sandbox.script("touch /ran");
    let created = sandbox.create(Stdio::default()).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(sandbox.cgroup.pids().expect("pids"), [created.pid], "it is in its group already");
    let stat = fs::read_to_string(format!("/proc/{}/stat", created.pid)).expect("stat");
    assert!(stat.contains(&created.start_time_ticks.to_string()));
    assert!(created.netns.is_some());
    let marker = sandbox.spec.rootfs.writable.join("upper/ran");
    assert!(!marker.exists());
    let running = created.start().expect("start");
    wait(&running.pidfd);
    assert!(marker.exists());
}

fn abort() {
    let sandbox = Sandbox::new("abort");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    sandbox.create(Stdio::default()).expect("create").abort().expect("abort");
    drop(sandbox.create(Stdio::default()).expect("create"));
    assert!(sandbox.cgroup.is_empty().expect("state"));
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").expect("mounts"), mounts);
}

fn missing_program() {
    let mut sandbox = Sandbox::new("missing");
    sandbox.spec.process.args = vec!["no-such-program".into()];
    let error = sandbox.start().expect_err("nothing to execute");
    assert_eq!((error.stage(), error.errno()), (Some(Stage::Execute), Some(2)), "{}", chain(&error));
    assert!(sandbox.cgroup.is_empty().expect("state"), "the child was reaped");
    sandbox.spec.process.args = vec!["/etc/passwd".into()];
    assert_eq!(sandbox.start().expect_err("not executable").errno(), Some(13));
    sandbox.spec.process.args = vec!["/bin/true".into()];
    sandbox.spec.process.user = "nobody-known".into();
    assert_eq!(sandbox.start().expect_err("no such user").stage(), Some(Stage::FindUser));
}

/// What the group counts is what `wait4` says of its one process: it was born there.
fn exact_cpu() {
    let mut sandbox = Sandbox::new("cpu");
    sandbox.script("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
    let (running, out, err) = sandbox.start().unwrap_or_else(|error| panic!("{}", chain(&error)));
    let reader = UsageReader::open(&sandbox.layout, &sandbox.spec.cgroup).expect("reader");
    let ours = || {
        let usage =
            nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).expect("rusage");
        let us = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
        us(usage.user_time()) + us(usage.system_time())
    };
    let before = ours();
    let outcome = finish(&running.pidfd, out, err);
    let waited_us = ours() - before;
    outcome.success();
    let counters = reader.read(Depth::Full).counters;
    let counted_us = i64::try_from(counters.cpu_usage_ns.value().expect("counted") / 1000).expect("fits");
    if sandbox.layout.unified().is_some() {
        assert!((counted_us - waited_us).abs() <= 1, "counted {counted_us} µs, waited {waited_us} µs");
    }
    assert!(matches!(counters.memory_peak_bytes, Measured::Value(1..)), "{counters:?}");
    assert_eq!(counters.pids_current, Measured::Value(0));
}

fn exec_joins() {
    let mut sandbox = Sandbox::new("exec");
    sandbox.script("exec sleep 100");
    let (running, ..) = sandbox.start().unwrap_or_else(|error| panic!("{}", chain(&error)));
    let namespaces = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/$1/ns/$n; done";
    let script = format!(
        "set -- self; {namespaces}; cat /proc/self/cgroup; grep -E 'CapEff|CapBnd|NoNewPrivs|^Seccomp' /proc/self/status; id; pwd"
    );
    let mut exec = process(&["/bin/sh", "-c", &script]);
    exec.user = "web".into();
    exec.cwd = "/home/web".into();
    let inside = run_exec(&running, exec).success();
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let init = fs::read_link(format!("/proc/{}/ns/{name}", running.pid)).expect("namespace");
        let host = fs::read_link(format!("/proc/self/ns/{name}")).expect("namespace");
        assert!(inside.contains(&*init.to_string_lossy()), "{name}: {inside}");
        assert_ne!(init, host, "{name} is the container's own");
    }
    assert!(inside.contains("uid=33(web) gid=33(web) groups=33(web),44(log)"), "{inside}");
    assert!(
        inside.contains("CapEff:\t0000000000000000") && inside.contains("CapBnd:\t00000000a00405fb"),
        "{inside}"
    );
    assert!(inside.contains("NoNewPrivs:\t1") && inside.contains("Seccomp:\t2"), "{inside}");
    assert!(inside.ends_with("/home/web\n"), "{inside}");
    let groups = inside.lines().filter(|line| line.contains(":/")).all(|line| line.ends_with(":/"));
    assert!(groups, "each hierarchy's root is the container's group: {inside}");
}

/// Attacks: A6.
fn exec_too_late() {
    let sandbox = Sandbox::new("late");
    let (running, out, err) = sandbox.start().expect("start");
    finish(&running.pidfd, out, err).success();
    let error = start_exec(&running, process(&["/bin/true"]), Stdio::default()).expect_err("ended");
    assert_eq!((error.stage(), error.errno()), (Some(Stage::EnterNamespaces), Some(3)), "{}", chain(&error));
    // The supervisor itself is as it was: its next children are born in its own pid namespace.
    let own = fs::read_link("/proc/self/ns/pid").expect("pid");
    assert_eq!(fs::read_link("/proc/self/ns/pid_for_children").expect("pid"), own);
}

fn read_terminal(master: impl AsFd, wanted: &str) -> String {
    let mut file = fs::File::from(master.as_fd().try_clone_to_owned().expect("clone"));
    let mut text = String::new();
    wait_until(wanted, || {
        let mut wanted_fd = [nix::poll::PollFd::new(file.as_fd(), nix::poll::PollFlags::POLLIN)];
        if nix::poll::poll(&mut wanted_fd, 20_u8).expect("poll") > 0 {
            let mut buffer = [0; 1024];
            // EIO: the other side has closed.
            let read = file.read(&mut buffer).unwrap_or(0);
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        text.contains(wanted)
    });
    text
}

/// Attacks: F1.
fn terminal() {
    let mut sandbox = Sandbox::new("terminal");
    sandbox.script("tty; stty size; echo c >/dev/console; ls -l /dev/pts/0 | cut -c1-10; read line; echo got-$line; echo done-$(tty </dev/tty)");
    sandbox.spec.process.terminal = true;
    sandbox.spec.process.terminal_size = Some((31, 77));
    sandbox.spec.process.user = "web".into();
    let running = sandbox
        .create(Stdio::default())
        .and_then(Created::start)
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let master = running.pty_master.as_ref().expect("master");
    let mut writer = fs::File::from(master.try_clone().expect("clone"));
    let text = read_terminal(master, "crw--w----");
    assert!(text.contains("/dev/pts/0") && text.contains("31 77"), "{text}");
    writer.write_all(b"hello\n").expect("type");
    read_terminal(master, "got-hello");
    wait(&running.pidfd);
}

fn exec_terminal() {
    let mut sandbox = Sandbox::new("exec-terminal");
    sandbox.script("exec sleep 100");
    let (running, ..) = sandbox.start().expect("start");
    let mut exec = process(&["/bin/sh", "-c", "tty; sleep 100"]);
    exec.terminal = true;
    let started =
        start_exec(&running, exec, Stdio::default()).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let master = started.pty_master.as_ref().expect("master");
    read_terminal(master, "/dev/pts/0");
    // Control-C reaches the foreground processes only if the terminal is the controlling one.
    fs::File::from(master.try_clone().expect("clone")).write_all(&[3]).expect("type");
    let status = wait(&started.pidfd);
    let interrupted =
        matches!(status, WaitStatus::Signaled(_, Signal::SIGINT, _) | WaitStatus::Exited(_, 130));
    assert!(interrupted, "{status:?}");
}

fn init() {
    let mut sandbox = Sandbox::new("init");
    sandbox.spec.init = true;
    // An orphan ends while the program runs; nobody but pid 1 can reap it.
    sandbox.script("(sleep 0.05 &) ; trap 'grep -c State:.Z /proc/[0-9]*/status | grep -c :1; exit 5' TERM; echo ready; while :; do sleep 0.01; done");
    let (running, out, err) = sandbox.start().unwrap_or_else(|error| panic!("{}", chain(&error)));
    let mut first = [0; 6];
    let mut reader = out.try_clone().expect("clone");
    reader.read_exact(&mut first).expect("ready");
    wait_until("the orphan has ended", || sandbox.cgroup.pids().expect("pids").len() <= 3);
    wharf_sys::process::pidfd_send_signal(running.pidfd.as_fd(), 15).expect("signal");
    let outcome = finish(&running.pidfd, out, err);
    assert!(matches!(outcome.status, WaitStatus::Exited(_, 5)), "{outcome:?}");
    assert_eq!(outcome.stdout, "0\n", "no zombie");
    sandbox.script("kill -9 $$");
    assert!(matches!(sandbox.run().status, WaitStatus::Exited(_, 137)));
    sandbox.spec.process.args = vec!["/no/such/program".into()];
    assert_eq!(sandbox.start().expect_err("nothing to execute").errno(), Some(2));
}

/// Attacks: E11.
fn stubborn() {
    let mut sandbox = Sandbox::new("stubborn");
    sandbox.script("trap '' TERM INT HUP; for i in 1 2 3 4 5; do (trap '' TERM; setsid sh -c 'while :; do sleep 1; done' &); done; kill -STOP $$; while :; do sleep 1; done");
    let (running, ..) = sandbox.start().expect("start");
    wait_until("all are there", || sandbox.cgroup.pids().expect("pids").len() >= 6);
    sandbox.cgroup.kill().expect("kill");
    assert!(matches!(wait(&running.pidfd), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
    sandbox.wait_empty();
    sandbox.cgroup.remove().expect("remove");
}

fn freeze() {
    let mut sandbox = Sandbox::new("freeze");
    sandbox.script("while :; do :; done");
    let (_running, ..) = sandbox.start().expect("start");
    let reader = UsageReader::open(&sandbox.layout, &sandbox.spec.cgroup).expect("reader");
    let cpu = || reader.read(Depth::Live).counters.cpu_usage_ns.value().expect("cpu");
    sandbox.cgroup.freeze().expect("freeze");
    assert!(sandbox.cgroup.is_frozen().expect("state"));
    let frozen = cpu();
    assert_eq!(cpu(), frozen);
    sandbox.cgroup.thaw().expect("thaw");
    wait_until("it goes on", || cpu() > frozen);
    sandbox.cgroup.freeze().expect("freeze");
    sandbox.cgroup.kill().expect("a frozen group can be killed");
    sandbox.wait_empty();
}

/// Attacks: E7.
fn limits() {
    let mut sandbox = Sandbox::new("limits");
    sandbox.script("ulimit -n; ulimit -Hn; ulimit -c");
    sandbox.spec.process.rlimits =
        vec![Rlimit { resource: 7, soft: 123, hard: u64::MAX }, Rlimit { resource: 4, soft: 0, hard: 0 }];
    let own = wharf_sys::limits::get(0, 7).expect("own").1;
    let text = sandbox.run().success();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[2]), ("123", "0"), "{text}");
    assert!(lines[1] == own.to_string() || lines[1] == "1048576" || lines[1] == "unlimited", "{text}");
}

/// The v1 hierarchies alone, as on a host without a unified tree.
fn kill_v1() {
    let mut sandbox = Sandbox::new("kill-v1");
    if sandbox.layout.legacy(Controller::Freezer).is_none() {
        println!("not on this host: no v1 freezer");
        return;
    }
    let legacy = Controller::ALL.into_iter().filter_map(|c| Some((c, sandbox.layout.legacy(c)?.to_owned())));
    let layout = Layout::of(None, legacy.collect());
    let group = Cgroup::open(&layout, &sandbox.spec.cgroup).expect("group");
    sandbox.script("for i in 1 2 3 4 5; do (while :; do (true); done) & done; wait");
    let (running, ..) = sandbox.start().expect("start");
    wait_until("all are there", || group.pids().expect("pids").len() >= 6);
    group.kill().expect("kill");
    assert!(matches!(wait(&running.pidfd), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
    assert!(group.is_empty().expect("state"));
    let counters =
        UsageReader::open(&layout, &sandbox.spec.cgroup).expect("reader").read(Depth::Full).counters;
    assert!(matches!(counters.cpu_usage_ns, Measured::Value(1..)), "{counters:?}");
    assert_eq!(counters.io_write_bytes, Measured::NotMeasurable);
}

/// The unified tree alone, as on a v2 host; device programs work there on hybrid hosts too.
/// Attacks: E2.
fn devices_v2() {
    let mut sandbox = Sandbox::new("devices-v2");
    let Some(unified) = sandbox.layout.unified() else {
        println!("not on this host: no unified tree");
        return;
    };
    let layout = Layout::of(Some(unified.to_owned()), std::collections::BTreeMap::new());
    let group = Cgroup::open(&layout, &sandbox.spec.cgroup).expect("group");
    let rules: Vec<DeviceRule> =
        DeviceRule::standard().into_iter().filter(|rule| rule.minor != Some(5)).collect();
    group.allow_devices(&DeviceRule::standard()).expect("first program");
    group.allow_devices(&rules).expect("a second one replaces the first");
    sandbox.script("echo x >/dev/null && echo null; head -c 1 /dev/zero || echo refused");
    assert_eq!(sandbox.run().success(), "null\nrefused\n");
}

fn delegation() {
    let layout = Layout::detect().expect("layout");
    let group = PathBuf::from(format!("wharftest{}-given", std::process::id()));
    let given = Cgroup::create(&layout, &group).expect("a group");
    vacate(&layout, Path::new("wharftest-nowhere")).expect("what is not there is empty");
    vacate(&layout, Path::new("")).expect("the root hands down whatever is in it");
    let mut process = Command::new("sleep").arg("1000").spawn().expect("a process");
    let door = given.unified_dir().expect("a unified tree").join("cgroup.procs");
    fs::write(&door, process.id().to_string()).expect("moved in");
    let below = group.join("wharf/tenant");
    if layout.kind() == LayoutKind::V2 {
        Cgroup::create(&layout, &below).expect_err("a process is in the way");
    }
    for _ in 0..2 {
        vacate(&layout, &group).expect("vacated");
    }
    let made = Cgroup::create(&layout, &below).expect("controllers are handed down");
    if layout.kind() == LayoutKind::V2 {
        assert_eq!(fs::read_to_string(&door).expect("read"), "");
        assert!(made.dir(Controller::Memory).expect("memory").join("memory.max").exists());
    }
    assert_eq!(given.pids().expect("pids"), [i32::try_from(process.id()).expect("a pid")]);
    process.kill().expect("killed");
    process.wait().expect("reaped");
    given.remove_when_empty().expect("removed");
}

fn doctor() {
    let places = Places { state_dir: Path::new("/var/tmp"), criu: Path::new("") };
    let checks = wharf_runtime::probe::doctor(places);
    for check in &checks {
        println!("{:?} {}: {}", check.status, check.name, check.detail);
    }
    assert!(checks.iter().all(|check| check.status != Status::Missing), "{checks:?}");
    let overlay = checks.iter().find(|check| check.name.starts_with("overlay")).expect("overlay");
    assert_eq!(overlay.status, Status::Ok, "{overlay:?}");
    assert!(overlay.detail.contains("by paths"), "the way of older kernels works here too: {overlay:?}");
}

/// Attacks: A7.
fn no_leak() {
    let mut sandbox = Sandbox::new("leak");
    let count = || fs::read_dir("/proc/self/fd").expect("fds").count();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let (fds, table) = (count(), mounts());
    for round in 0..100 {
        match round % 4 {
            0 => sandbox.spec.process.args = vec!["/missing".into()],
            1 => sandbox.spec.process.user = "missing".into(),
            2 => sandbox.spec.rootfs.layers = vec!["missing".into()],
            _ => sandbox.spec.process.cwd = "/proc/self/cwd".into(),
        }
        sandbox.start().expect_err("must fail");
        sandbox.spec.process = process(&["/bin/true"]);
        sandbox.spec.rootfs.layers = vec!["top".into(), "base".into()];
    }
    assert_eq!((count(), mounts()), (fds, table));
    assert!(sandbox.cgroup.is_empty().expect("state"));
    sandbox.run().success();
}
