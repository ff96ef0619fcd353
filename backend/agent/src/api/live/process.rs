//! Sockets of one process: an exec, or the container's own first process.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use axum::extract::{Request, State, WebSocketUpgrade};
use axum::response::Response;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use wharf_shared::live::{LogStream, StreamInput, StreamOutput};
use wharf_shared::problem::ProblemKind;
use wharf_shim::protocol::ExitStatus;

use super::frames::{Frames, Incoming, Receiving, Sending};
use super::{HELLO_TIMEOUT, OptionalCaller, authenticate, upgrade};
use crate::api::extract::{Path, Query};
use crate::api::problem::problem;
use crate::app::App;
use crate::containers::exec::{Running, Stdin, Streams};
use crate::containers::logs::{LogItem, LogQuery};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError, chain};
use crate::terminal::Terminal;

/// One read of a process's output.
const CHUNK_BYTES: usize = 32 * 1024;
/// Chunks between the process and a slow client; then the process waits.
const CHUNKS: usize = 8;
/// Input that is kept for a container that does not run yet; then the client waits.
const EARLY_MAX_BYTES: usize = 256 * 1024;
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
        let Some((mut sending, receiving, ctx)) = greet(&app, frames, caller).await else { return };
        if let Err(error) = run_attach(&app, &ctx, &container, &query, &mut sending, receiving).await {
            refuse(&mut sending, &error).await;
        }
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

/// Where input goes.
enum Input {
    Terminal(Arc<Terminal>),
    Pipe(pipe::Sender),
    None,
    /// The container does not run yet.
    Early(Early),
}

/// What a client said before the container ran.
#[derive(Default)]
struct Early {
    bytes: Vec<u8>,
    closed: bool,
    size: Option<(u16, u16)>,
}

