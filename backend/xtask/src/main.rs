//! What the README's commands do: `cargo xtask <command>`.
//!
//! A program instead of shell scripts, so that it is checked like the product. Each command is one
//! module; `packages` installs what a fresh Debian lacks, `process` runs other programs.
#![forbid(unsafe_code)]

mod attacks;
mod bench;
mod criu;
mod debian;
mod focus;
mod guest;
mod packages;
mod process;
mod say;
mod soak;
mod test;
mod tidy;
mod up;
mod web;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Builds, runs and tests Wharfage.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up what is missing, build everything and run the agent in the foreground (as root).
    Up(up::UpArguments),
    /// End the agent and every container of it; with --purge, leave nothing of it on the machine.
    Down(up::DownArguments),
    /// Run every test, from formatting to the browser, and end with `N passed, N failed` (as root).
    Test(test::TestArguments),
    /// Check what the compiler cannot: layers, unsafe, SQL, file heads, the README's commands, attacks.
    Tidy,
    /// List what a hostile tenant must not achieve, and the tests that try it.
    Attacks,
    /// Build the dashboard into frontend/dist, which the agent embeds.
    Web(WebArguments),
    /// Measure against other container tools in the same run and print the ratios (as root).
    Bench(bench::BenchArguments),
    /// Run the long tests with their full counts (as root).
    Soak(soak::SoakArguments),
}

/// How to build the dashboard.
#[derive(Debug, clap::Args)]
struct WebArguments {
    /// Build quickly and keep names for stack traces, instead of small.
    #[arg(long)]
    dev: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match repository().and_then(|repo| run(arguments.command, &repo)) {
        Ok(code) => code,
        Err(error) => {
            say::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, repo: &std::path::Path) -> Result<ExitCode> {
    match command {
        Command::Up(arguments) => up::up(repo, &arguments),
        Command::Down(arguments) => up::down(repo, &arguments),
        Command::Test(arguments) => test::run(repo, &arguments),
        Command::Tidy => tidy::run(repo),
        Command::Attacks => attacks::run(repo),
        Command::Web(arguments) => {
            packages::ensure(web::PACKAGES)?;
            web::build(repo, !arguments.dev).map(|()| ExitCode::SUCCESS)
        }
        Command::Bench(arguments) => bench::run(repo, &arguments),
        Command::Soak(arguments) => soak::run(repo, &arguments),
    }
}

/// The checkout this program was built from.
fn repository() -> Result<PathBuf> {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map(std::path::Path::to_path_buf)
        .context("find the repository above backend/xtask")
}
