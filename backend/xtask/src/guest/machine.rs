//! Builds the suites, boots the guest, and reads what it prints.
//!
//! A guest that hangs is killed when its time is over; one that ends without having said how each
//! suite ended has failed, whatever it printed before.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use super::{image, kernel};
use crate::test::Tally;
use crate::{process, say};

/// What runs in the guest: package, test program and what the program is told. [`super::cuts::SUITE`] runs alone.
pub(super) const SUITES: &[(&str, &str, &str)] = &[
    ("wharf-runtime", "containers", ""),
    ("wharf-e2e", "guest", "--ignored --test-threads=1"),
    ("wharf-e2e", super::cuts::SUITE, "--ignored --test-threads=1 --nocapture"),
];

/// Builds what the end-to-end suites start.
const AGENT: &[&str] =
    &["build", "--package", "wharf-agent", "--package", "wharf-shim", "--package", "wharf-cli"];

/// How long a boot of the guest may live.
pub(super) const LIMIT_SECONDS: u64 = 15 * 60;
const SOAK_LIMIT_SECONDS: u64 = 60 * 60;

/// Runs the suites in the guest and returns how many of their tests passed and failed.
pub(crate) fn run(repo: &Path, filter: Option<&str>, is_soak: bool) -> Result<Tally> {
    let kernel = kernel::open(repo)?;
    let built = build(repo)?;
    let suites = &built.suites;
    let dir = repo.join("target/guest");
    image::make(&dir, &kernel, &built, filter)?;
    let mut console = Console::default();
    let begun = Instant::now();
    let limit_s = if is_soak { SOAK_LIMIT_SECONDS } else { LIMIT_SECONDS };
    let soak = if is_soak { "wharf.soak" } else { "" };
    let good = process::stream(&mut machine(&dir, &kernel, soak, limit_s), |line| {
        say::line(line.trim_end());
        console.read_line(line);
    })?;
    if begun.elapsed().as_secs() >= limit_s {
        bail!("the guest was killed after {limit_s} s; {}", console.tail());
    }
    // The one that cuts the power ends in boots of its own.
    if !good || console.ended.len() != suites.len() - 1 {
        bail!("the guest ended before its suites did; {}", console.tail());
    }
    if console.ended.iter().any(|status| status != "0") && console.tally.failed == 0 {
        bail!("a suite in the guest ended badly without a failed test; {}", console.tail());
    }
    let cuts = super::cuts::run(&dir, &kernel, filter, is_soak)?;
    Ok(console.tally.plus(cuts))
}

/// What a build made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Built {
    /// Test programs.
    pub(super) suites: Vec<PathBuf>,
    /// The programs that they start.
    pub(super) programs: Vec<PathBuf>,
}

/// Builds the suites and what they start, each as the stages before have built it.
fn build(repo: &Path) -> Result<Built> {
    let mut built = Built { suites: Vec::new(), programs: Vec::new() };
    let mut cargo = |arguments: &[&str]| -> Result<()> {
        let mut cargo = process::cargo(repo);
        cargo.args(arguments).args(["--locked", "--message-format=json-render-diagnostics"]);
        let messages = process::read(cargo.env("CARGO_NET_OFFLINE", "true"))?;
        built.suites.extend(programs(&messages, true));
        built.programs.extend(programs(&messages, false));
        Ok(())
    };
    for (package, test, _) in SUITES {
        cargo(&["test", "--no-run", "--package", package, "--test", test])?;
    }
    cargo(AGENT)?;
    if built.suites.len() != SUITES.len() {
        bail!("cargo built {} test programs, not {}", built.suites.len(), SUITES.len());
    }
    Ok(built)
}

/// Finds the test programs, or the others, in the messages of a build.
fn programs(messages: &str, tests: bool) -> Vec<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages
        .filter(|message| {
            message.pointer("/profile/test").and_then(serde_json::Value::as_bool) == Some(tests)
        })
        .filter(|message| {
            // A build script is a program too.
            let kind = message.pointer("/target/kind/0").and_then(serde_json::Value::as_str);
            tests || kind == Some("bin")
        })
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .collect()
}

/// The machine, cut off after its time. `timeout` and not this program kills it, so that a guest also
/// ends when this program is killed.
pub(super) fn machine(dir: &Path, kernel: &kernel::Kernel, append: &str, limit_s: u64) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--signal=KILL", &limit_s.to_string(), "qemu-system-x86_64"]);
    command.args(["-m", "1024", "-smp", "2", "-accel", "tcg,thread=multi", "-cpu", "max"]);
    command.args(["-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"]);
    command.args(["-chardev", "stdio,id=console,signal=off,logfile=console.log"]);
    command.args(["-serial", "chardev:console"]);
    for disk in ["disk", "kept"] {
        command.arg("-drive").arg(format!("file={disk},format=raw,if=virtio,cache=unsafe"));
    }
    command.arg("-kernel").arg(&kernel.image);
    command.args(["-initrd", "initrd", "-append"]);
    command.arg(format!("console=ttyS0 quiet panic=-1 {append}"));
    command.current_dir(dir);
    command
}

/// What the guest has said so far.
#[derive(Debug, Default)]
pub(super) struct Console {
    pub(super) tally: Tally,
    /// The exit status of each suite.
    pub(super) ended: Vec<String>,
    lines: Vec<String>,
}

impl Console {
    pub(super) fn read_line(&mut self, line: &str) {
        let line = line.trim_end();
        self.tally.read_line(line);
        if let Some((_, status)) =
            line.strip_prefix("guest: ").and_then(|rest| rest.split_once(" ended with "))
        {
            self.ended.push(status.to_owned());
        }
        self.lines.push(line.to_owned());
    }

    pub(super) fn tail(&self) -> String {
        let skipped = self.lines.len().saturating_sub(20);
        let lines: Vec<&str> = self.lines.iter().skip(skipped).map(String::as_str).collect();
        format!("target/guest/console.log ends with:\n{}", lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_and_what_they_start_are_told_apart() {
        let messages = r#"{"profile":{"test":false},"target":{"kind":["bin"]},"executable":"/t/wharf"}
{"profile":{"test":false},"target":{"kind":["custom-build"]},"executable":"/t/build-script"}
not json
{"profile":{"test":true},"executable":null}
{"profile":{"test":true},"executable":"/t/deps/containers-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(programs(messages, true), [PathBuf::from("/t/deps/containers-1")]);
        assert_eq!(programs(messages, false), [PathBuf::from("/t/wharf")]);
    }

    #[test]
    fn a_console_tells_the_counts_and_which_suites_ended() {
        let mut console = Console::default();
        for line in ["test a ... ok\r", "test result: ok. 4 passed; 1 failed; 0 ignored\r"] {
            console.read_line(line);
        }
        assert!(console.ended.is_empty(), "a result alone is not an end");
        console.read_line("guest: containers ended with 1\r");
        assert_eq!((console.tally.passed, console.tally.failed), (4, 1));
        assert_eq!(console.ended, ["1"]);
        assert!(console.tail().ends_with("guest: containers ended with 1"));
    }
}
