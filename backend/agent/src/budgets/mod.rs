//! Budgets: what a tenant may spend in a month, and what is done when it has.
//!
//! ```text
//! readings ─ roll-up ─► spent, exactly ─ billing::budget ─► marks, event, audit, webhook   (one transaction)
//!                                                             └─► orders ─► gate of starts, pausing, stopping
//! ```
//! Nothing is decided by an estimate: a threshold is reached when the rated usage says so. An estimate only says
//! when it is time to look: every second once what is spent, and what the containers can spend until the next
//! reading, come to a threshold, else twice a minute. What was reached is written down before anything is done,
//! and what is to be done follows from that each time anew. So an agent that dies between the two does it after
//! its start, and a container that was started in between is caught a second later.

mod gate;
mod webhook;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Client;
use tokio::sync::{Mutex as AsyncMutex, Notify};
use wharf_billing::amount::{Amount, TooLong};
use wharf_billing::budget::{self, Decision};
use wharf_billing::rating::period;
use wharf_shared::budget::{
    BudgetAction, BudgetSpec, BudgetThreshold, BudgetView, NoticeState, ReachedThreshold,
};
use wharf_shared::container::{ContainerState, Limits};
use wharf_shared::decimal::Decimal;
use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::{FieldProblem, ProblemKind};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shim::failpoint;
use wharf_store::budgets::{self, BudgetMark, BudgetRecord, MarkKey};
use wharf_store::pagination::PageRequest;
use wharf_store::{Db, StoreError, Tx, tenants};

pub(crate) use self::gate::Gate;
use self::gate::Standing;
use self::webhook::Told;
use crate::billing::{Billing, Burn, Capacity, Known, Spent};
use crate::clock::Clock;
use crate::config::Config;
use crate::containers::{ContainerRecord, Containers};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError, chain};
use crate::events::{Change, EventBus};
use crate::metering::Metering;
use crate::tasks::{OnEnd, Tasks};

/// Between two looks while there is any budget.
const EVERY: Duration = Duration::from_secs(1);
/// Between two looks at what is far from every threshold, and at whether there is a budget.
const FAR: Duration = Duration::from_secs(30);
/// A container that a budget stops has so long to end by itself: as long as it runs, it spends.
const GRACE: Duration = Duration::from_secs(1);
/// Who acts, in the audit trail.
const TASK: &str = "budget";

/// The service.
#[derive(Clone)]
pub(crate) struct Budgets(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    events: EventBus,
    config: Arc<Config>,
    billing: Billing,
    metering: Metering,
    containers: Containers,
    gate: Gate,
    capacity: Capacity,
    /// `//host/boot`: where events come from.
    source: String,
    client: Client,
    tasks: Tasks,
    /// Of each tenant with a budget. Held while one is looked at.
    seen: AsyncMutex<HashMap<TenantId, Seen>>,
    /// Containers that are being paused, stopped or let go on.
    acting: Mutex<HashSet<ContainerId>>,
    changed: Notify,
    told: Notify,
}

/// What was seen of a budget at the last look.
#[derive(Default)]
struct Seen {
    known: Option<Known>,
    look: Option<Look>,
}

struct Look {
    boot_ns: u64,
    /// Begin of the month and version of the budget.
    of: (Timestamp, i64),
    spent: Amount,
    /// The amount of the next threshold.
    next: Option<Amount>,
    /// The greatest burn limit since.
    limit_per_hour: Amount,
}

impl Budgets {
    pub(crate) fn new(
        (db, clock, events): (Db, Arc<dyn Clock>, EventBus),
        config: Arc<Config>,
        (billing, metering, containers): (Billing, Metering, Containers),
        (gate, tasks): (Gate, Tasks),
        capacity: Capacity,
        boot_id: &str,
    ) -> Result<Self> {
        let source = format!("//{}/{boot_id}", metering.host());
        let client = crate::outbox::client(webhook::TIMEOUT)
            .map_err(|error| ServiceError::internal("the HTTP client of webhooks cannot be set up", error))?;
        Ok(Self(Arc::new(Inner {
            db,
            clock,
            events,
            config,
            billing,
            metering,
            containers,
            gate,
            capacity,
            source,
            client,
            tasks,
            seen: AsyncMutex::default(),
            acting: Mutex::default(),
            changed: Notify::new(),
            told: Notify::new(),
        })))
    }

