//! The end of a run: usage is booked, the row says how it ended, everything is given back, and the
//! policy says what follows.
//!
//! While the journal or the store cannot be written (a full disk), the exit record and the cgroup
//! stay and it is tried again; until then the container neither starts again nor can be removed, so
//! that no reading is lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use wharf_shared::container::{ContainerState, ExitView};
use wharf_shared::problem::ProblemKind;
use wharf_shared::time::Timestamp;
use wharf_shim::exit::ExitRecord;
use wharf_shim::failpoint;
use wharf_shim::process_ref::Pinned;
use wharf_shim::protocol::{ExitStatus, Phase};
use wharf_store::containers::Desired;

use super::{Actor, Then};
use crate::containers::launch::Lost;
use crate::containers::{launch, restart};
use crate::ctx::Ctx;
use crate::engine::{Found, Session};
use crate::error::{Result, ServiceError, chain};
use crate::metering::End;

/// A killed process has ended within this time, or how it did stays unknown.
const LOST_PATIENCE: Duration = Duration::from_millis(300);
/// Between attempts to write how a run ended.
pub(super) const RETRY: Duration = Duration::from_secs(2);

/// The end of a run that is not wholly written down.
pub(super) struct Ending {
    generation: u64,
    record: Option<ExitRecord>,
    lost_status: ExitStatus,
    cgroup: PathBuf,
    unstarted: Option<Unstarted>,
    /// Its last reading is in the journal.
    booked: bool,
    /// The row says that it ended.
    told: bool,
    /// What follows from the end is still to be done.
    owed: bool,
    pub(super) retry_at: Instant,
}

/// That the program of a start never ran.
#[derive(Clone)]
struct Unstarted {
    why: String,
    /// Somebody waits for the start and is told so; no policy repeats it.
    answered: bool,
}

impl Ending {
    /// An end of which nothing is written down yet.
    pub(super) fn of(
        generation: u64,
        record: Option<ExitRecord>,
        lost_status: ExitStatus,
        cgroup: PathBuf,
    ) -> Self {
        Self {
            generation,
            record,
            lost_status,
            cgroup,
            unstarted: None,
            booked: false,
            told: false,
            owed: false,
            retry_at: Instant::now() + RETRY,
        }
    }
}

impl Actor {
    /// The run is over: usage first, then what the row says, then what it held, then what follows.
    pub(super) async fn ended(&mut self, found: Option<Box<ExitRecord>>) {
        failpoint::reach("agent.stop.heard");
        let Some(live) = self.live.take() else { return };
        self.deadline = None;
        self.health = None;
        let generation = self.row.observed.generation;
        let record = match found {
            Some(record) => Some(*record),
            None => self.deps.engine.exit_record(self.row.id.as_str(), generation).await.ok().flatten(),
        };
        let lost_status = match record {
            Some(_) => ExitStatus::Unknown,
            None => self.end_lost(&live.cgroup, live.init).await,
        };
        let ran_for = live.since.elapsed();
        if ran_for >= restart::STEADY_AFTER {
            self.restarts_in_a_row = 0;
        }
        let ending = Ending::of(generation, record, lost_status, live.cgroup);
        if self.finish(ending, Some(&live.session)).await {
            self.after_end().await;
        }
    }

    /// The supervisor was lost before it said that the program runs.
    ///
    /// If the program may have run, this is the end of a run as any other. If it did not, and somebody waits for
    /// the start, it failed: they are told and may ask again, and no policy repeats it, as Docker's does not. But
    /// a start that nobody waits for (the policy's own, or after a boot) goes on by policy, or a container
    /// that is to run always would stay down unseen.
    pub(super) async fn lost_in_start(&mut self, lost: Lost) {
        let Lost { cgroup, init, ran } = lost;
        let status = self.end_lost(&cgroup, init).await;
        // Before its program runs, the first process is a piece of ours, and how that ended is no exit status.
        let status = if ran { status } else { ExitStatus::Unknown };
        let mut ending = Ending::of(self.row.observed.generation, None, status, cgroup);
        let why = format!("{} lost its supervisor before its program ran; start it again", self.row.name);
        if !ran {
            ending.unstarted = Some(Unstarted { why: why.clone(), answered: !self.starting.is_empty() });
        }
        let told = self.finish(ending, None).await;
        if !ran {
            self.answer_starting(&Err(ServiceError::new(ProblemKind::Unavailable, why)));
        }
        if told {
            self.after_end().await;
        }
    }

