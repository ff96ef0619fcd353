//! The one task that owns a container: every change of it passes through here, in order.
//!
//! ```text
//! created ──start──► (pulling ─►) starting ──► running ◄──pause/resume──► paused
//!    ▲                    │          │            │ │
//!    │                    ▼          ▼            │ └─stop──► stopping ─┐
//!    └──start── exited/failed ◄──────────────── exit ◄──────────────────┘
//!                  │   └──policy──► restarting ──after a wait──► starting
//!                  └──remove──► gone
//! ```
//! The row is written before the deed (a start raises `generation` first), so an agent that is
//! killed at any instant finds in the row what it was about to do, and on the host what came of it.
//! What was used up to the end of a run is in the journal before its cgroup is removed.

mod budget;
mod checkpoint;
mod ending;
mod health;
mod recover;
mod remove;
mod start;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use wharf_shared::checkpoint::CheckpointView;
use wharf_shared::container::{ContainerState, ContainerUpdate, Limits, NetworkMode};
use wharf_shared::health::HealthView;
use wharf_shared::id::{CheckpointId, ContainerId};
use wharf_shared::problem::ProblemKind;
use wharf_shim::failpoint;
use wharf_shim::process_ref::Pinned;
use wharf_shim::protocol::{ExitStatus, Request};
use wharf_store::containers::{self as rows, ContainerRecord, Desired};

use self::ending::Ending;
use self::health::{Due, Health};
use super::exec::{ExecAsk, Running, Stdin};
use super::launch::{self, Prepared};
use super::readers::Readers;
use super::{Deps, filter, label, plan};
use crate::ctx::Ctx;
use crate::engine::{Session, SessionError, ShimNotice};
use crate::error::{Result, ServiceError, chain};
use crate::events::Change;

/// Commands that wait for their turn; one that finds no room waits with its caller.
pub(super) const MAILBOX: usize = 32;
/// After a kill the kernel needs no more than this to end every process.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

/// Answers a command when it is done.
pub(super) type Answer<T> = oneshot::Sender<Result<T>>;

/// What an actor is asked to do.
pub(super) enum Command {
    Start(Ctx, Answer<()>),
    Stop {
        ctx: Ctx,
        grace: Option<Duration>,
        answer: Answer<()>,
    },
    Restart {
        ctx: Ctx,
        grace: Option<Duration>,
        answer: Answer<()>,
    },
    Signal {
        ctx: Ctx,
        signo: i32,
        answer: Answer<()>,
    },
    Pause(Ctx, Answer<()>),
    Checkpoint {
        ctx: Ctx,
        id: CheckpointId,
        keep_running: bool,
        answer: Answer<CheckpointView>,
    },
    Resume(Ctx, Answer<()>),
    /// Pause for the tenant's budget.
    Hold {
        ctx: Ctx,
        why: String,
        answer: Answer<()>,
    },
    /// Go on after that.
    Release(Ctx, Answer<()>),
    Update {
        ctx: Ctx,
        update: Box<ContainerUpdate>,
        answer: Answer<()>,
    },
    Remove {
        ctx: Ctx,
        force: bool,
        /// With its own volumes.
        volumes: bool,
        answer: Answer<()>,
    },
    Exec(ExecAsk, Answer<Running>),
    ExecSignal {
        exec_id: String,
        signo: i32,
    },
    Stdin(Answer<Stdin>),
    /// Where its processes are.
    Cgroup(Answer<PathBuf>),
    /// Do nothing, so that nothing runs in it, until what is answered is dropped.
    StandStill(Answer<oneshot::Sender<()>>),
    CloseStdin(Answer<()>),
    /// The names of the tenant's containers changed.
    RefreshHosts,
}

/// What others see of an actor without asking it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) row: Arc<ContainerRecord>,
    /// It was removed; the actor has ended.
    pub(super) gone: bool,
    /// It has ended, and is about to be started again.
    pub(super) goes_on: bool,
    /// Its health checks, while it runs and has any.
    pub(super) health: Option<HealthView>,
}

/// A start of the container that is there now.
struct Live {
    session: Session,
    cgroup: PathBuf,
    /// The first process, whose end can be told even when its supervisor is lost.
    init: Option<Pinned>,
    since: Instant,
    execs: HashMap<String, oneshot::Sender<ExitStatus>>,
}

/// What happens when the deadline passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Kill,
    KillHarder,
    Start,
}

