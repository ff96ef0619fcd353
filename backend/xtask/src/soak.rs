//! `cargo xtask soak`: the tests with long runs, with the full counts that the short run only samples.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::{process, say, test};

/// What to run for long.
#[derive(Debug, clap::Args)]
pub(crate) struct SoakArguments {
    /// Run only tests whose name contains this.
    filter: Option<String>,
}

/// Runs the long stages.
pub(crate) fn run(repo: &Path, arguments: &SoakArguments) -> Result<ExitCode> {
    process::require_root("soak", "its tests make namespaces, cgroups and network links")?;
    let plan = test::Plan::new(repo, arguments.filter.as_deref(), true);
    say::heading("prepare");
    plan.prepare()?;
    Ok(test::run_stages(plan.long_stages(), arguments.filter.is_some()))
}
