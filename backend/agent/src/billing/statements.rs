//! Statements: computed until they are issued, and from then on read as they were issued.
//!
//! What is issued is computed from one moment of the store, before the transaction that gives it its
//! number: the store has one writer, and a big tenant's month takes a while. What else may have been issued
//! in between is looked at in that transaction, and whether usage came in: then it is computed anew. What comes
//! after it is late, and is billed in the next period without a statement ([`wharf_store::late`]).

use std::collections::BTreeMap;

use wharf_billing::amount::Amount;
use wharf_billing::rating::{period, period_of};
use wharf_billing::statement::{self, CreditLeft, Made, StatementBuilder};
use wharf_shared::decimal::Decimal;
use wharf_shared::id::TenantId;
use wharf_shared::ledger::LedgerView;
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::statement::{
    EndedHost, IssueSpec, LateUsage, LedgerHead, StatementKind, StatementStatus, StatementView, VoidSpec,
};
use wharf_shared::time::{DAY_US, HOUR_US, Timestamp};
use wharf_shared::usage::Meter;
use wharf_store::hosts::{self, HostReport};
use wharf_store::late::{self, Late};
use wharf_store::pagination::PageRequest;
use wharf_store::statements::{self, Mark, StatementRecord, UsedCredit};
use wharf_store::usage::{self, UsageQuery};
use wharf_store::{Scope, StoreError, Tx, tenants};

use super::export::Sink;
use super::rated::{RatedHour, RatedStream, Terms};
use super::{Billing, read_terms, too_long};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError, chain};
use crate::events::Change;
use crate::metering::Metering;

/// Statements on a page that have to be computed, when the client does not say, and at most.
const LIVE_LIMIT: (u32, u32) = (20, 100);
/// How often a statement is computed anew because usage came in meanwhile.
const TRIES: u32 = 5;
/// Characters of a reason.
const REASON_MAX: usize = 300;

/// Which statement is meant: by number, or by tenant and period while it has none.
pub(super) enum StatementId {
    Number(String),
    Live(TenantId, (Timestamp, Timestamp)),
}

impl StatementId {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let live = || {
            let (tenant, month) = text.split_once('.')?;
            Some(Self::Live(tenant.parse().ok()?, period_of(month)?))
        };
        let number = || {
            let digits = text.strip_prefix("S-").or_else(|| text.strip_prefix("C-"))?;
            let is_number =
                (6..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| Self::Number(text.to_owned()))
        };
        live().or_else(number).ok_or_else(|| ServiceError::not_found("statement", text))
    }
}

/// A statement that may be issued if nothing changes until then.
#[derive(Debug)]
pub(crate) struct Computed {
    made: Made,
    terms: Terms,
    used: Vec<UsedCredit>,
    /// Of the period's usage.
    version: i64,
}

