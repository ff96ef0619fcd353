//! How a statement's line came to be: its formula, its hours, their readings, and where the kernel said so.
//!
//! The hours are rated again, which also tells whether the statement is still what they give. Readings and
//! corrections are those of this host's journal; another host's are in its own.

use std::collections::BTreeMap;

use wharf_billing::amount::Amount;
use wharf_billing::price::Tier;
use wharf_billing::rating::RatedRow;
use wharf_billing::statement::{StatementBuilder, is_row_of};
use wharf_billing::window;
use wharf_shared::decimal::Decimal;
use wharf_shared::permission::Permission;
use wharf_shared::reading::ReadingRecord;
use wharf_shared::statement::{
    CorrectionEvidence, ExplainedRow, Explanation, LateEvidence, LineCategory, ReadingEvidence,
    StatementLine, StatementView,
};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::Meter;
use wharf_store::Scope;
use wharf_store::journal::Seek;
use wharf_store::late::{self, Late};
use wharf_store::pagination::PageRequest;
use wharf_store::usage::UsageQuery;

use super::rated::{RatedHour, RatedStream};
use super::{Billing, read_terms, too_long};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};
use crate::metering::Metering;

/// Rows on a page when the client does not say, and at most.
const LIMIT: (u32, u32) = (24, 100);
/// Readings that are shown of a row.
const READINGS: usize = 100;

impl Billing {
    /// Explains a line, a page of rows at a time.
    pub(crate) async fn explain(
        &self,
        ctx: &Ctx,
        metering: &Metering,
        id: &str,
        line: u32,
        page: &PageRequest,
    ) -> Result<Explanation> {
        ctx.require(Permission::TenantRead)?;
        let skip: usize = page.cursor.as_deref().map_or(Ok(0), str::parse).map_err(|error| {
            ServiceError::invalid_field("cursor", "the cursor is not one of this list").because(error)
        })?;
        let limit = usize::try_from(page.limit.unwrap_or(LIMIT.0).clamp(1, LIMIT.1)).unwrap_or(usize::MAX);
        let _turn = self.turn().await?;
        let mut tx = self.0.db.read().await?;
        let statement = self.find_statement(&mut tx, ctx, id).await?;
        let found = statement.lines.iter().find(|of| of.line == line);
        let line = found.ok_or_else(|| ServiceError::not_found("line", &line.to_string()))?.clone();

        let terms = read_terms(&mut tx).await?;
        let (from, to) = (statement.from, statement.to);
        let scope = Scope::Tenant(statement.tenant.clone());
        let query = UsageQuery { from, to, container: None };
        let mut stream = RatedStream::open(&mut tx, scope, query, &terms).await?;
        let (tenant, name) = (statement.tenant.clone(), statement.tenant_name.clone());
        let mut again = StatementBuilder::new(&terms.books, &terms.contracts, tenant, name, (from, to));
        let (mut seen, mut wanted) = (0_usize, Vec::new());
        let mut take = |rows: Vec<RatedRow>| {
            again.add(&rows);
            for row in rows.into_iter().filter(|row| is_row_of(&line, row, &terms.books)) {
                if seen >= skip && wanted.len() < limit {
                    wanted.push(row);
                }
                seen = seen.saturating_add(1);
            }
        };
        while let Some(RatedHour { rows, .. }) = stream.next(&mut tx).await? {
            take(rows);
        }
        take(stream.minimums(&statement.tenant));
        let hash = again.finish(String::new(), Vec::new()).map_err(too_long)?.view.evidence_hash;
        drop(stream);
        let late = late::list(&mut tx, &statement.tenant, (from, to)).await?;
        drop(tx);

        let next = skip.saturating_add(wanted.len());
        let mut rows = Vec::with_capacity(wanted.len());
        if !wanted.is_empty() {
            let mut seek = metering.seek().await?;
            for row in wanted {
                rows.extend(explained(&mut seek, &late, &row).await?);
            }
        }
        Ok(Explanation {
            formula: formula(&statement, &line),
            is_unchanged: hash == statement.evidence_hash,
            rows,
            next_cursor: (next < seen).then(|| next.to_string()),
            line,
        })
    }
}