pub(super) struct Actor {
    deps: Arc<Deps>,
    row: ContainerRecord,
    seen: watch::Sender<Seen>,
    mailbox: mpsc::Receiver<Box<Command>>,
    live: Option<Live>,
    /// The health checks of what runs.
    health: Option<Health>,
    /// The end of the last run, as long as it is not wholly written down.
    ending: Option<Ending>,
    preparing: Option<oneshot::Receiver<Result<Prepared>>>,
    deadline: Option<(Instant, Then)>,
    /// Answered when the container runs, or cannot.
    starting: Vec<Answer<()>>,
    /// Answered when it has ended.
    stopping: Vec<Answer<()>>,
    restart_after_stop: bool,
    remove_after_stop: Vec<(Ctx, bool, Answer<()>)>,
    restarts_in_a_row: u32,
    /// From the end of a run to what follows it.
    goes_on: bool,
    done: bool,
    readers: Arc<Readers>,
}

/// What woke the actor.
enum Woken {
    Command(Option<Box<Command>>),
    Notice(Result<ShimNotice, SessionError>),
    Prepared(Box<Result<Prepared>>),
    Deadline(Then),
    Health(Due),
    Settle,
    Stopping,
}

impl Actor {
    pub(super) fn new(
        deps: Arc<Deps>,
        row: ContainerRecord,
        mailbox: mpsc::Receiver<Box<Command>>,
        seen: watch::Sender<Seen>,
        readers: Arc<Readers>,
    ) -> Self {
        Self {
            readers,
            deps,
            row,
            seen,
            mailbox,
            live: None,
            health: None,
            ending: None,
            preparing: None,
            deadline: None,
            starting: Vec::new(),
            stopping: Vec::new(),
            restart_after_stop: false,
            remove_after_stop: Vec::new(),
            restarts_in_a_row: 0,
            goes_on: false,
            done: false,
        }
    }

    /// Runs until the container is removed or the agent stops. What is seldom done is boxed: a thousand actors
    /// that wait hold this future, and only this.
    pub(super) async fn run(mut self, booted: bool) {
        let stop = self.deps.tasks.stopping();
        Box::pin(self.recover(booted)).await;
        while !self.done {
            let deadline = self.deadline;
            let retry = self.ending.as_ref().map(|ending| (ending.retry_at, ()));
            // Dropping a branch loses nothing: commands and notices are taken only when they win,
            // a preparation is kept in `self`, and the deadline is computed anew.
            let woken = tokio::select! {
                command = self.mailbox.recv() => Woken::Command(command),
                notice = notice_of(self.live.as_ref()) => Woken::Notice(notice),
                prepared = prepared_of(self.preparing.as_mut()) => Woken::Prepared(Box::new(prepared)),
                then = passed(deadline) => Woken::Deadline(then),
                due = health::due(self.health.as_mut()) => Woken::Health(due),
                () = passed(retry) => Woken::Settle,
                () = stop.cancelled() => Woken::Stopping,
            };
            match woken {
                Woken::Stopping | Woken::Command(None) => return,
                Woken::Command(Some(command)) => Box::pin(self.obey(*command)).await,
                Woken::Notice(Ok(notice)) => Box::pin(self.hear(notice)).await,
                Woken::Notice(Err(error)) => {
                    tracing::warn!(container.id = %self.row.id, error = chain(&error), "the supervisor went away");
                    Box::pin(self.look_again()).await;
                }
                Woken::Prepared(prepared) => {
                    self.preparing = None;
                    Box::pin(self.launch(*prepared)).await;
                }
                Woken::Deadline(then) => Box::pin(self.deadline_passed(then)).await,
                Woken::Health(due) => Box::pin(self.health_due(due)).await,
                // It is logged, and tried again.
                Woken::Settle => drop(Box::pin(self.settle()).await),
            }
        }
    }

    fn id(&self) -> &ContainerId {
        &self.row.id
    }

