//! The removal of a container and all that it has.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;
use wharf_shared::container::ContainerState;
use wharf_shim::failpoint;
use wharf_store::containers as rows;

use super::{Actor, Answer, change_of, copy, reply};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError, chain};

/// Readers of a log get so long to read its end before it is removed.
const READERS_PATIENCE: Duration = Duration::from_secs(2);

impl Actor {
    pub(super) async fn remove(&mut self, ctx: Ctx, force: bool, volumes: bool, answer: Answer<()>) {
        if self.live.is_none() {
            self.preparing = None;
            self.deadline = None;
            self.answer_starting(&Err(ServiceError::conflict("the container was removed")));
            return self.remove_now(&ctx, volumes, vec![answer]).await;
        }
        if !force {
            return reply(
                answer,
                Err(ServiceError::conflict("the container runs; stop it first, or remove it with force")),
            );
        }
        self.remove_after_stop.push((ctx.clone(), volumes, answer));
        let (ignored, _) = oneshot::channel();
        self.stop(&ctx, Some(Duration::ZERO), ignored).await;
    }

    pub(super) async fn remove_now(&mut self, ctx: &Ctx, volumes: bool, mut answers: Vec<Answer<()>>) {
        let removed = self.delete(ctx, volumes).await;
        if removed.is_ok() {
            self.done = true;
            self.show();
            self.deps.names_changed(&self.row);
        }
        // The last one gets the error with its cause.
        let last = answers.pop();
        for answer in answers {
            reply(answer, copy(&removed));
        }
        match last {
            Some(answer) => reply(answer, removed),
            None => {
                if let Err(error) = removed {
                    tracing::error!(container.id = %self.row.id, error = chain(&error), "a container was not removed after its end");
                }
            }
        }
    }

    /// One that removes itself takes its own volumes with it, as Docker's does.
    async fn delete(&mut self, ctx: &Ctx, volumes: bool) -> Result<()> {
        // Its exit record, which goes with it, may be the only copy of its last reading.
        self.settle().await?;
        self.save(None, |row| row.observed.state = ContainerState::Removing).await?;
        failpoint::reach("agent.remove.intended");
        if tokio::time::timeout(READERS_PATIENCE, self.readers.write()).await.is_err() {
            tracing::debug!(container.id = %self.row.id, "a slow reader of the log misses its end");
        }
        self.deps
            .engine
            .remove_files(self.row.id.as_str())
            .await
            .map_err(|error| ServiceError::internal("the container's files cannot be removed", error))?;
        failpoint::reach("agent.remove.deleted");
        // While its name is still known.
        self.deps.metering.roll_up_now(&self.deps.db).await?;
        failpoint::reach("agent.remove.rolled_up");
        let mut tx = self.deps.db.begin().await?;
        let own = if volumes || self.row.spec.auto_remove {
            wharf_store::volumes::anonymous_of(&mut tx, &self.row.id).await?
        } else {
            BTreeMap::new()
        };
        rows::delete(&mut tx, &self.row.id).await?;
        let tenant = self.row.tenant.clone();
        let discarded = self.deps.volumes.remove_anonymous(&mut tx, ctx, &tenant, own.into_values()).await?;
        let change = change_of(&self.row, "container.removed", BTreeMap::new());
        self.deps.events.changed(&mut tx, ctx, "container.remove", change).await?;
        tx.commit().await?;
        failpoint::reach("agent.remove.committed");
        self.deps.events.publish();
        self.deps.volumes.discard(discarded).await;
        Ok(())
    }
}
