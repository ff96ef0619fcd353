//! The command line: `wharf`.
//!
//! `arguments` says what can be typed, `commands` does it, one file a noun. Below them: `client` and
//! `socket` speak to the agent, `output` to the person. What is decided rather than done (`docker`,
//! `quantity`, `resume`) is pure.
#![forbid(unsafe_code)]

mod arguments;
mod client;
mod clock;
mod commands;
mod contexts;
mod docker;
mod failure;
mod live;
mod output;
mod quantity;
mod resume;
mod socket;
mod stream;
mod terminal;
mod tls;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use crate::arguments::Arguments;

fn main() -> ExitCode {
    // A runtime has to start fast, and its arguments are not ours to read.
    let done = match commands::oci::asked() {
        Some(given) => commands::oci::oci(&given).map(|()| 0),
        None => run(Arguments::parse()),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) if failure::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&failure::line(&error));
            ExitCode::from(failure::FAILED)
        }
    }
}

fn run(arguments: Arguments) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the asynchronous runtime")?;
    let code = runtime.block_on(commands::run(arguments));
    // A read of standard input may still wait for a key that nobody will press.
    runtime.shutdown_background();
    code
}
