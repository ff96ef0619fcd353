//! Price books, and usage with what it costs.
//!
//! All arithmetic is the billing crate's; here is who may ask, where the rows come from, and the
//! book that prices the live views.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use wharf_billing::focus::{self, FocusContext};
use wharf_billing::price::{PriceBooks, problems};
use wharf_billing::rating::{Flow, Totals, rate_hour, rate_per_hour};
use wharf_billing::jsonl;
use wharf_shared::billing::{PriceBookSpec, PriceBookView};
use wharf_shared::decimal::Decimal;
use wharf_shared::id::{ContainerId, PriceBookId, TenantId};
use wharf_shared::live::MetricsPoint;
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::reading::ReadingLimits;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{ExportFormat, Meter, UsageRow};
use wharf_store::pagination::PageRequest;
use wharf_store::usage::{UsageQuery, UsageStream};
use wharf_store::{Db, Scope, Tx, prices};

use crate::clock::Clock;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};
use crate::events::{Change, EventBus};
use crate::metering::Pricer;

/// Nanoseconds in a second.
const SECOND_NS: u64 = 1_000_000_000;
/// Rows of usage that are shown at once; an export has no bound.
const ROWS_MAX: usize = 2_000;

/// Which usage.
#[derive(Debug, Clone)]
pub(crate) struct Period {
    pub(crate) tenant: Option<TenantId>,
    pub(crate) container: Option<ContainerId>,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// The service.
#[derive(Clone)]
pub(crate) struct Billing {
    db: Db,
    clock: Arc<dyn Clock>,
    events: EventBus,
    books: Arc<RwLock<Arc<PriceBooks>>>,
}

impl Billing {
    pub(crate) async fn new(db: Db, clock: Arc<dyn Clock>, events: EventBus) -> Result<Self> {
        let billing = Self { db, clock, events, books: Arc::default() };
        billing.reload().await?;
        Ok(billing)
    }

    async fn reload(&self) -> Result<()> {
        let views = prices::all(&mut self.db.read().await?).await?;
        let books = PriceBooks::new(&views)
            .map_err(|error| ServiceError::internal("a stored price book cannot be used", error))?;
        *self.books.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(books);
        Ok(())
    }

