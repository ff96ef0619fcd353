//! Prices and what usage costs: price books, contracts, rated usage, exports, statements, the rate of live
//! views.
//!
//! All arithmetic is the billing crate's; here is who may ask and where the rows come from.

mod contracts;
mod explain;
mod export;
mod rated;
mod simulate;
mod spend;
mod statements;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use wharf_billing::amount::{Amount, TooLong};
use wharf_billing::focus::FocusContext;
use wharf_billing::price::{self, PriceBooks};
use wharf_billing::rating::{self, Flow};
use wharf_shared::billing::{PriceBookSpec, PriceBookView};
use wharf_shared::decimal::Decimal;
use wharf_shared::id::{ContainerId, HostId, TenantId};
use wharf_shared::live::MetricsPoint;
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::{FieldProblem, ProblemKind};
use wharf_shared::reading::ReadingLimits;
use wharf_shared::time::{DAY_US, HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, UsageRow};
use wharf_store::pagination::PageRequest;
use wharf_store::usage::UsageQuery;
use wharf_store::{Db, Scope, StoreError, Tx, containers as stored_containers, prices};

pub(crate) use self::export::{Export, ExportFilter};
use self::rated::{RatedHour, RatedStream, Terms};
pub(crate) use self::spend::{Burn, Capacity, Known, Spent};
use crate::clock::Clock;
use crate::config::Config;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};
use crate::events::{Change, EventBus};
use crate::metering::Pricer;

/// Nanoseconds in a second.
const SECOND_NS: u64 = 1_000_000_000;
/// Exports that are there at once, from the first row to the last byte sent: each keeps one of the store's few
/// readers and then a file on the disk.
const EXPORTS: usize = 2;
/// Statements and the like that are computed at once, which takes a reader and a core for as long as a period has
/// hours. Two of the readers are left for whoever only looks something up.
const COMPUTED: usize = 2;
/// How long it is waited for one of them.
const TURN: Duration = Duration::from_secs(10);
/// Rows on a page of usage when the client does not say, and at most. A page ends with a tenant's hour.
const LIMIT: (u32, u32) = (100, 1_000);

/// Which usage is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct UsageFilter {
    /// One tenant's; else all that the caller may see.
    pub(crate) tenant: Option<TenantId>,
    /// One container's: by id, also when it is gone, or by name.
    pub(crate) container: Option<String>,
    /// First hour; 24 hours ago when absent.
    pub(crate) from: Option<Timestamp>,
    /// The hour after the last; the end of the present one when absent.
    pub(crate) to: Option<Timestamp>,
}

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Billing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    events: EventBus,
    /// For live views; lists and exports read the store.
    books: RwLock<Arc<PriceBooks>>,
    context: FocusContext,
    exports: Arc<Semaphore>,
    computed: Semaphore,
    state_dir: PathBuf,
    /// How long after a period's end late readings are waited for.
    grace_hours: u32,
    /// In how many days a statement is to be paid where no contract says so.
    payment_days: u32,
}

impl Billing {
    /// Reads the price books there are.
    pub(crate) async fn open(
        config: &Config,
        host: &HostId,
        db: Db,
        clock: Arc<dyn Clock>,
        events: EventBus,
    ) -> Result<Self> {
        let books = read_books(&mut db.read().await?).await?;
        let said = config.billing.clone();
        let context = FocusContext {
            provider_name: said.provider,
            billing_account_id: said.account_id,
            billing_account_name: said.account_name,
            region: said.region,
            host: host.to_string(),
        };
        Ok(Self(Arc::new(Inner {
            db,
            clock,
            events,
            books: RwLock::new(Arc::new(books)),
            context,
            exports: Arc::new(Semaphore::new(EXPORTS)),
            computed: Semaphore::new(COMPUTED),
            state_dir: config.state_dir.clone(),
            grace_hours: said.grace_hours,
            payment_days: said.payment_days,
        })))
    }

