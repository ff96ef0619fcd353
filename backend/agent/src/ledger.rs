//! The ledger from outside: where it stands, all of it as a file, and corrections.
//!
//! Records are never changed: an export that is written while others are appended ends where the ledger
//! ended when it began, and holds a few records in memory at a time. A correction is a record more; it is in
//! the ledger before anybody is told of it.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream::{Stream, try_unfold};
use wharf_billing::ledger::correction::Correction;
use wharf_billing::ledger::lines::Writer;
use wharf_billing::ledger::verify::Entry;
use wharf_billing::rating::period;
use wharf_billing::window::{self, booked_hour};
use wharf_shared::decimal::Decimal;
use wharf_shared::id::HostId;
use wharf_shared::ledger::{CorrectionSpec, CorrectionView, LedgerView};
use wharf_shared::metering::{HostReportView, MeteringView, RetireSpec};
use wharf_shared::permission::Permission;
use wharf_shared::reading::ReadingRecord;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, UsageHour};
use wharf_store::hosts::{self, HostReport};
use wharf_store::journal::Journal;
use wharf_store::usage::{self, UsageCursor, UsageQuery, UsageStream};
use wharf_store::{Db, Scope, statements};

use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};
use crate::events::{Change, EventBus};
use crate::metering::Metering;

/// Records that an export has in memory at a time.
const BATCH: u32 = 500;
/// Most that a corrected hour may hold, in the meter's smallest unit: a million times what a host can use.
const HOUR_MAX: u128 = 10_u128.pow(30);
/// Faults that are shown one by one.
const FAULTS: u32 = 50;
/// Characters of a reason.
const REASON_MAX: usize = 500;

/// The service.
#[derive(Clone)]
pub(crate) struct Ledger {
    metering: Metering,
    db: Db,
    events: EventBus,
}

impl Ledger {
    pub(crate) const fn new(metering: Metering, db: Db, events: EventBus) -> Self {
        Self { metering, db, events }
    }

    /// Where it stands.
    pub(crate) async fn view(&self, ctx: &Ctx) -> Result<LedgerView> {
        ctx.require(Permission::HostRead)?;
        self.metering.ledger().await
    }

    /// How metering stands: what is on its way into the hours, and what the journal says is missing.
    pub(crate) async fn metering(&self, ctx: &Ctx) -> Result<MeteringView> {
        ctx.require(Permission::HostRead)?;
        // Looked at before the journal: what comes into it meanwhile looks like a lag and never hides one.
        let rolled_up = usage::rolled_up(&mut self.db.one().await?, self.metering.host()).await?;
        self.metering.view(rolled_up, FAULTS).await
    }

    /// How far every host of this store has reported.
    pub(crate) async fn hosts(&self, ctx: &Ctx) -> Result<Vec<HostReportView>> {
        ctx.require(Permission::HostRead)?;
        let hosts = hosts::list(&mut self.db.one().await?).await?;
        Ok(hosts.into_iter().map(host_view).collect())
    }

    /// Says that a host will never report again, so that statements do not wait for it.
    pub(crate) async fn retire_host(
        &self,
        ctx: &Ctx,
        host: &HostId,
        spec: RetireSpec,
        now: Timestamp,
    ) -> Result<HostReportView> {
        ctx.require(Permission::PriceManage)?;
        let reason = one_line(&spec.reason)?;
        if host == self.metering.host() {
            return Err(ServiceError::conflict("this agent meters on that host; it reports itself"));
        }
        let mut tx = self.db.begin().await?;
        let known = hosts::list(&mut tx).await?.into_iter().any(|of| of.host == *host);
        let Some(retired) = hosts::retire(&mut tx, host, now, reason).await? else {
            return Err(if known {
                ServiceError::conflict("the host is retired already")
            } else {
                ServiceError::not_found("host", host.as_str())
            });
        };
        let last = retired.reported_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
        let detail = [("reported_at", last), ("reason", reason.to_owned())];
        let change = Change {
            kind: "host.retired",
            subject: host.to_string(),
            subject_name: host.to_string(),
            detail: detail.map(|(name, value)| (name.to_owned(), value)).into(),
            ..Change::default()
        };
        self.events.changed(&mut tx, ctx, "host.retire", change).await?;
        tx.commit().await?;
        self.events.publish();
        Ok(host_view(retired))
    }