/// A rated row with the readings of its hour, and what else made it what it is.
async fn explained(seek: &mut Seek, late: &[Late], row: &RatedRow) -> Result<Option<ExplainedRow>> {
    let Some(charge) = row.usage() else { return Ok(None) };
    let usage = &charge.usage;
    let (hour, container) = (usage.hour, usage.container.as_ref());
    // What is missing to a minimum was not metered.
    let is_metered = charge.tier != Tier::Minimum;
    let (mut readings, mut readings_total) = (Vec::new(), 0_u64);
    if is_metered {
        let end = Timestamp(hour.0.saturating_add(HOUR_US).saturating_add(window::EDGE_US));
        let mut failed = None;
        let take = |seq, reading: &ReadingRecord| match evidence(seq, reading, hour, usage.meter) {
            Ok(None) => {}
            Ok(Some(found)) => {
                readings_total = readings_total.saturating_add(1);
                if readings.len() < READINGS {
                    readings.push(found);
                }
            }
            Err(error) => failed = Some(error),
        };
        seek.readings(&usage.tenant, container, (hour, end), take).await?;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    let corrections = seek.corrections(&usage.tenant, container, hour, usage.meter).filter(|_| is_metered);
    let corrections = corrections.map(|(seq, correction)| {
        Ok(CorrectionEvidence {
            seq: *seq,
            refers_to: correction.refers_to,
            delta: difference(correction.delta.unsigned_abs(), correction.delta.is_negative())?,
            reason: correction.reason.clone(),
            author: correction.author.clone(),
        })
    });
    let of_row = |late: &&Late| {
        is_metered
            && (late.booked_hour, late.container.as_ref(), late.meter) == (hour, container, usage.meter)
    };
    let late = late.iter().filter(of_row).map(|late| {
        Ok(LateEvidence {
            hour: late.hour,
            statement: late.statement.clone(),
            delta: difference(late.quantity.max(late.taken), late.taken > 0)?,
            host: late.host.clone(),
            seqs: [late.seqs.0, late.seqs.1],
        })
    });
    Ok(Some(ExplainedRow {
        hour: usage.hour,
        container: usage.container.clone(),
        container_name: usage.container_name.clone(),
        meter: usage.meter,
        metered_quantity: integer(usage.quantity)?,
        metered_unit: usage.meter.unit().to_owned(),
        quantity: charge.quantity.to_decimal().map_err(too_long)?,
        amount: row.billed_cost().to_decimal().map_err(too_long)?,
        quality: usage.quality,
        readings,
        readings_total,
        corrections: corrections.collect::<Result<_>>()?,
        late: late.collect::<Result<_>>()?,
    }))
}

/// What a reading adds to this meter's hour, if anything is known of it.
fn evidence(
    seq: i64,
    reading: &ReadingRecord,
    hour: Timestamp,
    meter: Meter,
) -> Result<Option<ReadingEvidence>> {
    let part = window::parts(reading).into_iter().find(|part| part.hour == hour && part.meter == meter);
    let Some(part) = part else { return Ok(None) };
    let counted = reading.meter(meter);
    let cum = counted.map(|counted| integer(counted.cum)).transpose()?;
    Ok(Some(ReadingEvidence {
        seq,
        kind: reading.kind.as_str().to_owned(),
        t0: reading.t0_utc,
        t1: reading.t1_utc,
        boot_ns: [reading.t0_boot_ns, reading.t1_boot_ns],
        cum,
        delta: integer(part.quantity)?,
        raw: counted.and_then(|counted| counted.raw),
        origin: origin(meter, reading),
        source: reading.source.clone().into_iter().collect::<BTreeMap<_, _>>(),
    }))
}

/// Where a meter's value is read, or how it follows from the limits.
fn origin(meter: Meter, reading: &ReadingRecord) -> String {
    let duration_ns = reading.duration_ns();
    match meter {
        Meter::CpuUsed => "cgroup v2 cpu.stat usage_usec x 1000 (v1: cpuacct.usage), nanoseconds".to_owned(),
        Meter::CpuReserved => {
            let limit = reading.limits.cpu_millis.unwrap_or(0);
            format!("limit of {limit} thousandths of a CPU x {duration_ns} ns by CLOCK_BOOTTIME")
        }
        Meter::MemoryUsed => format!(
            "cgroup v2 memory.current (v1: memory.usage_in_bytes) at the begin x {duration_ns} ns by CLOCK_BOOTTIME"
        ),
        Meter::MemoryReserved => {
            let limit = reading.limits.memory_bytes.unwrap_or(0);
            format!("limit of {limit} bytes x {duration_ns} ns by CLOCK_BOOTTIME")
        }
        Meter::ContainerTime => format!("one container x {duration_ns} ns by CLOCK_BOOTTIME"),
        Meter::Starts => "one reading of kind open for each start".to_owned(),
        Meter::BlockRead => "cgroup v2 io.stat rbytes, all devices".to_owned(),
        Meter::BlockWrite => "cgroup v2 io.stat wbytes, all devices".to_owned(),
        _ => format!("the kernel's counter of {} of this container's network", meter.as_str()),
    }
}

fn formula(statement: &StatementView, line: &StatementLine) -> String {
    let currency = &statement.currency;
    let numbers = (&line.quantity, &line.unit, &line.unit_price, &line.list_unit_price);
    let (Some(quantity), Some(unit), Some(price), Some(list)) = numbers else {
        return format!("{} = {} {currency}, rounded {}", line.description, line.exact_amount, line.amount);
    };
    debug_assert_eq!(line.category, LineCategory::Usage, "only usage has a quantity");
    let by_book = if price == list { String::new() } else { format!(" (by the price book {list})") };
    format!(
        "{quantity} {unit} x {price} {currency}{by_book} = {} {currency}, rounded {}",
        line.exact_amount, line.amount
    )
}

fn difference(number: u128, is_negative: bool) -> Result<Decimal> {
    let amount = Amount::from_units(number, 0);
    let signed = if is_negative { Amount::zero().minus(&amount) } else { amount };
    signed.to_decimal().map_err(too_long)
}

fn integer(number: u128) -> Result<Decimal> {
    Amount::from_units(number, 0).to_decimal().map_err(too_long)
}
