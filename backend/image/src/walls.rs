//! Walls around the code that reads hostile bytes with the host's rights.
//!
//! Archives are parsed, and the files of a container read, by the agent, which is root. So that a hole in a
//! parser is not the host's, this runs on a thread that the kernel lets at the directories that it fills
//! or reads, and at nothing else: neither other files nor programs nor, on newer kernels, TCP and
//! processes. A thread never gets out again, which is why it is none of tokio's and ends with the work.
//! What it was given open, it still has: the archive, and where its results go.

use std::io;
use std::os::fd::BorrowedFd;

use wharf_sys::landlock::{self, Allowed, ConfineError};

/// The work cannot be done behind walls, and so is not done.
#[derive(Debug, thiserror::Error)]
pub enum WallsError {
    /// The kernel gives no thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The kernel would not confine it.
    #[error(transparent)]
    Confine(#[from] ConfineError),
}

/// Does work that may use these directories and no other file. On a kernel without Landlock it may use all.
pub(crate) fn within<T: Send>(
    beneath: &[(BorrowedFd<'_>, Allowed)],
    work: impl FnOnce() -> T + Send,
) -> Result<T, WallsError> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("walled".to_owned()).spawn_scoped(scope, || {
            landlock::confine(beneath)?;
            Ok(work())
        });
        // A panic of the work is the caller's, as if it had been done here.
        worker.map_err(WallsError::Thread)?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