    /// All of it as lines, until where it is now.
    pub(crate) async fn export(&self, ctx: &Ctx) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        ctx.require(Permission::HostRead)?;
        let metering = self.metering.clone();
        let end = metering.ledger_head().await?;
        let begun = Writer::begin(metering.host(), Some(metering.public_key())).map_err(unwritable)?;
        Ok(try_unfold((Some(begun), 0), move |(state, after)| {
            let metering = metering.clone();
            async move {
                let Some((mut writer, mut text)) = state else { return Ok(None) };
                let entries = metering.ledger_entries(after, BATCH).await?;
                let mut last = after;
                for entry in entries.into_iter().filter(|entry| entry.seq <= end) {
                    last = entry.seq;
                    text.push_str(&writer.record(entry).map_err(unwritable)?);
                }
                if last < end && last > after {
                    return Ok(Some((Bytes::from(text), (Some((writer, String::new())), last))));
                }
                text.push_str(&writer.end().map_err(unwritable)?);
                Ok(Some((Bytes::from(text), (None, last))))
            }
        }))
    }

    /// Puts right what a reading counted.
    pub(crate) async fn correct(&self, ctx: &Ctx, spec: CorrectionSpec) -> Result<CorrectionView> {
        ctx.require(Permission::LedgerCorrect)?;
        let delta = whole_number(&spec.delta)?;
        let reason = one_line(&spec.reason)?;
        let seq = spec.refers_to;
        let found = self.metering.ledger_record(seq).await?;
        let reading = found.ok_or_else(|| ServiceError::not_found("reading", &seq.to_string()))?;
        let Some(tenant) = reading.series.tenant.clone().filter(|_| counts(&reading, spec.meter)) else {
            let why = format!("reading {seq} counts no {}", spec.meter.as_str());
            return Err(ServiceError::invalid_field("meter", why));
        };
        let container = reading.series.container.clone();
        let mut row = UsageCursor { hour: booked_hour(&reading), tenant, container, meter: spec.meter };
        self.metering.roll_up_now(&self.db).await?;
        row.hour = self.open_hour(&row, delta).await?;
        let correction = Correction {
            refers_to: seq,
            tenant: row.tenant.clone(),
            container: row.container.clone(),
            hour: row.hour,
            meter: row.meter,
            delta,
            reason: reason.to_owned(),
            author: ctx.actor.clone(),
        };
        let seq = self
            .metering
            .correct(&correction, async || {
                self.metering.roll_up_now(&self.db).await?;
                let mut tx = self.db.one().await?;
                if statements::number_of_period(&mut tx, &row.tenant, period(row.hour).0).await?.is_some() {
                    return Err(ServiceError::conflict(
                        "a statement of that hour was issued just now; try again",
                    ));
                }
                drop(tx);
                let has = self.quantity(&row).await?;
                if delta.is_negative() && delta.unsigned_abs() > has {
                    let why = format!("the hour has only {has}; it cannot go below 0");
                    return Err(ServiceError::invalid_field("delta", why));
                }
                // An hour that cannot take another reading would stop everybody's roll-up.
                match has.checked_add_signed(delta) {
                    Some(sum) if sum <= HOUR_MAX => Ok(()),
                    _ => Err(ServiceError::invalid_field("delta", "the hour would have more than 10^30")),
                }
            })
            .await?;
        self.metering.roll_up_now(&self.db).await?;
        let quantity = decimal(&self.quantity(&row).await?.to_string())?;
        self.tell(ctx, seq, &correction).await?;
        let Correction { refers_to, tenant, container, hour, meter, reason, author, .. } = correction;
        let delta = decimal(&delta.to_string())?;
        Ok(CorrectionView { seq, refers_to, tenant, container, hour, meter, delta, quantity, reason, author })
    }

    /// The hour that a correction is booked to: its reading's, as long as no statement of it was issued. Then it
    /// is one of the next period without a statement: the first, or to take away the first with as much.
    async fn open_hour(&self, row: &UsageCursor, delta: i128) -> Result<Timestamp> {
        let mut tx = self.db.read().await?;
        let (mut from, mut to) = period(row.hour);
        let Some(number) = statements::number_of_period(&mut tx, &row.tenant, from).await? else {
            return Ok(row.hour);
        };
        while statements::number_of_period(&mut tx, &row.tenant, from).await?.is_some() {
            (from, to) = period(to);
        }
        if delta > 0 {
            return Ok(from);
        }
        let query = UsageQuery { from, to, container: row.container.clone() };
        let mut hours = UsageStream::new(Scope::Tenant(row.tenant.clone()), query);
        loop {
            let hour = hours.next(&mut tx).await?;
            if hour.is_empty() {
                return Err(ServiceError::conflict(format!(
                    "the hour was billed with the statement {number}, and no hour of the next open period has as \
                     much to take away from; void {number}, and the correction falls into its own hour"
                )));
            }
            let has_enough = |of: &&UsageHour| {
                (&of.container, of.meter) == (&row.container, row.meter)
                    && of.quantity >= delta.unsigned_abs()
            };
            if let Some(found) = hour.iter().find(has_enough) {
                return Ok(found.hour);
            }
        }
    }

    async fn quantity(&self, row: &UsageCursor) -> Result<u128> {
        let found = usage::find(&mut self.db.one().await?, row).await?;
        Ok(found.map_or(0, |row| row.quantity))
    }

    async fn tell(&self, ctx: &Ctx, seq: u64, correction: &Correction) -> Result<()> {
        let detail = [
            ("refers_to", correction.refers_to.to_string()),
            ("hour", correction.hour.to_string()),
            ("meter", correction.meter.as_str().to_owned()),
            ("delta", correction.delta.to_string()),
            ("reason", correction.reason.clone()),
        ];
        let change = Change {
            kind: "ledger.corrected",
            tenant: Some(correction.tenant.clone()),
            subject: seq.to_string(),
            subject_name: format!("record {seq}"),
            detail: detail.map(|(name, value)| (name.to_owned(), value)).into(),
        };
        let mut tx = self.db.begin().await?;
        self.events.changed(&mut tx, ctx, "ledger.correct", change).await?;
        tx.commit().await?;
        self.events.publish();
        Ok(())
    }
}

