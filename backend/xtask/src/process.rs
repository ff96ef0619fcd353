//! Runs other programs: named in every error, streamed, and cut off from the network where asked.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Fails with an explanation unless this process is root's.
pub(crate) fn require_root(command: &str, why: &str) -> Result<()> {
    // The owner of /proc/self is the effective user (proc(5)).
    let owner = std::fs::metadata("/proc/self").context("read the owner of /proc/self")?.uid();
    if owner != 0 {
        bail!("`cargo xtask {command}` must run as root: {why}");
    }
    Ok(())
}

/// The cargo that runs this program, without what it told this program of its package: build scripts that look at
/// that (`ring`'s) would run again, and half the tree with them, each time that somebody calls cargo without us.
pub(crate) fn cargo(repo: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(repo);
    for (key, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|of| key.as_encoded_bytes().starts_with(of.as_bytes()))
        {
            command.env_remove(key);
        }
    }
    command
}

/// Where cargo puts a program, beside this one: `<target>/debug/wharf-xtask`.
pub(crate) fn program(profile: &str, name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program's own path")?;
    let target = own.ancestors().nth(2).context("find the target directory above this program")?;
    // The one profile whose directory has another name (the Cargo book, "Build cache").
    let dir = if profile == "dev" { "debug" } else { profile };
    Ok(target.join(dir).join(name))
}

/// Wraps a command so that it runs in a network namespace of its own, with loopback up and nothing
/// else: what a test sends can reach no other machine.
pub(crate) fn without_network(inner: &Command) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    for (key, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    if let Some(dir) = inner.get_current_dir() {
        command.current_dir(dir);
    }
    command
}

/// Runs to the end with the terminal's output, and fails unless it succeeded.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", show(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", show(command));
    }
    Ok(())
}

/// Runs to the end and returns its standard output, and fails unless it succeeded.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("start {}", show(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", show(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {}", show(command)))
}

/// Runs to the end, shows each line of standard output to `see` at once.
/// Returns whether it succeeded.
pub(crate) fn stream(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", show(command)))?;
    let output = child.stdout.take().context("take the output of a child")?;
    for bytes in BufReader::new(output).split(b'\n') {
        let bytes = bytes.with_context(|| format!("read the output of {}", show(command)))?;
        let line = String::from_utf8_lossy(&bytes);
        see(&line);
    }
    let status = child.wait().with_context(|| format!("wait for {}", show(command)))?;
    Ok(status.success())
}

/// Becomes the other program; returns only if that fails.
pub(crate) fn become_program(command: &mut Command) -> anyhow::Error {
    let error = command.exec();
    anyhow::Error::new(error).context(format!("start {}", show(command)))
}

fn show(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_passes_every_line_and_tells_the_outcome() {
        let mut lines = Vec::new();
        let good = stream(Command::new("printf").arg("one\ntwo\n"), |line| lines.push(line.to_owned()));
        assert!(good.expect("printf starts"));
        assert_eq!(lines, ["one", "two"]);
        assert!(!stream(&mut Command::new("false"), |_| ()).expect("false starts"));
    }

    #[test]
    fn an_error_names_the_program_and_its_arguments() {
        let error = run(Command::new("false").arg("--really")).expect_err("false fails");
        assert!(error.to_string().contains("false --really"), "{error}");
    }

    #[test]
    fn a_wrapped_command_keeps_its_directory_environment_and_arguments() {
        let mut inner = Command::new("cargo");
        inner.arg("a b").env("KEY", "value").current_dir("/tmp");
        let wrapped = without_network(&inner);
        assert_eq!(wrapped.get_program(), "unshare");
        assert_eq!(wrapped.get_args().last(), Some(OsStr::new("a b")));
        assert_eq!(wrapped.get_current_dir(), Some(Path::new("/tmp")));
        assert!(wrapped.get_envs().any(|(key, value)| key == "KEY" && value == Some(OsStr::new("value"))));
    }
}