    /// Ends what a lost supervisor left; returns how the first process ended, if that can be told.
    async fn end_lost(&self, cgroup: &Path, init: Option<Pinned>) -> ExitStatus {
        let generation = self.row.observed.generation;
        let left = match self.deps.engine.lost(self.row.id.as_str(), generation, cgroup).await {
            Ok(Found::Lost { init, .. }) => init,
            Ok(_) => None,
            Err(error) => {
                tracing::error!(container.id = %self.row.id, error = chain(&error), "what a lost supervisor left was not ended");
                None
            }
        };
        status_of(init.or(left).as_ref()).await
    }

    /// The connection broke: the supervisor may be gone, or only have hung up on us.
    pub(super) async fn look_again(&mut self) {
        let Some(cgroup) = self.live.as_ref().map(|live| live.cgroup.clone()) else { return };
        match self.look(&cgroup).await {
            None => {}
            Some(Found::Alive { session, report }) if report.phase != Phase::Exited => {
                if let Some(live) = self.live.as_mut() {
                    live.session = session;
                }
            }
            Some(Found::Ended(record)) => self.ended(Some(record)).await,
            _ => self.ended(None).await,
        }
    }

    /// Books the last reading, writes how the run ended, and gives back everything it held. Returns
    /// whether the row says so; if not, what follows is done when it does.
    pub(super) async fn finish(&mut self, mut ending: Ending, session: Option<&Session>) -> bool {
        let booked = self.book(&mut ending).await;
        failpoint::reach("agent.stop.booked");
        // Giving back takes longer than telling, and nobody waits for it: the next start and the removal
        // pass through this actor, and what a killed agent leaves is found by the sweep. Only a published
        // port must be free when its holder is said to have ended.
        let publishes = !self.row.spec.ports.is_empty();
        if publishes {
            self.give_back(session).await;
        }
        let done = match self.tell(&mut ending).await {
            Ok(()) => booked,
            told => booked.and(told),
        };
        failpoint::reach("agent.stop.told");
        if !publishes {
            self.give_back(session).await;
        }
        let told = ending.told;
        ending.owed = !told;
        self.forget_or_retry(ending, &done).await;
        failpoint::reach("agent.stop.forgotten");
        told
    }

    /// Gives back what the run held besides its cgroup: its supervisor and its network.
    async fn give_back(&self, session: Option<&Session>) {
        // The supervisor holds the network namespace; when it goes, so does the veth pair. And while it
        // is there, no other may supervise the next start.
        if let Some(session) = session {
            launch::let_go(session).await;
        }
        failpoint::reach("agent.stop.released");
        launch::release(&self.deps, &self.row).await;
        failpoint::reach("agent.stop.disconnected");
    }

    /// An end that an earlier agent told, but could not book.
    pub(super) async fn find_unbooked(&mut self) {
        let generation = self.row.observed.generation;
        match self.deps.metering.is_open(self.id(), generation).await {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => {
                tracing::error!(container.id = %self.row.id, error = chain(&error), "the journal cannot be read");
            }
        }
        let record = self.deps.engine.exit_record(self.row.id.as_str(), generation).await.ok().flatten();
        let cgroup = PathBuf::from(self.row.observed.cgroup_path.clone().unwrap_or_default());
        let ending = Ending::of(generation, record, ExitStatus::Unknown, cgroup);
        self.ending = Some(Ending { told: true, retry_at: Instant::now(), ..ending });
    }