impl Billing {
    /// Of a period, every tenant's statement, issued or not; without one, what was issued, the last first.
    pub(crate) async fn statements(
        &self,
        ctx: &Ctx,
        tenant: Option<&TenantId>,
        month: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<StatementView>> {
        ctx.require(Permission::TenantRead)?;
        let scope = ctx.scope_of(tenant)?;
        let now = self.0.clock.now();
        let Some(month) = month else {
            let mut tx = self.0.db.read().await?;
            let page = statements::list(&mut tx, &scope, None, page).await?;
            let items = page
                .items
                .iter()
                .map(|record| shown(record, now).unwrap_or_else(|error| damaged(record, &error)));
            return Ok(Page { items: items.collect(), next_cursor: page.next_cursor });
        };
        let period = parse_month(month)?;
        let _turn = self.turn().await?;
        let mut tx = self.0.db.read().await?;
        let limit = page.limit.unwrap_or(LIVE_LIMIT.0).clamp(1, LIVE_LIMIT.1);
        let page = PageRequest { cursor: page.cursor.clone(), limit: Some(limit) };
        let Page { items: tenants, next_cursor } = usage::tenants(&mut tx, &scope, period, &page).await?;
        let mut items = Vec::with_capacity(tenants.len());
        for (tenant, _) in &tenants {
            items.push(match statements::of_period(&mut tx, tenant, period.0).await? {
                Some(record) => shown(&record, now).unwrap_or_else(|error| damaged(&record, &error)),
                None => self.live(&mut tx, tenant, period).await?,
            });
        }
        Ok(Page { items, next_cursor })
    }

    /// One statement or credit note.
    pub(crate) async fn statement(&self, ctx: &Ctx, id: &str) -> Result<StatementView> {
        ctx.require(Permission::TenantRead)?;
        // What was issued is only read.
        let _turn = match StatementId::parse(id)? {
            StatementId::Number(_) => None,
            StatementId::Live(..) => Some(self.turn().await?),
        };
        let mut tx = self.0.db.read().await?;
        self.find_statement(&mut tx, ctx, id).await
    }

    pub(super) async fn find_statement(&self, tx: &mut Tx, ctx: &Ctx, id: &str) -> Result<StatementView> {
        match StatementId::parse(id)? {
            StatementId::Number(number) => {
                shown(&statements::get(tx, &ctx.scope()?, &number).await?, self.0.clock.now())
            }
            StatementId::Live(tenant, period) => {
                if !ctx.scope()?.covers(&tenant) {
                    return Err(ServiceError::not_found("statement", id));
                }
                self.current(tx, &tenant, period).await
            }
        }
    }

    /// Gives a draft its number. From then on it never changes.
    pub(crate) async fn issue_statement(
        &self,
        ctx: &Ctx,
        id: &str,
        spec: &IssueSpec,
        metering: &Metering,
    ) -> Result<StatementView> {
        ctx.require(Permission::PriceManage)?;
        let StatementId::Live(tenant, period) = StatementId::parse(id)? else {
            return Err(ServiceError::conflict(format!("{id} has been issued")));
        };
        if let Some(reason) = &spec.override_reason {
            check_reason("override_reason", reason)?;
        }
        for _ in 0..TRIES {
            let computed = self.compute(&tenant, period, spec).await?;
            // After the hours were read: everything in them is in the ledger up to here.
            let ledger = metering.ledger().await?;
            if let Some(issued) = self.issue_computed(ctx, spec, computed, ledger).await? {
                return Ok(issued);
            }
        }
        Err(ServiceError::conflict("usage of the period came in each time it was computed; try again"))
    }

    /// What would be issued, at one moment of the store.
    pub(crate) async fn compute(
        &self,
        tenant: &TenantId,
        period: (Timestamp, Timestamp),
        spec: &IssueSpec,
    ) -> Result<Computed> {
        let _turn = self.turn().await?;
        let mut tx = self.0.db.read().await?;
        self.refuse_early(&mut tx, period, spec, self.0.clock.now()).await?;
        let terms = read_terms(&mut tx).await?;
        let used = statements::used_credits(&mut tx, tenant).await?;
        let version = late::version(&mut tx, tenant, period.0).await?;
        let made = self.make(&mut tx, &terms, tenant, period, &used).await?;
        if made.view.lines.is_empty() {
            let detail = "the tenant has used nothing in this period; there is nothing to issue";
            return Err(ServiceError::conflict(detail));
        }
        Ok(Computed { made, terms, used, version })
    }

    /// Issues what was computed; `None`, and nothing is issued, if usage came in meanwhile.
    pub(crate) async fn issue_computed(
        &self,
        ctx: &Ctx,
        spec: &IssueSpec,
        Computed { made, terms, used, version }: Computed,
        ledger: LedgerView,
    ) -> Result<Option<StatementView>> {
        let now = self.0.clock.now();
        let (tenant, from, to) = (&made.view.tenant, made.view.from, made.view.to);
        let mut tx = self.0.db.begin().await?;
        // From here on nobody else issues.
        let number = statements::next_number(&mut tx, StatementKind::Statement).await?;
        if let Some(issued) = statements::number_of_period(&mut tx, tenant, from).await? {
            let detail = format!("the period's statement {issued} has been issued; void it first");
            return Err(ServiceError::conflict(detail));
        }
        // And nobody adds to the period.
        if late::hold(&mut tx, tenant, from).await? != version {
            return Ok(None);
        }
        if statements::used_credits(&mut tx, tenant).await? != used {
            return Err(ServiceError::conflict(
                "another statement has just used the tenant's credits; try again",
            ));
        }
        let contract = terms.contracts.at(tenant, Timestamp(to.0.saturating_sub(HOUR_US)));
        let days = contract.and_then(|contract| contract.payment_days).unwrap_or(self.0.payment_days);
        let mut view = StatementView {
            id: number,
            status: StatementStatus::Issued,
            override_reason: spec.override_reason.clone(),
            ledger_head: Some(LedgerHead { host: ledger.host, seq: ledger.head_seq, hash: ledger.head_hash }),
            issued_at: Some(now),
            issued_by: Some(ctx.actor.clone()),
            due_at: Some(Timestamp(now.0.saturating_add(i64::from(days).saturating_mul(DAY_US)))),
            ..made.view
        };
        view.content_hash = Some(statement::content_hash(&view).map_err(unhashed)?);
        let credits: Vec<_> = made
            .credits
            .into_iter()
            .map(|((contract, name), amount)| UsedCredit { contract, name, amount: amount.to_string() })
            .collect();
        statements::insert(&mut tx, &view, &credits).await?;
        self.0.events.changed(&mut tx, ctx, "statement.issue", change("statement.issued", &view)).await?;
        tx.commit().await?;
        self.0.events.publish();
        Ok(Some(view))
    }

    /// Notes that a statement was paid.
    pub(crate) async fn pay_statement(&self, ctx: &Ctx, id: &str) -> Result<StatementView> {
        ctx.require(Permission::PriceManage)?;
        let now = self.0.clock.now();
        let mut tx = self.0.db.begin().await?;
        let mut record = issued(&mut tx, id).await?;
        if record.paid_at.is_some()
            || !statements::mark(&mut tx, &record.number, Mark::Paid, now, &ctx.actor, "").await?
        {
            return Err(ServiceError::conflict("the statement has been paid"));
        }
        record.paid_at = Some(now);
        let view = shown(&record, now)?;
        self.0.events.changed(&mut tx, ctx, "statement.pay", change("statement.paid", &view)).await?;
        tx.commit().await?;
        self.0.events.publish();
        Ok(view)
    }

    /// Takes a statement back, by a credit note with a number of its own, which is returned.
    pub(crate) async fn void_statement(&self, ctx: &Ctx, id: &str, spec: VoidSpec) -> Result<StatementView> {
        ctx.require(Permission::PriceManage)?;
        check_reason("reason", &spec.reason)?;
        let now = self.0.clock.now();
        let mut tx = self.0.db.begin().await?;
        let number = statements::next_number(&mut tx, StatementKind::CreditNote).await?;
        let record = issued(&mut tx, id).await?;
        let reversed = statement::reversal(&issued_as(&record)?, spec.reason).map_err(too_long)?;
        let mut note = StatementView {
            id: number,
            status: StatementStatus::Issued,
            issued_at: Some(now),
            issued_by: Some(ctx.actor.clone()),
            ..reversed
        };
        note.content_hash = Some(statement::content_hash(&note).map_err(unhashed)?);
        statements::insert(&mut tx, &note, &[]).await?;
        if !statements::mark(&mut tx, &record.number, Mark::Voided, now, &ctx.actor, &note.id).await? {
            return Err(ServiceError::conflict("the statement has been voided"));
        }
        self.0.events.changed(&mut tx, ctx, "statement.void", change("statement.voided", &note)).await?;
        tx.commit().await?;
        self.0.events.publish();
        Ok(note)
    }

    /// The statement of a tenant's period: as it was issued, or as it would be now.
    async fn current(
        &self,
        tx: &mut Tx,
        tenant: &TenantId,
        period: (Timestamp, Timestamp),
    ) -> Result<StatementView> {
        match statements::of_period(tx, tenant, period.0).await? {
            Some(record) => shown(&record, self.0.clock.now()),
            None => self.live(tx, tenant, period).await,
        }
    }

    /// The statement of a tenant's period as it would be now.
    async fn live(
        &self,
        tx: &mut Tx,
        tenant: &TenantId,
        period: (Timestamp, Timestamp),
    ) -> Result<StatementView> {
        let terms = read_terms(tx).await?;
        let used = statements::used_credits(tx, tenant).await?;
        let made = self.make(tx, &terms, tenant, period, &used).await?;
        let is_open = self.0.clock.now() < period.1;
        let status = if is_open { StatementStatus::Open } else { StatementStatus::Draft };
        Ok(StatementView { status, ..made.view })
    }

    /// Rates a tenant's whole period.
    async fn make(
        &self,
        tx: &mut Tx,
        terms: &Terms,
        tenant: &TenantId,
        period: (Timestamp, Timestamp),
        used: &[UsedCredit],
    ) -> Result<Made> {
        let builder = self.rated_period(tx, terms, tenant, period, None).await?;
        let credits = credits_left(terms, tenant, period, used)?;
        let mut made = builder.finish(self.0.context.provider_name.clone(), credits).map_err(too_long)?;
        made.view.late = late_usage(&late::list(tx, tenant, period).await?)?;
        let ended = hosts::ended(tx, period).await?.into_iter().filter_map(|ended| {
            let HostReport { host, reported_at, reason, .. } = ended;
            Some(EndedHost { host, reported_at: reported_at?, reason })
        });
        made.view.ended_hosts = ended.collect();
        Ok(made)
    }

    /// A statement in the making with all of the period's usage, whose rows go to the sink too.
    pub(super) async fn rated_period<'a>(
        &self,
        tx: &mut Tx,
        terms: &'a Terms,
        tenant: &TenantId,
        (from, to): (Timestamp, Timestamp),
        sink: Option<&Sink>,
    ) -> Result<StatementBuilder<'a>> {
        let name = match tenants::get(tx, tenant).await {
            Err(StoreError::NotFound(_)) => tenant.to_string(),
            found => found?.name,
        };
        let mut builder =
            StatementBuilder::new(&terms.books, &terms.contracts, tenant.clone(), name, (from, to));
        let query = UsageQuery { from, to, container: None };
        let mut stream = RatedStream::open(tx, Scope::Tenant(tenant.clone()), query, terms).await?;
        while let Some(RatedHour { rows, .. }) = stream.next(tx).await? {
            builder.add(&rows);
            if let Some(sink) = sink {
                sink.send(rows).await?;
            }
        }
        let minimums = stream.minimums(tenant);
        builder.add(&minimums);
        if let Some(sink) = sink {
            sink.send(minimums).await?;
        }
        Ok(builder)
    }

    /// Refuses to issue what may still change, unless somebody says why it is done all the same.
    async fn refuse_early(
        &self,
        tx: &mut Tx,
        (_, to): (Timestamp, Timestamp),
        spec: &IssueSpec,
        now: Timestamp,
    ) -> Result<()> {
        if now < to {
            return Err(ServiceError::conflict(format!("the period goes on until {to}")));
        }
        if spec.override_reason.is_some() {
            return Ok(());
        }
        let grace_end = Timestamp(to.0.saturating_add(i64::from(self.0.grace_hours).saturating_mul(HOUR_US)));
        if now < grace_end {
            return Err(ServiceError::conflict(format!(
                "late readings are waited for until {grace_end}; give an override_reason to issue it now"
            )));
        }
        if let Some(host) = usage::host_behind(tx, to).await? {
            return Err(ServiceError::conflict(format!(
                "hours are provisional: host {host} has not reported since the period's end; see that its agent \
                 runs, retire it if it never will, or give an override_reason"
            )));
        }
        Ok(())
    }
}

