//! Joins this terminal to a process in a container, over the exec or attach WebSocket.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wharf_shared::live::{StreamInput, StreamOutput};

use crate::client::Client;
use crate::output;
use crate::socket::{Hearing, Saying, Socket};
use crate::terminal::{self, Changed, DetachKeys};

/// Signals that are passed on to the process when it has no terminal of its own.
const FORWARDED: [i32; 4] = [1, 2, 3, 15];
/// Read from standard input at once; a frame of this size goes through every limit on the way.
const STDIN_CHUNK_BYTES: usize = 16 * 1024;

/// How long a signal waits for room behind input that is on its way. More than this is input that nobody reads.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(5);

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
            Some(
                StreamOutput::Stdout(_)
                | StreamOutput::Stderr(_)
                | StreamOutput::Exited(_)
                | StreamOutput::Missed(_),
            ) => {
                bail!("the agent speaks of a process before it started; is it of another version?")
            }
            None => bail!("the agent ended the connection"),
        }
    }

    /// Passes everything on, both ways, until the process ends or the person leaves.
    pub(crate) async fn join(self, joint: Joint) -> Result<Ended> {
        let raw = if joint.terminal && joint.stdin && terminal::is_interactive() {
            Some(Changed::raw()?)
        } else {
            None
        };
        let ended = self.pump(joint, raw.is_some()).await;
        drop(raw);
        ended
    }

    async fn pump(self, joint: Joint, raw: bool) -> Result<Ended> {
        // Caught before a word of the process is shown: whoever reads it may answer with a signal.
        let resized = signal(SignalKind::window_change()).context("wait for the window's size")?;
        let caught = Caught { resized, signals: Signals::new(!raw)? };
        let (saying, hearing, carry) = self.socket.split();
        let carry = async {
            carry.await;
            Ok(())
        };
        // Each way goes on by itself: a process that reads nothing is still heard. Once it has ended
        // there is nobody to say anything to.
        tokio::select! {
            ended = hear(hearing) => ended,
            left = async { tokio::try_join!(say(saying, joint, raw, caught), carry) } => left.map(|_| Ended::Detached),
        }
    }
}

/// Shows what the process prints until it ends.
async fn hear(mut hearing: Hearing<StreamOutput>) -> Result<Ended> {
    loop {
        match hearing.next().await? {
            Some(StreamOutput::Stdout(bytes)) => output::write_out(&bytes)?,
            Some(StreamOutput::Stderr(bytes)) => output::write_err(&bytes)?,
            Some(StreamOutput::Started) => {}
            Some(StreamOutput::Missed(bytes)) => output::missed(bytes),
            Some(StreamOutput::Exited(code)) => return Ok(Ended::Exited(code)),
            Some(StreamOutput::Refused(problem)) => return Err(problem.into()),
            None => bail!("the connection ended before the process did; it may still run"),
        }
    }
}

/// Passes on what is typed, the window's size and signals, until the person leaves.
async fn say(saying: Saying<StreamInput>, joint: Joint, raw: bool, caught: Caught) -> Result<()> {
    let Caught { mut resized, mut signals } = caught;
    let size = || terminal::size().map(|(rows, columns)| StreamInput::Resize { rows, columns });
    if joint.terminal
        && let Some(size) = size()
    {
        saying.send(&size).await?;
    }
    let mut typed = std::pin::pin!(pass_stdin(&saying, joint.stdin, raw));
    let mut stdin_open = true;
    loop {
        // Signals and sizes are taken in one step; standard input goes on where it was.
        tokio::select! {
            done = &mut typed, if stdin_open => {
                if done? == Passed::Left {
                    return Ok(());
                }
                stdin_open = false;
            }
            Some(()) = resized.recv(), if joint.terminal => {
                // One that has no room is followed by others, or by nobody who looks.
                if let Some(size) = size() {
                    saying.try_send(&size)?;
                }
            }
            number = signals.next() => {
                let signal = StreamInput::Signal(number);
                let mut sent = std::pin::pin!(tokio::time::timeout(SIGNAL_PATIENCE, saying.send(&signal)));
                // Input that is on its way goes on meanwhile: it may hold the room that is waited for.
                let sent = loop {
                    tokio::select! {
                        sent = &mut sent => break sent,
                        done = &mut typed, if stdin_open => {
                            if done? == Passed::Left {
                                return Ok(());
                            }
                            stdin_open = false;
                        }
                    }
                };
                match sent {
                    Ok(sent) => sent?,
                    Err(_elapsed) => {
                        bail!("the process does not read its input, and signal {number} cannot overtake it");
                    }
                }
            }
        }
    }
}

/// How standard input came to its end.
#[derive(Debug, PartialEq, Eq)]
enum Passed {
    /// It has ended.
    All,
    /// The person typed the keys that detach.
    Left,
}

async fn pass_stdin(saying: &Saying<StreamInput>, wanted: bool, raw: bool) -> Result<Passed> {
    if !wanted {
        return Ok(Passed::All);
    }
    let mut stdin = tokio::io::stdin();
    let mut chunk = vec![0; STDIN_CHUNK_BYTES];
    let mut keys = DetachKeys::default();
    loop {
        let read = stdin.read(&mut chunk).await.context("read standard input")?;
        let typed = chunk.get(..read).unwrap_or_default();
        if typed.is_empty() {
            saying.send(&StreamInput::CloseStdin).await?;
            return Ok(Passed::All);
        }
        let (pass, detach) = if raw { keys.feed(typed) } else { (typed.to_vec(), false) };
        if !pass.is_empty() {
            saying.send(&StreamInput::Stdin(pass)).await?;
        }
        if detach {
            return Ok(Passed::Left);
        }
    }
}

/// What this process is told from now on, in place of what the signals would do to it.
struct Caught {
    resized: Signal,
    signals: Signals,
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
