//! A container's life through the commands.

use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::json;
use wharf_sys::socket::recv_with_fds;

use crate::bundle::{Bundle, ID, complaint, good, wait_until};

#[test]
fn run_ends_as_the_container_ends() {
    let mut bundle = Bundle::new("exit 3");
    assert_eq!(bundle.run().status.code(), Some(3));
    bundle.assert_gone();
    bundle.args(&["/bin/none"]);
    let output = bundle.run();
    assert_eq!((output.status.code(), complaint(&output).lines().count()), (Some(127), 1), "{output:?}");
    bundle.args(&["/etc/passwd"]);
    let output = bundle.run();
    assert_eq!((output.status.code(), complaint(&output).lines().count()), (Some(126), 1), "{output:?}");
    bundle.assert_gone();
}

#[test]
fn a_signal_to_the_caller_reaches_the_container() {
    let bundle = Bundle::new("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done");
    let mut child = bundle.spawn();
    assert_eq!(bundle.status(), "running");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
    assert_eq!(child.wait().expect("run").code(), Some(5));
    bundle.assert_gone();
}

#[test]
fn a_container_ends_with_a_caller_that_stays() {
    let bundle = Bundle::new("echo ready; sleep 1000");
    let mut child = bundle.spawn();
    child.kill().expect("kill");
    child.wait().expect("wait");
    wait_until("it has ended", || bundle.status() == "stopped");
    good(bundle.act("delete", &[]));
    bundle.assert_gone();
}

#[test]
fn create_start_kill_and_delete_are_steps_of_their_own() {
    let bundle = Bundle::new("echo started; exec sleep 1000");
    bundle.create();
    assert_eq!((bundle.status().as_str(), bundle.said().as_str()), ("created", ""));
    let again = bundle.running().arg(ID).output().expect("run");
    assert!(complaint(&again).contains("already"), "{again:?}");
    assert_eq!(bundle.status(), "created", "whose name was asked for again is unharmed");
    assert_eq!(bundle.act("delete", &[]).status.code(), Some(1), "it is not stopped");
    good(bundle.act("start", &[]));
    wait_until("it runs", || bundle.said() == "started\n");
    assert_eq!(bundle.status(), "running");
    assert_eq!(bundle.act("start", &[]).status.code(), Some(1), "it runs already");
    assert_eq!(good(bundle.command("list").output().expect("list")), "one running\n");
    good(bundle.act("kill", &["SIGKILL"]));
    wait_until("it has stopped", || bundle.status() == "stopped");
    assert!(bundle.state().get("pid").is_none());
    assert_eq!(bundle.act("kill", &["KILL"]).status.code(), Some(1), "it is stopped");
    good(bundle.act("delete", &[]));
    bundle.assert_gone();
    assert_eq!(bundle.act("state", &[]).status.code(), Some(1));
    good(bundle.command("delete").args(["--force", ID]).output().expect("delete"));
}

#[test]
fn a_start_that_fails_says_why_to_who_starts() {
    let mut bundle = Bundle::new("");
    bundle.args(&["/bin/none"]);
    bundle.create();
    let output = bundle.act("start", &[]);
    assert_eq!(output.status.code(), Some(127), "{output:?}");
    assert!(complaint(&output).contains("/bin/none"), "{output:?}");
    wait_until("it has stopped", || bundle.status() == "stopped");
    good(bundle.act("delete", &[]));
    bundle.assert_gone();
}

#[test]
fn a_detached_run_returns_at_the_start_and_force_deletes_what_runs() {
    let bundle = Bundle::new("sleep 1000");
    let pid_file = bundle.dir.path().join("pid");
    let mut run = bundle.running();
    run.args(["--detach", "--pid-file"]).arg(&pid_file).arg(ID);
    let status = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("run").success());
    assert_eq!(bundle.status(), "running");
    let pid: i64 = fs::read_to_string(&pid_file).expect("file").parse().expect("pid");
    assert_eq!(bundle.state()["pid"], pid);
    good(bundle.command("delete").args(["--force", ID]).output().expect("delete"));
    bundle.assert_gone();
}

