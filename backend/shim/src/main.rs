//! The supervisor of one container, and the forge that starts it: one small, single-threaded binary.
//!
//! `wharf-shim --forge <run root>` starts the forge; a shim is never started by hand, it is a fork of
//! the forge. `wharf-shim oci …` is an OCI runtime, without either. No part of this binary may start a thread: the copy that becomes a container's first
//! process is only sound when there is one.
#![forbid(unsafe_code)]

mod exec;
mod forge;
mod host;
mod oci;
mod oom;
mod output;
mod supervisor;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use wharf_shim::paths::RunRoot;

const USAGE: &str = "usage: wharf-shim --forge <run root>\n       wharf-shim oci ...";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(("oci", rest)) = arguments.split_first().and_then(|(role, rest)| Some((role.to_str()?, rest)))
    {
        return oci::main(rest);
    }
    let failure = match arguments.as_slice() {
        [flag, run_root] if flag == "--forge" => match forge::start(&RunRoot::new(run_root)) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => chain(&error),
        },
        [flag] if flag == "--version" => concat!("wharf-shim ", env!("CARGO_PKG_VERSION")).to_owned(),
        _ => USAGE.to_owned(),
    };
    // Nothing is left to do about a standard error that cannot be written.
    writeln!(std::io::stderr(), "{failure}").ok();
    ExitCode::FAILURE
}

/// An error and everything below it in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
