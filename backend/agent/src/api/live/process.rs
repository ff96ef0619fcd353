//! Sockets of one process: an exec, or the container's own first process.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State, WebSocketUpgrade};
use axum::response::Response;
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use wharf_shared::live::{LogStream, StreamInput, StreamOutput};
use wharf_shared::problem::ProblemKind;
use wharf_shim::protocol::ExitStatus;

use super::frames::{Frames, Incoming, Receiving, Sending};
use super::input::{Input, Target};
use super::{HELLO_TIMEOUT, OptionalCaller, authenticate, upgrade};
use crate::api::extract::{Path, Query};
use crate::api::problem::problem;
use crate::app::App;
use crate::containers::exec::{Running, Stdin, Streams};
use crate::containers::logs::{LogItem, LogQuery, TailError};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError, chain};
use crate::terminal::Terminal;

/// One read of a process's output.
const CHUNK_BYTES: usize = 32 * 1024;
/// Chunks between the process and a slow client; then the process waits.
const CHUNKS: usize = 8;
/// A background child may hold the pipes open for ever: so long after the process's end they may
/// say nothing.
const LINGER: Duration = Duration::from_millis(500);
/// After so much silence the client gets a sign of life, sooner than it would ask for one: a question
/// may lie behind input that the process does not take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The signal of a client that hung up on a terminal.
const SIGHUP: i32 = 1;

/// Opens the socket of a prepared exec.
pub(in crate::api) async fn exec(
    State(app): State<Arc<App>>,
    Path((container, exec_id)): Path<(String, String)>,
    caller: OptionalCaller,
    socket: WebSocketUpgrade,
    request: Request,
) -> Result<Response> {
    let (parts, _) = request.into_parts();
    upgrade(socket, &parts, caller, move |frames, caller| async move {
        let Some((mut sending, receiving, ctx)) = greet(&app, frames, caller).await else { return };
        match app.execs.take(&app.containers, &ctx, &container, &exec_id).await {
            Ok((id, running)) => run_exec(&app, &id, running, sending, receiving).await,
            Err(error) => refuse(&mut sending, &error).await,
        }
    })
}

/// How to attach.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AttachQuery {
    /// Pass standard input on.
    #[serde(default)]
    stdin: bool,
    /// Begin with what was logged so far.
    #[serde(default)]
    logs: bool,
}

/// Opens the socket of a container's own standard streams.
pub(in crate::api) async fn attach(
    State(app): State<Arc<App>>,
    Path(container): Path<String>,
    Query(query): Query<AttachQuery>,
    caller: OptionalCaller,
    socket: WebSocketUpgrade,
    request: Request,
) -> Result<Response> {
    let (parts, _) = request.into_parts();
    upgrade(socket, &parts, caller, move |frames, caller| async move {
        let Some((mut sending, mut receiving, ctx)) = greet(&app, frames, caller).await else { return };
        let attached = Box::pin(run_attach(&app, &ctx, &container, &query, &mut sending, &mut receiving));
        if let Err(error) = attached.await {
            refuse(&mut sending, &error).await;
        }
        receiving.drain().await;
    })
}

async fn greet(app: &App, frames: Frames, caller: Option<Ctx>) -> Option<(Sending, Receiving, Ctx)> {
    let (mut sending, mut receiving) = frames.split();
    let hello = tokio::time::timeout(HELLO_TIMEOUT, receiving.next::<StreamInput>()).await;
    let Ok(Incoming::Frame(StreamInput::Hello { ticket })) = hello else {
        refuse(&mut sending, &ServiceError::new(ProblemKind::Malformed, "say hello first")).await;
        return None;
    };
    match authenticate(app, caller, ticket).await {
        Ok(ctx) => Some((sending, receiving, ctx)),
        Err(error) => {
            refuse(&mut sending, &error).await;
            None
        }
    }
}

async fn refuse(sending: &mut Sending, error: &ServiceError) {
    crate::api::problem::log(error);
    sending.send(&StreamOutput::Refused(problem(error, ""))).await;
}

