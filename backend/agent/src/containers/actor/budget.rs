//! What a tenant's budget has done to a container: it is not started, or paused until it may go on.
//!
//! That a budget has paused it is in the row before it is done, so that nothing stays frozen for a budget that
//! an agent has died of, and nothing goes on that somebody else has paused.

use wharf_shared::container::ContainerState;
use wharf_shim::failpoint;
use wharf_store::containers::Observed;

use super::Actor;
use crate::containers::launch;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

/// Forgets that a budget has paused it.
pub(super) fn clear(observed: &mut Observed) {
    if std::mem::take(&mut observed.held) {
        observed.error = None;
    }
}

impl Actor {
    /// Pauses what runs; what is paused already stays as it is.
    pub(super) async fn pause_for_budget(&mut self, ctx: &Ctx, why: String) -> Result<()> {
        match self.row.observed.state {
            ContainerState::Paused => return Ok(()),
            ContainerState::Running => {}
            _ => return Err(ServiceError::conflict("only a running container can be paused")),
        }
        self.save(None, |row| {
            row.observed.held = true;
            row.observed.error = Some(why);
        })
        .await?;
        failpoint::reach("agent.budget.held");
        self.pause(ctx).await
    }

    /// Lets go on what a budget has paused, and nothing else.
    pub(super) async fn release(&mut self, ctx: &Ctx) -> Result<()> {
        if !self.row.observed.held {
            return Ok(());
        }
        match (self.row.observed.state, &self.live) {
            (ContainerState::Paused, Some(_)) => return self.go_on(ctx).await,
            // An agent died before it could write that it was frozen, or before it was.
            (ContainerState::Running, Some(live)) => {
                self.deps.engine.thaw(live.cgroup.clone()).await.map_err(launch::engine_failed)?;
            }
            _ => {}
        }
        self.save(None, |row| clear(&mut row.observed)).await
    }

    /// A start that the tenant's budget forbids; whoever waits for it is told.
    pub(super) async fn refuse_start(&mut self, refused: ServiceError) {
        let text = refused.detail.clone();
        self.note(Some("container.failed"), |row| {
            row.observed.state = ContainerState::Failed;
            row.observed.error = Some(text);
            row.observed.pid = None;
        })
        .await;
        self.answer_starting(&Err(refused));
    }
}