/// The period of a month such as `2026-01`.
pub(super) fn parse_month(text: &str) -> Result<(Timestamp, Timestamp)> {
    period_of(text).ok_or_else(|| ServiceError::invalid_field("period", "a month is written like 2026-01"))
}

/// What is left of a tenant's credits for a period, if `used` is what statements have used.
pub(super) fn credits_left(
    terms: &Terms,
    tenant: &TenantId,
    period: (Timestamp, Timestamp),
    used: &[UsedCredit],
) -> Result<Vec<CreditLeft>> {
    let mut spent = BTreeMap::new();
    for UsedCredit { contract, name, amount } in used {
        let amount: Amount = amount
            .parse()
            .map_err(|error| ServiceError::internal("a used credit's amount cannot be read", error))?;
        let sum = spent.entry((contract.clone(), name.clone())).or_insert_with(Amount::zero);
        *sum = sum.plus(&amount);
    }
    Ok(statement::credits_left(&terms.contracts, tenant, period, &spent))
}

/// A statement that was issued and can be paid or taken back.
async fn issued(tx: &mut Tx, id: &str) -> Result<StatementRecord> {
    let StatementId::Number(number) = StatementId::parse(id)? else {
        return Err(ServiceError::conflict("the statement has not been issued"));
    };
    let record = statements::get(tx, &Scope::All, &number).await?;
    if record.kind == StatementKind::CreditNote {
        return Err(ServiceError::conflict(format!(
            "{number} is a credit note, which is neither paid nor voided"
        )));
    }
    if let Some(note) = &record.voided_by {
        return Err(ServiceError::conflict(format!(
            "the statement was taken back by the credit note {note}"
        )));
    }
    Ok(record)
}

