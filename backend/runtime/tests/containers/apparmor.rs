//! The profile of a host that has AppArmor, as Debian's kernel in the guest does.

use wharf_runtime::Stage;
use wharf_runtime::apparmor::{Standing, load, standing};
use wharf_runtime::launch::Stdio;
use wharf_runtime::spec::Seccomp;

use crate::Case;
use crate::sandbox::{Sandbox, chain, process, run_exec};

pub const CASES: &[Case] = &[
    ("a_profile_refuses_what_nothing_else_does_to_a_container_its_execs_and_our_init", profile),
    ("a_profile_that_is_not_loaded_is_named_before_anything_runs", unknown),
];

/// `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`.
const ALL_BUT_THE_PROFILE: [u8; 2] = [12, 21];

/// Attacks: B13.
fn profile() {
    let Standing::Usable { parser } = standing() else {
        assert!(std::env::var_os("WHARF_APPARMOR").is_none(), "the guest has none: {:?}", standing());
        println!("not tried: this host has no AppArmor");
        return;
    };
    let name = format!("wharf-test-{}", std::process::id());
    load(&parser, &name).expect("our profile is loaded");
    let attempt = "cat /proc/self/attr/current
        (echo 1 >/proc/sys/net/ipv4/ip_forward) 2>/dev/null && echo wrote
        mkdir -p /on && mount -t tmpfs none /on 2>/dev/null && echo mounted
        kill -0 1 && echo reached";
    let confined = format!("{name} (enforce)\nreached\n");

    // All other walls are taken away, so that what is refused is refused by the profile.
    let mut sandbox = Sandbox::new("apparmor");
    sandbox.spec.read_only_paths.clear();
    sandbox.spec.masked_paths.clear();
    sandbox.spec.process.seccomp = Seccomp::Unconfined;
    sandbox.spec.process.capabilities.extend(ALL_BUT_THE_PROFILE);
    sandbox.script(attempt);
    assert_eq!(sandbox.run().success(), "unconfined\nwrote\nmounted\nreached\n");

    sandbox.again();
    sandbox.spec.process.apparmor = Some(name.clone());
    assert_eq!(sandbox.run().success(), confined);

    sandbox.again();
    sandbox.spec.init = true;
    sandbox.script("exec sleep 100");
    let (running, ..) = sandbox.start().expect("start");
    let mut exec = process(&["/bin/sh", "-c", attempt]);
    exec.apparmor = Some(name.clone());
    assert_eq!(run_exec(&running, exec.clone()).success(), confined);
    exec.args = ["/bin/cat", "/proc/1/attr/current", "/proc/2/attr/current"].map(Into::into).into();
    assert_eq!(run_exec(&running, exec).success(), format!("{name} (enforce)\n").repeat(2));
}

fn unknown() {
    let mut sandbox = Sandbox::new("apparmor-unknown");
    sandbox.spec.process.apparmor = Some("wharf-no-such".into());
    let error = sandbox.create(Stdio::default()).expect_err("no such profile");
    assert_eq!(error.stage(), Some(Stage::DropPrivileges));
    assert!(chain(&error).contains("wharf-no-such"), "{}", chain(&error));
}
