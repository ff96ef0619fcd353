//! Stands between the caller and a process of a container: hands signals on, copies a terminal, and waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{read, write};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use wharf_sys::process::{Ended, pidfd_send_signal, try_reap};
use wharf_sys::signal_number;

/// Signals wait from here on until [`until_end`] takes them, also those that come while the container is
/// being made.
pub(super) fn hold_signals() -> Result<(), Errno> {
    // A caller that ignores SIGCHLD would let the kernel throw exit codes away.
    wharf_sys::process::heed_children().map_err(|error| error.errno)?;
    SigSet::all().thread_set_mask()
}

/// Waits for the end of a child and returns its exit status as a shell tells it: 128 and more for signals.
pub(super) fn until_end(process: &OwnedFd, terminal: Option<OwnedFd>) -> Result<u8, Errno> {
    match terminal {
        Some(master) => Terminal::new(master)?.serve(process),
        None => loop {
            match SigSet::all().wait() {
                Ok(Signal::SIGCHLD) => {
                    if let Some(status) = ended(process)? {
                        return Ok(status);
                    }
                }
                Ok(signal) => hand_on(process, signal),
                // A real-time signal, which this enum cannot name, or nothing at all.
                Err(_) => {}
            }
        },
    }
}

fn hand_on(process: &OwnedFd, signal: Signal) {
    // It may be gone already; then its end is on the way.
    pidfd_send_signal(process.as_fd(), signal_number(signal)).ok();
}

fn ended(process: &OwnedFd) -> Result<Option<u8>, Errno> {
    let reaped = try_reap(process.as_fd()).map_err(|error| error.errno)?;
    Ok(reaped.map(|reaped| {
        let status = match reaped.ended {
            Ended::Code(code) => code,
            Ended::Signal(number) => 128 + number,
        };
        u8::try_from(status).unwrap_or(u8::MAX)
    }))
}

/// The caller's terminal, joined to that of the process.
struct Terminal {
    master: OwnedFd,
    signals: SignalFd,
    /// How the caller's terminal was, to be so again.
    before: Option<Termios>,
}

impl Terminal {
    fn new(master: OwnedFd) -> Result<Self, Errno> {
        let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(errno)?;
        }
        let this = Self { master, signals, before };
        this.follow_size();
        Ok(this)
    }

    fn follow_size(&self) {
        if let Ok(size) = tcgetwinsize(std::io::stdin()) {
            // A terminal without a size is one all the same.
            wharf_sys::tty::set_size(&self.master, size.ws_row, size.ws_col).ok();
        }
    }

    fn serve(self, process: &OwnedFd) -> Result<u8, Errno> {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let mut input = true;
        loop {
            let mut wanted = vec![
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.master.as_fd(), PollFlags::POLLIN),
            ];
            if input {
                wanted.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut wanted, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            let is_ready =
                |at: usize| wanted.get(at).and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
            let (signal, output, typed) = (is_ready(0), is_ready(1), is_ready(2));
            if output {
                copy(self.master.as_fd(), stdout.as_fd())?;
            }
            if typed {
                input = copy(stdin.as_fd(), self.master.as_fd())?;
            }
            if signal && let Some(status) = self.hear(process)? {
                // What it wrote last is still on its way.
                while copy(self.master.as_fd(), stdout.as_fd())? {}
                return Ok(status);
            }
        }
    }

    fn hear(&self, process: &OwnedFd) -> Result<Option<u8>, Errno> {
        while let Some(info) = self.signals.read_signal()? {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) => {
                    if let Some(status) = ended(process)? {
                        return Ok(Some(status));
                    }
                }
                Ok(Signal::SIGWINCH) => self.follow_size(),
                Ok(signal) => hand_on(process, signal),
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nothing is left to do about a terminal that is gone.
            tcsetattr(std::io::stdin(), OptionalActions::Flush, before).ok();
        }
    }
}

/// Copies what there is; returns whether more may come. A terminal whose other side is closed says `EIO`.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut buffer = [0; 4096];
    let read = match read(from, &mut buffer) {
        Ok(0) | Err(Errno::EIO) => return Ok(false),
        Err(Errno::EINTR | Errno::EAGAIN) => return Ok(true),
        other => other?,
    };
    let mut rest = buffer.get(..read).unwrap_or_default();
    while !rest.is_empty() {
        match write(to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Nobody reads any more; the process is not to wait for that.
            Err(Errno::EPIPE | Errno::EIO) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