    /// Waits for a turn to compute a statement or the like; keep what it returns until that is done.
    async fn turn(&self) -> Result<SemaphorePermit<'_>> {
        let busy =
            || ServiceError::new(ProblemKind::RateLimited, "other statements are being computed; try again");
        let turn = tokio::time::timeout(TURN, self.0.computed.acquire()).await;
        turn.map_err(|error| busy().because(error))?.map_err(|error| busy().because(error))
    }

    /// Versions of the price book, the last to take effect first: everybody may know what is charged.
    pub(crate) async fn price_books(&self, ctx: &Ctx, page: &PageRequest) -> Result<Page<PriceBookView>> {
        ctx.require(Permission::TenantRead)?;
        Ok(prices::list(&mut self.0.db.read().await?, page).await?)
    }

    /// Adds a version.
    pub(crate) async fn add_price_book(&self, ctx: &Ctx, spec: PriceBookSpec) -> Result<PriceBookView> {
        ctx.require(Permission::PriceManage)?;
        let now = self.0.clock.now();
        let mut fields = price::problems(&spec, None);
        if spec.effective_from < now.hour_start() {
            let earliest = now.hour_start();
            fields.push(field(
                "effective_from",
                format!("hours that are over keep their price; {earliest} is the earliest"),
            ));
        }
        if !fields.is_empty() {
            return Err(ServiceError::invalid(fields));
        }
        let id = crate::ids::new("prb_")?;
        let mut tx = self.0.db.begin().await?;
        let view = match prices::insert(&mut tx, &id, &spec, now, &ctx.actor).await {
            Err(StoreError::Taken(_)) => {
                let detail = "another version takes effect at this hour; choose a later one";
                return Err(ServiceError::conflict(detail));
            }
            other => other?,
        };
        let books = Arc::new(read_books(&mut tx).await?);
        let change = Change {
            kind: "price_book.created",
            subject: id.to_string(),
            subject_name: spec.effective_from.to_string(),
            detail: [("currency".to_owned(), spec.currency)].into(),
            ..Change::default()
        };
        self.0.events.changed(&mut tx, ctx, "price_book.create", change).await?;
        tx.commit().await?;
        *self.0.books.write().unwrap_or_else(PoisonError::into_inner) = books;
        self.0.events.publish();
        Ok(view)
    }

    /// Rated usage by hour. The cursor names the last tenant's hour of the page before.
    pub(crate) async fn usage(
        &self,
        ctx: &Ctx,
        filter: &UsageFilter,
        page: &PageRequest,
    ) -> Result<Page<UsageRow>> {
        let mut tx = self.0.db.read().await?;
        let (scope, mut query) = self.period(&mut tx, ctx, filter).await?;
        let after = page.cursor.as_deref().map(parse_cursor).transpose()?;
        if let Some((hour, _)) = &after {
            query.from = query.from.max(*hour);
        }
        let limit = usize::try_from(page.limit.unwrap_or(LIMIT.0).clamp(1, LIMIT.1)).unwrap_or(usize::MAX);
        let terms = read_terms(&mut tx).await?;
        let mut stream = RatedStream::open(&mut tx, scope, query, &terms).await?;
        let (mut items, mut last, mut more) = (Vec::new(), None, false);
        while let Some(RatedHour { hour, tenant, rows }) = stream.next(&mut tx).await? {
            let key = (hour, tenant);
            if after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            if items.len() >= limit {
                more = true;
                break;
            }
            items.extend(rating::to_wire(&rows).map_err(too_long)?);
            last = Some(key);
        }
        let next_cursor = last.filter(|_| more).map(|(hour, tenant)| format!("{}.{tenant}", hour.0));
        Ok(Page { items, next_cursor })
    }

    /// Prices live views by the book in force at their moment.
    pub(crate) fn pricer(&self) -> Box<Pricer> {
        let billing = self.clone();
        Box::new(move |point, limits, traffic| billing.rate(point, limits, traffic))
    }

    fn rate(
        &self,
        point: &MetricsPoint,
        limits: ReadingLimits,
        traffic: &[(Meter, u64)],
    ) -> (Decimal, String) {
        let books = Arc::clone(&self.0.books.read().unwrap_or_else(PoisonError::into_inner));
        let rate = |book| rating::rate_per_hour(book, &flows(point, limits, traffic));
        let amount = books.at(point.at).map_or_else(Amount::zero, rate);
        // A rate of more than 60 digits is not one that anybody is shown.
        (amount.to_decimal().unwrap_or_else(|_| Decimal::zero()), books.currency().to_owned())
    }

    async fn period(&self, tx: &mut Tx, ctx: &Ctx, filter: &UsageFilter) -> Result<(Scope, UsageQuery)> {
        ctx.require(Permission::TenantRead)?;
        let scope = ctx.scope_of(filter.tenant.as_ref())?;
        let hour = self.0.clock.now().hour_start();
        let from = filter.from.unwrap_or(Timestamp(hour.0 - DAY_US));
        let to = filter.to.unwrap_or(Timestamp(hour.0 + HOUR_US));
        let mut fields = Vec::new();
        for (name, time) in [("from", from), ("to", to)] {
            if time != time.hour_start() {
                fields.push(field(name, "usage is kept by hour; give a full hour of UTC".to_owned()));
            }
        }
        if from >= to {
            fields.push(field("to", "the period ends before it begins".to_owned()));
        }
        if !fields.is_empty() {
            return Err(ServiceError::invalid(fields));
        }
        let container = match &filter.container {
            Some(text) => Some(find_container(tx, &scope, text).await?),
            None => None,
        };
        Ok((scope, UsageQuery { from, to, container }))
    }
}

