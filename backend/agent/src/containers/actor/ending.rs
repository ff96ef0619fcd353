//! The end of a run: usage is booked, everything is given back, the row says how it ended, and the
//! policy says what follows.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use wharf_shared::container::{ContainerState, ExitView};
use wharf_shared::time::Timestamp;
use wharf_shim::exit::ExitRecord;
use wharf_shim::process_ref::exit_status;
use wharf_shim::protocol::{ExitStatus, Phase};
use wharf_store::containers::Desired;

use super::{Actor, Then};
use crate::containers::{launch, restart};
use crate::ctx::Ctx;
use crate::engine::{Found, Session};
use crate::error::{ServiceError, chain};

/// The kernel reaps an orphan within this time, or its end stays unknown.
const LOST_PATIENCE: Duration = Duration::from_millis(300);

impl Actor {
    /// The run is over: usage first, then what it held, then what the row says, then what follows.
    pub(super) async fn ended(&mut self, found: Option<Box<ExitRecord>>) {
        let Some(live) = self.live.take() else { return };
        self.deadline = None;
        let generation = self.row.observed.generation;
        let record = match found {
            Some(record) => Some(*record),
            None => self.deps.engine.exit_record(self.row.id.as_str(), generation).await.ok().flatten(),
        };
        let mut lost_status = ExitStatus::Unknown;
        if record.is_none() {
            if let Err(error) = self.deps.engine.lost(self.row.id.as_str(), generation, &live.cgroup).await {
                tracing::error!(container.id = %self.row.id, error = chain(&error), "what a lost supervisor left was not ended");
            }
            lost_status = status_of(live.pidfd.as_ref()).await;
        }
        let ran_for = live.since.elapsed();
        self.finish(record, lost_status, &live.cgroup, Some(&live.session)).await;
        if ran_for >= restart::STEADY_AFTER {
            self.restarts_in_a_row = 0;
        }
        self.after_end().await;
    }

    /// The connection broke: the supervisor may be gone, or only have hung up on us.
    pub(super) async fn look_again(&mut self) {
        let Some(cgroup) = self.live.as_ref().map(|live| live.cgroup.clone()) else { return };
        let generation = self.row.observed.generation;
        match self.deps.engine.find(self.row.id.as_str(), generation, &cgroup).await {
            Ok(Found::Alive { session, report }) if report.phase != Phase::Exited => {
                if let Some(live) = self.live.as_mut() {
                    live.session = session;
                }
            }
            Ok(Found::Ended(record)) => self.ended(Some(record)).await,
            _ => self.ended(None).await,
        }
    }

    /// Books the last reading, gives back everything the run held, and writes how it ended.
    pub(super) async fn finish(
        &mut self,
        record: Option<ExitRecord>,
        lost_status: ExitStatus,
        cgroup: &Path,
        session: Option<&Session>,
    ) {
        let generation = self.row.observed.generation;
        let reading = record.as_ref().map(|record| &record.reading);
        let booked = self.deps.metering.close(self.id(), generation, reading).await;
        if let Err(error) = &booked {
            // The cgroup stays: its counters are the only copy of what was used.
            tracing::error!(container.id = %self.row.id, error = chain(error), "the last reading was not stored; the cgroup is kept");
        }
        // The supervisor holds the network namespace; when it goes, so does the veth pair. And while it
        // is there, no other may supervise the next start.
        if let Some(session) = session {
            launch::let_go(session).await;
        }
        launch::release(&self.deps, &self.row, booked.is_ok().then_some(cgroup)).await;
        let exit = exit_view(record.as_ref(), lost_status);
        let at = record
            .as_ref()
            .map_or_else(|| self.deps.clock.now(), |record| Timestamp(record.exited.realtime_us));
        self.note(Some("container.exited"), |row| {
            row.observed.state = ContainerState::Exited;
            row.observed.exit = Some(exit);
            row.observed.finished_at = Some(at);
            row.observed.pid = None;
            row.observed.ports = row.spec.ports.clone();
        })
        .await;
        // What they say is in the row and in the journal now.
        if booked.is_ok() {
            self.deps.engine.forget_run(self.row.id.as_str(), generation).await;
        }
        self.deps.names_changed(&self.row.tenant, Some(self.id()));
    }

    pub(super) async fn after_end(&mut self) {
        self.answer_stopping(&Ok(()));
        if let Some((ctx, volumes, answer)) = self.remove_after_stop.take() {
            return self.remove_now(&ctx, volumes, answer).await;
        }
        if std::mem::take(&mut self.restart_after_stop) {
            return self.begin(&Ctx::system("restart")).await;
        }
        let by_hand = self.row.desired == Desired::Stopped;
        let Some(exit) = &self.row.observed.exit else { return };
        let wait = restart::after_exit(self.row.spec.restart, exit, by_hand, self.restarts_in_a_row);
        if let Some(wait) = wait {
            self.restarts_in_a_row += 1;
            self.deadline = Some((Instant::now() + wait, Then::Start));
            return self
                .note(None, |row| {
                    row.observed.state = ContainerState::Restarting;
                    row.observed.restart_count += 1;
                })
                .await;
        }
        self.answer_starting(&Err(ServiceError::conflict("the container ended")));
        if self.row.spec.auto_remove {
            let (ignored, _) = oneshot::channel();
            self.remove_now(&Ctx::system("auto-remove"), true, ignored).await;
        } else if !by_hand {
            self.note(None, |row| row.desired = Desired::Stopped).await;
        }
    }
}

/// How the first process ended, once the kernel can tell; it was killed just now.
async fn status_of(pidfd: Option<&OwnedFd>) -> ExitStatus {
    let Some(pidfd) = pidfd else { return ExitStatus::Unknown };
    let deadline = Instant::now() + LOST_PATIENCE;
    loop {
        match exit_status(pidfd.as_fd()) {
            Some(status) => return status,
            None if Instant::now() >= deadline => return ExitStatus::Unknown,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// How a run ended, as far as it is known; never guessed.
fn exit_view(record: Option<&ExitRecord>, lost_status: ExitStatus) -> ExitView {
    let status = record.map_or(lost_status, |record| record.status);
    let (code, signal) = match status {
        ExitStatus::Code(code) => (Some(code), None),
        ExitStatus::Signal(signal) => (None, Some(signal)),
        ExitStatus::Unknown => (None, None),
    };
    ExitView {
        code,
        signal,
        oom_killed: record.is_some_and(|record| record.oom_killed),
        supervisor_lost: record.is_none(),
    }
}
