//! `cargo xtask up` and `cargo xtask down`: from a clean checkout to a running agent, and back.
//!
//! `up` becomes the agent by `execve` at its end, so Ctrl-C and SIGTERM reach the agent itself, and
//! the agent alone decides what stopping means (containers go on). `down` asks the agent's own
//! `down`: it finds what belongs to the instance by state files and cgroup, never by name.
//!
//! Both use the profile `up` unless another is named: like `release`, but without LTO and at optimisation level 1. It is
//! built in little more than the time of a debug build, and unpacks layers at several times its speed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{packages, process, say, web};

/// Which agent is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Instance {
    /// Names everything the agent makes on this machine, so that several agents can live beside each
    /// other.
    #[arg(long = "instance", value_name = "NAME", default_value = "wharf")]
    name: String,
    /// Where containers, images and the database are kept; /var/lib/<instance> by default.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Where sockets and pid files are; /run/<instance> by default.
    #[arg(long)]
    run_dir: Option<PathBuf>,
    /// A configuration file for the agent.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Cargo's profile for the build: `dev` shares what the tests built, `release` is the fastest agent.
    #[arg(long, default_value = "up")]
    profile: String,
}

/// How to run the agent.
#[derive(Debug, clap::Args)]
pub(crate) struct UpArguments {
    #[command(flatten)]
    instance: Instance,
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Use this database server instead of a file in the state directory; a `postgres://` address.
    #[arg(long)]
    database_url: Option<String>,
}

/// How much to end.
#[derive(Debug, clap::Args)]
pub(crate) struct DownArguments {
    #[command(flatten)]
    instance: Instance,
    /// Delete the state too: images, volumes, users and everything that was measured.
    #[arg(long)]
    purge: bool,
}

/// Sets up, builds and becomes the agent.
pub(crate) fn up(repo: &Path, arguments: &UpArguments) -> Result<ExitCode> {
    process::require_root("up", "the agent makes namespaces, cgroups, mounts and network links")?;
    packages::ensure(packages::AGENT)?;
    packages::ensure(web::PACKAGES)?;
    web::build(repo, true).context("build the dashboard")?;
    let agent = build(repo, &arguments.instance.profile)?;
    let mut command = Command::new(&agent);
    command.arg("serve").args(arguments.instance.flags());
    command.arg("--listen").arg(arguments.listen.to_string());
    if let Some(url) = &arguments.database_url {
        // Not a flag: whoever lists processes would see the password.
        command.env("WHARF__DATABASE__URL", url);
    }
    say::line(&format!(
        "Starting the agent on http://{} (Ctrl-C ends it; its containers go on)",
        arguments.listen
    ));
    say::line(&format!("The command line is {}", agent.with_file_name("wharf").display()));
    Err(process::become_program(&mut command))
}

/// Ends the agent and what it made.
pub(crate) fn down(repo: &Path, arguments: &DownArguments) -> Result<ExitCode> {
    process::require_root("down", "it ends containers and removes what the agent made")?;
    let mut agent = process::program(&arguments.instance.profile, "wharfd")?;
    if !agent.is_file() {
        // The checkout was cleaned while containers ran, perhaps.
        agent = build(repo, &arguments.instance.profile)?;
    }
    let mut command = Command::new(&agent);
    command.arg("down").args(arguments.instance.flags());
    if arguments.purge {
        command.arg("--purge");
    }
    Err(process::become_program(&mut command))
}

fn build(repo: &Path, profile: &str) -> Result<PathBuf> {
    say::line("Building the agent, the supervisor and the command line");
    let mut command = process::cargo(repo);
    command.args(["build", "--locked", "--profile", profile]);
    command.args(["-p", "wharf-agent", "-p", "wharf-shim", "-p", "wharf-cli"]);
    process::run(&mut command)?;
    let agent = process::program(profile, "wharfd")?;
    if !agent.is_file() {
        bail!("cargo built no {}", agent.display());
    }
    Ok(agent)
}

impl Instance {
    fn flags(&self) -> Vec<OsString> {
        let dir = |given: &Option<PathBuf>, parent: &str| {
            given.clone().unwrap_or_else(|| Path::new(parent).join(&self.name)).into_os_string()
        };
        let mut flags = vec![
            OsString::from("--instance"),
            OsString::from(&self.name),
            OsString::from("--state-dir"),
            dir(&self.state_dir, "/var/lib"),
            OsString::from("--run-dir"),
            dir(&self.run_dir, "/run"),
        ];
        if let Some(config) = &self.config {
            flags.extend([OsString::from("--config"), config.clone().into_os_string()]);
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_follow_the_instance_unless_they_are_given() {
        let instance = Instance {
            name: "quay".to_owned(),
            state_dir: None,
            run_dir: Some(PathBuf::from("/tmp/run")),
            config: None,
            profile: "up".to_owned(),
        };
        assert_eq!(
            instance.flags(),
            ["--instance", "quay", "--state-dir", "/var/lib/quay", "--run-dir", "/tmp/run"]
        );
    }
}
