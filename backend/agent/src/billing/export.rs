//! Exports: hours of usage, or whole statements, as a file.
//!
//! A file is first written whole into an unnamed one, read in one transaction, and then sent: a slow download
//! holds none of the store's few readers, and a failure is a problem and not a file that ends in the middle.
//! Rows are made into bytes by a thread of their own while the next ones are read and rated; what is between
//! the two is a few hours of one tenant, so memory does not grow with the period.
//!
//! What may still change is given only to who asks for it: hours that have not ended or that a host has not
//! reported, and statements without a number. The rows of an issued one are rated again, and are refused if
//! they are not what it says any more.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufWriter, Seek as _};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use wharf_billing::amount::Amount;
use wharf_billing::export::{ExportError, ExportWriter};
use wharf_billing::focus::OnBill;
use wharf_billing::focus::metadata::{Metadata, Period};
use wharf_billing::parquet::BadParquet;
use wharf_billing::rating::{RatedRow, period};
use wharf_billing::statement::CreditLeft;
use wharf_shared::id::TenantId;
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_shared::statement::{StatementKind, StatementView};
use wharf_shared::time::{DAY_US, HOUR_US, Timestamp};
use wharf_shared::usage::ExportFormat;
use wharf_store::pagination::PageRequest;
use wharf_store::usage::{self, UsageQuery};
use wharf_store::{Scope, Tx, statements};

use super::rated::{RatedHour, RatedStream, Terms};
use super::statements::{StatementId, credits_left, issued_as, parse_month};
use super::{Billing, UsageFilter, read_terms, too_long};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

/// Tenants' hours that wait to be written.
const HOURS_AHEAD: usize = 2;
/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 18;

/// What is to be exported.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExportFilter {
    /// Hours of usage; with the end of the last whole hour where it has none.
    pub(crate) usage: UsageFilter,
    /// Instead of hours: this statement, by number or by tenant and month.
    pub(crate) statement: Option<String>,
    /// Instead of hours: every statement of this month.
    pub(crate) month: Option<String>,
    /// Also if it may still change.
    pub(crate) is_provisional_wanted: bool,
}

/// A file that is whole.
#[derive(Debug)]
pub(crate) struct Export {
    /// To be read from its begin.
    pub(crate) file: std::fs::File,
    /// Its length.
    pub(crate) length_bytes: u64,
    /// Whether what is in it may still change.
    pub(crate) is_provisional: bool,
    /// To be kept as long as the file is: so few of them are on the disk at once.
    pub(crate) turn: OwnedSemaphorePermit,
}

/// What was chosen.
struct Choice {
    period: Period,
    rows: Rows,
}

enum Rows {
    Hours(Scope, UsageQuery),
    Statements(Vec<Bill>),
}

/// The rows of one statement.
struct Bill {
    tenant: TenantId,
    period: (Timestamp, Timestamp),
    issued: Option<StatementView>,
}

/// Rows of one tenant on their way to the file.
struct Batch {
    rows: Vec<RatedRow>,
    invoice: Option<Arc<str>>,
}

/// Where rated rows go to; those who send find out that the writer has failed by not getting rid of them.
#[derive(Clone)]
pub(super) struct Sink {
    to: mpsc::Sender<Batch>,
    invoice: Option<Arc<str>>,
}

/// The writer has ended, and says itself why.
#[derive(Debug, thiserror::Error)]
#[error("the file is not written any more")]
struct Ended;

impl Sink {
    pub(super) async fn send(&self, rows: Vec<RatedRow>) -> Result<()> {
        let batch = Batch { rows, invoice: self.invoice.clone() };
        self.to
            .send(batch)
            .await
            .map_err(|_closed| ServiceError::internal("an export was not written", Ended))
    }

    fn on(&self, invoice: Option<&str>) -> Self {
        Self { to: self.to.clone(), invoice: invoice.map(Arc::from) }
    }
}

