//! A conversation with one shim (or the forge): requests with replies, and notices in order.
//!
//! One task reads the socket, pairs replies with requests and queues notices. Dropping the
//! session closes the socket; the shim goes on without us and waits for the next connection.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex as AsyncMutex, Notify};
use wharf_shim::connection::{Connection, ConnectionError, Received};
use wharf_shim::process_ref::ProcessRef;
use wharf_shim::protocol::{ExitStatus, Failure, Message, Notice, Reply, Request};

/// A supervisor answers at once, unless it is held up.
const ANSWER_PATIENCE: Duration = Duration::from_mins(1);

/// The conversation broke, or what was asked was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("the socket failed")]
    Socket(#[from] ConnectionError),
    #[error("the socket cannot be waited for")]
    Register(#[source] std::io::Error),
    #[error("the other side hung up")]
    HungUp,
    #[error("waiting for {waited_for} took too long")]
    Timeout { waited_for: &'static str },
    #[error("refused")]
    Refused(#[source] Failure),
    #[error("an unexpected message came: {message}")]
    Unexpected { message: String },
}

impl SessionError {
    pub(crate) fn unexpected(message: &impl std::fmt::Debug) -> Self {
        Self::Unexpected { message: format!("{message:?}") }
    }
}

/// What a shim tells unasked, with the descriptors that came along.
#[derive(Debug)]
pub(crate) enum ShimNotice {
    Created { init: ProcessRef, network_namespace: Option<OwnedFd> },
    CreateFailed(Failure),
    Started,
    Exited,
    ExecExited { exec_id: String, status: ExitStatus },
    Oom,
}

#[derive(Debug)]
struct Inner {
    socket: AsyncFd<Connection>,
    queue: Mutex<Queue>,
    arrived: Notify,
    /// Whoever holds it reads the socket for all.
    reading: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct Queue {
    next_seq: u32,
    replies: HashMap<NonZeroU32, Received>,
    notices: std::collections::VecDeque<Received>,
}

/// A connection with one shim or the forge. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Session(Arc<Inner>);

impl Session {
    pub(crate) fn new(connection: Connection) -> Result<Self, SessionError> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; a connection keeps its descriptor until dropped"
        )]
        let socket = AsyncFd::with_interest(connection, Interest::READABLE | Interest::WRITABLE)
            .map_err(SessionError::Register)?;
        Ok(Self(Arc::new(Inner {
            socket,
            queue: Mutex::default(),
            arrived: Notify::new(),
            reading: AsyncMutex::new(()),
        })))
    }

    /// Asks and waits for the answer; a refusal is an error. A supervisor may be held up by what runs
    /// in its container, so there is an end to waiting.
    pub(crate) async fn ask(
        &self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), SessionError> {
        let answer = tokio::time::timeout(ANSWER_PATIENCE, self.ask_patiently(request, descriptors)).await;
        answer.unwrap_or(Err(SessionError::Timeout { waited_for: "the supervisor's answer" }))
    }

    async fn ask_patiently(
        &self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), SessionError> {
        let seq = {
            let mut queue = self.queue();
            queue.next_seq = queue.next_seq.wrapping_add(1).max(1);
            NonZeroU32::new(queue.next_seq).unwrap_or(NonZeroU32::MIN)
        };
        let message = Message::Request { seq, request };
        loop {
            match self.0.socket.get_ref().send(&message, descriptors) {
                Ok(()) => break,
                Err(error) if error.is_full() => {
                    let mut ready = self.0.socket.writable().await.map_err(SessionError::Register)?;
                    ready.clear_ready();
                }
                Err(error) => return Err(error.into()),
            }
        }
        let received = self.wait(|queue| queue.replies.remove(&seq)).await?;
        match received.message {
            Message::Reply { reply: Reply::Failed(failure), .. } => Err(SessionError::Refused(failure)),
            Message::Reply { reply, .. } => Ok((reply, received.descriptors)),
            other => Err(SessionError::unexpected(&other)),
        }
    }

    /// Waits for the next notice. Cancel-safe: a notice is taken only when it is returned.
    pub(crate) async fn notice(&self) -> Result<ShimNotice, SessionError> {
        let received = self.wait(|queue| queue.notices.pop_front()).await?;
        let mut descriptors = received.descriptors.into_iter();
        match received.message {
            Message::Notice(notice) => Ok(match notice {
                Notice::Created { pid, start_time_ticks, .. } => {
                    let init = ProcessRef { pid, start_time_ticks };
                    ShimNotice::Created { init, network_namespace: descriptors.next() }
                }
                Notice::CreateFailed(failure) => ShimNotice::CreateFailed(failure),
                Notice::Started => ShimNotice::Started,
                Notice::Exited { .. } => ShimNotice::Exited,
                Notice::ExecExited { exec_id, status } => ShimNotice::ExecExited { exec_id, status },
                Notice::Oom { .. } => ShimNotice::Oom,
            }),
            other => Err(SessionError::unexpected(&other)),
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `take` finds what it wants in the queue; reads the socket when nobody else does.
    async fn wait(
        &self,
        mut take: impl FnMut(&mut Queue) -> Option<Received>,
    ) -> Result<Received, SessionError> {
        loop {
            let arrived = self.0.arrived.notified();
            tokio::pin!(arrived);
            // Registered before looking, so that what arrives in between is not missed.
            arrived.as_mut().enable();
            if let Some(found) = take(&mut self.queue()) {
                return Ok(found);
            }
            // Dropping either branch loses nothing: messages are taken from the queue only above.
            tokio::select! {
                () = &mut arrived => {}
                guard = self.0.reading.lock() => {
                    // Who read before may have found it; nothing more need ever come.
                    if let Some(found) = take(&mut self.queue()) {
                        return Ok(found);
                    }
                    let read = self.read_some().await;
                    drop(guard);
                    self.0.arrived.notify_waiters();
                    if let Err(error) = read {
                        // What came before the end is still worth having.
                        return take(&mut self.queue()).ok_or(error);
                    }
                }
            }
        }
    }

    /// Waits for the socket and moves everything that is there into the queue.
    async fn read_some(&self) -> Result<(), SessionError> {
        loop {
            let mut ready = self.0.socket.readable().await.map_err(SessionError::Register)?;
            let mut got = false;
            loop {
                match self.0.socket.get_ref().try_recv() {
                    Ok(Some(received)) => {
                        got = true;
                        let mut queue = self.queue();
                        match &received.message {
                            Message::Reply { seq, .. } => {
                                let seq = *seq;
                                queue.replies.insert(seq, received);
                            }
                            Message::Notice(_) => queue.notices.push_back(received),
                            Message::Request { .. } => {
                                return Err(SessionError::unexpected(&received.message));
                            }
                        }
                    }
                    Ok(None) => break,
                    Err(ConnectionError::Closed) => {
                        return if got { Ok(()) } else { Err(SessionError::HungUp) };
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if got {
                return Ok(());
            }
        }
    }
}
