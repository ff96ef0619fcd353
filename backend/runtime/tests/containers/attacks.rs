//! A hostile root in a container, and hostile images: what they try and do not get.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use wharf_runtime::Stage;
use wharf_runtime::launch::{Created, Stdio};
use wharf_runtime::spec::{MountSource, MountSpec};
use wharf_sys::process::fork;

use crate::Case;
use crate::sandbox::{Sandbox, chain, finish, process, run_exec, start_exec, wait};

pub const CASES: &[Case] = &[
    ("who_enters_a_container_cannot_be_looked_into_from_inside", entering),
    ("a_working_directory_that_is_swapped_meanwhile_stays_inside", swapped_cwd),
    ("a_console_in_the_image_is_not_where_the_terminal_goes", console),
    ("a_proc_in_the_image_gets_nothing_written", fake_proc),
    ("a_read_only_bind_is_read_only_below_too", read_only_below),
    ("a_set_user_id_program_gives_nothing", set_user_id),
    ("an_exec_is_filtered_and_bounded_as_the_first_process", exec_confined),
    ("memory_of_another_process_is_not_read_by_a_call", stolen_memory),
    ("a_user_without_capabilities_binds_low_ports_and_pings", low_ports),
    ("dev_cannot_be_filled", full_dev),
    ("files_of_the_host_belong_to_nobody_and_ids_end_with_the_range", foreign_ids),
];

/// How often the races are run.
fn rounds() -> usize {
    if std::env::var_os("WHARF_SOAK").is_some() { 2_000 } else { 60 }
}

/// Attacks: A1, A2.
fn entering() {
    let mut sandbox = Sandbox::new("entering");
    sandbox.spec.process.args = ["/bin/probe", "--inside", "scan"].map(Into::into).into();
    let (running, mut out, err) = sandbox.start().expect("start");
    let mut first = [0; 9];
    out.read_exact(&mut first).expect("it scans");
    let program = std::env::current_exe().expect("own path");
    let before = fs::read(&program).expect("own program");
    for _ in 0..rounds() {
        let done = start_exec(&running, process(&["true"]), Stdio::default()).expect("exec");
        wait(&done.pidfd);
    }
    sandbox.cgroup.kill().expect("kill");
    let outcome = finish(&running.pidfd, out, err);
    assert_eq!(outcome.stdout, "", "it saw who enters");
    assert!(fs::read(&program).expect("own program") == before, "the host's program was changed");
}

/// Attacks: A4.
fn swapped_cwd() {
    let mut sandbox = Sandbox::new("swapped");
    sandbox.script(
        "mkdir /race /race/real; echo ready; while :; do rm -f /race/cwd; ln -s /proc/self/fd/7 /race/cwd; \
         rm -f /race/cwd; ln -s /proc/1/cwd /race/cwd; rm -f /race/cwd; ln -s real /race/cwd; done",
    );
    let (running, mut out, _err) = sandbox.start().expect("start");
    let mut first = [0; 6];
    out.read_exact(&mut first).expect("ready");
    let (mut inside, mut refused) = (0, 0);
    for _ in 0..rounds() {
        let mut exec = process(&["/bin/sh", "-c", "pwd -P; stat -c %d . /"]);
        exec.cwd = "/race/cwd".into();
        match start_exec(&running, exec.clone(), Stdio::default()) {
            Err(error) => {
                assert_eq!(error.stage(), Some(Stage::EnterDirectory), "{}", chain(&error));
                refused += 1;
            }
            Ok(started) => {
                wait(&started.pidfd);
                inside += 1;
            }
        }
        // The same again, with what it sees: it may be refused now, but never be outside.
        if let Ok(text) = std::panic::catch_unwind(|| run_exec(&running, exec).stdout) {
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines[0].starts_with('/') && lines[1] == lines[2], "{text}");
        }
    }
    println!("{inside} were inside, {refused} refused");
    sandbox.cgroup.kill().expect("kill");
    wait(&running.pidfd);
}