impl Billing {
    /// Writes an export.
    pub(crate) async fn export(
        &self,
        ctx: &Ctx,
        filter: &ExportFilter,
        format: ExportFormat,
    ) -> Result<Export> {
        let turn = Arc::clone(&self.0.exports).try_acquire_owned().map_err(|error| {
            ServiceError::new(ProblemKind::RateLimited, "other exports are being written or sent; try again")
                .because(error)
        })?;
        let mut tx = self.0.db.read().await?;
        let Choice { period, rows } = self.choose(&mut tx, ctx, filter).await?;
        if format == ExportFormat::Jsonl && matches!(rows, Rows::Statements(_)) {
            let detail = "JSON lines are of usage only; a statement's rows are written as csv or parquet";
            return Err(ServiceError::invalid_field("format", detail));
        }
        let terms = read_terms(&mut tx).await?;
        let file = unnamed_file(&self.0.state_dir).map_err(|error| unwritten(error.into()))?;
        let (to, mut from) = mpsc::channel::<Batch>(HOURS_AHEAD);
        let inner = Arc::clone(&self.0);
        let writing = tokio::task::spawn_blocking(move || -> Result<std::fs::File, ExportError> {
            let out = BufWriter::with_capacity(BUFFER_BYTES, file);
            let mut writer = ExportWriter::new(format, out, period, &inner.context)?;
            while let Some(Batch { rows, invoice }) = from.blocking_recv() {
                let bill = OnBill { invoice: invoice.as_deref(), ..OnBill::default() };
                rows.iter().try_for_each(|row| writer.row(row, bill))?;
            }
            writer.finish()?.into_inner().map_err(|error| error.into_error().into())
        });
        let read = self.send_rows(&mut tx, &terms, rows, Sink { to, invoice: None }).await;
        drop(tx);
        // If both have failed, the writer first.
        let written = writing.await.map_err(|error| ServiceError::internal("an export broke off", error))?;
        let mut file = written.map_err(unwritten)?;
        read?;
        let measured = file.rewind().and_then(|()| file.metadata());
        let length_bytes = measured.map_err(|error| unwritten(error.into()))?.len();
        Ok(Export { file, length_bytes, is_provisional: period.is_provisional, turn })
    }

    /// What an export says about itself.
    pub(crate) async fn export_metadata(&self, ctx: &Ctx, filter: &ExportFilter) -> Result<Metadata> {
        let mut tx = self.0.db.read().await?;
        Ok(Metadata::new(self.choose(&mut tx, ctx, filter).await?.period))
    }

    /// Takes the sink, so that the writer sees the end.
    async fn send_rows(&self, tx: &mut Tx, terms: &Terms, rows: Rows, sink: Sink) -> Result<()> {
        match rows {
            Rows::Hours(scope, query) => send_hours(tx, terms, scope, query, &sink).await,
            Rows::Statements(bills) => {
                for bill in bills {
                    self.send_statement(tx, terms, &bill, &sink).await?;
                }
                Ok(())
            }
        }
    }

    async fn send_statement(&self, tx: &mut Tx, terms: &Terms, bill: &Bill, sink: &Sink) -> Result<()> {
        let sink = sink.on(bill.issued.as_ref().map(|issued| issued.id.as_str()));
        let credits = if let Some(issued) = &bill.issued {
            used_by(tx, &issued.id).await?
        } else {
            let used = statements::used_credits(tx, &bill.tenant).await?;
            credits_left(terms, &bill.tenant, bill.period, &used)?
        };
        let builder = self.rated_period(tx, terms, &bill.tenant, bill.period, Some(&sink)).await?;
        let made = builder.finish(self.0.context.provider_name.clone(), credits).map_err(too_long)?;
        if let Some(issued) = &bill.issued
            && (&issued.evidence_hash, &issued.total) != (&made.view.evidence_hash, &made.view.total)
        {
            return Err(ServiceError::conflict(format!(
                "usage has changed since {} was issued, so its rows cannot be rated again; void it and issue \
                 the month anew",
                issued.id
            )));
        }
        sink.send(made.rows).await
    }

    /// What is asked for; refused if it may change and that is not wanted.
    async fn choose(&self, tx: &mut Tx, ctx: &Ctx, filter: &ExportFilter) -> Result<Choice> {
        ctx.require(Permission::TenantRead)?;
        let UsageFilter { tenant, container, from, to } = &filter.usage;
        let has_hours = from.is_some() || to.is_some() || container.is_some();
        let (rows, (from, to)) = match (&filter.statement, &filter.month) {
            (None, None) => {
                let now = self.0.clock.now().hour_start();
                let end = if filter.is_provisional_wanted { now.0.saturating_add(HOUR_US) } else { now.0 };
                let to = to.unwrap_or(Timestamp(end));
                let from = from.unwrap_or(Timestamp(to.0.saturating_sub(DAY_US)));
                let usage = UsageFilter { from: Some(from), to: Some(to), ..filter.usage.clone() };
                let (scope, query) = self.period(tx, ctx, &usage).await?;
                (Rows::Hours(scope, query), (from, to))
            }
            (Some(statement), None) if !has_hours && tenant.is_none() => {
                let bill = self.find_bill(tx, ctx, statement).await?;
                let period = bill.period;
                (Rows::Statements(vec![bill]), period)
            }
            (None, Some(month)) if !has_hours => {
                let period = parse_month(month)?;
                let scope = ctx.scope_of(tenant.as_ref())?;
                (Rows::Statements(bills_of(tx, &scope, period).await?), period)
            }
            _ => {
                let detail = "an export is of hours (from, to, tenant, container), of one statement, or of a \
                              period's statements (with tenant: of one tenant); choose one";
                return Err(ServiceError::invalid_field("statement", detail));
            }
        };
        let unsure = match &rows {
            Rows::Statements(bills) => bills.iter().find(|bill| bill.issued.is_none()).map(|bill| {
                let month = from.to_string();
                let month = month.get(..7).unwrap_or(&month);
                format!("the statement {}.{month} has not been issued; issue it first", bill.tenant)
            }),
            Rows::Hours(..) => None,
        };
        let unsure = match unsure {
            // What was issued does not change, whatever hosts have to say.
            None if matches!(&rows, Rows::Statements(bills) if !bills.is_empty()) => None,
            None => self.unsure_hours(tx, to).await?,
            some => some,
        };
        match unsure {
            Some(why) if !filter.is_provisional_wanted => Err(ServiceError::conflict(format!(
                "{why}; with provisional=true it is exported as it is now"
            ))),
            unsure => Ok(Choice { period: Period { from, to, is_provisional: unsure.is_some() }, rows }),
        }
    }

