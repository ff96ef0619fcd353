//! Containers for real: as root, on this kernel, in cgroups and directories of their own.
//!
//! Not under libtest, whose threads a launch refuses: each case runs alone, in this one thread.
//! `cargo test -p wharf-runtime --test containers <part of a name>` runs some. With `--inside` the
//! program is the probe that other cases run in a container.

#![expect(clippy::print_stdout, reason = "the harness prints its results")]
#![expect(clippy::expect_used, clippy::panic, reason = "cases fail by panicking")]
#![expect(unreachable_pub, reason = "a program of cases, not a library")]

mod apparmor;
mod attacks;
mod checkpoint;
mod faults;
mod isolation;
mod lifecycle;
mod limits;
mod probe;
mod rootfs;
mod sandbox;

use std::panic::catch_unwind;
use std::process::ExitCode;

/// A case: its name, a sentence, and what it does.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "--inside") {
        probe::run();
        return ExitCode::SUCCESS;
    }
    let cases = || {
        [
            lifecycle::CASES,
            limits::CASES,
            isolation::CASES,
            rootfs::CASES,
            checkpoint::CASES,
            attacks::CASES,
            apparmor::CASES,
            faults::CASES,
        ]
        .into_iter()
        .flatten()
    };
    if arguments.iter().any(|argument| argument == "--list") {
        cases().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    assert!(nix::unistd::geteuid().is_root(), "containers need root: run these tests as root");
    let wanted = |name: &str| {
        let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
        filters.is_empty() || filters.iter().any(|filter| name.contains(*filter))
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in cases().filter(|(name, _)| wanted(name)) {
        let ok = catch_unwind(case).is_ok();
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        if ok { passed += 1 } else { failed += 1 }
    }
    println!("\ntest result: {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