fn host_view(report: HostReport) -> HostReportView {
    let HostReport { host, reported_at, retired_at, reason } = report;
    HostReportView { host, reported_at, retired_at, reason: retired_at.map(|_| reason) }
}

fn one_line(reason: &str) -> Result<&str> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_MAX || reason.chars().any(char::is_control) {
        let form = format!("say why in one line of at most {REASON_MAX} characters");
        return Err(ServiceError::invalid_field("reason", form));
    }
    Ok(reason)
}

/// Whether an hour has this meter because of this reading.
fn counts(reading: &ReadingRecord, meter: Meter) -> bool {
    window::parts(reading).iter().any(|part| part.meter == meter)
}

fn whole_number(delta: &Decimal) -> Result<i128> {
    match delta.as_str().parse::<i128>() {
        Ok(0) => Err(ServiceError::invalid_field("delta", "a correction by 0 changes nothing")),
        Ok(delta) => Ok(delta),
        Err(error) => {
            let form = "give a whole number in the meter's unit, of at most 38 digits";
            Err(ServiceError::invalid_field("delta", form).because(error))
        }
    }
}

fn decimal(text: &str) -> Result<Decimal> {
    text.parse().map_err(|error: wharf_shared::decimal::InvalidDecimal| {
        ServiceError::internal("a quantity cannot be written", error)
    })
}

fn unwritable(error: serde_json::Error) -> ServiceError {
    ServiceError::internal("a line of the ledger could not be written", error)
}

/// Writes a copy of a journal as lines: `wharfd ledger export`, for who has the file and no agent.
pub(crate) async fn export_copy(path: &Path) -> anyhow::Result<()> {
    let what = || format!("read the journal {}", path.display());
    let journal = Journal::open_copy(path).await.with_context(what)?;
    let (mut writer, head) = Writer::begin(journal.host(), journal.public_key())?;
    let mut out = std::io::stdout().lock();
    out.write_all(head.as_bytes())?;
    let mut after = 0;
    loop {
        let entries: Vec<Entry> = journal.entries_from(after, BATCH).await.with_context(what)?;
        let Some(last) = entries.last() else { break };
        after = last.seq;
        for entry in entries {
            out.write_all(writer.record(entry)?.as_bytes())?;
        }
    }
    out.write_all(writer.end()?.as_bytes())?;
    out.flush().context("write the ledger")
}
