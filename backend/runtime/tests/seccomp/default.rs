//! The default policy: nowhere laxer than a profile in Docker's JSON, as libseccomp compiles it.
//!
//! At hand is always the one that Debian ships. That which Docker has now is looked at as well when
//! `WHARF_SECCOMP_PROFILE` names its file, and then no exception holds.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;

use syscalls::Sysno;
use wharf_runtime::seccomp::{Circumstances, Policy, Profile, Written, compile};

use crate::oracle::{self, NATIVE, X32, arguments, calls, run, strictness};

/// In Docker's JSON, of Debian's golang-github-containers-common, which skopeo brings.
pub(crate) const SHIPPED: &str = "/usr/share/containers/seccomp.json";

const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The profile that a file holds, for these capabilities.
pub(crate) fn profile_of(file: &str, capabilities: &[u8]) -> Profile {
    let text = fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let name = |number: &u8| format!("CAP_{}", NAMES[usize::from(*number)]);
    let circumstances =
        Circumstances { capabilities: capabilities.iter().map(name).collect(), kernel: (6, 18) };
    Written::parse(&text).and_then(|written| written.profile(&circumstances)).expect("profile")
}

/// Calls that are permitted here though the shipped profile refuses them: younger than it, and in Docker's
/// profile since. Netlink sockets for audit messages bear no capability check there.
const SINCE: [&str; 23] = [
    "cachestat",
    "fchmodat2",
    "futex_requeue",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "getxattrat",
    "io_pgetevents",
    "listmount",
    "listxattrat",
    "lsm_get_self_attr",
    "lsm_list_modules",
    "lsm_set_self_attr",
    "map_shadow_stack",
    "mseal",
    "quotactl_fd",
    "removexattrat",
    "set_mempolicy_home_node",
    "setxattrat",
    "socket",
    "statmount",
    "uretprobe",
    "vmsplice",
];

/// Calls that are refused here though a profile permits them, for some capabilities, and why.
const STRICTER: [(&[&str], &str); 9] = [
    (&["process_vm_readv", "process_vm_writev"], "debuggers do with ptrace; these leave no trace of it"),
    (&["syslog"], "one capability is made for it, SYSLOG; SYS_ADMIN is not needed"),
    (&["bpf", "perf_event_open"], "holes in the kernel come by these; BPF and PERFMON alone do not do"),
    (&["keyctl", "pidfd_getfd"], "keys have no namespace; descriptors of others are theirs (Docker: same)"),
    (
        &["mount", "umount2", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick"],
        "mounts are the container's walls; without SYS_ADMIN nobody makes any (Docker: same)",
    ),
    (
        &["mount_setattr", "pivot_root", "setns", "unshare", "clone", "clone3"],
        "namespaces within the container show the kernel's least tried parts (Docker: same)",
    ),
    (&["mbind", "set_mempolicy", "get_mempolicy"], "placement of memory hurts neighbours (Docker: same)"),
    (
        &["reboot", "query_module"],
        "each needs its capability, and the second is none of today's (Docker: same)",
    ),
    (&["socket"], "an upper half that is not 0 is no address family (Docker: same)"),
];

/// The sets that are looked at: none, the default, each capability on top of it, all.
pub(crate) fn capability_sets() -> Vec<Vec<u8>> {
    let default = wharf_runtime::spec::DEFAULT_CAPABILITIES.to_vec();
    let one_more = (0..41).map(|more| default.iter().copied().chain([more]).collect());
    [vec![], default.clone(), (0..41).collect()].into_iter().chain(one_more).collect()
}

/// Names of the calls for which we are laxer and stricter than a profile.
fn differences(file: &str) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let (mut laxer, mut stricter) = (BTreeSet::new(), BTreeSet::new());
    for capabilities in capability_sets() {
        let profile = profile_of(file, &capabilities);
        let theirs = oracle::compile(&profile);
        let ours = compile(&Policy::default_for(&capabilities));
        for call in calls() {
            for arguments in arguments(&profile, call) {
                let our = strictness(run(&ours, NATIVE, call, arguments));
                if call >= X32 {
                    // Docker permits the x32 ABI, libseccomp asked for one architecture kills.
                    assert!(our >= 3, "{call:#x} is not refused");
                    continue;
                }
                let name =
                    Sysno::new(usize::try_from(call).expect("number")).map_or("none", |call| call.name());
                match our.cmp(&strictness(run(&theirs, NATIVE, call, arguments))) {
                    Ordering::Less => laxer.insert(name),
                    Ordering::Greater => stricter.insert(name),
                    Ordering::Equal => continue,
                };
            }
        }
    }
    (laxer, stricter)
}

/// Attacks: D6.
#[test]
fn the_default_is_nowhere_laxer_than_the_profiles_of_others_and_stricter_with_a_reason() {
    let known: BTreeSet<&str> = STRICTER.iter().flat_map(|(calls, _)| *calls).copied().collect();
    let (laxer, stricter) = differences(SHIPPED);
    assert_eq!(laxer, BTreeSet::from(SINCE));
    assert!(stricter.is_subset(&known), "{:?}", stricter.difference(&known));
    if let Ok(file) = std::env::var("WHARF_SECCOMP_PROFILE") {
        let (laxer, stricter) = differences(&file);
        assert_eq!(laxer, BTreeSet::new());
        assert!(stricter.is_subset(&known), "{:?}", stricter.difference(&known));
    }
}

/// Attacks: D6, F1.
#[test]
fn input_to_somebody_elses_terminal_and_foreign_architectures_are_refused() {
    for capabilities in capability_sets() {
        let ours = compile(&Policy::default_for(&capabilities));
        let ioctl = Sysno::ioctl.id().unsigned_abs();
        for request in [0x5412_u64, 0x541c] {
            for request in [request, request | 1 << 32, request | 0xffff_ffff << 32] {
                assert_eq!(run(&ours, NATIVE, ioctl, [0, request, 0, 0, 0, 0]), 0x0005_0001, "{request:#x}");
            }
        }
        assert_eq!(run(&ours, NATIVE, ioctl, [0, 0x5413, 0, 0, 0, 0]), 0x7fff_0000, "the size of a window");
        for architecture in [0x4000_0003, 0x4000_0028, 0] {
            assert_eq!(run(&ours, architecture, 1, [0; 6]), 0x8000_0000, "{architecture:#x}");
        }
    }
}
