//! The conversation between the process that launches and the one that is being launched.
//!
//! One `SOCK_SEQPACKET` pair, both ends close-on-exec. The parent says [`Order`]s, the child
//! [`Answer`]s; that the child's end closes without a word means that it executed its program.
//! Numbers are little-endian; a message is at most [`MESSAGE_BYTES`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use wharf_sys::SysError;
use wharf_sys::socket::{recv_with_fds, send_with_fds};

use crate::error::{AtStage, Stage, StepError};

const MESSAGE_BYTES: usize = 512;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What the child says.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It waits at the gate; with the master of its terminal, if it has one.
    Ready(Option<OwnedFd>),
    /// A step failed; it ends now.
    Failed(StepError),
    /// It closed its end: it executed its program, or it is dead.
    Closed,
}

impl Channel {
    pub(crate) fn pair() -> Result<(Self, Self), StepError> {
        let made = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        made.map(|(one, other)| (Self(one), Self(other))).at(Stage::Sync, "")
    }

    /// An end that came into being otherwise: a connection at a gate.
    pub(crate) fn of(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Child: takes the next connection of a gate.
    pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<Self, StepError> {
        loop {
            match wharf_sys::socket::accept(listener) {
                Err(error) if error.errno == Errno::EINTR => {}
                other => return other.map(Self).at(Stage::Sync, "the gate"),
            }
        }
    }

    /// Parent: hands the mounts over, or opens the gate (with none).
    pub(crate) fn order(&self, fds: &[BorrowedFd<'_>]) -> Result<(), StepError> {
        send_with_fds(self.0.as_fd(), b"go", fds).map(drop).at(Stage::Sync, "")
    }

    /// Parent: as [`Self::order`]; of a child that has failed before it, the error that it left.
    pub(crate) fn order_or_hear(&self, fds: &[BorrowedFd<'_>]) -> Result<(), StepError> {
        match self.order(fds) {
            // The latter when it left an earlier order unread.
            Err(error) if matches!(error.errno, Errno::EPIPE | Errno::ECONNRESET) => {
                match self.await_answer()? {
                    Answer::Failed(told) => Err(told),
                    Answer::Ready(_) | Answer::Closed => Err(error),
                }
            }
            other => other,
        }
    }

    /// Child: waits for the next order; a parent that has gone is an error.
    pub(crate) fn await_order(&self) -> Result<Vec<OwnedFd>, StepError> {
        let mut bytes = [0_u8; MESSAGE_BYTES];
        match self.receive(&mut bytes).at(Stage::Sync, "")? {
            (0, _) => Err(Errno::EPIPE).at(Stage::Sync, "the supervisor has gone"),
            (_, fds) => Ok(fds),
        }
    }

    /// Child: says that it waits at the gate.
    pub(crate) fn ready(&self, terminal: Option<BorrowedFd<'_>>) -> Result<(), StepError> {
        send_with_fds(self.0.as_fd(), &[1], terminal.as_slice()).map(drop).at(Stage::Sync, "")
    }

    /// Child: says which step failed. Nobody is left to tell when even that fails.
    pub(crate) fn failed(&self, error: &StepError) {
        let errno = SysError::new("", error.errno).raw().to_le_bytes();
        let mut bytes = vec![2, error.stage.number()];
        bytes.extend_from_slice(&errno);
        bytes.extend(error.detail.bytes().take(MESSAGE_BYTES - bytes.len()));
        send_with_fds(self.0.as_fd(), &bytes, &[]).ok();
    }

    /// Parent: waits for the child's next word.
    pub(crate) fn await_answer(&self) -> Result<Answer, StepError> {
        let mut bytes = [0_u8; MESSAGE_BYTES];
        let (length, mut fds) = self.receive(&mut bytes).at(Stage::Sync, "")?;
        match bytes.get(..length).unwrap_or_default() {
            [] => Ok(Answer::Closed),
            [1] => Ok(Answer::Ready(fds.pop())),
            [2, stage, e0, e1, e2, e3, detail @ ..] => Ok(Answer::Failed(StepError {
                stage: Stage::of_number(*stage),
                errno: Errno::from_raw(i32::from_le_bytes([*e0, *e1, *e2, *e3])),
                detail: String::from_utf8_lossy(detail).into_owned(),
            })),
            _ => Err(Errno::EBADMSG).at(Stage::Sync, ""),
        }
    }

    fn receive(&self, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), SysError> {
        loop {
            match recv_with_fds(self.0.as_fd(), bytes) {
                Err(error) if error.errno == Errno::EINTR => {}
                // A peer that died with our order unread resets the connection, once: what it had said before
                // is still there, and then the end.
                Err(error) if error.errno == Errno::ECONNRESET => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_crosses_whole_and_a_long_detail_is_cut() {
        let (parent, child) = Channel::pair().expect("pair");
        let sent = StepError { stage: Stage::Mask, detail: "x".repeat(2000), errno: Errno::ELOOP };
        child.failed(&sent);
        let Answer::Failed(got) = parent.await_answer().expect("answer") else { panic!("not a failure") };
        assert_eq!((got.stage, got.errno), (Stage::Mask, Errno::ELOOP));
        assert!(got.detail.len() < MESSAGE_BYTES && got.detail.starts_with("xx"));
    }

    #[test]
    fn a_closed_end_is_told_apart_from_words() {
        let (parent, child) = Channel::pair().expect("pair");
        child.ready(None).expect("ready");
        drop(child);
        assert!(matches!(parent.await_answer(), Ok(Answer::Ready(None))));
        assert!(matches!(parent.await_answer(), Ok(Answer::Closed)));
    }

    #[test]
    fn the_word_of_a_child_that_took_no_order_is_heard() {
        let sent = StepError { stage: Stage::Mask, detail: String::new(), errno: Errno::ELOOP };
        for unread in 0..2 {
            let (parent, child) = Channel::pair().expect("pair");
            for _ in 0..unread {
                parent.order(&[]).expect("order");
            }
            child.failed(&sent);
            drop(child);
            assert_eq!(parent.order_or_hear(&[]).expect_err("nobody takes it"), sent);
        }
        let (parent, child) = Channel::pair().expect("pair");
        parent.order(&[]).expect("order");
        child.failed(&sent);
        drop(child);
        assert!(matches!(parent.await_answer(), Ok(Answer::Failed(heard)) if heard == sent));
    }

    #[test]
    fn descriptors_arrive_with_an_order_and_a_lost_parent_is_an_error() {
        let (parent, child) = Channel::pair().expect("pair");
        let file = std::fs::File::open("/dev/null").expect("null");
        parent.order(&[file.as_fd(), file.as_fd()]).expect("order");
        assert_eq!(child.await_order().expect("order").len(), 2);
        drop(parent);
        assert_eq!(child.await_order().expect_err("gone").errno, Errno::EPIPE);
    }
}
