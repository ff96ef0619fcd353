//! `wharf oci`: becomes the runtime, before anything else of this program is set up.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

/// `wharf oci`. Here for `--help` and completions: what follows it is read by the runtime.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct OciArguments {
    /// Arguments for the runtime; `wharf oci help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) more: Vec<std::ffi::OsString>,
}

/// The arguments behind `wharf oci`, if that is what was typed.
pub(crate) fn asked() -> Option<OciArguments> {
    let mut words = std::env::args_os().skip(1);
    (words.next()? == "oci").then(|| OciArguments { more: words.collect() })
}

/// Becomes `wharf-shim oci`: the one beside this program, else the one on the search path.
pub(crate) fn oci(arguments: &OciArguments) -> Result<()> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("wharf-shim"));
    let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("wharf-shim"));
    let error = Command::new(&program).arg("oci").args(&arguments.more).exec();
    Err(error).with_context(|| format!("start {}; is it installed beside this program?", program.display()))
}
