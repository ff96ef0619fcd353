//! What a container finds inside: everything that the configuration says, and no more.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::json;

use crate::bundle::{Bundle, ID, feed, good, wait_until};

#[test]
fn environment_directory_host_name_and_streams_are_as_described() {
    let mut bundle = Bundle::new("pwd; hostname; echo $GREETING $HOME; umask; cat; echo complaint >&2");
    bundle.config["process"]["cwd"] = json!("/tmp");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "GREETING=hello world"]);
    bundle.write();
    let output = feed(bundle.running().arg(ID), "typed\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "complaint\n");
    assert_eq!(good(output), "/tmp\ninside\nhello world /root\n0022\ntyped\n");
    bundle.assert_gone();
}

#[test]
fn user_groups_and_capabilities_are_exactly_those_described() {
    let status = "grep -E '^(Cap|NoNewPrivs|Uid|Groups)' /proc/self/status";
    let mut bundle = Bundle::new(status);
    // The image's names mean nothing to numbers.
    fs::write(bundle.root().join("etc/passwd"), "33:x:0:0::/:/bin/sh\n").expect("file");
    let root = bundle.say();
    for line in ["CapEff:\t0000000020000420", "CapBnd:\t0000000020000420", "CapAmb:\t0000000000000000"] {
        assert!(root.contains(line), "{line} is missing in {root}");
    }
    let all = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    bundle.config["process"]["user"] = json!({ "uid": 33, "gid": 34, "additionalGids": [5, 77] });
    bundle.config["process"]["capabilities"] = json!({
        "bounding": all, "permitted": all, "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
        "ambient": all,
    });
    let web = bundle.say();
    for line in [
        "Uid:\t33\t33\t33\t33",
        "Groups:\t5 77",
        "CapInh:\t0000000000000020",
        "CapPrm:\t0000000000000020",
        "CapEff:\t0000000000000020",
        "CapBnd:\t0000000000000420",
        "CapAmb:\t0000000000000020",
        "NoNewPrivs:\t1",
    ] {
        assert!(web.contains(line), "{line} is missing in {web}");
    }
}

#[test]
fn masked_paths_are_empty_and_read_only_ones_cannot_be_written() {
    let bundle = Bundle::new(
        "wc -c </proc/keys; ls /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/hostname 2>/dev/null || echo no; \
         mkdir /sys/fs/cgroup/x 2>/dev/null || echo no",
    );
    assert_eq!(bundle.say(), "0\n0\nno\nno\n");
}

#[test]
fn a_read_only_root_has_writable_mounts() {
    let mut bundle =
        Bundle::new("echo x >/file || echo refused; echo y >/tmp/file; cat /tmp/file; cat /data/in");
    let data = bundle.dir.path().join("data");
    fs::create_dir(&data).expect("directory");
    fs::write(data.join("in"), "bound\n").expect("file");
    bundle.config["root"]["readonly"] = json!(true);
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.push(json!({ "destination": "/tmp", "type": "tmpfs", "options": ["size=1m", "mode=1777"] }));
    mounts.push(json!({ "destination": "/data", "type": "none", "source": data, "options": ["bind", "ro"] }));
    assert_eq!(bundle.say(), "refused\ny\nbound\n");
    assert!(!bundle.root().join("file").exists());
}

#[test]
fn a_plain_root_keeps_what_is_written_and_an_overlay_does_not() {
    let mut bundle = Bundle::new("echo x >/made; cat /made");
    assert_eq!(bundle.say(), "x\n");
    assert!(bundle.root().join("made").exists());
    let above = bundle.dir.path().join("above");
    fs::create_dir(&above).expect("directory");
    bundle.args(&["sh", "-c", "rm /made; echo y >/other; ls /made /other"]);
    let output = bundle.running().arg("--overlay").arg(&above).arg(ID).output().expect("run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/other\n");
    assert!(bundle.root().join("made").exists() && !bundle.root().join("other").exists());
    wait_until("the layer is gone", || fs::read_dir(&above).expect("above").count() == 0);
}

#[test]
fn in_a_user_namespace_layers_are_shifted_and_the_host_is_nobody() {
    let mut bundle =
        Bundle::new("cat /proc/self/uid_map; stat -c %u /bin/busybox /proc/sys; touch /new; stat -c %u /new");
    bundle.mapped(1_700_000_000);
    let above = bundle.dir.path().join("above");
    fs::create_dir(&above).expect("directory");
    bundle.config["annotations"] = json!({ "org.wharfage.overlay": above });
    let said = bundle.say();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "1700000000", "65536", "0", "65534", "0"], "{said}");
    assert_eq!(fs::metadata(bundle.root().join("bin/busybox")).expect("file").uid(), 0);
}

