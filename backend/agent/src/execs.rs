//! Execs that were asked for and wait for their socket: single use, for 30 seconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use wharf_shared::container::{ContainerState, ExecSpec, ExecView};
use wharf_shared::id::{ContainerId, UserId};
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_shared::time::{SECOND_US, Timestamp};

use crate::clock::Clock;
use crate::containers::Containers;
use crate::containers::exec::Running;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

/// How long an exec waits for its socket.
const WAIT_US: i64 = 30 * SECOND_US;
/// Execs that wait at once; whoever asks for more is not using them.
const WAITING_MAX: usize = 1_024;

#[derive(Debug)]
struct Waiting {
    container: ContainerId,
    user: Option<UserId>,
    spec: ExecSpec,
    until: Timestamp,
    /// Told when the audit trail has it on disk: the caller opens its socket meanwhile.
    audited: oneshot::Receiver<Result<()>>,
}

/// The waiting ones.
#[derive(Debug)]
pub(crate) struct Execs {
    clock: Arc<dyn Clock>,
    waiting: Mutex<HashMap<String, Waiting>>,
}

impl Execs {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, waiting: Mutex::default() }
    }

    /// Checks and keeps it.
    pub(crate) async fn prepare(
        &self,
        containers: &Containers,
        ctx: &Ctx,
        container: &str,
        spec: ExecSpec,
    ) -> Result<ExecView> {
        ctx.require(Permission::TenantWrite)?;
        let Some(program) = spec.command.first().filter(|program| !program.is_empty()) else {
            return Err(ServiceError::invalid_field("command", "say what to run"));
        };
        let row = containers.locate(ctx, container).await?;
        if row.observed.state == ContainerState::Paused {
            return Err(ServiceError::conflict("the container is paused; resume it first"));
        }
        if !row.observed.state.is_live() {
            return Err(ServiceError::conflict("the container does not run; start it first"));
        }
        // Its arguments may hold secrets.
        let detail = BTreeMap::from([("program".to_owned(), program.clone())]);
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| ServiceError::internal("no random numbers", error))?;
        let exec_id = hex::encode(secret);
        let now = self.clock.now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, exec| exec.until > now);
        if waiting.len() >= WAITING_MAX {
            return Err(ServiceError::new(ProblemKind::RateLimited, "too many execs wait for their socket"));
        }
        let until = Timestamp(now.0 + WAIT_US);
        let audited = containers.audit_beside(ctx, "container.exec", &row, detail);
        waiting.insert(
            exec_id.clone(),
            Waiting { container: row.id.clone(), user: ctx.user.clone(), spec, until, audited },
        );
        Ok(ExecView { exec_id })
    }

    /// Starts the one of this id, if this user prepared it for this container.
    pub(crate) async fn take(
        &self,
        containers: &Containers,
        ctx: &Ctx,
        container: &str,
        exec_id: &str,
    ) -> Result<(ContainerId, Running)> {
        let row = containers.locate(ctx, container).await?;
        let now = self.clock.now();
        let found = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = waiting
                .get(exec_id)
                .is_some_and(|exec| exec.container == row.id && exec.user == ctx.user && exec.until > now);
            if fits { waiting.remove(exec_id) } else { None }
        };
        let exec = found.ok_or_else(|| ServiceError::not_found("exec", exec_id))?;
        // Nothing runs that is not in the trail.
        exec.audited.await.map_err(|_dropped| {
            ServiceError::new(ProblemKind::Unavailable, "the agent is stopping; ask again when it is back")
        })??;
        let running = containers.exec(ctx, row.id.as_str(), exec_id.to_owned(), exec.spec).await?;
        Ok((row.id.clone(), running))
    }
}
