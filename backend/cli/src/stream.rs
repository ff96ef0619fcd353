//! Joins this terminal to a process in a container, over the exec or attach WebSocket.

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wharf_shared::live::{StreamInput, StreamOutput};

use crate::client::Client;
use crate::output;
use crate::socket::Socket;
use crate::terminal::{self, Changed, DetachKeys};

/// Signals that are passed on to the process when it has no terminal of its own.
const FORWARDED: [i32; 4] = [1, 2, 3, 15];
/// Read from standard input at once; a frame of this size goes through every limit on the way.
const STDIN_CHUNK_BYTES: usize = 16 * 1024;

/// How the two are joined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Joint {
    /// The process has a terminal, and this one becomes raw.
    pub(crate) terminal: bool,
    /// Standard input is passed on.
    pub(crate) stdin: bool,
}

/// How it came apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process ended with this code.
    Exited(i32),
    /// The person left, and the process runs on.
    Detached,
}

/// An open stream.
pub(crate) struct Stream {
    socket: Socket<StreamOutput, StreamInput>,
}

impl Stream {
    /// Opens the `WebSocket` at these segments, and waits until the other side has taken hold of the
    /// process's streams: from here on nothing is missed.
    pub(crate) async fn open(client: &Client, segments: &[&str], query: &[(&str, &str)]) -> Result<Self> {
        let hello = StreamInput::Hello { ticket: None };
        let mut socket = Socket::open(client, segments, query, &hello).await?;
        match socket.next().await? {
            Some(StreamOutput::Started) => Ok(Self { socket }),
            Some(StreamOutput::Refused(problem)) => Err(problem.into()),
            Some(StreamOutput::Stdout(_) | StreamOutput::Stderr(_) | StreamOutput::Exited(_)) => {
                bail!("the agent speaks of a process before it started; is it of another version?")
            }
            None => bail!("the agent ended the connection"),
        }
    }

    /// Passes everything on, both ways, until the process ends or the person leaves.
    pub(crate) async fn join(mut self, joint: Joint) -> Result<Ended> {
        let raw = if joint.terminal && joint.stdin && terminal::is_interactive() {
            Some(Changed::raw()?)
        } else {
            None
        };
        let ended = self.pump(joint, raw.is_some()).await;
        drop(raw);
        ended
    }

    async fn pump(&mut self, joint: Joint, raw: bool) -> Result<Ended> {
        let mut stdin = tokio::io::stdin();
        let mut stdin_open = joint.stdin;
        let mut chunk = vec![0; STDIN_CHUNK_BYTES];
        let mut keys = DetachKeys::default();
        let mut resized = signal(SignalKind::window_change()).context("wait for the window's size")?;
        let mut signals = Signals::new(!raw)?;
        if joint.terminal {
            self.resize().await?;
        }
        loop {
            // Every branch takes its item in one step, so none is lost when another branch wins.
            tokio::select! {
                frame = self.socket.next() => match frame? {
                    Some(StreamOutput::Stdout(bytes)) => output::write_out(&bytes)?,
                    Some(StreamOutput::Stderr(bytes)) => output::write_err(&bytes)?,
                    Some(StreamOutput::Started) => {}
                    Some(StreamOutput::Exited(code)) => return Ok(Ended::Exited(code)),
                    Some(StreamOutput::Refused(problem)) => return Err(problem.into()),
                    None => bail!("the connection ended before the process did; it may still run"),
                },
                read = stdin.read(&mut chunk), if stdin_open => {
                    let typed = chunk.get(..read.context("read standard input")?).unwrap_or_default();
                    if typed.is_empty() {
                        stdin_open = false;
                        self.socket.send(&StreamInput::CloseStdin).await?;
                        continue;
                    }
                    let (pass, detach) = if raw { keys.feed(typed) } else { (typed.to_vec(), false) };
                    if !pass.is_empty() {
                        self.socket.send(&StreamInput::Stdin(pass)).await?;
                    }
                    if detach {
                        return Ok(Ended::Detached);
                    }
                }
                Some(()) = resized.recv(), if joint.terminal => self.resize().await?,
                number = signals.next() => self.socket.send(&StreamInput::Signal(number)).await?,
            }
        }
    }

    async fn resize(&mut self) -> Result<()> {
        match terminal::size() {
            Some((rows, columns)) => self.socket.send(&StreamInput::Resize { rows, columns }).await,
            None => Ok(()),
        }
    }
}

/// The forwarded signals, as they come in.
struct Signals(Vec<(i32, Signal)>);

impl Signals {
    fn new(wanted: bool) -> Result<Self> {
        let numbers = FORWARDED.iter().filter(|_| wanted);
        let open = |&number: &i32| Ok((number, signal(SignalKind::from_raw(number))?));
        numbers.map(open).collect::<std::io::Result<_>>().map(Self).context("catch signals")
    }

    /// The next one; never, if none is wanted.
    async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
