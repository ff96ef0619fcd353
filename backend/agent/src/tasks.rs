//! Background work that shutdown waits for: soft stop lets it finish, hard stop drops it.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns and tracks all background work of the agent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    soft: CancellationToken,
    hard: CancellationToken,
    tracker: TaskTracker,
}

/// What happens when a task ends although nobody stopped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnEnd {
    /// It is meant to end.
    Fine,
    /// The agent cannot do its work without it.
    Shutdown,
}

impl Tasks {
    /// Ends when the agent is asked to stop; loops select on it.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Runs `work` until it ends or the hard stop drops it.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        on_end: OnEnd,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let (soft, hard) = (self.soft.clone(), self.hard.clone());
        self.tracker.spawn(async move {
            // Dropping `work` at the hard stop is the point of a hard stop.
            tokio::select! {
                () = work => {}
                () = hard.cancelled() => {}
            }
            if on_end == OnEnd::Shutdown && !soft.is_cancelled() {
                tracing::error!(task = name, "a task that must not end has ended; the agent stops");
                soft.cancel();
            }
        });
    }

    /// Asks all to finish, waits so long, then drops the rest.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.soft.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.tracker.len(), "tasks did not finish in time and are dropped");
            self.hard.cancel();
            self.tracker.wait().await;
        }
    }
}
