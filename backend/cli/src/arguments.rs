//! What can be typed. Completions and `--help` are made from this.

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    budgets, checkpoints, containers, context, contracts, copy, events, exec, files, focus, host, images,
    ledger, logs, oci, outbox, prices, run, statements, stats, tenants, tokens, usage, users, volumes,
};

/// Runs containers on a host you can bill from.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 not understood; run, exec, attach and wait end \
                        with the process's own code, 125 if the agent could not start it, 126 if its command \
                        cannot be executed, 127 if that was not found. \
                        WHARF_URL and WHARF_TOKEN go before the context in use."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Use this context instead of the one in use.
    #[arg(long, global = true, value_name = "NAME", env = "WHARF_CONTEXT")]
    pub(crate) context: Option<String>,
    /// Print JSON instead of tables and words.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a container from an image and start it.
    Run(run::RunArguments),
    /// Make a container from an image without starting it.
    Create(run::CreateArguments),
    /// List containers.
    Ps(containers::ListArguments),
    /// Show all about containers, as JSON.
    Inspect(containers::NamesArguments),
    /// Show a container's log.
    Logs(logs::LogsArguments),
    /// Run a command in a running container.
    Exec(exec::ExecArguments),
    /// Join this terminal to a container's first process.
    Attach(exec::AttachArguments),
    /// Start containers.
    Start(containers::NamesArguments),
    /// Ask containers to stop, and kill them when they do not.
    Stop(containers::StopArguments),
    /// Send a signal to containers.
    Kill(containers::KillArguments),
    /// Stop containers and start them again.
    Restart(containers::StopArguments),
    /// Freeze containers.
    Pause(containers::NamesArguments),
    /// Let frozen containers go on.
    Resume(containers::NamesArguments),
    /// Change a container's name, limits or restart policy.
    Update(containers::UpdateArguments),
    /// Give a container another name.
    Rename(containers::RenameArguments),
    /// Remove containers.
    Rm(containers::RemoveArguments),
    /// Wait until containers have ended, and end with their code.
    Wait(containers::NamesArguments),
    /// Show what containers use, live.
    Stats(stats::StatsArguments),
    /// Show what runs in a container.
    Top(containers::TopArguments),
    /// Tell what a container has changed in its image.
    Diff(files::DiffArguments),
    /// Copy files into a container or out of it, whether it runs or not.
    Cp(copy::CopyArguments),
    /// Write all files of a container's root as a tar archive.
    Export(files::ExportArguments),
    /// Make an image of what a container has changed.
    Commit(files::CommitArguments),
    /// Pull an image from a registry.
    Pull(images::PullArguments),
    /// List images.
    Images(images::ListArguments),
    /// Look at one image, name it, remove it.
    #[command(subcommand)]
    Image(images::ImageCommand),
    /// Import a Docker or OCI archive, or a plain root file system, from a tar file.
    Import(images::ImportArguments),
    /// Checkpoints: running containers in files.
    #[command(subcommand)]
    Checkpoint(checkpoints::CheckpointCommand),
    /// Volumes.
    #[command(subcommand)]
    Volume(volumes::VolumeCommand),
    /// List the tenants' networks.
    Networks,
    /// Tenants.
    #[command(subcommand)]
    Tenant(tenants::TenantCommand),
    /// Users.
    #[command(subcommand)]
    User(users::UserCommand),
    /// API tokens.
    #[command(subcommand)]
    Token(tokens::TokenCommand),
    /// Show or export what was used and what it costs.
    Usage(usage::UsageArguments),
    /// Files of FOCUS, the open format of costs.
    #[command(subcommand)]
    Focus(focus::FocusCommand),
    /// Events of usage on their way to an endpoint outside.
    Outbox(outbox::OutboxArguments),
    /// The record of everything that was measured, and the proof that it was not altered.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Price books.
    #[command(subcommand, visible_alias = "prices")]
    Price(prices::PriceCommand),
    /// Contracts: what one tenant pays in place of what the price book says.
    #[command(subcommand, visible_alias = "contracts")]
    Contract(contracts::ContractCommand),
    /// Budgets: what a tenant may spend in a month, and what happens when it has.
    #[command(subcommand, visible_alias = "budgets")]
    Budget(budgets::BudgetCommand),
    /// Statements: what tenants owe for a month.
    #[command(subcommand, visible_alias = "statements")]
    Statement(statements::StatementCommand),
    /// Explain a statement's line: its formula, its hours, their readings, and where the kernel said so.
    Explain(statements::ExplainArguments),
    /// Show what happened.
    Events(events::EventsArguments),
    /// Show who did what.
    Audit(events::AuditArguments),
    /// Show the agent's host and what it can do.
    Host,
    /// Check what this machine can do, before or without an agent; ends with 1 if something is missing
    /// without which no container runs, else with 0.
    Doctor(host::DoctorArguments),
    /// Make the agent beside this program a service of this machine.
    Install(host::AgentArguments),
    /// End that service and its containers, and take away what `install` made.
    Uninstall(host::AgentArguments),
    /// Run one container from an OCI bundle on this machine, without an agent: an OCI runtime.
    Oci(oci::OciArguments),
    /// Sign in to an agent and remember it.
    Login(context::LoginArguments),
    /// The agents this command line knows.
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Print a script that completes this command line in a shell.
    Completions(host::CompletionsArguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        // Enough of a shell for the README: blanks, single quotes and remarks.
        let line = line.split(" #").next().unwrap_or_default();
        let words = line.split('\'').enumerate().flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().collect(),
            _ => vec![part],
        });
        Arguments::try_parse_from(words)
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_line_of_the_readme_is_understood() {
        let readme = include_str!("../../../README.md");
        let lines: Vec<_> = readme.lines().filter(|line| line.starts_with("wharf ")).collect();
        assert!(lines.len() >= 5, "the README shows the command line");
        for line in lines {
            assert!(
                parse(line).is_ok(),
                "{line}: {}",
                parse(line).err().map_or(String::new(), |e| e.to_string())
            );
        }
    }

    #[test]
    fn options_after_the_image_are_the_command_s() {
        let parsed = parse("wharf run -it --rm busybox ls -l --json").expect("a command");
        assert!(!parsed.global.json);
        let Command::Run(run) = parsed.command else { panic!("a run") };
        assert_eq!(run.create.command, ["ls", "-l", "--json"]);
        assert!(run.interactive && run.create.tty && run.create.rm);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "wharf run -d -i busybox",
            "wharf run --rm --restart always busybox",
            "wharf run --cpus 0.0005 busybox",
            "wharf run -p x busybox",
            "wharf run -m lots busybox",
            "wharf login",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