    /// Why hours before this one may still change.
    async fn unsure_hours(&self, tx: &mut Tx, to: Timestamp) -> Result<Option<String>> {
        let now = self.0.clock.now();
        if now < to {
            return Ok(Some(format!("hours are provisional until they are over, the last one at {to}")));
        }
        Ok(usage::host_behind(tx, to).await?.map(|host| {
            format!(
                "hours are provisional: host {host} has not reported since {to}; see that its agent runs, or \
                 try again in a minute"
            )
        }))
    }

    async fn find_bill(&self, tx: &mut Tx, ctx: &Ctx, id: &str) -> Result<Bill> {
        match StatementId::parse(id)? {
            StatementId::Number(number) => {
                let issued = issued_as(&statements::get(tx, &ctx.scope()?, &number).await?)?;
                if issued.kind == StatementKind::CreditNote {
                    return Err(ServiceError::conflict(format!(
                        "{number} is a credit note, which has no hours of its own; export the statement that \
                         it takes back"
                    )));
                }
                Ok(Bill {
                    tenant: issued.tenant.clone(),
                    period: (issued.from, issued.to),
                    issued: Some(issued),
                })
            }
            StatementId::Live(tenant, period) => {
                if !ctx.scope()?.covers(&tenant) {
                    return Err(ServiceError::not_found("statement", id));
                }
                bill_of(tx, tenant, period).await
            }
        }
    }
}

async fn bill_of(tx: &mut Tx, tenant: TenantId, period: (Timestamp, Timestamp)) -> Result<Bill> {
    let issued = statements::of_period(tx, &tenant, period.0).await?;
    let issued = issued.as_ref().map(issued_as).transpose()?;
    Ok(Bill { tenant, period, issued })
}

/// The statement of every tenant that has used something in a period.
async fn bills_of(tx: &mut Tx, scope: &Scope, period: (Timestamp, Timestamp)) -> Result<Vec<Bill>> {
    let mut bills = Vec::new();
    let mut page = PageRequest::default();
    loop {
        let tenants = usage::tenants(tx, scope, period, &page).await?;
        for (tenant, _) in tenants.items {
            bills.push(bill_of(tx, tenant, period).await?);
        }
        if tenants.next_cursor.is_none() {
            return Ok(bills);
        }
        page.cursor = tenants.next_cursor;
    }
}

/// The credits that a statement has used, as if no more of them had been there.
async fn used_by(tx: &mut Tx, number: &str) -> Result<Vec<CreditLeft>> {
    let used = statements::credits_of(tx, number).await?;
    let credit = |used: statements::UsedCredit| {
        let left: Amount = used
            .amount
            .parse()
            .map_err(|error| ServiceError::internal("a used credit's amount cannot be read", error))?;
        Ok(CreditLeft { contract: used.contract, name: used.name, left })
    };
    used.into_iter().map(credit).collect()
}

/// Sends rows hour by hour; those of a month that has been issued with the number.
async fn send_hours(tx: &mut Tx, terms: &Terms, scope: Scope, query: UsageQuery, sink: &Sink) -> Result<()> {
    let mut stream = RatedStream::open(tx, scope, query, terms).await?;
    let mut on: BTreeMap<(TenantId, Timestamp), Sink> = BTreeMap::new();
    while let Some(RatedHour { hour, tenant, rows }) = stream.next(tx).await? {
        let key = (tenant, period(hour).0);
        if !on.contains_key(&key) {
            let of = sink.on(statements::number_of_period(tx, &key.0, key.1).await?.as_deref());
            on.insert(key.clone(), of);
        }
        on.get(&key).unwrap_or(sink).send(rows).await?;
    }
    Ok(())
}

/// A file that is gone as soon as nobody reads it (open(2), `O_TMPFILE`).
fn unnamed_file(dir: &Path) -> std::io::Result<std::fs::File> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let file = nix::fcntl::open(dir, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok(std::fs::File::from(file))
}

fn unwritten(error: ExportError) -> ServiceError {
    if let ExportError::Parquet(too_long @ BadParquet::TooLong { .. }) = error {
        return ServiceError::invalid_field("format", too_long.to_string());
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error_now) = cause {
        let io = error_now.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull) {
            return ServiceError::new(ProblemKind::InsufficientStorage, "the disk is full; free some space")
                .because(error);
        }
        cause = error_now.source();
    }
    ServiceError::internal("the export could not be written", error)
}