    /// Changes the row, with an event if there is one to tell, in one transaction.
    async fn save(
        &mut self,
        event: Option<(&Ctx, &'static str)>,
        change: impl FnOnce(&mut ContainerRecord),
    ) -> Result<()> {
        let mut row = self.row.clone();
        change(&mut row);
        if event.is_none() && row == self.row {
            return Ok(());
        }
        let intent =
            (&row.name, &row.spec, row.desired) != (&self.row.name, &self.row.spec, self.row.desired);
        let by_user = event.is_some_and(|(ctx, _)| ctx.user.is_some());
        let ended = row.observed.exit.is_some() && row.observed.exit != self.row.observed.exit;
        // What was asked for and how a run ended must outlive a power cut. All else that is observed
        // is found again on the host, or means nothing after a boot.
        let mut tx = if intent || by_user || (ended && !row.spec.auto_remove) {
            self.deps.db.begin().await?
        } else {
            self.deps.db.begin_unsynced().await?
        };
        if intent {
            rows::update_if(&mut tx, &row).await?;
        }
        row.version = rows::observe(&mut tx, &row.id, &row.observed).await?;
        if let Some((ctx, kind)) = event {
            let detail =
                row.observed.exit.iter().map(|exit| ("exit_code".to_owned(), exit.shell_code().to_string()));
            let detail = match kind {
                "container.exited" => detail.collect(),
                "container.health" => {
                    let status = row.observed.health.iter();
                    status.map(|status| ("health".to_owned(), status.as_str().to_owned())).collect()
                }
                _ => BTreeMap::new(),
            };
            let change = change_of(&row, kind, detail);
            if ctx.user.is_some() {
                self.deps.events.changed(&mut tx, ctx, kind, change).await?;
            } else {
                self.deps.events.record(&mut tx, ctx, change).await?;
            }
        }
        tx.commit().await?;
        self.deps.events.publish();
        self.row = row;
        self.show();
        Ok(())
    }

    fn show(&self) {
        self.seen.send_replace(Seen {
            row: Arc::new(self.row.clone()),
            gone: self.done,
            goes_on: self.goes_on,
            health: self.health_view(),
        });
    }

    /// As [`Self::save`]; a store that fails is told in the log, because the deed is done already.
    async fn note(&mut self, event: Option<&'static str>, change: impl FnOnce(&mut ContainerRecord)) {
        let ctx = Ctx::system("containers");
        if let Err(error) = self.save(event.map(|kind| (&ctx, kind)), change).await {
            tracing::error!(container.id = %self.row.id, error = chain(&error), "a container's state was not stored");
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Start(ctx, answer) => self.start(&ctx, answer).await,
            Command::Stop { ctx, grace, answer } => {
                self.call_restart_off().await;
                self.stop(&ctx, grace, answer).await;
            }
            Command::Restart { ctx, grace, answer } => {
                // Before it is stopped.
                if let Err(refused) = self.deps.budgets.require_start(&self.row.tenant) {
                    reply(answer, Err(refused));
                } else if self.live.is_some() {
                    self.restart_after_stop = true;
                    self.starting.push(answer);
                    let (ignored, _) = oneshot::channel();
                    self.stop(&ctx, grace, ignored).await;
                } else {
                    self.start(&ctx, answer).await;
                }
            }
            Command::Signal { ctx, signo, answer } => reply(answer, self.signal(&ctx, signo).await),
            Command::Pause(ctx, answer) => reply(answer, self.pause(&ctx).await),
            Command::Checkpoint { ctx, id, keep_running, answer } => {
                reply(answer, self.checkpoint(&ctx, id, keep_running).await);
            }
            Command::Resume(ctx, answer) => reply(answer, self.resume(&ctx).await),
            Command::Hold { ctx, why, answer } => reply(answer, self.pause_for_budget(&ctx, why).await),
            Command::Release(ctx, answer) => reply(answer, self.release(&ctx).await),
            Command::Update { ctx, update, answer } => reply(answer, self.update(&ctx, *update).await),
            Command::Remove { ctx, force, volumes, answer } => self.remove(ctx, force, volumes, answer).await,
            Command::Exec(ask, answer) => reply(answer, self.exec(ask).await),
            Command::ExecSignal { exec_id, signo } => {
                if let Some(live) = &self.live
                    && let Err(error) = live.session.ask(Request::ExecSignal { exec_id, signo }, &[]).await
                {
                    tracing::debug!(container.id = %self.row.id, error = chain(&error), "an exec was not signalled");
                }
            }
            Command::Cgroup(answer) => reply(answer, self.running().map(|live| live.cgroup.clone())),
            Command::StandStill(answer) => {
                if self.live.is_some() || self.preparing.is_some() {
                    let refused = "the container is being started or stopped; try again when that is done";
                    return reply(answer, Err(ServiceError::conflict(refused)));
                }
                let (held, released) = oneshot::channel();
                reply(answer, Ok(held));
                // Whoever holds it drops it, and says nothing.
                released.await.ok();
            }
            Command::Stdin(answer) => reply(answer, self.stdin().await),
            Command::CloseStdin(answer) => {
                let closed = match self.running() {
                    Ok(live) => {
                        live.session.ask(Request::CloseStdin, &[]).await.map(drop).map_err(session_failed)
                    }
                    Err(error) => Err(error),
                };
                reply(answer, closed);
            }
            Command::RefreshHosts => self.write_hosts().await,
        }
    }

    async fn hear(&mut self, notice: ShimNotice) {
        match notice {
            ShimNotice::Exited => self.ended(None).await,
            ShimNotice::ExecExited { exec_id, status } => {
                failpoint::reach("agent.exec.ended");
                if let Some(waiting) = self.live.as_mut().and_then(|live| live.execs.remove(&exec_id)) {
                    // A client that hung up does not want to know.
                    waiting.send(status).ok();
                }
            }
            ShimNotice::Oom => self.note(Some("container.oom"), |_| {}).await,
            ShimNotice::Started => {}
            ShimNotice::Created { .. } | ShimNotice::CreateFailed(_) => {
                tracing::warn!(container.id = %self.row.id, "the supervisor told twice that the container was built");
            }
        }
    }

    async fn deadline_passed(&mut self, then: Then) {
        self.deadline = None;
        match then {
            Then::Start => {
                let ctx = Ctx::system("restart");
                self.begin(&ctx).await;
            }
            Then::Kill => {
                let mut patience = KILL_PATIENCE;
                if let Some(live) = &self.live
                    && let Err(error) = kill(&live.session).await
                {
                    tracing::warn!(container.id = %self.row.id, error = chain(&error), "the supervisor did not kill");
                    patience = Duration::ZERO;
                }
                failpoint::reach("agent.stop.killed");
                self.deadline = Some((Instant::now() + patience, Then::KillHarder));
            }
            Then::KillHarder => {
                if let Some(live) = &self.live {
                    let killed = self.deps.engine.kill_cgroup(live.cgroup.clone()).await;
                    tracing::error!(container.id = %self.row.id, ok = killed.is_ok(), "killed the cgroup of a container that did not end");
                }
                self.deadline = Some((Instant::now() + KILL_PATIENCE, Then::KillHarder));
            }
        }
    }

    // ---- stop ----

    async fn stop(&mut self, ctx: &Ctx, grace: Option<Duration>, answer: Answer<()>) {
        let by_hand = !self.restart_after_stop;
        if self.live.is_none() {
            // Pulling or waiting for a restart: there is nothing to signal, only to call off.
            self.preparing = None;
            self.deadline = None;
            self.answer_starting(&Err(ServiceError::conflict("the container was stopped before it ran")));
            let called_off = matches!(
                self.row.observed.state,
                ContainerState::Pulling | ContainerState::Starting | ContainerState::Restarting
            );
            let saved = self
                .save(called_off.then_some((ctx, "container.stop")), |row| {
                    row.desired = Desired::Stopped;
                    if called_off {
                        row.observed.state = if row.observed.finished_at.is_some() {
                            ContainerState::Exited
                        } else {
                            ContainerState::Created
                        };
                    }
                })
                .await;
            return reply(answer, saved);
        }
        self.stopping.push(answer);
        let grace =
            grace.unwrap_or_else(|| Duration::from_secs(self.row.spec.stop_grace_s.unwrap_or(10).into()));
        let kill_at = Instant::now() + grace;
        if self.row.observed.state == ContainerState::Stopping {
            // It was asked already; whoever asks again may have less patience, never more.
            if let Some((at, Then::Kill)) = &mut self.deadline {
                *at = kill_at.min(*at);
            }
            return;
        }
        self.hold_health();
        let frozen = self.row.observed.state == ContainerState::Paused;
        let saved = self
            .save(Some((ctx, "container.stop")), |row| {
                if by_hand {
                    row.desired = Desired::Stopped;
                }
                row.observed.state = ContainerState::Stopping;
            })
            .await;
        if saved.is_err() {
            self.resume_health();
            // Nothing is to follow from some later end.
            if std::mem::take(&mut self.restart_after_stop) {
                self.answer_starting(&saved);
            }
            for (_, _, answer) in self.remove_after_stop.drain(..) {
                reply(answer, copy(&saved));
            }
            return self.answer_stopping(&saved);
        }
        failpoint::reach("agent.stop.intended");
        let Some(live) = &self.live else { return };
        let signo = launch::stop_signal(&self.deps, &self.row).await;
        if let Err(error) = live.session.ask(Request::Signal { signo, all: false }, &[]).await {
            tracing::debug!(container.id = %self.row.id, error = chain(&error), "the stop signal was not sent");
        }
        failpoint::reach("agent.stop.signalled");
        if frozen && let Err(error) = self.deps.engine.thaw(live.cgroup.clone()).await {
            tracing::warn!(container.id = %self.row.id, error = chain(&error), "a paused container was not thawed");
        }
        self.deadline = Some((kill_at, Then::Kill));
    }

    /// A restart that still waits for the end goes no further than that.
    async fn call_restart_off(&mut self) {
        if !std::mem::take(&mut self.restart_after_stop) {
            return;
        }
        self.answer_starting(&Err(ServiceError::conflict("the container was stopped before it ran again")));
        self.note(None, |row| row.desired = Desired::Stopped).await;
    }

    fn answer_stopping(&mut self, outcome: &Result<()>) {
        for answer in self.stopping.drain(..) {
            reply(answer, copy(outcome));
        }
    }

    // ---- other commands ----

    fn running(&self) -> Result<&Live> {
        self.live.as_ref().ok_or_else(|| ServiceError::conflict("the container does not run; start it first"))
    }

    async fn signal(&mut self, ctx: &Ctx, signo: i32) -> Result<()> {
        let session = self.running()?.session.clone();
        session.ask(Request::Signal { signo, all: false }, &[]).await.map_err(session_failed)?;
        let by_hand = signo == SIGKILL;
        self.save(Some((ctx, "container.kill")), |row| {
            if by_hand {
                row.desired = Desired::Stopped;
            }
        })
        .await
    }

    async fn pause(&mut self, ctx: &Ctx) -> Result<()> {
        let cgroup = self.running()?.cgroup.clone();
        if self.row.observed.state != ContainerState::Running {
            return Err(ServiceError::conflict("only a running container can be paused"));
        }
        self.deps.engine.freeze(cgroup.clone()).await.map_err(launch::engine_failed)?;
        if let Err(error) = self.deps.metering.mark(self.id(), crate::metering::Mark::Freeze).await {
            self.deps.engine.thaw(cgroup).await.map_err(launch::engine_failed)?;
            return Err(error);
        }
        self.hold_health();
        self.save(Some((ctx, "container.pause")), |row| row.observed.state = ContainerState::Paused).await
    }

    async fn resume(&mut self, ctx: &Ctx) -> Result<()> {
        self.deps.budgets.require_resume(&self.row.tenant)?;
        self.go_on(ctx).await
    }

    async fn go_on(&mut self, ctx: &Ctx) -> Result<()> {
        let cgroup = self.running()?.cgroup.clone();
        if self.row.observed.state != ContainerState::Paused {
            return Err(ServiceError::conflict("the container is not paused"));
        }
        self.deps.metering.mark(self.id(), crate::metering::Mark::Thaw).await?;
        self.deps.engine.thaw(cgroup).await.map_err(launch::engine_failed)?;
        self.resume_health();
        self.save(Some((ctx, "container.resume")), |row| {
            row.observed.state = ContainerState::Running;
            budget::clear(&mut row.observed);
        })
        .await
    }

    async fn update(&mut self, ctx: &Ctx, update: ContainerUpdate) -> Result<()> {
        let before = self.row.spec.limits.clone();
        if let Some(limits) = &update.limits {
            self.hold(&before, limits).await?;
        }
        let (renamed, limits) = (update.name.is_some(), update.limits.clone());
        let saved = self.save(Some((ctx, "container.update")), |row| {
            if let Some(name) = update.name {
                row.spec.name = Some(name.clone());
                row.name = name;
            }
            if let Some(limits) = update.limits {
                row.spec.limits = limits;
            }
            if let Some(restart) = update.restart {
                row.spec.restart = restart;
            }
        });
        if let Err(error) = saved.await {
            if let Some(limits) = limits
                && let Err(error) = self.hold(&limits, &before).await
            {
                tracing::error!(error = chain(&error), "limits hold that were not saved");
            }
            return Err(error);
        }
        if renamed {
            self.deps.names_changed(&self.row);
        }
        Ok(())
    }

    /// Makes other limits hold for what runs. What is billed is written down before it holds.
    async fn hold(&self, before: &Limits, limits: &Limits) -> Result<()> {
        let Some(live) = &self.live else { return Ok(()) };
        if let Some(limit) = limits.fixed_while_running(before) {
            return Err(ServiceError::conflict(format!(
                "limits.{limit} cannot change while the container runs; stop it first"
            )));
        }
        self.deps.metering.set_limits(self.id(), super::reading_limits(limits)).await?;
        let written = self.deps.engine.update_limits(live.cgroup.clone(), before.clone(), limits.clone());
        if let Err(error) = written.await {
            self.deps.metering.set_limits(self.id(), super::reading_limits(before)).await?;
            return Err(launch::engine_failed(error));
        }
        Ok(())
    }

    async fn exec(&mut self, ask: ExecAsk) -> Result<Running> {
        if self.row.observed.state != ContainerState::Running {
            return Err(ServiceError::conflict("the container does not run; start or resume it first"));
        }
        let (ended, exit) = oneshot::channel();
        let image = launch::image_of(&self.deps, &self.row).await?;
        let hostname = launch::hostname(&self.row);
        let seccomp = filter::of(&self.row.spec).map_err(|error| launch::no_filter(&error))?;
        let apparmor = label::of(&self.row.spec, self.deps.engine.apparmor())?;
        let process = plan::exec_process(&ask.spec, &self.row.spec, &image, &hostname, (seccomp, apparmor));
        let Some(live) = self.live.as_mut() else {
            return Err(ServiceError::conflict("the container does not run; start it first"));
        };
        let exec_id = ask.exec_id.clone();
        let running = super::exec::start(&live.session, ask, process, exit).await?;
        live.execs.insert(exec_id, ended);
        Ok(running)
    }

    async fn stdin(&mut self) -> Result<Stdin> {
        let terminal = self.row.spec.terminal;
        if !terminal && !self.row.spec.stdin {
            return Err(no_stdin());
        }
        let (_, mut descriptors) =
            self.running()?.session.ask(Request::Stdin, &[]).await.map_err(session_failed)?;
        let fd = descriptors.pop().ok_or_else(|| ServiceError::conflict("standard input was closed"))?;
        Ok(Stdin { fd, terminal })
    }

    async fn write_hosts(&self) {
        if self.live.is_some()
            && self.row.spec.network == NetworkMode::Tenant
            && let Err(error) = launch::write_hosts(&self.deps, &self.row).await
        {
            tracing::warn!(container.id = %self.row.id, error = chain(&error), "a hosts file was not renewed");
        }
    }
}

async fn notice_of(live: Option<&Live>) -> Result<ShimNotice, SessionError> {
    match live {
        Some(live) => live.session.notice().await,
        None => std::future::pending().await,
    }
}

async fn prepared_of(preparing: Option<&mut oneshot::Receiver<Result<Prepared>>>) -> Result<Prepared> {
    match preparing {
        Some(preparing) => preparing.await.unwrap_or_else(|_dropped| {
            Err(ServiceError::new(ProblemKind::Unavailable, "the agent is stopping"))
        }),
        None => std::future::pending().await,
    }
}

async fn passed<T>(deadline: Option<(Instant, T)>) -> T {
    match deadline {
        Some((at, then)) => {
            tokio::time::sleep_until(at).await;
            then
        }
        None => std::future::pending().await,
    }
}

pub(super) fn no_stdin() -> ServiceError {
    ServiceError::conflict("the container's standard input is closed; create it with stdin")
}

fn reply<T>(answer: Answer<T>, outcome: Result<T>) {
    // The caller may have hung up; what was asked for is done all the same.
    drop(answer.send(outcome));
}

/// The same outcome for one more caller; causes stay in the log.
fn copy(outcome: &Result<()>) -> Result<()> {
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => {
            let mut copy = ServiceError::new(error.kind, error.detail.clone());
            copy.fields.clone_from(&error.fields);
            Err(copy)
        }
    }
}

/// Has the supervisor kill all; one that does not answer is not waited for.
async fn kill(session: &Session) -> std::result::Result<(), SessionError> {
    let asking = session.ask(Request::Signal { signo: SIGKILL, all: true }, &[]);
    let asked = tokio::time::timeout(KILL_PATIENCE, asking).await;
    asked.map_err(|_elapsed| SessionError::Timeout { waited_for: "the supervisor" })?.map(drop)
}

fn session_failed(error: SessionError) -> ServiceError {
    match error {
        SessionError::Refused(failure) => {
            ServiceError::conflict(format!("the supervisor refused: {failure}"))
        }
        error => ServiceError::internal("the supervisor does not answer", error),
    }
}

fn change_of(row: &ContainerRecord, kind: &'static str, detail: BTreeMap<String, String>) -> Change {
    Change {
        kind,
        tenant: Some(row.tenant.clone()),
        subject: row.id.to_string(),
        subject_name: row.name.clone(),
        detail,
    }
}