/// Attacks: B3.
fn console() {
    let mut sandbox = Sandbox::new("console");
    fs::create_dir(sandbox.layer().join("dev")).expect("directory");
    fs::write(sandbox.layer().join("victim"), "untouched\n").expect("file");
    symlink("/victim", sandbox.layer().join("dev/console")).expect("link");
    symlink("/victim", sandbox.layer().join("dev/ptmx")).expect("link");
    sandbox.script("echo typed >/dev/console; stat -c %t /dev/console >/kind; cat /victim >/seen");
    sandbox.spec.process.terminal = true;
    let running = sandbox.create(Stdio::default()).and_then(Created::start).expect("start");
    wait(&running.pidfd);
    let upper = sandbox.spec.rootfs.writable.join("upper");
    // 0x88: major 136, a terminal of devpts.
    assert_eq!(fs::read_to_string(upper.join("kind")).expect("kind"), "88\n");
    assert_eq!(fs::read_to_string(upper.join("seen")).expect("seen"), "untouched\n");
}

/// Attacks: B4.
fn fake_proc() {
    let mut sandbox = Sandbox::new("fake-proc");
    let fake = |path: &str| {
        let file = sandbox.layer().join(path);
        fs::create_dir_all(file.parent().expect("parent")).expect("directory");
        fs::write(file, "image\n").expect("file");
    };
    for path in [
        "proc/sys/net/ipv4/ip_unprivileged_port_start",
        "proc/self/attr/exec",
        "proc/self/uid_map",
        "proc/self/oom_score_adj",
        "proc/thread-self/attr/apparmor/exec",
    ] {
        fake(path);
    }
    sandbox.spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "77".into());
    sandbox.spec.process.oom_score_adj = Some(500);
    sandbox.script("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/oom_score_adj");
    assert_eq!(sandbox.run().success(), "77\n500\n");
    let written = sandbox.spec.rootfs.writable.join("upper/proc");
    assert!(!written.exists(), "something was written into the image's own /proc");
}

/// Attacks: B8.
fn read_only_below() {
    let mut sandbox = Sandbox::new("ro-below");
    let shared = sandbox.dir.join("shared");
    fs::create_dir_all(shared.join("below")).expect("directory");
    let source = MountSource::Bind { path: shared.clone(), idmap: false };
    sandbox.spec.mounts =
        vec![MountSpec { source, target: "/ro".into(), read_only: true, no_exec: false, shallow: false }];
    sandbox.script(
        "mount | grep -c ' /ro/below '; for f in /ro/x /ro/below/x; do (echo x >$f) 2>/dev/null && echo WROTE $f; done; true",
    );
    // A mount below the bound directory, in a mount namespace that ends with the child.
    let child = fork(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("mount namespace");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private");
        let mode = Some("mode=777");
        mount(Some("none"), &shared.join("below"), Some("tmpfs"), MsFlags::empty(), mode).expect("tmpfs");
        i32::from(sandbox.run().success() != "1\n")
    })
    .expect("fork");
    let status = waitpid(Pid::from_raw(child), None).expect("wait");
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

/// Attacks: C10.
fn set_user_id() {
    let mut sandbox = Sandbox::new("suid");
    let probe = sandbox.spec.rootfs.layer_root.join("base/bin/probe");
    let evil = sandbox.layer().join("evil");
    fs::copy(&probe, &evil).expect("copy");
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o6755)).expect("mode");
    assert_eq!((fs::metadata(&evil).expect("file").mode() & 0o7777, 0), (0o6755, 0));
    sandbox.spec.process.args = ["/evil", "--inside", "ids"].map(Into::into).into();
    sandbox.spec.process.user = "web".into();
    assert_eq!(sandbox.run().success(), "33 33\n");
}

