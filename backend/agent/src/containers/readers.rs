//! Who reads a container's log, and whether they get on: a removal waits for them, but not for ever.

use tokio::sync::watch;

/// The readers of one container's log.
#[derive(Debug, Default)]
pub(super) struct Readers(watch::Sender<State>);

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// Nobody who comes now is waited for.
    closing: bool,
    /// Grows with everything that a reader takes.
    taken: u64,
}

/// One reader; it has read what it wanted when this is dropped.
#[derive(Debug)]
pub(super) struct Reading(watch::Sender<State>);

/// Waits for the readers that there are. Until it is dropped, others are not let in.
#[derive(Debug)]
pub(super) struct Closing {
    sender: watch::Sender<State>,
    seen: watch::Receiver<State>,
}

/// What readers did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// One took more, or is done.
    Made,
    /// There is none, any more.
    AllDone,
}

impl Readers {
    /// Announces a reader; `None` when the log is about to be removed.
    pub(super) fn enter(&self) -> Option<Reading> {
        let entered = self.0.send_if_modified(|state| {
            let open = !state.closing;
            state.open += usize::from(open);
            open
        });
        entered.then(|| Reading(self.0.clone()))
    }

    /// From now on only those who read already are waited for.
    pub(super) fn close(&self) -> Closing {
        self.0.send_modify(|state| state.closing = true);
        Closing { sender: self.0.clone(), seen: self.0.subscribe() }
    }
}

impl Reading {
    /// What was given to the reader before is taken: it came back for more.
    pub(super) fn took(&self) {
        self.0.send_modify(|state| state.taken = state.taken.wrapping_add(1));
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.open -= 1);
    }
}

impl Closing {
    /// Waits until a reader gets on. Cancel-safe.
    pub(super) async fn progress(&mut self) -> Progress {
        if self.seen.borrow_and_update().open == 0 {
            return Progress::AllDone;
        }
        // The sender lives as long as this does.
        drop(self.seen.changed().await);
        if self.seen.borrow().open == 0 { Progress::AllDone } else { Progress::Made }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.sender.send_modify(|state| state.closing = false);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_removal_waits_for_those_who_read_and_sees_them_get_on() {
        let readers = Readers::default();
        let (one, other) = (readers.enter().expect("let in"), readers.enter().expect("let in"));
        let mut closing = readers.close();
        assert_eq!(closing.progress().now_or_never(), None, "nobody took anything");
        {
            let mut waits = std::pin::pin!(closing.progress());
            assert_eq!(waits.as_mut().now_or_never(), None);
            one.took();
            assert_eq!(waits.await, Progress::Made);
        }
        {
            let mut waits = std::pin::pin!(closing.progress());
            assert_eq!(waits.as_mut().now_or_never(), None);
            drop(one);
            assert_eq!(waits.await, Progress::Made);
        }
        drop(other);
        assert_eq!(closing.progress().now_or_never(), Some(Progress::AllDone));
    }

    #[tokio::test]
    async fn whoever_comes_during_a_removal_does_not_hold_it_up() {
        let readers = Readers::default();
        let mut closing = readers.close();
        assert!(readers.enter().is_none());
        assert_eq!(closing.progress().now_or_never(), Some(Progress::AllDone));
        drop(closing);
        assert!(readers.enter().is_some(), "the removal failed, and the log is there to be read");
    }
}