    // ---- what may be asked ----

    /// Budgets by tenant; a member sees its own tenant's.
    pub(crate) async fn list(
        &self,
        ctx: &Ctx,
        tenant: Option<&TenantId>,
        page: &PageRequest,
    ) -> Result<Page<BudgetView>> {
        ctx.require(Permission::TenantRead)?;
        let scope = ctx.scope_of(tenant)?;
        let found = budgets::list(&mut self.0.db.one().await?, &scope, page).await?;
        self.0.metering.roll_up_now(&self.0.db).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for record in found.items {
            items.push(self.view(ctx, record).await?);
        }
        Ok(Page { items, next_cursor: found.next_cursor })
    }

    /// A tenant's budget.
    pub(crate) async fn get(&self, ctx: &Ctx, tenant: &str) -> Result<BudgetView> {
        ctx.require(Permission::TenantRead)?;
        let mut tx = self.0.db.read().await?;
        let (tenant, name) = find_tenant(&mut tx, ctx, tenant).await?;
        let record = budgets::get(&mut tx, &tenant).await.map_err(|error| has_none(error, &name))?;
        drop(tx);
        self.0.metering.roll_up_now(&self.0.db).await?;
        self.view(ctx, record).await
    }

    /// Gives a tenant a budget, in place of the one it has. Its thresholds are looked at anew.
    pub(crate) async fn set(&self, ctx: &Ctx, tenant: &str, spec: BudgetSpec) -> Result<BudgetView> {
        ctx.require(Permission::TenantManage)?;
        let mut fields = budget::problems(&spec, &self.0.billing.currency().await?);
        let hosts = &self.0.config.budgets.webhook_hosts;
        let refused = spec.webhook_url.as_deref().and_then(|url| webhook::problem_of(url, hosts));
        fields.extend(refused.map(|detail| FieldProblem { field: "webhook_url".to_owned(), detail }));
        if !fields.is_empty() {
            return Err(ServiceError::invalid(fields));
        }
        let mut tx = self.0.db.begin().await?;
        let (tenant, name) = find_tenant(&mut tx, ctx, tenant).await?;
        budgets::put(&mut tx, &tenant, &spec, self.0.clock.now()).await?;
        let record = budgets::get(&mut tx, &tenant).await?;
        let thresholds = spec.thresholds.iter().map(|threshold| {
            let actions = threshold.actions.iter().map(|action| format!(" {}", action.as_str()));
            format!("{} %{}", threshold.percent, actions.collect::<String>())
        });
        let detail = BTreeMap::from([
            ("amount".to_owned(), format!("{} {}", spec.amount, spec.currency)),
            ("thresholds".to_owned(), thresholds.collect::<Vec<_>>().join(", ")),
        ]);
        let change = change("budget.set", &tenant, &name, detail);
        self.0.events.changed(&mut tx, ctx, "budget.set", change).await?;
        tx.commit().await?;
        self.0.events.publish();
        self.0.changed.notify_one();
        self.0.metering.roll_up_now(&self.0.db).await?;
        self.view(ctx, record).await
    }

    /// Takes a tenant's budget away; what it has paused goes on.
    pub(crate) async fn remove(&self, ctx: &Ctx, tenant: &str) -> Result<()> {
        ctx.require(Permission::TenantManage)?;
        let mut tx = self.0.db.begin().await?;
        let (tenant, name) = find_tenant(&mut tx, ctx, tenant).await?;
        budgets::remove(&mut tx, &tenant).await.map_err(|error| has_none(error, &name))?;
        let change = change("budget.removed", &tenant, &name, BTreeMap::new());
        self.0.events.changed(&mut tx, ctx, "budget.remove", change).await?;
        tx.commit().await?;
        self.0.events.publish();
        self.0.changed.notify_one();
        Ok(())
    }

