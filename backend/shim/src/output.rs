//! The container's standard streams: what the shim keeps of them, and output on its way to the log.
//!
//! Pipes, not the log file itself: a container could truncate or seek that. The reading ends never
//! block; the writer of the log never fails; so a container's output costs this process one buffer,
//! whatever it writes.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use wharf_runtime::launch::Stdio;
use wharf_runtime::spec::ProcessSpec;
use wharf_shim::clock::realtime_ns;
use wharf_shim::logfile::{LogWriter, MAX_RECORD_BYTES, Stream};

/// What a pipe may hold, if the kernel allows it: fewer wake-ups of a chatty container.
const PIPE_BYTES: usize = 1024 * 1024;
/// Chunks read from one stream before the others get their turn.
const CHUNKS_PER_TURN: usize = 16;
/// After a turn that brought little, the next one waits this long, so that a program that writes
/// byte by byte costs a thousand small records a second and not a hundred thousand.
const GATHER: Duration = Duration::from_millis(1);
const LITTLE_BYTES: usize = PIPE_BYTES / 4;
/// A terminal that nobody has open reads as hung up; somebody may open it again.
const HUNG_UP_PAUSE: Duration = Duration::from_millis(500);

/// Where every stream is read into, one after the other.
pub(crate) type Buffer = Vec<u8>;

/// Makes the one buffer of a shim. What is never read into it costs no memory.
pub(crate) fn new_buffer() -> Buffer {
    Vec::with_capacity(MAX_RECORD_BYTES)
}

/// The shim's ends of the standard streams.
#[derive(Debug)]
pub(crate) struct Streams {
    /// The write end of standard input, until it is closed.
    pub(crate) stdin: Option<OwnedFd>,
    /// What is read, and not yet ended.
    pub(crate) outputs: Vec<Output>,
}

impl Streams {
    /// Makes the pipes of a process without a terminal; returns both sides.
    pub(crate) fn new(process: &ProcessSpec) -> io::Result<(Self, Stdio)> {
        if process.terminal {
            let none = Stdio { stdin: None, stdout: None, stderr: None };
            return Ok((Self { stdin: None, outputs: Vec::new() }, none));
        }
        let (stdin_reader, stdin_writer) = if process.stdin {
            let (reader, writer) = io::pipe()?;
            (Some(OwnedFd::from(reader)), Some(OwnedFd::from(writer)))
        } else {
            (None, None)
        };
        let (stdout, stdout_writer) = Output::pipe(Stream::Stdout)?;
        let (stderr, stderr_writer) = Output::pipe(Stream::Stderr)?;
        let theirs = Stdio {
            stdin: stdin_reader,
            stdout: Some(stdout_writer.into()),
            stderr: Some(stderr_writer.into()),
        };
        Ok((Self { stdin: stdin_writer, outputs: vec![stdout, stderr] }, theirs))
    }

    /// Adds the master of the container's terminal.
    pub(crate) fn add_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&master, true)?;
        self.stdin = Some(master.try_clone()?);
        self.outputs.push(Output::new(master, Stream::Stdout, true));
        Ok(())
    }
}

/// One stream of output.
#[derive(Debug)]
pub(crate) struct Output {
    fd: OwnedFd,
    stream: Stream,
    terminal: bool,
    paused_until: Option<Instant>,
}

/// What reading a stream came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There may be more.
    More,
    /// Nothing more for now.
    Empty,
    /// Nothing more ever.
    Ended,
}

impl Output {
    fn new(fd: OwnedFd, stream: Stream, terminal: bool) -> Self {
        Self { fd, stream, terminal, paused_until: None }
    }

    fn pipe(stream: Stream) -> io::Result<(Self, PipeWriter)> {
        let (reader, writer): (PipeReader, PipeWriter) = io::pipe()?;
        let fd = OwnedFd::from(reader);
        rustix::io::ioctl_fionbio(&fd, true)?;
        // Only a matter of speed: the limit of the user's pipes may be reached.
        rustix::pipe::fcntl_setpipe_size(&fd, PIPE_BYTES).ok();
        Ok((Self::new(fd, stream, false), writer))
    }

    /// Until when not to wait for this stream.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Ends a pause whose time has come.
    pub(crate) fn resume(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
    }

    /// Copies what is there to the log, one turn's worth.
    pub(crate) fn copy(&mut self, buffer: &mut Buffer, log: &mut LogWriter) -> Progress {
        let mut copied_bytes = 0;
        for _ in 0..CHUNKS_PER_TURN {
            buffer.clear();
            match rustix::io::read(&self.fd, spare_capacity(buffer)) {
                Ok(0) => return Progress::Ended,
                Ok(count) => {
                    log.append(self.stream, realtime_ns(), buffer);
                    copied_bytes += count;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if copied_bytes < LITTLE_BYTES {
                        self.paused_until = Some(Instant::now() + GATHER);
                    }
                    return Progress::Empty;
                }
                // EIO: nobody has the terminal open.
                Err(Errno::IO) if self.terminal => {
                    self.paused_until = Some(Instant::now() + HUNG_UP_PAUSE);
                    return Progress::Empty;
                }
                Err(_) => return Progress::Ended,
            }
        }
        Progress::More
    }

    /// Copies everything that is there, after the last process of the container ended. A writer that
    /// is left elsewhere (a descriptor that was passed on) cannot hold this up: at most a full
    /// pipe and what is written meanwhile is read.
    pub(crate) fn drain(&mut self, buffer: &mut Buffer, log: &mut LogWriter) {
        const TURNS: usize = 4 * PIPE_BYTES / (MAX_RECORD_BYTES * CHUNKS_PER_TURN) + 1;
        for _ in 0..TURNS {
            if self.copy(buffer, log) != Progress::More {
                return;
            }
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