/// Attacks: D1, D7, D8.
fn exec_confined() {
    let mut sandbox = Sandbox::new("exec-confined");
    sandbox.script("exec sleep 100");
    let (running, ..) = sandbox.start().expect("start");
    let look = "grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/$1/status";
    let of = |pid: &str| run_exec(&running, process(&["/bin/sh", "-c", look, "sh", pid])).success();
    let (first, own) = (of("1"), of("self"));
    assert_eq!(first, own);
    assert!(first.contains("Seccomp:\t2") && first.contains("CapInh:\t0000000000000000"), "{first}");
    let text = run_exec(&running, process(&["/bin/probe", "--inside"])).success();
    for expected in ["alg EPERM", "mount EPERM", "keyring EPERM", "bpf EPERM", "clone3 ENOSYS"] {
        assert!(text.lines().any(|line| line == expected), "{expected} is missing in:\n{text}");
    }
}

/// Attacks: D10.
fn stolen_memory() {
    let mut sandbox = Sandbox::new("steal");
    sandbox.script("exec sleep 100");
    let (running, ..) = sandbox.start().expect("start");
    let stolen = run_exec(&running, process(&["/bin/probe", "--inside", "steal"])).success();
    assert_eq!(stolen, "EPERM\n");
    // Another container of the same tenant does not even see it.
    let mut other = Sandbox::new("steal-other");
    other.script("ls -d /proc/[0-9]* | wc -l");
    let seen: u32 = other.run().success().trim().parse().expect("a number");
    assert!(seen <= 4, "{seen} processes are seen");
}

/// Attacks: D14.
fn low_ports() {
    let mut sandbox = Sandbox::new("low-ports");
    // As the agent sets them.
    sandbox.spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    sandbox.spec.sysctls.insert("net.ipv4.ping_group_range".into(), "0 65535".into());
    sandbox.spec.process.user = "web".into();
    sandbox.spec.process.capabilities.clear();
    sandbox.spec.process.args = ["/bin/probe", "--inside", "low"].map(Into::into).into();
    assert_eq!(sandbox.run().success(), "bound\npings\n");
}

/// Attacks: E6.
fn full_dev() {
    let mut sandbox = Sandbox::new("full-dev");
    sandbox.script(
        "dd if=/dev/zero of=/dev/fill bs=4k count=100 2>/dev/null || echo bytes; \
         i=0; while [ $i -lt 400 ]; do i=$((i+1)); touch /dev/f$i 2>/dev/null || break; done; [ $i -lt 300 ] && echo files; \
         stat -c %s /dev/fill",
    );
    let outcome = sandbox.run();
    let text = &outcome.stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.get(..2), Some(["bytes", "files"].as_slice()), "{outcome:?}");
    assert!(lines[2].parse::<u64>().expect("size") <= 65_536, "{text}");
}

/// Attacks: D3, D4.
fn foreign_ids() {
    let mut sandbox = Sandbox::new("foreign-ids");
    let file = sandbox.dir.join("host-file");
    fs::write(&file, "host\n").expect("file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode");
    let source = MountSource::Bind { path: file.clone(), idmap: false };
    sandbox.spec.mounts = vec![MountSpec {
        source,
        target: "/host-file".into(),
        read_only: false,
        no_exec: false,
        shallow: false,
    }];
    sandbox.script(
        "stat -c %u:%g /host-file; cat /host-file 2>/dev/null || echo unreadable; \
         (echo x >/host-file) 2>/dev/null || echo unwritable; chown 65536 /tmp 2>/dev/null || echo no such id; \
         chown 0 /host-file 2>/dev/null || echo not ours; \
         awk '{print $1, $3}' /proc/self/uid_map /proc/self/gid_map",
    );
    assert_eq!(
        sandbox.run().success(),
        "65534:65534\nunreadable\nunwritable\nno such id\nnot ours\n0 65536\n0 65536\n"
    );
    assert_eq!(fs::read_to_string(&file).expect("file"), "host\n");
}
