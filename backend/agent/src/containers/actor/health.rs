//! The health checks of a running container: when the next is due, and what follows from a result.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use wharf_shared::health::{HealthAction, HealthResult, HealthStatus, HealthView, RESULTS_KEPT};

use super::Actor;
use crate::containers::health::{self, Check, Tally};
use crate::containers::{check, launch};
use crate::ctx::Ctx;
use crate::tasks::OnEnd;

/// The checks of what runs now.
pub(super) struct Health {
    check: Check,
    tally: Tally,
    /// When the container started.
    since: Instant,
    turn: Turn,
    results: VecDeque<HealthResult>,
}

enum Turn {
    /// The next is due then.
    At(Instant),
    /// One is being made.
    Asked(oneshot::Receiver<HealthResult>),
    /// It is paused or being stopped.
    Held,
}

/// What the checks want of the actor.
pub(super) enum Due {
    Check,
    /// `None` when the task that made it is gone.
    Result(Option<HealthResult>),
}

/// Waits until the checks want something. Cancel-safe: nothing is taken before it returns.
pub(super) async fn due(health: Option<&mut Health>) -> Due {
    match health.map(|health| &mut health.turn) {
        Some(Turn::At(at)) => {
            tokio::time::sleep_until(*at).await;
            Due::Check
        }
        Some(Turn::Asked(result)) => Due::Result(result.await.ok()),
        Some(Turn::Held) | None => std::future::pending().await,
    }
}

impl Health {
    fn next(&self) -> Turn {
        Turn::At(Instant::now() + self.check.wait(self.tally.status, self.since.elapsed()))
    }

    fn view(&self) -> HealthView {
        let Tally { status, failing_streak } = self.tally;
        HealthView { status, failing_streak, results: self.results.iter().cloned().collect() }
    }
}

impl Actor {
    /// From now on the container, which has run so long, is checked.
    pub(super) fn watch_health(&mut self, check: Option<Check>, status: HealthStatus, ran_for: Duration) {
        self.health = check.map(|check| {
            let now = Instant::now();
            let mut health = Health {
                check,
                tally: Tally { status, failing_streak: 0 },
                since: now.checked_sub(ran_for).unwrap_or(now),
                turn: Turn::Held,
                results: VecDeque::new(),
            };
            health.turn = health.next();
            health
        });
    }

    /// What is shown of the checks.
    pub(super) fn health_view(&self) -> Option<HealthView> {
        self.health.as_ref().map(Health::view)
    }

    /// No checks while it is paused or being stopped; one that is being made is called off.
    pub(super) fn hold_health(&mut self) {
        if let Some(health) = &mut self.health {
            health.turn = Turn::Held;
        }
    }

    pub(super) fn resume_health(&mut self) {
        if let Some(health) = &mut self.health {
            health.turn = health.next();
        }
    }

    pub(super) async fn health_due(&mut self, due: Due) {
        match due {
            Due::Check => self.check_health(),
            Due::Result(Some(result)) => self.health_result(result).await,
            Due::Result(None) => self.resume_health(),
        }
    }

    fn check_health(&mut self) {
        let (Some(health), Some(live)) = (&mut self.health, &mut self.live) else { return };
        let (ended, exit) = oneshot::channel();
        live.execs.insert(check::EXEC_ID.to_owned(), ended);
        health.turn = Turn::Asked(check::begin(&self.deps, &self.row, &live.session, &health.check, exit));
    }

    async fn health_result(&mut self, result: HealthResult) {
        let Some(health) = &mut self.health else { return };
        if let Some(live) = &mut self.live {
            live.execs.remove(check::EXEC_ID);
        }
        let before = health.tally.status;
        health.tally = health.check.after(health.tally, result.passed, health.since.elapsed());
        health.results.push_back(result);
        while health.results.len() > RESULTS_KEPT {
            health.results.pop_front();
        }
        health.turn = health.next();
        let (status, action) = (health.tally.status, health.check.on_unhealthy);
        if status == before {
            return self.show();
        }
        self.note(Some("container.health"), |row| row.observed.health = Some(status)).await;
        if status == HealthStatus::Unhealthy && action == HealthAction::Restart {
            tracing::info!(container.id = %self.row.id, "an unhealthy container is started again, as it asks for");
            self.restart_after_stop = true;
            let (ignored, _) = oneshot::channel();
            self.stop(&Ctx::system("health"), None, ignored).await;
            self.note(None, |row| row.observed.restart_count += 1).await;
        }
    }

    /// The checks of an adopted container go on with the status that they had.
    pub(super) async fn adopt_health(&mut self, is_paused: bool) {
        let Some(live) = &self.live else { return };
        let image = launch::image_of(&self.deps, &self.row).await.unwrap_or_default();
        let check = health::effective(
            self.row.spec.health.as_ref(),
            image.config.healthcheck.as_ref(),
            self.row.spec.network,
        );
        if check.is_none() {
            return;
        }
        // One that an earlier agent began, and whose end nobody waits for any more.
        let session = live.session.clone();
        self.deps.tasks.spawn("end an old check", OnEnd::Fine, async move {
            check::end(&session).await;
        });
        let ran_us = self.row.observed.started_at.map_or(0, |at| self.deps.clock.now().0 - at.0);
        let ran_for = Duration::from_micros(u64::try_from(ran_us).unwrap_or(0));
        let status = self.row.observed.health.unwrap_or(HealthStatus::Starting);
        self.watch_health(check, status, ran_for);
        if is_paused {
            self.hold_health();
        }
        self.show();
    }
}