    /// Tries again to write down how the last run ended. As long as it fails, nothing else may begin.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let Some(mut ending) = self.ending.take() else { return Ok(()) };
        let mut done = self.book(&mut ending).await;
        if done.is_ok() {
            done = self.tell(&mut ending).await;
        }
        let owed = ending.told && std::mem::take(&mut ending.owed);
        self.forget_or_retry(ending, &done).await;
        if owed {
            // It may start or remove, which settles first: boxed, because it may come back here.
            Box::pin(self.after_end()).await;
        }
        done
    }

    async fn forget_or_retry(&mut self, mut ending: Ending, done: &Result<()>) {
        match done {
            // What they say is in the row and in the journal now.
            Ok(()) => self.deps.engine.forget_run(self.row.id.as_str(), ending.generation).await,
            Err(error) => {
                tracing::error!(container.id = %self.row.id, error = chain(error), "the end of a container was not stored; it is tried again");
                ending.retry_at = Instant::now() + RETRY;
                self.ending = Some(ending);
            }
        }
    }

    /// Makes the last reading durable; then the cgroup, which had the only copy, may go, once what was written
    /// is charged to it.
    async fn book(&self, ending: &mut Ending) -> Result<()> {
        if ending.booked {
            return Ok(());
        }
        let end = ending.record.as_ref().map(End::of);
        self.deps.metering.close(self.id(), ending.generation, end.as_ref()).await?;
        ending.booked = true;
        launch::remove_cgroup_later(&self.deps, self.id(), ending.generation, ending.cgroup.clone()).await;
        Ok(())
    }

    async fn tell(&mut self, ending: &mut Ending) -> Result<()> {
        if ending.told {
            return Ok(());
        }
        let exit = exit_view(ending.record.as_ref(), ending.lost_status);
        let seen = ending.record.as_ref().map(|record| Timestamp(record.exited.realtime_us));
        let started = ending.record.as_ref().and_then(|record| record.started);
        let started = started.map(|started| Timestamp(started.realtime_us));
        let at = seen.unwrap_or_else(|| self.deps.clock.now());
        let unstarted = ending.unstarted.clone();
        let answered = unstarted.as_ref().is_some_and(|unstarted| unstarted.answered);
        let (goes_on, stays_down) = self.follows(&exit, answered);
        self.goes_on = goes_on;
        self.save(Some((&Ctx::system("containers"), "container.exited")), |row| {
            if stays_down {
                row.desired = Desired::Stopped;
            }
            // It ran, and the agent died before it could write so.
            if row.observed.state == ContainerState::Starting && started.is_some() {
                row.observed.started_at = started;
            }
            row.observed.state = ContainerState::Exited;
            row.observed.held = false;
            row.observed.exit = Some(exit);
            row.observed.error = unstarted.map(|unstarted| unstarted.why);
            row.observed.finished_at = Some(at);
            row.observed.pid = None;
            row.observed.health = None;
            row.observed.ports = row.spec.ports.clone();
        })
        .await?;
        ending.told = true;
        self.deps.names_changed(&self.row);
        Ok(())
    }

    /// What follows from this end: whether it is started again, and whether nothing does, which in the
    /// same transaction is what is asked for from now on.
    fn follows(&self, exit: &ExitView, answered: bool) -> (bool, bool) {
        let by_hand = self.row.desired == Desired::Stopped;
        let by_policy =
            restart::after_exit(self.row.spec.restart, exit, by_hand, self.restarts_in_a_row).is_some();
        let is_removed = !self.remove_after_stop.is_empty();
        let goes_on = !is_removed && !answered && (self.restart_after_stop || by_policy);
        (goes_on, !goes_on && !is_removed && !self.row.spec.auto_remove)
    }

    pub(super) async fn after_end(&mut self) {
        // Whatever follows is told in its own words.
        self.goes_on = false;
        self.answer_stopping(&Ok(()));
        let mut removals = std::mem::take(&mut self.remove_after_stop).into_iter();
        if let Some((ctx, mut volumes, answer)) = removals.next() {
            let mut answers = vec![answer];
            for (_, also_volumes, answer) in removals {
                volumes |= also_volumes;
                answers.push(answer);
            }
            return self.remove_now(&ctx, volumes, answers).await;
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
        let ended = if exit.supervisor_lost {
            "the container ended, because its supervisor was lost; start it again"
        } else {
            "the container ended"
        };
        self.answer_starting(&Err(ServiceError::conflict(ended)));
        if self.row.spec.auto_remove {
            self.remove_now(&Ctx::system("auto-remove"), true, Vec::new()).await;
        }
    }
}

/// How the first process ended, once the kernel can tell; it was killed just now.
pub(super) async fn status_of(init: Option<&Pinned>) -> ExitStatus {
    let Some(init) = init else { return ExitStatus::Unknown };
    let deadline = Instant::now() + LOST_PATIENCE;
    loop {
        match init.exit_status() {
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