    async fn view(&self, ctx: &Ctx, record: BudgetRecord) -> Result<BudgetView> {
        let now = self.0.clock.now();
        let (from, to) = period(now);
        let mut seen = self.0.seen.lock().await;
        let known = &mut seen.entry(record.tenant.clone()).or_default().known;
        let spent = self.0.billing.spent(&record.tenant, now, known).await?;
        drop(seen);
        let burn = self.burn(&record.tenant, now).await?;
        let mut tx = self.0.db.one().await?;
        let marks = budgets::marks(&mut tx, &record.tenant, from, record.version).await?;
        drop(tx);
        let BudgetRecord { tenant, tenant_name, budget: mut spec, set_at, .. } = record;
        let orders = budget::orders(&spec, &marks.iter().map(|mark| mark.percent).collect());
        let interval_ms = u64::from(self.0.config.metering.journal_interval_ms);
        let view = BudgetView {
            from,
            to,
            spent: shown(&spent.amount)?,
            spent_percent: shown(&budget::percent_of(&spec, &spent.amount))?,
            burn_per_hour: shown(&burn.now)?,
            burn_limit_per_hour: shown(&burn.limit)?,
            forecast: shown(&forecast(&spent, now, to))?,
            forecast_at_burn: shown(&budget::forecast(&spent.amount, &burn.now, now, to))?,
            overshoot_limit: shown(&budget::overshoot_limit(&burn.limit, interval_ms))?,
            reached: marks.into_iter().map(reached).collect::<Result<_>>()?,
            in_force: orders.actions(),
            tenant,
            tenant_name,
            set_at,
            budget: {
                // An address may hold a secret, and is of no use to who cannot set it.
                if ctx.require(Permission::TenantManage).is_err() {
                    spec.webhook_url = None;
                }
                spec
            },
        };
        Ok(view)
    }

    async fn burn(&self, tenant: &TenantId, now: Timestamp) -> Result<Burn> {
        let rows = self.0.containers.seen();
        let live = rows.iter().filter(|row| row.tenant == *tenant && row.observed.state.is_live());
        let (mut limits, mut doings): (Vec<Limits>, _) = (Vec::new(), Vec::new());
        for row in live {
            limits.push(row.spec.limits.clone());
            doings.extend(self.0.metering.doing(&row.id));
        }
        self.0.billing.burn(tenant, now, &limits, &doings, self.0.capacity).await
    }

    // ---- what is done ----

    /// Finds again what budgets order, before any container is looked after.
    pub(crate) async fn recover(&self) -> Result<()> {
        let (from, to) = period(self.0.clock.now());
        let mut tx = self.0.db.read().await?;
        for record in budgets::all(&mut tx).await? {
            let reached = reached_by(&mut tx, &record, from).await?;
            let orders = budget::orders(&record.budget, &reached);
            self.0.gate.set(&record.tenant, Standing::new(&record, orders, to));
        }
        Ok(())
    }

