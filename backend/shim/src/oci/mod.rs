//! `wharf oci`: one container from an OCI bundle, by the code that launches the agent's containers.
//!
//! Each command is a process of its own and there is no other: what must be known between two of them is
//! in [`state`], and a container that was created waits at its gate for whoever starts it, as the child of
//! whoever adopts it. `run` stays, hands signals on, and ends as the container ends.
//!
//! - [`arguments`]: the command line,
//! - [`config`] and [`translate`]: from `config.json` to what the runtime launches, or why not,
//! - [`filter`]: the system call filter,
//! - [`limits`]: what is written into cgroups,
//! - [`life`]: the commands,
//! - [`wait`]: signals and a terminal while one waits,
//! - [`own_program`]: this program, out of the container's reach.
//!
//! It is a role of this small binary because it must start fast and have one thread.

mod arguments;
mod config;
mod filter;
mod life;
mod limits;
mod names;
mod own_program;
mod state;
mod translate;
mod wait;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::ExitCode;

use self::arguments::{Arguments, Command, USAGE, parse};
use self::life::OciError;

/// A command that did not do what was asked.
const FAILED: u8 = 1;
/// A process that could not be run for another reason than its program.
const NOT_RUN: u8 = 125;

/// Runs one command and returns how this process ends.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let words: Option<Vec<String>> =
        arguments.iter().map(|word| word.to_str().map(ToOwned::to_owned)).collect();
    let parsed = words.ok_or_else(|| "an argument is not UTF-8".to_owned()).and_then(|words| parse(&words));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(problem) => {
            say(&format!("{problem}\n{USAGE}"));
            return ExitCode::from(NOT_RUN);
        }
    };
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let text = crate::chain(&error);
            say(&format!("wharf oci: {text}"));
            log(&arguments, &text);
            let runs = matches!(arguments.command, Command::Run(_) | Command::Exec(_));
            ExitCode::from(error.status().unwrap_or(if runs { NOT_RUN } else { FAILED }))
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8, OciError> {
    let root = &arguments.root;
    match &arguments.command {
        Command::Run(make) => return life::run(root, make),
        Command::Exec(exec) => return life::exec(root, exec),
        Command::Create(make) => life::create(root, make)?,
        Command::Start { id } => life::start(root, id)?,
        Command::Kill { id, signal, all } => life::kill(root, id, signal, *all)?,
        Command::Delete { id, force } => life::delete(root, id, *force)?,
        Command::State { id } => print(&life::describe(root, id)?)?,
        Command::List => print(&life::list(root)?)?,
        Command::Help => print(USAGE)?,
    }
    Ok(0)
}

fn print(text: &str) -> Result<(), OciError> {
    writeln!(std::io::stdout(), "{text}").map_err(OciError::Print)
}

fn say(text: &str) {
    // Nothing is left to do about a standard error that cannot be written.
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Tells callers that read a log what went wrong; one that cannot be written stops nothing.
fn log(arguments: &Arguments, text: &str) {
    let Some(path) = &arguments.log else { return };
    let line = if arguments.log_json {
        serde_json::json!({ "level": "error", "msg": text }).to_string()
    } else {
        text.to_owned()
    };
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| writeln!(file, "{line}")).ok();
}