/// The container of a name or an id; an id is taken as it is, because usage outlives containers.
async fn find_container(tx: &mut Tx, scope: &Scope, text: &str) -> Result<ContainerId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let found = stored_containers::find(tx, scope, text).await?;
    found.map(|container| container.id).ok_or_else(|| {
        ServiceError::new(
            ProblemKind::NotFound,
            format!("there is no container {text:?}; one that was removed is asked for by its whole id"),
        )
    })
}

/// What a second like this one counts, by meter.
fn flows(point: &MetricsPoint, limits: ReadingLimits, traffic: &[(Meter, u64)]) -> Vec<Flow> {
    const CPU_NS_PER_MILLI: u64 = SECOND_NS / 1_000;
    let counted = [
        (Meter::CpuUsed, point.cpu_millis.value(), CPU_NS_PER_MILLI),
        (Meter::CpuReserved, limits.cpu_millis.map(u64::from), CPU_NS_PER_MILLI),
        (Meter::MemoryUsed, point.memory_current_bytes.value(), SECOND_NS),
        (Meter::MemoryReserved, limits.memory_bytes, SECOND_NS),
        (Meter::ContainerTime, Some(1), SECOND_NS),
        (Meter::BlockRead, point.io_read_bytes_per_s.value(), 1),
        (Meter::BlockWrite, point.io_write_bytes_per_s.value(), 1),
    ];
    let traffic = traffic.iter().map(|(meter, bytes)| (*meter, Some(*bytes), 1));
    counted
        .into_iter()
        .chain(traffic)
        .filter_map(|(meter, value, per_unit)| {
            let quantity = u128::from(value?).saturating_mul(u128::from(per_unit));
            Some(Flow { meter, quantity, duration_ns: SECOND_NS })
        })
        .collect()
}

async fn read_books(tx: &mut Tx) -> Result<PriceBooks> {
    let views = prices::all(tx).await?;
    PriceBooks::new(&views)
        .map_err(|error| ServiceError::internal("a stored price book cannot be used", error))
}

/// All that prices follow from.
async fn read_terms(tx: &mut Tx) -> Result<Terms> {
    Ok(Terms { books: read_books(tx).await?, contracts: contracts::read_contracts(tx).await? })
}

fn parse_cursor(cursor: &str) -> Result<(Timestamp, TenantId)> {
    let parsed = cursor
        .split_once('.')
        .and_then(|(hour, tenant)| Some((Timestamp(hour.parse().ok()?), tenant.parse().ok()?)));
    parsed.ok_or_else(|| ServiceError::invalid_field("cursor", "the cursor is not one of this list"))
}

fn field(name: &str, detail: String) -> FieldProblem {
    FieldProblem { field: name.to_owned(), detail }
}

fn too_long(error: TooLong) -> ServiceError {
    ServiceError::internal("an amount has too many digits", error)
}

#[cfg(test)]
mod tests {
    use wharf_shared::usage::Measured;

    use super::*;

    #[test]
    fn what_cannot_be_measured_is_no_flow_and_reserved_is_limit_times_time() {
        let point = MetricsPoint {
            container: "a".repeat(64).parse().expect("an id"),
            at: Timestamp(0),
            cpu_millis: Measured::Value(250),
            memory_working_set_bytes: Measured::Value(1),
            memory_current_bytes: Measured::Unreadable(5),
            memory_limit_bytes: None,
            network_receive_bytes_per_s: Measured::NotMeasurable,
            network_transmit_bytes_per_s: Measured::NotMeasurable,
            io_read_bytes_per_s: Measured::NotMeasurable,
            io_write_bytes_per_s: Measured::NotMeasurable,
            pids: Measured::Value(1),
            strain: None,
            cost_per_hour: Decimal::zero(),
            currency: String::new(),
        };
        let limits = ReadingLimits { cpu_millis: Some(500), memory_bytes: None };
        let seen: Vec<_> = flows(&point, limits, &[(Meter::NetworkCrossOut, 9)])
            .iter()
            .map(|flow| (flow.meter, flow.quantity))
            .collect();
        // Half a CPU for a second is half a second of CPU.
        let expected = [
            (Meter::CpuUsed, 250_000_000),
            (Meter::CpuReserved, 500_000_000),
            (Meter::ContainerTime, 1_000_000_000),
            (Meter::NetworkCrossOut, 9),
        ];
        assert_eq!(seen, expected);
    }
}