/// A stored document with where it stands now. One that is not what was issued is not shown.
fn shown(record: &StatementRecord, now: Timestamp) -> Result<StatementView> {
    let issued = issued_as(record)?;
    let is_late = issued.due_at.is_some_and(|due| due < now);
    let status = match (&record.voided_by, record.paid_at) {
        (Some(_), _) => StatementStatus::Voided,
        (None, Some(_)) => StatementStatus::Paid,
        (None, None) if is_late => StatementStatus::Overdue,
        (None, None) => StatementStatus::Issued,
    };
    let refers_to = record.voided_by.clone().or(issued.refers_to);
    Ok(StatementView { status, paid_at: record.paid_at, refers_to, ..issued })
}

/// A document as it was issued.
pub(super) fn issued_as(record: &StatementRecord) -> Result<StatementView> {
    record.issued().map_err(|error| {
        let what = format!("the stored statement {} is not what was issued", record.number);
        ServiceError::internal(&what, error)
    })
}

/// In a list one bad document does not hide the others: of it is shown what stands beside it.
fn damaged(record: &StatementRecord, error: &ServiceError) -> StatementView {
    tracing::error!(number = record.number, error = chain(error), "a stored statement is damaged");
    StatementView {
        id: record.number.clone(),
        kind: record.kind,
        status: StatementStatus::Damaged,
        provider: String::new(),
        tenant: record.tenant.clone(),
        tenant_name: record.tenant.to_string(),
        from: record.from,
        to: period(record.from).1,
        currency: String::new(),
        price_books: Vec::new(),
        contracts: Vec::new(),
        lines: Vec::new(),
        net: Decimal::zero(),
        tax: Decimal::zero(),
        total: Decimal::zero(),
        adjustment: Decimal::zero(),
        evidence_hash: String::new(),
        late: Vec::new(),
        ended_hosts: Vec::new(),
        ledger_head: None,
        override_reason: None,
        refers_to: record.voided_by.clone(),
        void_reason: None,
        issued_at: None,
        issued_by: None,
        due_at: None,
        paid_at: record.paid_at,
        content_hash: None,
    }
}