    /// Looks at budgets and sends webhooks until the agent stops.
    pub(crate) fn run(&self) {
        let (budgets, stop) = (self.clone(), self.0.tasks.stopping());
        self.0.tasks.spawn("look at budgets", OnEnd::Shutdown, async move {
            loop {
                // A look that is cut off is made again by the next agent.
                let looked = tokio::select! {
                    looked = budgets.look() => looked,
                    () = stop.cancelled() => return,
                };
                let pause = match looked {
                    Ok(false) => FAR,
                    Ok(true) => EVERY,
                    Err(error) => {
                        tracing::error!(
                            error = chain(&error),
                            "budgets were not looked at; it is tried again"
                        );
                        EVERY
                    }
                };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = budgets.0.changed.notified() => {}
                    () = stop.cancelled() => return,
                }
            }
        });
        let (budgets, stop) = (self.clone(), self.0.tasks.stopping());
        self.0.tasks.spawn("send webhooks of budgets", OnEnd::Shutdown, async move {
            loop {
                tokio::select! {
                    sent = budgets.send_notices() => if let Err(error) = sent {
                        tracing::error!(error = chain(&error), "webhooks were not sent; it is tried again");
                    },
                    () = stop.cancelled() => return,
                }
                tokio::select! {
                    () = tokio::time::sleep(FAR / 3) => {}
                    () = budgets.0.told.notified() => {}
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    /// Looks once at every budget whose turn it is, and has done what they order. Returns whether there is
    /// anything to look after.
    pub(crate) async fn look(&self) -> Result<bool> {
        let all = budgets::all(&mut self.0.db.one().await?).await?;
        let now = self.0.clock.now();
        let mut seen = self.0.seen.lock().await;
        seen.retain(|tenant, _| all.iter().any(|record| record.tenant == *tenant));
        let mut due = Vec::new();
        for record in &all {
            let look = seen.get_mut(&record.tenant).and_then(|seen| seen.look.as_mut());
            if self.is_due(record, look, now).await? {
                due.push(record);
            }
        }
        if !due.is_empty() {
            self.0.metering.roll_up_now(&self.0.db).await?;
        }
        for record in due {
            let seen = seen.entry(record.tenant.clone()).or_default();
            self.look_at(record, seen).await?;
        }
        drop(seen);
        self.0.gate.keep(|tenant| all.iter().any(|record| record.tenant == *tenant));
        let acts = self.enforce();
        Ok(acts || !all.is_empty())
    }

    /// Whether it is time: a threshold may have been reached since, the last look is too old, or of another
    /// month or budget.
    async fn is_due(&self, record: &BudgetRecord, look: Option<&mut Look>, now: Timestamp) -> Result<bool> {
        let Some(look) = look.filter(|look| look.of == (period(now).0, record.version)) else {
            return Ok(true);
        };
        let since = Duration::from_nanos(self.0.clock.boot_ns().saturating_sub(look.boot_ns));
        if since >= FAR {
            return Ok(true);
        }
        let Some(next) = &look.next else { return Ok(false) };
        let burn = self.burn(&record.tenant, now).await?;
        look.limit_per_hour = burn.limit.max(look.limit_per_hour.clone());
        let interval_ms = u64::from(self.0.config.metering.journal_interval_ms);
        let ahead = budget::overshoot_limit(&look.limit_per_hour, interval_ms);
        let since_us = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let since = budget::in_time(&look.limit_per_hour, since_us);
        Ok(look.spent.plus(&since).plus(&ahead) >= *next)
    }

    /// Decides by what is rolled up, and writes it down.
    async fn look_at(&self, record: &BudgetRecord, seen: &mut Seen) -> Result<()> {
        let (now, boot_ns) = (self.0.clock.now(), self.0.clock.boot_ns());
        let (from, to) = period(now);
        let spent = self.0.billing.spent(&record.tenant, now, &mut seen.known).await?;
        let mut reached = reached_by(&mut self.0.db.one().await?, record, from).await?;
        let Decision { newly, orders } = budget::decide(&record.budget, &spent.amount, &reached);
        if !newly.is_empty() {
            self.write_down(record, &spent, (from, to), &newly).await?;
            reached.extend(newly.iter().map(|threshold| threshold.percent));
            failpoint::reach("agent.budget.decided");
            self.0.events.publish();
            self.0.told.notify_one();
        }
        self.0.gate.set(&record.tenant, Standing::new(record, orders, to));
        seen.look = Some(Look {
            boot_ns,
            of: (from, record.version),
            next: budget::next_amount(&record.budget, &reached),
            spent: spent.amount,
            limit_per_hour: Amount::zero(),
        });
        Ok(())
    }

    /// Marks thresholds as reached, tells of each once, and queues their webhooks: all or nothing.
    async fn write_down(
        &self,
        record: &BudgetRecord,
        spent: &Spent,
        (from, to): (Timestamp, Timestamp),
        newly: &[&BudgetThreshold],
    ) -> Result<()> {
        let BudgetRecord { tenant, tenant_name, budget: spec, version, .. } = record;
        let now = self.0.clock.now();
        let (amount, forecast) = (shown(&spent.amount)?, shown(&forecast(spent, now, to))?);
        let ctx = Ctx::system(TASK);
        let mut tx = self.0.db.begin().await?;
        match budgets::get(&mut tx, tenant).await {
            Ok(present) if present.version == *version => {}
            // It was set anew or removed since, and is looked at anew.
            Ok(_) | Err(StoreError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for threshold in newly {
            let BudgetThreshold { percent, actions } = threshold;
            let key = MarkKey { tenant: tenant.clone(), from, version: *version, percent: *percent };
            let tells = actions.contains(&BudgetAction::Webhook);
            let told = Told {
                tenant_name,
                percent: *percent,
                actions,
                amount: &spec.amount,
                spent: &amount,
                forecast: &forecast,
                currency: &spec.currency,
                from,
                to,
            };
            let mark = BudgetMark {
                percent: *percent,
                at: now,
                spent: amount.to_string(),
                notice: if tells { webhook::body(&self.0.source, &key, now, &told) } else { String::new() },
                notice_state: if tells { NoticeState::Queued } else { NoticeState::None },
                notice_problem: None,
            };
            if budgets::mark(&mut tx, &key, &mark).await? {
                let words: Vec<_> = actions.iter().map(|action| action.as_str()).collect();
                let detail = [
                    ("percent", percent.to_string()),
                    ("spent", format!("{amount} {}", spec.currency)),
                    ("amount", format!("{} {}", spec.amount, spec.currency)),
                    ("actions", words.join(", ")),
                ];
                let detail = detail.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
                let change = change("budget.threshold_reached", tenant, tenant_name, detail);
                self.0.events.changed(&mut tx, &ctx, "budget.threshold_reached", change).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    /// Has done what budgets order and is not so yet. Returns whether any container is held or there is
    /// something to be done.
    fn enforce(&self) -> bool {
        let mut acts = false;
        for row in self.0.containers.seen() {
            let standing = self.0.gate.find(&row.tenant);
            let act = act_on(&row, standing.as_ref());
            acts |= act.is_some() || row.observed.held;
            if let Some(act) = act
                && self.acting().insert(row.id.clone())
            {
                // One whose actor is busy keeps nobody else waiting.
                let (budgets, id) = (self.clone(), row.id.clone());
                self.0.tasks.spawn("do what a budget orders", OnEnd::Fine, async move {
                    budgets.act(&id, act).await;
                    budgets.acting().remove(&id);
                });
            }
        }
        acts
    }

    fn acting(&self) -> MutexGuard<'_, HashSet<ContainerId>> {
        self.0.acting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn act(&self, id: &ContainerId, act: Act) {
        let (ctx, containers) = (Ctx::system(TASK), &self.0.containers);
        let done = match &act {
            Act::Hold(why) => containers.hold(&ctx, id, why.clone()).await,
            Act::Stop => containers.stop(&ctx, id.as_str(), Some(GRACE)).await.map(drop),
            Act::Release => containers.release(&ctx, id).await,
        };
        match done {
            Ok(()) => tracing::info!(container.id = %id, ?act, "done for a budget"),
            // It ended or was removed meanwhile, or is being started; it is looked at again.
            Err(error) => {
                tracing::debug!(container.id = %id, ?act, error = chain(&error), "not done for a budget");
            }
        }
    }
}

/// What is done to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    /// Pause it, and say why.
    Hold(String),
    Stop,
    /// Let go on what was paused for a budget.
    Release,
}

/// What the budget of a container's tenant has done to it, if it is not so yet.
fn act_on(row: &ContainerRecord, standing: Option<&Standing>) -> Option<Act> {
    use ContainerState::{Paused, Pulling, Restarting, Running, Starting};
    let orders = standing.map(|standing| standing.orders).unwrap_or_default();
    let state = row.observed.state;
    if orders.stop.is_some() {
        return matches!(state, Running | Paused | Starting | Pulling | Restarting).then_some(Act::Stop);
    }
    match (orders.freeze, standing) {
        (Some(percent), Some(standing)) if state == Running => {
            Some(Act::Hold(standing.why(percent, "the container is paused")))
        }
        (Some(_), _) => None,
        (None, _) => row.observed.held.then_some(Act::Release),
    }
}

async fn find_tenant(tx: &mut Tx, ctx: &Ctx, id_or_name: &str) -> Result<(TenantId, String)> {
    let found = tenants::find(tx, &ctx.scope()?, id_or_name).await?;
    let tenant = found.ok_or_else(|| ServiceError::not_found("tenant", id_or_name))?;
    Ok((tenant.id, tenant.name))
}

fn has_none(error: StoreError, tenant_name: &str) -> ServiceError {
    match error {
        StoreError::NotFound(_) => ServiceError::new(
            ProblemKind::NotFound,
            format!("the tenant {tenant_name} has no budget; an operator can set one"),
        ),
        other => other.into(),
    }
}

/// The thresholds that a budget has reached in the month that begins at `from`.
async fn reached_by(tx: &mut Tx, record: &BudgetRecord, from: Timestamp) -> Result<BTreeSet<u32>> {
    let marks = budgets::marks(tx, &record.tenant, from, record.version).await?;
    Ok(marks.into_iter().map(|mark| mark.percent).collect())
}

fn reached(mark: BudgetMark) -> Result<ReachedThreshold> {
    let BudgetMark { percent, at, spent, notice_state: notice, notice_problem, .. } = mark;
    let spent = spent
        .parse()
        .map_err(|error| ServiceError::internal("a stored threshold's amount cannot be read", error))?;
    Ok(ReachedThreshold { percent, at, spent, notice, notice_problem })
}

/// What the month will have cost if it goes on as on average since its first use.
fn forecast(spent: &Spent, now: Timestamp, to: Timestamp) -> Amount {
    let Some(since) = spent.since else { return spent.amount.clone() };
    // Within its first hour an average says little; that hour is taken as whole.
    let until = now.max(Timestamp(since.0.saturating_add(HOUR_US)));
    budget::forecast(&spent.amount, &budget::average_per_hour(&spent.amount, since, until), now, to)
}

fn shown(amount: &Amount) -> Result<Decimal> {
    budget::shown(amount)
        .map_err(|error: TooLong| ServiceError::internal("an amount has too many digits", error))
}

fn change(kind: &'static str, tenant: &TenantId, name: &str, detail: BTreeMap<String, String>) -> Change {
    Change {
        kind,
        tenant: Some(tenant.clone()),
        subject: tenant.to_string(),
        subject_name: name.to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use wharf_shared::container::ContainerSpec;
    use wharf_store::containers::{Desired, Observed};

    use super::*;

    fn row(state: ContainerState, held: bool) -> ContainerRecord {
        ContainerRecord {
            id: "a".repeat(64).parse().expect("an id"),
            tenant: "tnt_00000000-0000-7000-8000-000000000001".parse().expect("an id"),
            tenant_name: "blue".to_owned(),
            name: "web".to_owned(),
            spec: ContainerSpec::default(),
            desired: Desired::Running,
            created_at: Timestamp(0),
            version: 1,
            observed: Observed { state, held, ..Observed::default() },
        }
    }

    fn standing(actions: &[BudgetAction]) -> Standing {
        let thresholds = vec![BudgetThreshold { percent: 100, actions: actions.to_vec() }];
        let budget = BudgetSpec {
            amount: "5".parse().expect("a decimal"),
            currency: "EUR".to_owned(),
            thresholds,
            webhook_url: None,
        };
        let orders = budget::orders(&budget, &[100].into());
        let row = row(ContainerState::Created, false);
        let record = BudgetRecord {
            tenant: row.tenant,
            tenant_name: row.tenant_name,
            budget,
            version: 1,
            set_at: Timestamp(0),
        };
        Standing::new(&record, orders, Timestamp(0))
    }

    #[test]
    fn only_what_runs_is_paused_and_only_what_was_paused_for_a_budget_goes_on() {
        let freezes = standing(&[BudgetAction::Freeze]);
        let act = |state, held| act_on(&row(state, held), Some(&freezes));
        assert!(matches!(act(ContainerState::Running, false), Some(Act::Hold(why)) if why.contains("blue")));
        // An agent died before it had paused it.
        assert!(matches!(act(ContainerState::Running, true), Some(Act::Hold(_))));
        for (state, held) in [
            (ContainerState::Paused, true),
            (ContainerState::Paused, false),
            (ContainerState::Exited, false),
            (ContainerState::Stopping, true),
        ] {
            assert_eq!(act(state, held), None, "{state:?}, {held}");
        }
        for state in [ContainerState::Paused, ContainerState::Running] {
            assert_eq!(act_on(&row(state, true), None), Some(Act::Release));
            assert_eq!(act_on(&row(state, false), None), None);
        }
        let refuses = standing(&[BudgetAction::RefuseStarts, BudgetAction::Webhook]);
        assert_eq!(act_on(&row(ContainerState::Paused, true), Some(&refuses)), Some(Act::Release));
        assert_eq!(act_on(&row(ContainerState::Running, false), Some(&refuses)), None);
    }

    #[test]
    fn what_waits_to_run_is_stopped_too_and_what_has_ended_is_left_alone() {
        use ContainerState::{Exited, Failed, Paused, Pulling, Restarting, Running, Starting, Stopping};
        let stops = standing(&[BudgetAction::Freeze, BudgetAction::Stop]);
        for state in [Running, Paused, Starting, Pulling, Restarting] {
            assert_eq!(act_on(&row(state, false), Some(&stops)), Some(Act::Stop), "{state:?}");
        }
        for state in [Exited, Failed, Stopping] {
            assert_eq!(act_on(&row(state, false), Some(&stops)), None, "{state:?}");
        }
    }
}