    fn books(&self) -> Arc<PriceBooks> {
        Arc::clone(&self.books.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Prices live views by the book in force now.
    pub(crate) fn pricer(&self) -> Box<Pricer> {
        let billing = self.clone();
        Box::new(move |point, limits| {
            let books = billing.books();
            let Some(book) = books.at(billing.clock.now()) else {
                return (Decimal::zero(), books.currency().to_owned());
            };
            let cost = rate_per_hour(book, &flows(point, limits));
            (cost.to_string().parse().unwrap_or_else(|_| Decimal::zero()), book.currency.clone())
        })
    }

    // ---- price books ----

    pub(crate) async fn list_books(&self, ctx: &Ctx, page: &PageRequest) -> Result<Page<PriceBookView>> {
        ctx.require(Permission::TenantRead)?;
        Ok(prices::list(&mut self.db.read().await?, page).await?)
    }

    pub(crate) async fn create_book(&self, ctx: &Ctx, spec: PriceBookSpec) -> Result<PriceBookView> {
        ctx.require(Permission::PriceManage)?;
        let books = self.books();
        let other = books.at(Timestamp(i64::MAX)).map(|book| book.currency.as_str());
        let found = problems(&spec, other);
        if !found.is_empty() {
            return Err(ServiceError::invalid(found));
        }
        if spec.effective_from < self.clock.now().hour_start() {
            return Err(ServiceError::invalid_field(
                "effective_from",
                "prices cannot change for hours that are over; begin with the present hour or later",
            ));
        }
        let id: PriceBookId = crate::ids::new("prb_")?;
        let mut tx = self.db.begin().await?;
        let view = prices::insert(&mut tx, &id, &spec, self.clock.now(), &ctx.actor).await?;
        let change = Change {
            kind: "price_book.created",
            tenant: None,
            subject: id.to_string(),
            subject_name: spec.effective_from.to_string(),
            detail: BTreeMap::new(),
        };
        self.events.changed(&mut tx, ctx, "price_book.create", change).await?;
        tx.commit().await?;
        self.events.publish();
        self.reload().await?;
        Ok(view)
    }

    // ---- usage ----

    async fn rows(&self, ctx: &Ctx, period: &Period) -> Result<Rows> {
        ctx.require(Permission::TenantRead)?;
        if period.from >= period.to {
            return Err(ServiceError::invalid_field("to", "the period ends before it begins"));
        }
        let query = UsageQuery { from: period.from, to: period.to, container: period.container.clone() };
        let scope: Scope = ctx.scope_of(period.tenant.as_ref())?;
        Ok(Rows { tx: self.db.read().await?, stream: UsageStream::new(scope, query), books: self.books() })
    }

    /// Usage of a period, hour by hour.
    pub(crate) async fn usage(&self, ctx: &Ctx, period: &Period) -> Result<Page<UsageRow>> {
        let mut rows = self.rows(ctx, period).await?;
        let mut items = Vec::new();
        while items.len() < ROWS_MAX {
            let rated = rows.next().await?;
            if rated.is_empty() {
                return Ok(Page { items, next_cursor: None });
            }
            for row in rated {
                let row = row.to_wire();
                items.push(row.map_err(|error| ServiceError::internal("an amount is too long", error))?);
            }
        }
        Err(ServiceError::invalid_field(
            "from",
            format!("the period has more than {ROWS_MAX} rows; make it shorter or take the export"),
        ))
    }

    /// The same as a file, row by row, as one moment sees it.
    pub(crate) async fn export(
        &self,
        ctx: &Ctx,
        period: &Period,
        format: ExportFormat,
        context: FocusContext,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let rows = self.rows(ctx, period).await?;
        let state = Export { rows, format, context, totals: Totals::default(), began: false, ended: false };
        Ok(stream::try_unfold(state, |mut state| async move {
            let chunk = state.next().await?;
            Ok(chunk.map(|chunk| (chunk, state)))
        }))
    }
}

/// What a point's rates are in a second.
fn flows(point: &MetricsPoint, limits: ReadingLimits) -> Vec<Flow> {
    let second = u128::from(SECOND_NS);
    let measured = [
        (Meter::CpuUsed, point.cpu_millis.value().map(|millis| u128::from(millis) * 1_000_000)),
        (Meter::MemoryUsed, point.memory_current_bytes.value().map(|bytes| u128::from(bytes) * second)),
        (Meter::NetworkIn, point.network_receive_bytes_per_s.value().map(u128::from)),
        (Meter::NetworkOut, point.network_transmit_bytes_per_s.value().map(u128::from)),
        (Meter::BlockRead, point.io_read_bytes_per_s.value().map(u128::from)),
        (Meter::BlockWrite, point.io_write_bytes_per_s.value().map(u128::from)),
        (Meter::CpuReserved, limits.cpu_millis.map(|millis| u128::from(millis) * second)),
        (Meter::MemoryReserved, limits.memory_bytes.map(|bytes| u128::from(bytes) * second)),
    ];
    measured
        .into_iter()
        .filter_map(|(meter, quantity)| Some(Flow { meter, quantity: quantity?, duration_ns: SECOND_NS }))
        .collect()
}

struct Rows {
    /// One moment throughout.
    tx: Tx,
    stream: UsageStream,
    books: Arc<PriceBooks>,
}

impl Rows {
    /// The rated rows of the next tenant and hour; empty at the end.
    async fn next(&mut self) -> Result<Vec<wharf_billing::rating::RatedRow>> {
        loop {
            let rows = self.stream.next(&mut self.tx).await?;
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            let rated = rate_hour(&self.books, rows);
            if !rated.is_empty() {
                return Ok(rated);
            }
        }
    }
}

struct Export {
    rows: Rows,
    format: ExportFormat,
    context: FocusContext,
    totals: Totals,
    began: bool,
    ended: bool,
}

impl Export {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        let mut text = String::new();
        if !std::mem::replace(&mut self.began, true) && self.format == ExportFormat::Csv {
            text.push_str(&focus::header());
        }
        let rated = self.rows.next().await?;
        self.ended = rated.is_empty();
        let failed = |error| ServiceError::internal("a row could not be written", error);
        for row in &rated {
            match self.format {
                ExportFormat::Csv => text.push_str(&focus::line(row, &self.context)),
                ExportFormat::Jsonl => text.push_str(&jsonl::line(row).map_err(failed)?),
            }
            self.totals.add(row);
        }
        if self.ended && self.format == ExportFormat::Jsonl {
            text.push_str(&jsonl::totals(&self.totals).map_err(failed)?);
        }
        Ok(Some(Bytes::from(text)))
    }
}

#[cfg(test)]
mod tests {
    use wharf_shared::usage::Measured;

    use super::*;

    #[test]
    fn what_cannot_be_measured_is_no_flow() {
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
            cost_per_hour: Decimal::zero(),
            currency: String::new(),
        };
        let limits = ReadingLimits { cpu_millis: Some(500), memory_bytes: None };
        let flows = flows(&point, limits);
        let meters: Vec<Meter> = flows.iter().map(|flow| flow.meter).collect();
        assert_eq!(meters, [Meter::CpuUsed, Meter::CpuReserved]);
        assert_eq!(flows[0].quantity, 250_000_000);
    }
}
