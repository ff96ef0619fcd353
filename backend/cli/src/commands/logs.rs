//! `wharf logs`.
//!
//! What is there already comes over HTTP; what follows, over the live WebSocket from the last
//! line's cursor on. So a lost connection in either part costs neither a line nor a repeat.
//!
//! A terminal gets lines without escapes, because a log is what a tenant wrote and a terminal obeys it
//! (CVE-2021-25743); a file or a pipe gets them as they were written, and so does a terminal with --raw.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, ValueEnum};
use futures_util::TryStreamExt as _;
use reqwest::Method;
use serde::Deserialize;
use tokio::io::AsyncBufReadExt as _;
use tokio_util::io::StreamReader;
use wharf_shared::container::ContainerView;
use wharf_shared::id::ContainerId;
use wharf_shared::live::{LogLine, LogStream, Topic, TopicItem};
use wharf_shared::terminal::plain;

use super::Shell;
use crate::client::{Client, wants_json_lines};
use crate::output::{self, Output};
use crate::resume::Resume;
use crate::{clock, live, quantity};

/// A full log over a slow line takes a while.
const HISTORY_TIMEOUT: Duration = Duration::from_hours(24);

/// `wharf logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Go on with new lines as they come.
    #[arg(short, long)]
    follow: bool,
    /// Begin at most so many lines before the end.
    #[arg(short = 'n', long, value_name = "LINES", value_parser = tail)]
    tail: Option<Tail>,
    /// Begin at this time, or this long ago (10m).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Put its time before each line.
    #[arg(short, long)]
    timestamps: bool,
    /// Leave colours and all other terminal sequences in, which a terminal would obey.
    #[arg(long)]
    raw: bool,
    /// Begin after this cursor, as --json shows it.
    #[arg(long, value_name = "CURSOR", conflicts_with_all = ["tail", "since"])]
    after: Option<u64>,
    /// Only this stream.
    #[arg(long, value_enum, value_name = "STREAM")]
    stream: Option<Stream>,
    /// Name or id of the container.
    container: String,
}

/// How many lines; Docker's word for all is taken too.
#[derive(Debug, Clone, Copy)]
enum Tail {
    All,
    Lines(u32),
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail::All),
        text => text.parse().map(Tail::Lines).map_err(|why| format!("{text:?} is no number of lines: {why}")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stream {
    Stdout,
    Stderr,
}

/// How lines are printed.
#[derive(Debug, Clone, Copy)]
struct Printer {
    output: Output,
    timestamps: bool,
    only: Option<Stream>,
    /// Whether standard output gets lines without escapes.
    plain_stdout: bool,
    /// Whether standard error does.
    plain_stderr: bool,
}

impl Printer {
    fn new(output: Output, arguments: &LogsArguments) -> Self {
        Self {
            output,
            timestamps: arguments.timestamps,
            only: arguments.stream,
            plain_stdout: !arguments.raw && std::io::stdout().is_terminal(),
            plain_stderr: !arguments.raw && std::io::stderr().is_terminal(),
        }
    }

    fn print(self, line: &LogLine) -> Result<()> {
        let is_wanted = match line.stream {
            LogStream::Stdout => self.only != Some(Stream::Stderr),
            LogStream::Stderr => self.only != Some(Stream::Stdout),
            LogStream::Supervisor => true,
        };
        if !is_wanted {
            return Ok(());
        }
        if self.output.json {
            return self.output.item(line, |_| String::new());
        }
        match line.stream {
            LogStream::Stdout => output::write_out(text(line, self.timestamps, self.plain_stdout).as_bytes()),
            LogStream::Stderr | LogStream::Supervisor => {
                output::write_err(text(line, self.timestamps, self.plain_stderr).as_bytes())
            }
        }
    }
}

/// The line as it is printed; one that was cut for its length goes on where it was cut.
fn text(line: &LogLine, timestamps: bool, is_plain: bool) -> String {
    let shown = if is_plain { Cow::Owned(plain(&line.text)) } else { Cow::Borrowed(&*line.text) };
    let end = if line.partial { "" } else { "\n" };
    if timestamps { format!("{} {shown}{end}", line.at) } else { format!("{shown}{end}") }
}

/// Shows a log.
pub(crate) async fn logs(shell: &Shell, arguments: LogsArguments) -> Result<()> {
    let client = shell.client()?;
    let printer = Printer::new(shell.output, &arguments);
    let view: ContainerView = client.get(&["containers", &arguments.container], &[]).await?;
    let mut query = Vec::new();
    if let Some(after) = arguments.after {
        query.push(("after", after.to_string()));
    }
    if let Some(Tail::Lines(lines)) = arguments.tail {
        query.push(("tail", lines.to_string()));
    }
    if let Some(since) = &arguments.since {
        let moment = quantity::moment(since, clock::now()).map_err(|why| anyhow!(why))?;
        query.push(("since", moment.to_string()));
    }
    let mut cursor = None;
    let history = history(&client, &view.id, &query, |line| {
        cursor = Some(line.cursor);
        printer.print(&line)
    })
    .await;
    if !arguments.follow {
        return history;
    }
    match history {
        Err(error) if cursor.is_none() => return Err(error),
        // Broken off in the middle: the rest comes by the other way.
        Err(_) | Ok(()) => {}
    }
    let cursor = match cursor.or(arguments.after) {
        Some(cursor) => cursor,
        None => end(&client, &view.id).await?,
    };
    let topic = |after| Topic::Logs { container: view.id.clone(), after: Some(after), tail: None };
    live::follow(&client, Resume::at(cursor), topic, |resume, item| {
        match item {
            TopicItem::Log(line) if resume.accept(line.cursor) => printer.print(&line)?,
            TopicItem::LogGap { missed_bytes, cursor } if resume.accept(cursor) => {
                output::missed(missed_bytes);
            }
            _ => {}
        }
        Ok(true)
    })
    .await
}

/// One line of JSON lines.
#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
    Line(LogLine),
    Gap { missed_bytes: u64 },
}

