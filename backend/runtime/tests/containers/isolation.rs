//! What a container sees and may do (SECURITY B, D, E, F).

use std::fs;
use std::io::Read as _;

use wharf_runtime::cgroup::LayoutKind;
use wharf_runtime::spec::{HostNamespaces, NetworkNamespace};

use crate::Case;
use crate::sandbox::{HOST_BASE, Sandbox, chain, process, run_exec, start_exec, wait, wait_until};

pub const CASES: &[Case] = &[
    ("the_filter_and_the_capabilities_refuse_what_they_should", probe),
    ("capabilities_no_new_privs_and_ids_are_as_described", privileges),
    ("masked_paths_are_empty_and_kernel_switches_read_only", masks),
    ("only_standard_devices_exist_and_open", devices),
    ("no_host_mount_is_visible_and_the_root_has_no_parent", mounts),
    ("only_three_descriptors_are_open", descriptors),
    ("a_program_that_opens_dev_stdout_again_can", reopen),
    ("signals_are_at_their_defaults", signals),
    ("parameters_of_own_namespaces_are_set", sysctls),
    ("host_namespaces_are_possible_without_a_user_namespace", operator),
    ("a_container_divides_the_group_that_is_handed_to_it", divides_its_group),
    ("a_container_shares_the_namespaces_that_it_is_given", shares_namespaces),
];

/// Attacks: D6, D9.
fn probe() {
    let mut sandbox = Sandbox::new("probe");
    sandbox.spec.process.args = vec!["/bin/probe".into(), "--inside".into()];
    let text = sandbox.run().success();
    for expected in [
        "inet ok",
        "alg EPERM",
        "vsock EPERM",
        "packet EPERM",
        "unshare-user EPERM",
        "unshare-mount EPERM",
        "mount EPERM",
        "keyring EPERM",
        "clone3 ENOSYS",
        "fork ok",
        "bpf EPERM",
        "mknod EPERM",
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected} is missing in:\n{text}");
    }
}

/// Attacks: D1, D3, D5, D8.
fn privileges() {
    let mut sandbox = Sandbox::new("privileges");
    sandbox.script("grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/1/status; cat /proc/self/uid_map; id; cat /etc/from-top; stat -c %u:%g /bin/busybox /home/web; echo x >/bin/new; stat -c %u /bin/new");
    let text = sandbox.run().success();
    for expected in [
        "CapInh:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "CapEff:\t00000000a00405fb",
        "CapBnd:\t00000000a00405fb",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Seccomp_filters:\t1",
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected} is missing in:\n{text}");
    }
    let map: Vec<&str> =
        text.lines().find(|line| line.contains("65536")).expect("map").split_whitespace().collect();
    assert_eq!(map, ["0", &HOST_BASE.to_string(), "65536"]);
    assert!(text.contains("uid=0(root) gid=0(root) groups=0(root)"), "{text}");
    assert!(text.ends_with("top\n0:0\n33:33\n0\n"), "layers are shifted into the tenant's range: {text}");
    let made =
        fs::metadata(sandbox.spec.rootfs.writable.join("upper/bin/new")).expect("in the upper directory");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), HOST_BASE);
    sandbox.spec.process.no_new_privs = false;
    sandbox.script("grep -E '^(CapEff|NoNewPrivs|Seccomp)' /proc/1/status");
    let text = sandbox.run().success();
    assert!(
        text.contains("NoNewPrivs:\t0") && text.contains("Seccomp:\t2") && text.contains("00000000a00405fb"),
        "{text}"
    );
}

/// Attacks: B11, B12, B13, E1, E10.
fn masks() {
    let mut sandbox = Sandbox::new("masks");
    sandbox.script("wc -c </proc/keys; wc -c </proc/timer_list; ls -A /sys/firmware | wc -l; for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cgroup.procs; do (echo x >$f) 2>/dev/null && echo WROTE $f; done; mkdir /sys/fs/cgroup/x 2>/dev/null && echo MADE; true");
    assert_eq!(sandbox.run().success(), "0\n0\n0\n");
}

