//! A start: it is written down, prepared, launched and told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use wharf_shared::container::ContainerState;
use wharf_shared::health::HealthStatus;
use wharf_shim::failpoint;
use wharf_store::containers::Desired;

use super::{Actor, Answer, Live, copy, reply};
use crate::containers::launch::{self, Launched, NotLaunched, Prepared};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError, chain};
use crate::tasks::OnEnd;

impl Actor {
    pub(super) async fn start(&mut self, ctx: &Ctx, answer: Answer<()>) {
        match self.row.observed.state {
            ContainerState::Running | ContainerState::Paused => return reply(answer, Ok(())),
            ContainerState::Stopping | ContainerState::Removing => {
                return reply(
                    answer,
                    Err(ServiceError::conflict("the container is being stopped; start it when it has ended")),
                );
            }
            ContainerState::Created
            | ContainerState::Pulling
            | ContainerState::Starting
            | ContainerState::Exited
            | ContainerState::Failed
            | ContainerState::Restarting => {}
        }
        if let Err(refused) = self.deps.budgets.require_start(&self.row.tenant) {
            return reply(answer, Err(refused));
        }
        self.starting.push(answer);
        if self.preparing.is_none() {
            self.restarts_in_a_row = 0;
            self.begin(ctx).await;
        }
    }

    /// Writes down that it shall run, and has its image and mounts made ready.
    pub(super) async fn begin(&mut self, ctx: &Ctx) {
        self.deadline = None;
        // A policy's or a boot's own start is asked for here only.
        if let Err(refused) = self.deps.budgets.require_start(&self.row.tenant) {
            return self.refuse_start(refused).await;
        }
        let kind = (ctx.user.is_some()).then_some((ctx, "container.start"));
        let saved = self
            .save(kind, |row| {
                row.desired = Desired::Running;
                row.observed.state = ContainerState::Pulling;
                row.observed.error = None;
            })
            .await;
        match saved {
            Ok(()) => {
                failpoint::reach("agent.start.intended");
                self.prepare();
            }
            Err(error) => self.answer_starting(&Err(error)),
        }
    }

    /// In a task of its own, so that a stop or a removal need not wait for a pull.
    fn prepare(&mut self) {
        let (sender, receiver) = oneshot::channel();
        let (deps, row) = (Arc::clone(&self.deps), self.row.clone());
        self.deps.tasks.spawn("prepare container", OnEnd::Fine, async move {
            // If nobody wants it any more, it was called off.
            drop(sender.send(launch::prepare(deps, row).await));
        });
        self.preparing = Some(receiver);
    }

    pub(super) async fn launch(&mut self, prepared: Result<Prepared>) {
        let launched = match prepared {
            Ok(prepared) => self.launch_prepared(prepared).await,
            Err(error) => Err(error.into()),
        };
        match launched {
            Ok(()) => self.answer_starting(&Ok(())),
            Err(NotLaunched::Lost(lost)) => self.lost_in_start(lost).await,
            Err(NotLaunched::Failed(error)) => {
                tracing::info!(container.id = %self.row.id, error = chain(&error), "a container could not be started");
                let text = error.detail.clone();
                self.note(Some("container.failed"), |row| {
                    row.observed.state = ContainerState::Failed;
                    row.observed.error = Some(text);
                    row.observed.pid = None;
                })
                .await;
                self.answer_starting(&Err(error));
            }
        }
    }

    async fn launch_prepared(&mut self, prepared: Prepared) -> Result<(), NotLaunched> {
        self.settle().await?;
        let generation = self.row.observed.generation + 1;
        let cgroup =
            self.deps.engine.container_cgroup(self.row.tenant.as_str(), self.row.id.as_str(), generation);
        let (digest, line) = (prepared.digest.clone(), prepared.command_line.clone());
        let check = prepared.health.clone();
        let path = cgroup.display().to_string();
        self.save(None, |row| {
            row.observed.generation = generation;
            row.observed.state = ContainerState::Starting;
            row.observed.image_digest = Some(digest);
            row.observed.command_line = line;
            row.observed.cgroup_path = Some(path);
            row.observed.exit = None;
            row.observed.held = false;
        })
        .await?;
        failpoint::reach("agent.start.numbered");
        let Launched { session, pid, init, address, ports } =
            Box::pin(launch::launch(&self.deps, &self.row, prepared, &cgroup)).await?;
        self.live = Some(Live { session, cgroup, init, since: Instant::now(), execs: HashMap::new() });
        let now = self.deps.clock.now();
        let health = check.is_some().then_some(HealthStatus::Starting);
        self.watch_health(check, HealthStatus::Starting, Duration::ZERO);
        self.note(Some("container.started"), |row| {
            row.observed.health = health;
            row.observed.state = ContainerState::Running;
            row.observed.pid = Some(pid);
            row.observed.started_at = Some(now);
            row.observed.finished_at = None;
            row.observed.address = address;
            row.observed.ports = ports;
        })
        .await;
        failpoint::reach("agent.start.told");
        self.deps.names_changed(&self.row);
        Ok(())
    }

    pub(super) fn answer_starting(&mut self, outcome: &Result<()>) {
        for answer in self.starting.drain(..) {
            reply(answer, copy(outcome));
        }
    }
}