async fn run_exec(
    app: &Arc<App>,
    container: &wharf_shared::id::ContainerId,
    running: Running,
    mut sending: Sending,
    mut receiving: Receiving,
) {
    let (chunks, mut output) = mpsc::channel::<StreamOutput>(CHUNKS);
    let started = match running.streams {
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
            Input::Terminal(terminal)
        }),
        Streams::Pipes { stdin, stdout, stderr } => {
            pump(app, stdout, StreamOutput::Stdout, chunks.clone());
            pump(app, stderr, StreamOutput::Stderr, chunks.clone());
            stdin
                .map(pipe::Sender::from_owned_fd)
                .transpose()
                .map(|pipe| pipe.map_or(Input::None, Input::Pipe))
        }
    };
    drop(chunks);
    let mut input = match started {
        Ok(input) => input,
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
    let mut exit = running.exit;
    let mut ended: Option<ExitStatus> = None;
    let mut drained = false;
    loop {
        // Chunks and frames are taken only when their branch wins; the exit is asked once.
        tokio::select! {
            chunk = output.recv(), if !drained => match chunk {
                Some(chunk) => {
                    if !sending.send(&chunk).await {
                        break;
                    }
                }
                None => drained = true,
            },
            status = &mut exit, if ended.is_none() => ended = Some(status.unwrap_or(ExitStatus::Unknown)),
            frame = receiving.next::<StreamInput>() => {
                if !take_input(app, container, &running.exec_id, &mut input, frame).await {
                    break;
                }
            }
            // A background child may hold the pipes open for ever; after the process's end they get a moment.
            () = tokio::time::sleep(std::time::Duration::from_millis(500)), if ended.is_some() && !drained => drained = true,
        }
        if drained && let Some(status) = ended {
            sending.send(&StreamOutput::Exited(shell_code(status))).await;
            return;
        }
    }
    if ended.is_none() && matches!(input, Input::Terminal(_)) {
        app.containers.signal_exec(container, running.exec_id, SIGHUP).await;
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

/// Does what a frame asks; `false` when the client is gone.
async fn take_input(
    app: &App,
    container: &wharf_shared::id::ContainerId,
    exec_id: &str,
    input: &mut Input,
    frame: Incoming<StreamInput>,
) -> bool {
    match frame {
        Incoming::Closed => return false,
        Incoming::Garbage(_) | Incoming::Frame(StreamInput::Hello { .. }) => {}
        Incoming::Frame(StreamInput::Stdin(bytes)) => write_input(input, &bytes).await,
        Incoming::Frame(StreamInput::CloseStdin) => *input = Input::None,
        Incoming::Frame(StreamInput::Resize { rows, columns }) => resize(input, rows, columns),
        Incoming::Frame(StreamInput::Signal(signo)) => {
            app.containers.signal_exec(container, exec_id.to_owned(), signo).await;
        }
    }
    true
}

fn resize(input: &mut Input, rows: u16, columns: u16) {
    match input {
        Input::Terminal(terminal) => terminal.resize(rows, columns),
        Input::Early(early) => early.size = Some((rows, columns)),
        Input::Pipe(_) | Input::None => {}
    }
}

async fn write_input(input: &mut Input, bytes: &[u8]) {
    let written = match input {
        Input::Early(early) => {
            early.bytes.extend_from_slice(bytes);
            return;
        }
        Input::Terminal(terminal) => terminal.write(bytes).await,
        Input::Pipe(pipe) => pipe.write_all(bytes).await,
        Input::None => return,
    };
    if written.is_err() {
        // The process closed its input; it may go on without.
        *input = Input::None;
    }
}

async fn run_attach(
    app: &Arc<App>,
    ctx: &Ctx,
    container: &str,
    query: &AttachQuery,
    sending: &mut Sending,
    mut receiving: Receiving,
) -> Result<()> {
    let row = app.containers.find(ctx, container).await?;
    let opening = if query.stdin { Some(app.containers.stdin_once_live(ctx, &row)?) } else { None };
    // Opened beside the rest: whoever attaches before the start misses no byte of a quick process.
    let mut opening = Box::pin(async move {
        match opening {
            Some(opening) => opening.await,
            None => std::future::pending().await,
        }
    });
    let mut input = if query.stdin { Input::Early(Early::default()) } else { Input::None };
    let tail = if query.logs { None } else { Some(0) };
    let query = LogQuery { tail, follow: true, raw: true, ..LogQuery::default() };
    let exit = app.containers.exit(ctx, row.id.as_str(), false).await?;
    let mut chunks = Box::pin(app.containers.logs(ctx, row.id.as_str(), query).await?);
    if !sending.send(&StreamOutput::Started).await {
        return Ok(());
    }
    loop {
        let early = matches!(input, Input::Early(_));
        let full = matches!(&input, Input::Early(early) if early.bytes.len() >= EARLY_MAX_BYTES);
        // Each takes its item only when it wins; the opening is asked once.
        tokio::select! {
            stdin = &mut opening, if early => {
                input = open_input(stdin, input).await?;
                if matches!(input, Input::None) {
                    close_stdin(app, ctx, row.id.as_str()).await;
                }
            }
            batch = chunks.next() => match batch {
                Some(Ok(batch)) => {
                    for item in batch {
                        let LogItem::Chunk { stream, bytes } = item else { continue };
                        let output = if stream == LogStream::Stderr { StreamOutput::Stderr(bytes) } else { StreamOutput::Stdout(bytes) };
                        if !sending.send(&output).await {
                            return Ok(());
                        }
                    }
                }
                Some(Err(error)) => return Err(ServiceError::internal("the output cannot be read", error)),
                None => {
                    sending.send(&StreamOutput::Exited(exit.await?.shell_code())).await;
                    return Ok(());
                }
            },
            frame = receiving.next::<StreamInput>(), if !full => match frame {
                Incoming::Closed => return Ok(()),
                Incoming::Frame(StreamInput::Signal(signo)) => app.containers.kill(ctx, row.id.as_str(), signo).await?,
                Incoming::Frame(StreamInput::Stdin(bytes)) => write_input(&mut input, &bytes).await,
                Incoming::Frame(StreamInput::CloseStdin) => match &mut input {
                    Input::Early(early) => early.closed = true,
                    input => {
                        *input = Input::None;
                        close_stdin(app, ctx, row.id.as_str()).await;
                    }
                },
                Incoming::Frame(StreamInput::Resize { rows, columns }) => resize(&mut input, rows, columns),
                Incoming::Frame(StreamInput::Hello { .. }) | Incoming::Garbage(_) => {}
            },
        }
    }
}

/// Passes on what was said before the container ran; one that has ended already needs no input.
async fn open_input(stdin: Option<Stdin>, early: Input) -> Result<Input> {
    let (Some(stdin), Input::Early(early)) = (stdin, early) else { return Ok(Input::None) };
    let unusable = |error| ServiceError::internal("standard input cannot be used", error);
    let mut input = if stdin.terminal {
        Input::Terminal(Arc::new(Terminal::new(stdin.fd).map_err(unusable)?))
    } else {
        Input::Pipe(pipe::Sender::from_owned_fd(stdin.fd).map_err(unusable)?)
    };
    if let Some((rows, columns)) = early.size {
        resize(&mut input, rows, columns);
    }
    if !early.bytes.is_empty() {
        write_input(&mut input, &early.bytes).await;
    }
    Ok(if early.closed { Input::None } else { input })
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