#[test]
fn a_network_is_empty_or_the_one_at_a_path() {
    let mut bundle = Bundle::new("ls /sys/class/net; readlink /proc/self/ns/net");
    let own = fs::read_link("/proc/self/ns/net").expect("link").to_string_lossy().into_owned();
    let private = bundle.say();
    assert!(private.starts_with("lo\n") && !private.contains(&own), "{private}");
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces") {
        if namespace["type"] == "network" {
            namespace["path"] = json!("/proc/self/ns/net");
        }
    }
    assert!(bundle.say().contains(&own));
    bundle.mapped(1_700_000_000);
    assert!(bundle.say().contains(&own), "also from a user namespace that does not own it");
}

#[test]
fn the_filter_of_the_configuration_holds() {
    let mut bundle = Bundle::new("mkdir /tmp/a && echo made; grep Seccomp: /proc/self/status");
    assert_eq!(bundle.say(), "made\nSeccomp:\t0\n", "without one there is none");
    let rule = json!([{ "names": ["mkdir", "mkdirat", "arm_sync_file_range"], "action": "SCMP_ACT_ERRNO" }]);
    bundle.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule[0]] });
    let refused = bundle.run();
    assert_eq!(refused.status.code(), Some(125), "a name that may be newer than this program");
    bundle.config["linux"]["seccomp"]["syscalls"][0]["names"] = json!(["mkdir", "mkdirat"]);
    bundle.args(&["sh", "-c", "mkdir /tmp/b; grep Seccomp: /proc/self/status"]);
    for no_new_privileges in [true, false] {
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let output = bundle.run();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "Seccomp:\t2\n", "{output:?}");
        assert!(!bundle.root().join("tmp/b").exists());
    }
}

#[test]
fn a_filter_that_refuses_everything_but_the_program_is_no_obstacle_to_its_start() {
    let mut bundle = Bundle::new("");
    bundle.args(&["/bin/true"]);
    let names = [
        "execve",
        "exit",
        "exit_group",
        "brk",
        "mmap",
        "munmap",
        "mprotect",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "getrandom",
        "readlinkat",
        "readlink",
        "newfstatat",
        "prctl",
        "uname",
        "write",
        "setuid",
        "setgid",
        "rt_sigaction",
    ];
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
    });
    bundle.say();
}

#[test]
fn limits_are_written_before_the_first_instruction() {
    let mut bundle = Bundle::new("for i in 1 2 3 4 5 6 7 8; do sleep 9 & done; echo at the end");
    bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 4 });
    bundle.config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    bundle.config["linux"]["resources"]["cpu"] = json!({ "quota": 50_000, "period": 100_000, "shares": 512 });
    let output = bundle.run();
    assert!(String::from_utf8_lossy(&output.stderr).contains("fork"), "{output:?}");
    bundle.assert_gone();
    bundle.args(&["sh", "-c", "echo ready; sleep 100"]);
    let mut child = bundle.spawn();
    let limit = |name: &str| {
        let values = bundle.groups().into_iter().filter_map(|dir| fs::read_to_string(dir.join(name)).ok());
        values.map(|value| value.trim().to_owned()).next()
    };
    let memory = limit("memory.max").or_else(|| limit("memory.limit_in_bytes"));
    assert_eq!(memory.as_deref(), Some("67108864"));
    let quota = limit("cpu.max").or_else(|| limit("cpu.cfs_quota_us")).expect("quota");
    assert!(quota == "50000 100000" || quota == "50000", "{quota}");
    bundle.act("kill", &["KILL"]);
    assert_eq!(child.wait().expect("run").code(), Some(137));
}

#[test]
fn only_the_devices_of_the_configuration_can_be_opened() {
    let mut bundle = Bundle::new(
        "stat -c %t:%T:%a /dev/extra; head -c 1 /dev/extra | wc -c; head -c 1 /dev/other 2>/dev/null || echo closed",
    );
    bundle.config["linux"]["devices"] = json!([
        { "path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640 },
        { "path": "/dev/other", "type": "c", "major": 1, "minor": 11 },
        { "path": "/dev/null", "type": "c", "major": 1, "minor": 3 },
    ]);
    let said = bundle.run();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "1:5:640\n1\nclosed\n", "{said:?}");
}

#[test]
fn limits_of_resources_and_parameters_are_set() {
    let mut bundle = Bundle::new("ulimit -n; ulimit -c; cat /proc/sys/net/ipv4/ip_unprivileged_port_start");
    bundle.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
    ]);
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_unprivileged_port_start": "80" });
    assert_eq!(bundle.say(), "100\n0\n80\n");
}