#[test]
fn an_exec_joins_the_container_and_ends_as_its_process() {
    let mut bundle = Bundle::new("echo ready; sleep 1000");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }],
    });
    for mapped in [false, true] {
        if mapped {
            bundle.mapped(1_700_000_000);
        }
        let mut child = bundle.spawn();
        let said = good(bundle.exec(&[
            "sh",
            "-c",
            "hostname; id -u; grep -E '^Seccomp:|^CapEff' /proc/self/status",
        ]));
        assert_eq!(said, "inside\n0\nCapEff:\t0000000020000420\nSeccomp:\t2\n");
        let groups = good(bundle.exec(&["cat", "/proc/self/cgroup"]));
        assert!(groups.lines().all(|line| line.ends_with(":/")), "{groups}");
        for (words, code) in [(&["sh", "-c", "exit 7"][..], 7), (&["/none"], 127), (&["/etc/passwd"], 126)] {
            assert_eq!(bundle.exec(words).status.code(), Some(code), "{words:?}");
        }
        let mut as_web = bundle.command("exec");
        as_web.args([
            "--user",
            "33:33",
            "--cwd",
            "/tmp",
            "--env",
            "A=b",
            ID,
            "sh",
            "-c",
            "id -u; pwd; echo $A",
        ]);
        assert_eq!(good(as_web.output().expect("exec")), "33\n/tmp\nb\n");
        good(bundle.act("kill", &["KILL"]));
        assert_eq!(child.wait().expect("run").code(), Some(137));
        bundle.assert_gone();
    }
    assert_eq!(bundle.exec(&["true"]).status.code(), Some(125), "there is no container");
}

#[test]
fn an_exec_into_a_frozen_container_does_not_hang() {
    let bundle = Bundle::new("echo ready; sleep 1000");
    let mut child = bundle.spawn();
    let layout = wharf_runtime::cgroup::Layout::detect().expect("cgroups");
    let group = wharf_runtime::cgroup::Cgroup::open(&layout, &bundle.cgroup()).expect("group");
    group.freeze().expect("freeze");
    let output = bundle.exec(&["true"]);
    assert!(complaint(&output).contains("frozen"), "{output:?}");
    group.thaw().expect("thaw");
    good(bundle.act("kill", &["KILL"]));
    child.wait().expect("run");
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    let mut bundle = Bundle::new("test -t 0 && test -t 1 && tty && echo yes");
    bundle.config["process"]["terminal"] = json!(true);
    let path = bundle.dir.path().join("console");
    let listener = UnixListener::bind(&path).expect("socket");
    let mut create = bundle.command("create");
    bundle.write();
    create.arg("--bundle").arg(bundle.dir.path()).arg("--console-socket").arg(&path).arg(ID);
    let mut child = create.stdin(Stdio::null()).spawn().expect("create");
    let (connection, _) = listener.accept().expect("connection");
    let (_, fds) = recv_with_fds(connection.as_fd(), &mut [0; 64]).expect("terminal");
    assert!(child.wait().expect("create").success());
    good(bundle.act("start", &[]));
    let mut master = fs::File::from(fds.into_iter().next().expect("a descriptor"));
    let mut text = Vec::new();
    // The end of a terminal is an error.
    master.read_to_end(&mut text).ok();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("/dev/") && text.contains("yes"), "{text}");
    wait_until("it has stopped", || bundle.status() == "stopped");
    good(bundle.act("delete", &[]));
}

#[test]
fn a_caller_that_stays_is_the_other_side_of_the_terminal() {
    let mut bundle = Bundle::new("test -t 0 && echo yes; exit 4");
    bundle.config["process"]["terminal"] = json!(true);
    let output = bundle.run();
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "yes\r\n");
}
