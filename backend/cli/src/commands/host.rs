//! The host, this machine and this shell.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell as CompletedShell;
use serde::Serialize;
use wharf_shared::host::{CheckStatus, CheckView, HostView};

use super::Shell;
use crate::arguments::Arguments;
use crate::output::{self, Table};
use crate::quantity::show_bytes;

/// `wharf doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Arguments for `wharfd doctor`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    more: Vec<String>,
}

/// `wharf install`, `wharf uninstall`.
#[derive(Debug, Args)]
pub(crate) struct AgentArguments {
    /// Arguments for `wharfd install` or `wharfd uninstall`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    more: Vec<String>,
}

/// `wharf completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// Which shell.
    shell: CompletedShell,
}

#[derive(Serialize)]
struct HostAndChecks {
    host: HostView,
    checks: Vec<CheckView>,
}

/// Shows the agent's host and its checks.
pub(crate) async fn host(shell: &Shell) -> Result<()> {
    let client = shell.client()?;
    let host: HostView = client.get(&["host"], &[]).await?;
    let checks: Vec<CheckView> = client.get(&["host", "checks"], &[]).await?;
    if shell.output.json {
        return output::document(&HostAndChecks { host, checks });
    }
    let mut facts = Table::new(&["HOST", ""]);
    for (name, value) in [
        ("name", host.name.clone()),
        ("agent", format!("{} since {}", host.version, host.agent_started_at)),
        ("kernel", host.kernel.clone()),
        ("cgroups", host.cgroup_layout.clone()),
        ("cpus", host.cpus.to_string()),
        ("memory", show_bytes(host.memory_bytes)),
        (
            "disk",
            format!("{} free of {}", show_bytes(host.disk_free_bytes), show_bytes(host.disk_total_bytes)),
        ),
        ("containers", format!("{} running of {}", host.containers_running, host.containers_total)),
        ("not measurable", host.not_measurable.join(", ")),
    ] {
        facts.row([name.to_owned(), value]);
    }
    let mut table = Table::new(&["CHECK", "STATUS", "DETAIL", "WHAT TO DO"]);
    for check in &checks {
        let remedy = check.remedy.clone().unwrap_or_default();
        table.row([check.name.clone(), status(check.status).to_owned(), check.detail.clone(), remedy]);
    }
    output::line(&format!("{}\n{}", facts.render(), table.render().trim_end()))
}

fn status(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Ok => "ok",
        CheckStatus::Degraded => "degraded",
        CheckStatus::Missing => "missing",
    }
}

/// Becomes `wharfd doctor`.
pub(crate) fn doctor(shell: &Shell, arguments: &DoctorArguments) -> Result<()> {
    let json = shell.output.json.then_some("--json");
    become_agent(Command::new(agent_program()).arg("doctor").args(json).args(&arguments.more))
}

/// Becomes `wharfd` with one of its words.
pub(crate) fn agent(word: &str, arguments: &AgentArguments) -> Result<()> {
    become_agent(Command::new(agent_program()).arg(word).args(&arguments.more))
}

/// The agent's program beside this one, else the one on the search path.
pub(crate) fn agent_program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("wharfd"));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("wharfd"))
}

fn become_agent(command: &mut Command) -> Result<()> {
    let error = command.exec();
    let program = command.get_program().display();
    Err(error).with_context(|| format!("start {program}; is the agent installed on this machine?"))
}

/// Prints a completion script.
pub(crate) fn completions(arguments: &CompletionsArguments) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "wharf", &mut script);
    output::write_out(&script)
}
