//! A container's files: what it changed, all of them, an image of them.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use reqwest::Method;
use wharf_shared::container::{ChangeKind, ChangesView, CommitRequest};
use wharf_shared::image::ImageView;

use super::{Shell, save};
use crate::docker;
use crate::output;

/// A large root takes a while.
const EXPORT_TIMEOUT: Duration = Duration::from_hours(6);

/// `wharf diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// The container's name or id.
    container: String,
}

/// `wharf export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// Write to this file; standard output when absent.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container's name or id.
    container: String,
}

/// `wharf commit`.
#[derive(Debug, Args)]
pub(crate) struct CommitArguments {
    /// Who makes it.
    #[arg(short, long)]
    author: Option<String>,
    /// A remark, for the image's history.
    #[arg(short, long)]
    message: Option<String>,
    /// Let the container go on meanwhile.
    #[arg(long)]
    no_pause: bool,
    /// Replace the entrypoint; words are parted at blanks.
    #[arg(long)]
    entrypoint: Option<String>,
    /// Replace the command; words are parted at blanks.
    #[arg(long)]
    command: Option<String>,
    /// An environment variable of its containers.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = docker::label)]
    env: Vec<(String, String)>,
    /// Their working directory.
    #[arg(short, long)]
    workdir: Option<String>,
    /// Their user.
    #[arg(short, long)]
    user: Option<String>,
    /// A label.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = docker::label)]
    label: Vec<(String, String)>,
    /// The container's name or id.
    container: String,
    /// The image's name.
    image: String,
}

/// Tells what a container has changed, as `docker diff` does.
pub(crate) async fn diff(shell: &Shell, given: DiffArguments) -> Result<()> {
    let path = ["containers", &given.container, "changes"];
    let view: ChangesView = shell.client()?.get(&path, &[]).await?;
    if shell.output.json {
        return output::document(&view);
    }
    let mut text = String::new();
    for change in &view.changes {
        let letter = match change.kind {
            ChangeKind::Changed => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        text.push(letter);
        text.push(' ');
        text.push_str(&output::visible(&change.path));
        text.push('\n');
    }
    if view.more {
        output::note("there are more changes than are told");
    }
    output::write_out(text.as_bytes())
}

/// Writes a container's root as a tar archive.
pub(crate) async fn export(shell: &Shell, given: ExportArguments) -> Result<()> {
    if given.output.is_none() && std::io::stdout().is_terminal() {
        bail!("an archive is nothing for a terminal; give a file with --output, or redirect");
    }
    let client = shell.client()?;
    let request = client.request(Method::GET, &["containers", &given.container, "export"]);
    save(client.send(request.timeout(EXPORT_TIMEOUT)).await?, given.output.as_deref()).await
}

/// Makes an image of what a container has changed.
pub(crate) async fn commit(shell: &Shell, given: CommitArguments) -> Result<()> {
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
    let request = CommitRequest {
        reference: given.image,
        author: given.author,
        message: given.message,
        pause: !given.no_pause,
        entrypoint: given.entrypoint.map(words),
        command: given.command.map(words),
        env: given.env.into_iter().collect(),
        workdir: given.workdir,
        user: given.user,
        labels: given.label.into_iter().collect(),
    };
    let path = ["containers", &given.container, "commit"];
    let view: ImageView = shell.client()?.post(&path, &[], &request).await?;
    shell.output.outcome(&view, &view.reference)
}
