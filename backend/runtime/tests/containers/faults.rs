//! A failure between any two steps, a kill in the middle, a supervisor that dies: nothing is left.

use std::fs;

use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use wharf_runtime::launch::Stdio;
use wharf_sys::process::{close_on_exec_from, fork};
use wharf_sys::seccomp::{Instruction, load};

use crate::Case;
use crate::sandbox::{Sandbox, chain, finish, process, run_exec, start_exec, wait_until};

pub const CASES: &[Case] = &[
    ("a_failure_of_any_system_call_leaves_nothing", every_call),
    ("a_kill_in_the_middle_of_a_launch_is_an_error_and_never_a_hang", killed_midway),
    ("a_group_that_was_killed_can_be_launched_into_again", after_kill),
    ("a_supervisor_in_a_group_that_was_killed_can_launch", killed_supervisor),
    ("a_container_at_the_gate_ends_with_its_supervisor", orphan_at_gate),
    ("a_running_container_ends_with_its_supervisor", orphan_running),
];

/// Calls that a launch makes; each in turn fails with EIO, from the start and in the child too.
const CALLS: &[(&str, i64)] = &[
    ("clone3", libc::SYS_clone3),
    ("fsopen", libc::SYS_fsopen),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("open_tree", libc::SYS_open_tree),
    ("move_mount", libc::SYS_move_mount),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("openat2", libc::SYS_openat2),
    ("pivot_root", libc::SYS_pivot_root),
    ("fchdir", libc::SYS_fchdir),
    ("mknodat", libc::SYS_mknodat),
    ("mkdirat", libc::SYS_mkdirat),
    ("symlinkat", libc::SYS_symlinkat),
    ("fchown", libc::SYS_fchown),
    ("fchownat", libc::SYS_fchownat),
    ("sethostname", libc::SYS_sethostname),
    ("ioctl", libc::SYS_ioctl),
    ("dup2", libc::SYS_dup2),
    ("setsid", libc::SYS_setsid),
    ("setgroups", libc::SYS_setgroups),
    ("setresgid", libc::SYS_setresgid),
    ("setresuid", libc::SYS_setresuid),
    ("keyctl", libc::SYS_keyctl),
    ("capget", libc::SYS_capget),
    ("capset", libc::SYS_capset),
    ("prctl", libc::SYS_prctl),
    ("seccomp", libc::SYS_seccomp),
    ("close_range", libc::SYS_close_range),
    ("socketpair", libc::SYS_socketpair),
    ("recvmsg", libc::SYS_recvmsg),
    ("sendmsg", libc::SYS_sendmsg),
    ("execve", libc::SYS_execve),
];

fn fail_with_eio(call: i64) -> [Instruction; 4] {
    let step = |code, operand, jump_false| Instruction { code, jump_true: 0, jump_false, operand };
    let number = u32::try_from(call).expect("call number");
    [step(0x20, 0, 0), step(0x15, number, 1), step(0x06, 0x0005_0005, 0), step(0x06, 0x7fff_0000, 0)]
}

/// Attacks: A7.
fn every_call() {
    let mut sandbox = Sandbox::new("every-call");
    sandbox.script("true");
    for (name, call) in CALLS {
        let child = fork(|| {
            load(&fail_with_eio(*call)).expect("filter");
            let fds = || fs::read_dir("/proc/self/fd").expect("fds").count();
            let before = fds();
            let Err(error) = sandbox.start() else {
                println!("{name}: the launch did not notice");
                return 1;
            };
            if fds() != before {
                println!("{name}: descriptors leak after: {}", chain(&error));
                return 2;
            }
            // Every child was waited for; without clone3 there never was one.
            i32::from(waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)).is_ok()) * 3
        })
        .expect("fork");
        let status = waitpid(Pid::from_raw(child), None).expect("wait");
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{name}: {status:?}");
        assert!(sandbox.cgroup.is_empty().expect("state"), "{name}: a process is left");
    }
    sandbox.run().success();
}

