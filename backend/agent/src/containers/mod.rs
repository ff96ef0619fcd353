//! Containers: what may be asked, who may ask, and the actors that do it.
//!
//! [`Containers`] checks, authorises and writes down; one [`actor`] per container does. Lists and
//! views come from the store and from what actors last showed, so no request waits for another
//! container's work.

mod actor;
mod check;
mod create;
pub(crate) mod exec;
mod files;
mod filter;
mod health;
mod label;
mod launch;
mod lines;
pub(crate) mod logs;
mod names;
pub(crate) mod orphans;
mod plan;
mod readers;
mod restart;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actor::{Actor, Command, MAILBOX, Seen};
use create::check_quota;
use futures_util::Stream;
use logs::{LogItem, LogQuery, TailError};
pub(crate) use names::Names;
use readers::Readers;
use tokio::sync::{mpsc, oneshot, watch};
use wharf_network::{Desired as DesiredNetwork, TenantNetwork};
use wharf_shared::container::{
    ContainerSpec, ContainerState, ContainerUpdate, ContainerView, ExecSpec, ExitView, HostNamespace,
    NetworkMode, ProcessView,
};
use wharf_shared::health::HealthView;
use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_shared::reading::ReadingLimits;
use wharf_shared::tenant::Quota;
use wharf_store::containers as rows;
pub(crate) use wharf_store::containers::{ContainerFilter, ContainerRecord};
use wharf_store::pagination::PageRequest;
use wharf_store::tenants::{self, TenantRecord};
use wharf_store::{Db, Scope, StoreError};

use crate::budgets::Gate;
use crate::checkpoints::Tools;
use crate::clock::Clock;
use crate::config::Config;
use crate::ctx::Ctx;
use crate::engine::Engine;
use crate::error::{Result, ServiceError, chain};
use crate::events::{Deed, EventBus};
use crate::images::Images;
use crate::metering::Metering;
use crate::tasks::{OnEnd, Tasks};
use crate::volumes::Volumes;

/// A flushed firewall is noticed within this time.
const GUARD_EVERY: Duration = Duration::from_secs(1);

/// What actors work with.
pub(crate) struct Deps {
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) db: Db,
    pub(crate) events: EventBus,
    pub(crate) engine: Arc<Engine>,
    pub(crate) images: Images,
    pub(crate) volumes: Volumes,
    pub(crate) network: Arc<wharf_network::Network>,
    pub(crate) metering: Metering,
    /// What budgets refuse.
    pub(crate) budgets: Gate,
    pub(crate) checkpoints: Tools,
    pub(crate) actors: Mutex<HashMap<ContainerId, Handle>>,
    pub(crate) names: Names,
}

/// How an actor is reached.
#[derive(Clone)]
pub(crate) struct Handle {
    mailbox: mpsc::Sender<Box<Command>>,
    seen: watch::Receiver<Seen>,
    /// Whoever reads the log, so that its end is read before it is removed.
    readers: Arc<Readers>,
}

impl Deps {
    /// The tenant's bridge and subnet.
    pub(crate) fn tenant_network(&self, tenant: &TenantRecord) -> Result<TenantNetwork> {
        let network = &self.config.network;
        let subnet = wharf_network::ipam::SubnetPool::new(network.pool, network.subnet_prefix)
            .and_then(|pool| pool.subnet(tenant.network_index))
            .map_err(|error| ServiceError::internal("the tenant's subnet lies outside the pool", error))?;
        Ok(TenantNetwork { tenant_id: tenant.id.to_string(), index: tenant.network_index, subnet })
    }
}

/// The service.
#[derive(Clone)]
pub(crate) struct Containers {
    deps: Arc<Deps>,
}

impl Containers {
    pub(crate) fn new(deps: Arc<Deps>) -> Self {
        Self { deps }
    }

    /// Finds every container again after a start of the agent. `booted`: the host was restarted.
    pub(crate) async fn recover(&self, booted: bool) -> Result<()> {
        let all = {
            let mut tx = self.deps.db.read().await?;
            rows::list(&mut tx, &Scope::All, &ContainerFilter::default(), &PageRequest::whole()).await?.items
        };
        self.recover_network(&all, booted).await?;
        for row in all {
            self.spawn(row, booted);
        }
        Ok(())
    }

