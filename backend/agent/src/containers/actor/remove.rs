//! The removal of a container and all that it has.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use wharf_shared::container::ContainerState;
use wharf_shim::failpoint;
use wharf_store::containers as rows;

use super::super::readers::Progress;
use super::{Actor, Answer, Command, change_of, copy, reply};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError, chain};

/// How long a removal waits for those who read the log.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// While none of them takes anything: one that takes nothing for so long has hung up, or means harm.
    stalled: Duration,
    /// In all: one that takes a little now and then would go on for hours.
    whole: Duration,
}

/// Of one that removes itself: nobody waits for it but its readers, and what it said is nowhere else.
const BY_ITSELF: Patience = Patience { stalled: Duration::from_secs(30), whole: Duration::from_mins(10) };
/// When somebody waits for the removal.
const ASKED_FOR: Patience = Patience { stalled: Duration::from_secs(2), whole: Duration::from_secs(10) };

impl Patience {
    /// When it ends, if the wait began at `begun` and a reader last got on at `moved`.
    fn ends(self, begun: Instant, moved: Instant) -> Instant {
        (moved + self.stalled).min(begun + self.whole)
    }
}

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
        let removed = self.delete(ctx, volumes, &mut answers).await;
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
    async fn delete(&mut self, ctx: &Ctx, mut volumes: bool, answers: &mut Vec<Answer<()>>) -> Result<()> {
        // Its exit record, which goes with it, may be the only copy of its last reading.
        self.settle().await?;
        self.save(None, |row| row.observed.state = ContainerState::Removing).await?;
        failpoint::reach("agent.remove.intended");
        volumes |= self.let_read(answers).await;
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

    /// Waits for those who read the log. Whoever asks for the removal meanwhile is not kept as long, and is
    /// answered with the others; all else that is asked comes too late. Returns whether one of them wants the
    /// volumes removed, too.
    async fn let_read(&mut self, answers: &mut Vec<Answer<()>>) -> bool {
        let stop = self.deps.tasks.stopping();
        let mut closing = self.readers.close();
        let mut volumes = false;
        let mut patience = if answers.is_empty() { BY_ITSELF } else { ASKED_FOR };
        let mut begun = Instant::now();
        let mut moved = begun;
        loop {
            // All are cancel-safe, and the pause is computed anew.
            tokio::select! {
                progress = closing.progress() => match progress {
                    Progress::AllDone => return volumes,
                    Progress::Made => moved = Instant::now(),
                },
                command = self.mailbox.recv() => match command.map(|command| *command) {
                    Some(Command::Remove { volumes: also, answer, .. }) => {
                        volumes |= also;
                        answers.push(answer);
                        patience = ASKED_FOR;
                        begun = Instant::now();
                        moved = begun;
                    }
                    Some(_) => {}
                    None => return volumes,
                },
                () = tokio::time::sleep_until(patience.ends(begun, moved)) => {
                    tracing::debug!(container.id = %self.row.id, "a slow reader of the log misses its end");
                    return volumes;
                }
                // The readers go with the agent.
                () = stop.cancelled() => return volumes,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_gets_on_is_waited_for_but_not_for_ever() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(BY_ITSELF.ends(begun, begun), at(30));
        assert_eq!(BY_ITSELF.ends(begun, at(29)), at(59));
        assert_eq!(BY_ITSELF.ends(begun, at(599)), at(600));
        assert_eq!(ASKED_FOR.ends(begun, at(1)), at(3));
        assert_eq!(ASKED_FOR.ends(begun, at(9)), at(10));
    }
}