/// Reads the lines that are there, in order.
async fn history(
    client: &Client,
    container: &ContainerId,
    query: &[(&str, String)],
    mut see: impl FnMut(LogLine) -> Result<()>,
) -> Result<()> {
    let request = client
        .request(Method::GET, &["containers", container.as_str(), "logs"])
        .query(query)
        .headers(wants_json_lines())
        .timeout(HISTORY_TIMEOUT);
    let body = client.send(request).await?.bytes_stream().map_err(std::io::Error::other);
    let mut lines = StreamReader::new(Box::pin(body)).lines();
    while let Some(line) = lines.next_line().await.context("read the log")? {
        match serde_json::from_str(&line).context("understand a line of the log")? {
            Item::Line(line) => see(line)?,
            Item::Gap { missed_bytes } => output::missed(missed_bytes),
        }
    }
    Ok(())
}

/// The cursor after the last line there is.
async fn end(client: &Client, container: &ContainerId) -> Result<u64> {
    let mut cursor = 0;
    history(client, container, &[("tail", "1".to_owned())], |line| {
        cursor = line.cursor;
        Ok(())
    })
    .await?;
    Ok(cursor)
}

#[cfg(test)]
mod tests {
    use wharf_shared::time::Timestamp;

    use super::*;

    fn line(text: &str, partial: bool) -> LogLine {
        LogLine { cursor: 1, stream: LogStream::Stdout, at: Timestamp(0), text: text.to_owned(), partial }
    }

    #[test]
    fn a_cut_line_goes_on_where_it_was_cut() {
        let cut = text(&line("ab", true), false, false) + &text(&line("cd", false), false, false);
        assert_eq!(cut, "abcd\n");
        assert_eq!(text(&line("ab", false), true, false), "1970-01-01T00:00:00Z ab\n");
    }

    #[test]
    fn a_terminal_gets_a_line_without_escapes() {
        let line = line("\u{1b}[2Jx\u{1b}]0;y\u{7}", false);
        assert_eq!(text(&line, false, true), "x\n");
        assert_eq!(text(&line, false, false), "\u{1b}[2Jx\u{1b}]0;y\u{7}\n");
    }

    #[test]
    fn all_and_numbers_are_tails() {
        assert!(matches!(tail("all"), Ok(Tail::All)) && matches!(tail("0"), Ok(Tail::Lines(0))));
        assert!(tail("some").is_err() && tail("-1").is_err());
    }
}
