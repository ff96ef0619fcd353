//! `wharf exec` and `wharf attach`.

use anyhow::{Result, anyhow};
use clap::Args;
use wharf_shared::container::{ContainerView, ExecSpec, ExecView};

use super::Shell;
use crate::stream::{Ended, Joint, Stream};
use crate::{docker, failure, output, terminal};

/// `wharf exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArguments {
    /// Pass standard input on.
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal.
    #[arg(short, long)]
    tty: bool,
    /// An environment variable; a name alone takes the value it has here.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// User inside; the container's own when absent.
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory inside; the container's own when absent.
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    /// Name or id of the container.
    container: String,
    /// Program and arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// `wharf attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArguments {
    /// Pass no standard input on.
    #[arg(long)]
    no_stdin: bool,
    /// Name or id of the container.
    container: String,
}

/// Runs a command in a container and returns its exit code.
pub(crate) async fn exec(shell: &Shell, arguments: ExecArguments) -> u8 {
    match try_exec(shell, arguments).await {
        Ok(code) => code,
        Err(error) if failure::is_closed_pipe(&error) => 0,
        Err(error) => {
            output::note(&failure::line(&error));
            failure::start_code(&format!("{error:#}"))
        }
    }
}

async fn try_exec(shell: &Shell, arguments: ExecArguments) -> Result<u8> {
    let client = shell.client()?;
    let env = docker::environment(&[], &arguments.env, |name| std::env::var(name).ok());
    let spec = ExecSpec {
        command: arguments.command,
        env: env.map_err(|why| anyhow!(why))?,
        user: arguments.user,
        workdir: arguments.workdir,
        terminal: arguments.tty,
        stdin: arguments.interactive,
        terminal_size: if arguments.tty { terminal::size() } else { None },
    };
    let container = arguments.container.as_str();
    let view: ExecView = client.post(&["containers", container, "exec"], &[], &spec).await?;
    let stream = Stream::open(&client, &["containers", container, "exec", &view.exec_id], &[]).await?;
    match stream.join(Joint { terminal: arguments.tty, stdin: arguments.interactive }).await? {
        Ended::Exited(code) => Ok(failure::process_code(code)),
        Ended::Detached => Ok(0),
    }
}

/// Joins the terminal to a container's first process and returns that process's exit code.
pub(crate) async fn attach(shell: &Shell, arguments: AttachArguments) -> Result<u8> {
    let client = shell.client()?;
    let view: ContainerView = client.get(&["containers", &arguments.container], &[]).await?;
    let stdin = view.spec.stdin && !arguments.no_stdin;
    let query = [("stdin", if stdin { "true" } else { "false" }), ("logs", "false")];
    let stream = Stream::open(&client, &["containers", view.id.as_str(), "attach"], &query).await?;
    match stream.join(Joint { terminal: view.spec.terminal, stdin }).await? {
        Ended::Exited(code) => Ok(failure::process_code(code)),
        Ended::Detached => Ok(0),
    }
}
