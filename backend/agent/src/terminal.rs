//! The master side of a container's pseudo-terminal, for async code.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A terminal's master.
#[derive(Debug)]
pub(crate) struct Terminal(AsyncFd<OwnedFd>);

impl Terminal {
    /// Takes over the descriptor.
    pub(crate) fn new(master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd keeps its descriptor until dropped"
        )]
        let registered = AsyncFd::with_interest(master, Interest::READABLE | Interest::WRITABLE);
        registered.map(Self)
    }

    /// The next output; `None` when the last process on the other side has gone (the kernel says EIO).
    pub(crate) async fn read(&self, most: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0; most];
        let read = self
            .0
            .async_io(Interest::READABLE, |master| {
                rustix::io::read(master, &mut buffer).map_err(io::Error::from)
            })
            .await
            .ok()?;
        buffer.truncate(read);
        (read > 0).then_some(buffer)
    }

    /// Types as many bytes as fit, and returns how many; cancel-safe.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .async_io(Interest::WRITABLE, |master| rustix::io::write(master, bytes).map_err(io::Error::from))
            .await
    }

    /// Sets its size; the foreground process gets SIGWINCH.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        if let Err(error) = rustix::termios::tcsetwinsize(self.0.get_ref(), size) {
            tracing::debug!(%error, "a terminal was not resized");
        }
    }
}
