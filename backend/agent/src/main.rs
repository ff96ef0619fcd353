//! `wharfd`, the host agent.
#![forbid(unsafe_code)]
#![expect(unused_qualifications, reason = "the macros that describe endpoints repeat paths")]

mod api;
mod app;
mod auth;
mod billing;
mod budgets;
mod checkpoints;
mod clock;
mod config;
mod containers;
mod ctx;
mod down;
mod engine;
mod error;
mod events;
mod execs;
mod host;
mod ids;
mod images;
mod install;
mod ledger;
mod metering;
mod networks;
mod outbox;
mod service;
mod tasks;
mod telemetry;
mod tenants;
mod terminal;
mod tls;
mod users;
mod volumes;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use config::{Config, ConfigArgs, ConfigError};
use install::InstallArgs;
use wharf_shared::host::{CheckStatus, CheckView};

/// Version of this build.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The Wharfage host agent
#[derive(Debug, Parser)]
#[command(name = "wharfd", version)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent
    Serve,
    /// End every container and supervisor of this instance
    Down {
        /// Remove all state as well: volumes, images, usage, users
        #[arg(long)]
        purge: bool,
    },
    /// Show what this host can do; ends with 1 if something is missing without which no container runs,
    /// else with 0
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the agent a service of this machine: programs, settings and units of systemd
    Install(InstallArgs),
    /// End the service and its containers, and take away what `install` made
    Uninstall {
        #[command(flatten)]
        place: InstallArgs,
        /// Remove settings and all state as well: volumes, images, usage, users
        #[arg(long)]
        purge: bool,
    },
    /// Look into a copy of the host's ledger, without an agent
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Write a copy of the journal as JSON lines
    Export {
        /// The copy of `journal.db`
        path: std::path::PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read it as `serve` would, and print it whole
    Check,
}

/// Arenas of the allocator, whatever the number of threads: the agent holds little and shares it among them.
const ARENAS: u8 = 2;

fn main() -> ExitCode {
    // A library without arenas has nothing to limit.
    wharf_sys::memory::limit_arenas(ARENAS);
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("wharfd: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Install(place) => {
            install::install(&args.config, place)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Uninstall { place, purge } => {
            let end = |config: &Config| runtime()?.block_on(down::down(config, *purge));
            install::uninstall(&args.config, place, *purge, end)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Ledger { command: LedgerCommand::Export { path } } => {
            runtime()?.block_on(ledger::export_copy(path))?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let loaded = Config::load(&args.config, std::env::vars_os());
    if let Command::Doctor { json } = args.command {
        return doctor(loaded, json);
    }
    let config = loaded?;
    match &args.command {
        Command::Serve => {
            telemetry::start(&config.log)?;
            runtime()?.block_on(app::serve(config))?;
        }
        Command::Down { purge } => runtime()?.block_on(down::down(&config, *purge))?,
        Command::Config { command: ConfigCommand::Check } => {
            let shown = Config { database: config.database.without_password(), ..config };
            say(&toml::to_string_pretty(&shown)?);
        }
        // Done before.
        Command::Doctor { .. } | Command::Install(_) | Command::Uninstall { .. } | Command::Ledger { .. } => {
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn doctor(loaded: Result<Config, ConfigError>, json: bool) -> anyhow::Result<ExitCode> {
    let mut settings = CheckView {
        name: "settings".to_owned(),
        status: CheckStatus::Ok,
        detail: "acceptable".to_owned(),
        remedy: None,
    };
    // The host is looked at all the same.
    let config = loaded.unwrap_or_else(|error| {
        settings.status = CheckStatus::Missing;
        settings.detail = error::chain(&error);
        settings.remedy = Some("correct them until `wharfd config check` takes them".to_owned());
        Config { state_dir: "/var/lib/wharf".into(), ..Config::default() }
    });
    let mut checks = vec![settings];
    checks.extend(host::checks(&config));
    if json {
        say(&serde_json::to_string_pretty(&checks)?);
    } else {
        let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for check in &checks {
            let status = match check.status {
                CheckStatus::Ok => "ok      ",
                CheckStatus::Degraded => "degraded",
                CheckStatus::Missing => "missing ",
            };
            say(&format!("{status}  {:width$}  {}", check.name, check.detail));
            if let Some(remedy) = &check.remedy {
                say(&format!("{:8}  {:width$}  -> {remedy}", "", ""));
            }
        }
    }
    let missing = checks.iter().any(|check| check.status == CheckStatus::Missing);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Says something to whoever started us.
#[expect(clippy::print_stdout, reason = "the one place that speaks to whoever started us")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the one place that complains to whoever started us")]
fn complain(text: &str) {
    eprintln!("{text}");
}
