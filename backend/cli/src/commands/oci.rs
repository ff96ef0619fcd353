//! `wharf oci`: becomes the runtime, before anything else of this program is set up.

use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;
use rustix::fs::{Mode, OFlags, open};
use wharf_sys::image::execute_read_only;

const RUNTIME: &str = "wharf-shim";

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
///
/// The one beside it is run in the way that the runtime would otherwise have to run itself again in, so that a
/// start costs one execve less. Where that is not permitted it is left to the runtime, which knows whether it
/// is needed.
pub(crate) fn oci(arguments: &OciArguments) -> Result<()> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(RUNTIME));
    let found = beside
        .and_then(|path| Some((open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?, path)));
    let program = match found {
        Some((file, path)) => {
            let words = [path.clone().into(), "oci".into()].into_iter().chain(arguments.more.iter().cloned());
            // What it fails on is told by the call below, which asks for less.
            execute_read_only(file.as_fd(), words).ok();
            path
        }
        None => PathBuf::from(RUNTIME),
    };
    let error = Command::new(&program).arg("oci").args(&arguments.more).exec();
    Err(error).with_context(|| format!("start {}; is it installed beside this program?", program.display()))
}