async fn run_exec(
    app: &Arc<App>,
    container: &wharf_shared::id::ContainerId,
    running: Running,
    mut sending: Sending,
    mut receiving: Receiving,
) {
    let (chunks, output) = mpsc::channel::<StreamOutput>(CHUNKS);
    let has_terminal = matches!(running.streams, Streams::Terminal(_));
    let target = match running.streams {
        Streams::Terminal(master) => Terminal::new(master).map(Arc::new).map(|terminal| {
            let reader = Arc::clone(&terminal);
            let chunks = chunks.clone();
            app.tasks.spawn("terminal output", crate::tasks::OnEnd::Fine, async move {
                while let Some(bytes) = reader.read(CHUNK_BYTES).await {
                    if chunks.send(StreamOutput::Stdout(bytes)).await.is_err() {
                        break;
                    }
                }
            });
            Target::Terminal(terminal)
        }),
        Streams::Pipes { stdin, stdout, stderr } => {
            pump(app, stdout, StreamOutput::Stdout, chunks.clone());
            pump(app, stderr, StreamOutput::Stderr, chunks.clone());
            stdin
                .map(pipe::Sender::from_owned_fd)
                .transpose()
                .map(|pipe| pipe.map_or(Target::Nowhere, Target::Pipe))
        }
    };
    drop(chunks);
    let input = match target {
        Ok(target) => Input::to(target),
        Err(error) => {
            return refuse(
                &mut sending,
                &ServiceError::internal("the process's streams cannot be used", error),
            )
            .await;
        }
    };
    if !sending.send(&StreamOutput::Started).await {
        return;
    }
    // Each way goes on by itself: a process that reads nothing is still heard.
    tokio::select! {
        ended = tell_output(output, running.exit, &mut sending) => if ended {
            return receiving.drain().await;
        },
        // What was not passed on when the process ended is nobody's any more.
        () = feed_exec(app, container, &running.exec_id, input, &mut receiving) => {}
    }
    if has_terminal {
        app.containers.signal_exec(container, running.exec_id, SIGHUP).await;
    }
}

/// Sends what a process prints until it has ended, and how; `false` when the client is gone before.
async fn tell_output(
    mut output: mpsc::Receiver<StreamOutput>,
    mut exit: oneshot::Receiver<ExitStatus>,
    sending: &mut Sending,
) -> bool {
    let mut ended: Option<ExitStatus> = None;
    let mut drained = false;
    loop {
        // A chunk is taken only when its branch wins; the exit is asked once; the pauses begin anew.
        tokio::select! {
            chunk = output.recv(), if !drained => match chunk {
                Some(chunk) => {
                    if !sending.send(&chunk).await {
                        return ended.is_some();
                    }
                }
                None => drained = true,
            },
            status = &mut exit, if ended.is_none() => ended = Some(status.unwrap_or(ExitStatus::Unknown)),
            () = tokio::time::sleep(LINGER), if ended.is_some() && !drained => drained = true,
            () = tokio::time::sleep(KEEP_ALIVE) => {
                if !sending.ping().await {
                    return ended.is_some();
                }
            }
        }
        if drained && let Some(status) = ended {
            sending.send(&StreamOutput::Exited(shell_code(status))).await;
            return true;
        }
    }
}

/// Does what a client asks of an exec until it is gone.
async fn feed_exec(
    app: &App,
    container: &wharf_shared::id::ContainerId,
    exec_id: &str,
    mut input: Input,
    receiving: &mut Receiving,
) {
    loop {
        // Both are cancel-safe.
        tokio::select! {
            // The end of the pipe is the end of the input.
            _ended = input.flow() => {}
            frame = receiving.next::<StreamInput>(), if !input.is_full() => match frame {
                Incoming::Closed => return,
                Incoming::Frame(StreamInput::Signal(signo)) => {
                    app.containers.signal_exec(container, exec_id.to_owned(), signo).await;
                }
                frame => take_input(&mut input, frame),
            },
        }
    }
}

/// What is the same for every process.
fn take_input(input: &mut Input, frame: Incoming<StreamInput>) {
    match frame {
        Incoming::Frame(StreamInput::Stdin(bytes)) => input.push(&bytes),
        Incoming::Frame(StreamInput::CloseStdin) => input.end(),
        Incoming::Frame(StreamInput::Resize { rows, columns }) => input.resize(rows, columns),
        Incoming::Frame(StreamInput::Hello { .. } | StreamInput::Signal(_))
        | Incoming::Garbage(_)
        | Incoming::Closed => {}
    }
}

fn pump(app: &App, fd: OwnedFd, wrap: fn(Vec<u8>) -> StreamOutput, chunks: mpsc::Sender<StreamOutput>) {
    let Ok(mut reader) = pipe::Receiver::from_owned_fd(fd) else {
        tracing::error!("a pipe cannot be read");
        return;
    };
    app.tasks.spawn("process output", crate::tasks::OnEnd::Fine, async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            let bytes = buffer.get(..read).unwrap_or_default().to_vec();
            if chunks.send(wrap(bytes)).await.is_err() {
                break;
            }
        }
    });
}