/// What of each meter came late after each statement.
fn late_usage(rows: &[Late]) -> Result<Vec<LateUsage>> {
    let mut sums: BTreeMap<(&str, Meter), Amount> = BTreeMap::new();
    // A tenant's whole cgroup holds its containers' use once more.
    for row in rows.iter().filter(|row| row.container.is_some()) {
        let [more, less] = [row.quantity, row.taken].map(|quantity| Amount::from_units(quantity, 0));
        let sum = sums.entry((&row.statement, row.meter)).or_insert_with(Amount::zero);
        *sum = sum.plus(&more).minus(&less);
    }
    let usage = sums.into_iter().map(|((statement, meter), quantity)| {
        Ok(LateUsage {
            statement: statement.to_owned(),
            meter,
            quantity: quantity.to_decimal().map_err(too_long)?,
            unit: meter.unit().to_owned(),
        })
    });
    usage.collect()
}

fn change(kind: &'static str, view: &StatementView) -> Change {
    Change {
        kind,
        tenant: Some(view.tenant.clone()),
        subject: view.id.clone(),
        subject_name: period_name(view.from),
        detail: [
            ("total".to_owned(), view.total.to_string()),
            ("currency".to_owned(), view.currency.clone()),
        ]
        .into(),
    }
}

fn period_name(from: Timestamp) -> String {
    let (year, month, _) = period(from).0.date();
    format!("{year:04}-{month:02}")
}

fn check_reason(name: &str, reason: &str) -> Result<()> {
    let length = reason.chars().count();
    if reason.trim() == reason && (1..=REASON_MAX).contains(&length) && !reason.chars().any(char::is_control)
    {
        return Ok(());
    }
    let detail = format!("1 to {REASON_MAX} characters on one line, without blanks at its ends");
    Err(ServiceError::invalid_field(name, detail))
}

fn unhashed(error: serde_json::Error) -> ServiceError {
    ServiceError::internal("a statement could not be written", error)
}