fn killed_midway() {
    let mut sandbox = Sandbox::new("midway");
    sandbox.script("true");
    let killer = fork(|| {
        for round in 0..400_u32 {
            sandbox.cgroup.kill().ok();
            // At ever other moments of a launch, which takes a few milliseconds.
            let pause = u8::try_from(round % 7).unwrap_or(1);
            nix::poll::poll(&mut [], pause).ok();
        }
        0
    })
    .expect("fork");
    let (mut lived, mut killed) = (0, 0);
    while matches!(waitpid(Pid::from_raw(killer), Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)) {
        match sandbox.start() {
            Ok((running, out, err)) => {
                finish(&running.pidfd, out, err);
                lived += 1;
            }
            Err(_) => killed += 1,
        }
    }
    println!("{lived} were executed, {killed} were killed before");
    assert!(killed > 0);
    sandbox.wait_empty();
    sandbox.run().success();
}

/// Linux 6.14 and later compare the group's count of kills with that of the *parent's* group, and
/// kill whatever is born by `CLONE_INTO_CGROUP` into a group that was ever killed.
fn after_kill() {
    let mut sandbox = Sandbox::new("after-kill");
    sandbox.script("cat /proc/self/cgroup");
    sandbox.cgroup.kill().expect("kill");
    let groups = sandbox.run().success();
    assert!(groups.lines().all(|line| line.ends_with(":/")), "{groups}");
    sandbox.script("exec sleep 100");
    let (running, ..) = sandbox.start().expect("start");
    let groups = run_exec(&running, process(&["cat", "/proc/self/cgroup"])).success();
    assert!(groups.lines().all(|line| line.ends_with(":/")), "{groups}");
}

/// The same mistake the other way round: the supervisor's own group was killed, the container's not.
fn killed_supervisor() {
    let mut sandbox = Sandbox::new("killed-supervisor");
    let Some(unified) = sandbox.layout.unified() else {
        println!("not on this host: no unified tree");
        return;
    };
    let own = unified.join(sandbox.spec.cgroup.with_file_name("supervisor"));
    fs::create_dir(&own).expect("group");
    fs::write(own.join("cgroup.kill"), "1").expect("kill");
    sandbox.script("cat /proc/self/cgroup");
    let supervisor = fork(|| {
        fs::write(own.join("cgroup.procs"), "0").expect("enter");
        let groups = sandbox.run().success();
        i32::from(groups.lines().any(|line| !line.ends_with(":/")))
    })
    .expect("fork");
    let status = waitpid(Pid::from_raw(supervisor), None).expect("wait");
    fs::remove_dir(&own).expect("remove");
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

fn orphan_at_gate() {
    let sandbox = Sandbox::new("orphan-gate");
    let supervisor = fork(|| {
        let created = sandbox.create(Stdio::default());
        // As if killed: nothing is dropped.
        wharf_sys::process::exit_now(i32::from(created.is_err()));
    })
    .expect("fork");
    assert!(matches!(waitpid(Pid::from_raw(supervisor), None), Ok(WaitStatus::Exited(_, 0))));
    sandbox.wait_empty();
}

fn orphan_running() {
    let mut sandbox = Sandbox::new("orphan-running");
    for init in [false, true] {
        sandbox.spec.init = init;
        sandbox.spec.process.user = "web".into();
        sandbox.script("exec sleep 100");
        let supervisor = fork(|| {
            let (running, ..) = sandbox.start().expect("start");
            start_exec(&running, process(&["/bin/sleep", "100"]), Stdio::default()).expect("exec");
            close_on_exec_from(3).expect("descriptors");
            nix::unistd::pause();
            1
        })
        .expect("fork");
        let processes = if init { 3 } else { 2 };
        wait_until("all run", || {
            let pids = sandbox.cgroup.pids().expect("pids");
            let name = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            pids.len() == processes && pids.iter().filter(|pid| name(pid) == "sleep\n").count() == 2
        });
        nix::sys::signal::kill(Pid::from_raw(supervisor), Signal::SIGKILL).expect("kill");
        waitpid(Pid::from_raw(supervisor), None).expect("wait");
        sandbox.wait_empty();
    }
}