/// Attacks: E2.
fn devices() {
    let mut sandbox = Sandbox::new("devices");
    sandbox.script("ls -A /dev | tr '\\n' ' '; echo; head -c 3 /dev/zero | wc -c; echo x >/dev/null && echo null; head -c 1 /dev/urandom | wc -c; rm /etc/from-top && echo whiteout");
    assert_eq!(
        sandbox.run().success(),
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \n3\nnull\n1\nwhiteout\n"
    );
    // A node that is not among the rules exists but cannot be opened.
    sandbox.spec.devices.push(wharf_runtime::spec::DeviceNode {
        path: "sub/mem".into(),
        character: true,
        major: 1,
        minor: 1,
        mode: 0o666,
    });
    sandbox.script("ls /dev/sub/mem; head -c 1 /dev/sub/mem");
    let outcome = sandbox.run();
    assert!(
        outcome.stdout.contains("/dev/sub/mem") && outcome.stderr.contains("not permitted"),
        "{outcome:?}"
    );
}

/// Attacks: B6, B7, B10.
fn mounts() {
    let mut sandbox = Sandbox::new("mounts");
    let before = fs::read_to_string("/proc/self/mountinfo").expect("table");
    sandbox.script("cat /proc/self/mountinfo; ls -di / /..; ls /");
    let (running, out, err) = sandbox.start().expect("start");
    assert_eq!(
        fs::read_to_string("/proc/self/mountinfo").expect("table"),
        before,
        "nothing shows on the host"
    );
    let text = crate::sandbox::finish(&running.pidfd, out, err).success();
    let upper = ["upperdir=/upper,", "upperdir=/proc/self/fd/"];
    assert!(upper.iter().any(|shown| root_of(&text).contains(shown)), "{text}");
    assert!(!text.contains("/var/tmp") && !text.contains("wharf-test"), "a path of the host: {text}");
    let root = root_of(&text);
    assert!(root.contains(" - overlay ") && root.contains("rw") && root.contains("nodev"), "{root}");
    assert!(root.contains("redirect_dir=nofollow"), "{root}");
    assert!(!text.contains("shared:"), "all mounts are private: {text}");
    let inodes: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_suffix(" /..").or(line.trim().strip_suffix(" /")))
        .collect();
    assert!(inodes.len() == 2 && inodes[0] == inodes[1], "{inodes:?}");
}

/// The line of the root in a mount table.
fn root_of(table: &str) -> &str {
    table.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("root")
}