async fn run_attach(
    app: &Arc<App>,
    ctx: &Ctx,
    container: &str,
    query: &AttachQuery,
    sending: &mut Sending,
    receiving: &mut Receiving,
) -> Result<()> {
    let row = app.containers.find(ctx, container).await?;
    let opening = if query.stdin {
        let opening = app.containers.stdin_once_live(ctx, &row)?;
        app.containers.audit(ctx, "container.attach", &row, BTreeMap::new()).await?;
        Some(opening)
    } else {
        None
    };
    let tail = if query.logs { None } else { Some(0) };
    let query = LogQuery { tail, follow: true, raw: true, ..LogQuery::default() };
    let exit = app.containers.exit(ctx, row.id.as_str(), false).await?;
    let chunks = app.containers.logs(ctx, row.id.as_str(), query).await?;
    if !sending.send(&StreamOutput::Started).await {
        return Ok(());
    }
    // Each way goes on by itself. The container's actor may wait for the log to be read before it
    // removes it, so whoever reads must never wait for the actor.
    tokio::select! {
        told = tell_log(chunks, exit, sending) => told,
        // What was not passed on when the container ended is nobody's any more.
        fed = feed_container(app, ctx, row.id.as_str(), opening, receiving) => fed,
    }
}

/// Sends what a container prints until it has ended, and how.
async fn tell_log(
    chunks: impl Stream<Item = Result<Vec<LogItem>, TailError>>,
    exit: impl Future<Output = Result<wharf_shared::container::ExitView>>,
    sending: &mut Sending,
) -> Result<()> {
    let mut chunks = std::pin::pin!(chunks);
    loop {
        // A stream keeps what it has begun.
        let Ok(batch) = tokio::time::timeout(KEEP_ALIVE, chunks.next()).await else {
            if sending.ping().await {
                continue;
            }
            return Ok(());
        };
        let Some(batch) = batch else { break };
        for item in batch? {
            let output = match item {
                LogItem::Chunk { stream: LogStream::Stderr, bytes } => StreamOutput::Stderr(bytes),
                LogItem::Chunk { bytes, .. } => StreamOutput::Stdout(bytes),
                LogItem::Gap { missed_bytes, .. } => StreamOutput::Missed(missed_bytes),
                LogItem::Line(_) => continue,
            };
            if !sending.send(&output).await {
                return Ok(());
            }
        }
    }
    sending.send(&StreamOutput::Exited(exit.await?.shell_code())).await;
    Ok(())
}

/// Does what a client asks of a container until it is gone. `opening` gives the standard input once
/// the container runs; without it there is none.
async fn feed_container(
    app: &App,
    ctx: &Ctx,
    container: &str,
    opening: Option<impl Future<Output = Option<Stdin>>>,
    receiving: &mut Receiving,
) -> Result<()> {
    let mut input = if opening.is_some() { Input::early() } else { Input::to(Target::Nowhere) };
    // Opened beside the rest: whoever attaches before the start misses no byte of a quick process.
    let mut opening = std::pin::pin!(async move {
        match opening {
            Some(opening) => opening.await,
            None => std::future::pending().await,
        }
    });
    loop {
        // The opening is asked once; the others are cancel-safe.
        tokio::select! {
            stdin = &mut opening, if input.is_early() => input.connect(target(stdin)?),
            ended = input.flow() => if ended { close_stdin(app, ctx, container).await },
            frame = receiving.next::<StreamInput>(), if !input.is_full() => match frame {
                Incoming::Closed => return Ok(()),
                Incoming::Frame(StreamInput::Signal(signo)) => {
                    // One that has ended needs none, and how it ended is still to be told.
                    if let Err(error) = app.containers.kill(ctx, container, signo).await {
                        tracing::debug!(error = chain(&error), "a signal was not passed on");
                    }
                }
                frame => take_input(&mut input, frame),
            },
        }
    }
}

/// Where a container's input goes; one that has ended needs none.
fn target(stdin: Option<Stdin>) -> Result<Target> {
    let Some(stdin) = stdin else { return Ok(Target::Nowhere) };
    let unusable = |error| ServiceError::internal("standard input cannot be used", error);
    Ok(if stdin.terminal {
        Target::Terminal(Arc::new(Terminal::new(stdin.fd).map_err(unusable)?))
    } else {
        Target::Pipe(pipe::Sender::from_owned_fd(stdin.fd).map_err(unusable)?)
    })
}

/// Closes the container's standard input; one that has ended closed it itself.
async fn close_stdin(app: &App, ctx: &Ctx, container: &str) {
    if let Err(error) = app.containers.close_stdin(ctx, container).await {
        tracing::debug!(error = chain(&error), "standard input was not closed");
    }
}

fn shell_code(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => 128 + signal,
        ExitStatus::Unknown => 255,
    }
}