    /// Makes bridges, rules and links what the rows say; whatever else carries our names goes.
    async fn recover_network(&self, all: &[ContainerRecord], booted: bool) -> Result<()> {
        let mut tx = self.deps.db.read().await?;
        let mut desired = DesiredNetwork { tenants: Vec::new(), attachments: Vec::new() };
        let live: Vec<&ContainerRecord> = all
            .iter()
            .filter(|row| !booted && row.observed.state.is_live() && row.spec.network == NetworkMode::Tenant)
            .collect();
        for tenant in tenants::list(&mut tx, &Scope::All, &PageRequest::whole()).await?.items {
            if live.iter().any(|row| row.tenant == tenant.id) {
                desired.tenants.push(self.deps.tenant_network(&tenant)?);
            }
        }
        for row in live {
            // The row has its address only once it was told to run.
            if let Some(address) = wharf_store::addresses::find(&mut tx, &row.id).await? {
                let ports = wharf_store::ports::of_container(&mut tx, &row.id).await?;
                desired.attachments.push(launch::attachment(row, address, ports.iter()));
            }
        }
        drop(tx);
        let applied = self.deps.network.apply(&desired).await.map_err(launch::network_failed)?;
        tracing::info!(?applied, "the network is as it should be");
        Ok(())
    }