/// Attacks: A3.
fn descriptors() {
    let mut sandbox = Sandbox::new("descriptors");
    let _leaked = fs::File::open("/").expect("open");
    sandbox.script("exec sleep 100");
    let (running, ..) = sandbox.start().expect("start");
    let open = |pid: i32| {
        let mut names: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("fds")
            .map(|entry| entry.expect("fd").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(open(running.pid), ["0", "1", "2"]);
    let started =
        start_exec(&running, process(&["/bin/sleep", "100"]), wharf_runtime::launch::Stdio::default())
            .expect("exec");
    assert_eq!(open(started.pid), ["0", "1", "2"]);
}

fn reopen() {
    let mut sandbox = Sandbox::new("reopen");
    sandbox.script("echo again >/dev/stdout");
    sandbox.spec.process.user = "web".into();
    assert_eq!(sandbox.run().success(), "again\n");
    sandbox.script("exec sleep 100");
    let (running, ..) = sandbox.start().expect("start");
    let mut exec = process(&["/bin/sh", "-c", "echo twice >/dev/stderr"]);
    exec.user = "web".into();
    assert_eq!(run_exec(&running, exec).stderr, "twice\n");
}

fn signals() {
    let mut sandbox = Sandbox::new("signals");
    // Not by way of a shell, which changes some itself.
    sandbox.spec.process.args = ["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"].map(Into::into).into();
    assert_eq!(sandbox.run().success(), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

/// Attacks: D13.
fn sysctls() {
    let mut sandbox = Sandbox::new("sysctls");
    sandbox.spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
    sandbox
        .script("cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ip link show lo | grep -c LOOPBACK,UP");
    assert_eq!(sandbox.run().success(), "80\n1\n");
    sandbox.spec.sysctls.insert("kernel.core_pattern".into(), "|/x".into());
    assert!(sandbox.start().is_err(), "a parameter of the host");
}

fn operator() {
    let mut sandbox = Sandbox::new("operator");
    sandbox.spec.id_map = None;
    std::os::unix::fs::chown(sandbox.spec.rootfs.writable.join("upper"), Some(0), Some(0)).expect("chown");
    sandbox.script("readlink /proc/self/ns/net; readlink /proc/self/ns/user; stat -c %u /bin/busybox");
    sandbox.spec.network = NetworkNamespace::Host;
    let host =
        |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).expect("namespace").display().to_string();
    let expected = format!("{}\n{}\n0\n", host("net"), host("user"));
    assert_eq!(sandbox.run().success(), expected);
    sandbox.spec.id_map = Some(wharf_runtime::spec::IdMap { host_base: HOST_BASE, size: 65_536 });
    std::os::unix::fs::chown(sandbox.spec.rootfs.writable.join("upper"), Some(HOST_BASE), Some(HOST_BASE))
        .expect("chown");
    assert!(sandbox.run().success().starts_with(&host("net")), "host network with a user namespace");
}

fn divides_its_group() {
    let mut sandbox = Sandbox::new("delegated");
    sandbox.cgroup.delegate(HOST_BASE).expect("a unified tree");
    sandbox.spec.delegate = true;
    // A controller is handed down where the unified tree has any: from then on the group takes no process.
    sandbox.script(
        "cd /sys/fs/cgroup && mkdir own && echo $$ >own/cgroup.procs && cat /proc/self/cgroup && \
         { echo +pids >cgroup.subtree_control; echo 9 >pids.max || echo kept; } 2>/dev/null; \
         echo 9 >cgroup.max.depth 2>/dev/null || echo kept too; exec sleep 100",
    );
    let (running, mut out, _err) = sandbox.start().unwrap_or_else(|error| panic!("{}", chain(&error)));
    let mut said = String::new();
    wait_until("it has divided its group", || {
        let mut chunk = [0; 4096];
        let count = out.read(&mut chunk).expect("read");
        said.push_str(&String::from_utf8_lossy(&chunk[..count]));
        said.contains("kept too")
    });
    assert!(said.contains("0::/own\n") && said.contains("kept\n"), "{said}");
    let joined = run_exec(&running, process(&["/bin/sh", "-c", "cat /proc/self/cgroup"])).success();
    let place = if sandbox.layout.kind() == LayoutKind::V2 { "0::/wharf.exec\n" } else { "0::/\n" };
    assert!(joined.contains(place), "{joined}");
    assert!(sandbox.cgroup.pids().expect("pids").contains(&running.pid));
    sandbox.cgroup.kill().expect("killed");
    wait(&running.pidfd);
    sandbox.wait_empty();
    sandbox.cgroup.remove().expect("all of it goes");
}

fn shares_namespaces() {
    let names = ["ipc", "mnt", "net", "pid", "user", "uts"];
    let host = names.map(|name| fs::read_link(format!("/proc/self/ns/{name}")).expect("namespace"));
    for shared in [&["uts"][..], &["user", "pid"], &["user", "ipc"], &["user", "pid", "ipc", "uts"]] {
        let mut sandbox = Sandbox::new("shared");
        let has = |name: &str| shared.contains(&name);
        sandbox.spec.host = HostNamespaces { pid: has("pid"), ipc: has("ipc"), uts: has("uts") };
        if has("user") {
            sandbox.spec.id_map = None;
            std::os::unix::fs::chown(sandbox.spec.rootfs.writable.join("upper"), Some(0), Some(0))
                .expect("chown");
        }
        sandbox.script("sleep 100 & exec sleep 100");
        let (running, ..) = sandbox.start().unwrap_or_else(|error| panic!("{shared:?}: {}", chain(&error)));
        for (name, host) in names.iter().zip(&host) {
            let inside = fs::read_link(format!("/proc/{}/ns/{name}", running.pid)).expect("namespace");
            assert_eq!(inside == *host, has(name), "{name} of {shared:?}");
        }
        run_exec(&running, process(&["/bin/true"])).success();
        sandbox.cgroup.kill().expect("killed");
        wait(&running.pidfd);
        sandbox.wait_empty();
    }
    let mut sandbox = Sandbox::new("refused");
    sandbox.spec.host.pid = true;
    assert!(sandbox.start().is_err(), "the host's processes are not for a root of its own");
}
