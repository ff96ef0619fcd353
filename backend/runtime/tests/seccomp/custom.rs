//! Profiles in Docker's JSON: what our program says is what libseccomp's says.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use wharf_runtime::seccomp::{Circumstances, Profile, Written};

use crate::default::{SHIPPED, capability_sets, profile_of};
use crate::oracle::{self, NATIVE, X32, arguments, calls, run};

fn same(profile: &Profile) {
    let ours = profile.compile().expect("program");
    let theirs = oracle::compile(profile);
    for call in calls().filter(|call| *call < X32) {
        for arguments in arguments(profile, call) {
            assert_eq!(
                run(&ours, NATIVE, call, arguments),
                run(&theirs, NATIVE, call, arguments),
                "call {call} with {arguments:x?} under {profile:#x?}"
            );
        }
    }
    for architecture in [0x4000_0003, 0x4000_0028, 0] {
        assert_eq!(run(&ours, architecture, 1, [0; 6]), 0x8000_0000);
    }
}

#[test]
fn the_shipped_profile_means_what_libseccomp_makes_of_it() {
    for capabilities in capability_sets().into_iter().take(3) {
        same(&profile_of(SHIPPED, &capabilities));
    }
}

const ACTIONS: [&str; 6] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
];

fn argument() -> impl Strategy<Value = Value> {
    let values = [0_u64, 1, 2, 0x7e02_0000, 0xffff_ffff, 1 << 32, 1 << 63, (1 << 32) + 7, u64::MAX];
    let value = prop_oneof![proptest::sample::select(values.to_vec()), any::<u64>()];
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    (0_u8..6, value.clone(), value, proptest::sample::select(operators.to_vec())).prop_map(
        |(index, value, two, operator)| {
            json!({ "index": index, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{operator}") })
        },
    )
}

/// A call without conditions, or with some.
fn call() -> impl Strategy<Value = Value> {
    let names = ["read", "write", "socket", "ioctl", "clone", "mmap", "prctl", "chown32", "futex_waitv"];
    let always = (0..names.len(), 0..ACTIONS.len(), any::<Option<u8>>()).prop_map(move |(name, action, number)| {
        json!({ "names": [names[name], "reboot"], "action": ACTIONS[action], "errnoRet": number })
    });
    let sometimes =
        (0..names.len(), proptest::collection::vec(argument(), 1..4)).prop_map(move |(name, mut args)| {
            // Several on one argument would be several rules.
            let mut seen = BTreeSet::new();
            args.retain(|argument| seen.insert(argument["index"].to_string()));
            json!({ "name": names[name], "action": ACTIONS[name % ACTIONS.len()], "args": args })
        });
    prop_oneof![1 => always, 3 => sometimes]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_profile_means_what_libseccomp_makes_of_it(
        default in proptest::sample::select(ACTIONS.to_vec()),
        calls in proptest::collection::vec(call(), 0..8),
    ) {
        // Where one call has several rules with conditions, libseccomp 2.5 loses some of those that compare
        // by order; the order of rules has a test of its own beside the compiler.
        let mut named = BTreeSet::new();
        let mut calls = calls;
        calls.retain(|call| call.get("name").is_none_or(|name| named.insert(name.to_string())));
        calls.push(json!({ "names": ["execve"], "action": "SCMP_ACT_ALLOW" }));
        let text = json!({ "defaultAction": default, "syscalls": calls }).to_string();
        let circumstances = Circumstances { capabilities: Vec::new(), kernel: (6, 18) };
        let profile = Written::parse(text.as_bytes()).and_then(|written| written.profile(&circumstances));
        same(&profile.expect("profile"));
    }
}