    /// Watches over the firewall's rules until the agent stops: other programs flush them.
    pub(crate) fn guard_network(&self) {
        let (network, stop) = (Arc::clone(&self.deps.network), self.deps.tasks.stopping());
        self.deps.tasks.spawn("guard the network", OnEnd::Shutdown, async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(GUARD_EVERY) => {}
                    () = stop.cancelled() => return,
                }
                match network.heal().await {
                    Ok(false) => {}
                    Ok(true) => {
                        tracing::error!("another program changed the firewall; its rules are written anew");
                    }
                    Err(error) => {
                        tracing::error!(error = chain(&error), "the firewall rules cannot be looked after");
                    }
                }
            }
        });
    }

    fn spawn(&self, row: ContainerRecord, booted: bool) -> Handle {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let (seen, receiver) =
            watch::channel(Seen { row: Arc::new(row.clone()), gone: false, goes_on: false, health: None });
        let readers = Arc::new(Readers::default());
        let handle = Handle { mailbox: sender, seen: receiver, readers: Arc::clone(&readers) };
        let id = row.id.clone();
        self.actors().insert(id.clone(), handle.clone());
        let actor = Actor::new(Arc::clone(&self.deps), row, mailbox, seen, readers);
        let deps = Arc::clone(&self.deps);
        self.deps.tasks.spawn("container", OnEnd::Fine, async move {
            Box::pin(actor.run(booted)).await;
            deps.actors.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
        handle
    }

    fn actors(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, Handle>> {
        self.deps.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the forge ready, so that the first container does not wait for it.
    pub(crate) async fn warm_up(&self) {
        if let Err(error) = self.deps.engine.warm_up().await {
            tracing::error!(error = chain(&error), "the forge cannot be started; containers cannot either");
        }
    }

    /// Writes a tenant's new quota into its cgroup, if it has one.
    pub(crate) async fn tenant_updated(&self, tenant: &TenantId, quota: &Quota) -> Result<()> {
        let runs = self.seen().iter().any(|row| row.tenant == *tenant && row.observed.state.is_live());
        if runs {
            self.deps.engine.ensure_tenant(tenant.as_str(), quota).await.map_err(launch::engine_failed)?;
        }
        Ok(())
    }

    /// Gives back what the host held for a tenant that is gone.
    pub(crate) async fn tenant_removed(&self, tenant: &TenantId) {
        self.end_tails(tenant).await;
        if let Err(error) = self.deps.metering.close_tenant(tenant).await {
            tracing::error!(tenant.id = %tenant, error = chain(&error), "a removed tenant's last reading was not stored");
        }
        if let Err(error) = self.deps.network.remove_tenant(tenant.as_str()).await {
            tracing::error!(tenant.id = %tenant, error = chain(&error), "a removed tenant's bridge was left behind");
        }
        if let Err(error) = self.deps.engine.remove_tenant(tenant.as_str()).await {
            tracing::debug!(tenant.id = %tenant, error = chain(&error), "a removed tenant had no cgroup");
        }
        if let Err(error) = self.deps.images.content().remove_own_layers(tenant.as_str()).await {
            tracing::error!(tenant.id = %tenant, error = chain(&error), "a removed tenant's copies of layers were left behind");
        }
    }

    // ---- read ----

    /// The container of this id, beginning of an id, or name.
    pub(crate) async fn find(&self, ctx: &Ctx, container: &str) -> Result<ContainerRecord> {
        ctx.require(Permission::TenantRead)?;
        let mut tx = self.deps.db.one().await?;
        match rows::find(&mut tx, &ctx.scope()?, container).await {
            Ok(Some(row)) => Ok(row),
            Ok(None) => Err(ServiceError::not_found("container", container)),
            Err(StoreError::Ambiguous(_)) => Err(ServiceError::conflict(format!(
                "more than one container fits {container:?}; give more of the id"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Self::find`]; one that is named by its whole id is taken from what its actor last showed, without
    /// the store.
    pub(crate) async fn locate(&self, ctx: &Ctx, container: &str) -> Result<Arc<ContainerRecord>> {
        ctx.require(Permission::TenantRead)?;
        let scope = ctx.scope()?;
        if let Ok(id) = container.parse::<ContainerId>()
            && let Some(handle) = self.actors().get(&id)
        {
            let seen = handle.seen.borrow();
            if !seen.gone && scope.covers(&seen.row.tenant) {
                return Ok(Arc::clone(&seen.row));
            }
        }
        self.find(ctx, container).await.map(Arc::new)
    }

    pub(crate) async fn get(&self, ctx: &Ctx, container: &str) -> Result<ContainerView> {
        let row = self.find(ctx, container).await?;
        let mut view = view(&row);
        // The store has the status only.
        let health = self.actors().get(&row.id).and_then(|handle| handle.seen.borrow().health.clone());
        if let (Some(shown), Some(health)) = (&mut view.health, health) {
            *shown = health;
        }
        Ok(view)
    }

    pub(crate) async fn list(
        &self,
        ctx: &Ctx,
        tenant: Option<&TenantId>,
        filter: &ContainerFilter,
        page: &PageRequest,
    ) -> Result<Page<ContainerView>> {
        ctx.require(Permission::TenantRead)?;
        let mut tx = self.deps.db.read().await?;
        let found = rows::list(&mut tx, &ctx.scope_of(tenant)?, filter, page).await?;
        Ok(Page { items: found.items.iter().map(view).collect(), next_cursor: found.next_cursor })
    }

    /// The log as lines.
    pub(crate) async fn logs(
        &self,
        ctx: &Ctx,
        container: &str,
        query: LogQuery,
    ) -> Result<impl Stream<Item = Result<Vec<LogItem>, TailError>> + Send + use<>> {
        let row = self.locate(ctx, container).await?;
        let dir = self
            .deps
            .engine
            .state_dir(row.id.as_str())
            .ok_or_else(|| ServiceError::not_found("container", container))?;
        let handle = self.actors().get(&row.id).cloned();
        // A log that is being removed right now is read without its removal waiting for it.
        let reading = handle.as_ref().and_then(|handle| handle.readers.enter());
        // Asked each time that the reader comes back for more.
        let is_live = move || {
            handle.as_ref().zip(reading.as_ref()).is_some_and(|(handle, reading)| {
                reading.took();
                let seen = handle.seen.borrow();
                let state = seen.row.observed.state;
                !seen.gone
                    && (state.is_live()
                        || seen.goes_on
                        || matches!(
                            state,
                            ContainerState::Created | ContainerState::Pulling | ContainerState::Restarting
                        ))
            })
        };
        Ok(logs::follow(dir.log(), query, is_live))
    }

    // ---- act ----

    async fn ask<T>(
        &self,
        ctx: &Ctx,
        container: &str,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        ctx.require(Permission::TenantWrite)?;
        let row = self.locate(ctx, container).await?;
        let handle = self.actors().get(&row.id).cloned();
        let gone = || ServiceError::not_found("container", container);
        let Handle { mailbox, seen, .. } = handle.ok_or_else(gone)?;
        let (answer, outcome) = oneshot::channel();
        mailbox.send(Box::new(command(answer))).await.map_err(|_closed| gone())?;
        outcome.await.map_err(|_dropped| {
            let seen = seen.borrow();
            if seen.gone {
                gone()
            } else if seen.row.observed.state == ContainerState::Removing {
                ServiceError::conflict("the container is being removed")
            } else {
                ServiceError::new(
                    ProblemKind::Unavailable,
                    "the agent is stopping; ask again when it is back",
                )
            }
        })?
    }

    async fn ask_and_view(
        &self,
        ctx: &Ctx,
        container: &str,
        command: impl FnOnce(oneshot::Sender<Result<()>>) -> Command,
    ) -> Result<ContainerView> {
        let row = self.locate(ctx, container).await?;
        self.ask(ctx, row.id.as_str(), command).await?;
        self.get(ctx, row.id.as_str()).await
    }

    pub(crate) async fn start(&self, ctx: &Ctx, container: &str) -> Result<ContainerView> {
        self.ask_and_view(ctx, container, |answer| Command::Start(ctx.clone(), answer)).await
    }

    pub(crate) async fn stop(
        &self,
        ctx: &Ctx,
        container: &str,
        grace: Option<Duration>,
    ) -> Result<ContainerView> {
        self.ask_and_view(ctx, container, |answer| Command::Stop { ctx: ctx.clone(), grace, answer }).await
    }

    pub(crate) async fn restart(
        &self,
        ctx: &Ctx,
        container: &str,
        grace: Option<Duration>,
    ) -> Result<ContainerView> {
        self.ask_and_view(ctx, container, |answer| Command::Restart { ctx: ctx.clone(), grace, answer }).await
    }

    pub(crate) async fn pause(&self, ctx: &Ctx, container: &str) -> Result<ContainerView> {
        self.ask_and_view(ctx, container, |answer| Command::Pause(ctx.clone(), answer)).await
    }

    pub(crate) async fn resume(&self, ctx: &Ctx, container: &str) -> Result<ContainerView> {
        self.ask_and_view(ctx, container, |answer| Command::Resume(ctx.clone(), answer)).await
    }

    /// Pauses a container for its tenant's budget, and says why. One that is paused already stays as it is.
    pub(crate) async fn hold(&self, ctx: &Ctx, container: &ContainerId, why: String) -> Result<()> {
        self.ask(ctx, container.as_str(), |answer| Command::Hold { ctx: ctx.clone(), why, answer }).await
    }

    /// Lets a container go on that was paused for its tenant's budget.
    pub(crate) async fn release(&self, ctx: &Ctx, container: &ContainerId) -> Result<()> {
        self.ask(ctx, container.as_str(), |answer| Command::Release(ctx.clone(), answer)).await
    }

    pub(crate) async fn kill(&self, ctx: &Ctx, container: &str, signo: i32) -> Result<()> {
        self.ask(ctx, container, |answer| Command::Signal { ctx: ctx.clone(), signo, answer }).await
    }

    pub(crate) async fn update(
        &self,
        ctx: &Ctx,
        container: &str,
        update: ContainerUpdate,
    ) -> Result<ContainerView> {
        let mut problems =
            update.limits.as_ref().map(wharf_shared::container::Limits::problems).unwrap_or_default();
        if let Some(name) = &update.name
            && let Err(error) = wharf_shared::name::check(name)
        {
            problems.push(wharf_shared::problem::FieldProblem {
                field: "name".to_owned(),
                detail: error.to_string(),
            });
        }
        if !problems.is_empty() {
            return Err(ServiceError::invalid(problems));
        }
        let row = self.find(ctx, container).await?;
        if let Some(limits) = &update.limits {
            self.deps.engine.check_limits(limits).map_err(launch::engine_failed)?;
            if limits.devices != row.spec.limits.devices {
                let asked = ContainerSpec { limits: limits.clone(), ..ContainerSpec::default() };
                self.check_host_access(ctx, &asked)?;
            }
            let mut tx = self.deps.db.read().await?;
            let owner = tenants::get(&mut tx, &row.tenant).await?;
            let mut used = tenants::usage(&mut tx, &row.tenant).await?;
            // What it has now is given back by the change.
            used.containers = used.containers.saturating_sub(1);
            used.cpu_millis = used.cpu_millis.saturating_sub(row.spec.limits.cpu_millis.map_or(0, u64::from));
            used.memory_bytes = used.memory_bytes.saturating_sub(row.spec.limits.memory_bytes.unwrap_or(0));
            check_quota(&owner.quota, &used, &ContainerSpec { limits: limits.clone(), ..row.spec.clone() })?;
        }
        let name = update.name.clone().unwrap_or_default();
        let command = |answer| Command::Update { ctx: ctx.clone(), update: Box::new(update), answer };
        self.ask_and_view(ctx, row.id.as_str(), command).await.map_err(|error| match error.kind {
            ProblemKind::NameTaken => name_taken(&row.tenant_name, &name),
            _ => error,
        })
    }

    /// Removes a container; with `volumes` also those that were made for what its image declares.
    pub(crate) async fn remove(&self, ctx: &Ctx, container: &str, force: bool, volumes: bool) -> Result<()> {
        self.ask(ctx, container, |answer| Command::Remove { ctx: ctx.clone(), force, volumes, answer }).await
    }

    /// Waits until the container has ended, or is gone.
    pub(crate) async fn wait(&self, ctx: &Ctx, container: &str, removed: bool) -> Result<ExitView> {
        self.exit(ctx, container, removed).await?.await
    }

    /// The wait itself, which also learns of the end of a container that removes itself.
    pub(crate) async fn exit(
        &self,
        ctx: &Ctx,
        container: &str,
        removed: bool,
    ) -> Result<impl Future<Output = Result<ExitView>> + Send + use<>> {
        let row = self.locate(ctx, container).await?;
        let seen = self.actors().get(&row.id).map(|handle| handle.seen.clone());
        let mut seen = seen.ok_or_else(|| ServiceError::not_found("container", container))?;
        let done = move |seen: &Seen| {
            let state = seen.row.observed.state;
            let ended =
                matches!(state, ContainerState::Exited | ContainerState::Failed | ContainerState::Removing);
            seen.gone || (ended && !removed)
        };
        Ok(async move {
            let found = seen.wait_for(done).await.map(|seen| Arc::clone(&seen.row));
            // Nobody looks after it any more, and it is not gone: the agent ends before the container.
            let row = found.map_err(|_closed| {
                ServiceError::new(
                    ProblemKind::Unavailable,
                    "the agent is stopping; ask again when it is back",
                )
            })?;
            match (&row.observed.exit, &row.observed.error) {
                (Some(exit), _) => Ok(exit.clone()),
                (None, Some(error)) => Err(ServiceError::conflict(format!("the container failed: {error}"))),
                (None, None) => Err(ServiceError::conflict("the container was removed before it ran")),
            }
        })
    }

    /// Writes down that somebody reached into the container.
    pub(crate) async fn audit(
        &self,
        ctx: &Ctx,
        action: &'static str,
        row: &ContainerRecord,
        detail: BTreeMap<String, String>,
    ) -> Result<()> {
        let deed = Deed {
            action,
            tenant: Some(row.tenant.clone()),
            subject: row.id.to_string(),
            detail,
            ..Deed::default()
        };
        let mut tx = self.deps.db.begin().await?;
        self.deps.events.audit(&mut tx, ctx, deed).await?;
        Ok(tx.commit().await?)
    }

    /// As [`Self::audit`], beside what the caller goes on with. Whatever is audited waits for the answer.
    pub(crate) fn audit_beside(
        &self,
        ctx: &Ctx,
        action: &'static str,
        row: &Arc<ContainerRecord>,
        detail: BTreeMap<String, String>,
    ) -> oneshot::Receiver<Result<()>> {
        let (told, audited) = oneshot::channel();
        let (containers, ctx, row) = (self.clone(), ctx.clone(), Arc::clone(row));
        self.deps.tasks.spawn("audit", OnEnd::Fine, async move {
            // Who asked may have gone; the trail has it all the same.
            drop(told.send(containers.audit(&ctx, action, &row, detail).await));
        });
        audited
    }

    /// Starts a further process in the container.
    pub(crate) async fn exec(
        &self,
        ctx: &Ctx,
        container: &str,
        exec_id: String,
        spec: ExecSpec,
    ) -> Result<exec::Running> {
        self.ask(ctx, container, |answer| Command::Exec(exec::ExecAsk { exec_id, spec }, answer)).await
    }

    /// Sends a signal to an exec; one that has ended is fine.
    pub(crate) async fn signal_exec(&self, container: &ContainerId, exec_id: String, signo: i32) {
        let handle = self.actors().get(container).cloned();
        if let Some(handle) = handle
            && handle.mailbox.send(Box::new(Command::ExecSignal { exec_id, signo })).await.is_err()
        {
            tracing::debug!(container.id = %container, "the container was removed before its exec was signalled");
        }
    }

    /// What runs in a container.
    pub(crate) async fn processes(&self, ctx: &Ctx, container: &str) -> Result<Vec<ProcessView>> {
        let row = self.find(ctx, container).await?;
        let mut tx = self.deps.db.read().await?;
        let id_base = tenants::get(&mut tx, &row.tenant).await?.id_base;
        let id_base = plan::id_base(&row.spec, id_base).unwrap_or(0);
        drop(tx);
        let handle = self.actors().get(&row.id).cloned();
        let gone = || ServiceError::not_found("container", container);
        let handle = handle.ok_or_else(gone)?;
        let (answer, outcome) = oneshot::channel();
        handle.mailbox.send(Box::new(Command::Cgroup(answer))).await.map_err(|_closed| gone())?;
        let cgroup = outcome.await.map_err(|_dropped| gone())??;
        self.deps
            .engine
            .processes(cgroup, id_base, row.spec.shares(HostNamespace::Pid))
            .await
            .map_err(launch::engine_failed)
    }

    /// The container's standard input.
    pub(crate) async fn stdin(&self, ctx: &Ctx, container: &str) -> Result<exec::Stdin> {
        self.ask(ctx, container, Command::Stdin).await
    }

    /// The container's standard input as soon as it runs; `None` if it ended before.
    pub(crate) fn stdin_once_live(
        &self,
        ctx: &Ctx,
        row: &ContainerRecord,
    ) -> Result<impl Future<Output = Option<exec::Stdin>> + Send + use<>> {
        ctx.require(Permission::TenantWrite)?;
        if !row.spec.terminal && !row.spec.stdin {
            return Err(actor::no_stdin());
        }
        let gone = || ServiceError::not_found("container", row.id.as_str());
        let handle = self.actors().get(&row.id).cloned().ok_or_else(gone)?;
        let (containers, ctx, id) = (self.clone(), ctx.clone(), row.id.clone());
        Ok(async move {
            let mut seen = handle.seen;
            loop {
                let runs = |seen: &Seen| {
                    let state = seen.row.observed.state;
                    seen.gone || matches!(state, ContainerState::Running | ContainerState::Paused)
                };
                if seen.wait_for(runs).await.map_or(true, |seen| seen.gone) {
                    return None;
                }
                match containers.stdin(&ctx, id.as_str()).await {
                    Ok(stdin) => return Some(stdin),
                    // It ended in between; perhaps it is started again.
                    Err(_) if seen.changed().await.is_ok() => {}
                    Err(_) => return None,
                }
            }
        })
    }

    /// Closes the container's standard input, after all copies of it were closed.
    pub(crate) async fn close_stdin(&self, ctx: &Ctx, container: &str) -> Result<()> {
        self.ask(ctx, container, Command::CloseStdin).await
    }

    /// Whose a container is, as far as this agent knows.
    pub(crate) fn tenant_of(&self, id: &ContainerId) -> Option<TenantId> {
        self.actors().get(id).map(|handle| handle.seen.borrow().row.tenant.clone())
    }

    /// What is known of each container, for Prometheus.
    pub(crate) fn seen(&self) -> Vec<Arc<ContainerRecord>> {
        self.actors().values().map(|handle| Arc::clone(&handle.seen.borrow().row)).collect()
    }

    /// How many run and how many exist.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let actors = self.actors();
        let running =
            actors.values().filter(|handle| handle.seen.borrow().row.observed.state.is_live()).count();
        (u32::try_from(running).unwrap_or(u32::MAX), u32::try_from(actors.len()).unwrap_or(u32::MAX))
    }
}

fn name_taken(tenant: &str, name: &str) -> ServiceError {
    ServiceError::new(
        ProblemKind::NameTaken,
        format!("the tenant {tenant} has a container {name:?} already; choose another name or remove it"),
    )
}

/// The limits that reserved meters count.
fn reading_limits(limits: &wharf_shared::container::Limits) -> ReadingLimits {
    ReadingLimits { cpu_millis: limits.cpu_millis, memory_bytes: limits.memory_bytes }
}

/// A row as it is shown.
pub(crate) fn view(row: &ContainerRecord) -> ContainerView {
    let seen = &row.observed;
    ContainerView {
        id: row.id.clone(),
        name: row.name.clone(),
        tenant: row.tenant.clone(),
        tenant_name: row.tenant_name.clone(),
        state: seen.state,
        error: seen.error.clone(),
        image_digest: seen.image_digest.clone(),
        command_line: seen.command_line.clone(),
        created_at: row.created_at,
        started_at: seen.started_at,
        finished_at: seen.finished_at,
        exit: seen.exit.clone(),
        health: seen.health.map(|status| HealthView { status, failing_streak: 0, results: Vec::new() }),
        restart_count: seen.restart_count,
        pid: seen.pid,
        address: seen.address.map(|address| address.to_string()),
        ports: seen.ports.clone(),
        spec: row.spec.clone(),
        version: row.version,
    }
}
